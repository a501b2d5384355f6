#include "net/stream.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "net/loop_internal.h"

enum { READ_BUDGET = 256 * 1024, PIECES_AT_ONCE = 64, TERMINAL_CHUNK = 1024 };

enum kind { KIND_SOCKET, KIND_PIPE, KIND_OTHER };

struct rp_stream {
    struct rp_loop *loop;
    struct rp_watch *watch;
    const struct rp_stream_callbacks *callbacks;
    void *ctx;
    void (*on_free)(void *ctx);
    void *on_free_ctx;
    struct rp_buf in, out;
    struct rp_str view; /* what on_bytes looks at while it runs */
    uint64_t progress;
    int fd;
    int broken;     /* errno */
    unsigned depth; /* callbacks on the stack: memory stays until they return */
    unsigned char kind;
    bool paused : 1;
    bool delivering : 1;
    bool callbacks_changed : 1;
    bool redeliver : 1; /* kept bytes wait for the deferred call */
    bool deferred : 1;
    bool ended : 1; /* the peer's direction */
    bool end_told : 1;
    bool error_told : 1;
    bool full : 1;   /* on_drain is owed */
    bool ending : 1; /* shut down when flushed */
    bool shut : 1;
    bool freed : 1;
};

static void on_deferred(void *ctx);

static void dispose(struct rp_stream *s)
{
    if (!s->freed || s->depth || s->deferred)
        return;
    rp_buf_done(&s->in);
    rp_buf_done(&s->out);
    free(s);
}

static void leave(struct rp_stream *s)
{
    s->depth--;
    dispose(s);
}

static void schedule(struct rp_stream *s)
{
    if (s->deferred)
        return;
    s->deferred = true;
    rp_loop_defer(s->loop, on_deferred, s);
}

static void update_watch(struct rp_stream *s)
{
    if (s->freed)
        return;
    unsigned events = 0;
    if (!s->broken) {
        if (!s->paused && !s->ended && s->in.length < s->in.cap)
            events |= RP_WATCH_READ;
        if (s->out.length)
            events |= RP_WATCH_WRITE;
    }
    rp_watch_set(s->watch, events);
}

/* on_error comes from the loop, never from inside the caller's own call. */
static void fail(struct rp_stream *s, int errnum)
{
    if (s->broken)
        return;
    s->broken = errnum;
    rp_buf_done(&s->out);
    schedule(s);
}

/* ---- reading ---- */

static ssize_t read_some(struct rp_stream *s, void *p, size_t n)
{
    switch (s->kind) {
    case KIND_SOCKET:
        return recv(s->fd, p, n, MSG_DONTWAIT);
    case KIND_PIPE: {
        ssize_t r = preadv2(s->fd, &(struct iovec){p, n}, 1, -1, RWF_NOWAIT);
        if (r >= 0 || errno != EOPNOTSUPP)
            return r;
        s->kind = KIND_OTHER; /* kernels before 6.4 */
    }                         /* fall through */
    default:
        return read(s->fd, p, n);
    }
}

/* Gives bytes to the consumer; returns how many it took. The caller looks at s->freed afterwards. */
static size_t deliver(struct rp_stream *s, struct rp_str bytes)
{
    size_t taken = 0;
    do {
        s->callbacks_changed = false;
        s->delivering = true;
        s->view = (struct rp_str){bytes.p + taken, bytes.n - taken};
        size_t n = s->callbacks->on_bytes(s->ctx, s->view);
        s->delivering = false;
        if (s->freed)
            return bytes.n;
        taken += RP_MIN(n, bytes.n - taken);
    } while (s->callbacks_changed && !s->paused && taken < bytes.n);
    return taken;
}

static void deliver_kept(struct rp_stream *s)
{
    s->redeliver = false;
    if (!s->in.length)
        return;
    size_t taken = deliver(s, rp_buf_view(&s->in));
    if (!s->freed) {
        rp_buf_consume(&s->in, taken);
        if (!s->in.length)
            rp_buf_done(&s->in);
    }
}

static void tell_end(struct rp_stream *s)
{
    if (s->freed || s->broken || s->paused || !s->ended || s->end_told)
        return;
    s->end_told = true;
    s->callbacks->on_end(s->ctx);
}

static void keep(struct rp_stream *s, struct rp_str rest)
{
    /* the read was no larger than the room that was left, unless a callback lowered the cap meanwhile */
    if (rest.n > s->in.cap - RP_MIN(s->in.cap, s->in.length))
        s->in.cap = s->in.length + rest.n;
    if (!rp_buf_append_str(&s->in, rest))
        fail(s, ENOBUFS);
}

