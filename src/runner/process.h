/*
 * process.h: everything that runs in a sandbox on behalf of its project: terminals, commands without a
 * terminal, the run command and installs. Loop thread only. docs/internals/terminals.md is the prose.
 *
 * One `rp_processes` for the gateway, one `rp_process_set` a project (domain/project_processes.h makes it and
 * wires it to the project). A process writes into a ring on tmpfs (ring.h) that outlives the server, or into
 * the project's log, a ring of the same kind that one run after the other writes to. What is needed to find
 * it again after a restart travels in its label at init, so a spawned process needs no record in the store.
 *
 * Limits: RP_TERMINALS_MAX running terminals and RP_PROCESSES_MAX running processes of any kind a project, as
 * many ended ones again are kept (the oldest go first); one more is RP_ERROR_QUOTA.
 */
#ifndef RP_RUNNER_PROCESS_H
#define RP_RUNNER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"
#include "runner/output.h"
#include "runner/sandbox.h"

enum {
    RP_TERMINALS_MAX = 16,
    RP_PROCESSES_MAX = 64,
    RP_PROCESS_DATA_MAX = 256,
    RP_PROCESS_COMMAND_MAX = 256, /* bytes of the command kept for display */
    RP_PROCESS_ID_LENGTH = 16,    /* hexadecimal digits of the id in the API */
};

struct rp_processes;
struct rp_process_set;
struct rp_process;

/* ---- the module ---- */

struct rp_processes_hooks {
    /*
     * The sandbox was attached and every process that it already had is known again, with its output going on
     * (after an adoption), or there is none (after a start). Those that ended in the meantime are reported as
     * exited after this call. May be NULL.
     */
    void (*ready)(void *ctx, struct rp_process_set *set, bool adopted);
    /* A process ended and its last output is in its ring. Once for each process of any kind, also when the
     * sandbox went away under it (then rp_process_lost is true). The process stays valid during the call at
     * least. May be NULL. */
    void (*exited)(void *ctx, struct rp_process_set *set, struct rp_process *p);
};

/* Rings are files below `runtime_dir`/rings, which is made. ring_size as in the settings. */
int rp_processes_new(struct rp_loop *loop, const char *runtime_dir, uint64_t ring_size,
                     struct rp_processes **ret, struct rp_error *err) RP_MUST_CHECK;
/* For the owner of run commands and installs (domain/run.c); before any sandbox is attached. */
void rp_processes_set_hooks(struct rp_processes *all, const struct rp_processes_hooks *hooks, void *ctx);
/* Sets must be freed before. Rings stay for the next server. */
void rp_processes_free(struct rp_processes *all);

/* ---- one project's ---- */

enum rp_process_change { RP_PROCESS_MADE, RP_PROCESS_RESIZED, RP_PROCESS_ENDED, RP_PROCESS_REMOVED };

struct rp_process_set_events {
    void (*touch)(void *ctx);             /* input or output happened */
    void (*viewer)(void *ctx, int delta); /* somebody started or stopped watching */
    void (*changed)(void *ctx, struct rp_process *p, enum rp_process_change change);
};

/* `project` is the project's id. Maps the project's log where there is one. */
struct rp_process_set *rp_process_set_new(struct rp_processes *all, const char *project,
                                          const struct rp_process_set_events *events, void *ctx);
/* Watchers are told that the server stops (1001). Rings stay. NULL-safe. */
void rp_process_set_free(struct rp_process_set *set);
void *rp_process_set_owner(const struct rp_process_set *set); /* the ctx given to rp_process_set_new */

/* Called by the wiring. attach: lists what init has when `adopted`, then calls the ready hook. detach: the
 * sandbox is gone; running processes are reported as exited (lost), all rings but the log are removed. */
void rp_process_set_attach(struct rp_process_set *set, struct rp_sandbox *s, bool adopted);
void rp_process_set_detach(struct rp_process_set *set);
void rp_process_set_exited(struct rp_process_set *set, uint64_t id, const struct rp_exit *exit);
/* The project is deleted: its log goes too. */
void rp_process_set_delete_rings(struct rp_process_set *set);

