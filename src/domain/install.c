/*
 * install.c: the steps that install a project's packages, in a cgroup step of their own, one after the other.
 * What was installed is recorded only after the last one succeeded.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/install_reason.h"
#include "domain/project_processes.h"
#include "domain/run_internal.h"

enum { REASON_TAIL = 16384 };

/* A user who gave the project more than the stack's installs get, gets that for installs too. */
static struct rp_limits install_limits(const struct rp_project *p)
{
    struct rp_limits l = p->stack->install_limits, user = rp_project_limits(p);
    l.memory = RP_MAX(l.memory, user.memory);
    l.cpu = RP_MAX(l.cpu, user.cpu);
    l.processes = RP_MAX(l.processes, user.processes);
    return l;
}

static bool has_steps(const struct rp_project *p)
{
    const struct rp_orchestrator_info *info = rp_orchestrator_info_of(p->all->orchestrator);
    return !info || info->capabilities & RP_DRIVER_STEPS;
}

static void step_dropped(void *ctx, const struct rp_error *err)
{
    struct rp_project *p = ctx;
    if (err && err->code != RP_ERROR_NOT_FOUND)
        rp_log(RP_LOG_WARNING, "install step not dropped", "project", rp_project_id(p), "why", err->message,
               NULL);
    rp_project_unref(p);
}

static void drop_step(struct rp_project *p)
{
    if (has_steps(p) && p->slot == SLOT_UP)
        rp_orchestrator_step_drop(p->all->orchestrator, p->slot_id, RP_STEP_INSTALL, step_dropped,
                                  rp_project_ref(p));
}

static void install_fail(struct rp_project *p, enum rp_code code, const char *why)
{
    struct rp_error err = {0};
    char line[512];
    (void)rp_error_set(&err, code, "%s", why);
    snprintf(line, sizeof line, "install failed: %s\n", why);
    rp_process_set_log_write(run_processes(p), rp_str_of(line));
    drop_step(p);
    run_fail(p, &err);
}

/* ---- after the last step ---- */

static void installed_saved(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct run_call *c = ctx;
    /* an error was logged; the next run installs once more, which is slower and not wrong */
    if (run_call_current(c))
        run_start_command(p);
    run_call_free(c);
}

static void installed_read(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct run_call *c = ctx;
    if (!run_call_current(c)) {
        run_call_free(c);
        return;
    }
    if (err) {
        install_fail(p, err->code, err->message);
        run_call_free(c);
        return;
    }
    char fingerprint[RP_FINGERPRINT_SIZE];
    rp_stack_fingerprint(p->stack, p->run.watched, fingerprint);
    free(p->record.installed);
    p->record.installed = rp_strdup(fingerprint);
    drop_step(p);
    rp_project_save(p, installed_saved, c);
}

/* ---- one step ---- */

static void log_command(struct rp_project *p, const char *const *argv)
{
    struct rp_buf b;
    rp_buf_init(&b, 65536);
    bool fits = rp_buf_append(&b, "$", 1);
    for (; *argv; argv++)
        fits = fits && rp_buf_printf(&b, " %s", *argv);
    fits = fits && rp_buf_append(&b, "\n", 1);
    if (fits) /* in one piece, since followers get each piece as an event */
        rp_process_set_log_write(run_processes(p), rp_buf_view(&b));
    rp_buf_done(&b);
}

static void step_spawned(void *ctx, struct rp_process *process, const struct rp_error *err)
{
    struct run_call *c = ctx;
    if (!run_call_current(c)) {
        if (!err)
            rp_process_stop(process, 0);
    } else if (err) {
        char why[448];
        snprintf(why, sizeof why, "%s could not be started: %s", c->p->stack->steps[c->p->run.step].argv[0],
                 err->message);
        install_fail(c->p, RP_ERROR_CONFLICT, why);
    } else {
        c->p->run.process = rp_process_id(process);
        if (c->p->run.stop_asked)
            rp_process_stop(process, STOP_GRACE_MS);
    }
    run_call_free(c);
}

static void next_step(struct rp_project *p)
{
    const struct rp_stack *stack = p->stack;
    while (p->run.step < stack->step_count &&
           !rp_stack_step_applies(stack, &stack->steps[p->run.step], p->run.watched))
        p->run.step++;
    if (p->run.step >= stack->step_count) {
        rp_project_read_watched(p, installed_read, run_call_new(p));
        return;
    }
    const struct rp_stack_step *step = &stack->steps[p->run.step];
    char data[64];
    snprintf(data, sizeof data, "step %zu", p->run.step);
    char **env = rp_project_env(p, NULL);
    struct rp_process_spec spec = {
        .kind = RP_PROCESS_INSTALL,
        .flags = RP_PROCESS_LOG,
        .step = has_steps(p) ? RP_STEP_INSTALL : RP_STEP_USER,
        .argv = step->argv,
        .env = (const char *const *)env,
        .data = rp_str_of(data),
    };
    rp_project_set_progress(p, step->label);
    log_command(p, step->argv);
    rp_process_spawn(run_processes(p), &spec, step_spawned, run_call_new(p));
    rp_env_free(env);
}

