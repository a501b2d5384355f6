#include "runner/sandbox_internal.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "proto/seqpacket.h"

enum {
    PENDING_MAX = 2048,
    SEND_QUEUE_MAX = 1024 * 1024, /* bytes that init did not take yet */
    MESSAGES_PER_TURN = 64,
};

/* ---- requests ---- */

static void close_fds(int fds[4])
{
    for (int i = 0; i < 4; i++)
        rp_close_fd(&fds[i]);
}

/* Calls the request's function, once, and frees it. What is received and not handed over is closed. */
void rp_sandbox_answer(struct pending *p, int fd, const struct rp_error *err)
{
    switch (p->type) {
    case RP_INIT_SPAWN:
    case RP_INIT_REOPEN:
        if (err || !p->fn.streams)
            close_fds(p->fds);
        if (p->fn.streams)
            p->fn.streams(p->ctx, p->fds, p->pid, err);
        break;
    case RP_INIT_CONNECT:
    case RP_INIT_FILES:
        if (p->fn.fd)
            p->fn.fd(p->ctx, err ? -1 : RP_STEAL_FD(fd), err);
        break;
    default:
        if (p->fn.done)
            p->fn.done(p->ctx, err);
        break;
    }
    rp_close_fd(&fd);
    free(p);
}

struct pending *rp_sandbox_find(struct rp_sandbox *s, uint32_t tag, bool take)
{
    struct pending **at = &s->buckets[tag % PENDING_BUCKETS];
    while (*at && (*at)->tag != tag)
        at = &(*at)->next;
    struct pending *p = *at;
    if (p && take) {
        *at = p->next;
        if (--s->pending_count == 0)
            rp_timer_stop(s->tick);
    }
    return p;
}

void rp_sandbox_refuse(struct rp_sandbox *s, struct pending *p, const struct rp_error *err)
{
    p->error = *err;
    p->next = NULL;
    *s->refused_tail = p;
    s->refused_tail = &p->next;
    rp_timer_start(s->answer, 0, 0);
}

/* Gives every answer that waits; an answer may make a request that is refused at once. */
static void drain_refused(struct rp_sandbox *s)
{
    while (s->refused) {
        struct pending *p = s->refused;
        s->refused = p->next;
        if (!s->refused)
            s->refused_tail = &s->refused;
        struct rp_error err = p->error;
        rp_sandbox_answer(p, -1, &err);
    }
}

static void leave(struct rp_sandbox *s)
{
    if (--s->busy == 0 && s->dead)
        free(s);
}

static void give_answers(void *ctx)
{
    struct rp_sandbox *s = ctx;
    s->busy++;
    drain_refused(s);
    if (s->broken && !s->told && !s->dead) {
        s->told = true;
        if (s->ready) {
            void (*ready)(void *, const struct rp_error *) = s->ready;
            s->ready = NULL;
            ready(s->ctx, &s->why);
        } else {
            s->events.on_broken(s->ctx, &s->why);
        }
    }
    leave(s);
}

/* Nothing that comes from this sandbox is believed from here on. Callbacks follow from the loop. */
void rp_sandbox_break(struct rp_sandbox *s, const struct rp_error *why)
{
    if (s->broken)
        return;
    s->broken = true;
    s->why = *why;
    rp_watch_free(s->watch);
    s->watch = NULL;
    rp_close_fd(&s->socket);
    rp_timer_stop(s->tick);
    for (unsigned i = 0; i < PENDING_BUCKETS; i++) {
        while (s->buckets[i]) {
            struct pending *p = s->buckets[i];
            s->buckets[i] = p->next;
            rp_sandbox_refuse(s, p, why);
        }
    }
    s->pending_count = 0;
    rp_timer_start(s->answer, 0, 0);
}

void rp_sandbox_broke(struct rp_sandbox *s, enum rp_code code, const char *what)
{
    struct rp_error err;
    rp_error_set(&err, code, "sandbox %s: %s", s->id, what);
    rp_sandbox_break(s, &err);
}

