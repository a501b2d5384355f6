/*
 * stats.c: what a project uses, each with its limit: from the orchestrator's count of the sandbox and of the
 * volume. Loop thread only.
 */
#include <stdlib.h>

#include "api/project_reply.h"
#include "api/routes.h"
#include "base/clock.h"
#include "domain/projects.h"

struct collection {
    struct rp_gateway *g;
    struct rp_project *p;
    struct rp_sandbox_stats stats;
    rp_stats_json_fn *fn;
    void *ctx;
};

static void collected(void *ctx, uint64_t used, uint64_t quota, const struct rp_error *err)
{
    struct collection *c = ctx;
    const struct rp_sandbox_stats *s = &c->stats;
    if (err) {
        c->fn(c->ctx, (struct rp_str){0}, err);
    } else {
        char now[RP_CLOCK_RFC3339_SIZE];
        struct rp_buf b;
        rp_clock_format_rfc3339(rp_clock_wall_us(), now);
        rp_buf_init(&b, 8192);
        struct rp_json_writer w = rp_json_writer(&b);
        rp_json_open_object(&w);
        rp_json_field_string(&w, "time", now);
        rp_json_key(&w, "cpu");
        rp_json_open_object(&w);
        rp_json_key(&w, "used");
        rp_json_double(&w, (double)s->cpu_us / 1e6);
        rp_json_key(&w, "throttled");
        rp_json_double(&w, (double)s->throttled_us / 1e6);
        rp_json_key(&w, "limit");
        rp_json_double(&w, s->cpu_limit / 1000.0);
        rp_json_close_object(&w);
        rp_json_key(&w, "memory");
        rp_json_open_object(&w);
        rp_json_field_uint(&w, "used", s->memory);
        rp_json_field_uint(&w, "limit", s->memory_limit);
        rp_json_field_uint(&w, "oom_kills", s->oom_kills);
        rp_json_close_object(&w);
        rp_json_key(&w, "processes");
        rp_json_open_object(&w);
        rp_json_field_uint(&w, "used", s->processes);
        rp_json_field_uint(&w, "limit", s->processes_limit);
        rp_json_close_object(&w);
        rp_json_key(&w, "disk");
        rp_json_open_object(&w);
        rp_json_field_uint(&w, "used", used);
        rp_json_field_uint(&w, "limit", quota);
        rp_json_close_object(&w);
        rp_json_key(&w, "network");
        rp_json_open_object(&w);
        rp_json_field_uint(&w, "received", s->received);
        rp_json_field_uint(&w, "sent", s->sent);
        rp_json_close_object(&w);
        rp_json_close_object(&w);
        c->fn(c->ctx, rp_buf_view(&b), NULL);
        rp_buf_done(&b);
    }
    rp_project_unref(c->p);
    free(c);
}

static void sandbox_counted(void *ctx, const struct rp_sandbox_stats *stats, const struct rp_error *err)
{
    struct collection *c = ctx;
    if (!err)
        c->stats = *stats; /* else it has just gone: nothing is used */
    rp_orchestrator_volume_usage(rp_projects_orchestrator(c->g->projects), rp_project_id(c->p), collected, c);
}

void rp_api_collect_stats(struct rp_gateway *g, struct rp_project *p, rp_stats_json_fn *fn, void *ctx)
{
    struct collection *c = rp_calloc(1, sizeof *c);
    c->g = g;
    c->p = rp_project_ref(p);
    c->fn = fn;
    c->ctx = ctx;
    if (rp_project_stack(p)) {
        struct rp_limits l = rp_project_limits(p);
        c->stats.memory_limit = l.memory;
        c->stats.cpu_limit = l.cpu;
        c->stats.processes_limit = l.processes;
    }
    const char *sandbox = rp_project_sandbox_id(p);
    if (*sandbox)
        rp_orchestrator_stats(rp_projects_orchestrator(g->projects), sandbox, sandbox_counted, c);
    else
        rp_orchestrator_volume_usage(rp_projects_orchestrator(g->projects), rp_project_id(p), collected, c);
}

static void reply_stats(void *ctx, struct rp_str json, const struct rp_error *err)
{
    struct rp_call *call = ctx;
    if (err)
        rp_api_reply_error(call, err);
    else if (call->x)
        rp_http_reply(call->x, 200, "application/json", json);
    rp_call_unref(call);
}

void rp_api_project_stats(struct rp_call *call)
{
    rp_api_collect_stats(call->gateway, call->project, reply_stats, rp_call_ref(call));
}
