/*
 * process_internal.h: what process.c, process_set.c and watcher.c share. Nobody else includes it.
 */
#ifndef RP_RUNNER_PROCESS_INTERNAL_H
#define RP_RUNNER_PROCESS_INTERNAL_H

#include "runner/process.h"
#include "runner/pump.h"
#include "runner/watchdog.h"

enum { STREAMS = 4 };

struct rp_processes {
    struct rp_loop *loop;
    struct rp_watchdog *watchdog;
    char *directory; /* of all projects' rings */
    uint64_t ring_size;
    struct rp_processes_hooks hooks;
    void *hooks_ctx;
};

struct ready_wait {
    struct ready_wait *next;
    void (*fn)(void *ctx);
    void *ctx;
};

struct rp_process_set {
    struct rp_processes *all;
    char project[RP_ID_SIZE];
    char *directory; /* of the project's rings */
    struct rp_process_set_events events;
    void *ctx;
    struct rp_sandbox *sandbox;      /* NULL while there is none */
    struct rp_process *first, *last; /* oldest first */
    struct rp_process *starting;     /* spawn requested, not answered */
    struct rp_output *log;           /* NULL until it is first needed */
    struct rp_timer *sweep;          /* frees what was removed, from the loop; answers refused spawns */
    struct rp_timer *ready_timer;
    struct ready_wait *waits;
    bool adopting;
    struct adoption *adoption; /* whose requests are under way, or NULL */
    uint64_t generation;       /* of the sandbox: answers to an older one's requests are dropped */
};

struct rp_process {
    struct rp_process_set *set; /* NULL in `starting` after the set was freed */
    struct rp_process *next;
    uint64_t id;
    char id_text[RP_PROCESS_ID_LENGTH + 1];
    enum rp_process_kind kind;
    unsigned flags;
    uint32_t pid;
    char *command, *data;
    int64_t started_at, ended_at; /* µs */
    uint16_t cols, rows;
    struct rp_output *outputs[STREAMS]; /* owned, except the log */
    struct rp_pump *pumps[STREAMS];
    uint64_t begin[STREAMS], end[STREAMS]; /* offsets of its own output; end: once it has ended */
    struct rp_exit exit;
    bool exited; /* init says so; its output may still come */
    bool ended;  /* and its output is drained */
    bool lost, removed;
    bool adopted; /* REOPEN is under way */
    struct rp_timer *kill;
    struct rp_watcher *watchers;
    rp_process_fn *spawned;
    void *spawned_ctx;
    uint64_t generation;
    struct rp_error refused; /* a spawn that never got to init */
    bool is_refused;
};

/* ---- process.c ---- */

/* With what its label says. NULL when the label is not one of ours. */
struct rp_process *rp_process_from_label(struct rp_process_set *set, uint64_t id, struct rp_str label);
/* The ring's name of a stream. */
void rp_process_ring_name(const struct rp_process *p, int stream, char *ret, size_t cap);
/* Opens or makes the rings of the streams that it has. */
int rp_process_open_outputs(struct rp_process *p, struct rp_error *err) RP_MUST_CHECK;
/* Takes the descriptors and starts to pump. */
void rp_process_start_pumps(struct rp_process *p, int fds[STREAMS]);
/* init reported its exit. */
void rp_process_exited(struct rp_process *p, const struct rp_exit *exit);
/* It is over: tells everybody. */
void rp_process_finish(struct rp_process *p, bool lost);
/* The note that an ended process leaves in its ring. True when there was one. */
bool rp_process_read_note(struct rp_process *p);
/* Frees memory, watchers and outputs; remove: the rings' files too. */
void rp_process_destroy(struct rp_process *p, bool remove, bool server_stops);
/* The streams that a process of these flags has, a bit per RP_STREAM_*. */
unsigned rp_process_streams(unsigned flags);
void rp_process_append(struct rp_process_set *set, struct rp_process *p);
void rp_process_set_sweep_soon(struct rp_process_set *set);

/* ---- process_set.c ---- */

int rp_process_make_directory(const char *path, struct rp_error *err);
void rp_process_set_free_all(struct rp_process_set *set, bool remove, bool server_stops);
/* Calls each(set, name) for every ring of the project but the log. */
void rp_process_set_each_ring(struct rp_process_set *set,
                              void (*each)(struct rp_process_set *set, const char *name));
void rp_process_set_remove_ring(struct rp_process_set *set, const char *name);
void rp_process_set_became_ready(struct rp_process_set *set, bool adopted);

/* ---- adopt.c ---- */

void rp_process_set_abandon_adoption(struct rp_process_set *set);

/* ---- watcher.c ---- */

void rp_watchers_input(struct rp_process *p, bool full);
void rp_watchers_size(struct rp_process *p);
/* Tells those that have seen everything that it ended. */
void rp_watchers_ended(struct rp_process *p);
void rp_watchers_gone(struct rp_process *p, bool server_stops);

#endif
