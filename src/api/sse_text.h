/*
 * sse_text.h: a stream of bytes as server-sent events (HTML Living Standard, 9.2) whose data is the text.
 * Pure.
 *
 * Each event's id is the offset behind its last byte. A character that is cut by the end of a piece is
 * carried over to the next event, so that an id never stands in the middle of one.
 */
#ifndef RP_API_SSE_TEXT_H
#define RP_API_SSE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum {
    RP_SSE_PIECE_MAX = 64 * 1024,
    RP_SSE_TEXT_MAX = 7 * (RP_SSE_PIECE_MAX + 4) + 256, /* every byte its own "data: " line */
};

struct rp_sse_text {
    char carry[4];
    unsigned carried; /* bytes in carry: the beginning of a character */
    bool after_cr;    /* the last byte was a carriage return: a line feed after it belongs to it */
};

/* Appends the event for bytes at offset (at most RP_SSE_PIECE_MAX) to out, or nothing when there is no whole
 * character. False when out is full. */
bool rp_sse_text_event(struct rp_sse_text *s, uint64_t offset, struct rp_str bytes, struct rp_buf *out);

#endif
