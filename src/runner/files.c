/*
 * files.c: the channels to the file helpers of each sandbox: opened when needed, kept for the next request,
 * closed when a request ends out of step with them.
 */
#include <errno.h>
#include <string.h>

#include "runner/files_internal.h"

enum {
    IDLE_MAX = 4,
    CHANNELS_MAX = 12, /* init has 16: some for those that are just ending */
    WAITING_MAX = 256,
    IDLE_MS = 30000,
    TICK_MS = 1000,
    INPUT_CAP = RP_FILES_HEADER_SIZE + RP_FILES_PAYLOAD_MAX,
    OUTPUT_CAP = 2 * 1024 * 1024,
};

struct rp_file_channel {
    struct rp_file_channel *next;
    struct rp_file_pool *pool;
    struct rp_stream *stream;
    struct rp_file_request *request; /* NULL: idle */
    uint64_t idle_since_ms;
    size_t data_left; /* of a DATA frame that is passed on as it comes */
    unsigned depth;   /* callbacks on the stack */
    bool dead;
};

struct opening {
    struct rp_file_pool *pool; /* NULL once the pool is gone */
    struct opening *next;
};

struct rp_file_pool {
    struct rp_file_pool *next;
    struct rp_files *files;
    struct rp_sandbox *sandbox;
    struct rp_file_channel *channels;
    struct opening *openings;
    unsigned channel_count, opening_count, waiting_count;
    struct rp_file_request *first, *last; /* waiting */
    struct rp_timer *timer;
};

struct rp_files {
    struct rp_loop *loop;
    struct rp_file_pool *pools;
};

static void serve_waiting(struct rp_file_pool *p);

struct rp_loop *rp_files_loop(struct rp_files *f)
{
    return f->loop;
}

struct rp_stream *rp_file_request_stream(struct rp_file_request *r)
{
    return r->channel ? r->channel->stream : NULL;
}

/* ---- the end of requests and channels ---- */

static void free_request(struct rp_file_request *r)
{
    rp_buf_done(&r->first);
    rp_buf_done(&r->path);
    free(r);
}

static void leave(struct rp_file_channel *c)
{
    if (--c->depth == 0 && c->dead)
        free(c);
}

