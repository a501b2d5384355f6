#include "runner/pump.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <termios.h>

#include "runner/typing.h"

enum {
    PTY_READ = 4096, /* what a read of a PTY master returns at most, plus one */
    PIPE_READ = RP_RING_READ_MAX,
    WRITE_AT_ONCE = 4096,   /* the tty layer copies that much a piece */
    SHORT_READ = 1024,      /* less than this: the source is empty, most likely */
    FLOOD_READ = 4000,      /* a read of a PTY that gives this much is one of a flood */
    FLOOD_SEND = 32 * 1024, /* of a flood, so much is sent at once … */
    FLOOD_MS = 1,           /* … or what came in so long */
    RETRY_FULL_MS = 500,    /* tmpfs is full */
    RETRY_HANGUP_MS = 100,  /* nobody has the PTY open, but its process lives and may open it again */
};

struct rp_pump {
    struct rp_loop *loop;
    struct rp_watchdog *watchdog;
    int fd;
    unsigned flags;
    struct rp_watch *watch;
    struct rp_timer *timer; /* drain, or a retry */
    struct rp_timer *send;  /* while output of a flood waits to be sent */
    size_t unsent;          /* in the ring, and its readers do not know yet */
    struct rp_output *output;
    struct rp_pump_callbacks callbacks;
    void *ctx;
    struct rp_buf queue; /* typed and not yet taken */
    void (*flushed)(void *ctx);
    void *flushed_ctx;
    uint64_t drain_until_ms;
    bool reading;  /* wants to */
    bool draining; /* the process has exited */
    bool quiet;    /* nothing came at the last look while draining */
    bool ended, full, broken_input;
    unsigned busy;
    bool dead;
};

static void leave(struct rp_pump *p)
{
    if (--p->busy == 0 && p->dead)
        free(p);
}

static void set_watch(struct rp_pump *p)
{
    if (!p->dead)
        rp_watch_set(p->watch,
                     (p->reading && !p->ended ? RP_WATCH_READ : 0) | (p->queue.length ? RP_WATCH_WRITE : 0));
}

/* Gives what was read to the ring's readers. */
static void deliver(struct rp_pump *p)
{
    p->unsent = 0;
    rp_timer_stop(p->send);
    rp_output_advanced(p->output);
    if (!p->dead)
        p->callbacks.on_bytes(p->ctx);
}

static void on_send(void *ctx)
{
    struct rp_pump *p = ctx;
    p->busy++;
    deliver(p);
    leave(p);
}

static void end(struct rp_pump *p)
{
    if (p->ended || p->dead)
        return;
    p->ended = true;
    p->reading = false;
    rp_timer_stop(p->timer);
    set_watch(p);
    if (p->unsent)
        deliver(p);
    if (!p->dead)
        p->callbacks.on_end(p->ctx);
}

static void held(struct rp_pump *p)
{
    p->ended = true;
    p->reading = false;
    rp_buf_done(&p->queue);
    set_watch(p);
    p->callbacks.on_held(p->ctx);
}

/* One read into the ring; -EINTR when it held the loop. */
static ssize_t read_once(struct rp_pump *p)
{
    bool pty = p->flags & RP_PUMP_PTY;
    rp_watchdog_enter(p->watchdog);
    ssize_t got = rp_ring_read(rp_output_ring(p->output), p->fd, pty ? PTY_READ : PIPE_READ, !pty);
    if (rp_watchdog_leave(p->watchdog)) {
        held(p);
        return -EINTR;
    }
    return got;
}

/* What a read that gave nothing means. */
static void nothing_read(struct rp_pump *p, ssize_t got)
{
    switch (got) {
    case -EAGAIN:
        if (p->draining && p->quiet) {
            end(p);
        } else if (p->draining) {
            p->quiet = true;
            rp_timer_start(p->timer, RP_PUMP_QUIET_MS, 0);
        }
        break;
    case -EINTR:
        break;
    case -ENOSPC:
    case -ENOMEM:
        /* The program waits; nothing is lost. */
        p->reading = false;
        rp_timer_start(p->timer, RETRY_FULL_MS, 0);
        break;
    case -EIO:
        if (p->draining) {
            end(p);
        } else {
            p->reading = false;
            rp_timer_start(p->timer, RETRY_HANGUP_MS, 0);
        }
        break;
    default: /* 0: every writing end is closed; else something that a pipe or PTY does not say */
        end(p);
        break;
    }
}

