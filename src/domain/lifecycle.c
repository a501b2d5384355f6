/*
 * lifecycle.c: the state machine of a project: its sandbox from START to gone. See project_internal.h for the
 * two things that rp_project_pump compares.
 *
 * Every asynchronous answer holds a reference on the project and checks that the slot is still the one it was
 * asked for (by the sandbox's id), so a late answer changes nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/project_internal.h"
#include "runner/files.h"

/* An answer of the orchestrator about one sandbox of one project. */
struct slot_call {
    struct rp_project *p;
    char id[RP_ID_SIZE];
};

static struct slot_call *slot_call_new(struct rp_project *p)
{
    struct slot_call *c = rp_calloc(1, sizeof *c);
    c->p = rp_project_ref(p);
    memcpy(c->id, p->slot_id, sizeof c->id);
    return c;
}

static bool slot_is(const struct slot_call *c, enum slot a, enum slot b)
{
    return strcmp(c->id, c->p->slot_id) == 0 && (c->p->slot == a || c->p->slot == b);
}

static void slot_call_free(struct slot_call *c)
{
    rp_project_unref(c->p);
    free(c);
}

/* ---- going away ---- */

/* Everybody drops the sandbox; the connection to its init is closed. */
static void detach(struct rp_project *p)
{
    if (p->attached) {
        p->attached = false;
        for (unsigned i = 0; i < RP_OBSERVER_COUNT; i++) {
            const struct observer *o = &p->all->observers[i];
            if (o->o && o->o->detached)
                o->o->detached(o->ctx, p);
        }
    }
    if (p->sandbox)
        rp_files_drop(p->all->parts.files, p->sandbox);
    rp_sandbox_free(p->sandbox);
    p->sandbox = NULL;
    p->ports_fast = false;
}

/* Nothing is left of the sandbox. */
static void slot_cleared(struct rp_project *p)
{
    bool was_running = p->slot_running, recorded = p->record.sandbox[0] != '\0';
    bool by_itself = p->end_reason[0] != '\0';
    detach(p);
    p->slot = SLOT_NONE;
    p->slot_id[0] = '\0';
    p->slot_running = p->slot_adopted = p->slot_saved = p->start_unknown = false;
    p->sandbox_started_at = 0;
    p->stop_pending = false;
    p->record.sandbox[0] = '\0';
    if (by_itself && was_running) {
        p->desired = false;
        p->failed = true;
        rp_project_set_reason(p, p->end_reason);
    }
    p->end_reason[0] = '\0';
    if (was_running) {
        rp_run_sandbox_lost(p);
        if (by_itself && p->record.always_on && p->record.wanted)
            rp_project_plan_restart(p);
        else if (by_itself)
            p->record.wanted = p->record.run_wanted = false;
    }
    if (recorded)
        rp_project_save(p, NULL, NULL);
    rp_project_show(p);
    waiters_answer(&p->stop_waiters, p, NULL);
}

static void stopped(void *ctx, const struct rp_error *err)
{
    struct slot_call *c = ctx;
    struct rp_project *p = c->p;
    if (slot_is(c, SLOT_STOPPING, SLOT_STOPPING)) {
        if (err && err->code != RP_ERROR_NOT_FOUND) {
            rp_log(RP_LOG_ERROR, "sandbox not stopped", "project", p->record.id, "sandbox", c->id, "why",
                   err->message, NULL);
            /* the orchestrator is away or refuses: the sandbox is unknown from now on, and the next
             * reconciliation stops what nobody knows */
            waiters_answer(&p->stop_waiters, p, err);
        }
        slot_cleared(p);
        rp_project_pump(p);
    }
    slot_call_free(c);
}

static void slot_stop(struct rp_project *p, uint32_t grace_ms)
{
    p->slot = SLOT_STOPPING;
    rp_project_show(p);
    rp_orchestrator_stop(p->all->orchestrator, p->slot_id, grace_ms, stopped, slot_call_new(p));
}

static void start_failed(struct rp_project *p, const struct rp_error *err);

/* A connection that broke: what it was for is over, and the rest is taken down. */
static void on_broken(void *ctx, const struct rp_error *why)
{
    struct rp_project *p = ctx;
    rp_project_ref(p);
    if (p->slot == SLOT_STOPPING) {
        detach(p); /* its init ended, as it was told to */
    } else if (!p->slot_running) {
        p->start_unknown = true;
        start_failed(p, why);
    } else {
        if (!p->end_reason[0])
            snprintf(p->end_reason, sizeof p->end_reason, "the sandbox broke: %s", why->message);
        rp_log(RP_LOG_WARNING, "sandbox broke", "project", p->record.id, "sandbox", p->slot_id, "why",
               why->message, NULL);
        detach(p);
        slot_stop(p, 0);
    }
    rp_project_unref(p);
}