/* Closes; the helper ends with it. */
static void close_channel(struct rp_file_channel *c)
{
    if (c->dead)
        return;
    for (struct rp_file_channel **at = &c->pool->channels; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    c->pool->channel_count--;
    if (c->request)
        c->request->channel = NULL;
    c->request = NULL;
    rp_stream_free(c->stream);
    c->stream = NULL;
    c->dead = true;
    if (!c->depth)
        free(c);
}

/* The request has its answer: its channel is free again, or closed when the two are out of step. */
static void release_channel(struct rp_file_request *r, bool in_step)
{
    struct rp_file_channel *c = r->channel;
    if (!c)
        return;
    r->channel = NULL;
    c->request = NULL;
    unsigned idle = 0;
    for (struct rp_file_channel *o = c->pool->channels; o; o = o->next)
        idle += !o->request;
    if (!in_step || idle > IDLE_MAX) {
        close_channel(c);
        return;
    }
    c->idle_since_ms = rp_loop_now_ms(c->pool->files->loop);
}

/* Says on_done and frees. The channel was released before. The pool may be gone when it returns. */
static void finish(struct rp_file_request *r, struct rp_str etag, const struct rp_error *err)
{
    serve_waiting(r->pool);
    r->cb->on_done(r->ctx, etag, r->truncated, err);
    free_request(r);
}

static void fail(struct rp_file_request *r, const struct rp_error *err)
{
    release_channel(r, false);
    finish(r, (struct rp_str){0}, err);
}

static void on_failed(void *ctx)
{
    struct rp_file_request *r = ctx;
    r->deferred = false;
    if (!r->cancelled)
        r->cb->on_done(r->ctx, (struct rp_str){0}, false, &r->err);
    free_request(r);
}

/* From the loop: the caller may still be inside the function that made the request. */
static void fail_later(struct rp_file_request *r, const struct rp_error *err)
{
    r->pool = NULL;
    r->err = *err;
    r->deferred = true;
    rp_loop_defer(r->loop, on_failed, r);
}

void rp_file_cancel(struct rp_file_request *r)
{
    if (!r)
        return;
    if (r->deferred) {
        r->cancelled = true;
        return;
    }
    struct rp_file_pool *p = r->pool;
    if (r->channel) {
        release_channel(r, false);
    } else {
        struct rp_file_request *before = NULL;
        for (struct rp_file_request *w = p->first; w; before = w, w = w->next) {
            if (w != r)
                continue;
            *(before ? &before->next : &p->first) = w->next;
            if (p->last == w)
                p->last = before;
            p->waiting_count--;
            break;
        }
    }
    free_request(r);
    serve_waiting(p);
}

/* ---- what the helper sends ---- */

static void protocol_failure(struct rp_file_channel *c)
{
    struct rp_file_request *r = c->request;
    struct rp_error err = {0};
    if (!r) {
        close_channel(c);
        return;
    }
    (void)rp_error_set(&err, RP_ERROR_PROTOCOL, "the file helper of the sandbox sent a malformed answer");
    fail(r, &err);
}

static bool is_upload(const struct rp_file_request *r)
{
    return r->type == RP_FILES_WRITE || r->type == RP_FILES_IMPORT;
}

/* The message is `operation "path": why`; the path is the one of several (two of a move, each of an import)
 * that it is about. */
static void explain(const struct rp_file_request *r, const struct rp_files_frame *f, struct rp_error *err)
{
    struct rp_str path = rp_buf_view(&r->path), m = f->error.message;
    const char *open = m.n ? memchr(m.p, '"', m.n) : NULL, *close = m.n ? memrchr(m.p, '"', m.n) : NULL;
    int errnum = (int)f->error.errnum;
    if (open && close > open)
        path = (struct rp_str){open + 1, (size_t)(close - open) - 1};
    if (errnum == EINVAL && (r->type == RP_FILES_READ || r->type == RP_FILES_WRITE))
        errnum = ENXIO; /* neither file nor directory */
    (void)rp_files_explain(err, errnum, path);
}

/* One whole frame that is not DATA, for a request. False: it does not belong here. */
static bool take_frame(struct rp_file_request *r, const struct rp_files_frame *f)
{
    struct rp_error err = {0};
    switch (f->type) {
    case RP_FILES_END:
        if ((is_upload(r) || r->type == RP_FILES_WATCH) && !r->ready) {
            r->ready = true;
            r->replaces_length = f->etag.n;
            memcpy(r->replaces, f->etag.p, f->etag.n);
            if (r->cb->on_ready)
                r->cb->on_ready(r->ctx);
            return true;
        }
        if ((is_upload(r) && !r->sent_end) || r->type == RP_FILES_WATCH)
            return false;
        release_channel(r, true);
        finish(r, f->etag, NULL);
        return true;
    case RP_FILES_ERROR:
        explain(r, f, &err);
        release_channel(r, !is_upload(r) || !r->ready || r->sent_end);
        finish(r, (struct rp_str){0}, &err);
        return true;
    case RP_FILES_ENTRY:
        /* who only asks whether it is there needs no entry */
        if (r->cb->on_entry)
            r->cb->on_entry(r->ctx, &f->entry);
        return true;
    case RP_FILES_MATCH:
        if (!r->cb->on_match)
            return false;
        r->cb->on_match(r->ctx, &f->match);
        return true;
    case RP_FILES_EVENT:
        if (!r->cb->on_event || !r->ready)
            return false;
        r->cb->on_event(r->ctx, &f->event);
        return true;
    case RP_FILES_TRUNCATED:
        r->truncated = true;
        return true;
    default:
        return false;
    }
}

/* DATA is passed on as it comes, without waiting for the whole frame. True when a header of one was taken. */
static bool take_data_header(struct rp_file_channel *c, struct rp_str bytes)
{
    if (bytes.n < RP_FILES_HEADER_SIZE || (uint8_t)bytes.p[4] != RP_FILES_DATA)
        return false;
    struct rp_wire_reader r = {.data = (const uint8_t *)bytes.p, .length = RP_FILES_HEADER_SIZE};
    uint32_t n = rp_wire_get_u32(&r);
    (void)rp_wire_get_u8(&r);
    if (!n || n > RP_FILES_PAYLOAD_MAX || rp_wire_get_u8(&r) || rp_wire_get_u16(&r) ||
        !c->request->cb->on_data)
        return false;
    c->data_left = n;
    return true;
}

static size_t on_bytes(void *ctx, struct rp_str bytes)
{
    struct rp_file_channel *c = ctx;
    size_t at = 0;
    c->depth++;
    while (!c->dead && at < bytes.n) {
        struct rp_file_request *r = c->request;
        struct rp_str rest = {bytes.p + at, bytes.n - at};
        struct rp_files_frame frame;
        if (!r) {
            protocol_failure(c); /* nobody asked */
            break;
        }
        if (r->paused)
            break;
        if (c->data_left) {
            rest.n = RP_MIN(rest.n, c->data_left);
            c->data_left -= rest.n;
            at += rest.n;
            r->cb->on_data(r->ctx, rest);
            continue;
        }
        if (take_data_header(c, rest)) {
            at += RP_FILES_HEADER_SIZE;
            continue;
        }
        ssize_t n = rp_files_decode(rest, &frame);
        if (n == 0)
            break;
        if (n > 0)
            at += (size_t)n;
        if (n < 0 || !take_frame(r, &frame)) {
            if (!c->dead)
                protocol_failure(c);
            break;
        }
    }
    leave(c);
    return at;
}

static void on_drain(void *ctx)
{
    struct rp_file_channel *c = ctx;
    c->depth++;
    if (c->request && c->request->ready && c->request->cb->on_drain)
        c->request->cb->on_drain(c->request->ctx);
    leave(c);
}

static void on_lost(struct rp_file_channel *c)
{
    c->depth++;
    struct rp_file_request *r = c->request;
    if (r) {
        struct rp_error err = {0};
        (void)rp_error_set(&err, RP_ERROR_SANDBOX,
                           "the file helper of the sandbox ended (was it killed for memory?)");
        fail(r, &err);
    } else {
        close_channel(c);
    }
    leave(c);
}

static void on_end(void *ctx)
{
    on_lost(ctx);
}

static void on_error(void *ctx, int errnum)
{
    on_lost(ctx);
}

static const struct rp_stream_callbacks stream_callbacks = {on_bytes, on_end, on_drain, on_error};

/* ---- pools ---- */

/* Ends what stands still, and channels that nobody needed for a while. */
static void on_tick(void *ctx)
{
    struct rp_file_pool *p = ctx;
    uint64_t now = rp_loop_now_ms(p->files->loop);
    for (struct rp_file_channel *c = p->channels, *next; c; c = next) {
        next = c->next;
        struct rp_file_request *r = c->request;
        if (!r) {
            if (now - c->idle_since_ms >= IDLE_MS)
                close_channel(c);
            continue;
        }
        uint64_t progress = rp_stream_progress(c->stream);
        bool client = is_upload(r) && r->ready && !r->sent_end && !rp_stream_queued(c->stream);
        if (progress != r->progress || r->paused || client || (r->type == RP_FILES_WATCH && r->ready)) {
            r->progress = progress;
            r->progress_ms = now;
        } else if (now - r->progress_ms >= r->timeout_ms) {
            struct rp_error err = {0};
            (void)rp_error_set(&err, RP_ERROR_TIMEOUT, "the file helper of the sandbox did not get on");
            fail(r, &err);
            return; /* the list may be another now: the rest at the next tick */
        }
    }
    if (!p->channels && !p->first)
        rp_timer_stop(p->timer);
}

static struct rp_file_pool *find_pool(struct rp_files *f, struct rp_sandbox *s, bool make)
{
    for (struct rp_file_pool *p = f->pools; p; p = p->next)
        if (p->sandbox == s)
            return p;
    if (!make)
        return NULL;
    struct rp_file_pool *p = rp_calloc(1, sizeof(*p));
    p->files = f;
    p->sandbox = s;
    p->timer = rp_timer_new(f->loop, on_tick, p);
    p->next = f->pools;
    f->pools = p;
    return p;
}

static void begin(struct rp_file_channel *c, struct rp_file_request *r)
{
    c->request = r;
    c->data_left = 0;
    r->channel = c;
    r->progress_ms = rp_loop_now_ms(c->pool->files->loop);
    r->progress = rp_stream_progress(c->stream);
    struct rp_str first = rp_buf_view(&r->first);
    (void)rp_stream_write(c->stream, &first, 1); /* a failure comes as on_error */
    rp_buf_done(&r->first);
    if (r->paused)
        rp_stream_pause(c->stream);
    else
        rp_stream_resume(c->stream);
    if (!rp_timer_active(c->pool->timer))
        rp_timer_start(c->pool->timer, TICK_MS, TICK_MS);
}

static struct rp_file_request *pop_waiting(struct rp_file_pool *p)
{
    struct rp_file_request *r = p->first;
    if (r) {
        p->first = r->next;
        if (!p->first)
            p->last = NULL;
        r->next = NULL;
        p->waiting_count--;
    }
    return r;
}

static void on_channel(void *ctx, int fd, const struct rp_error *err)
{
    struct opening *o = ctx;
    struct rp_file_pool *p = o->pool;
    if (!p) {
        if (!err)
            close(fd);
        free(o);
        return;
    }
    for (struct opening **at = &p->openings; *at; at = &(*at)->next)
        if (*at == o) {
            *at = o->next;
            break;
        }
    p->opening_count--;
    free(o);
    struct rp_file_channel *c = NULL;
    struct rp_error unusable = {0};
    if (!err) {
        c = rp_calloc(1, sizeof(*c));
        c->pool = p;
        c->stream = rp_stream_new(p->files->loop, fd, INPUT_CAP, OUTPUT_CAP, &stream_callbacks, c);
        if (!c->stream) {
            free(c);
            c = NULL;
            (void)rp_error_set(&unusable, RP_ERROR_SANDBOX, "the file helper's channel cannot be watched");
            err = &unusable;
        }
    }
    if (!c) {
        /* With others under way it waits for one of them: init may have no more for now. */
        struct rp_file_request *r = p->channel_count ? NULL : pop_waiting(p);
        if (r)
            finish(r, (struct rp_str){0}, err);
        return;
    }
    c->next = p->channels;
    p->channels = c;
    p->channel_count++;
    c->idle_since_ms = rp_loop_now_ms(p->files->loop);
    serve_waiting(p);
    if (!rp_timer_active(p->timer))
        rp_timer_start(p->timer, TICK_MS, TICK_MS);
}

static void serve_waiting(struct rp_file_pool *p)
{
    for (struct rp_file_channel *c = p->channels; c && p->first; c = c->next)
        if (!c->request)
            begin(c, pop_waiting(p));
    while (p->opening_count < p->waiting_count && p->channel_count + p->opening_count < CHANNELS_MAX) {
        struct opening *o = rp_calloc(1, sizeof(*o));
        o->pool = p;
        o->next = p->openings;
        p->openings = o;
        p->opening_count++;
        rp_sandbox_file_channel(p->sandbox, on_channel, o);
    }
}

void rp_file_request_start(struct rp_files *f, struct rp_sandbox *s, struct rp_file_request *r)
{
    struct rp_file_pool *p = find_pool(f, s, true);
    r->loop = f->loop;
    r->pool = p;
    if (p->waiting_count >= WAITING_MAX) {
        struct rp_error err = {0};
        (void)rp_error_set(&err, RP_ERROR_TOO_MANY, "%d file requests of this project already wait",
                           WAITING_MAX);
        fail_later(r, &err);
        return;
    }
    if (p->last)
        p->last->next = r;
    else
        p->first = r;
    p->last = r;
    p->waiting_count++;
    serve_waiting(p);
}

/* ---- life ---- */

static void free_pool(struct rp_file_pool *p, const struct rp_error *err)
{
    for (struct rp_file_pool **at = &p->files->pools; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    for (struct opening *o = p->openings; o; o = o->next)
        o->pool = NULL;
    /* All channels first, so that nothing that on_done begins is served here. */
    struct rp_file_request *gone = NULL, **end = &gone;
    while (p->channels) {
        struct rp_file_request *r = p->channels->request;
        close_channel(p->channels);
        if (r) {
            *end = r;
            end = &r->next;
        }
    }
    *end = p->first;
    rp_timer_free(p->timer);
    while (gone) {
        struct rp_file_request *r = gone;
        gone = r->next;
        r->pool = NULL;
        fail_later(r, err);
    }
    free(p);
}

void rp_files_drop(struct rp_files *f, struct rp_sandbox *s)
{
    struct rp_file_pool *p = find_pool(f, s, false);
    struct rp_error err = {0};
    (void)rp_error_set(&err, RP_ERROR_SANDBOX, "the sandbox has ended");
    if (p)
        free_pool(p, &err);
}

struct rp_files *rp_files_new(struct rp_loop *loop)
{
    struct rp_files *f = rp_calloc(1, sizeof(*f));
    f->loop = loop;
    return f;
}

void rp_files_free(struct rp_files *f)
{
    if (!f)
        return;
    struct rp_error err = {0};
    (void)rp_error_set(&err, RP_ERROR_UNAVAILABLE, "the server is stopping");
    while (f->pools)
        free_pool(f->pools, &err);
    free(f);
}
