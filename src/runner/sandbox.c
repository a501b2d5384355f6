#include "runner/sandbox.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "net/loop.h"
#include "proto/seqpacket.h"
#include "proto/wire.h"
#include "runner/received.h"

enum {
    REQUEST_TIMEOUT_MS = 30 * 1000, /* an init that takes longer is frozen */
    SPAWN_TIMEOUT_MS = 120 * 1000,  /* exec happens under the user's CPU and disk limits */
    CONNECT_TIMEOUT_MAX_MS = 60 * 1000,
    PENDING_MAX = 2048,
    PENDING_BUCKETS = 64,
    SEND_QUEUE_MAX = 1024 * 1024, /* bytes that init did not take yet */
    MESSAGES_PER_TURN = 64,
    LISTED_MAX = RP_INIT_PROCESSES_MAX,
};

/* A request that waits for its answer. */
struct pending {
    struct pending *next; /* of the bucket, or of the list of answers to give */
    uint32_t tag;
    uint16_t type;
    uint64_t deadline_ms;
    void *ctx;
    union {
        rp_streams_fn *streams;
        rp_done_fn *done;
        rp_fd_fn *fd;
    } fn; /* any may be NULL */
    void (*each)(void *ctx, const struct rp_sandbox_process_info *info);
    uint64_t id;
    uint32_t flags, pid;
    unsigned wanted; /* bit per RP_STREAM_* that has to come */
    bool spawned;
    unsigned listed;
    int fds[4]; /* received so far */
    uint16_t port;
    struct rp_error error; /* for an answer that is given later */
};

struct queued {
    struct queued *next;
    size_t length;
    uint8_t bytes[];
};

struct rp_sandbox {
    struct rp_loop *loop;
    char id[RP_ID_SIZE];
    int socket;
    struct rp_watch *watch;
    struct rp_timer *tick;   /* looks for late answers while there are requests */
    struct rp_timer *answer; /* gives the answers in `refused` from the loop */
    struct rp_sandbox_events events;
    void *ctx;
    void (*ready)(void *ctx, const struct rp_error *err);
    struct pending *buckets[PENDING_BUCKETS];
    struct pending *refused, **refused_tail; /* requests made after it broke */
    unsigned pending_count;
    uint32_t next_tag;
    struct queued *queue, **queue_tail;
    size_t queue_bytes;
    struct rp_port *ports;
    size_t port_count;
    bool greeted, broken, told;
    unsigned busy; /* depth of callbacks that may free us; the last one to leave frees a dead one's memory */
    bool dead;
    struct rp_error why;
    uint8_t message[RP_WIRE_MESSAGE_MAX];
};

/* ---- requests ---- */

static void close_fds(int fds[4])
{
    for (int i = 0; i < 4; i++)
        rp_close_fd(&fds[i]);
}

/* Calls the request's function, once, and frees it. What is received and not handed over is closed. */
static void answer(struct pending *p, int fd, const struct rp_error *err)
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

static struct pending *find(struct rp_sandbox *s, uint32_t tag, bool take)
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

static void refuse(struct rp_sandbox *s, struct pending *p, const struct rp_error *err)
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
        answer(p, -1, &err);
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
            refuse(s, p, why);
        }
    }
    s->pending_count = 0;
    rp_timer_start(s->answer, 0, 0);
}

static void broke(struct rp_sandbox *s, enum rp_code code, const char *what)
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

static struct pending *request(uint16_t type, void *ctx)
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
        broke(s, RP_ERROR_SANDBOX, "its init takes no messages");
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

static struct rp_wire_writer begin(struct rp_sandbox *s, struct pending *p)
{
    do
        s->next_tag = s->next_tag == UINT32_MAX ? 1 : s->next_tag + 1;
    while (find(s, s->next_tag, false));
    p->tag = s->next_tag;
    return rp_wire_begin(s->message, sizeof(s->message), p->type, 0, p->tag);
}