void rp_project_gone(struct rp_project *p, const struct rp_error *why)
{
    if (p->slot == SLOT_STARTING)
        return; /* START or ATTACH answers with an error */
    if (p->slot == SLOT_STOPPING) {
        /* after a break the orchestrator knows better why (out of memory, above all) */
        if (p->end_reason[0])
            snprintf(p->end_reason, sizeof p->end_reason, "%s", why->message);
        return;
    }
    if (!p->slot_running) {
        start_failed(p, why);
    } else {
        snprintf(p->end_reason, sizeof p->end_reason, "%s", why->message);
        slot_cleared(p);
    }
    rp_project_pump(p);
}

/* ---- coming up ---- */

static void start_failed(struct rp_project *p, const struct rp_error *err)
{
    struct rp_error why = *err;
    bool wanted = p->desired;
    rp_log(RP_LOG_WARNING, "start failed", "project", p->record.id, "code", rp_code_name(why.code), "why",
           why.message, NULL);
    p->end_reason[0] = '\0';
    if (wanted) {
        p->desired = false;
        p->failed = true;
        rp_project_set_reason(p, why.message);
        p->slot_running = false;
    }
    bool retry = wanted && p->record.always_on && p->record.wanted;
    if (wanted && !retry)
        p->record.wanted = p->record.run_wanted = false;
    if (p->slot == SLOT_STOPPING || p->start_unknown) {
        /* cleared by the answer to STOP */
        if (p->slot != SLOT_STOPPING)
            slot_stop(p, 0);
    } else {
        slot_cleared(p);
    }
    if (wanted)
        rp_project_save(p, NULL, NULL);
    if (retry)
        rp_project_plan_restart(p);
    rp_project_show(p);
    waiters_answer(&p->start_waiters, p, &why);
    waiters_answer(&p->files_waiters, p, &why);
}

static void became_running(struct rp_project *p)
{
    p->slot_running = true;
    p->failed = false;
    rp_project_touch(p);
    p->healthy_since_ms = rp_project_now(p);
    rp_project_set_progress(p, NULL);
    p->ports_fast = false;
    rp_project_ports_fast(p);
    rp_project_show(p);
    waiters_answer(&p->start_waiters, p, NULL);
}

static void running_saved(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct slot_call *c = ctx;
    if (slot_is(c, SLOT_UP, SLOT_HELLO) || slot_is(c, SLOT_STARTING, SLOT_STARTING)) {
        if (err) {
            /* what is not in the store would not be adopted: better a start that fails now */
            p->start_unknown = true;
            start_failed(p, err);
        } else {
            p->slot_saved = true;
            rp_project_pump(p);
        }
    }
    slot_call_free(c);
}

/* The record names the sandbox before the project is announced as running, so that it can be adopted. */
static void save_running(struct rp_project *p)
{
    memcpy(p->record.sandbox, p->slot_id, sizeof p->record.sandbox);
    snprintf(p->record.boot_id, sizeof p->record.boot_id, "%s", p->all->parts.settings->boot_id);
    p->record.wanted = true;
    rp_project_set_reason(p, NULL);
    rp_project_save(p, running_saved, slot_call_new(p));
}

static void on_exited(void *ctx, uint64_t process, const struct rp_exit *exit)
{
    struct rp_project *p = ctx;
    rp_project_ref(p);
    for (unsigned i = 0; i < RP_OBSERVER_COUNT; i++) {
        const struct observer *o = &p->all->observers[i];
        if (o->o && o->o->exited)
            o->o->exited(o->ctx, p, process, exit);
    }
    rp_project_unref(p);
}

static void on_ready(void *ctx, const struct rp_error *err)
{
    struct rp_project *p = ctx;
    rp_project_ref(p);
    if (p->slot_adopted)
        rp_projects_adopted_one(p->all);
    if (err) {
        if (p->slot == SLOT_HELLO) {
            p->start_unknown = true;
            start_failed(p, err);
        }
    } else if (p->slot == SLOT_HELLO) {
        p->slot = SLOT_UP;
        p->attached = true;
        p->files_used_ms = rp_project_now(p);
        if (p->slot_adopted) {
            p->slot_saved = true;
            p->slot_running = true; /* it never stopped, as far as anybody outside could see */
            became_running(p);
            p->since = p->sandbox_started_at;
        }
        for (unsigned i = 0; i < RP_OBSERVER_COUNT; i++) {
            const struct observer *o = &p->all->observers[i];
            if (o->o && o->o->attached)
                o->o->attached(o->ctx, p, p->sandbox, p->slot_adopted);
        }
        rp_project_pump(p);
    }
    rp_project_unref(p);
}

