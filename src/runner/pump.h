/*
 * pump.h: one descriptor of a process: its output into a ring, what a client types into it. Loop thread only.
 *
 * A PTY goes both ways, a pipe one way. Output is read while rp_output_room says so, at most RP_PUMP_TURN
 * bytes a turn of the loop, so that one flood does not starve the others. Input that the descriptor does not
 * take is queued to RP_PUMP_QUEUE_MAX; over RP_PUMP_QUEUE_FULL the client is asked to pause.
 *
 * Typing a character that interrupts (VINTR, VQUIT, VSUSP while ISIG is set) behind a queue drops the queue
 * and what the kernel still holds, as the line discipline does with what it holds, so that Ctrl-C never waits
 * behind a paste.
 */
#ifndef RP_RUNNER_PUMP_H
#define RP_RUNNER_PUMP_H

#include "net/loop.h"
#include "runner/output.h"
#include "runner/watchdog.h"

enum {
    RP_PUMP_TURN = 256 * 1024,
    RP_PUMP_QUEUE_FULL = 256 * 1024,
    RP_PUMP_QUEUE_MAX = 1024 * 1024,
    RP_PUMP_DRAIN_MS = 2000, /* after the process's exit: the longest that is waited for more */
    RP_PUMP_QUIET_MS = 50,   /* nothing for so long after the exit is the end, whoever holds the other end */
};

struct rp_pump;

struct rp_pump_callbacks {
    void (*on_bytes)(void *ctx);            /* output arrived (it is in the ring and on its way) */
    void (*on_input)(void *ctx, bool full); /* pause typing, or go on */
    void (*on_end)(void *ctx);              /* no more output; once; the owner may free the pump in it */
    void (*on_held)(void *ctx); /* the descriptor held the loop: its sandbox lies. Last callback. */
};

enum { RP_PUMP_PTY = 1, RP_PUMP_READS = 2, RP_PUMP_WRITES = 4 };

/* Takes ownership of fd. output (not owned) where it reads. NULL when the kernel refuses to watch fd (then
 * closed). */
struct rp_pump *rp_pump_new(struct rp_loop *loop, struct rp_watchdog *watchdog, int fd, unsigned flags,
                            struct rp_output *output, const struct rp_pump_callbacks *callbacks, void *ctx);
void rp_pump_free(struct rp_pump *p); /* NULL-safe; also from inside its callbacks */

/* The output has room again. */
void rp_pump_resume(struct rp_pump *p);
/* The process has exited: what is left is read without regard to the readers' pace, then on_end. */
void rp_pump_drain(struct rp_pump *p);

enum rp_pump_input { RP_PUMP_OK = 0, RP_PUMP_FULL = 1, RP_PUMP_OVERFLOW = -1, RP_PUMP_CLOSED = -2 };
enum rp_pump_input rp_pump_write(struct rp_pump *p, struct rp_str bytes);
/* Drops what is queued and, on a PTY, what the kernel holds unread. */
void rp_pump_discard(struct rp_pump *p);
/* Calls done(ctx) from the loop or at once when all that is queued was written. */
void rp_pump_flushed(struct rp_pump *p, void (*done)(void *ctx), void *ctx);
size_t rp_pump_queued(const struct rp_pump *p);
/* The character that means end of file on this PTY, or -1. */
int rp_pump_eof_character(const struct rp_pump *p);

#endif