/* False while an adoption is under way: processes of before are not all known yet. */
bool rp_process_set_is_ready(const struct rp_process_set *set);
/* fn(ctx) is called once, from the loop, when the set is ready or its sandbox went away. Cancel by the same
 * pair. */
void rp_process_set_wait_ready(struct rp_process_set *set, void (*fn)(void *ctx), void *ctx);
void rp_process_set_wait_cancel(struct rp_process_set *set, void (*fn)(void *ctx), void *ctx);

/* ---- processes ---- */

enum rp_process_kind {
    RP_PROCESS_TERMINAL = 1, /* always with a PTY */
    RP_PROCESS_COMMAND = 2,
    RP_PROCESS_RUN = 3,
    RP_PROCESS_INSTALL = 4,
};

enum {
    RP_PROCESS_PTY = 1,   /* implied by RP_PROCESS_TERMINAL */
    RP_PROCESS_STDIN = 2, /* stdin is a pipe that can be written to; else it is empty */
    RP_PROCESS_MERGE = 4, /* stderr goes where stdout goes */
    RP_PROCESS_LOG = 8,   /* the output goes into the project's log (implies RP_PROCESS_MERGE) */
};

struct rp_process_spec {
    enum rp_process_kind kind;
    unsigned flags;          /* RP_PROCESS_* */
    uint16_t cols, rows;     /* with a PTY; 0: 80 by 24 */
    uint32_t step;           /* RP_STEP_* */
    const char *cwd;         /* NULL: RP_INIT_APP */
    const char *const *argv; /* NULL-terminated; argv[0] is looked up in the PATH of env */
    const char *const *env;  /* NULL-terminated, see rp_project_env */
    struct rp_str data;      /* caller's own, UTF-8, at most RP_PROCESS_DATA_MAX bytes; kept over restarts */
};

/* err NULL: p runs. Called exactly once, never from inside rp_process_spawn. Everything in spec is copied. */
typedef void rp_process_fn(void *ctx, struct rp_process *p, const struct rp_error *err);
void rp_process_spawn(struct rp_process_set *set, const struct rp_process_spec *spec, rp_process_fn *fn,
                      void *ctx);

struct rp_process *rp_process_find(struct rp_process_set *set, uint64_t id);
/* By the id of the API. */
struct rp_process *rp_process_find_text(struct rp_process_set *set, struct rp_str id);
/* The newest one of that kind that has not exited, or NULL. */
struct rp_process *rp_process_running(struct rp_process_set *set, enum rp_process_kind kind);
/* Oldest first; NULL begins and ends. */
struct rp_process *rp_process_next(struct rp_process_set *set, struct rp_process *p);

uint64_t rp_process_id(const struct rp_process *p);
const char *rp_process_id_text(const struct rp_process *p);
enum rp_process_kind rp_process_kind_of(const struct rp_process *p);
unsigned rp_process_flags(const struct rp_process *p);
uint32_t rp_process_pid(const struct rp_process *p);          /* inside the sandbox */
struct rp_str rp_process_command(const struct rp_process *p); /* for display, cut */
struct rp_str rp_process_data(const struct rp_process *p);
int64_t rp_process_started_at(const struct rp_process *p); /* wall clock, µs */
int64_t rp_process_ended_at(const struct rp_process *p);   /* 0 while it runs */
void rp_process_size(const struct rp_process *p, uint16_t *ret_cols, uint16_t *ret_rows);
/* NULL until it has exited and its output is drained. */
const struct rp_exit *rp_process_exit(const struct rp_process *p);
bool rp_process_lost(const struct rp_process *p); /* the sandbox went away under it */
/* RP_STREAM_PTY, RP_STREAM_STDOUT or RP_STREAM_STDERR; NULL when it has no such stream. */
struct rp_output *rp_process_output(struct rp_process *p, uint8_t stream);
/* The offsets between which the output's ring holds what this process printed; both 0 without such a stream.
 */