static void do_read(struct rp_stream *s)
{
    char *scratch = rp_loop_scratch(s->loop);
    size_t budget = READ_BUDGET;
    while (budget && !s->freed && !s->paused && !s->ended && !s->broken && s->in.length < s->in.cap) {
        size_t want = RP_MIN((size_t)RP_LOOP_SCRATCH, s->in.cap - s->in.length);
        ssize_t n = read_some(s, scratch, want);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return;
            if (errno == EIO && s->kind == KIND_OTHER) {
                n = 0; /* a PTY master whose slaves are all closed */
            } else {
                fail(s, errno);
                return;
            }
        }
        if (n == 0) {
            s->ended = true;
            tell_end(s);
            return;
        }
        s->progress += (uint64_t)n;
        budget -= RP_MIN(budget, (size_t)n);
        struct rp_str got = {scratch, (size_t)n};
        if (s->in.length) {
            keep(s, got);
            deliver_kept(s);
        } else {
            size_t taken = deliver(s, got);
            if (!s->freed && taken < got.n)
                keep(s, (struct rp_str){got.p + taken, got.n - taken});
        }
        /* a short read means that nothing is left; a terminal gives at most 4,095 bytes at a time */
        if ((size_t)n < (s->kind == KIND_OTHER ? RP_MIN(want, (size_t)TERMINAL_CHUNK) : want))
            return;
    }
}

/* ---- writing ---- */

static ssize_t write_some(struct rp_stream *s, struct iovec *iov, size_t count)
{
    switch (s->kind) {
    case KIND_SOCKET: {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = count};
        return sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    case KIND_PIPE: {
        ssize_t r = pwritev2(s->fd, iov, (int)count, -1, RWF_NOWAIT);
        if (r >= 0 || errno != EOPNOTSUPP)
            return r;
        s->kind = KIND_OTHER;
    } /* fall through */
    default:
        return writev(s->fd, iov, (int)count);
    }
}

/* Bytes that the kernel took; -1 when the stream broke. */
static ssize_t write_now(struct rp_stream *s, struct iovec *iov, size_t count)
{
    for (;;) {
        ssize_t n = write_some(s, iov, count);
        if (n >= 0) {
            s->progress += (uint64_t)n;
            return n;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        fail(s, errno);
        return -1;
    }
}

static void shut_down(struct rp_stream *s)
{
    if (s->shut)
        return;
    s->shut = true;
    if (s->kind == KIND_SOCKET)
        shutdown(s->fd, SHUT_WR);
}

static void do_flush(struct rp_stream *s)
{
    while (s->out.length && !s->broken) {
        struct rp_str v = rp_buf_view(&s->out);
        ssize_t n = write_now(s, &(struct iovec){(void *)v.p, v.n}, 1);
        if (n <= 0)
            break;
        rp_buf_consume(&s->out, (size_t)n);
        if ((size_t)n < v.n)
            break;
    }
    if (s->broken)
        return;
    if (!s->out.length) {
        rp_buf_done(&s->out);
        if (s->ending)
            shut_down(s);
    }
    if (s->full && s->out.length <= s->out.cap / 2) {
        s->full = false;
        if (s->callbacks->on_drain)
            s->callbacks->on_drain(s->ctx);
    }
}

/* Puts what follows the first `skip` bytes of the pieces into the queue. */
static bool enqueue(struct rp_stream *s, const struct rp_str *pieces, size_t count, size_t skip, size_t rest)
{
    if (rest > s->out.cap - RP_MIN(s->out.cap, s->out.length))
        return false;
    char *at = rp_buf_reserve(&s->out, rest);
    if (!at)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t cut = RP_MIN(skip, pieces[i].n);
        skip -= cut;
        size_t n = pieces[i].n - cut;
        if (n)
            memcpy(at, pieces[i].p + cut, n);
        at += n;
    }
    rp_buf_commit(&s->out, rest);
    return true;
}

enum rp_write rp_stream_write(struct rp_stream *s, const struct rp_str *pieces, size_t count)
{
    if (s->broken || s->freed || s->ending)
        return RP_WRITE_FAILED;
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(total, pieces[i].n, &total))
            return RP_WRITE_FAILED;

    size_t sent = 0;
    if (!s->out.length) {
        for (size_t first = 0; first < count;) {
            struct iovec iov[PIECES_AT_ONCE];
            size_t n = 0, bytes = 0;
            for (; first < count && n < PIECES_AT_ONCE; first++) {
                if (!pieces[first].n)
                    continue;
                iov[n++] = (struct iovec){(void *)pieces[first].p, pieces[first].n};
                bytes += pieces[first].n;
            }
            if (!n)
                break;
            ssize_t w = write_now(s, iov, n);
            if (w < 0)
                return RP_WRITE_FAILED;
            sent += (size_t)w;
            if ((size_t)w < bytes)
                break;
        }
    }
    if (sent == total)
        return RP_WRITE_OK;
    if (!enqueue(s, pieces, count, sent, total - sent)) {
        fail(s, ENOBUFS);
        return RP_WRITE_FAILED;
    }
    update_watch(s);
    if (s->out.length > s->out.cap / 2) {
        s->full = true;
        return RP_WRITE_FULL;
    }
    return RP_WRITE_OK;
}

size_t rp_stream_queued(const struct rp_stream *s)
{
    return s->out.length;
}

