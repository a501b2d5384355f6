/*
 * project.c: a project's memory, its record in the store, who listens to it and who observes it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/project_internal.h"

/* ---- waiters ---- */

void waiters_init(struct waiters *w)
{
    w->first = NULL;
    w->last = &w->first;
}

void waiters_add(struct waiters *w, rp_project_fn *fn, void *ctx)
{
    if (!fn)
        return;
    struct waiter *one = rp_calloc(1, sizeof *one);
    one->fn = fn;
    one->ctx = ctx;
    *w->last = one;
    w->last = &one->next;
}

void waiters_answer(struct waiters *w, struct rp_project *p, const struct rp_error *err)
{
    struct waiter *one = w->first;
    if (!one)
        return;
    waiters_init(w);
    rp_project_ref(p);
    while (one) {
        struct waiter *next = one->next;
        one->fn(one->ctx, p, err);
        free(one);
        one = next;
    }
    rp_project_unref(p);
}

static void waiters_drop(struct waiters *w)
{
    for (struct waiter *one = w->first, *next; one; one = next) {
        next = one->next;
        free(one);
    }
    waiters_init(w);
}

/* ---- memory ---- */

struct rp_project *rp_project_new(struct rp_projects *all, const struct rp_project_record *r)
{
    struct rp_project *p = rp_calloc(1, sizeof *p);
    p->references = 1;
    p->all = all;
    rp_project_record_copy(&p->record, r);
    p->stack = rp_stacks_find(all->parts.stacks, rp_str_of(r->stack));
    p->since = rp_clock_wall_us();
    p->shown = RP_PROJECT_STOPPED;
    waiters_init(&p->start_waiters);
    waiters_init(&p->stop_waiters);
    waiters_init(&p->files_waiters);
    waiters_init(&p->run_waiters);
    waiters_init(&p->run_stop_waiters);
    waiters_init(&p->save_waiters);
    waiters_init(&p->save_next_waiters);
    return p;
}

struct rp_project *rp_project_ref(struct rp_project *p)
{
    p->references++;
    return p;
}

void rp_project_unref(struct rp_project *p)
{
    if (!p || --p->references)
        return;
    rp_project_set_live(p, false);
    rp_sandbox_free(p->sandbox);
    while (p->listeners)
        rp_listener_free(p->listeners);
    waiters_drop(&p->start_waiters);
    waiters_drop(&p->stop_waiters);
    waiters_drop(&p->files_waiters);
    waiters_drop(&p->run_waiters);
    waiters_drop(&p->run_stop_waiters);
    waiters_drop(&p->save_waiters);
    waiters_drop(&p->save_next_waiters);
    rp_run_clear_watched(p);
    rp_project_record_done(&p->record);
    free(p);
}

void rp_project_set_live(struct rp_project *p, bool live)
{
    if (live == (p->live_link != NULL))
        return;
    if (live) {
        struct rp_projects *all = p->all;
        p->live_next = all->live;
        p->live_link = &all->live;
        if (all->live)
            all->live->live_link = &p->live_next;
        all->live = p;
        if (!rp_timer_active(all->tick))
            rp_timer_start(all->tick, TICK_MS, TICK_MS);
    } else {
        *p->live_link = p->live_next;
        if (p->live_next)
            p->live_next->live_link = p->live_link;
        p->live_link = NULL;
        p->live_next = NULL;
    }
}

/* ---- what is asked of it ---- */

const char *rp_project_id(const struct rp_project *p)
{
    return p->record.id;
}

const struct rp_project_record *rp_project_record_of(const struct rp_project *p)
{
    return &p->record;
}

const struct rp_stack *rp_project_stack(const struct rp_project *p)
{
    return p->stack;
}

struct rp_loop *rp_project_loop(const struct rp_project *p)
{
    return p->all->parts.loop;
}

uint64_t rp_project_now(const struct rp_project *p)
{
    return rp_loop_now_ms(p->all->parts.loop);
}

struct rp_sandbox *rp_project_sandbox(struct rp_project *p)
{
    return p->slot == SLOT_UP && !p->stop_pending ? p->sandbox : NULL;
}

void rp_project_touch(struct rp_project *p)
{
    p->used_ms = rp_project_now(p);
}

void rp_project_viewer(struct rp_project *p, int delta)
{
    if (delta < 0 && p->viewers < (unsigned)-delta)
        p->viewers = 0;
    else
        p->viewers = (unsigned)((int)p->viewers + delta);
    rp_project_touch(p);
}

struct rp_limits rp_project_limits(const struct rp_project *p)
{
    struct rp_limits l = p->stack->limits;
    if (p->record.memory)
        l.memory = p->record.memory;
    if (p->record.processes)
        l.processes = p->record.processes;
    if (p->record.cpu) {
        l.cpu = p->record.cpu;
        if (l.burst_cpu <= l.cpu)
            l.burst_cpu = l.burst_ms = 0;
    }
    return l;
}

