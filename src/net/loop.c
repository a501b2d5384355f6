#include "net/loop.h"

#include <pthread.h>
#include <signal.h>

#include "base/log.h"
#include "base/str.h"
#include "net/loop_internal.h"

struct call {
    void (*fn)(void *ctx);
    void *ctx;
};

struct calls {
    struct call *items;
    size_t count, allocated;
};

struct rp_loop {
    uv_loop_t uv;
    uv_async_t wake;
    uv_idle_t spin; /* active while calls are deferred, so that the poll does not wait */
    uv_prepare_t prepare;
    uv_check_t check;
    struct calls deferred, deferred_running;
    struct calls posted_running;
    pthread_mutex_t mutex; /* of posted */
    struct calls posted;
    bool stopped;
    char *scratch;
    struct {
        void *value;
        void (*release)(void *value);
    } slots[RP_LOOP_SLOT_COUNT];
};

static void must(int r, const char *what)
{
    if (r < 0) {
        rp_log(RP_LOG_ERROR, "libuv failed", "call", what, "error", uv_strerror(r), NULL);
        abort();
    }
}

static void calls_add(struct calls *c, void (*fn)(void *ctx), void *ctx)
{
    if (c->count == c->allocated) {
        c->allocated = c->allocated ? c->allocated * 2 : 16;
        c->items = rp_realloc(c->items, c->allocated * sizeof(*c->items));
    }
    c->items[c->count++] = (struct call){fn, ctx};
}

/* What was deferred before this turn; calls that are added meanwhile wait for the next one. */
static void run_deferred(struct rp_loop *loop)
{
    if (!loop->deferred.count)
        return;
    struct calls now = loop->deferred;
    loop->deferred = loop->deferred_running;
    loop->deferred.count = 0;
    loop->deferred_running = (struct calls){0};
    for (size_t i = 0; i < now.count; i++)
        now.items[i].fn(now.items[i].ctx);
    now.count = 0;
    loop->deferred_running = now;
    if (!loop->deferred.count)
        uv_idle_stop(&loop->spin);
}

static void on_prepare(uv_prepare_t *h)
{
    run_deferred(h->data);
}

static void on_check(uv_check_t *h)
{
    run_deferred(h->data);
}

static void on_idle(uv_idle_t *h)
{
}

static void run_posted(struct rp_loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    struct calls now = loop->posted;
    loop->posted = loop->posted_running;
    loop->posted.count = 0;
    pthread_mutex_unlock(&loop->mutex);
    loop->posted_running = (struct calls){0};
    for (size_t i = 0; i < now.count; i++)
        now.items[i].fn(now.items[i].ctx);
    now.count = 0;
    loop->posted_running = now;
}

static void on_wake(uv_async_t *h)
{
    run_posted(h->data);
}

struct rp_loop *rp_loop_new(void)
{
    /* a pipe or socket that lost its reader is an error of that write, not the end of the process */
    signal(SIGPIPE, SIG_IGN);
    struct rp_loop *loop = rp_calloc(1, sizeof(*loop));
    must(uv_loop_init(&loop->uv), "uv_loop_init");
    must(uv_async_init(&loop->uv, &loop->wake, on_wake), "uv_async_init");
    must(uv_idle_init(&loop->uv, &loop->spin), "uv_idle_init");
    must(uv_prepare_init(&loop->uv, &loop->prepare), "uv_prepare_init");
    must(uv_check_init(&loop->uv, &loop->check), "uv_check_init");
    loop->wake.data = loop->spin.data = loop->prepare.data = loop->check.data = loop;
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_check_start(&loop->check, on_check);
    pthread_mutex_init(&loop->mutex, NULL);
    loop->scratch = rp_alloc(RP_LOOP_SCRATCH);
    return loop;
}

void rp_loop_free(struct rp_loop *loop)
{
    if (!loop)
        return;
    for (int i = 0; i < RP_LOOP_SLOT_COUNT; i++)
        if (loop->slots[i].release)
            loop->slots[i].release(loop->slots[i].value);
    /* what was promised a call gets it: it may own memory */
    bool more;
    do {
        run_posted(loop);
        run_deferred(loop);
        pthread_mutex_lock(&loop->mutex);
        more = loop->posted.count > 0;
        pthread_mutex_unlock(&loop->mutex);
    } while (more || loop->deferred.count);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->spin, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    if (uv_loop_close(&loop->uv) < 0) {
        /* someone kept a watch or timer: its memory refers to the loop, so leave both */
        rp_log(RP_LOG_WARNING, "loop freed with handles open", NULL);
        return;
    }
    pthread_mutex_destroy(&loop->mutex);
    free(loop->deferred.items);
    free(loop->deferred_running.items);
    free(loop->posted.items);
    free(loop->posted_running.items);
    free(loop->scratch);
    free(loop);
}