void rp_stream_end(struct rp_stream *s)
{
    s->ending = true;
    if (!s->out.length && !s->broken)
        shut_down(s);
}

/* ---- the loop's calls ---- */

static void tell_error(struct rp_stream *s)
{
    if (s->freed || !s->broken || s->error_told)
        return;
    s->error_told = true;
    rp_watch_set(s->watch, 0);
    s->callbacks->on_error(s->ctx, s->broken);
}

static void on_events(void *ctx, unsigned events)
{
    struct rp_stream *s = ctx;
    s->depth++;
    if (events & RP_WATCH_WRITE)
        do_flush(s);
    if (!s->freed && events & RP_WATCH_READ)
        do_read(s);
    tell_error(s);
    update_watch(s);
    leave(s);
}

static void on_deferred(void *ctx)
{
    struct rp_stream *s = ctx;
    s->deferred = false;
    s->depth++;
    if (!s->freed && !s->broken && !s->paused) {
        if (s->redeliver)
            deliver_kept(s);
        tell_end(s);
    }
    tell_error(s);
    update_watch(s);
    leave(s);
}

/* ---- life ---- */

static enum kind kind_of(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return KIND_OTHER;
    return S_ISSOCK(st.st_mode) ? KIND_SOCKET : S_ISFIFO(st.st_mode) ? KIND_PIPE : KIND_OTHER;
}

struct rp_stream *rp_stream_new(struct rp_loop *loop, int fd, size_t input_cap, size_t output_cap,
                                const struct rp_stream_callbacks *callbacks, void *ctx)
{
    struct rp_stream *s = rp_calloc(1, sizeof(*s));
    s->watch = rp_watch_new(loop, fd, on_events, s);
    if (!s->watch) {
        free(s);
        rp_close_fd(&fd);
        return NULL;
    }
    s->loop = loop;
    s->fd = fd;
    s->kind = (unsigned char)kind_of(fd);
    s->callbacks = callbacks;
    s->ctx = ctx;
    rp_buf_init(&s->in, input_cap);
    rp_buf_init(&s->out, output_cap);
    update_watch(s);
    return s;
}

static void detach(struct rp_stream *s)
{
    s->freed = true;
    rp_watch_free(s->watch);
    s->watch = NULL;
    if (s->on_free)
        s->on_free(s->on_free_ctx);
}

void rp_stream_free(struct rp_stream *s)
{
    if (!s || s->freed)
        return;
    detach(s);
    rp_close_fd(&s->fd);
    dispose(s);
}

int rp_stream_release(struct rp_stream *s, struct rp_buf *ret_rest)
{
    detach(s);
    struct rp_str kept = rp_buf_view(&s->in);
    if (s->delivering)
        kept = s->view;
    if (kept.n) {
        /* copied, since a callback on the stack may still look at it */
        char *at = rp_buf_reserve(ret_rest, kept.n);
        if (!at) {
            ret_rest->cap = ret_rest->length + kept.n;
            at = rp_buf_reserve(ret_rest, kept.n);
        }
        if (at) {
            memcpy(at, kept.p, kept.n);
            rp_buf_commit(ret_rest, kept.n);
        }
    }
    int fd = RP_STEAL_FD(s->fd);
    dispose(s);
    return fd;
}

void rp_stream_set_callbacks(struct rp_stream *s, const struct rp_stream_callbacks *callbacks, void *ctx)
{
    s->callbacks = callbacks;
    s->ctx = ctx;
    s->end_told = false;
    if (s->delivering) {
        s->callbacks_changed = true;
    } else if (s->in.length || s->ended) {
        s->redeliver = true;
        schedule(s);
    }
}

void rp_stream_pause(struct rp_stream *s)
{
    s->paused = true;
    update_watch(s);
}

void rp_stream_resume(struct rp_stream *s)
{
    s->paused = false;
    if (s->delivering)
        /* the bytes that this call leaves come again */
        s->redeliver = true;
    else if (s->in.length)
        s->redeliver = true;
    if (s->redeliver || (s->ended && !s->end_told))
        schedule(s);
    update_watch(s);
}

int rp_stream_fd(const struct rp_stream *s)
{
    return s->fd;
}

void rp_stream_set_caps(struct rp_stream *s, size_t input_cap, size_t output_cap)
{
    s->in.cap = input_cap;
    s->out.cap = output_cap;
    if (s->out.length > output_cap / 2)
        s->full = true; /* on_drain is owed from now on */
    update_watch(s);
}

struct rp_str rp_stream_input(const struct rp_stream *s)
{
    return rp_buf_view(&s->in);
}

size_t rp_stream_output_cap(const struct rp_stream *s)
{
    return s->out.cap;
}

uint64_t rp_stream_progress(const struct rp_stream *s)
{
    return s->progress;
}

void rp_stream_on_free(struct rp_stream *s, void (*fn)(void *ctx), void *ctx)
{
    s->on_free = fn;
    s->on_free_ctx = ctx;
}
