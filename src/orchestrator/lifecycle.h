/*
 * lifecycle.h: the state machine of sandboxes and volumes in the orchestrator. Loop thread only; what blocks
 * runs on worker threads of its own.
 *
 * Work is queued per project: a project has at most one sandbox and one volume, and what is asked of them is
 * done in order, one at a time; different projects go on side by side. Each step of a start is recorded
 * before it is taken (record.h) and undone when a later one fails. The init of each running sandbox is
 * watched: when it ends by itself everything of it is removed and GONE is told. What cannot be removed at
 * once is tried again for ever, with a back-off (the reaper), and keeps its project from starting.
 *
 * Limits: max_sandboxes; RP_LIFECYCLE_JOBS_MAX requests that wait (RP_ERROR_UNAVAILABLE for one more).
 */
#ifndef RP_ORCHESTRATOR_LIFECYCLE_H
#define RP_ORCHESTRATOR_LIFECYCLE_H

#include "net/loop.h"
#include "orchestrator/codec.h"
#include "orchestrator/volume.h"
#include "sandbox/driver.h"

enum {
    RP_LIFECYCLE_JOBS_MAX = 4096,
    RP_LIFECYCLE_THREADS = 8,       /* for starts, stops and volumes */
    RP_LIFECYCLE_QUICK_THREADS = 2, /* for what takes less than a millisecond */
};

struct rp_lifecycle;

struct rp_lifecycle_options {
    struct rp_loop *loop;
    struct rp_driver *driver;
    struct rp_volumes *volumes;
    const char *records; /* directory of record.h */
    uint32_t max_sandboxes;
    uint32_t warm; /* empty sandboxes to keep ready */
};

struct rp_lifecycle_events {
    /* One message to the gateway whose request it answers; fd (or -1) is owned by the callee. */
    void (*answer)(void *ctx, uint32_t client, const struct rp_orchestrator_message *m, int fd);
    void (*event)(void *ctx, const struct rp_orchestrator_message *m);
    /* Reconcile is done: what exists is known, what was half made is gone. */
    void (*ready)(void *ctx);
};

/* options' members and events outlive it. */
struct rp_lifecycle *rp_lifecycle_new(const struct rp_lifecycle_options *options,
                                      const struct rp_lifecycle_events *events, void *ctx);
/*
 * Compares the records with what the driver finds: adopts what is whole and alive, removes the rest in the
 * background, then calls `ready`. Blocks for as long as the driver's list and alive take. Once, first.
 */
int rp_lifecycle_reconcile(struct rp_lifecycle *l, struct rp_error *err) RP_MUST_CHECK;
bool rp_lifecycle_ready(const struct rp_lifecycle *l);

/* A decoded request of the gateway `client` (not 0), other than HELLO. */
void rp_lifecycle_request(struct rp_lifecycle *l, uint32_t client, const struct rp_orchestrator_message *m);
/* Starts that this gateway asked for are undone: nobody would know of them. */
void rp_lifecycle_client_gone(struct rp_lifecycle *l, uint32_t client);

/* Waits for the jobs that run; sandboxes go on. Before rp_loop_free. NULL-safe. */
void rp_lifecycle_free(struct rp_lifecycle *l);

#endif
