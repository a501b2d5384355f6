/*
 * stream.h: a non-blocking byte stream over a socket or PTY with bounded buffers both ways. Loop thread only.
 *
 * Reading uses one scratch buffer of the loop, so an idle stream holds no memory. What the consumer does not
 * take is kept up to input_cap; when that is full, reading pauses until the consumer takes some. Writing
 * tries the socket at once; what does not fit is queued up to output_cap. Each stream reads at most 256 KiB a
 * turn, so that one cannot starve the others.
 */
#ifndef RP_NET_STREAM_H
#define RP_NET_STREAM_H

#include "base/buf.h"
#include "net/loop.h"

struct rp_stream;

struct rp_stream_callbacks {
    /* Bytes that arrived, together with those not taken before. Returns how many were taken. */
    size_t (*on_bytes)(void *ctx, struct rp_str bytes);
    /* The peer ended its direction (after on_bytes saw everything). Writing may go on. */
    void (*on_end)(void *ctx);
    /* The output queue fell to half its cap or below after rp_stream_write had said that it is full. */
    void (*on_drain)(void *ctx);
    /* The stream is broken (errno). Nothing is called after it; the owner frees the stream. */
    void (*on_error)(void *ctx, int errnum);
};

/* Takes ownership of fd. Sockets are used with MSG_DONTWAIT and pipes with RWF_NOWAIT, since whoever shares
 * the open file description could make it blocking. NULL, with fd closed, when it cannot be watched. */
struct rp_stream *rp_stream_new(struct rp_loop *loop, int fd, size_t input_cap, size_t output_cap,
                                const struct rp_stream_callbacks *callbacks, void *ctx);
/* Closes the descriptor; queued output is lost. Also from inside a callback. NULL-safe. */
void rp_stream_free(struct rp_stream *s);
/* Frees the stream without closing: returns the descriptor; *ret_rest gets the bytes read and not taken (from
 * inside on_bytes: its whole view). Queued output is lost: see rp_stream_queued. */
int rp_stream_release(struct rp_stream *s, struct rp_buf *ret_rest);

/* Kept bytes go to the new on_bytes: at once after the old one returns, else from the loop. */
void rp_stream_set_callbacks(struct rp_stream *s, const struct rp_stream_callbacks *callbacks, void *ctx);

enum rp_write { RP_WRITE_OK = 0, RP_WRITE_FULL = 1, RP_WRITE_FAILED = -1 };
/*
 * Writes all of the pieces or none of what exceeds the queue's cap: RP_WRITE_OK; RP_WRITE_FULL when the bytes
 * were accepted but the queue is now over half of its cap (wait for on_drain before writing more);
 * RP_WRITE_FAILED when the stream is broken or the cap would be passed (on_error follows from the loop).
 */
enum rp_write rp_stream_write(struct rp_stream *s, const struct rp_str *pieces, size_t count);
size_t rp_stream_queued(const struct rp_stream *s);
/* After the queue is flushed: shutdown(SHUT_WR). */
void rp_stream_end(struct rp_stream *s);
/* Stops and resumes reading (flow control). Resume gives kept bytes to on_bytes again, from the loop; so does
 * on_end wait while paused. Calling resume on a stream that is not paused does that as well. */
void rp_stream_pause(struct rp_stream *s);
void rp_stream_resume(struct rp_stream *s);
int rp_stream_fd(const struct rp_stream *s);
/* The caps may change at any time; what is kept or queued above a lower one stays. */
void rp_stream_set_caps(struct rp_stream *s, size_t input_cap, size_t output_cap);
/* Bytes that were read and not taken; the view lives until the stream reads again. */
struct rp_str rp_stream_input(const struct rp_stream *s);
size_t rp_stream_output_cap(const struct rp_stream *s);
/* Bytes that moved in both directions so far: what time-outs look at. */
uint64_t rp_stream_progress(const struct rp_stream *s);
/* Called once, when the stream is freed or released by anyone: for whoever counts connections. */
void rp_stream_on_free(struct rp_stream *s, void (*fn)(void *ctx), void *ctx);

#endif
