/*
 * loop.h: the event loop of a thread: readiness of descriptors, timers, deferred calls, posts from other
 * threads, and jobs that block. A thin layer over libuv that makes lifetimes explicit: after a `_free` or
 * `_stop` returns, its callback does not run again, so the owner may free what it points to at once. Loop
 * thread only, except rp_loop_post.
 */
#ifndef RP_NET_LOOP_H
#define RP_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"

struct rp_loop;

/* Sets SIGPIPE to be ignored in this process; whoever starts a program sets it back in the child. */
struct rp_loop *rp_loop_new(void);
/* After rp_loop_run returned. What was deferred or posted is still called; watches, timers and pools are
 * freed before it. */
void rp_loop_free(struct rp_loop *loop);
void rp_loop_run(struct rp_loop *loop); /* until rp_loop_stop */
void rp_loop_stop(struct rp_loop *loop);
uint64_t rp_loop_now_ms(struct rp_loop *loop); /* monotonic, cached for this turn */

/* Readiness of a descriptor (level-triggered). The watch does not own the descriptor, and must be freed
 * before it is closed. Makes the descriptor non-blocking. NULL when the kernel refuses to watch it (a regular
 * file). HANGUP is never asked for: it comes beside what was asked for when the descriptor is in error. */
enum { RP_WATCH_READ = 1, RP_WATCH_WRITE = 2, RP_WATCH_HANGUP = 4 };
struct rp_watch;
typedef void rp_watch_fn(void *ctx, unsigned events);
struct rp_watch *rp_watch_new(struct rp_loop *loop, int fd, rp_watch_fn *fn, void *ctx);
void rp_watch_set(struct rp_watch *w, unsigned events); /* RP_WATCH_READ|RP_WATCH_WRITE; 0 pauses */
void rp_watch_free(struct rp_watch *w);                 /* NULL-safe; also from inside its callback */

/* A timer, embedded by value nowhere: made once, started many times. */
struct rp_timer;
typedef void rp_timer_fn(void *ctx);
struct rp_timer *rp_timer_new(struct rp_loop *loop, rp_timer_fn *fn, void *ctx);
void rp_timer_start(struct rp_timer *t, uint64_t ms, uint64_t repeat_ms); /* restarts; repeat 0: once */
void rp_timer_stop(struct rp_timer *t);
bool rp_timer_active(const struct rp_timer *t);
void rp_timer_free(struct rp_timer *t); /* NULL-safe */

/* Calls fn(ctx) on the loop thread after the current callbacks. Defer: loop thread. Post: any thread. */
void rp_loop_defer(struct rp_loop *loop, void (*fn)(void *ctx), void *ctx);
void rp_loop_post(struct rp_loop *loop, void (*fn)(void *ctx), void *ctx);

/* Runs work(ctx) on a pool of `threads` worker threads and then done(ctx) on the loop thread. The queue is
 * bounded: rp_pool_submit fails with RP_ERROR_UNAVAILABLE when `queue_max` jobs wait. */
struct rp_pool;
struct rp_pool *rp_pool_new(struct rp_loop *loop, unsigned threads, unsigned queue_max);
int rp_pool_submit(struct rp_pool *p, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx,
                   struct rp_error *err) RP_MUST_CHECK;
/* Waits until all that was queued has run; every `done` was called when it returns. NULL-safe. */
void rp_pool_free(struct rp_pool *p);

#endif