static void limits_set(void *ctx, const struct rp_error *err)
{
    struct run_call *c = ctx;
    if (run_call_current(c)) {
        if (err)
            install_fail(c->p, err->code, err->message);
        else
            next_step(c->p);
    }
    run_call_free(c);
}

void run_install(struct rp_project *p)
{
    p->run.busy = false;
    p->run.step = 0;
    p->run.install_started_ms = rp_project_now(p);
    run_set_state(p, RP_RUN_INSTALLING);
    waiters_answer(&p->run_waiters, p, NULL);
    if (!has_steps(p)) {
        next_step(p);
        return;
    }
    struct rp_limits limits = install_limits(p);
    rp_orchestrator_limits(p->all->orchestrator, p->slot_id, RP_STEP_INSTALL, &limits, limits_set,
                           run_call_new(p));
}

/* ---- the end of a step ---- */

static void describe_failure(struct rp_project *p, const struct rp_exit *exit, char *dst, size_t cap)
{
    struct rp_output *log = rp_process_set_log(run_processes(p));
    struct rp_ring *ring = log ? rp_output_ring(log) : NULL;
    if (p->run.oom) {
        snprintf(dst, cap, "out of memory: installing has %llu MiB",
                 (unsigned long long)(install_limits(p).memory >> 20));
        return;
    }
    if (ring) {
        uint64_t end = rp_ring_end(ring),
                 start = RP_MAX(rp_ring_start(ring), rp_process_set_log_start(run_processes(p)));
        uint64_t from = end - RP_MIN(end - start, (uint64_t)REASON_TAIL);
        if (rp_install_reason(p->stack->manager, rp_ring_view(ring, from, (size_t)(end - from)), dst, cap))
            return;
    }
    const char *program =
        p->run.step < p->stack->step_count ? p->stack->steps[p->run.step].argv[0] : "the package manager";
    if (exit->signal)
        snprintf(dst, cap, "%s was ended by SIG%s", program, sigabbrev_np(exit->signal) ?: "?");
    else
        snprintf(dst, cap, "%s ended with exit code %d", program, exit->code);
}

static void continue_read(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct run_call *c = ctx;
    if (run_call_current(c)) {
        if (err)
            install_fail(p, err->code, err->message);
        else
            next_step(p);
    }
    run_call_free(c);
}

void run_install_ended(struct rp_project *p, const struct rp_exit *exit)
{
    p->run.process = 0;
    if (p->run.stop_asked) {
        install_fail(p, RP_ERROR_CONFLICT, "it was stopped");
        return;
    }
    if (!p->stack) {
        install_fail(p, RP_ERROR_ENVIRONMENT, "its stack is not there any more");
        return;
    }
    if (exit->code != 0 || exit->signal) {
        char why[384];
        p->run.has_exit = true;
        p->run.exit_code = exit->code;
        p->run.exit_signal = exit->signal;
        describe_failure(p, exit, why, sizeof why);
        install_fail(p, RP_ERROR_CONFLICT, why);
        return;
    }
    p->run.step++;
    if (!p->run.watched_known)
        rp_project_read_watched(p, continue_read,
                                run_call_new(p)); /* what the former server had read is gone */
    else
        next_step(p);
}

void run_install_adopted(struct rp_project *p, struct rp_process *process)
{
    struct rp_str data = rp_process_data(process);
    uint64_t step = 0;
    /* The label comes back from the sandbox, and the stack may have other steps than when it was written, or be gone. */
    size_t steps = p->stack ? p->stack->step_count : 0;
    if (rp_str_starts(data, "step "))
        (void)rp_str_to_u64((struct rp_str){data.p + 5, data.n - 5}, steps, &step);
    p->run.attempt++;
    p->run.step = (size_t)step;
    p->run.process = rp_process_id(process);
    p->run.install_started_ms = rp_project_now(p);
    rp_run_clear_watched(p);
    run_set_state(p, RP_RUN_INSTALLING);
    if (step < steps)
        rp_project_set_progress(p, p->stack->steps[step].label);
}

void rp_run_tick(struct rp_project *p)
{
    if (p->run.state != RP_RUN_INSTALLING || !p->run.process || !p->stack || !p->stack->install_timeout ||
        rp_project_now(p) - p->run.install_started_ms < (uint64_t)p->stack->install_timeout * 1000)
        return;
    struct rp_process *process = rp_process_find(run_processes(p), p->run.process);
    char why[96];
    snprintf(why, sizeof why, "it took longer than %u s", p->stack->install_timeout);
    p->run.process = 0;
    if (process)
        rp_process_stop(process, STOP_GRACE_MS);
    install_fail(p, RP_ERROR_TIMEOUT, why);
}
