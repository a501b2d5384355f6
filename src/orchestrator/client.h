/*
 * client.h: the gateway's end of the connection to the orchestrator. Loop thread only.
 *
 * Requests are asynchronous: each callback is called exactly once, from the loop, never from inside the
 * request, and after rp_orchestrator_free never. A request made while there is no connection waits for one up
 * to RP_ORCHESTRATOR_PATIENCE_MS, then fails with RP_ERROR_UNAVAILABLE. When the connection breaks (the
 * orchestrator crashed; it comes back within milliseconds) the client connects again and repeats what waits
 * for an answer, since every request but START and VOLUME_CLONE is idempotent. These, when sent, fail with
 * RP_ERROR_UNAVAILABLE: whether the sandbox exists is known after the next LIST, and on_connected says when
 * to ask. At most RP_ORCHESTRATOR_REQUESTS_MAX requests wait; one more fails with RP_ERROR_UNAVAILABLE.
 */
#ifndef RP_ORCHESTRATOR_CLIENT_H
#define RP_ORCHESTRATOR_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "net/loop.h"
#include "proto/orchestrator.h"
#include "sandbox/driver.h"

enum {
    RP_ORCHESTRATOR_REQUESTS_MAX = 4096,
    RP_ORCHESTRATOR_PATIENCE_MS = 10000,
};

struct rp_orchestrator;

struct rp_orchestrator_info {
    char driver[32];
    uint32_t capabilities; /* RP_DRIVER_* */
    uint64_t memory;       /* the host's, bytes */
    uint32_t cpus;
};

struct rp_orchestrator_events {
    /* After HELLO, at first and after each reconnection: list the sandboxes, attach to those that you know,
     * stop those that you do not. GONE events of sandboxes that ended in between are not repeated: they are
     * missing in the list. */
    void (*on_connected)(void *ctx, const struct rp_orchestrator_info *info);
    void (*on_disconnected)(void *ctx);
    /* The sandbox ended by itself (not by STOP) and every trace of it is gone. */
    void (*on_gone)(void *ctx, const char *sandbox, const struct rp_error *why);
    void (*on_oom)(void *ctx, const char *sandbox, uint32_t step);
};

/* Starts to connect. `events` outlives the client; members may be NULL. */
struct rp_orchestrator *rp_orchestrator_new(struct rp_loop *loop, const char *socket_path,
                                            const struct rp_orchestrator_events *events, void *ctx);
/* Drops waiting requests without calling them. NULL-safe; not from inside one of its callbacks. */
void rp_orchestrator_free(struct rp_orchestrator *o);
/* NULL while not connected. */
const struct rp_orchestrator_info *rp_orchestrator_info_of(const struct rp_orchestrator *o);

/* ---- sandboxes ---- */

struct rp_orchestrator_start {
    char sandbox[RP_ID_SIZE]; /* new, from rp_random_id */
    char project[RP_ID_SIZE]; /* its volume exists */
    char environment[RP_ENVIRONMENT_LENGTH + 1];
    struct rp_limits limits;
    struct rp_network_policy network;
};

/* connection: init's socket, HELLO not yet said, owned by the callee; -1 with an error. started_at in µs. */
typedef void rp_orchestrator_attached_fn(void *ctx, int connection, int64_t started_at, bool warm,
                                         const struct rp_error *err);
/* step: "volume", "sandbox", "limits" …; short, lower case. */
typedef void rp_orchestrator_progress_fn(void *ctx, const char *step);
typedef void rp_orchestrator_done_fn(void *ctx, const struct rp_error *err); /* err NULL: done */

/* After an error nothing of the sandbox is left. progress may be NULL. */
void rp_orchestrator_start(struct rp_orchestrator *o, const struct rp_orchestrator_start *start,
                           rp_orchestrator_progress_fn *progress, rp_orchestrator_attached_fn *fn, void *ctx);
/* SIGTERM to its processes, SIGKILL after grace_ms; done when every trace is gone. Idempotent; also ends a
 * START under way, which then fails with RP_ERROR_CONFLICT. */
void rp_orchestrator_stop(struct rp_orchestrator *o, const char *sandbox, uint32_t grace_ms,
                          rp_orchestrator_done_fn *fn, void *ctx);
/* RP_ERROR_NOT_FOUND when it is not there. */
void rp_orchestrator_attach(struct rp_orchestrator *o, const char *sandbox, rp_orchestrator_attached_fn *fn,
                            void *ctx);

struct rp_orchestrator_sandbox {
    char sandbox[RP_ID_SIZE];
    char project[RP_ID_SIZE];
    char environment[RP_ENVIRONMENT_LENGTH + 1];
    int64_t started_at; /* µs */
};
/* The list lives during the callback. */
typedef void rp_orchestrator_list_fn(void *ctx, const struct rp_orchestrator_sandbox *list, size_t count,
                                     const struct rp_error *err);
void rp_orchestrator_list(struct rp_orchestrator *o, rp_orchestrator_list_fn *fn, void *ctx);

/* Sets the limits of a step (0: user), makes it when it is new and tells the sandbox's init about it. */
void rp_orchestrator_limits(struct rp_orchestrator *o, const char *sandbox, uint32_t step,
                            const struct rp_limits *limits, rp_orchestrator_done_fn *fn, void *ctx);
void rp_orchestrator_step_drop(struct rp_orchestrator *o, const char *sandbox, uint32_t step,
                               rp_orchestrator_done_fn *fn, void *ctx);

typedef void rp_orchestrator_stats_fn(void *ctx, const struct rp_sandbox_stats *stats,
                                      const struct rp_error *err);
void rp_orchestrator_stats(struct rp_orchestrator *o, const char *sandbox, rp_orchestrator_stats_fn *fn,
                           void *ctx);

/* Really asks the driver. */
void rp_orchestrator_ready(struct rp_orchestrator *o, rp_orchestrator_done_fn *fn, void *ctx);

/* ---- volumes ---- */

/* Makes the project's volume, or does nothing when it is there. */
void rp_orchestrator_volume_create(struct rp_orchestrator *o, const char *project, uint64_t quota,
                                   rp_orchestrator_done_fn *fn, void *ctx);
/* RP_ERROR_CONFLICT while a sandbox uses it. Done also when there is none. */
void rp_orchestrator_volume_delete(struct rp_orchestrator *o, const char *project,
                                   rp_orchestrator_done_fn *fn, void *ctx);
void rp_orchestrator_volume_quota(struct rp_orchestrator *o, const char *project, uint64_t quota,
                                  rp_orchestrator_done_fn *fn, void *ctx);
/* A writable snapshot of `from` as `to` (fork). */
void rp_orchestrator_volume_clone(struct rp_orchestrator *o, const char *from, const char *to,
                                  rp_orchestrator_done_fn *fn, void *ctx);

typedef void rp_orchestrator_usage_fn(void *ctx, uint64_t used, uint64_t quota, const struct rp_error *err);
void rp_orchestrator_volume_usage(struct rp_orchestrator *o, const char *project,
                                  rp_orchestrator_usage_fn *fn, void *ctx);

/* The ids of all volumes; the list lives during the callback. */
typedef void rp_orchestrator_volumes_fn(void *ctx, const char (*ids)[RP_ID_SIZE], size_t count,
                                        const struct rp_error *err);
void rp_orchestrator_volume_list(struct rp_orchestrator *o, rp_orchestrator_volumes_fn *fn, void *ctx);

#endif
