/*
 * project.h: a project in memory: its record, its state machine, and the sandbox it may have. Loop thread
 * only.
 *
 * All projects are loaded at start and live until deleted; pointers stay valid while a reference is held
 * (rp_project_ref): anything asynchronous holds one. The state machine is in lifecycle.c, the run command in
 * run.c.
 */
#ifndef RP_DOMAIN_PROJECT_H
#define RP_DOMAIN_PROJECT_H

#include "base/json.h"
#include "runner/sandbox.h"
#include "store/store.h"

struct rp_projects; /* all of them, with the store, the orchestrator client and the stacks */
struct rp_project;
struct rp_stack;

enum rp_project_state {
    RP_PROJECT_STOPPED,
    RP_PROJECT_QUEUED,
    RP_PROJECT_STARTING,
    RP_PROJECT_RUNNING,
    RP_PROJECT_STOPPING,
    RP_PROJECT_FAILED,
};

struct rp_project *rp_projects_find(struct rp_projects *all, struct rp_str id);

struct rp_project *rp_project_ref(struct rp_project *p);
void rp_project_unref(struct rp_project *p);

const char *rp_project_id(const struct rp_project *p);
const struct rp_project_record *rp_project_record_of(const struct rp_project *p);
const struct rp_stack *rp_project_stack(const struct rp_project *p);
enum rp_project_state rp_project_state_of(const struct rp_project *p);
const char *rp_project_state_name(enum rp_project_state state);
struct rp_loop *rp_project_loop(const struct rp_project *p);

/*
 * The sandbox when there is one that answers, whether the project counts as running or the sandbox only
 * serves files; NULL otherwise. Do not keep the pointer over a return to the loop: use on_sandbox.
 */
struct rp_sandbox *rp_project_sandbox(struct rp_project *p);

typedef void rp_project_fn(void *ctx, struct rp_project *p, const struct rp_error *err);

/* Starts the project (user code may run). Answers when it runs, at once when it does. Idempotent, joins a
 * start under way. */
void rp_project_start(struct rp_project *p, rp_project_fn *fn, void *ctx);
/* SIGTERM, then SIGKILL; every trace of the sandbox is gone when fn is called. Idempotent. reason NULL or
 * kept in status. */
void rp_project_stop(struct rp_project *p, const char *reason, rp_project_fn *fn, void *ctx);
/*
 * A sandbox for its files: the running one, or one that runs no user code and is given back after 30 s
 * without use; the state stays as it is. rp_project_sandbox is not NULL when err is NULL.
 */
void rp_project_need_files(struct rp_project *p, rp_project_fn *fn, void *ctx);

/* Install what is missing, then start the run command (starts the project first). Answers when the run
 * command was started or the install has begun; progress shows in status and logs. */
void rp_project_run(struct rp_project *p, rp_project_fn *fn, void *ctx);
void rp_project_run_stop(struct rp_project *p, rp_project_fn *fn, void *ctx);

/* Something happened that means that the project is in use: restarts the idle timer. Cheap; call it per
 * request or chunk. */
void rp_project_touch(struct rp_project *p);
/* A viewer (terminal, events socket, log follower) is there: the project does not idle while any is. */
void rp_project_viewer(struct rp_project *p, int delta);

/*
 * Events for `WS …/events`: one JSON object {"type": …}. Emitting without listeners costs nothing: check
 * first.
 */
bool rp_project_has_listeners(const struct rp_project *p);
void rp_project_emit(struct rp_project *p, struct rp_str json);

/*
 * Observers: modules that keep state for a sandbox (terminals, processes, file channels, previews) register
 * once per project. attached: the sandbox answers (after a start or an adoption), before anything else uses
 * it. detached: it is going away; drop all use.
 */
struct rp_project_observer {
    void (*attached)(void *ctx, struct rp_project *p, struct rp_sandbox *s, bool adopted);
    void (*detached)(void *ctx, struct rp_project *p);
    void (*exited)(void *ctx, struct rp_project *p, uint64_t process, const struct rp_exit *exit);
    void (*ports)(void *ctx, struct rp_project *p, const struct rp_port *ports, size_t count);
    void (*deleted)(void *ctx, struct rp_project *p); /* last call for this project */
    /* The server ends, the sandbox lives on: drop all use, keep what is needed to find it again. Last call.
     */
    void (*closing)(void *ctx, struct rp_project *p);
};
enum rp_observer_slot {
    RP_OBSERVER_PROCESSES,
    RP_OBSERVER_FILES,
    RP_OBSERVER_PREVIEW,
    RP_OBSERVER_EVENTS,
    RP_OBSERVER_COUNT
};
/* For all projects, present and future; once per slot, before the projects are loaded. */
void rp_projects_observe(struct rp_projects *all, enum rp_observer_slot slot,
                         const struct rp_project_observer *o, void *ctx);
/* A pointer per slot that the observer keeps on the project. */
void rp_project_set_data(struct rp_project *p, enum rp_observer_slot slot, void *data);
void *rp_project_data(const struct rp_project *p, enum rp_observer_slot slot);

/* Environment for a process of this project: PATH, HOME, LANG, TERM, PORT …, the stack's, the host's CA and
 * mirror settings, the project's own, then `extra` (NULL or NULL-terminated). The caller frees with
 * rp_env_free. */
char **rp_project_env(const struct rp_project *p, const char *const *extra);
void rp_env_free(char **env);

/* cgroup steps of a sandbox */
enum { RP_STEP_USER = 0, RP_STEP_INSTALL = 1 };

#endif
