/*
 * adopt.c: what a project's processes are when a sandbox is attached: none after a start; after a restart of
 * the server those that init still has, found by their labels, and those that had ended, found by their
 * rings.
 */
#include "runner/process_internal.h"

/* The id in a ring's name "<16 hexadecimal digits>.<stream>", or 0. */
static uint64_t ring_id(const char *name)
{
    uint64_t id = 0;
    for (int i = 0; i < RP_PROCESS_ID_LENGTH; i++) {
        int digit = name[i] >= '0' && name[i] <= '9'   ? name[i] - '0'
                    : name[i] >= 'a' && name[i] <= 'f' ? name[i] - 'a' + 10
                                                       : -1;
        if (digit < 0)
            return 0;
        id = id << 4 | (uint64_t)digit;
    }
    return name[RP_PROCESS_ID_LENGTH] == '.' && name[RP_PROCESS_ID_LENGTH + 1] &&
                   !name[RP_PROCESS_ID_LENGTH + 2]
               ? id
               : 0;
}

/* A ring whose process init does not have: one that ended before the server did, or a spawn that never was.
 */
static void adopt_ring(struct rp_process_set *set, const char *name)
{
    uint64_t id = ring_id(name);
    struct rp_ring *ring;
    if (id && rp_process_find(set, id))
        return;
    if (!id || rp_ring_open(set->directory, name, &ring, NULL) < 0) {
        rp_process_set_remove_ring(set, name);
        return;
    }
    struct rp_process *p = rp_process_from_label(set, id, rp_ring_meta(ring));
    if (p)
        rp_ring_size(ring, &p->cols, &p->rows);
    rp_ring_close(ring);
    if (p && !(p->flags & RP_PROCESS_LOG) && rp_process_open_outputs(p, NULL) == 0 &&
        rp_process_read_note(p)) {
        rp_process_append(set, p);
        return;
    }
    if (p)
        rp_process_destroy(p, true, false);
    else
        rp_process_set_remove_ring(set, name);
}

static void sort_by_start(struct rp_process_set *set)
{
    struct rp_process *rest = set->first;
    set->first = set->last = NULL;
    while (rest) {
        struct rp_process **best = &rest;
        for (struct rp_process **at = &rest; *at; at = &(*at)->next)
            if ((*at)->started_at < (*best)->started_at)
                best = at;
        struct rp_process *p = *best;
        *best = p->next;
        rp_process_append(set, p);
    }
}

/* The requests of one adoption. It is abandoned (set NULL) when the sandbox or the set goes away under it,
 * and freed when the last of them is answered. */
struct adoption {
    struct rp_process_set *set;
    unsigned waiting;
};

struct reopen {
    struct adoption *adoption;
    uint64_t id;
};

void rp_process_set_abandon_adoption(struct rp_process_set *set)
{
    if (set->adoption)
        set->adoption->set = NULL;
    set->adoption = NULL;
}

/* Reports those that ended while no server was there. */
static void report_exits(struct rp_process_set *set)
{
    uint64_t generation = set->generation;
    for (struct rp_process *p = set->first; p; p = p->next) {
        if (!p->exited || p->ended)
            continue;
        struct rp_exit exit = p->exit;
        p->exited = false;
        rp_process_exited(p, &exit);
        if (set->generation != generation)
            return; /* whoever was told stopped the project */
    }
}

static void adoption_done(struct adoption *a)
{
    struct rp_process_set *set = a->set;
    if (--a->waiting)
        return;
    free(a);
    if (!set)
        return;
    set->adoption = NULL;
    rp_process_set_each_ring(set, adopt_ring);
    sort_by_start(set);
    rp_process_set_became_ready(set, true);
    report_exits(set);
}

static void on_reopened(void *ctx, const int fds[STREAMS], uint32_t pid, const struct rp_error *err)
{
    struct reopen *r = ctx;
    struct rp_process_set *set = r->adoption->set;
    int owned[STREAMS] = {-1, -1, -1, -1};
    if (!err)
        memcpy(owned, fds, sizeof(owned));
    struct rp_process *p = set ? rp_process_find(set, r->id) : NULL;
    if (p) {
        p->adopted = false;
        if (!err)
            rp_process_start_pumps(p, owned);
    }
    for (int i = 0; i < STREAMS; i++)
        rp_close_fd(&owned[i]);
    adoption_done(r->adoption);
    free(r);
}

static void on_listed(void *ctx, const struct rp_sandbox_process_info *info)
{
    struct adoption *a = ctx;
    struct rp_process_set *set = a->set;
    if (!set || rp_process_find(set, info->id))
        return;
    struct rp_process *p = rp_process_from_label(set, info->id, info->label);
    if (!p)
        return;
    bool pty = info->flags & RP_SPAWN_PTY;
    if (pty != !!(p->flags & RP_PROCESS_PTY) || rp_process_open_outputs(p, NULL) < 0) {
        rp_process_destroy(p, false, false);
        return;
    }
    p->pid = info->pid;
    p->exited = info->exited;
    p->exit = info->exit;
    if (pty && !(p->flags & RP_PROCESS_LOG))
        rp_ring_size(rp_output_ring(p->outputs[RP_STREAM_PTY]), &p->cols, &p->rows);
    p->adopted = true;
    rp_process_append(set, p);
}

static void on_list_done(void *ctx, const struct rp_error *err)
{
    struct adoption *a = ctx;
    struct rp_process_set *set = a->set;
    /* An error means that the sandbox breaks; detach will follow. */
    for (struct rp_process *p = set && !err ? set->first : NULL; p; p = p->next) {
        struct reopen *r = rp_calloc(1, sizeof(*r));
        r->adoption = a;
        r->id = p->id;
        a->waiting++;
        rp_sandbox_reopen(set->sandbox, p->id, on_reopened, r);
    }
    adoption_done(a);
}

void rp_process_set_attach(struct rp_process_set *set, struct rp_sandbox *s, bool adopted)
{
    rp_process_set_abandon_adoption(set);
    set->sandbox = s;
    set->generation++;
    /* where this fails, making a ring says so to whoever starts a process */
    (void)rp_process_make_directory(set->directory, NULL);
    if (!adopted) {
        rp_process_set_free_all(set, true, false);
        rp_process_set_each_ring(set, rp_process_set_remove_ring);
        rp_process_set_became_ready(set, false);
        return;
    }
    set->adopting = true;
    set->adoption = rp_calloc(1, sizeof(*set->adoption));
    set->adoption->set = set;
    set->adoption->waiting = 1;
    rp_sandbox_list(s, on_listed, on_list_done, set->adoption);
}
