#include "orchestrator/lifecycle.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "orchestrator/lifecycle_internal.h"

enum {
    GRACE_EXTRA_MS = 2000, /* for init to end by itself after the grace that it was given */
    RETRY_MIN_MS = 1000,
    RETRY_MAX_MS = 30000,
    MEMORY_KEPT_FREE = 64 << 20, /* of the host: below it nothing more is started */
};

static void next_job(struct slot *slot);
static void retry_cleanup(void *ctx);

/* ---- slots and sandboxes ---- */

static struct slot *slot_find(struct rp_lifecycle *l, const char *project)
{
    for (struct slot *s = l->slots; s; s = s->next)
        if (strcmp(s->project, project) == 0)
            return s;
    return NULL;
}

struct slot *rp_slot_get(struct rp_lifecycle *l, const char *project)
{
    struct slot *s = slot_find(l, project);
    if (s)
        return s;
    s = rp_calloc(1, sizeof(*s));
    memcpy(s->project, project, sizeof(s->project));
    s->lifecycle = l;
    s->last = &s->first;
    s->next = l->slots;
    l->slots = s;
    return s;
}

static void slot_free_unused(struct slot *slot)
{
    if (slot->sandbox || slot->active || slot->first)
        return;
    for (struct slot **at = &slot->lifecycle->slots; *at; at = &(*at)->next) {
        if (*at == slot) {
            *at = slot->next;
            free(slot);
            return;
        }
    }
}

static bool starts(const struct job *j, const char *sandbox)
{
    return j && j->type == RP_ORCH_START && strcmp(j->request.sandbox, sandbox) == 0;
}

/* The slot of the sandbox: it is there, or a START for it waits. */
static struct slot *slot_of_sandbox(struct rp_lifecycle *l, const char *sandbox)
{
    for (struct slot *s = l->slots; s; s = s->next) {
        if (s->sandbox && strcmp(s->sandbox->record.sandbox, sandbox) == 0)
            return s;
        if (starts(s->active, sandbox))
            return s;
        for (struct job *j = s->first; j; j = j->next)
            if (starts(j, sandbox))
                return s;
    }
    return NULL;
}

struct sandbox *rp_sandbox_add(struct slot *slot, const struct rp_record *record, enum phase phase)
{
    struct sandbox *s = rp_calloc(1, sizeof(*s));
    s->record = *record;
    s->slot = slot;
    s->phase = phase;
    s->watch_fd = -1;
    s->retry_ms = RETRY_MIN_MS;
    s->retry = rp_timer_new(slot->lifecycle->options.loop, retry_cleanup, s);
    slot->sandbox = s;
    slot->lifecycle->sandbox_count++;
    return s;
}

static void sandbox_unwatch(struct sandbox *s)
{
    rp_watch_free(s->watch);
    s->watch = NULL;
    rp_close_fd(&s->watch_fd);
}

static void sandbox_drop(struct slot *slot)
{
    struct sandbox *s = slot->sandbox;
    if (!s)
        return;
    sandbox_unwatch(s);
    rp_timer_free(s->retry);
    free(s);
    slot->sandbox = NULL;
    slot->lifecycle->sandbox_count--;
}

/* ---- jobs ---- */

static struct job *job_new(struct rp_lifecycle *l, struct slot *slot, uint32_t client, uint16_t type)
{
    struct job *j = rp_calloc(1, sizeof(*j));
    j->lifecycle = l;
    j->slot = slot;
    j->number = ++l->next_number;
    j->client = client;
    j->type = type;
    j->fd = j->watch_fd = -1;
    l->job_count++;
    return j;
}

static void job_free(struct job *j)
{
    j->lifecycle->job_count--;
    rp_timer_free(j->grace);
    rp_close_fd(&j->fd);
    rp_close_fd(&j->watch_fd);
    free(j->ids);
    free(j);
}

static void answer_error(struct rp_lifecycle *l, uint32_t client, uint32_t tag, const struct rp_error *e)
{
    struct rp_orchestrator_message m = {
        .type = RP_ORCH_ERROR, .tag = tag, .code = e->code, .errno_value = (uint32_t)e->errno_value};
    snprintf(m.text, sizeof(m.text), "%s", e->message);
    if (client)
        l->events->answer(l->ctx, client, &m, -1);
}

