/*
 * bring.c: start, stop, restart and run, with `?wait=N`: begins what was asked for and answers when it is so,
 * when it cannot become so, or when the time is over. Loop thread only.
 */
#include <stdlib.h>

#include "api/project_reply.h"
#include "api/routes.h"
#include "domain/projects.h"

enum { WAIT_MAX = 300 };

struct bring {
    struct rp_call *call;
    struct rp_project *p;
    enum rp_aim aim;
    bool run_again; /* restart: its run command ran */
    bool acted;     /* the domain answered; before it, `met` may be true of what was before */
    bool replied;
    struct rp_listener *listener;
    struct rp_timer *timer;
    void (*reply)(struct rp_call *call, bool met, const struct rp_error *err);
};

static bool is_met(const struct bring *b)
{
    enum rp_run_state run = rp_project_run_state(b->p);
    enum rp_project_state state = rp_project_state_of(b->p);
    switch (b->aim) {
    case RP_AIM_RUNNING:
        return state == RP_PROJECT_RUNNING;
    case RP_AIM_STOPPED:
        return state == RP_PROJECT_STOPPED || state == RP_PROJECT_FAILED;
    case RP_AIM_RUN:
        return !rp_project_run_begins(b->p) && (run == RP_RUN_RUNNING || run == RP_RUN_EXITED);
    case RP_AIM_RUN_STOPPED:
        return !rp_project_run_begins(b->p) && run != RP_RUN_RUNNING && run != RP_RUN_INSTALLING;
    }
    return false;
}

static void bring_free(struct bring *b)
{
    rp_listener_free(b->listener);
    rp_timer_free(b->timer);
    rp_call_unref(b->call);
    rp_project_unref(b->p);
    free(b);
}

/* Answers once; the memory goes when the domain has answered too. */
static void finish(struct bring *b, bool met, const struct rp_error *err)
{
    if (!b->replied) {
        b->replied = true;
        rp_listener_free(b->listener);
        b->listener = NULL;
        rp_timer_stop(b->timer);
        b->reply(b->call, met, err);
    }
}

static void look(struct bring *b)
{
    struct rp_error err = {0};
    if (is_met(b)) {
        finish(b, true, NULL);
    } else if (b->aim == RP_AIM_RUN && !rp_project_run_begins(b->p) &&
               (rp_project_run_state(b->p) == RP_RUN_FAILED || rp_project_run_state(b->p) == RP_RUN_IDLE)) {
        const char *why = rp_project_run_reason(b->p);
        (void)rp_error_set(&err, RP_ERROR_CONFLICT, "%s", *why ? why : "the run was stopped before it began");
        finish(b, false, &err);
    }
}

static void on_event(void *ctx, struct rp_str json)
{
    struct bring *b = ctx;
    if (!b->acted || b->replied)
        return;
    look(b);
    if (b->replied)
        bring_free(b);
}

static void on_deleted(void *ctx)
{
    struct bring *b = ctx;
    struct rp_error err = {0};
    b->listener = NULL;
    (void)rp_error_set(&err, RP_ERROR_NOT_FOUND, "the project was deleted");
    finish(b, false, &err);
    if (b->acted)
        bring_free(b);
}

static void on_time(void *ctx)
{
    struct bring *b = ctx;
    finish(b, false, NULL);
    if (b->acted)
        bring_free(b);
}

static void on_acted(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct bring *b = ctx;
    b->acted = true;
    if (err)
        finish(b, false, err);
    else if (!b->replied)
        look(b);
    if (b->replied)
        bring_free(b);
}

static void on_stopped(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct bring *b = ctx;
    if (err)
        on_acted(b, p, err);
    else if (b->run_again)
        rp_project_run(p, on_acted, b);
    else
        rp_project_start(p, on_acted, b);
}

void rp_api_bring(struct rp_call *call, enum rp_aim aim, bool restart, uint64_t seconds,
                  void (*reply)(struct rp_call *call, bool met, const struct rp_error *err))
{
    struct bring *b = rp_calloc(1, sizeof *b);
    struct rp_project *p = call->project;
    b->call = rp_call_ref(call);
    b->p = rp_project_ref(p);
    b->aim = aim;
    b->reply = reply;
    b->run_again = restart && rp_project_run_wanted(p);
    b->timer = rp_timer_new(call->gateway->loop, on_time, b);
    /* so that b outlives the calls below whatever they answer at once */
    b->listener = rp_project_listen(p, on_event, on_deleted, b);
    rp_timer_start(b->timer, seconds * 1000, 0);
    if (restart)
        rp_project_stop(p, NULL, on_stopped, b);
    else if (aim == RP_AIM_RUNNING)
        rp_project_start(p, on_acted, b);
    else if (aim == RP_AIM_STOPPED)
        rp_project_stop(p, NULL, on_acted, b);
    else if (aim == RP_AIM_RUN)
        rp_project_run(p, on_acted, b);
    else
        rp_project_run_stop(p, on_acted, b);
}

/* ---- the routes ---- */

static void reply_status(struct rp_call *call, bool met, const struct rp_error *err)
{
    if (err)
        rp_api_reply_error(call, err);
    else
        rp_api_reply_status(call, met ? 200 : 202, call->project);
}

static void bring(struct rp_call *call, enum rp_aim aim, bool restart)
{
    uint64_t seconds = 0;
    struct rp_error err = {0};
    if (rp_api_query_u64(call, "wait", WAIT_MAX, &seconds, &err) < 0)
        rp_api_reply_error(call, &err);
    else
        rp_api_bring(call, aim, restart, seconds, reply_status);
}

void rp_api_project_start(struct rp_call *call)
{
    bring(call, RP_AIM_RUNNING, false);
}

void rp_api_project_stop(struct rp_call *call)
{
    bring(call, RP_AIM_STOPPED, false);
}

void rp_api_project_restart(struct rp_call *call)
{
    bring(call, RP_AIM_RUNNING, true);
}

void rp_api_project_run(struct rp_call *call)
{
    bring(call, RP_AIM_RUN, false);
}

void rp_api_project_run_stop(struct rp_call *call)
{
    bring(call, RP_AIM_RUN_STOPPED, false);
}

void rp_api_project_status(struct rp_call *call)
{
    rp_api_reply_status(call, 200, call->project);
}
