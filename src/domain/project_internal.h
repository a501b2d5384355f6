/*
 * project_internal.h: a project from the inside; for the files of the lifecycle in domain/ only. Loop thread
 * only.
 *
 * Two things are kept apart. The *slot* is what sandbox there is and how far it is: none, asked for, saying
 * hello, up, going away. The *desire* is what it ought to be: running (`desired`), or there for its files
 * only (`files_waiters`, `files_used_ms`), or down first (`stop_pending`). rp_project_pump compares the two
 * and does the next step; every event changes one of them and pumps. The state that the API shows follows
 * from both.
 */
#ifndef RP_DOMAIN_PROJECT_INTERNAL_H
#define RP_DOMAIN_PROJECT_INTERNAL_H

#include "domain/projects.h"
#include "domain/stack.h"
#include "net/loop.h"
#include "orchestrator/client.h"
#include "runner/process.h"

enum {
    FILES_KEPT_MS = 30000, /* a sandbox for files is given back after this time without use */
    STOP_GRACE_MS = 5000,  /* between SIGTERM and SIGKILL */
    SETTLE_MS = 3000,      /* how long the server's start waits for adopted sandboxes */
    RELIST_MS = 1000,
    BACKOFF_FIRST_MS = 1000,   /* always_on: first pause before a restart, doubled up to … */
    BACKOFF_MAX_MS = 60000,    /* … this; the same time of health resets it */
    PORTS_FAST_MS = 200,       /* interval of looking for ports while a server starts */
    PORTS_SLOW_MS = 1000,      /* and later */
    PORTS_FAST_FOR_MS = 60000, /* how long a server may take to start listening before we look less often */
    TICK_MS = 500,
};

struct waiter {
    struct waiter *next;
    rp_project_fn *fn;
    void *ctx;
};

struct waiters {
    struct waiter *first, **last;
};

void waiters_init(struct waiters *w);
void waiters_add(struct waiters *w, rp_project_fn *fn, void *ctx);
/* Calls all that wait at this moment, in order; those may add new ones. */
void waiters_answer(struct waiters *w, struct rp_project *p, const struct rp_error *err);

enum slot {
    SLOT_NONE,
    SLOT_STARTING, /* START or ATTACH was sent */
    SLOT_HELLO,    /* connected, its init has not answered yet */
    SLOT_UP,
    SLOT_STOPPING, /* STOP was sent */
};

struct progress {
    char step[64]; /* "" when there is none */
    int64_t since; /* µs */
};

struct run {
    enum rp_run_state state;
    bool busy; /* between the request and the first process: reading, deciding */
    bool stop_asked;
    unsigned attempt; /* counts runs, so that an answer for an earlier one is known as late */
    bool has_exit;
    int exit_code, exit_signal;
    int64_t started_at; /* µs, 0 when never */
    char reason[384];   /* why it is failed, or "" */
    size_t step;        /* of the stack's install steps */
    uint64_t process;   /* the run command's or the step's id, 0 when none */
    bool oom;           /* the kernel killed something for memory since this run began */
    uint64_t oom_kills; /* the sandbox's count when it began */
    uint64_t install_started_ms;
    bool watched_known;
    struct rp_stack_state watched[RP_STACK_WATCHED_MAX];
    char *watched_content[RP_STACK_WATCHED_MAX]; /* owned, behind `watched` */
};

struct rp_listener {
    struct rp_project *project;
    struct rp_listener *next, **link;
    rp_listener_fn *fn;
    void (*deleted)(void *ctx);
    void *ctx;
};

struct rp_update;

struct rp_project {
    unsigned references;
    struct rp_projects *all;
    struct rp_project *newer, *older; /* in the order of creation */
    struct rp_project *bucket_next;
    struct rp_project *live_next,
        **live_link; /* those with a sandbox or a pending restart: what the tick looks at */
    bool listed;     /* in the table; not while it is being created, nor after its deletion */
    bool deleting;

    struct rp_project_record record; /* as in the store, or about to be */
    const struct rp_stack *stack;    /* NULL when its folder is gone: it cannot start */

    bool desired;
    bool stop_pending;
    bool failed; /* the state when there is no sandbox is `failed`, not `stopped` */
    enum slot slot;
    char slot_id[RP_ID_SIZE];
    unsigned slot_epoch; /* of the orchestrator connection that it was asked for on */
    bool slot_running;   /* up, and announced as running (not only for files) */
    bool slot_adopted;
    bool slot_saved;    /* the record that names the sandbox is in the store */
    bool start_unknown; /* whether the START worked is not known: stop it to be sure */
    struct rp_sandbox *sandbox;
    bool attached; /* observers were told */
    int64_t sandbox_started_at;
    bool warm;
    struct rp_error start_error; /* why the last start failed (code NONE: it did not) */
    char end_reason[416];        /* why the sandbox goes away by itself, or "" */
    struct waiters start_waiters, stop_waiters, files_waiters;
    uint64_t files_used_ms;