/* Answers, frees, and goes on with the project's next job. j is its slot's active one, or has no slot. */
static void finish(struct job *j)
{
    struct rp_lifecycle *l = j->lifecycle;
    struct slot *slot = j->slot;
    if (j->client && j->failed) {
        answer_error(l, j->client, j->request.tag, &j->error);
    } else if (j->client) {
        for (size_t i = 0; i < j->id_count; i++) {
            struct rp_orchestrator_message m = {.type = RP_ORCH_VOLUME, .tag = j->request.tag};
            memcpy(m.project, j->ids[i], sizeof(m.project));
            l->events->answer(l->ctx, j->client, &m, -1);
        }
        j->answer.tag = j->request.tag;
        if (!j->answer.type)
            j->answer.type = RP_ORCH_OK;
        l->events->answer(l->ctx, j->client, &j->answer,
                          j->answer.type == RP_ORCH_ATTACHED ? RP_STEAL_FD(j->fd) : -1);
    }
    job_free(j);
    if (slot) {
        slot->active = NULL;
        next_job(slot);
    }
}

static void finish_error(struct job *j, enum rp_code code, const char *message)
{
    j->failed = true;
    rp_error_set(&j->error, code, "%s", message);
    finish(j);
}

static void finish_plain(void *ctx)
{
    finish(ctx);
}

static void run(struct job *j, struct rp_pool *pool, void (*work)(void *ctx), void (*done)(void *ctx))
{
    if (j->lifecycle->stopping)
        return; /* it stays its slot's active job; the next server sees what is left to do */
    if (rp_pool_submit(pool, work, done, j, &j->error) < 0) {
        j->failed = true;
        done(j);
    }
}

/* ---- progress ---- */

struct progress {
    struct rp_lifecycle *lifecycle;
    uint64_t number;
    const char *step;
};

/* The job may be over by now: it is looked for by its number. */
static void progress_told(void *ctx)
{
    struct progress *p = ctx;
    struct rp_lifecycle *l = p->lifecycle;
    for (struct slot *s = l->slots; s; s = s->next) {
        if (!s->active || s->active->number != p->number || !s->active->client)
            continue;
        struct rp_orchestrator_message m = {.type = RP_ORCH_PROGRESS, .tag = s->active->request.tag};
        snprintf(m.text, sizeof(m.text), "%s", p->step);
        l->events->answer(l->ctx, s->active->client, &m, -1);
        break;
    }
    free(p);
}

void rp_lifecycle_progress(struct job *j, const char *step)
{
    struct progress *p = rp_alloc(sizeof(*p));
    *p = (struct progress){j->lifecycle, j->number, step};
    rp_loop_post(j->lifecycle->options.loop, progress_told, p);
}

/* ---- the end of a sandbox ---- */

static void tell_gone(struct rp_lifecycle *l, const struct job *j)
{
    struct rp_orchestrator_message m = {.type = RP_ORCH_GONE,
                                        .code = j->ended.oom ? RP_ERROR_OUT_OF_MEMORY : RP_ERROR_SANDBOX};
    memcpy(m.sandbox, j->record.sandbox, sizeof(m.sandbox));
    snprintf(m.text, sizeof(m.text), "%s",
             j->ended.oom ? "the sandbox ran out of memory" : "the sandbox ended by itself");
    rp_log(RP_LOG_WARNING, "sandbox gone", "sandbox", j->record.sandbox, "project", j->record.project, "why",
           m.text, NULL);
    l->events->event(l->ctx, &m);
}

/* It could not be removed: again later, for ever, ever less often. */
static void sandbox_broken(struct sandbox *s, const struct rp_error *why)
{
    s->phase = PHASE_BROKEN;
    sandbox_unwatch(s);
    rp_log(RP_LOG_ERROR, "sandbox not removed", "sandbox", s->record.sandbox, "project", s->record.project,
           "error", why->message, NULL);
    rp_timer_start(s->retry, s->retry_ms, 0);
    s->retry_ms = RP_MIN(s->retry_ms * 2, (uint64_t)RETRY_MAX_MS);
}

