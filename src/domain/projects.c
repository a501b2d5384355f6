/*
 * projects.c: the table of all projects, and bringing it and the orchestrator together.
 */
#include "domain/projects.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/project_internal.h"

/* ---- the table ---- */

static size_t bucket_of(const struct rp_projects *all, const char *id)
{
    uint64_t h = 1469598103934665603ULL; /* FNV-1a; the ids are random */
    for (; *id; id++)
        h = (h ^ (unsigned char)*id) * 1099511628211ULL;
    return (size_t)(h & (all->bucket_count - 1));
}

static void grow(struct rp_projects *all)
{
    struct rp_project **old = all->buckets;
    size_t old_count = all->bucket_count;
    all->bucket_count = old_count ? old_count * 2 : 256;
    all->buckets = rp_calloc(all->bucket_count, sizeof(struct rp_project *));
    for (size_t i = 0; i < old_count; i++) {
        for (struct rp_project *p = old[i], *next; p; p = next) {
            next = p->bucket_next;
            size_t at = bucket_of(all, p->record.id);
            p->bucket_next = all->buckets[at];
            all->buckets[at] = p;
        }
    }
    free(old);
}

/* Order of creation, ids where two were made in one microsecond. */
static bool is_older(const struct rp_project *p, int64_t created_at, struct rp_str id)
{
    if (p->record.created_at != created_at)
        return p->record.created_at < created_at;
    return strcmp(p->record.id, id.p) < 0;
}

/* Takes the caller's reference over. */
void rp_projects_add(struct rp_projects *all, struct rp_project *p)
{
    if (all->count >= all->bucket_count)
        grow(all);
    size_t at = bucket_of(all, p->record.id);
    p->bucket_next = all->buckets[at];
    all->buckets[at] = p;
    all->count++;
    p->listed = true;
    struct rp_project *newer = NULL, *older = all->newest;
    while (older && !is_older(older, p->record.created_at, rp_str_of(p->record.id))) {
        newer = older;
        older = older->older;
    }
    p->newer = newer;
    p->older = older;
    *(newer ? &newer->older : &all->newest) = p;
    *(older ? &older->newer : &all->oldest) = p;
}

/* Gives the table's reference to the caller. */
void rp_projects_remove(struct rp_projects *all, struct rp_project *p)
{
    struct rp_project **link = &all->buckets[bucket_of(all, p->record.id)];
    while (*link != p)
        link = &(*link)->bucket_next;
    *link = p->bucket_next;
    all->count--;
    p->listed = false;
    *(p->newer ? &p->newer->older : &all->newest) = p->older;
    *(p->older ? &p->older->newer : &all->oldest) = p->newer;
    p->newer = p->older = p->bucket_next = NULL;
}

struct rp_project *rp_projects_find(struct rp_projects *all, struct rp_str id)
{
    char text[RP_ID_SIZE];
    if (!rp_id_valid(id.p, id.n) || !rp_str_copy(text, sizeof text, id) || !all->bucket_count)
        return NULL;
    struct rp_project *p = all->buckets[bucket_of(all, text)];
    while (p && strcmp(p->record.id, text) != 0)
        p = p->bucket_next;
    return p;
}

size_t rp_projects_count(const struct rp_projects *all)
{
    return all->count;
}

struct rp_project *rp_projects_older(struct rp_projects *all, const struct rp_project *before)
{
    return before ? before->older : all->newest;
}

struct rp_project *rp_projects_older_than(struct rp_projects *all, int64_t created_at, struct rp_str id)
{
    struct rp_project *p = rp_projects_find(all, id);
    if (p)
        return p->older;
    for (p = all->newest; p && !is_older(p, created_at, id); p = p->older)
        ;
    return p;
}

struct rp_orchestrator *rp_projects_orchestrator(struct rp_projects *all)
{
    return all->orchestrator;
}

const struct rp_stacks *rp_projects_stacks(const struct rp_projects *all)
{
    return all->parts.stacks;
}

const struct rp_settings *rp_projects_settings(const struct rp_projects *all)
{
    return all->parts.settings;
}

/* ---- settling at start ---- */

static void settle(void *ctx)
{
    struct rp_projects *all = ctx;
    void (*fn)(void *) = all->settled;
    if (!fn)
        return;
    all->settled = NULL;
    rp_timer_stop(all->settle_timer);
    fn(all->settled_ctx);
}

void rp_projects_adopted_one(struct rp_projects *all)
{
    if (all->adopting && --all->adopting == 0 && all->reconciled)
        settle(all);
}

