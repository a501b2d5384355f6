#include "store/lane.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct queue {
    struct rp_job *first, **last;
};

struct lane_thread {
    struct rp_lane *lane;
    struct rp_database database;
    pthread_t thread;
};

struct rp_lane {
    struct rp_loop *loop;
    bool writing;
    unsigned thread_count;
    struct lane_thread threads[RP_LANE_THREADS_MAX];

    pthread_mutex_t lock; /* guards what follows; held for pointer moves only */
    pthread_cond_t wake;
    struct queue waiting, finished;
    unsigned waiting_count;
    unsigned posts; /* deliveries on their way to the loop */
    bool closing;
    bool freed; /* by the owner, while a delivery was on its way: the last one frees the memory */
};

static void queue_init(struct queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

static void queue_push(struct queue *q, struct rp_job *job)
{
    job->next = NULL;
    *q->last = job;
    q->last = &job->next;
}

static void queue_append(struct queue *q, struct rp_job *list)
{
    while (list) {
        struct rp_job *next = list->next;
        queue_push(q, list);
        list = next;
    }
}

/* ---- loop thread: answers ---- */

static void call_finished(struct rp_lane *l)
{
    pthread_mutex_lock(&l->lock);
    struct rp_job *list = l->finished.first;
    queue_init(&l->finished);
    pthread_mutex_unlock(&l->lock);
    while (list) {
        struct rp_job *next = list->next;
        list->done(list, list->failed ? &list->err : NULL);
        list = next;
    }
}

static void release(struct rp_lane *l)
{
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static void deliver(void *ctx)
{
    struct rp_lane *l = ctx;
    call_finished(l);
    pthread_mutex_lock(&l->lock);
    bool last = --l->posts == 0 && l->freed;
    pthread_mutex_unlock(&l->lock);
    if (last)
        release(l);
}

/* With the lock held. */
static void finish(struct rp_lane *l, struct rp_job *list)
{
    bool post = l->finished.first == NULL;
    queue_append(&l->finished, list);
    if (!post)
        return;
    l->posts++;
    rp_loop_post(l->loop, deliver, l);
}

/* ---- lane thread: work ---- */

static int run_in_savepoint(struct rp_job *job, struct rp_database *d)
{
    if (rp_database_run(d, "SAVEPOINT job", &job->err) < 0)
        return -1;
    job->failed = job->work(job, d, &job->err) < 0;
    /* a full disk or an I/O error may have undone the whole transaction by itself */
    if (sqlite3_get_autocommit(d->handle))
        return -1;
    struct rp_error undo;
    if (job->failed && rp_database_run(d, "ROLLBACK TO job", &undo) < 0)
        return -1;
    return rp_database_run(d, "RELEASE job", &job->err);
}

/* 0: committed, each job knows whether it failed. -1: nothing of the group is in the database. */
static int run_group(struct rp_job *list, struct rp_database *d, struct rp_error *err)
{
    if (rp_database_run(d, "BEGIN IMMEDIATE", err) < 0)
        return -1;
    int r = 0;
    for (struct rp_job *job = list; job && r == 0; job = job->next) {
        r = run_in_savepoint(job, d);
        if (r < 0 && err)
            *err = job->err;
    }
    if (r == 0)
        r = rp_database_run(d, "COMMIT", err);
    if (r < 0 && !sqlite3_get_autocommit(d->handle)) {
        struct rp_error ignored;
        (void)!rp_database_run(d, "ROLLBACK", &ignored);
    }
    return r;
}

static void write_group(struct rp_job *list, struct rp_database *d)
{
    struct rp_error err = {0};
    if (run_group(list, d, &err) == 0)
        return;
    /* One job may be what the disk has no room for: each on its own, so that it takes no other with it. */
    for (struct rp_job *job = list; job; job = job->next) {
        struct rp_job *next = job->next;
        job->next = NULL;
        if (run_group(job, d, &err) < 0) {
            job->failed = true;
            job->err = err;
        }
        job->next = next;
    }
}

static struct rp_job *take(struct rp_lane *l)
{
    struct rp_job *list = l->waiting.first, *end = list;
    unsigned n = 1;
    while (l->writing && end->next && n < RP_LANE_GROUP) {
        end = end->next;
        n++;
    }
    l->waiting.first = end->next;
    if (!l->waiting.first)
        queue_init(&l->waiting);
    l->waiting_count -= n;
    end->next = NULL;
    return list;
}

static void *lane_main(void *arg)
{
    struct lane_thread *t = arg;
    struct rp_lane *l = t->lane;

    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->waiting.first && !l->closing)
            pthread_cond_wait(&l->wake, &l->lock);
        if (!l->waiting.first)
            break;
        struct rp_job *list = take(l);
        pthread_mutex_unlock(&l->lock);
        if (l->writing)
            write_group(list, &t->database);
        else
            list->failed = list->work(list, &t->database, &list->err) < 0;
        pthread_mutex_lock(&l->lock);
        finish(l, list);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- owner ---- */

struct rp_lane *rp_lane_new(struct rp_loop *loop, struct rp_database *databases, unsigned count, bool writing)
{
    struct rp_lane *l = rp_calloc(1, sizeof *l);
    l->loop = loop;
    l->writing = writing;
    l->thread_count = count;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->wake, NULL);
    queue_init(&l->waiting);
    queue_init(&l->finished);
    /* signals are the loop thread's */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    for (unsigned i = 0; i < count; i++) {
        l->threads[i] = (struct lane_thread){.lane = l, .database = databases[i]};
        if (pthread_create(&l->threads[i].thread, &attributes, lane_main, &l->threads[i]) != 0)
            abort(); /* at start only, and there is nothing to serve without it */
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return l;
}

void rp_lane_submit(struct rp_lane *l, struct rp_job *job)
{
    job->failed = false;
    job->next = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->waiting_count >= RP_LANE_QUEUE_MAX) {
        job->failed = true;
        (void)rp_error_set(&job->err, RP_ERROR_UNAVAILABLE, "the database is %u jobs behind",
                           l->waiting_count);
        finish(l, job);
    } else {
        queue_push(&l->waiting, job);
        l->waiting_count++;
        pthread_cond_signal(&l->wake);
    }
    pthread_mutex_unlock(&l->lock);
}

void rp_lane_free(struct rp_lane *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    pthread_cond_broadcast(&l->wake);
    pthread_mutex_unlock(&l->lock);
    for (unsigned i = 0; i < l->thread_count; i++)
        pthread_join(l->threads[i].thread, NULL);
    for (unsigned i = 0; i < l->thread_count; i++)
        rp_database_close(&l->threads[i].database);
    call_finished(l);
    pthread_mutex_lock(&l->lock);
    l->freed = true;
    bool last = l->posts == 0;
    pthread_mutex_unlock(&l->lock);
    if (last)
        release(l);
}