static void retry_cleanup(void *ctx)
{
    struct sandbox *s = ctx;
    if (s->phase == PHASE_BROKEN && !s->slot->active)
        rp_slot_cleanup(s->slot, false);
    else
        rp_timer_start(s->retry, s->retry_ms, 0);
}

static void removed(void *ctx)
{
    struct job *j = ctx;
    struct rp_lifecycle *l = j->lifecycle;
    struct slot *slot = j->slot;
    if (j->announce)
        tell_gone(l, j);
    if (j->failed)
        sandbox_broken(slot->sandbox, &j->error);
    else
        sandbox_drop(slot);
    bool reconciles = j->reconciles;
    finish(j);
    if (reconciles)
        rp_lifecycle_reconciled(l);
}

static void begin_cleanup(struct job *j)
{
    struct sandbox *s = j->slot->sandbox;
    if (!s || s->phase == PHASE_RUNNING || s->phase == PHASE_STARTING ||
        strcmp(s->record.instance, j->record.instance) != 0) {
        finish(j); /* a STOP was faster */
        return;
    }
    s->phase = PHASE_ENDING;
    run(j, j->lifecycle->slow, rp_work_remove, removed);
}

static void enqueue(struct job *j)
{
    struct slot *slot = j->slot;
    *slot->last = j;
    slot->last = &j->next;
    if (!slot->active)
        next_job(slot);
}

void rp_slot_cleanup(struct slot *slot, bool announce)
{
    struct job *j = job_new(slot->lifecycle, slot, 0, JOB_CLEANUP);
    j->record = slot->sandbox->record;
    j->announce = announce;
    if (slot->lifecycle->in_reconcile) {
        j->reconciles = true;
        slot->lifecycle->reconciling++;
    }
    enqueue(j);
}

/* Its init ended. */
static void on_ended(void *ctx, unsigned events)
{
    struct sandbox *s = ctx;
    struct slot *slot = s->slot;
    sandbox_unwatch(s);
    if (s->phase == PHASE_RUNNING) {
        s->phase = PHASE_ENDING;
        rp_slot_cleanup(slot, true);
    } else if (s->phase == PHASE_ENDING && slot->active && slot->active->grace) {
        /* a STOP waits for it */
        struct job *j = slot->active;
        rp_timer_free(j->grace);
        j->grace = NULL;
        run(j, j->lifecycle->slow, rp_work_remove, removed);
    }
}

void rp_sandbox_runs(struct sandbox *s, int watch_fd)
{
    s->phase = PHASE_RUNNING;
    s->watch_fd = watch_fd;
    s->watch = rp_watch_new(s->slot->lifecycle->options.loop, watch_fd, on_ended, s);
    if (s->watch)
        rp_watch_set(s->watch, RP_WATCH_READ);
    else /* never seen: what cannot be watched cannot be kept */
        on_ended(s, RP_WATCH_HANGUP);
}

/* ---- STOP ---- */

static void grace_is_over(void *ctx)
{
    struct job *j = ctx;
    rp_timer_free(j->grace);
    j->grace = NULL;
    run(j, j->lifecycle->slow, rp_work_remove, removed);
}

static void shutdown_said(void *ctx)
{
    struct job *j = ctx;
    struct sandbox *s = j->slot->sandbox;
    if (j->failed || !s->watch) {
        /* an init that does not listen is killed with the rest */
        j->failed = false;
        run(j, j->lifecycle->slow, rp_work_remove, removed);
        return;
    }
    j->grace = rp_timer_new(j->lifecycle->options.loop, grace_is_over, j);
    rp_timer_start(j->grace, j->request.grace_ms + GRACE_EXTRA_MS, 0);
}

static void begin_stop(struct job *j)
{
    struct sandbox *s = j->slot->sandbox;
    if (!s || strcmp(s->record.sandbox, j->request.sandbox) != 0) {
        finish(j); /* it is not there */
        return;
    }
    bool graceful = s->phase == PHASE_RUNNING && s->watch && j->request.grace_ms > 0;
    j->record = s->record;
    s->phase = PHASE_ENDING;
    rp_timer_stop(s->retry);
    if (graceful)
        run(j, j->lifecycle->slow, rp_work_shutdown, shutdown_said);
    else
        run(j, j->lifecycle->slow, rp_work_remove, removed);
}

