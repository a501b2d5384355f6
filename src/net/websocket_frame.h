/*
 * websocket_frame.h: frames of RFC 6455 section 5, as a server sees them. Pure: no allocation. Any thread.
 */
#ifndef RP_NET_WEBSOCKET_FRAME_H
#define RP_NET_WEBSOCKET_FRAME_H

#include <sys/types.h>

#include "base/str.h"

enum {
    RP_WS_CONTINUATION = 0,
    RP_WS_TEXT = 1,
    RP_WS_BINARY = 2,
    RP_WS_CLOSE = 8,
    RP_WS_PING = 9,
    RP_WS_PONG = 10
};
enum { RP_WS_CONTROL_MAX = 125, RP_WS_HEADER_MAX = 14 };

struct rp_ws_frame {
    bool fin;
    unsigned char opcode;
    unsigned char mask[4];
    uint64_t length;
};

/* Length of a client's frame header at the start of bytes; 0 when more are needed; -1 when it breaks the
 * protocol (close with 1002), which is said as soon as the bytes that show it are there. */
ssize_t rp_ws_parse_header(struct rp_str bytes, struct rp_ws_frame *ret);

/* A server's header (unmasked); returns its length, at most 10. */
size_t rp_ws_write_header(unsigned char ret[static 10], unsigned char opcode, uint64_t length);

/* Applies the mask to bytes that begin `offset` into the frame's payload. */
void rp_ws_mask(char *p, size_t n, const unsigned char mask[static 4], uint64_t offset);

/* True for a code that may stand in a close frame (section 7.4 and the registry). */
bool rp_ws_close_code_valid(unsigned code);

/* UTF-8 (RFC 3629) over pieces: all zero at the start. */
struct rp_utf8 {
    unsigned char need;      /* continuation bytes that are still to come */
    unsigned char low, high; /* bounds of the next one */
};
/* False at the first byte that cannot be right. */
bool rp_utf8_feed(struct rp_utf8 *u, struct rp_str bytes);
static inline bool rp_utf8_whole(const struct rp_utf8 *u)
{
    return u->need == 0;
}

#endif
