/*
 * buf.h: a growing buffer with a mandatory cap.
 *
 * Bytes are appended at the end and consumed at the front. Growth past the cap fails and changes nothing;
 * memory exhaustion below the cap aborts. One owner, one thread.
 */
#ifndef RP_BASE_BUF_H
#define RP_BASE_BUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct rp_buf {
    char *data;    /* NULL until the first append */
    size_t start;  /* consumed bytes before the content */
    size_t length; /* content, in bytes */
    size_t allocated;
    size_t cap; /* length never passes it */
};

void rp_buf_init(struct rp_buf *b, size_t cap);

/* Frees the memory and leaves an empty buffer with the same cap. NULL-safe. */
void rp_buf_done(struct rp_buf *b);

bool rp_buf_append(struct rp_buf *b, const void *p, size_t n) RP_MUST_CHECK;
bool rp_buf_append_str(struct rp_buf *b, struct rp_str s) RP_MUST_CHECK;
bool rp_buf_printf(struct rp_buf *b, const char *format, ...) RP_PRINTF(2, 3) RP_MUST_CHECK;

/* Room for n more bytes at the end, to be filled and then committed; NULL past the cap. */
char *rp_buf_reserve(struct rp_buf *b, size_t n) RP_MUST_CHECK;
void rp_buf_commit(struct rp_buf *b, size_t n);

/* Drops n bytes (at most the length) from the front. An emptied buffer larger than 64 KiB is freed. */
void rp_buf_consume(struct rp_buf *b, size_t n);

static inline struct rp_str rp_buf_view(const struct rp_buf *b)
{
    return (struct rp_str){b->data ? b->data + b->start : "", b->length};
}

#endif
