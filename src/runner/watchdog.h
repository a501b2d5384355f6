/*
 * watchdog.h: gets the loop back from a descriptor that blocks it.
 *
 * Descriptors that a sandbox shares with us are non-blocking, but whoever holds the same open file
 * description can clear O_NONBLOCK between our poll and our read. The loop says when it enters such a call
 * and when it has left it; a thread that sees the same call for RP_WATCHDOG_MS interrupts it with SIGUSR2
 * (which gets an empty handler, without SA_RESTART), and the loop learns that this call held it, so that it
 * can break that sandbox.
 *
 * enter and leave: the loop thread that made it, never nested. They cost two atomic stores.
 */
#ifndef RP_RUNNER_WATCHDOG_H
#define RP_RUNNER_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

enum { RP_WATCHDOG_MS = 2000 };

struct rp_watchdog;

/* Watches the calling thread. limit_ms 0: RP_WATCHDOG_MS. */
struct rp_watchdog *rp_watchdog_new(unsigned limit_ms);
void rp_watchdog_free(struct rp_watchdog *w); /* NULL-safe */

void rp_watchdog_enter(struct rp_watchdog *w);
/* True when the call since enter was interrupted. */
bool rp_watchdog_leave(struct rp_watchdog *w);

#endif
