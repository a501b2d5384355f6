/*
 * run.c: the run command of a project: start what is missing, install what is missing, run, and what its end
 * means. Installs are in install.c.
 *
 * `run.busy` lasts from the request to the first process; every answer carries the number of its attempt, so
 * that one of an earlier attempt changes nothing.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/project_processes.h"
#include "domain/run_internal.h"

struct run_call *run_call_new(struct rp_project *p)
{
    struct run_call *c = rp_calloc(1, sizeof *c);
    c->p = rp_project_ref(p);
    c->attempt = p->run.attempt;
    return c;
}

bool run_call_current(const struct run_call *c)
{
    return c->attempt == c->p->run.attempt;
}

void run_call_free(struct run_call *c)
{
    rp_project_unref(c->p);
    free(c);
}

const char *rp_run_state_name(enum rp_run_state s)
{
    static const char *const names[] = {
        [RP_RUN_IDLE] = "idle",     [RP_RUN_INSTALLING] = "installing", [RP_RUN_RUNNING] = "running",
        [RP_RUN_EXITED] = "exited", [RP_RUN_FAILED] = "failed",
    };
    return names[s];
}

struct rp_process_set *run_processes(struct rp_project *p)
{
    return rp_project_processes(p->all->parts.processes, p);
}

void rp_run_clear_watched(struct rp_project *p)
{
    for (unsigned i = 0; i < RP_STACK_WATCHED_MAX; i++) {
        free(p->run.watched_content[i]);
        p->run.watched_content[i] = NULL;
        p->run.watched[i] = (struct rp_stack_state){0};
    }
    p->run.watched_known = false;
}

void run_set_state(struct rp_project *p, enum rp_run_state state)
{
    p->run.state = state;
    rp_run_changed(p);
}

/* The attempt is over before its run command began. */
void run_fail(struct rp_project *p, const struct rp_error *why)
{
    struct rp_error err = *why;
    p->run.busy = false;
    p->run.attempt++;
    p->run.process = 0;
    snprintf(p->run.reason, sizeof p->run.reason, "%s", err.message);
    rp_run_clear_watched(p);
    rp_project_set_progress(p, NULL);
    rp_log(RP_LOG_INFO, "run failed", "project", p->record.id, "why", err.message, NULL);
    if (p->record.run_wanted && p->record.always_on && p->slot_running && !p->run.stop_asked) {
        rp_project_plan_restart(p); /* the registry may have been away */
    } else if (p->record.run_wanted) {
        p->record.run_wanted = false;
        rp_project_save(p, NULL, NULL);
    }
    run_set_state(p, RP_RUN_FAILED);
    waiters_answer(&p->run_waiters, p, &err);
    waiters_answer(&p->run_stop_waiters, p, NULL);
}

/* The attempt is given up because somebody asked for it. */
static void run_cancel(struct rp_project *p)
{
    struct rp_error err = {0};
    p->run.busy = false;
    p->run.attempt++;
    p->run.process = 0;
    rp_run_clear_watched(p);
    rp_project_set_progress(p, NULL);
    run_set_state(p, RP_RUN_IDLE);
    (void)rp_error_set(&err, RP_ERROR_CONFLICT, "the run was stopped before it began");
    waiters_answer(&p->run_waiters, p, &err);
    waiters_answer(&p->run_stop_waiters, p, NULL);
}

/* ---- the run command ---- */

static void run_spawned(void *ctx, struct rp_process *process, const struct rp_error *err)
{
    struct run_call *c = ctx;
    struct rp_project *p = c->p;
    if (!run_call_current(c)) {
        if (!err)
            rp_process_stop(process, 0);
    } else if (err) {
        struct rp_error why = *err;
        why.code = RP_ERROR_CONFLICT;
        (void)rp_error_prefix(&why, "the run command could not be started");
        char line[512];
        snprintf(line, sizeof line, "%s\n", why.message);
        rp_process_set_log_write(run_processes(p), rp_str_of(line));
        run_fail(p, &why);
    } else {
        p->run.busy = false;
        p->run.process = rp_process_id(process);
        p->run.started_at = rp_process_started_at(process);
        p->healthy_since_ms = rp_project_now(p);
        rp_project_set_progress(p, NULL);
        rp_project_ports_fast(p);
        run_set_state(p, RP_RUN_RUNNING);
        waiters_answer(&p->run_waiters, p, NULL);
        if (p->run.stop_asked)
            rp_process_stop(process, STOP_GRACE_MS);
    }
    run_call_free(c);
}