/* ---- the orchestrator ---- */

static void stray_stopped(void *ctx, const struct rp_error *err)
{
    if (err)
        rp_log(RP_LOG_WARNING, "stray sandbox not stopped", "why", err->message, NULL);
}

static bool listed_in(const struct rp_orchestrator_sandbox *list, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].sandbox, id) == 0)
            return true;
    return false;
}

/* The record names a sandbox that is not there (any more). */
static void lost_at_start(struct rp_project *p)
{
    bool rebooted = strcmp(p->record.boot_id, p->all->parts.settings->boot_id) != 0;
    bool again = p->record.always_on && p->record.wanted;
    rp_log(RP_LOG_INFO, "sandbox not there any more", "project", p->record.id, "sandbox", p->record.sandbox,
           "rebooted", rebooted ? "yes" : "no", NULL);
    p->record.sandbox[0] = '\0';
    if (!again)
        p->record.wanted = p->record.run_wanted = false;
    rp_project_set_reason(p, rebooted ? "the machine was restarted"
                                      : "its sandbox ended while the server was down");
    rp_project_save(p, NULL, NULL);
    if (again) {
        p->restart_at_ms = rp_project_now(p);
        rp_project_set_live(p, true);
    }
}

static bool has_slot(const struct rp_project *p, const char *id)
{
    return p->slot != SLOT_NONE && strcmp(p->slot_id, id) == 0;
}

static void adopt_or_stop(struct rp_projects *all, const struct rp_orchestrator_sandbox *s)
{
    struct rp_project *p = rp_projects_find(all, rp_str_of(s->project));
    if (p && has_slot(p, s->sandbox))
        return;
    for (struct rp_project *live = all->live; live; live = live->live_next)
        if (has_slot(live, s->sandbox))
            return; /* of a project that is being made */
    if (p && p->slot == SLOT_NONE && p->record.wanted && strcmp(p->record.sandbox, s->sandbox) == 0) {
        all->adopting += !all->reconciled;
        rp_project_adopt(p);
        return;
    }
    rp_log(RP_LOG_INFO, "stopping a sandbox that nobody knows", "sandbox", s->sandbox, "project", s->project,
           NULL);
    rp_orchestrator_stop(all->orchestrator, s->sandbox, 0, stray_stopped, NULL);
}

struct list_call {
    struct rp_projects *all;
    unsigned epoch;
};

static void listed(void *ctx, const struct rp_orchestrator_sandbox *list, size_t count,
                   const struct rp_error *err)
{
    struct list_call *c = ctx;
    struct rp_projects *all = c->all;
    unsigned epoch = c->epoch;
    free(c);
    if (epoch != all->epoch)
        return; /* the next connection lists again */
    if (err) {
        rp_log(RP_LOG_WARNING, "sandboxes not listed", "why", err->message, NULL);
        rp_timer_start(all->relist, RELIST_MS, 0);
        return;
    }
    for (size_t i = 0; i < count; i++)
        adopt_or_stop(all, &list[i]);
    for (struct rp_project *p = all->newest, *older; p; p = older) {
        older = p->older;
        if (p->slot == SLOT_NONE && p->record.sandbox[0]) {
            lost_at_start(p);
        } else if ((p->slot == SLOT_UP || p->slot == SLOT_HELLO) && p->slot_epoch != epoch) {
            /* what began on this connection may be younger than the list */
            struct rp_error gone = {0};
            (void)rp_error_set(&gone, RP_ERROR_SANDBOX, "the sandbox ended while the orchestrator was away");
            if (listed_in(list, count, p->slot_id))
                p->slot_epoch = epoch;
            else
                rp_project_gone(p, &gone);
        }
    }
    bool first = !all->reconciled;
    all->reconciled = true;
    if (first)
        rp_projects_finish_deletions(all);
    if (!all->adopting)
        settle(all);
}

static void list_sandboxes(void *ctx)
{
    struct rp_projects *all = ctx;
    struct list_call *c = rp_calloc(1, sizeof *c);
    *c = (struct list_call){all, all->epoch};
    rp_orchestrator_list(all->orchestrator, listed, c);
}

static void on_connected(void *ctx, const struct rp_orchestrator_info *info)
{
    struct rp_projects *all = ctx;
    all->epoch++;
    rp_timer_stop(all->relist);
    list_sandboxes(all);
}

static void on_disconnected(void *ctx)
{
    rp_log(RP_LOG_WARNING, "orchestrator away", NULL);
}

