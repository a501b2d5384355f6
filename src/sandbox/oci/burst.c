#include "sandbox/oci/burst.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/str.h"
#include "proto/init.h"
#include "sandbox/oci/record.h"

struct burst {
    struct burst *next;
    char id[RP_ID_SIZE];
    uint32_t step;
    uint64_t until_ns; /* CLOCK_MONOTONIC */
    struct rp_limits limits;
};

struct rp_bursts {
    struct rp_cgroups *cgroups;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool stop;
    struct burst *first; /* in no order: there are few */
};

static void remove_matching(struct rp_bursts *b, const char *id, int step)
{
    for (struct burst **at = &b->first; *at;) {
        struct burst *x = *at;
        if (strcmp(x->id, id) == 0 && (step < 0 || x->step == (uint32_t)step)) {
            *at = x->next;
            free(x);
        } else {
            at = &x->next;
        }
    }
}

static void end_due(struct rp_bursts *b, uint64_t now, uint64_t *next)
{
    for (struct burst **at = &b->first; *at;) {
        struct burst *x = *at;
        if (x->until_ns > now) {
            *next = RP_MIN(*next, x->until_ns);
            at = &x->next;
            continue;
        }
        *at = x->next;
        /* Held over the write, so that a new limit of this step comes after it and not before. A group that
         * has gone is not made again. */
        if (rp_cgroup_exists(b->cgroups, x->id, (int)x->step))
            (void)!rp_cgroup_limit(b->cgroups, x->id, (int)x->step, &x->limits, false, NULL);
        free(x);
    }
}

static void *run(void *ctx)
{
    struct rp_bursts *b = ctx;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        uint64_t next = UINT64_MAX;
        end_due(b, rp_clock_monotonic_ns(), &next);
        if (next == UINT64_MAX) {
            pthread_cond_wait(&b->changed, &b->lock);
            continue;
        }
        struct timespec until = {.tv_sec = (time_t)(next / 1000000000), .tv_nsec = (long)(next % 1000000000)};
        pthread_cond_clockwait(&b->changed, &b->lock, CLOCK_MONOTONIC, &until);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

int rp_bursts_open(struct rp_cgroups *cgroups, struct rp_bursts **ret, struct rp_error *err)
{
    struct rp_bursts *b = rp_calloc(1, sizeof(*b));
    b->cgroups = cgroups;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    int errnum = pthread_create(&b->thread, NULL, run, b);
    if (errnum) {
        free(b);
        return rp_error_errno(err, RP_ERROR_INTERNAL, errnum, "thread for CPU bursts");
    }
    *ret = b;
    return 0;
}

void rp_bursts_close(struct rp_bursts *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    while (b->first) {
        struct burst *x = b->first;
        b->first = x->next;
        free(x);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static void add(struct rp_bursts *b, const char *id, uint32_t step, uint64_t until_ns,
                const struct rp_limits *limits)
{
    struct burst *x = rp_calloc(1, sizeof(*x));
    snprintf(x->id, sizeof(x->id), "%s", id);
    x->step = step;
    x->until_ns = until_ns;
    x->limits = *limits;
    x->next = b->first;
    b->first = x;
    pthread_cond_signal(&b->changed);
}

static void file_name(char ret[static 32], uint32_t step)
{
    snprintf(ret, 32, "burst-%" PRIu32, step);
}

int rp_bursts_limit(struct rp_bursts *b, int dir, const char *id, uint32_t step,
                    const struct rp_limits *limits, struct rp_error *err)
{
    bool burst = limits->burst_ms && limits->burst_cpu > limits->cpu;
    uint64_t until = rp_clock_monotonic_ns() + limits->burst_ms * UINT64_C(1000000);
    char name[32], text[160];
    file_name(name, step);
    if (burst) {
        snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu32 "\n", until,
                 limits->memory, limits->cpu, limits->processes);
        if (rp_oci_file_write(dir, name, text, err) < 0)
            return -1;
    } else {
        (void)unlinkat(dir, name, 0);
    }
    pthread_mutex_lock(&b->lock);
    remove_matching(b, id, (int)step);
    int r = rp_cgroup_limit(b->cgroups, id, (int)step, limits, burst, err);
    if (r == 0 && burst)
        add(b, id, step, until, limits);
    pthread_mutex_unlock(&b->lock);
    return r;
}

void rp_bursts_adopt(struct rp_bursts *b, int dir, const char *id)
{
    for (uint32_t step = 0; step < RP_INIT_STEPS_MAX; step++) {
        char name[32], text[160];
        file_name(name, step);
        if (rp_oci_file_read(dir, name, text, sizeof(text), NULL) < 0)
            continue;
        uint64_t n[4];
        struct rp_str rest = rp_str_of(text);
        rest.n = strcspn(text, "\n");
        bool whole = true;
        for (size_t i = 0; i < RP_ARRAY_SIZE(n); i++)
            whole =
                whole && rp_str_to_u64(rp_str_cut(rest, ' ', &rest), i < 2 ? UINT64_MAX : UINT32_MAX, &n[i]);
        if (!whole)
            continue;
        struct rp_limits limits = {.memory = n[1], .cpu = (uint32_t)n[2], .processes = (uint32_t)n[3]};
        pthread_mutex_lock(&b->lock);
        add(b, id, step, n[0], &limits);
        pthread_mutex_unlock(&b->lock);
    }
}

void rp_bursts_forget(struct rp_bursts *b, const char *id, int step)
{
    pthread_mutex_lock(&b->lock);
    remove_matching(b, id, step);
    pthread_mutex_unlock(&b->lock);
}
