/*
 * ring.h: the newest bytes of an output stream, in a shared mapping of a file on tmpfs that outlives the
 * server. One owner, any one thread. docs/internals/ring.md is the prose.
 *
 * read(2) goes straight into the mapping. Before it, the target is filled with 0xFF and its end is noted in
 * the header; after it, the new end is committed. Whoever opens the file after a kill -9 between the two
 * finds the last byte that is not 0xFF in the noted area and takes over what the read delivered: no byte is
 * lost or doubled. (0xFF never occurs in UTF-8. Binary output that ends in 0xFF exactly where a killed read
 * ended is cut by those 0xFF.)
 *
 * Offsets count bytes since the ring was made and never wrap. The mapping is mirrored, so that every view is
 * in one piece. Memory is allocated as the ring first fills; when tmpfs is full, the ring stays as small as
 * it is (at least RP_RING_MIN) and goes on.
 */
#ifndef RP_RUNNER_RING_H
#define RP_RUNNER_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

struct rp_ring;

enum {
    RP_RING_MIN = 128 * 1024,
    RP_RING_MAX = 64 * 1024 * 1024,
    RP_RING_READ_MAX = 32 * 1024, /* most that one read may ask for; twice that much is not readable */
    RP_RING_META_MAX = 2048,
};

/* Makes directory/name (EEXIST is an error). size is rounded up to RP_RING_READ_MAX and kept within the
 * limits. meta is the caller's own text, returned by rp_ring_meta for as long as the file is there. */
int rp_ring_create(const char *directory, const char *name, uint64_t size, struct rp_str meta,
                   struct rp_ring **ret, struct rp_error *err) RP_MUST_CHECK;
/* Opens and recovers. RP_ERROR_NOT_FOUND; RP_ERROR_PROTOCOL when the file is not a whole ring. */
int rp_ring_open(const char *directory, const char *name, struct rp_ring **ret,
                 struct rp_error *err) RP_MUST_CHECK;
void rp_ring_close(struct rp_ring *r);  /* the file stays; NULL-safe */
void rp_ring_remove(struct rp_ring *r); /* and the file goes; NULL-safe */

uint64_t rp_ring_end(const struct rp_ring *r);   /* offset after the newest byte */
uint64_t rp_ring_start(const struct rp_ring *r); /* offset of the oldest byte that is kept */
/* Bytes from offset on, at most max; offset must be within start and end. Valid until the next read or write.
 */
struct rp_str rp_ring_view(const struct rp_ring *r, uint64_t offset, size_t max);

/*
 * Reads from fd (which must be non-blocking) into the ring and commits. nowait: with RWF_NOWAIT (pipes),
 * which holds even when somebody cleared O_NONBLOCK. Returns the bytes read; 0 at the end; a negative errno.
 */
ssize_t rp_ring_read(struct rp_ring *r, int fd, size_t max, bool nowait);
/* Appends bytes of the server's own. */
int rp_ring_write(struct rp_ring *r, struct rp_str bytes);

struct rp_str rp_ring_meta(const struct rp_ring *r);
/* Small facts that survive with it. */
void rp_ring_set_size(struct rp_ring *r, uint16_t cols, uint16_t rows);
void rp_ring_size(const struct rp_ring *r, uint16_t *ret_cols, uint16_t *ret_rows);
void rp_ring_set_mark(struct rp_ring *r,
                      uint64_t offset); /* the caller's own offset, e.g. where a run began */
uint64_t rp_ring_mark(const struct rp_ring *r);
/* 64 bytes of the caller's own, 0 at first; written as a whole with a sequence so that a crash leaves old or
 * new. */
void rp_ring_set_note(struct rp_ring *r, const void *note, size_t n);
size_t rp_ring_note(const struct rp_ring *r, void *ret, size_t cap);

#endif
