/*
 * output.h: a ring and those who read it: the pace of a source, and the position of every reader. Loop thread
 * only.
 *
 * A reader that sets the pace (a writing viewer of a terminal) is never left behind by the source while it is
 * the fastest of them: the source is read only while one of them can take more. Every other reader gets a gap
 * when the ring has gone on without it. With no reader that sets the pace, the source is always read. A
 * reader that acknowledges has a window of RP_OUTPUT_WINDOW bytes; one that never does is paced by its
 * connection alone.
 *
 * Readers get bytes from rp_output_advanced, in the same turn as they were read, or from the loop.
 */
#ifndef RP_RUNNER_OUTPUT_H
#define RP_RUNNER_OUTPUT_H

#include "net/stream.h"
#include "runner/ring.h"

enum {
    RP_OUTPUT_WINDOW = 256 * 1024,
    RP_OUTPUT_CHUNK = 64 * 1024,  /* at most in one on_output */
    RP_OUTPUT_RESYNC = 64 * 1024, /* a reader that fell behind goes on this far from the end */
};

struct rp_output;
struct rp_reader;

struct rp_reader_callbacks {
    /* Bytes from offset on. The view lives during the call. RP_WRITE_FULL: nothing more until
     * rp_reader_drained; RP_WRITE_FAILED: nothing more at all. */
    enum rp_write (*on_output)(void *ctx, uint64_t offset, struct rp_str bytes);
    /* What lies between the reader's position and offset is gone; offset is where the next byte comes from.
     */
    void (*on_gap)(void *ctx, uint64_t offset);
    /* The output is freed, and the reader with it. Last callback. May be NULL. */
    void (*on_gone)(void *ctx);
};

/* Takes ownership of the ring. */
struct rp_output *rp_output_new(struct rp_loop *loop, struct rp_ring *ring);
/* Its readers are told and freed. With `remove` the ring's file goes too. Not from inside a reader's
 * callback. NULL-safe. */
void rp_output_free(struct rp_output *o, bool remove);
struct rp_ring *rp_output_ring(struct rp_output *o);

/* New bytes were committed to the ring: gives them to whoever can take them. */
void rp_output_advanced(struct rp_output *o);
/* Whether the source may be read now; on_room(ctx) is called when that may have turned from no to yes. */
bool rp_output_room(const struct rp_output *o);
void rp_output_on_room(struct rp_output *o, void (*on_room)(void *ctx), void *ctx);

enum { RP_READER_PACES = 1 };
/* since: UINT64_MAX is the oldest byte that is kept. What is in the ring already comes from the loop. */
struct rp_reader *rp_reader_new(struct rp_output *o, unsigned flags, uint64_t since,
                                const struct rp_reader_callbacks *callbacks, void *ctx);
void rp_reader_free(struct rp_reader *r); /* NULL-safe; also from inside its callbacks */
void rp_reader_drained(struct rp_reader *r);
/* An offset beyond what was sent, or behind an earlier one, is ignored. */
void rp_reader_ack(struct rp_reader *r, uint64_t offset);
/* Where the next byte comes from. */
uint64_t rp_reader_offset(const struct rp_reader *r);

#endif
