/*
 * reconcile.c: at start: what the records say against what the driver finds. Nothing is believed from memory:
 * the orchestrator may have been killed between any two steps.
 *
 * record \ driver    alive      dead or half made    nothing
 * running            adopted    removed              record removed
 * starting           removed    removed              record removed
 * none               removed    removed              -
 */
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "orchestrator/lifecycle_internal.h"

struct found {
    char (*ids)[RP_ID_SIZE];
    bool *known; /* a record names it */
    size_t count, allocated;
    struct rp_lifecycle *lifecycle;
    unsigned adopted, undone;
};

static void found_one(void *ctx, const char *id)
{
    struct found *f = ctx;
    if (f->count == f->allocated) {
        f->allocated = f->allocated ? f->allocated * 2 : 64;
        f->ids = rp_realloc(f->ids, f->allocated * sizeof(*f->ids));
        f->known = rp_realloc(f->known, f->allocated * sizeof(*f->known));
    }
    if (rp_str_copy(f->ids[f->count], RP_ID_SIZE, rp_str_of(id)))
        f->known[f->count++] = false;
}

/* A descriptor to watch when the sandbox is whole and alive, else -1. */
static int adopt(struct rp_driver *d, const struct rp_record *r)
{
    struct rp_sandbox_ended ended;
    if (!r->running || d->ops->alive(d, r->instance, &ended, NULL) < 0 || ended.ended)
        return -1;
    return d->ops->watch(d, r->instance, NULL);
}

static void remove_it(struct found *f, const struct rp_record *r)
{
    /* Two records of one project: a crash between the end of one sandbox and the start of the next. Each
     * needs a queue of its own. */
    struct slot *slot = rp_slot_get(f->lifecycle, r->project);
    if (slot->sandbox)
        slot = rp_slot_get(f->lifecycle, r->sandbox);
    if (slot->sandbox)
        return;
    rp_sandbox_add(slot, r, PHASE_ENDING);
    rp_slot_cleanup(slot, false);
    f->undone++;
}

static void each_record(void *ctx, const struct rp_record *r)
{
    struct found *f = ctx;
    bool exists = false;
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->ids[i], r->instance) == 0)
            exists = f->known[i] = true;
    int watch = exists ? adopt(f->lifecycle->options.driver, r) : -1;
    struct slot *slot = rp_slot_get(f->lifecycle, r->project);
    if (watch >= 0 && !slot->sandbox) {
        rp_sandbox_runs(rp_sandbox_add(slot, r, PHASE_RUNNING), watch);
        f->adopted++;
        return;
    }
    rp_close_fd(&watch);
    remove_it(f, r);
}

void rp_lifecycle_reconciled(struct rp_lifecycle *l)
{
    if (--l->reconciling > 0 || l->ready)
        return;
    l->ready = true;
    l->events->ready(l->ctx);
}

int rp_lifecycle_reconcile(struct rp_lifecycle *l, struct rp_error *err)
{
    struct rp_driver *d = l->options.driver;
    struct found f = {.lifecycle = l};
    l->in_reconcile = true;
    l->reconciling = 1;
    int r = d->ops->list(d, found_one, &f, err);
    if (r == 0)
        r = rp_record_load_all(l->options.records, each_record, &f, err);
    for (size_t i = 0; r == 0 && i < f.count; i++) {
        if (f.known[i])
            continue;
        struct rp_record unknown = {0};
        memcpy(unknown.sandbox, f.ids[i], RP_ID_SIZE);
        memcpy(unknown.instance, f.ids[i], RP_ID_SIZE);
        memcpy(unknown.project, f.ids[i], RP_ID_SIZE);
        remove_it(&f, &unknown);
    }
    l->in_reconcile = false;
    free(f.ids);
    free(f.known);
    if (r < 0)
        return -1;
    if (f.adopted || f.undone) {
        char adopted[16], undone[16];
        snprintf(adopted, sizeof(adopted), "%u", f.adopted);
        snprintf(undone, sizeof(undone), "%u", f.undone);
        rp_log(RP_LOG_INFO, "reconciled", "adopted", adopted, "removed", undone, NULL);
    }
    l->warm = rp_warm_new(d, l->options.warm);
    rp_lifecycle_reconciled(l);
    return 0;
}