void run_start_command(struct rp_project *p)
{
    char **split = NULL;
    struct rp_error err = {0};
    const char *const *argv = p->stack->run;
    const char *line = p->record.run_command ? p->record.run_command : p->stack->run_command;

    rp_run_clear_watched(p);
    if (p->run.stop_asked) {
        run_cancel(p);
        return;
    }
    if (p->record.run_command) {
        if (rp_command_split(p->record.run_command, &split, &err) < 0) {
            run_fail(p, &err);
            return;
        }
        argv = (const char *const *)split;
    }
    char **env = rp_project_env(p, NULL);
    struct rp_process_spec spec = {
        .kind = RP_PROCESS_RUN,
        .flags = RP_PROCESS_LOG,
        .step = RP_STEP_USER,
        .argv = argv,
        .env = (const char *const *)env,
    };
    _cleanup_free_ char *announced = rp_asprintf("$ %s\n", line);
    rp_process_set_log_write(run_processes(p), rp_str_of(announced));
    rp_process_spawn(run_processes(p), &spec, run_spawned, run_call_new(p));
    rp_env_free(env);
    rp_argv_free(split);
}

/* ---- before it: sandbox, files, what is missing ---- */

static void oom_baseline(void *ctx, const struct rp_sandbox_stats *stats, const struct rp_error *err)
{
    struct run_call *c = ctx;
    if (!err && run_call_current(c))
        c->p->run.oom_kills = stats->oom_kills;
    run_call_free(c);
}

static void watched_read(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct run_call *c = ctx;
    if (run_call_current(c)) {
        char fingerprint[RP_FINGERPRINT_SIZE];
        if (err) {
            run_fail(p, err);
        } else if (p->run.stop_asked) {
            run_cancel(p);
        } else {
            rp_process_set_log_begin(run_processes(p));
            rp_stack_fingerprint(p->stack, p->run.watched, fingerprint);
            if (p->stack->step_count == 0 ||
                (p->record.installed && strcmp(fingerprint, p->record.installed) == 0))
                run_start_command(p);
            else
                run_install(p);
        }
    }
    run_call_free(c);
}

static void run_sandbox_started(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct run_call *c = ctx;
    if (!run_call_current(c)) {
        run_call_free(c);
        return;
    }
    if (err || p->run.stop_asked) {
        if (err)
            run_fail(p, err);
        else
            run_cancel(p);
        run_call_free(c);
        return;
    }
    p->run.oom = false;
    p->run.oom_kills = 0;
    rp_orchestrator_stats(p->all->orchestrator, p->slot_id, oom_baseline, run_call_new(p));
    if (p->stack->step_count) {
        rp_project_read_watched(p, watched_read, c);
        return;
    }
    watched_read(c, p, NULL);
}

void rp_project_run(struct rp_project *p, rp_project_fn *fn, void *ctx)
{
    struct rp_error err = {0};
    if (p->deleting || !p->stack) {
        (void)rp_error_set(&err, p->stack ? RP_ERROR_NOT_FOUND : RP_ERROR_ENVIRONMENT, "%s",
                           p->stack ? "the project is being deleted"
                                    : "the project's stack is not there any more");
        fn(ctx, p, &err);
        return;
    }
    bool stays = p->slot == SLOT_UP && !p->stop_pending;
    if (stays && (p->run.state == RP_RUN_INSTALLING || p->run.state == RP_RUN_RUNNING)) {
        p->run.stop_asked = false;
        rp_project_touch(p);
        fn(ctx, p, NULL);
        return;
    }
    waiters_add(&p->run_waiters, fn, ctx);
    p->run.stop_asked = false;
    if (p->run.busy)
        return;
    p->run.busy = true;
    p->run.attempt++;
    p->run.has_exit = false;
    p->run.process = 0;
    p->run.reason[0] = '\0';
    p->restart_at_ms = 0;
    if (p->run.state == RP_RUN_EXITED || p->run.state == RP_RUN_FAILED)
        run_set_state(p, RP_RUN_IDLE); /* that was the one before */
    if (!p->record.run_wanted) {
        p->record.run_wanted = true;
        if (p->slot_running)
            rp_project_save(p, NULL, NULL);
    }
    rp_project_start(p, run_sandbox_started, run_call_new(p));
}

void rp_project_run_stop(struct rp_project *p, rp_project_fn *fn, void *ctx)
{
    struct rp_process *process = p->run.process ? rp_process_find(run_processes(p), p->run.process) : NULL;
    if (p->record.run_wanted) {
        p->record.run_wanted = false;
        rp_project_save(p, NULL, NULL);
    }
    if (p->slot_running)
        p->restart_at_ms = 0;
    p->backoff_ms = 0;
    if (!p->run.busy && !process) {
        fn(ctx, p, NULL);
        return;
    }
    p->run.stop_asked = true;
    waiters_add(&p->run_stop_waiters, fn, ctx);
    if (process)
        rp_process_stop(process, STOP_GRACE_MS);
}

/* ---- its end ---- */

struct ended_call {
    struct run_call *c;
    struct rp_exit exit;
};