void rp_loop_run(struct rp_loop *loop)
{
    loop->stopped = false;
    while (!loop->stopped)
        uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void rp_loop_stop(struct rp_loop *loop)
{
    loop->stopped = true;
    uv_stop(&loop->uv);
}

uint64_t rp_loop_now_ms(struct rp_loop *loop)
{
    return uv_now(&loop->uv);
}

char *rp_loop_scratch(struct rp_loop *loop)
{
    return loop->scratch;
}

void *rp_loop_slot_get(struct rp_loop *loop, enum rp_loop_slot slot)
{
    return loop->slots[slot].value;
}

void rp_loop_slot_set(struct rp_loop *loop, enum rp_loop_slot slot, void *value, void (*release)(void *value))
{
    loop->slots[slot].value = value;
    loop->slots[slot].release = release;
}

uv_loop_t *rp_loop_uv(struct rp_loop *loop)
{
    return &loop->uv;
}

void rp_loop_defer(struct rp_loop *loop, void (*fn)(void *ctx), void *ctx)
{
    calls_add(&loop->deferred, fn, ctx);
    if (!uv_is_active((uv_handle_t *)&loop->spin))
        uv_idle_start(&loop->spin, on_idle);
}

void rp_loop_post(struct rp_loop *loop, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&loop->mutex);
    calls_add(&loop->posted, fn, ctx);
    pthread_mutex_unlock(&loop->mutex);
    uv_async_send(&loop->wake);
}

/* ---- watches ---- */

struct rp_watch {
    uv_poll_t poll;
    rp_watch_fn *fn;
    void *ctx;
    unsigned wanted; /* by the owner */
    unsigned armed;  /* in the kernel: may be more than wanted until an unwanted event shows up */
    bool freed;
};

static void on_poll(uv_poll_t *h, int status, int events);

/*
 * uv_poll_start takes the descriptor out of epoll and puts it in again. So fewer events are only taken back
 * when one of them really comes: a stream that pauses and resumes between two events costs no system call.
 */
static void watch_arm(struct rp_watch *w, unsigned events)
{
    w->armed = events;
    if (!events) {
        uv_poll_stop(&w->poll);
        return;
    }
    int uv_events = (events & RP_WATCH_READ ? UV_READABLE : 0) | (events & RP_WATCH_WRITE ? UV_WRITABLE : 0);
    must(uv_poll_start(&w->poll, uv_events, on_poll), "uv_poll_start");
}

static void on_poll(uv_poll_t *h, int status, int events)
{
    struct rp_watch *w = RP_CONTAINER_OF(h, struct rp_watch, poll);
    unsigned got = 0;
    if (status < 0) {
        /* EPOLLERR: libuv has stopped the handle */
        w->armed = 0;
        got = w->wanted | RP_WATCH_HANGUP;
    } else {
        got = (events & UV_READABLE ? RP_WATCH_READ : 0) | (events & UV_WRITABLE ? RP_WATCH_WRITE : 0);
        if (got & ~w->wanted)
            watch_arm(w, w->wanted);
        got &= w->wanted;
        if (!got)
            return;
    }
    if (w->wanted)
        w->fn(w->ctx, got);
    if (!w->freed && w->wanted & ~w->armed)
        watch_arm(w, w->wanted);
}

struct rp_watch *rp_watch_new(struct rp_loop *loop, int fd, rp_watch_fn *fn, void *ctx)
{
    struct rp_watch *w = rp_calloc(1, sizeof(*w));
    if (uv_poll_init(&loop->uv, &w->poll, fd) < 0) {
        free(w);
        return NULL;
    }
    w->fn = fn;
    w->ctx = ctx;
    return w;
}

void rp_watch_set(struct rp_watch *w, unsigned events)
{
    w->wanted = events;
    if (events & ~w->armed)
        watch_arm(w, events);
}

static void on_watch_closed(uv_handle_t *h)
{
    free(RP_CONTAINER_OF((uv_poll_t *)h, struct rp_watch, poll));
}

void rp_watch_free(struct rp_watch *w)
{
    if (!w || w->freed)
        return;
    w->freed = true;
    w->wanted = 0;
    uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

/* ---- timers ---- */

struct rp_timer {
    uv_timer_t timer;
    rp_timer_fn *fn;
    void *ctx;
};

static void on_timer(uv_timer_t *h)
{
    struct rp_timer *t = RP_CONTAINER_OF(h, struct rp_timer, timer);
    t->fn(t->ctx);
}

struct rp_timer *rp_timer_new(struct rp_loop *loop, rp_timer_fn *fn, void *ctx)
{
    struct rp_timer *t = rp_calloc(1, sizeof(*t));
    must(uv_timer_init(&loop->uv, &t->timer), "uv_timer_init");
    t->fn = fn;
    t->ctx = ctx;
    return t;
}

void rp_timer_start(struct rp_timer *t, uint64_t ms, uint64_t repeat_ms)
{
    must(uv_timer_start(&t->timer, on_timer, ms, repeat_ms), "uv_timer_start");
}

void rp_timer_stop(struct rp_timer *t)
{
    uv_timer_stop(&t->timer);
}

bool rp_timer_active(const struct rp_timer *t)
{
    return uv_is_active((const uv_handle_t *)&t->timer) != 0;
}

static void on_timer_closed(uv_handle_t *h)
{
    free(RP_CONTAINER_OF((uv_timer_t *)h, struct rp_timer, timer));
}

void rp_timer_free(struct rp_timer *t)
{
    if (t)
        uv_close((uv_handle_t *)&t->timer, on_timer_closed);
}