void rp_process_range(struct rp_process *p, uint8_t stream, uint64_t *ret_begin, uint64_t *ret_end);

/* fn may be NULL. */
void rp_process_signal(struct rp_process *p, int signal, rp_done_fn *fn, void *ctx);
/* SIGTERM (a terminal: SIGHUP) to its session, SIGKILL after the grace. The exit is reported as any other. */
void rp_process_stop(struct rp_process *p, uint64_t grace_ms);
/* Forgets an ended process and removes its ring; a running one is stopped first. */
void rp_process_remove(struct rp_process *p);

/* ---- input ---- */

enum rp_input {
    RP_INPUT_OK = 0,
    RP_INPUT_FULL = 1, /* taken; the queue is over 256 KiB: ask the client to pause (watcher's on_input) */
    RP_INPUT_OVERFLOW = -1, /* the queue would pass 1 MiB: nothing was taken, cut the client */
    RP_INPUT_CLOSED = -2,   /* no stdin, or it was closed, or the process ended */
};
enum rp_input rp_process_write(struct rp_process *p, struct rp_str bytes);
/* Closes stdin once the queue is written. On a PTY: types the end-of-file character. */
void rp_process_end_input(struct rp_process *p);

/* ---- watching: what a client connection does ---- */

struct rp_watcher;
struct rp_watcher_callbacks {
    /* Output from `offset` on. The view lives during the call. RP_WRITE_FULL: call rp_watcher_drained when
     * there is room again. */
    enum rp_write (*on_output)(void *ctx, uint8_t stream, uint64_t offset, struct rp_str bytes);
    void (*on_gap)(void *ctx, uint8_t stream, uint64_t offset); /* what comes next begins there */
    void (*on_size)(void *ctx, uint16_t cols, uint16_t rows);   /* of the PTY, after a change */
    void (*on_input)(void *ctx, bool full);                     /* pause (true) or go on typing */
    /* It ended and everything was delivered. Last callback; free the watcher. */
    void (*on_exit)(void *ctx, const struct rp_exit *exit, bool lost);
    /* It was removed, or the server stops (close 1001). Last callback; free the watcher. */
    void (*on_gone)(void *ctx, bool server_stops);
};

enum { RP_WATCHER_WRITES = 1 }; /* may type, sets the pace and takes part in the size */

/* since: of each stream, indexed by RP_STREAM_*; UINT64_MAX: from the oldest byte. Callbacks come from the
 * loop. */
struct rp_watcher *rp_watcher_new(struct rp_process *p, unsigned flags, const uint64_t since[4],
                                  const struct rp_watcher_callbacks *callbacks, void *ctx);
void rp_watcher_free(struct rp_watcher *w); /* NULL-safe; also from inside its callbacks */
void rp_watcher_drained(struct rp_watcher *w);
void rp_watcher_ack(struct rp_watcher *w, uint8_t stream, uint64_t offset);
void rp_watcher_resize(struct rp_watcher *w, uint16_t cols, uint16_t rows);
/* Where the next byte of the stream comes from. */
uint64_t rp_watcher_offset(const struct rp_watcher *w, uint8_t stream);

/* ---- the project's log: what its run command and its installs print ---- */

/* The output object of the log; made when it is not there yet; NULL only when that fails. */
struct rp_output *rp_process_set_log(struct rp_process_set *set);
/* A new run begins here: what `GET …/logs` shows when no offset is asked for. Older bytes stay while the ring
 * holds them. */
void rp_process_set_log_begin(struct rp_process_set *set);
/* A line of the server's own, e.g. "$ npm install\n". */
void rp_process_set_log_write(struct rp_process_set *set, struct rp_str text);
/* Where the newest run began. */
uint64_t rp_process_set_log_start(struct rp_process_set *set);

#endif
