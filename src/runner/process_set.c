/*
 * process_set.c: a project's processes: which there are, and what happens to them when the sandbox or the
 * server comes and goes.
 */
#include <sys/stat.h>

#include "runner/process_internal.h"

enum {
    ENDED_TERMINALS_KEPT = 8,
    ENDED_OTHERS_KEPT = 24,
    REMOVE_GRACE_MS = 2000,
};

#define LOG_RING "log"

/* ---- the module ---- */

int rp_process_make_directory(const char *path, struct rp_error *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", path);
    return 0;
}

int rp_processes_new(struct rp_loop *loop, const char *runtime_dir, uint64_t ring_size,
                     struct rp_processes **ret, struct rp_error *err)
{
    _cleanup_free_ char *directory = rp_asprintf("%s/rings", runtime_dir);
    if (rp_process_make_directory(directory, err) < 0)
        return -1;
    struct rp_processes *all = rp_calloc(1, sizeof(*all));
    all->loop = loop;
    all->directory = RP_STEAL_PTR(directory);
    all->ring_size = ring_size;
    all->watchdog = rp_watchdog_new(0);
    *ret = all;
    return 0;
}

void rp_processes_set_hooks(struct rp_processes *all, const struct rp_processes_hooks *hooks, void *ctx)
{
    all->hooks = *hooks;
    all->hooks_ctx = ctx;
}

void rp_processes_free(struct rp_processes *all)
{
    if (!all)
        return;
    rp_watchdog_free(all->watchdog);
    free(all->directory);
    free(all);
}

/* ---- the list ---- */

void rp_process_append(struct rp_process_set *set, struct rp_process *p)
{
    p->next = NULL;
    if (set->last)
        set->last->next = p;
    else
        set->first = p;
    set->last = p;
}

static void take(struct rp_process_set *set, struct rp_process *p)
{
    struct rp_process *before = NULL;
    for (struct rp_process *at = set->first; at && at != p; at = at->next)
        before = at;
    if (before)
        before->next = p->next;
    else
        set->first = p->next;
    if (set->last == p)
        set->last = before;
    p->next = NULL;
}

struct rp_process *rp_process_next(struct rp_process_set *set, struct rp_process *p)
{
    p = p ? p->next : set->first;
    while (p && p->removed)
        p = p->next;
    return p;
}

struct rp_process *rp_process_find(struct rp_process_set *set, uint64_t id)
{
    for (struct rp_process *p = rp_process_next(set, NULL); p; p = rp_process_next(set, p))
        if (p->id == id)
            return p;
    return NULL;
}

struct rp_process *rp_process_find_text(struct rp_process_set *set, struct rp_str id)
{
    for (struct rp_process *p = rp_process_next(set, NULL); p; p = rp_process_next(set, p))
        if (rp_str_is(id, p->id_text))
            return p;
    return NULL;
}

struct rp_process *rp_process_running(struct rp_process_set *set, enum rp_process_kind kind)
{
    struct rp_process *found = NULL;
    for (struct rp_process *p = rp_process_next(set, NULL); p; p = rp_process_next(set, p))
        if (p->kind == kind && !p->ended)
            found = p;
    return found;
}

void rp_process_remove(struct rp_process *p)
{
    if (p->removed)
        return;
    p->removed = true;
    if (!p->ended)
        rp_process_stop(p, REMOVE_GRACE_MS);
    rp_process_set_sweep_soon(p->set);
}

/* ---- what is done from the loop: answers to refused spawns, and frees ---- */

static void answer_refused(struct rp_process_set *set)
{
    for (struct rp_process **at = &set->starting; *at;) {
        struct rp_process *p = *at;
        if (!p->is_refused) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        struct rp_error err = p->refused;
        rp_process_fn *fn = p->spawned;
        void *ctx = p->spawned_ctx;
        rp_process_destroy(p, true, false);
        fn(ctx, NULL, &err);
        at = &set->starting; /* the answer may have spawned */
    }
}