/* A PTY gives 4 KiB a read, and whoever reads it at once finds it empty each time. Sending each of them would
 * wake the client for each, which slows all down; what a person types is never that much. */
static bool flood_waits(const struct rp_pump *p, ssize_t last)
{
    return p->flags & RP_PUMP_PTY && !p->draining && last >= FLOOD_READ && p->unsent < FLOOD_SEND;
}

static void read_some(struct rp_pump *p)
{
    size_t total = 0;
    ssize_t got = 1, last = 0;
    while (total < RP_PUMP_TURN) {
        if (!p->draining && !rp_output_room(p->output)) {
            p->reading = false;
            break;
        }
        got = read_once(p);
        if (got <= 0)
            break;
        total += (size_t)got;
        last = got;
        if (got < SHORT_READ && !p->draining)
            break;
    }
    if (p->dead)
        return;
    if (total) {
        p->quiet = false;
        p->unsent += total;
        if (!flood_waits(p, last))
            deliver(p);
        else if (!rp_timer_active(p->send))
            rp_timer_start(p->send, FLOOD_MS, 0);
    }
    if (p->dead || p->ended)
        return;
    if (got <= 0)
        nothing_read(p, got);
    if (!p->ended && p->draining && rp_loop_now_ms(p->loop) >= p->drain_until_ms)
        end(p);
    set_watch(p);
}

/* ---- input ---- */

static ssize_t write_once(struct rp_pump *p, struct rp_str bytes)
{
    bool pty = p->flags & RP_PUMP_PTY;
    struct iovec iov = {(void *)bytes.p, pty ? RP_MIN(bytes.n, (size_t)WRITE_AT_ONCE) : bytes.n};
    rp_watchdog_enter(p->watchdog);
    ssize_t n = pty ? write(p->fd, iov.iov_base, iov.iov_len) : pwritev2(p->fd, &iov, 1, -1, RWF_NOWAIT);
    if (n < 0 && !pty && (errno == EOPNOTSUPP || errno == EINVAL))
        n = write(p->fd, iov.iov_base, iov.iov_len);
    int error = n < 0 ? errno : 0;
    if (rp_watchdog_leave(p->watchdog)) {
        held(p);
        return -EINTR;
    }
    return n < 0 ? -error : n;
}

/* Writes what the descriptor takes; returns how much. */
static size_t write_some(struct rp_pump *p, struct rp_str bytes)
{
    size_t done = 0;
    while (done < bytes.n) {
        ssize_t n = write_once(p, (struct rp_str){bytes.p + done, bytes.n - done});
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        if (n == 0 || n == -EAGAIN || n == -EINTR)
            break;
        /* The reader is gone (EPIPE), or the PTY is hung up: nobody will ever read this. */
        if (n != -EIO || p->draining)
            p->broken_input = true;
        return bytes.n;
    }
    return done;
}

static void after_write(struct rp_pump *p)
{
    if (p->full && p->queue.length <= RP_PUMP_QUEUE_FULL / 2) {
        p->full = false;
        p->callbacks.on_input(p->ctx, false);
    }
    if (!p->dead && p->flushed && !p->queue.length) {
        void (*done)(void *) = p->flushed;
        p->flushed = NULL;
        done(p->flushed_ctx);
    }
}

static void flush(struct rp_pump *p)
{
    rp_buf_consume(&p->queue, write_some(p, rp_buf_view(&p->queue)));
    if (p->dead)
        return;
    after_write(p);
    set_watch(p);
}

static void empty_queue(struct rp_pump *p)
{
    rp_buf_done(&p->queue);
    after_write(p);
}

void rp_pump_discard(struct rp_pump *p)
{
    if (p->flags & RP_PUMP_PTY)
        rp_typing_flush(p->fd);
    p->busy++;
    empty_queue(p);
    set_watch(p);
    leave(p);
}

