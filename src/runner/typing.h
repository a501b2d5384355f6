/*
 * typing.h: what a PTY's line discipline would do with typed bytes, seen from the master (termios(3),
 * pty(7)). Any thread. Where the descriptor is no PTY (a driver that cannot pass one), nothing is special.
 */
#ifndef RP_RUNNER_TYPING_H
#define RP_RUNNER_TYPING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/*
 * Position of the last byte in `typed` that interrupts (VINTR, VQUIT, VSUSP while ISIG is on and NOFLSH off),
 * when unread input stands in its way: `queued` input of ours, or more in the kernel than it can look behind.
 * SIZE_MAX otherwise, and then the kernel does the right thing by itself.
 */
size_t rp_typing_interrupt(int master, struct rp_str typed, bool queued);

/* Drops all input that the kernel holds and no program has read. */
void rp_typing_flush(int master);

#endif