uint64_t rp_project_disk(const struct rp_project *p)
{
    return p->record.disk ? p->record.disk : p->all->parts.settings->disk_quota;
}

enum rp_run_state rp_project_run_state(const struct rp_project *p)
{
    return p->run.state;
}

bool rp_project_run_begins(const struct rp_project *p)
{
    return p->run.busy;
}

const char *rp_project_run_reason(const struct rp_project *p)
{
    return p->run.reason;
}

bool rp_project_run_wanted(const struct rp_project *p)
{
    return p->record.run_wanted;
}

const char *rp_project_sandbox_id(const struct rp_project *p)
{
    return p->slot_running && p->slot == SLOT_UP ? p->slot_id : "";
}

/* ---- the record ---- */

void rp_project_set_reason(struct rp_project *p, const char *reason)
{
    free(p->record.reason);
    p->record.reason = reason && *reason ? rp_strdup(reason) : NULL;
}

static void save_now(struct rp_project *p);

static void saved(void *ctx, const struct rp_error *err)
{
    struct rp_project *p = ctx;
    p->saving = false;
    if (err && err->code != RP_ERROR_NOT_FOUND)
        rp_log(RP_LOG_ERROR, "project not saved", "project", p->record.id, "why", err->message, NULL);
    struct waiters done = p->save_waiters;
    if (!done.first)
        waiters_init(&done);
    waiters_init(&p->save_waiters);
    if (p->save_again) {
        p->save_again = false;
        p->save_waiters = p->save_next_waiters;
        if (!p->save_waiters.first)
            waiters_init(&p->save_waiters);
        waiters_init(&p->save_next_waiters);
        save_now(p);
    }
    waiters_answer(&done, p, err);
    rp_project_unref(p);
}

static void save_now(struct rp_project *p)
{
    p->saving = true;
    rp_store_project_state(p->all->parts.store, &p->record, saved, rp_project_ref(p));
}

void rp_project_save(struct rp_project *p, rp_project_fn *fn, void *ctx)
{
    if (p->saving) {
        p->save_again = true;
        waiters_add(&p->save_next_waiters, fn, ctx);
        return;
    }
    waiters_add(&p->save_waiters, fn, ctx);
    save_now(p);
}

/* ---- listeners ---- */

struct rp_listener *rp_project_listen(struct rp_project *p, rp_listener_fn *fn, void (*deleted)(void *ctx),
                                      void *ctx)
{
    struct rp_listener *l = rp_calloc(1, sizeof *l);
    l->project = p;
    l->fn = fn;
    l->deleted = deleted;
    l->ctx = ctx;
    l->next = p->listeners;
    l->link = &p->listeners;
    if (l->next)
        l->next->link = &l->next;
    p->listeners = l;
    p->listener_count++;
    return l;
}

void rp_listener_free(struct rp_listener *l)
{
    if (!l)
        return;
    *l->link = l->next;
    if (l->next)
        l->next->link = l->link;
    l->project->listener_count--;
    free(l);
}

bool rp_project_has_listeners(const struct rp_project *p)
{
    return p->listeners != NULL;
}

unsigned rp_project_listeners(const struct rp_project *p)
{
    return p->listener_count;
}

void rp_project_emit(struct rp_project *p, struct rp_str json)
{
    for (struct rp_listener *l = p->listeners, *next; l; l = next) {
        next = l->next; /* a listener may free itself, and only itself */
        l->fn(l->ctx, json);
    }
}

/* ---- observers ---- */

void rp_projects_observe(struct rp_projects *all, enum rp_observer_slot slot,
                         const struct rp_project_observer *o, void *ctx)
{
    all->observers[slot] = (struct observer){o, ctx};
}

void rp_project_set_data(struct rp_project *p, enum rp_observer_slot slot, void *data)
{
    p->data[slot] = data;
}

void *rp_project_data(const struct rp_project *p, enum rp_observer_slot slot)
{
    return p->data[slot];
}

void rp_project_observers_closing(struct rp_project *p)
{
    for (unsigned i = 0; i < RP_OBSERVER_COUNT; i++) {
        const struct observer *o = &p->all->observers[i];
        if (o->o && o->o->closing)
            o->o->closing(o->ctx, p);
    }
}

void rp_project_observers_deleted(struct rp_project *p)
{
    for (unsigned i = 0; i < RP_OBSERVER_COUNT; i++) {
        const struct observer *o = &p->all->observers[i];
        if (o->o && o->o->deleted)
            o->o->deleted(o->ctx, p);
    }
    while (p->listeners) {
        struct rp_listener *l = p->listeners;
        void (*deleted)(void *ctx) = l->deleted;
        void *ctx = l->ctx;
        rp_listener_free(l);
        if (deleted)
            deleted(ctx);
    }
}
