/*
 * pool.c: worker threads for what blocks (declared in loop.h). Submit and free on the loop thread; work(ctx)
 * runs on a worker, done(ctx) on the loop thread, in the order in which the work ended. Threads start with
 * the first job, so that a pool that is never used costs nothing.
 */
#include <pthread.h>
#include <signal.h>

#include "base/str.h"
#include "net/loop.h"

struct job {
    struct job *next;
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
};

struct queue {
    struct job *first, **last;
    unsigned count;
};

struct rp_pool {
    struct rp_loop *loop;
    pthread_mutex_t mutex; /* of everything below, where nothing else is said */
    pthread_cond_t work;
    struct queue waiting, finished;
    unsigned queue_max, threads_max, threads, running;
    pthread_t *ids;
    bool stopping;
    bool notified; /* a post to the loop is under way: the pool must outlive it */
    /* loop thread only: */
    bool answering, freed;
};

static void queue_init(struct queue *q)
{
    *q = (struct queue){.last = &q->first};
}

static void queue_add(struct queue *q, struct job *j)
{
    j->next = NULL;
    *q->last = j;
    q->last = &j->next;
    q->count++;
}

static struct job *queue_take(struct queue *q)
{
    struct job *j = q->first;
    if (!j)
        return NULL;
    q->first = j->next;
    if (!q->first)
        q->last = &q->first;
    q->count--;
    return j;
}

static void pool_release(struct rp_pool *p)
{
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->work);
    free(p->ids);
    free(p);
}

static void answer(struct rp_pool *p)
{
    for (;;) {
        pthread_mutex_lock(&p->mutex);
        struct job *j = queue_take(&p->finished);
        pthread_mutex_unlock(&p->mutex);
        if (!j)
            return;
        struct job copy = *j;
        free(j);
        copy.done(copy.ctx);
    }
}

static bool is_notified(struct rp_pool *p)
{
    pthread_mutex_lock(&p->mutex);
    bool notified = p->notified;
    pthread_mutex_unlock(&p->mutex);
    return notified;
}

static void release_when_unused(struct rp_pool *p)
{
    if (p->freed && !p->answering && !is_notified(p))
        pool_release(p);
}

static void on_finished(void *ctx)
{
    struct rp_pool *p = ctx;
    pthread_mutex_lock(&p->mutex);
    p->notified = false;
    pthread_mutex_unlock(&p->mutex);
    p->answering = true; /* a `done` may free the pool */
    answer(p);
    p->answering = false;
    release_when_unused(p);
}

static void *worker(void *ctx)
{
    struct rp_pool *p = ctx;
    pthread_mutex_lock(&p->mutex);
    for (;;) {
        struct job *j;
        while (!(j = queue_take(&p->waiting)) && !p->stopping)
            pthread_cond_wait(&p->work, &p->mutex);
        if (!j)
            break;
        p->running++;
        pthread_mutex_unlock(&p->mutex);
        j->work(j->ctx);
        pthread_mutex_lock(&p->mutex);
        p->running--;
        queue_add(&p->finished, j);
        if (!p->notified) {
            p->notified = true;
            rp_loop_post(p->loop, on_finished, p);
        }
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

struct rp_pool *rp_pool_new(struct rp_loop *loop, unsigned threads, unsigned queue_max)
{
    struct rp_pool *p = rp_calloc(1, sizeof(*p));
    p->loop = loop;
    p->threads_max = RP_MAX(threads, 1u);
    p->queue_max = queue_max;
    p->ids = rp_calloc(p->threads_max, sizeof(*p->ids));
    queue_init(&p->waiting);
    queue_init(&p->finished);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->work, NULL);
    return p;
}

/* With the mutex held. Signals stay with the main thread. */
static int add_thread(struct rp_pool *p)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&p->ids[p->threads], NULL, worker, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r == 0)
        p->threads++;
    return r;
}

int rp_pool_submit(struct rp_pool *p, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx,
                   struct rp_error *err)
{
    pthread_mutex_lock(&p->mutex);
    unsigned outstanding = p->waiting.count + p->running;
    if (outstanding >= p->threads_max + p->queue_max) {
        pthread_mutex_unlock(&p->mutex);
        return rp_error_set(err, RP_ERROR_UNAVAILABLE, "%u jobs wait already", p->queue_max);
    }
    if (outstanding >= p->threads && p->threads < p->threads_max) {
        int r = add_thread(p);
        if (r && p->threads == 0) {
            pthread_mutex_unlock(&p->mutex);
            return rp_error_errno(err, RP_ERROR_UNAVAILABLE, r, "start a worker thread");
        }
    }
    struct job *j = rp_alloc(sizeof(*j));
    *j = (struct job){.work = work, .done = done, .ctx = ctx};
    queue_add(&p->waiting, j);
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

void rp_pool_free(struct rp_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mutex);
    for (unsigned i = 0; i < p->threads; i++)
        pthread_join(p->ids[i], NULL);
    answer(p);
    p->freed = true;
    release_when_unused(p);
}
