/*
 * always.c: what time does to a project: idling, giving a sandbox for files back, restarts of always_on
 * projects, install time-outs. One timer looks at all projects that have a sandbox or wait for a restart.
 */
#include "base/log.h"
#include "domain/project_internal.h"

void rp_project_plan_restart(struct rp_project *p)
{
    uint64_t now = rp_project_now(p);
    if (p->healthy_since_ms && now - p->healthy_since_ms >= BACKOFF_MAX_MS)
        p->backoff_ms = 0;
    if (!p->backoff_ms)
        p->backoff_ms = BACKOFF_FIRST_MS;
    p->restart_at_ms = now + p->backoff_ms;
    p->backoff_ms = RP_MIN(p->backoff_ms * 2, (unsigned)BACKOFF_MAX_MS);
    p->healthy_since_ms = 0;
    rp_project_set_live(p, true);
}

static void restarted(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    if (err)
        rp_log(RP_LOG_WARNING, "restart failed", "project", rp_project_id(p), "why", err->message, NULL);
}

static void restart(struct rp_project *p)
{
    p->restart_at_ms = 0;
    if (!p->record.always_on || !p->record.wanted)
        return;
    p->healthy_since_ms = rp_project_now(p);
    if (p->record.run_wanted)
        rp_project_run(p, restarted, NULL);
    else
        rp_project_start(p, restarted, NULL);
}

static bool idles(const struct rp_project *p, uint64_t now)
{
    uint64_t timeout = (uint64_t)p->record.idle_timeout * 1000;
    return timeout && p->slot == SLOT_UP && p->slot_running && !p->stop_pending && !p->viewers &&
           !p->run.busy && p->run.state != RP_RUN_INSTALLING && !p->record.always_on &&
           now - p->used_ms >= timeout;
}

static bool files_lapsed(const struct rp_project *p, uint64_t now)
{
    uint64_t used = RP_MAX(p->files_used_ms, p->used_ms);
    return p->slot == SLOT_UP && !p->slot_running && !p->desired && !p->stop_pending && !p->viewers &&
           now - used >= FILES_KEPT_MS;
}

void rp_project_tick(struct rp_project *p)
{
    uint64_t now = rp_project_now(p);
    if (p->restart_at_ms && now >= p->restart_at_ms)
        restart(p);
    if (p->ports_fast && now >= p->ports_fast_until && p->slot == SLOT_UP) {
        p->ports_fast = false;
        rp_sandbox_watch_ports(p->sandbox, PORTS_SLOW_MS);
    }
    rp_run_tick(p);
    if (idles(p, now)) {
        rp_project_stop(p, "it was idle", NULL, NULL);
    } else if (files_lapsed(p, now)) {
        p->stop_pending = true;
        rp_project_pump(p);
    }
}
