/*
 * update.c: changing a project's settings: store first, then memory, then the sandbox that may be there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/project_internal.h"

/* One at a time a project: each is applied on top of the one before. */
struct rp_update {
    struct rp_update *next;
    struct rp_project *p;
    struct rp_project_input input;
    struct rp_project_record record; /* as it will be */
    uint64_t expected;
    unsigned effects; /* under way */
    rp_project_fn *fn;
    void *ctx;
};

static void update_begin(struct rp_update *u);

static void update_end(struct rp_update *u, const struct rp_error *err)
{
    struct rp_update *next = u->next;
    u->p->updates = next;
    u->fn(u->ctx, u->p, err);
    rp_project_input_done(&u->input);
    rp_project_record_done(&u->record);
    rp_project_unref(u->p);
    free(u);
    if (next)
        update_begin(next);
}

static void swap_text(char **a, char **b)
{
    char *t = *a;
    *a = *b;
    *b = t;
}

/* What a user may edit moves into the project; what the lifecycle keeps may have changed since and stays. */
static void take(struct rp_project_record *r, struct rp_project_record *from)
{
    swap_text(&r->name, &from->name);
    swap_text(&r->run_command, &from->run_command);
    swap_text(&r->dependencies, &from->dependencies);
    swap_text(&r->env, &from->env);
    swap_text(&r->metadata, &from->metadata);
    swap_text(&r->network, &from->network);
    r->memory = from->memory;
    r->cpu = from->cpu;
    r->processes = from->processes;
    r->disk = from->disk;
    r->idle_timeout = from->idle_timeout;
    r->always_on = from->always_on;
    r->updated_at = from->updated_at;
    r->version = from->version + 1;
}

static void emit_project(struct rp_project *p)
{
    if (!rp_project_has_listeners(p))
        return;
    struct rp_buf b;
    rp_buf_init(&b, 1024 * 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "project");
    rp_json_key(&w, "project");
    rp_project_write_json(&w, p);
    rp_json_close_object(&w);
    if (!w.failed)
        rp_project_emit(p, rp_buf_view(&b));
    rp_buf_done(&b);
}

/* The settings are kept either way; what did not take effect now does with the next start. */
static void effect_done(void *ctx, const struct rp_error *err)
{
    struct rp_update *u = ctx;
    if (err)
        rp_log(RP_LOG_WARNING, "limits not changed in the sandbox", "project", rp_project_id(u->p), "why",
               err->message, NULL);
    if (--u->effects == 0)
        update_end(u, NULL);
}

static void take_effect(struct rp_update *u)
{
    struct rp_project *p = u->p;
    u->effects = 1;
    if (!p->record.always_on)
        p->restart_at_ms = 0;
    rp_project_touch(p);
    if (u->input.has & (RP_INPUT_MEMORY | RP_INPUT_CPU | RP_INPUT_PROCESSES) && p->slot == SLOT_UP &&
        p->stack) {
        struct rp_limits limits = rp_project_limits(p);
        limits.burst_cpu = limits.burst_ms = 0; /* of a start; it is over or not worth counting */
        u->effects++;
        rp_orchestrator_limits(p->all->orchestrator, p->slot_id, RP_STEP_USER, &limits, effect_done, u);
    }
    if (u->input.has & RP_INPUT_DISK) {
        u->effects++;
        rp_orchestrator_volume_quota(p->all->orchestrator, p->record.id, rp_project_disk(p), effect_done, u);
    }
    effect_done(u, NULL);
}

static void updated(void *ctx, const struct rp_error *err)
{
    struct rp_update *u = ctx;
    if (err) {
        update_end(u, err);
        return;
    }
    take(&u->p->record, &u->record);
    emit_project(u->p);
    take_effect(u);
}

static void update_begin(struct rp_update *u)
{
    struct rp_error err = {0};
    struct rp_project *p = u->p;
    if (u->expected && u->expected != p->record.version) {
        (void)rp_error_set(&err, RP_ERROR_PRECONDITION, "the project has version %llu by now",
                           (unsigned long long)p->record.version);
        update_end(u, &err);
        return;
    }
    rp_project_record_done(&u->record);
    rp_project_record_copy(&u->record, &p->record);
    if (rp_project_input_apply(&u->input, &u->record, &err) < 0) {
        update_end(u, &err);
        return;
    }
    u->record.updated_at = rp_clock_wall_us();
    rp_store_project_update(p->all->parts.store, &u->record, updated, u);
}

void rp_project_update(struct rp_project *p, struct rp_project_input *input, uint64_t expected_version,
                       rp_project_fn *fn, void *ctx)
{
    struct rp_update *u = rp_calloc(1, sizeof *u);
    u->p = rp_project_ref(p);
    u->input = *input;
    *input = (struct rp_project_input){0};
    u->expected = expected_version;
    u->fn = fn;
    u->ctx = ctx;
    struct rp_update **last = &p->updates;
    while (*last)
        last = &(*last)->next;
    *last = u;
    if (p->updates == u)
        update_begin(u);
}
