/*
 * loop_internal.h: what net/ shares of the loop and nobody else uses. Loop thread only.
 */
#ifndef RP_NET_LOOP_INTERNAL_H
#define RP_NET_LOOP_INTERNAL_H

#include <stddef.h>

#include "net/loop.h"

/* One read buffer for all streams of the loop: its content is valid until the next read of any stream. */
enum { RP_LOOP_SCRATCH = 64 * 1024 };
char *rp_loop_scratch(struct rp_loop *loop);

/* Something of which a loop has at most one, such as the timer that all WebSockets share: NULL until set. It
 * is released with the loop. */
enum rp_loop_slot { RP_LOOP_SLOT_WEBSOCKET, RP_LOOP_SLOT_COUNT };
void *rp_loop_slot_get(struct rp_loop *loop, enum rp_loop_slot slot);
void rp_loop_slot_set(struct rp_loop *loop, enum rp_loop_slot slot, void *value,
                      void (*release)(void *value));

uv_loop_t *rp_loop_uv(struct rp_loop *loop);

#endif