enum rp_pump_input rp_pump_write(struct rp_pump *p, struct rp_str bytes)
{
    if (!(p->flags & RP_PUMP_WRITES) || p->ended || p->broken_input)
        return RP_PUMP_CLOSED;
    if (!bytes.n)
        return RP_PUMP_OK;
    p->busy++;
    if (p->flags & RP_PUMP_PTY) {
        size_t skip = rp_typing_interrupt(p->fd, bytes, p->queue.length > 0);
        if (skip != SIZE_MAX) {
            rp_typing_flush(p->fd);
            empty_queue(p);
            bytes.p += skip;
            bytes.n -= skip;
        }
    }
    enum rp_pump_input result = RP_PUMP_OK;
    if (bytes.n > RP_PUMP_QUEUE_MAX - p->queue.length) {
        result = RP_PUMP_OVERFLOW;
    } else if (!p->dead) {
        size_t done = p->queue.length ? 0 : write_some(p, bytes);
        if (!p->dead && !p->ended && done < bytes.n &&
            !rp_buf_append(&p->queue, bytes.p + done, bytes.n - done))
            result = RP_PUMP_OVERFLOW;
        if (p->broken_input)
            result = RP_PUMP_CLOSED;
        if (result == RP_PUMP_OK && p->queue.length > RP_PUMP_QUEUE_FULL) {
            p->full = true;
            result = RP_PUMP_FULL;
        }
        set_watch(p);
    }
    leave(p);
    return result;
}

void rp_pump_flushed(struct rp_pump *p, void (*done)(void *ctx), void *ctx)
{
    if (!p->queue.length) {
        done(ctx);
        return;
    }
    p->flushed = done;
    p->flushed_ctx = ctx;
}

size_t rp_pump_queued(const struct rp_pump *p)
{
    return p->queue.length;
}

int rp_pump_eof_character(const struct rp_pump *p)
{
    struct termios t;
    if (!(p->flags & RP_PUMP_PTY) || tcgetattr(p->fd, &t) < 0 || !(t.c_lflag & ICANON) ||
        t.c_cc[VEOF] == _POSIX_VDISABLE)
        return -1;
    return t.c_cc[VEOF];
}

/* ---- life ---- */

static void on_ready(void *ctx, unsigned events)
{
    struct rp_pump *p = ctx;
    p->busy++;
    /* what is typed goes first: it may be Ctrl-C */
    if (events & RP_WATCH_WRITE && p->queue.length)
        flush(p);
    if (!p->dead && events & (RP_WATCH_READ | RP_WATCH_HANGUP)) {
        if (p->reading && !p->ended) {
            read_some(p);
        } else if (!(p->flags & RP_PUMP_READS)) {
            /* the reading end of our pipe is gone: writing says so */
            flush(p);
        }
    }
    leave(p);
}

static void on_timer(void *ctx)
{
    struct rp_pump *p = ctx;
    p->busy++;
    p->reading = true;
    read_some(p);
    leave(p);
}

struct rp_pump *rp_pump_new(struct rp_loop *loop, struct rp_watchdog *watchdog, int fd, unsigned flags,
                            struct rp_output *output, const struct rp_pump_callbacks *callbacks, void *ctx)
{
    struct rp_pump *p = rp_calloc(1, sizeof(*p));
    p->loop = loop;
    p->watchdog = watchdog;
    p->fd = fd;
    p->flags = flags;
    p->output = output;
    p->callbacks = *callbacks;
    p->ctx = ctx;
    p->reading = flags & RP_PUMP_READS;
    rp_buf_init(&p->queue, RP_PUMP_QUEUE_MAX);
    p->watch = rp_watch_new(loop, fd, on_ready, p);
    if (!p->watch) {
        close(fd);
        free(p);
        return NULL;
    }
    p->timer = rp_timer_new(loop, on_timer, p);
    p->send = rp_timer_new(loop, on_send, p);
    set_watch(p);
    return p;
}

void rp_pump_free(struct rp_pump *p)
{
    if (!p)
        return;
    p->busy++;
    p->dead = true;
    rp_watch_free(p->watch);
    rp_timer_free(p->timer);
    rp_timer_free(p->send);
    rp_close_fd(&p->fd);
    rp_buf_done(&p->queue);
    leave(p);
}

void rp_pump_resume(struct rp_pump *p)
{
    if (!(p->flags & RP_PUMP_READS) || p->ended || p->reading || rp_timer_active(p->timer))
        return;
    p->reading = true;
    set_watch(p);
}

void rp_pump_drain(struct rp_pump *p)
{
    if (p->draining || p->ended || !(p->flags & RP_PUMP_READS))
        return;
    p->draining = true;
    p->drain_until_ms = rp_loop_now_ms(p->loop) + RP_PUMP_DRAIN_MS;
    rp_timer_start(p->timer, 0, 0);
}
