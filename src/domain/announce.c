/*
 * announce.c: the state that the API shows, which follows from slot and desire, and telling those who listen
 * when it, the run, the progress or the ports change.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/project_internal.h"

/* ---- what the API shows ---- */

const char *rp_project_state_name(enum rp_project_state state)
{
    static const char *const names[] = {
        [RP_PROJECT_STOPPED] = "stopped",   [RP_PROJECT_QUEUED] = "queued",
        [RP_PROJECT_STARTING] = "starting", [RP_PROJECT_RUNNING] = "running",
        [RP_PROJECT_STOPPING] = "stopping", [RP_PROJECT_FAILED] = "failed",
    };
    return names[state];
}

enum rp_project_state rp_project_state_of(const struct rp_project *p)
{
    if (p->slot_running)
        return p->stop_pending || p->slot == SLOT_STOPPING ? RP_PROJECT_STOPPING : RP_PROJECT_RUNNING;
    if (p->desired)
        return RP_PROJECT_STARTING;
    if (p->stop_pending && p->stop_waiters.first)
        return RP_PROJECT_STOPPING;
    return p->failed ? RP_PROJECT_FAILED : RP_PROJECT_STOPPED;
}

static void emit_status(struct rp_project *p, const char *type)
{
    if (!rp_project_has_listeners(p))
        return;
    struct rp_buf b;
    rp_buf_init(&b, 8192);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", type);
    rp_json_key(&w, "status");
    rp_project_write_status(&w, p);
    rp_json_close_object(&w);
    if (!w.failed)
        rp_project_emit(p, rp_buf_view(&b));
    rp_buf_done(&b);
}

void rp_run_changed(struct rp_project *p)
{
    emit_status(p, "run");
}

void rp_project_show(struct rp_project *p)
{
    enum rp_project_state now = rp_project_state_of(p);
    if (now == p->shown)
        return;
    p->shown = now;
    p->since = rp_clock_wall_us();
    if (now != RP_PROJECT_STARTING && now != RP_PROJECT_RUNNING)
        p->progress.step[0] = '\0';
    emit_status(p, "state");
    rp_log(RP_LOG_INFO, "project", "project", p->record.id, "state", rp_project_state_name(now), "reason",
           now == RP_PROJECT_FAILED || now == RP_PROJECT_STOPPED ? p->record.reason : NULL, NULL);
}

void rp_project_set_progress(struct rp_project *p, const char *step)
{
    if (strcmp(step ? step : "", p->progress.step) == 0)
        return;
    snprintf(p->progress.step, sizeof p->progress.step, "%s", step ? step : "");
    p->progress.since = rp_clock_wall_us();
    emit_status(p, "progress");
}

/* ---- ports ---- */

void rp_project_ports_fast(struct rp_project *p)
{
    p->ports_fast_until = rp_project_now(p) + PORTS_FAST_FOR_MS;
    if (!p->ports_fast && p->slot == SLOT_UP && p->slot_running) {
        p->ports_fast = true;
        rp_sandbox_watch_ports(p->sandbox, PORTS_FAST_MS);
    }
}

void rp_project_ports_changed(void *ctx, const struct rp_port *ports, size_t count)
{
    struct rp_project *p = ctx;
    for (unsigned i = 0; i < RP_OBSERVER_COUNT; i++) {
        const struct observer *o = &p->all->observers[i];
        if (o->o && o->o->ports)
            o->o->ports(o->ctx, p, ports, count);
    }
    if (!rp_project_has_listeners(p))
        return;
    struct rp_buf b;
    rp_buf_init(&b, 256 * 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "ports");
    rp_json_key(&w, "items");
    rp_project_write_ports(&w, p);
    rp_json_close_object(&w);
    if (!w.failed)
        rp_project_emit(p, rp_buf_view(&b));
    rp_buf_done(&b);
}