/* ---- START ---- */

static void started(void *ctx)
{
    struct job *j = ctx;
    struct slot *slot = j->slot;
    struct sandbox *s = slot->sandbox;
    s->record = j->record;
    if (j->left) {
        sandbox_broken(s, &j->error);
    } else if (j->failed) {
        sandbox_drop(slot);
    } else if (atomic_load(&j->cancelled)) {
        /* Nobody wants it any more: as if it had failed. The answer is given now, the removal is a job. */
        s->phase = PHASE_ENDING;
        rp_slot_cleanup(slot, false);
        finish_error(j, RP_ERROR_CONFLICT, "the sandbox was stopped while it started");
        return;
    } else {
        rp_sandbox_runs(s, RP_STEAL_FD(j->watch_fd));
        j->answer.type = RP_ORCH_ATTACHED;
        j->answer.started_at = s->record.started_at;
        j->answer.warm = s->record.warm;
        memcpy(j->answer.sandbox, s->record.sandbox, sizeof(j->answer.sandbox));
    }
    finish(j);
}

static uint64_t host_memory(const char *name)
{
    char line[128];
    unsigned long long kib = 0;
    size_t n = strlen(name);
    _cleanup_file_ FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, name, n) == 0 && sscanf(line + n, ": %llu kB", &kib) == 1)
            return kib * 1024;
    return UINT64_MAX; /* unknown: the kernel will say */
}

static int admit(struct rp_lifecycle *l, struct job *j, struct rp_error *err)
{
    struct sandbox *s = j->slot->sandbox;
    if (atomic_load(&j->cancelled))
        return rp_error_set(err, RP_ERROR_CONFLICT, "the sandbox was stopped before it started");
    if (s && s->phase == PHASE_BROKEN)
        return rp_error_set(err, RP_ERROR_UNAVAILABLE,
                            "the project's last sandbox could not be removed yet; it is tried again");
    if (s)
        return rp_error_set(err, RP_ERROR_CONFLICT, "the project has a sandbox already");
    if (l->sandbox_count >= l->options.max_sandboxes)
        return rp_error_set(err, RP_ERROR_UNAVAILABLE, "all %u sandboxes are in use",
                            l->options.max_sandboxes);
    if (j->request.limits.memory > host_memory("MemTotal"))
        return rp_error_set(err, RP_ERROR_INVALID, "the memory limit is more than this machine has");
    if (host_memory("MemAvailable") < MEMORY_KEPT_FREE)
        return rp_error_set(err, RP_ERROR_UNAVAILABLE, "this machine is out of memory");
    return 0;
}

static void begin_start(struct job *j)
{
    struct rp_lifecycle *l = j->lifecycle;
    if (admit(l, j, &j->error) < 0) {
        j->failed = true;
        finish(j);
        return;
    }
    j->record = (struct rp_record){.started_at = rp_clock_wall_us()};
    memcpy(j->record.sandbox, j->request.sandbox, sizeof(j->record.sandbox));
    memcpy(j->record.instance, j->request.sandbox, sizeof(j->record.instance));
    memcpy(j->record.project, j->request.project, sizeof(j->record.project));
    memcpy(j->record.environment, j->request.environment, sizeof(j->record.environment));
    rp_sandbox_add(j->slot, &j->record, PHASE_STARTING);
    run(j, l->slow, rp_work_start, started);
}

/* ---- what a running sandbox is asked ---- */

static void stats_polled(void *ctx)
{
    struct job *j = ctx;
    struct rp_lifecycle *l = j->lifecycle;
    struct sandbox *s = j->slot->sandbox;
    if (!j->failed && s && s->phase == PHASE_RUNNING) {
        if (s->oom_known && j->answer.stats.oom_kills > s->oom_kills) {
            struct rp_orchestrator_message m = {.type = RP_ORCH_OOM};
            memcpy(m.sandbox, s->record.sandbox, sizeof(m.sandbox));
            l->events->event(l->ctx, &m);
        }
        s->oom_kills = j->answer.stats.oom_kills;
        s->oom_known = true;
    }
    finish(j);
}