static void run_ended(struct rp_project *p, const struct rp_exit *exit)
{
    p->run.process = 0;
    p->run.has_exit = true;
    p->run.exit_code = exit->code;
    p->run.exit_signal = exit->signal;
    p->run.reason[0] = '\0';
    if (p->run.oom)
        snprintf(p->run.reason, sizeof p->run.reason, "out of memory: the limit is %llu MiB",
                 (unsigned long long)(rp_project_limits(p).memory >> 20));
    bool again = p->record.always_on && p->record.run_wanted && !p->run.stop_asked && p->slot_running &&
                 !p->stop_pending;
    if (again) {
        rp_project_plan_restart(p);
    } else if (p->record.run_wanted && p->slot_running && !p->stop_pending) {
        p->record.run_wanted = false;
        rp_project_save(p, NULL, NULL);
    }
    run_set_state(p, RP_RUN_EXITED);
    waiters_answer(&p->run_stop_waiters, p, NULL);
}

static void ended_stats(void *ctx, const struct rp_sandbox_stats *stats, const struct rp_error *err)
{
    struct ended_call *e = ctx;
    if (run_call_current(e->c)) {
        if (!err && stats->oom_kills > e->c->p->run.oom_kills)
            e->c->p->run.oom = true;
        if (e->c->p->run.state == RP_RUN_INSTALLING)
            run_install_ended(e->c->p, &e->exit);
        else if (e->c->p->run.state == RP_RUN_RUNNING)
            run_ended(e->c->p, &e->exit);
    }
    run_call_free(e->c);
    free(e);
}

static void process_ended(struct rp_project *p, const struct rp_exit *exit)
{
    bool killed = exit->signal == SIGKILL || exit->code == 128 + SIGKILL ||
                  (p->run.state == RP_RUN_INSTALLING && (exit->signal || exit->code));
    if (killed && !p->run.stop_asked && !p->run.oom && p->slot == SLOT_UP) {
        /* the kernel's count says whether it was for want of memory */
        struct ended_call *e = rp_calloc(1, sizeof *e);
        e->c = run_call_new(p);
        e->exit = *exit;
        rp_orchestrator_stats(p->all->orchestrator, p->slot_id, ended_stats, e);
    } else if (p->run.state == RP_RUN_INSTALLING) {
        run_install_ended(p, exit);
    } else {
        run_ended(p, exit);
    }
}

static void hook_exited(void *ctx, struct rp_process_set *set, struct rp_process *process)
{
    struct rp_project *p = rp_process_set_owner(set);
    const struct rp_exit *exit = rp_process_exit(process);
    if (rp_process_id(process) != p->run.process || rp_process_lost(process) || !exit)
        return; /* not ours, or rp_run_sandbox_lost says it */
    p->run.process = 0;
    process_ended(p, exit);
}

void rp_run_oom(struct rp_project *p)
{
    p->run.oom = true;
}

void rp_run_sandbox_lost(struct rp_project *p)
{
    bool was = p->run.busy || p->run.state == RP_RUN_INSTALLING || p->run.state == RP_RUN_RUNNING;
    p->run.process = 0;
    if (!was && !(p->run.state == RP_RUN_EXITED && !p->failed))
        return;
    if (p->run.busy && p->desired) {
        p->run.state = RP_RUN_IDLE; /* asked for while the project went down: it begins when it is up again */
    } else if (p->failed) {
        struct rp_error err = {0};
        (void)rp_error_set(&err, RP_ERROR_SANDBOX, "%s",
                           p->record.reason ? p->record.reason : "the sandbox is gone");
        bool wanted = p->record.run_wanted;
        run_fail(p, &err);
        p->record.run_wanted = wanted; /* the lifecycle decides whether it is started again */
    } else {
        p->run.has_exit = false;
        run_cancel(p);
    }
}

/* ---- after a restart of the server ---- */

static void run_resumed(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    if (err)
        rp_log(RP_LOG_WARNING, "run not resumed", "project", rp_project_id(p), "why", err->message, NULL);
}

static void hook_ready(void *ctx, struct rp_process_set *set, bool adopted)
{
    struct rp_project *p = rp_process_set_owner(set);
    if (!adopted || !p->slot_running)
        return;
    struct rp_process *process = rp_process_running(set, RP_PROCESS_RUN);
    if (process) {
        p->run.attempt++;
        p->run.process = rp_process_id(process);
        p->run.started_at = rp_process_started_at(process);
        run_set_state(p, RP_RUN_RUNNING);
        return;
    }
    process = rp_process_running(set, RP_PROCESS_INSTALL);
    if (process) {
        run_install_adopted(p, process);
        return;
    }
    /* It ended, and was seen to end, before the server did; or it was never begun. */
    struct rp_process *last = NULL;
    for (process = rp_process_next(set, NULL); process; process = rp_process_next(set, process))
        if (rp_process_kind_of(process) == RP_PROCESS_RUN && rp_process_exit(process))
            last = process;
    if (last) {
        p->run.started_at = rp_process_started_at(last);
        run_ended(p, rp_process_exit(last));
    } else if (p->record.run_wanted) {
        rp_project_run(p, run_resumed, NULL); /* the server died between two of its steps */
    }
}

const struct rp_processes_hooks rp_run_hooks = {.ready = hook_ready, .exited = hook_exited};