static const struct rp_sandbox_events sandbox_events = {
    .on_exited = on_exited,
    .on_ports = rp_project_ports_changed,
    .on_broken = on_broken,
};

static void connected(void *ctx, int connection, int64_t started_at, bool warm, const struct rp_error *err)
{
    struct slot_call *c = ctx;
    struct rp_project *p = c->p;
    if (!slot_is(c, SLOT_STARTING, SLOT_STARTING)) {
        if (connection >= 0)
            close(connection); /* it is being stopped already */
    } else if (err) {
        if (p->slot_adopted)
            rp_projects_adopted_one(p->all);
        /* after a broken connection nobody knows whether the START worked */
        p->start_unknown = err->code == RP_ERROR_UNAVAILABLE && !p->slot_adopted;
        start_failed(p, err);
        rp_project_pump(p);
    } else {
        p->slot = SLOT_HELLO;
        p->sandbox_started_at = started_at;
        p->warm = warm;
        p->sandbox = rp_sandbox_new(rp_project_loop(p), p->slot_id, connection, &sandbox_events, p, on_ready);
    }
    slot_call_free(c);
}

static void progressed(void *ctx, const char *step)
{
    struct slot_call *c = ctx;
    if (slot_is(c, SLOT_STARTING, SLOT_STARTING) && c->p->desired)
        rp_project_set_progress(c->p, step);
}

static int start_request(struct rp_project *p, struct rp_orchestrator_start *ret, struct rp_error *err)
{
    if (!p->stack)
        return rp_error_set(err, RP_ERROR_ENVIRONMENT, "the stack \"%s\" is not there any more",
                            p->record.stack);
    *ret = (struct rp_orchestrator_start){.limits = rp_project_limits(p)};
    memcpy(ret->project, p->record.id, sizeof ret->project);
    memcpy(ret->sandbox, p->slot_id, sizeof ret->sandbox);
    if (!rp_str_copy(ret->environment, sizeof ret->environment, rp_str_of(p->stack->environment)))
        return rp_error_set(err, RP_ERROR_ENVIRONMENT, "the stack's environment has no name");
    return rp_network_parse(p->record.network, &ret->network, err);
}

static void slot_start(struct rp_project *p)
{
    struct rp_orchestrator_start request;
    struct rp_error err = {0};
    rp_random_id(p->slot_id);
    p->slot = SLOT_STARTING;
    p->slot_epoch = p->all->epoch;
    p->slot_saved = p->slot_running = p->slot_adopted = p->start_unknown = false;
    rp_project_set_live(p, true);
    rp_project_show(p);
    if (start_request(p, &request, &err) < 0) {
        start_failed(p, &err);
        return;
    }
    struct slot_call *c = slot_call_new(p);
    rp_orchestrator_start(p->all->orchestrator, &request, progressed, connected, c);
    if (p->desired)
        save_running(p); /* beside it, not before it: both take milliseconds */
}

void rp_project_adopt(struct rp_project *p)
{
    memcpy(p->slot_id, p->record.sandbox, sizeof p->slot_id);
    p->slot = SLOT_STARTING;
    p->slot_epoch = p->all->epoch;
    p->slot_adopted = true;
    p->desired = true;
    rp_project_set_live(p, true);
    rp_orchestrator_attach(p->all->orchestrator, p->slot_id, connected, slot_call_new(p));
}

/* ---- one step towards what is desired ---- */

static bool files_wanted(const struct rp_project *p)
{
    return p->files_waiters.first != NULL;
}

static void pump_up(struct rp_project *p)
{
    if (p->desired && !p->slot_running) {
        if (p->slot_saved)
            became_running(p);
        else if (strcmp(p->record.sandbox, p->slot_id) != 0)
            save_running(p); /* a sandbox for files becomes the project's */
    }
    waiters_answer(&p->files_waiters, p, NULL);
}