static void begin_on_running(struct job *j, void (*work)(void *ctx), void (*done)(void *ctx))
{
    struct sandbox *s = j->slot->sandbox;
    if (!s || s->phase != PHASE_RUNNING || strcmp(s->record.sandbox, j->request.sandbox) != 0) {
        finish_error(j, RP_ERROR_NOT_FOUND, "there is no such sandbox");
        return;
    }
    j->record = s->record;
    run(j, j->lifecycle->quick, work, done);
}

static void begin(struct job *j)
{
    struct rp_lifecycle *l = j->lifecycle;
    switch (j->type) {
    case JOB_CLEANUP:
        begin_cleanup(j);
        return;
    case RP_ORCH_START:
        begin_start(j);
        return;
    case RP_ORCH_STOP:
        begin_stop(j);
        return;
    case RP_ORCH_ATTACH:
        begin_on_running(j, rp_work_attach, finish_plain);
        return;
    case RP_ORCH_LIMITS:
        begin_on_running(j, rp_work_limits, finish_plain);
        return;
    case RP_ORCH_STEP_DROP:
        begin_on_running(j, rp_work_step_drop, finish_plain);
        return;
    case RP_ORCH_STATS:
        begin_on_running(j, rp_work_stats, stats_polled);
        return;
    case RP_ORCH_VOLUME_DELETE:
        if (j->slot->sandbox) {
            finish_error(j, RP_ERROR_CONFLICT, "a sandbox uses the volume");
            return;
        }
        run(j, l->slow, rp_work_volume, finish_plain);
        return;
    default:
        run(j, l->slow, rp_work_volume, finish_plain);
    }
}

static void next_job(struct slot *slot)
{
    struct job *j = slot->first;
    if (slot->lifecycle->stopping)
        return;
    if (!j) {
        slot_free_unused(slot);
        return;
    }
    slot->first = j->next;
    if (!slot->first)
        slot->last = &slot->first;
    j->next = NULL;
    slot->active = j;
    begin(j);
}

/* ---- requests ---- */

static void answer_list(struct rp_lifecycle *l, uint32_t client, uint32_t tag)
{
    for (struct slot *slot = l->slots; slot; slot = slot->next) {
        struct sandbox *s = slot->sandbox;
        if (!s || s->phase != PHASE_RUNNING)
            continue;
        struct rp_orchestrator_message m = {
            .type = RP_ORCH_SANDBOX, .tag = tag, .started_at = s->record.started_at};
        memcpy(m.sandbox, s->record.sandbox, sizeof(m.sandbox));
        memcpy(m.project, s->record.project, sizeof(m.project));
        memcpy(m.environment, s->record.environment, sizeof(m.environment));
        l->events->answer(l->ctx, client, &m, -1);
    }
    l->events->answer(l->ctx, client, &(struct rp_orchestrator_message){.type = RP_ORCH_OK, .tag = tag}, -1);
}

static void cancel_start(struct slot *slot, const char *sandbox)
{
    if (starts(slot->active, sandbox))
        atomic_store(&slot->active->cancelled, true);
    for (struct job *j = slot->first; j; j = j->next)
        if (starts(j, sandbox))
            atomic_store(&j->cancelled, true);
}

void rp_lifecycle_request(struct rp_lifecycle *l, uint32_t client, const struct rp_orchestrator_message *m)
{
    struct rp_error e;
    struct slot *slot = NULL;
    switch (m->type) {
    case RP_ORCH_LIST:
        answer_list(l, client, m->tag);
        return;
    case RP_ORCH_STOP:
    case RP_ORCH_ATTACH:
    case RP_ORCH_LIMITS:
    case RP_ORCH_STEP_DROP:
    case RP_ORCH_STATS:
        slot = slot_of_sandbox(l, m->sandbox);
        if (!slot && m->type == RP_ORCH_STOP) {
            l->events->answer(l->ctx, client,
                              &(struct rp_orchestrator_message){.type = RP_ORCH_OK, .tag = m->tag}, -1);
            return;
        }
        if (!slot) {
            rp_error_set(&e, RP_ERROR_NOT_FOUND, "there is no such sandbox");
            answer_error(l, client, m->tag, &e);
            return;
        }
        break;
    case RP_ORCH_START:
        if (slot_of_sandbox(l, m->sandbox)) {
            rp_error_set(&e, RP_ERROR_EXISTS, "there is such a sandbox already");
            answer_error(l, client, m->tag, &e);
            return;
        }
        break;
    default:
        break;
    }
    if (l->job_count >= RP_LIFECYCLE_JOBS_MAX) {
        rp_error_set(&e, RP_ERROR_UNAVAILABLE, "too many requests wait");
        answer_error(l, client, m->tag, &e);
        return;
    }
    bool for_project = m->type != RP_ORCH_READY && m->type != RP_ORCH_VOLUME_LIST;
    if (for_project && !slot)
        slot = rp_slot_get(l, m->project);
    struct job *j = job_new(l, slot, client, m->type);
    j->request = *m;
    if (m->type == RP_ORCH_STOP)
        cancel_start(slot, m->sandbox);
    if (for_project)
        enqueue(j);
    else
        run(j, l->slow, m->type == RP_ORCH_READY ? rp_work_ready : rp_work_volume, finish_plain);
}

