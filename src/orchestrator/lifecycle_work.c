/* lifecycle_work.c: the blocking halves of the lifecycle's jobs. Worker threads. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "orchestrator/init_link.h"
#include "orchestrator/lifecycle_internal.h"

static struct rp_driver *driver_of(struct job *j)
{
    return j->lifecycle->options.driver;
}

/* A connection to init on which HELLO was said. */
static int link_open(struct job *j, struct rp_error *err)
{
    struct rp_driver *d = driver_of(j);
    _cleanup_close_ int connection = d->ops->connect(d, j->record.instance, err);
    if (connection < 0 || rp_init_link_hello(connection, err) < 0)
        return -1;
    return RP_STEAL_FD(connection);
}

/* ---- start ---- */

static int cancelled(struct job *j, struct rp_error *err)
{
    if (atomic_load(&j->cancelled))
        return rp_error_set(err, RP_ERROR_CONFLICT, "the sandbox was stopped while it started");
    return 0;
}

/* An empty sandbox: a warm one when there is one, else a new one. The record says which before it is made. */
static int make(struct job *j, struct rp_error *err)
{
    const char *records = j->lifecycle->options.records;
    struct rp_driver *d = driver_of(j);
    if (rp_warm_take(j->lifecycle->warm, j->record.instance)) {
        j->record.warm = true;
        return rp_record_write(records, &j->record, err);
    }
    if (rp_record_write(records, &j->record, err) < 0)
        return -1;
    rp_lifecycle_progress(j, "sandbox");
    if (!(d->ops->capabilities & RP_DRIVER_WARM))
        return 0; /* claim makes it */
    return d->ops->create(d, j->record.instance, err);
}

/* From an empty sandbox to one that runs. */
static int fill(struct job *j, const struct rp_volume_paths *paths, struct rp_error *err)
{
    struct rp_driver *d = driver_of(j);
    struct rp_sandbox_spec spec = {.files = paths->files,
                                   .system = paths->system,
                                   .work = paths->work,
                                   .limits = j->request.limits,
                                   .network = j->request.network};
    memcpy(spec.id, j->record.instance, sizeof(spec.id));
    memcpy(spec.project, j->record.project, sizeof(spec.project));
    memcpy(spec.environment, j->record.environment, sizeof(spec.environment));
    rp_lifecycle_progress(j, "files");
    /* An init that answers is one that the runtime has executed: only then may its root be changed. (Drivers
     * whose claim makes the sandbox have none yet.) */
    bool made = d->ops->capabilities & RP_DRIVER_WARM;
    _cleanup_close_ int connection = made ? link_open(j, err) : -1;
    if ((made && connection < 0) || cancelled(j, err) < 0 || d->ops->claim(d, &spec, err) < 0)
        return -1;
    rp_lifecycle_progress(j, "limits");
    if (!made && (connection = link_open(j, err)) < 0)
        return -1;
    if (d->ops->limits(d, j->record.instance, 0, &spec.limits, connection, err) < 0)
        return -1;
    if ((j->watch_fd = d->ops->watch(d, j->record.instance, err)) < 0 ||
        (j->fd = d->ops->connect(d, j->record.instance, err)) < 0)
        return -1;
    j->record.running = true;
    j->record.started_at = rp_clock_wall_us();
    return rp_record_write(j->lifecycle->options.records, &j->record, err);
}

/* The next attempt is for an instance of its own name. */
static bool fresh_instance(struct job *j)
{
    memcpy(j->record.instance, j->record.sandbox, sizeof(j->record.instance));
    j->record.running = false;
    return true;
}

/* Removes every trace, then the record: in this order, so that a crash in between is noticed. */
static int take_away(struct job *j, struct rp_error *err)
{
    struct rp_driver *d = driver_of(j);
    if (d->ops->destroy(d, j->record.instance, err) < 0)
        return -1;
    return rp_record_remove(j->lifecycle->options.records, j->record.sandbox, err);
}

void rp_work_start(void *ctx)
{
    struct job *j = ctx;
    _cleanup_free_ struct rp_volume_paths *paths = rp_alloc(sizeof(*paths));
    j->fd = j->watch_fd = -1;
    rp_lifecycle_progress(j, "volume");
    if (cancelled(j, &j->error) < 0 ||
        rp_volumes_paths(j->lifecycle->options.volumes, j->record.project, paths, &j->error) < 0) {
        j->failed = true;
        return;
    }
    struct rp_error undo;
    do {
        j->record.warm = false;
        j->failed = make(j, &j->error) < 0 || fill(j, paths, &j->error) < 0;
        if (!j->failed)
            return;
        rp_close_fd(&j->fd);
        rp_close_fd(&j->watch_fd);
        j->left = take_away(j, &undo) < 0;
        if (j->left)
            rp_error_prefix(&j->error, "(and what was made could not be removed: %s)", undo.message);
        /* A warm one may have died unseen: that is no reason not to start. */
    } while (j->record.warm && !j->left && !atomic_load(&j->cancelled) && fresh_instance(j));
}

