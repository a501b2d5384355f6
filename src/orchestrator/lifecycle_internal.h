/*
 * lifecycle_internal.h: what the files of the lifecycle share. A job is owned by the loop thread, except
 * between submit and its `done`, when the worker has it (only `cancelled` is looked at by both).
 */
#ifndef RP_ORCHESTRATOR_LIFECYCLE_INTERNAL_H
#define RP_ORCHESTRATOR_LIFECYCLE_INTERNAL_H

#include <stdatomic.h>

#include "orchestrator/lifecycle.h"
#include "orchestrator/record.h"
#include "orchestrator/warm.h"

/* Not a request: what is left of a sandbox is removed. Above every type of proto/orchestrator.h. */
enum { JOB_CLEANUP = 0x1000 };

enum phase {
    PHASE_STARTING,
    PHASE_RUNNING,
    PHASE_ENDING, /* a job removes it, or waits for its init to end */
    PHASE_BROKEN, /* it could not be removed; tried again */
};

struct slot;

struct sandbox {
    struct rp_record record;
    struct slot *slot;
    enum phase phase;
    int watch_fd; /* readable when its init ends */
    struct rp_watch *watch;
    struct rp_timer *retry; /* PHASE_BROKEN */
    uint64_t retry_ms;
    uint64_t oom_kills;
    bool oom_known; /* oom_kills has been read once */
};

struct job {
    struct job *next;
    struct rp_lifecycle *lifecycle;
    struct slot *slot;
    uint64_t number;
    uint32_t client; /* 0: nobody waits for an answer */
    uint16_t type;
    struct rp_orchestrator_message request;
    atomic_bool cancelled;
    /* in: */
    struct rp_record record;
    /* out: */
    bool failed;
    struct rp_error error;
    struct rp_orchestrator_message answer;
    int fd;                        /* for the gateway, or the connection that SHUTDOWN was said on */
    int watch_fd;                  /* START: of the new sandbox */
    bool left;                     /* START: it failed, and could not be undone */
    struct rp_sandbox_ended ended; /* JOB_CLEANUP */
    bool announce;                 /* JOB_CLEANUP: GONE is told */
    bool reconciles;               /* JOB_CLEANUP: `ready` waits for it */
    char (*ids)[RP_ID_SIZE];       /* VOLUME_LIST */
    size_t id_count;
    /* STOP: */
    struct rp_timer *grace;
};

/* One project's queue, and its sandbox. Lives while it has either. */
struct slot {
    struct slot *next;
    struct rp_lifecycle *lifecycle;
    char project[RP_ID_SIZE];
    struct sandbox *sandbox;
    struct job *active, *first, **last;
};

struct rp_lifecycle {
    struct rp_lifecycle_options options;
    const struct rp_lifecycle_events *events;
    void *ctx;
    struct rp_pool *slow, *quick;
    struct rp_warm *warm;
    struct slot *slots;
    unsigned sandbox_count, job_count;
    uint64_t next_number;
    unsigned reconciling; /* what `ready` waits for */
    bool in_reconcile, ready, stopping;
    struct rp_timer *oom_timer;
    unsigned oom_turn;
};

/* ---- lifecycle_work.c: what blocks; worker threads ---- */

void rp_work_start(void *job);
void rp_work_remove(void *job); /* destroy, then the record: STOP, CLEANUP, undoing a START */
void rp_work_shutdown(void *job);
void rp_work_attach(void *job);
void rp_work_limits(void *job);
void rp_work_step_drop(void *job);
void rp_work_stats(void *job);
void rp_work_volume(void *job); /* every RP_ORCH_VOLUME_* */
void rp_work_ready(void *job);

/* Any thread: tells the gateway that waits for the job what it is doing now; step is a literal. */
void rp_lifecycle_progress(struct job *job, const char *step);

/* ---- lifecycle.c ---- */

struct slot *rp_slot_get(struct rp_lifecycle *l, const char *project); /* made when there is none */
struct sandbox *rp_sandbox_add(struct slot *slot, const struct rp_record *record, enum phase phase);
/* Takes the descriptor; the sandbox runs from now on. */
void rp_sandbox_runs(struct sandbox *s, int watch_fd);
/* Queues the removal of slot->sandbox; announce: GONE is told. */
void rp_slot_cleanup(struct slot *slot, bool announce);
/* One of what `ready` waits for is done. */
void rp_lifecycle_reconciled(struct rp_lifecycle *l);

#endif