static void broke_errno(struct rp_sandbox *s, int errnum, const char *what)
{
    struct rp_error err;
    rp_error_errno(&err, RP_ERROR_SANDBOX, errnum, "sandbox %s: %s", s->id, what);
    err.code = RP_ERROR_SANDBOX;
    rp_sandbox_break(s, &err);
}

struct pending *rp_sandbox_request(uint16_t type, void *ctx)
{
    struct pending *p = rp_calloc(1, sizeof(*p));
    p->type = type;
    p->ctx = ctx;
    for (int i = 0; i < 4; i++)
        p->fds[i] = -1;
    return p;
}

static void watch_events(struct rp_sandbox *s)
{
    if (s->watch)
        rp_watch_set(s->watch, RP_WATCH_READ | (s->queue ? RP_WATCH_WRITE : 0));
}

static void send_message(struct rp_sandbox *s, const struct rp_wire_writer *w)
{
    if (!s->queue) {
        int rc = rp_seqpacket_send(s->socket, w->data, w->length, -1);
        if (rc == 0)
            return;
        if (rc != -EAGAIN && rc != -ENOBUFS) {
            broke_errno(s, -rc, "its init is gone");
            return;
        }
    }
    if (s->queue_bytes + w->length > SEND_QUEUE_MAX) {
        rp_sandbox_broke(s, RP_ERROR_SANDBOX, "its init takes no messages");
        return;
    }
    struct queued *q = rp_alloc(sizeof(*q) + w->length);
    q->next = NULL;
    q->length = w->length;
    memcpy(q->bytes, w->data, w->length);
    *s->queue_tail = q;
    s->queue_tail = &q->next;
    s->queue_bytes += q->length;
    watch_events(s);
}

static void flush(struct rp_sandbox *s)
{
    while (s->queue) {
        struct queued *q = s->queue;
        int rc = rp_seqpacket_send(s->socket, q->bytes, q->length, -1);
        if (rc == -EAGAIN || rc == -ENOBUFS)
            return;
        if (rc < 0) {
            broke_errno(s, -rc, "its init is gone");
            return;
        }
        s->queue = q->next;
        if (!s->queue)
            s->queue_tail = &s->queue;
        s->queue_bytes -= q->length;
        free(q);
    }
    watch_events(s);
}

struct rp_wire_writer rp_sandbox_begin(struct rp_sandbox *s, struct pending *p)
{
    do
        s->next_tag = s->next_tag == UINT32_MAX ? 1 : s->next_tag + 1;
    while (rp_sandbox_find(s, s->next_tag, false));
    p->tag = s->next_tag;
    return rp_wire_begin(s->message, sizeof(s->message), p->type, 0, p->tag);
}

/* Sends what was begun. A request that cannot be sent is answered from the loop. */
void rp_sandbox_submit(struct rp_sandbox *s, struct pending *p, const struct rp_wire_writer *w,
                       uint64_t timeout_ms)
{
    struct rp_error err;
    if (s->broken) {
        rp_sandbox_refuse(s, p, &s->why);
        return;
    }
    if (w->overflow) {
        rp_error_set(&err, RP_ERROR_TOO_LARGE, "command, variables and arguments are more than %d bytes",
                     RP_WIRE_MESSAGE_MAX);
        rp_sandbox_refuse(s, p, &err);
        return;
    }
    if (s->pending_count >= PENDING_MAX) {
        rp_error_set(&err, RP_ERROR_TOO_MANY, "%d requests to the sandbox wait already", PENDING_MAX);
        rp_sandbox_refuse(s, p, &err);
        return;
    }
    p->deadline_ms = rp_loop_now_ms(s->loop) + timeout_ms;
    p->next = s->buckets[p->tag % PENDING_BUCKETS];
    s->buckets[p->tag % PENDING_BUCKETS] = p;
    if (s->pending_count++ == 0)
        rp_timer_start(s->tick, 1000, 1000);
    send_message(s, w);
}