/* The oldest ended ones over what is kept are removed. */
static void limit_ended(struct rp_process_set *set)
{
    unsigned terminals = 0, others = 0;
    for (struct rp_process *p = set->first; p; p = p->next)
        if (p->ended && !p->removed)
            (*(p->kind == RP_PROCESS_TERMINAL ? &terminals : &others))++;
    for (struct rp_process *p = set->first; p; p = p->next) {
        unsigned *n = p->kind == RP_PROCESS_TERMINAL ? &terminals : &others;
        unsigned kept = p->kind == RP_PROCESS_TERMINAL ? ENDED_TERMINALS_KEPT : ENDED_OTHERS_KEPT;
        if (p->ended && !p->removed && *n > kept) {
            p->removed = true;
            (*n)--;
        }
    }
}

static void on_sweep(void *ctx)
{
    struct rp_process_set *set = ctx;
    answer_refused(set);
    limit_ended(set);
    for (struct rp_process *p = set->first, *next; p; p = next) {
        next = p->next;
        /* a running one stays in the list, hidden, until it has ended */
        if (!p->removed || !p->ended)
            continue;
        take(set, p);
        set->events.changed(set->ctx, p, RP_PROCESS_REMOVED);
        rp_process_destroy(p, true, false);
    }
}

void rp_process_set_sweep_soon(struct rp_process_set *set)
{
    rp_timer_start(set->sweep, 0, 0);
}

/* ---- ready ---- */

bool rp_process_set_is_ready(const struct rp_process_set *set)
{
    return !set->adopting;
}

static void on_ready_timer(void *ctx)
{
    struct rp_process_set *set = ctx;
    while (set->waits && !set->adopting) {
        struct ready_wait *w = set->waits;
        set->waits = w->next;
        void (*fn)(void *) = w->fn;
        void *fn_ctx = w->ctx;
        free(w);
        fn(fn_ctx);
    }
}

void rp_process_set_wait_ready(struct rp_process_set *set, void (*fn)(void *ctx), void *ctx)
{
    struct ready_wait *w = rp_calloc(1, sizeof(*w));
    w->fn = fn;
    w->ctx = ctx;
    struct ready_wait **at = &set->waits;
    while (*at)
        at = &(*at)->next;
    *at = w;
    if (!set->adopting)
        rp_timer_start(set->ready_timer, 0, 0);
}

void rp_process_set_wait_cancel(struct rp_process_set *set, void (*fn)(void *ctx), void *ctx)
{
    for (struct ready_wait **at = &set->waits; *at; at = &(*at)->next) {
        if ((*at)->fn == fn && (*at)->ctx == ctx) {
            struct ready_wait *w = *at;
            *at = w->next;
            free(w);
            return;
        }
    }
}

void rp_process_set_became_ready(struct rp_process_set *set, bool adopted)
{
    set->adopting = false;
    if (set->all->hooks.ready)
        set->all->hooks.ready(set->all->hooks_ctx, set, adopted);
    rp_timer_start(set->ready_timer, 0, 0);
}

/* ---- a set ---- */

struct rp_process_set *rp_process_set_new(struct rp_processes *all, const char *project,
                                          const struct rp_process_set_events *events, void *ctx)
{
    struct rp_process_set *set = rp_calloc(1, sizeof(*set));
    set->all = all;
    if (!rp_str_copy(set->project, sizeof(set->project), rp_str_of(project)))
        abort(); /* ids are checked where they come in */
    set->directory = rp_asprintf("%s/%s", all->directory, project);
    set->events = *events;
    set->ctx = ctx;
    set->sweep = rp_timer_new(all->loop, on_sweep, set);
    set->ready_timer = rp_timer_new(all->loop, on_ready_timer, set);
    struct rp_ring *ring;
    if (rp_ring_open(set->directory, LOG_RING, &ring, NULL) == 0)
        set->log = rp_output_new(all->loop, ring);
    return set;
}

void *rp_process_set_owner(const struct rp_process_set *set)
{
    return set->ctx;
}