void rp_project_pump(struct rp_project *p)
{
    switch (p->slot) {
    case SLOT_NONE:
        if (p->stop_pending) {
            p->stop_pending = false;
            rp_project_show(p);
            waiters_answer(&p->stop_waiters, p, NULL);
        }
        if (p->slot == SLOT_NONE && (p->desired || files_wanted(p)))
            slot_start(p);
        else if (p->slot == SLOT_NONE && !p->restart_at_ms)
            rp_project_set_live(p, false);
        break;
    case SLOT_STARTING:
    case SLOT_HELLO:
        if (p->stop_pending) {
            detach(p);
            slot_stop(p, 0); /* no user code ran yet */
        }
        break;
    case SLOT_UP:
        if (p->stop_pending)
            slot_stop(p, p->slot_running ? STOP_GRACE_MS : 0);
        else
            pump_up(p);
        break;
    case SLOT_STOPPING:
        break;
    }
    rp_project_show(p);
}

/* ---- what others ask for ---- */

static void refuse(struct rp_project *p, rp_project_fn *fn, void *ctx, enum rp_code code, const char *message)
{
    struct rp_error err = {0};
    (void)rp_error_set(&err, code, "%s", message);
    if (fn)
        fn(ctx, p, &err);
}

void rp_project_start(struct rp_project *p, rp_project_fn *fn, void *ctx)
{
    if (p->deleting) {
        refuse(p, fn, ctx, RP_ERROR_NOT_FOUND, "the project is being deleted");
        return;
    }
    if (p->slot_running && !p->stop_pending && p->slot == SLOT_UP) {
        rp_project_touch(p);
        if (fn)
            fn(ctx, p, NULL);
        return;
    }
    p->desired = true;
    p->failed = false;
    p->restart_at_ms = 0;
    waiters_add(&p->start_waiters, fn, ctx);
    rp_project_pump(p);
}

void rp_project_need_files(struct rp_project *p, rp_project_fn *fn, void *ctx)
{
    if (p->deleting) {
        refuse(p, fn, ctx, RP_ERROR_NOT_FOUND, "the project is being deleted");
        return;
    }
    p->files_used_ms = rp_project_now(p);
    if (rp_project_sandbox(p)) {
        fn(ctx, p, NULL);
        return;
    }
    waiters_add(&p->files_waiters, fn, ctx);
    rp_project_pump(p);
}

/* Whatever sandbox there is goes, also one that only serves files. */
void rp_project_take_down(struct rp_project *p, const char *reason, rp_project_fn *fn, void *ctx)
{
    rp_project_ref(p);
    bool was = p->desired || p->slot_running;
    p->desired = false;
    p->restart_at_ms = 0;
    p->backoff_ms = 0;
    p->failed = false;
    if (was || p->record.wanted || p->record.run_wanted) {
        p->record.wanted = p->record.run_wanted = false;
        rp_project_set_reason(p, reason);
        rp_project_save(p, NULL, NULL);
    }
    if (p->slot == SLOT_NONE && !p->stop_pending) {
        rp_project_pump(p);
        if (fn)
            fn(ctx, p, NULL);
        rp_project_unref(p);
        return;
    }
    p->stop_pending = true;
    waiters_add(&p->stop_waiters, fn, ctx);
    if (p->start_waiters.first) {
        struct rp_error err = {0};
        (void)rp_error_set(&err, RP_ERROR_CONFLICT, "the project was stopped while it started");
        waiters_answer(&p->start_waiters, p, &err);
    }
    rp_project_pump(p);
    rp_project_unref(p);
}

void rp_project_stop(struct rp_project *p, const char *reason, rp_project_fn *fn, void *ctx)
{
    bool serves_files = p->slot != SLOT_NONE && !p->slot_running && !p->desired && !p->stop_pending;
    if (!serves_files) {
        rp_project_take_down(p, reason, fn, ctx);
        return;
    }
    /* it is stopped; that its files are being looked at changes nothing */
    p->restart_at_ms = 0;
    p->failed = false;
    if (p->record.wanted || p->record.run_wanted) {
        p->record.wanted = p->record.run_wanted = false;
        rp_project_save(p, NULL, NULL);
    }
    rp_project_show(p);
    if (fn)
        fn(ctx, p, NULL);
}

void rp_project_leave(struct rp_project *p)
{
    p->attached = false;
    rp_project_observers_closing(p);
    if (p->sandbox)
        rp_files_drop(p->all->parts.files, p->sandbox);
    rp_sandbox_free(p->sandbox);
    p->sandbox = NULL;
    p->slot = SLOT_NONE;
    rp_project_set_live(p, false);
}