static struct rp_project *by_sandbox(struct rp_projects *all, const char *id)
{
    struct rp_project *p = all->live;
    while (p && !has_slot(p, id))
        p = p->live_next;
    return p;
}

static void on_gone(void *ctx, const char *sandbox, const struct rp_error *why)
{
    struct rp_project *p = by_sandbox(ctx, sandbox);
    if (!p)
        return;
    rp_log(RP_LOG_WARNING, "sandbox ended by itself", "project", p->record.id, "sandbox", sandbox, "why",
           why->message, NULL);
    rp_project_ref(p);
    rp_project_gone(p, why);
    rp_project_unref(p);
}

static void on_oom(void *ctx, const char *sandbox, uint32_t step)
{
    struct rp_project *p = by_sandbox(ctx, sandbox);
    if (!p)
        return;
    rp_log(RP_LOG_INFO, "out of memory in a sandbox", "project", p->record.id, "step",
           step == RP_STEP_INSTALL ? "install" : "user", NULL);
    rp_run_oom(p);
}

static const struct rp_orchestrator_events orchestrator_events = {
    .on_connected = on_connected,
    .on_disconnected = on_disconnected,
    .on_gone = on_gone,
    .on_oom = on_oom,
};

/* ---- life ---- */

static void tick(void *ctx)
{
    struct rp_projects *all = ctx;
    if (!all->live) {
        rp_timer_stop(all->tick);
        return;
    }
    for (struct rp_project *p = all->live, *next; p; p = next) {
        rp_project_ref(p);
        rp_project_tick(p);
        next = p->live_link ? p->live_next
                            : NULL; /* it may have left the list: the rest has its turn next time */
        rp_project_unref(p);
    }
}

struct rp_projects *rp_projects_new(const struct rp_projects_parts *parts)
{
    struct rp_projects *all = rp_calloc(1, sizeof *all);
    all->parts = *parts;
    all->tick = rp_timer_new(parts->loop, tick, all);
    all->settle_timer = rp_timer_new(parts->loop, settle, all);
    all->relist = rp_timer_new(parts->loop, list_sandboxes, all);
    grow(all);
    rp_processes_set_hooks(parts->processes, &rp_run_hooks, all);
    return all;
}

static void load_one(void *ctx, const struct rp_project_record *r)
{
    struct rp_projects *all = ctx;
    struct rp_project *p = rp_project_new(all, r);
    if (r->created_at)
        p->since = r->updated_at;
    rp_projects_add(all, p);
}

static void load_unsettled(void *ctx, const char *project)
{
    struct rp_projects *all = ctx;
    if (!rp_id_valid(project, strlen(project)))
        return;
    all->unsettled = rp_realloc(all->unsettled, (all->unsettled_count + 1) * sizeof *all->unsettled);
    memcpy(all->unsettled[all->unsettled_count++], project, RP_ID_SIZE);
}

int rp_projects_load(struct rp_projects *all, struct rp_error *err)
{
    if (rp_store_projects_load(all->parts.store, load_one, all, err) < 0)
        return -1;
    return rp_store_unsettled_load(all->parts.store, load_unsettled, all, err);
}

void rp_projects_connect(struct rp_projects *all, const char *orchestrator_socket, void (*settled)(void *ctx),
                         void *ctx)
{
    all->settled = settled;
    all->settled_ctx = ctx;
    /* without anything to adopt nobody needs to wait for the other side */
    bool expected = false;
    for (struct rp_project *p = all->newest; p && !expected; p = p->older)
        expected = p->record.sandbox[0] != '\0';
    rp_timer_start(all->settle_timer, expected ? SETTLE_MS : 0, 0);
    all->orchestrator = rp_orchestrator_new(all->parts.loop, orchestrator_socket, &orchestrator_events, all);
}

void rp_projects_close(struct rp_projects *all)
{
    all->settled = NULL;
    rp_timer_stop(all->tick);
    for (struct rp_project *p = all->newest; p; p = p->older)
        rp_project_observers_closing(p);
}

void rp_projects_free(struct rp_projects *all)
{
    if (!all)
        return;
    rp_orchestrator_free(all->orchestrator);
    all->orchestrator = NULL;
    for (struct rp_project *p = all->newest, *older; p; p = older) {
        older = p->older;
        rp_projects_remove(all, p);
        rp_project_leave(p);
        rp_project_unref(p);
    }
    rp_timer_free(all->tick);
    rp_timer_free(all->settle_timer);
    rp_timer_free(all->relist);
    free(all->unsettled);
    free(all->buckets);
    free(all);
}