static void on_tick(void *ctx)
{
    struct rp_sandbox *s = ctx;
    uint64_t now = rp_loop_now_ms(s->loop);
    for (unsigned i = 0; i < PENDING_BUCKETS; i++) {
        for (struct pending *p = s->buckets[i]; p; p = p->next) {
            if (now < p->deadline_ms)
                continue;
            struct rp_error err;
            rp_error_set(&err, RP_ERROR_SANDBOX, "sandbox %s: its init did not answer message %u in time",
                         s->id, p->type);
            rp_sandbox_break(s, &err);
            return;
        }
    }
}

static void on_ready(void *ctx, unsigned events)
{
    struct rp_sandbox *s = ctx;
    s->busy++;
    if (events & RP_WATCH_WRITE)
        flush(s);
    for (unsigned i = 0; !s->dead && !s->broken && i < MESSAGES_PER_TURN; i++) {
        int fd;
        uint8_t message[RP_WIRE_MESSAGE_MAX];
        ssize_t n = rp_seqpacket_receive(s->socket, message, sizeof(message), &fd);
        if (n == -EAGAIN)
            break;
        if (n == 0)
            rp_sandbox_broke(s, RP_ERROR_SANDBOX, "its init ended");
        else if (n == -EPROTO)
            rp_sandbox_broke(s, RP_ERROR_PROTOCOL,
                             "a message that was cut, or with more than one descriptor");
        else if (n < 0)
            broke_errno(s, (int)-n, "its init is gone");
        else
            rp_sandbox_message(s, (struct rp_str){(const char *)message, (size_t)n}, fd);
    }
    leave(s);
}

/* ---- life ---- */

struct rp_sandbox *rp_sandbox_new(struct rp_loop *loop, const char *id, int connection,
                                  const struct rp_sandbox_events *events, void *ctx,
                                  void (*ready)(void *ctx, const struct rp_error *err))
{
    struct rp_sandbox *s = rp_calloc(1, sizeof(*s));
    s->loop = loop;
    if (!rp_str_copy(s->id, sizeof(s->id), rp_str_of(id)))
        s->id[0] = '\0';
    s->socket = connection;
    s->events = *events;
    s->ctx = ctx;
    s->ready = ready;
    s->refused_tail = &s->refused;
    s->queue_tail = &s->queue;
    s->tick = rp_timer_new(loop, on_tick, s);
    s->answer = rp_timer_new(loop, give_answers, s);
    int type = 0;
    socklen_t length = sizeof(type);
    if (getsockopt(connection, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_SEQPACKET ||
        fcntl(connection, F_SETFD, FD_CLOEXEC) < 0) {
        rp_sandbox_broke(s, RP_ERROR_INTERNAL, "its connection is no SOCK_SEQPACKET socket");
        return s;
    }
    s->watch = rp_watch_new(loop, connection, on_ready, s);
    if (!s->watch) {
        rp_sandbox_broke(s, RP_ERROR_INTERNAL, "its connection cannot be watched");
        return s;
    }
    rp_watch_set(s->watch, RP_WATCH_READ);
    struct pending *p = rp_sandbox_request(RP_INIT_HELLO, s);
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_wire_put_u32(&w, RP_INIT_VERSION_MIN);
    rp_wire_put_u32(&w, RP_INIT_VERSION);
    rp_sandbox_submit(s, p, &w, RP_SANDBOX_REQUEST_TIMEOUT_MS);
    return s;
}

void rp_sandbox_free(struct rp_sandbox *s)
{
    if (!s)
        return;
    s->told = true;
    s->ready = NULL;
    struct rp_error gone;
    rp_error_set(&gone, RP_ERROR_SANDBOX, "the sandbox is gone");
    rp_sandbox_break(s, &gone);
    s->busy++; /* an answer must not free us a second time */
    drain_refused(s);
    while (s->queue) {
        struct queued *q = s->queue;
        s->queue = q->next;
        free(q);
    }
    rp_timer_free(s->tick);
    rp_timer_free(s->answer);
    free(s->ports);
    s->ports = NULL;
    s->dead = true;
    leave(s);
}

struct rp_loop *rp_sandbox_loop(struct rp_sandbox *s)
{
    return s->loop;
}