void rp_lifecycle_client_gone(struct rp_lifecycle *l, uint32_t client)
{
    for (struct slot *slot = l->slots; slot; slot = slot->next) {
        if (slot->active && slot->active->client == client && slot->active->type == RP_ORCH_START)
            atomic_store(&slot->active->cancelled, true);
        for (struct job *j = slot->first; j; j = j->next)
            if (j->client == client && j->type == RP_ORCH_START)
                atomic_store(&j->cancelled, true);
    }
}

/* ---- memory events ---- */

enum { OOM_INTERVAL_MS = 1000, OOM_PER_TURN = 16 };

/* The kernel's counters are looked at in turn: a few sandboxes a second, however many there are. */
static void look_for_oom(void *ctx)
{
    struct rp_lifecycle *l = ctx;
    struct slot *chosen[OOM_PER_TURN];
    unsigned count = 0, at = 0;
    for (struct slot *slot = l->slots; slot && count < OOM_PER_TURN; slot = slot->next, at++)
        if (at >= l->oom_turn && slot->sandbox && slot->sandbox->phase == PHASE_RUNNING && !slot->active)
            chosen[count++] = slot;
    l->oom_turn = count == OOM_PER_TURN ? at : 0;
    for (unsigned i = 0; i < count; i++) {
        struct job *j = job_new(l, chosen[i], 0, RP_ORCH_STATS);
        memcpy(j->request.sandbox, chosen[i]->sandbox->record.sandbox, sizeof(j->request.sandbox));
        enqueue(j);
    }
}

/* ---- life ---- */

struct rp_lifecycle *rp_lifecycle_new(const struct rp_lifecycle_options *options,
                                      const struct rp_lifecycle_events *events, void *ctx)
{
    struct rp_lifecycle *l = rp_calloc(1, sizeof(*l));
    l->options = *options;
    l->events = events;
    l->ctx = ctx;
    l->slow = rp_pool_new(options->loop, RP_LIFECYCLE_THREADS, RP_LIFECYCLE_JOBS_MAX * 2);
    l->quick = rp_pool_new(options->loop, RP_LIFECYCLE_QUICK_THREADS, RP_LIFECYCLE_JOBS_MAX * 2);
    l->oom_timer = rp_timer_new(options->loop, look_for_oom, l);
    rp_timer_start(l->oom_timer, OOM_INTERVAL_MS, OOM_INTERVAL_MS);
    return l;
}

bool rp_lifecycle_ready(const struct rp_lifecycle *l)
{
    return l->ready;
}

void rp_lifecycle_free(struct rp_lifecycle *l)
{
    if (!l)
        return;
    l->stopping = true;
    rp_timer_free(l->oom_timer);
    rp_pool_free(l->slow);
    rp_pool_free(l->quick);
    rp_warm_free(l->warm);
    while (l->slots) {
        struct slot *slot = l->slots;
        l->slots = slot->next;
        if (slot->active)
            job_free(slot->active); /* a STOP in its grace: the next server removes what has ended */
        for (struct job *j = slot->first, *next; j; j = next) {
            next = j->next;
            job_free(j);
        }
        if (slot->sandbox)
            sandbox_drop(slot);
        free(slot);
    }
    free(l);
}