void rp_process_set_free_all(struct rp_process_set *set, bool remove, bool server_stops)
{
    while (set->first) {
        struct rp_process *p = set->first;
        take(set, p);
        rp_process_destroy(p, remove, server_stops);
    }
}

void rp_process_set_free(struct rp_process_set *set)
{
    if (!set)
        return;
    rp_process_set_abandon_adoption(set);
    set->sandbox = NULL;
    answer_refused(set);
    for (struct rp_process *p = set->starting; p; p = p->next)
        p->set = NULL; /* their answers come when the sandbox is freed */
    rp_process_set_free_all(set, false, true);
    while (set->waits) {
        struct ready_wait *w = set->waits;
        set->waits = w->next;
        free(w);
    }
    rp_output_free(set->log, false);
    rp_timer_free(set->sweep);
    rp_timer_free(set->ready_timer);
    free(set->directory);
    free(set);
}

/* Calls each(ctx, name) for every ring of the project but the log. */
void rp_process_set_each_ring(struct rp_process_set *set,
                              void (*each)(struct rp_process_set *set, const char *name))
{
    _cleanup_dir_ DIR *dir = opendir(set->directory);
    struct dirent *e;
    while (dir && (e = readdir(dir)))
        if (e->d_name[0] != '.' && strcmp(e->d_name, LOG_RING) != 0)
            each(set, e->d_name);
}

void rp_process_set_remove_ring(struct rp_process_set *set, const char *name)
{
    _cleanup_free_ char *path = rp_asprintf("%s/%s", set->directory, name);
    unlink(path);
}

void rp_process_set_delete_rings(struct rp_process_set *set)
{
    rp_process_set_free_all(set, true, false);
    rp_output_free(set->log, true);
    set->log = NULL;
    rp_process_set_each_ring(set, rp_process_set_remove_ring);
    rmdir(set->directory);
}

/* ---- the sandbox ends ---- */

void rp_process_set_detach(struct rp_process_set *set)
{
    rp_process_set_abandon_adoption(set);
    set->sandbox = NULL;
    set->generation++;
    for (struct rp_process *p = rp_process_next(set, NULL); p; p = rp_process_next(set, p)) {
        if (p->ended)
            continue;
        p->adopted = false;
        rp_process_finish(p, !p->exited);
    }
    rp_process_set_free_all(set, true, false);
    if (set->adopting)
        rp_process_set_became_ready(set, false);
}

void rp_process_set_exited(struct rp_process_set *set, uint64_t id, const struct rp_exit *exit)
{
    for (struct rp_process *p = set->first; p; p = p->next)
        if (p->id == id) {
            rp_process_exited(p, exit);
            return;
        }
    for (struct rp_process *p = set->starting; p; p = p->next)
        if (p->id == id) {
            rp_process_exited(p, exit);
            return;
        }
}

/* ---- the log ---- */

struct rp_output *rp_process_set_log(struct rp_process_set *set)
{
    struct rp_ring *ring;
    struct rp_error err;
    if (!set->log && rp_process_make_directory(set->directory, &err) == 0 &&
        (rp_ring_open(set->directory, LOG_RING, &ring, NULL) == 0 ||
         (rp_process_set_remove_ring(set, LOG_RING),
          rp_ring_create(set->directory, LOG_RING, set->all->ring_size, RP_STR(""), &ring, NULL) == 0)))
        set->log = rp_output_new(set->all->loop, ring);
    return set->log;
}

void rp_process_set_log_begin(struct rp_process_set *set)
{
    if (rp_process_set_log(set))
        rp_ring_set_mark(rp_output_ring(set->log), rp_ring_end(rp_output_ring(set->log)));
}

void rp_process_set_log_write(struct rp_process_set *set, struct rp_str text)
{
    if (rp_process_set_log(set) && rp_ring_write(rp_output_ring(set->log), text) == 0)
        rp_output_advanced(set->log);
}

uint64_t rp_process_set_log_start(struct rp_process_set *set)
{
    return rp_process_set_log(set) ? rp_ring_mark(rp_output_ring(set->log)) : 0;
}
