#include "orchestrator/warm.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/str.h"

enum { AFTER_FAILURE_S = 5 };

struct rp_warm {
    struct rp_driver *driver;
    uint32_t target;
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t changed;
    bool stopping;
    uint32_t count;
    char ids[RP_WARM_MAX][RP_ID_SIZE]; /* the oldest first */
};

/* With the mutex held: waits for a change, or `seconds` (0: without end). */
static void wait_changed(struct rp_warm *w, unsigned seconds)
{
    if (!seconds) {
        pthread_cond_wait(&w->changed, &w->mutex);
        return;
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    pthread_cond_timedwait(&w->changed, &w->mutex, &until);
}

static void *keep_full(void *ctx)
{
    struct rp_warm *w = ctx;
    pthread_mutex_lock(&w->mutex);
    while (!w->stopping) {
        if (w->count >= w->target) {
            wait_changed(w, 0);
            continue;
        }
        pthread_mutex_unlock(&w->mutex);
        char id[RP_ID_SIZE];
        struct rp_error e;
        rp_random_id(id);
        bool made = w->driver->ops->create(w->driver, id, &e) == 0;
        if (!made) {
            rp_log(RP_LOG_WARNING, "warm sandbox not made", "error", e.message, NULL);
            if (w->driver->ops->destroy(w->driver, id, &e) < 0)
                rp_log(RP_LOG_WARNING, "warm sandbox not removed", "sandbox", id, "error", e.message, NULL);
        }
        pthread_mutex_lock(&w->mutex);
        if (made)
            memcpy(w->ids[w->count++], id, sizeof(id));
        else if (!w->stopping)
            wait_changed(w, AFTER_FAILURE_S);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

struct rp_warm *rp_warm_new(struct rp_driver *driver, uint32_t count)
{
    struct rp_warm *w = rp_calloc(1, sizeof(*w));
    w->driver = driver;
    w->target = RP_MIN(count, (uint32_t)RP_WARM_MAX);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
    if (w->target && (driver->ops->capabilities & RP_DRIVER_WARM)) {
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        w->started = pthread_create(&w->thread, NULL, keep_full, w) == 0;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    return w;
}

bool rp_warm_take(struct rp_warm *w, char ret[static RP_ID_SIZE])
{
    if (!w)
        return false;
    pthread_mutex_lock(&w->mutex);
    bool got = w->count > 0;
    if (got) {
        memcpy(ret, w->ids[0], RP_ID_SIZE);
        memmove(w->ids[0], w->ids[1], --w->count * sizeof(w->ids[0]));
        pthread_cond_signal(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
    return got;
}

void rp_warm_free(struct rp_warm *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->stopping = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    if (w->started)
        pthread_join(w->thread, NULL);
    for (uint32_t i = 0; i < w->count; i++) {
        struct rp_error e;
        if (w->driver->ops->destroy(w->driver, w->ids[i], &e) < 0)
            rp_log(RP_LOG_WARNING, "warm sandbox not removed", "sandbox", w->ids[i], "error", e.message,
                   NULL);
    }
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->changed);
    free(w);
}