/* ---- end ---- */

void rp_work_remove(void *ctx)
{
    struct job *j = ctx;
    struct rp_driver *d = driver_of(j);
    /* Why it ended is known only while it is there; not knowing is no reason to keep it. */
    if (j->type != JOB_CLEANUP || d->ops->alive(d, j->record.instance, &j->ended, NULL) < 0)
        j->ended = (struct rp_sandbox_ended){.ended = true};
    j->failed = take_away(j, &j->error) < 0;
}

void rp_work_shutdown(void *ctx)
{
    struct job *j = ctx;
    _cleanup_close_ int connection = link_open(j, &j->error);
    if (connection < 0 || rp_init_link_shutdown(connection, j->request.grace_ms, &j->error) < 0) {
        j->failed = true;
        return;
    }
    j->fd = RP_STEAL_FD(connection);
}

/* ---- the rest ---- */

void rp_work_attach(void *ctx)
{
    struct job *j = ctx;
    struct rp_driver *d = driver_of(j);
    j->fd = d->ops->connect(d, j->record.instance, &j->error);
    j->failed = j->fd < 0;
    j->answer.type = RP_ORCH_ATTACHED;
    j->answer.started_at = j->record.started_at;
    j->answer.warm = j->record.warm;
    memcpy(j->answer.sandbox, j->record.sandbox, sizeof(j->answer.sandbox));
}

void rp_work_limits(void *ctx)
{
    struct job *j = ctx;
    struct rp_driver *d = driver_of(j);
    _cleanup_close_ int connection = link_open(j, &j->error);
    j->failed = connection < 0 || d->ops->limits(d, j->record.instance, j->request.step, &j->request.limits,
                                                 connection, &j->error) < 0;
}

void rp_work_step_drop(void *ctx)
{
    struct job *j = ctx;
    struct rp_driver *d = driver_of(j);
    _cleanup_close_ int connection = link_open(j, &j->error);
    j->failed = connection < 0 || rp_init_link_drop_step(connection, j->request.step, &j->error) < 0 ||
                d->ops->step_drop(d, j->record.instance, j->request.step, &j->error) < 0;
}

void rp_work_stats(void *ctx)
{
    struct job *j = ctx;
    struct rp_driver *d = driver_of(j);
    j->failed = d->ops->stats(d, j->record.instance, &j->answer.stats, &j->error) < 0;
    j->answer.type = RP_ORCH_STATISTICS;
}

static void add_id(void *ctx, const char *project)
{
    struct job *j = ctx;
    if ((j->id_count & (j->id_count - 1)) == 0)
        j->ids = rp_realloc(j->ids, (j->id_count ? j->id_count * 2 : 1) * sizeof(*j->ids));
    if (rp_str_copy(j->ids[j->id_count], RP_ID_SIZE, rp_str_of(project)))
        j->id_count++;
}

static int volume(struct job *j, struct rp_error *err)
{
    struct rp_volumes *v = j->lifecycle->options.volumes;
    const struct rp_orchestrator_message *m = &j->request;
    struct rp_volume_usage usage;
    switch (j->type) {
    case RP_ORCH_VOLUME_CREATE:
        return rp_volumes_create(v, m->project, m->quota, err);
    case RP_ORCH_VOLUME_DELETE:
        return rp_volumes_remove(v, m->project, err);
    case RP_ORCH_VOLUME_QUOTA:
        return rp_volumes_set_quota(v, m->project, m->quota, err);
    case RP_ORCH_VOLUME_CLONE:
        return rp_volumes_clone(v, m->project, m->other, err);
    case RP_ORCH_VOLUME_LIST:
        return rp_volumes_list(v, add_id, j, err);
    case RP_ORCH_VOLUME_USAGE:
        if (rp_volumes_usage(v, m->project, &usage, err) < 0)
            return -1;
        j->answer.type = RP_ORCH_VOLUME_USED;
        j->answer.used = usage.used;
        j->answer.quota = usage.quota;
        return 0;
    default:
        return rp_error_set(err, RP_ERROR_INTERNAL, "not a request for volumes");
    }
}

void rp_work_volume(void *ctx)
{
    struct job *j = ctx;
    j->failed = volume(j, &j->error) < 0;
}

void rp_work_ready(void *ctx)
{
    struct job *j = ctx;
    struct rp_driver *d = driver_of(j);
    j->failed =
        d->ops->ready(d, &j->error) < 0 || rp_volumes_check(j->lifecycle->options.volumes, &j->error) < 0;
}
