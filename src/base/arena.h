/*
 * arena.h: many small allocations that are freed together. Any thread, one owner.
 *
 * For data that is read once and then constant (stacks). Aborts when memory is exhausted; the caller has
 * limited the sizes.
 */
#ifndef RP_BASE_ARENA_H
#define RP_BASE_ARENA_H

#include "base/str.h"

struct rp_arena {
    void **blocks;
    size_t count, allocated;
};

/* Zeroed; aligned for any type. */
void *rp_arena_alloc(struct rp_arena *a, size_t size);
/* NUL-terminated copy. */
char *rp_arena_str(struct rp_arena *a, struct rp_str s);
char *rp_arena_printf(struct rp_arena *a, const char *format, ...) RP_PRINTF(2, 3);
/* Frees everything; the arena can be used again. */
void rp_arena_done(struct rp_arena *a);

#endif