/* Sends what was begun. A request that cannot be sent is answered from the loop. */
static void submit(struct rp_sandbox *s, struct pending *p, const struct rp_wire_writer *w,
                   uint64_t timeout_ms)
{
    struct rp_error err;
    if (s->broken) {
        refuse(s, p, &s->why);
        return;
    }
    if (w->overflow) {
        rp_error_set(&err, RP_ERROR_TOO_LARGE, "command, variables and arguments are more than %d bytes",
                     RP_WIRE_MESSAGE_MAX);
        refuse(s, p, &err);
        return;
    }
    if (s->pending_count >= PENDING_MAX) {
        rp_error_set(&err, RP_ERROR_TOO_MANY, "%d requests to the sandbox wait already", PENDING_MAX);
        refuse(s, p, &err);
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

/* ---- what init sends ---- */

static bool signal_valid(int32_t code, uint32_t signal)
{
    return signal == 0 ? code >= 0 && code <= 255 : code == -1 && signal <= 64;
}

static bool read_exit(struct rp_wire_reader *r, struct rp_exit *ret)
{
    int32_t code = (int32_t)rp_wire_get_u32(r);
    uint32_t signal = rp_wire_get_u32(r);
    ret->user_us = rp_wire_get_u64(r);
    ret->system_us = rp_wire_get_u64(r);
    ret->peak_rss = rp_wire_get_u64(r);
    ret->code = code;
    ret->signal = (int)signal;
    return !r->bad && signal_valid(code, signal);
}

static void on_exited(struct rp_sandbox *s, struct rp_wire_reader *r)
{
    struct rp_exit exit;
    uint64_t id = rp_wire_get_u64(r);
    if (!read_exit(r, &exit) || !rp_wire_finished(r) || id == 0) {
        broke(s, RP_ERROR_PROTOCOL, "a malformed exit event");
        return;
    }
    s->events.on_exited(s->ctx, id, &exit);
}

/* A name for display, from inside: no control characters, and cut. */
static void copy_name(char *dst, size_t cap, struct rp_str name)
{
    size_t n = 0;
    for (size_t i = 0; i < name.n && n + 1 < cap; i++) {
        unsigned char c = (unsigned char)name.p[i];
        dst[n++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    dst[n] = '\0';
}

static void on_ports(struct rp_sandbox *s, struct rp_wire_reader *r)
{
    uint32_t count = rp_wire_get_u32(r);
    struct rp_port *ports = NULL;
    bool good = count <= RP_INIT_PORTS_MAX;
    if (good && count)
        ports = rp_calloc(count, sizeof(*ports));
    for (uint32_t i = 0; good && i < count; i++) {
        ports[i].family = rp_wire_get_u8(r);
        const uint8_t *address = rp_wire_take(r, sizeof(ports[i].address));
        if (address)
            memcpy(ports[i].address, address, sizeof(ports[i].address));
        ports[i].port = rp_wire_get_u16(r);
        ports[i].pid = rp_wire_get_u32(r);
        copy_name(ports[i].command, sizeof(ports[i].command), rp_wire_get_str(r, 4096));
        good = !r->bad && (ports[i].family == 4 || ports[i].family == 6) && ports[i].port != 0;
    }
    if (!good || !rp_wire_finished(r)) {
        free(ports);
        broke(s, RP_ERROR_PROTOCOL, "a malformed list of ports");
        return;
    }
    free(s->ports);
    s->ports = ports;
    s->port_count = count;
    s->events.on_ports(s->ctx, s->ports, s->port_count);
}

/* The version that init chose, and the probe, by which we see that descriptors arrive. */
static void on_hello(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r, int fd)
{
    uint32_t version = rp_wire_get_u32(r);
    uint32_t reserved = rp_wire_get_u32(r);
    struct rp_error err;
    if (!rp_wire_finished(r) || reserved != 0 || version < RP_INIT_VERSION_MIN || version > RP_INIT_VERSION) {
        broke(s, RP_ERROR_PROTOCOL, "a malformed hello");
        return;
    }
    if (rp_received_probe(fd, &err) < 0) {
        rp_error_prefix(&err, "sandbox %s", s->id);
        rp_sandbox_break(s, &err);
        return;
    }
    find(s, p->tag, true);
    free(p);
    s->greeted = true;
    void (*ready)(void *, const struct rp_error *) = s->ready;
    s->ready = NULL;
    ready(s->ctx, NULL);
}

static void on_error(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r)
{
    uint32_t errnum = rp_wire_get_u32(r);
    struct rp_str text = rp_wire_get_str(r, RP_WIRE_MESSAGE_MAX);
    if (!rp_wire_finished(r) || errnum == 0 || errnum > 4095) {
        broke(s, RP_ERROR_PROTOCOL, "a malformed error");
        return;
    }
    char message[256];
    copy_name(message, sizeof(message), text);
    struct rp_error err;
    enum rp_code code = RP_ERROR_SANDBOX;
    switch (p->type) {
    case RP_INIT_SPAWN:
        code =
            errnum == ENOENT || errnum == EACCES || errnum == ENOEXEC || errnum == ENOTDIR || errnum == E2BIG
                ? RP_ERROR_INVALID
            : errnum == EAGAIN ? RP_ERROR_QUOTA
            : errnum == EEXIST ? RP_ERROR_EXISTS
                               : RP_ERROR_SANDBOX;
        break;
    case RP_INIT_CONNECT:
        code = errnum == ETIMEDOUT ? RP_ERROR_TIMEOUT
               : errnum == EAGAIN  ? RP_ERROR_UNAVAILABLE
                                   : RP_ERROR_PORT_CLOSED;
        break;
    default:
        code = errnum == ESRCH || errnum == ENOENT ? RP_ERROR_NOT_FOUND
               : errnum == EAGAIN                  ? RP_ERROR_UNAVAILABLE
               : errnum == EBUSY                   ? RP_ERROR_CONFLICT
                                                   : RP_ERROR_SANDBOX;
    }
    rp_error_set(&err, code, "%s", message[0] ? message : strerrordesc_np((int)errnum) ?: "unknown error");
    err.errno_value = (int)errnum;
    if (p->type == RP_INIT_HELLO) {
        rp_error_prefix(&err, "sandbox %s refuses to talk", s->id);
        rp_sandbox_break(s, &err);
        return;
    }
    answer(find(s, p->tag, true), -1, &err);
}

/* One of the descriptors of a spawn or reopen. */
static void on_stream(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r, int *fd)
{
    uint64_t id = rp_wire_get_u64(r);
    uint8_t stream = rp_wire_get_u8(r);
    struct rp_error err;
    if (!rp_wire_finished(r) || id != p->id || stream > RP_STREAM_PTY || !(p->wanted & 1u << stream) ||
        p->fds[stream] >= 0 || (p->type == RP_INIT_SPAWN && !p->spawned)) {
        broke(s, RP_ERROR_PROTOCOL, "a stream that was not asked for");
        return;
    }
    if (rp_received_stream(*fd, stream, &err) < 0) {
        rp_error_prefix(&err, "sandbox %s", s->id);
        rp_sandbox_break(s, &err);
        return;
    }
    p->fds[stream] = RP_STEAL_FD(*fd);
    unsigned have = 0;
    for (unsigned i = 0; i < 4; i++)
        have |= p->fds[i] >= 0 ? 1u << i : 0;
    if (p->type == RP_INIT_SPAWN && have == p->wanted)
        answer(find(s, p->tag, true), -1, NULL);
}

static void on_spawned(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r)
{
    uint64_t id = rp_wire_get_u64(r);
    uint32_t pid = rp_wire_get_u32(r);
    if (!rp_wire_finished(r) || p->spawned || id != p->id || pid < 2 || pid > INT32_MAX) {
        broke(s, RP_ERROR_PROTOCOL, "a malformed answer to a spawn");
        return;
    }
    p->spawned = true;
    p->pid = pid;
}

static void on_process(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r)
{
    struct rp_sandbox_process_info info = {0};
    info.id = rp_wire_get_u64(r);
    info.pid = rp_wire_get_u32(r);
    info.flags = rp_wire_get_u32(r);
    uint8_t exited = rp_wire_get_u8(r);
    bool exit_valid = read_exit(r, &info.exit);
    info.exited = exited == 1;
    info.started_ns = rp_wire_get_u64(r);
    info.label = rp_wire_get_str(r, RP_INIT_LABEL_MAX);
    if (!rp_wire_finished(r) || info.id == 0 || exited > 1 || (info.exited && !exit_valid) ||
        (info.flags & ~(uint32_t)(RP_SPAWN_PTY | RP_SPAWN_STDIN | RP_SPAWN_MERGE)) ||
        ++p->listed > LISTED_MAX) {
        broke(s, RP_ERROR_PROTOCOL, "a malformed entry in the list of processes");
        return;
    }
    p->each(p->ctx, &info);
}

static void on_connected(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r, int *fd)
{
    struct rp_error err;
    int rc = p->type == RP_INIT_CONNECT ? rp_received_connection(*fd, p->port, &err)
                                        : rp_received_channel(*fd, &err);
    if (!rp_wire_finished(r)) {
        broke(s, RP_ERROR_PROTOCOL, "a malformed answer to a connect");
        return;
    }
    if (rc < 0) {
        rp_error_prefix(&err, "sandbox %s", s->id);
        rp_sandbox_break(s, &err);
        return;
    }
    answer(find(s, p->tag, true), RP_STEAL_FD(*fd), NULL);
}

/* Whether a message of this type may answer that request, and whether it carries a descriptor. */
static bool fits(uint16_t type, const struct pending *p, bool *ret_descriptor)
{
    *ret_descriptor = false;
    switch (type) {
    case RP_INIT_ERROR:
        return true;
    case RP_INIT_OK:
        switch (p->type) {
        case RP_INIT_SPAWN:
        case RP_INIT_HELLO:
        case RP_INIT_CONNECT:
        case RP_INIT_FILES:
            return false;
        default:
            return true;
        }
    case RP_INIT_HELLO:
        *ret_descriptor = true;
        return p->type == RP_INIT_HELLO;
    case RP_INIT_SPAWNED:
        return p->type == RP_INIT_SPAWN;
    case RP_INIT_STREAM:
        *ret_descriptor = true;
        return p->type == RP_INIT_SPAWN || p->type == RP_INIT_REOPEN;
    case RP_INIT_PROCESS:
        return p->type == RP_INIT_LIST;
    case RP_INIT_CONNECTED:
        *ret_descriptor = true;
        return p->type == RP_INIT_CONNECT;
    case RP_INIT_FILE_CHANNEL:
        *ret_descriptor = true;
        return p->type == RP_INIT_FILES;
    default:
        return false;
    }
}

static void on_message(struct rp_sandbox *s, struct rp_str message, int received)
{
    _cleanup_close_ int fd = received;
    struct rp_wire_reader r = {.data = (const uint8_t *)message.p, .length = message.n};
    struct rp_wire_header h = rp_wire_get_header(&r);
    if (r.bad || h.flags != 0) {
        broke(s, RP_ERROR_PROTOCOL, "a malformed message");
        return;
    }
    if (h.tag == 0) {
        if (fd >= 0 || !s->greeted || (h.type != RP_INIT_EXITED && h.type != RP_INIT_PORTS))
            broke(s, RP_ERROR_PROTOCOL, "an event that does not exist");
        else if (h.type == RP_INIT_EXITED)
            on_exited(s, &r);
        else
            on_ports(s, &r);
        return;
    }
    struct pending *p = find(s, h.tag, false);
    bool descriptor;
    if (!p || !fits(h.type, p, &descriptor) || descriptor != (fd >= 0)) {
        broke(s, RP_ERROR_PROTOCOL, "an answer that nothing asked for, or without its descriptor");
        return;
    }
    switch (h.type) {
    case RP_INIT_ERROR:
        on_error(s, p, &r);
        break;
    case RP_INIT_OK:
        if (rp_wire_finished(&r))
            answer(find(s, h.tag, true), -1, NULL);
        else
            broke(s, RP_ERROR_PROTOCOL, "a malformed answer");
        break;
    case RP_INIT_HELLO:
        on_hello(s, p, &r, fd);
        break;
    case RP_INIT_SPAWNED:
        on_spawned(s, p, &r);
        break;
    case RP_INIT_STREAM:
        on_stream(s, p, &r, &fd);
        break;
    case RP_INIT_PROCESS:
        on_process(s, p, &r);
        break;
    default:
        on_connected(s, p, &r, &fd);
        break;
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
            broke(s, RP_ERROR_SANDBOX, "its init ended");
        else if (n == -EPROTO)
            broke(s, RP_ERROR_PROTOCOL, "a message that was cut, or with more than one descriptor");
        else if (n < 0)
            broke_errno(s, (int)-n, "its init is gone");
        else
            on_message(s, (struct rp_str){(const char *)message, (size_t)n}, fd);
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
        broke(s, RP_ERROR_INTERNAL, "its connection is no SOCK_SEQPACKET socket");
        return s;
    }
    s->watch = rp_watch_new(loop, connection, on_ready, s);
    if (!s->watch) {
        broke(s, RP_ERROR_INTERNAL, "its connection cannot be watched");
        return s;
    }
    rp_watch_set(s->watch, RP_WATCH_READ);
    struct pending *p = request(RP_INIT_HELLO, s);
    struct rp_wire_writer w = begin(s, p);
    rp_wire_put_u32(&w, RP_INIT_VERSION_MIN);
    rp_wire_put_u32(&w, RP_INIT_VERSION);
    submit(s, p, &w, REQUEST_TIMEOUT_MS);
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

/* ---- the requests ---- */

static unsigned streams_of(uint32_t flags)
{
    if (flags & RP_SPAWN_PTY)
        return 1u << RP_STREAM_PTY;
    return 1u << RP_STREAM_STDOUT | (flags & RP_SPAWN_STDIN ? 1u << RP_STREAM_STDIN : 0) |
           (flags & RP_SPAWN_MERGE ? 0 : 1u << RP_STREAM_STDERR);
}

static uint32_t count_strings(const char *const *list)
{
    uint32_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

void rp_sandbox_spawn(struct rp_sandbox *s, const struct rp_spawn *spawn, rp_streams_fn *fn, void *ctx)
{
    struct pending *p = request(RP_INIT_SPAWN, ctx);
    p->fn.streams = fn;
    p->id = spawn->id;
    p->flags = spawn->flags;
    p->wanted = streams_of(spawn->flags);
    uint32_t argc = count_strings(spawn->argv), envc = count_strings(spawn->env);
    struct rp_error err;
    if (argc == 0 || argc > RP_INIT_ARGV_MAX || envc > RP_INIT_ENV_MAX ||
        spawn->label.n > RP_INIT_LABEL_MAX) {
        rp_error_set(&err, RP_ERROR_INVALID, "a command has 1 to %d arguments and at most %d variables",
                     RP_INIT_ARGV_MAX, RP_INIT_ENV_MAX);
        refuse(s, p, &err);
        return;
    }
    struct rp_wire_writer w = begin(s, p);
    rp_wire_put_u64(&w, spawn->id);
    rp_wire_put_u32(&w, spawn->flags);
    rp_wire_put_u16(&w, spawn->cols);
    rp_wire_put_u16(&w, spawn->rows);
    rp_wire_put_u32(&w, spawn->step);
    rp_wire_put_str(&w, rp_str_of(spawn->cwd));
    rp_wire_put_u32(&w, argc);
    for (uint32_t i = 0; i < argc; i++)
        rp_wire_put_str(&w, rp_str_of(spawn->argv[i]));
    rp_wire_put_u32(&w, envc);
    for (uint32_t i = 0; i < envc; i++)
        rp_wire_put_str(&w, rp_str_of(spawn->env[i]));
    rp_wire_put_str(&w, spawn->label);
    submit(s, p, &w, SPAWN_TIMEOUT_MS);
}

void rp_sandbox_reopen(struct rp_sandbox *s, uint64_t id, rp_streams_fn *fn, void *ctx)
{
    struct pending *p = request(RP_INIT_REOPEN, ctx);
    p->fn.streams = fn;
    p->id = id;
    p->wanted = 0xf;
    struct rp_wire_writer w = begin(s, p);
    rp_wire_put_u64(&w, id);
    submit(s, p, &w, REQUEST_TIMEOUT_MS);
}

void rp_sandbox_list(struct rp_sandbox *s,
                     void (*each)(void *ctx, const struct rp_sandbox_process_info *info), rp_done_fn *done,
                     void *ctx)
{
    struct pending *p = request(RP_INIT_LIST, ctx);
    p->fn.done = done;
    p->each = each;
    struct rp_wire_writer w = begin(s, p);
    submit(s, p, &w, REQUEST_TIMEOUT_MS);
}

void rp_sandbox_signal(struct rp_sandbox *s, uint64_t id, int signal, uint8_t target, rp_done_fn *fn,
                       void *ctx)
{
    struct pending *p = request(RP_INIT_SIGNAL, ctx);
    p->fn.done = fn;
    struct rp_wire_writer w = begin(s, p);
    rp_wire_put_u64(&w, id);
    rp_wire_put_u32(&w, (uint32_t)signal);
    rp_wire_put_u8(&w, target);
    submit(s, p, &w, REQUEST_TIMEOUT_MS);
}

void rp_sandbox_resize(struct rp_sandbox *s, uint64_t id, uint16_t cols, uint16_t rows)
{
    struct pending *p = request(RP_INIT_RESIZE, NULL);
    struct rp_wire_writer w = begin(s, p);
    rp_wire_put_u64(&w, id);
    rp_wire_put_u16(&w, cols);
    rp_wire_put_u16(&w, rows);
    submit(s, p, &w, REQUEST_TIMEOUT_MS);
}

static void simple(struct rp_sandbox *s, uint16_t type, uint64_t id)
{
    struct pending *p = request(type, NULL);
    struct rp_wire_writer w = begin(s, p);
    rp_wire_put_u64(&w, id);
    submit(s, p, &w, REQUEST_TIMEOUT_MS);
}

void rp_sandbox_close_stdin(struct rp_sandbox *s, uint64_t id)
{
    simple(s, RP_INIT_CLOSE_STDIN, id);
}

void rp_sandbox_forget(struct rp_sandbox *s, uint64_t id)
{
    simple(s, RP_INIT_FORGET, id);
}

/* Where a connection to that port has to go: what is listened on, loopback first. */
static void choose_address(const struct rp_sandbox *s, uint16_t port, uint8_t *ret_family,
                           uint8_t ret_address[16])
{
    static const uint8_t LOOPBACK4[4] = {127, 0, 0, 1}, ANY[16] = {0};
    static const uint8_t LOOPBACK6[16] = {[15] = 1};
    const struct rp_port *best = NULL;
    int best_rank = 0;
    for (size_t i = 0; i < s->port_count; i++) {
        const struct rp_port *p = &s->ports[i];
        if (p->port != port)
            continue;
        bool any = memcmp(p->address, ANY, p->family == 4 ? 4 : 16) == 0;
        bool loopback = p->family == 4 ? p->address[0] == 127 : memcmp(p->address, LOOPBACK6, 16) == 0;
        int rank = p->family == 4 ? (any || loopback ? 4 : 2) : (any || loopback ? 3 : 1);
        if (rank > best_rank) {
            best_rank = rank;
            best = p;
        }
    }
    memset(ret_address, 0, 16);
    *ret_family = best ? best->family : 4;
    if (*ret_family == 4)
        memcpy(ret_address, best && memcmp(best->address, ANY, 4) != 0 ? best->address : LOOPBACK4, 4);
    else
        memcpy(ret_address, memcmp(best->address, ANY, 16) != 0 ? best->address : LOOPBACK6, 16);
}

void rp_sandbox_connect(struct rp_sandbox *s, uint16_t port, uint32_t timeout_ms, rp_fd_fn *fn, void *ctx)
{
    struct pending *p = request(RP_INIT_CONNECT, ctx);
    p->fn.fd = fn;
    p->port = port;
    uint8_t family, address[16];
    choose_address(s, port, &family, address);
    timeout_ms = RP_MIN(timeout_ms, (uint32_t)CONNECT_TIMEOUT_MAX_MS);
    struct rp_wire_writer w = begin(s, p);
    rp_wire_put_u8(&w, family);
    rp_wire_put(&w, address, sizeof(address));
    rp_wire_put_u16(&w, port);
    rp_wire_put_u32(&w, timeout_ms);
    submit(s, p, &w, timeout_ms + REQUEST_TIMEOUT_MS);
}

void rp_sandbox_watch_ports(struct rp_sandbox *s, uint32_t interval_ms)
{
    struct pending *p = request(RP_INIT_PORTS_WATCH, NULL);
    struct rp_wire_writer w = begin(s, p);
    rp_wire_put_u32(&w, interval_ms);
    submit(s, p, &w, REQUEST_TIMEOUT_MS);
}

const struct rp_port *rp_sandbox_ports(struct rp_sandbox *s, size_t *ret_count)
{
    *ret_count = s->port_count;
    return s->ports;
}

void rp_sandbox_file_channel(struct rp_sandbox *s, rp_fd_fn *fn, void *ctx)
{
    struct pending *p = request(RP_INIT_FILES, ctx);
    p->fn.fd = fn;
    struct rp_wire_writer w = begin(s, p);
    submit(s, p, &w, REQUEST_TIMEOUT_MS);
}
