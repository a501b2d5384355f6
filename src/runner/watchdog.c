#include "runner/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/str.h"

struct rp_watchdog {
    pthread_t thread, watched;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stop; /* under the mutex */
    uint64_t limit_ns;
    uint64_t sequence;        /* of the loop thread */
    _Atomic uint64_t current; /* 0, or the sequence number of the call that is under way */
    _Atomic uint64_t held;    /* the sequence number that was interrupted last */
};

static void on_signal(int signal)
{
}

static void *run(void *ctx)
{
    struct rp_watchdog *w = ctx;
    uint64_t seen = 0, since = 0;
    pthread_mutex_lock(&w->mutex);
    while (!w->stop) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        uint64_t ns = (uint64_t)until.tv_nsec + w->limit_ns / 4;
        until.tv_sec += (time_t)(ns / 1000000000);
        until.tv_nsec = (long)(ns % 1000000000);
        pthread_cond_timedwait(&w->wake, &w->mutex, &until);
        uint64_t now = rp_clock_monotonic_ns(), current = atomic_load(&w->current);
        if (current != seen) {
            seen = current;
            since = now;
        } else if (current && now - since >= w->limit_ns) {
            /* again each time: the first one may come before the call has begun to block */
            atomic_store(&w->held, current);
            pthread_kill(w->watched, SIGUSR2);
        }
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

struct rp_watchdog *rp_watchdog_new(unsigned limit_ms)
{
    struct rp_watchdog *w = rp_calloc(1, sizeof(*w));
    w->limit_ns = (limit_ms ? limit_ms : RP_WATCHDOG_MS) * 1000000ULL;
    w->watched = pthread_self();
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR2, &action, NULL);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    /* signals meant for the loop must not land on this thread */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        abort();
    return w;
}

void rp_watchdog_free(struct rp_watchdog *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

void rp_watchdog_enter(struct rp_watchdog *w)
{
    atomic_store_explicit(&w->current, ++w->sequence, memory_order_relaxed);
}

bool rp_watchdog_leave(struct rp_watchdog *w)
{
    atomic_store_explicit(&w->current, 0, memory_order_relaxed);
    return atomic_load_explicit(&w->held, memory_order_relaxed) == w->sequence;
}