    enum rp_project_state shown; /* last announced */
    int64_t since;               /* µs, of `shown` */
    struct progress progress;
    struct run run;
    struct waiters run_waiters, run_stop_waiters;

    unsigned viewers;
    uint64_t used_ms; /* loop time of the last use */
    uint64_t ports_fast_until;
    bool ports_fast;

    unsigned backoff_ms;    /* the next pause; 0: the first one */
    uint64_t restart_at_ms; /* loop time; 0: none is planned */
    uint64_t healthy_since_ms;

    bool saving, save_again;
    struct waiters save_waiters, save_next_waiters;

    struct rp_update *updates; /* of its settings; the first one is under way */

    struct rp_listener *listeners;
    unsigned listener_count;
    void *data[RP_OBSERVER_COUNT];
};

struct observer {
    const struct rp_project_observer *o;
    void *ctx;
};

struct rp_projects {
    struct rp_projects_parts parts;
    struct rp_orchestrator *orchestrator;
    unsigned epoch; /* +1 with every connection to the orchestrator */
    struct rp_project **buckets;
    size_t bucket_count, count;
    struct rp_project *newest, *oldest;
    struct rp_project *live;
    struct rp_timer *tick;
    struct observer observers[RP_OBSERVER_COUNT];
    bool reconciled; /* since start */
    void (*settled)(void *ctx);
    void *settled_ctx;
    unsigned adopting;
    struct rp_timer *settle_timer;
    struct rp_timer *relist;       /* after a list that failed */
    char (*unsettled)[RP_ID_SIZE]; /* volumes that a former server left behind */
    size_t unsettled_count;
};

/* project.c */
struct rp_project *rp_project_new(struct rp_projects *all, const struct rp_project_record *r);
void rp_project_set_live(struct rp_project *p, bool live);
uint64_t rp_project_now(const struct rp_project *p);
/* Writes what the lifecycle keeps of the record; fn (may be NULL) when it is in the store. */
void rp_project_save(struct rp_project *p, rp_project_fn *fn, void *ctx);
void rp_project_set_reason(struct rp_project *p, const char *reason);
void rp_project_observers_deleted(struct rp_project *p);
void rp_project_observers_closing(struct rp_project *p);

/* projects.c */
void rp_projects_add(struct rp_projects *all, struct rp_project *p);
void rp_projects_remove(struct rp_projects *all, struct rp_project *p);
/* An adopted sandbox answers, or does not: the server's start waits for it no longer. */
void rp_projects_adopted_one(struct rp_projects *all);

/* making.c: volumes whose project was never made, or was deleted */
void rp_projects_finish_deletions(struct rp_projects *all);

/* lifecycle.c */
void rp_project_take_down(struct rp_project *p, const char *reason, rp_project_fn *fn, void *ctx);
/* The server ends: observers drop the sandbox, which lives on. */
void rp_project_leave(struct rp_project *p);
void rp_project_pump(struct rp_project *p);
void rp_project_adopt(struct rp_project *p);
/* The sandbox ended by itself, and nothing is left of it. */
void rp_project_gone(struct rp_project *p, const struct rp_error *why);

/* announce.c */
void rp_project_show(struct rp_project *p); /* announces a changed state */
void rp_project_set_progress(struct rp_project *p, const char *step);
void rp_project_ports_fast(struct rp_project *p);
void rp_project_ports_changed(void *ctx, const struct rp_port *ports, size_t count);

/* run.c */
extern const struct rp_processes_hooks rp_run_hooks;
void rp_run_sandbox_lost(struct rp_project *p);
void rp_run_oom(struct rp_project *p);
void rp_run_tick(struct rp_project *p); /* ends an install that takes too long */
void rp_run_changed(struct rp_project *p);
const char *rp_run_state_name(enum rp_run_state s);
void rp_run_clear_watched(struct rp_project *p);

/* always.c */
/* always_on: starts it again after a pause that grows. */
void rp_project_plan_restart(struct rp_project *p);
void rp_project_tick(struct rp_project *p);

/* project_files.c */
typedef void rp_project_watched_fn(void *ctx, struct rp_project *p, const struct rp_error *err);
/* Fills p->run.watched. The sandbox must answer. */
void rp_project_read_watched(struct rp_project *p, rp_project_watched_fn *fn, void *ctx);

#endif
