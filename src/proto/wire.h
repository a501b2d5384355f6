/*
 * wire.h: the integer and string coding that both private protocols share.
 *
 * Little-endian fixed-width integers; a byte string is a u32 length and its bytes. Reader and writer keep a
 * sticky failure flag, so that a message is coded straight through and checked once. No allocation; views
 * returned by the reader point into the message. Any thread, one owner.
 */
#ifndef RP_PROTO_WIRE_H
#define RP_PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/str.h"

enum {
    RP_WIRE_MESSAGE_MAX = 65536, /* a whole message, header included */
    RP_WIRE_HEADER_SIZE = 8,
};

/* Starts every message of both protocols. */
struct rp_wire_header {
    uint16_t type;
    uint16_t flags; /* 0 unless a message says otherwise; unknown bits are refused */
    uint32_t tag;   /* a request's tag comes back in its answers; 0 for events */
};

struct rp_wire_writer {
    uint8_t *data;
    size_t length, cap;
    bool overflow;
};

struct rp_wire_reader {
    const uint8_t *data;
    size_t length, at;
    bool bad;
};

static inline void rp_wire_put(struct rp_wire_writer *w, const void *p, size_t n)
{
    if (w->overflow || n > w->cap - w->length) {
        w->overflow = true;
        return;
    }
    if (n)
        memcpy(w->data + w->length, p, n);
    w->length += n;
}

static inline void rp_wire_put_u8(struct rp_wire_writer *w, uint8_t v)
{
    rp_wire_put(w, &v, 1);
}

static inline void rp_wire_put_u16(struct rp_wire_writer *w, uint16_t v)
{
    uint8_t b[2] = {(uint8_t)v, (uint8_t)(v >> 8)};
    rp_wire_put(w, b, sizeof(b));
}

static inline void rp_wire_put_u32(struct rp_wire_writer *w, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    rp_wire_put(w, b, sizeof(b));
}

static inline void rp_wire_put_u64(struct rp_wire_writer *w, uint64_t v)
{
    rp_wire_put_u32(w, (uint32_t)v);
    rp_wire_put_u32(w, (uint32_t)(v >> 32));
}

static inline void rp_wire_put_str(struct rp_wire_writer *w, struct rp_str s)
{
    rp_wire_put_u32(w, (uint32_t)s.n);
    rp_wire_put(w, s.p, s.n);
}

static inline const uint8_t *rp_wire_take(struct rp_wire_reader *r, size_t n)
{
    if (r->bad || n > r->length - r->at) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->data + r->at;
    r->at += n;
    return p;
}

static inline uint8_t rp_wire_get_u8(struct rp_wire_reader *r)
{
    const uint8_t *b = rp_wire_take(r, 1);
    return b ? b[0] : 0;
}

static inline uint16_t rp_wire_get_u16(struct rp_wire_reader *r)
{
    const uint8_t *b = rp_wire_take(r, 2);
    return b ? (uint16_t)(b[0] | b[1] << 8) : 0;
}

static inline uint32_t rp_wire_get_u32(struct rp_wire_reader *r)
{
    const uint8_t *b = rp_wire_take(r, 4);
    return b ? (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24 : 0;
}

static inline uint64_t rp_wire_get_u64(struct rp_wire_reader *r)
{
    uint64_t low = rp_wire_get_u32(r);
    return low | (uint64_t)rp_wire_get_u32(r) << 32;
}

/* A string longer than max bytes is a failure. */
static inline struct rp_str rp_wire_get_str(struct rp_wire_reader *r, size_t max)
{
    uint32_t n = rp_wire_get_u32(r);
    if (n > max)
        r->bad = true;
    const uint8_t *b = rp_wire_take(r, r->bad ? 0 : n);
    return b && !r->bad ? (struct rp_str){(const char *)b, n} : (struct rp_str){"", 0};
}

/* True when all of the message was read and nothing was missing. */
static inline bool rp_wire_finished(const struct rp_wire_reader *r)
{
    return !r->bad && r->at == r->length;
}

/* Opens a message in `data` (cap at least RP_WIRE_HEADER_SIZE) by writing its header. */
static inline struct rp_wire_writer rp_wire_begin(uint8_t *data, size_t cap, uint16_t type, uint16_t flags,
                                                  uint32_t tag)
{
    struct rp_wire_writer w = {.data = data, .cap = cap};
    rp_wire_put_u16(&w, type);
    rp_wire_put_u16(&w, flags);
    rp_wire_put_u32(&w, tag);
    return w;
}

static inline struct rp_wire_header rp_wire_get_header(struct rp_wire_reader *r)
{
    struct rp_wire_header h;
    h.type = rp_wire_get_u16(r);
    h.flags = rp_wire_get_u16(r);
    h.tag = rp_wire_get_u32(r);
    return h;
}

#endif
