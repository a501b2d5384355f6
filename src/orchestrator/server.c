#include "orchestrator/server.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "proto/seqpacket.h"

enum { MESSAGES_PER_TURN = 64, READ_BELOW = 1024 };

struct queued {
    struct queued *next;
    int fd;
    size_t n;
    uint8_t data[];
};

struct rp_server {
    struct rp_loop *loop;
    struct rp_watch *accepts;
    int listener;
    uid_t user;
    struct rp_lifecycle *lifecycle;
    const struct rp_driver *driver;
    struct rp_error why; /* without a lifecycle */
    /* the gateway: */
    int socket; /* -1: none */
    struct rp_watch *watch;
    uint32_t client;    /* raised with each connection */
    uint32_t hello_tag; /* HELLO waits for its answer, or 0 */
    bool greeted;       /* HELLO was answered */
    struct queued *first, **last;
    unsigned queued;
};

/* ---- answers ---- */

static void disconnect(struct rp_server *s)
{
    if (s->socket < 0)
        return;
    rp_watch_free(s->watch);
    s->watch = NULL;
    rp_close_fd(&s->socket);
    s->hello_tag = 0;
    s->greeted = false;
    while (s->first) {
        struct queued *q = s->first;
        s->first = q->next;
        rp_close_fd(&q->fd);
        free(q);
    }
    s->last = &s->first;
    s->queued = 0;
    if (s->lifecycle)
        rp_lifecycle_client_gone(s->lifecycle, s->client);
}

static void set_interest(struct rp_server *s)
{
    rp_watch_set(s->watch, (s->queued < READ_BELOW ? RP_WATCH_READ : 0) | (s->queued ? RP_WATCH_WRITE : 0));
}

/* Owns fd. */
static void queue(struct rp_server *s, const uint8_t *data, size_t n, int fd)
{
    struct queued *q = rp_alloc(sizeof(*q) + n);
    q->next = NULL;
    q->fd = fd;
    q->n = n;
    memcpy(q->data, data, n);
    *s->last = q;
    s->last = &q->next;
    s->queued++;
    if (s->queued >= RP_SERVER_QUEUE_MAX)
        shutdown(s->socket, SHUT_RDWR); /* seen and cleaned up from the loop */
    set_interest(s);
}

/* Owns fd. */
static void send_message(struct rp_server *s, const struct rp_orchestrator_message *m, int fd)
{
    uint8_t data[RP_ORCH_MESSAGE_SIZE_MAX];
    int n = rp_orchestrator_encode(m, RP_TO_GATEWAY, data, sizeof(data));
    if (n < 0 || s->queued >= RP_SERVER_QUEUE_MAX) {
        rp_close_fd(&fd);
        return;
    }
    int r = s->first ? -EAGAIN : rp_seqpacket_send(s->socket, data, (size_t)n, fd);
    if (r == -EAGAIN)
        queue(s, data, (size_t)n, fd);
    else
        rp_close_fd(&fd); /* sent, or the connection is dead, which shows as readable */
}

static void flush(struct rp_server *s)
{
    while (s->first) {
        struct queued *q = s->first;
        int r = rp_seqpacket_send(s->socket, q->data, q->n, q->fd);
        if (r == -EAGAIN)
            break;
        s->first = q->next;
        if (!s->first)
            s->last = &s->first;
        s->queued--;
        rp_close_fd(&q->fd);
        free(q);
    }
    set_interest(s);
}

static void answer_hello(struct rp_server *s)
{
    struct rp_orchestrator_message m = {.type = RP_ORCH_HELLO,
                                        .tag = s->hello_tag,
                                        .version = RP_ORCHESTRATOR_VERSION,
                                        .cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
                                        .memory = (uint64_t)sysconf(_SC_PHYS_PAGES) *
                                                  (uint64_t)sysconf(_SC_PAGESIZE)};
    snprintf(m.driver, sizeof(m.driver), "%s", s->driver ? s->driver->ops->name : "none");
    m.capabilities = s->driver ? s->driver->ops->capabilities : 0;
    s->hello_tag = 0;
    s->greeted = true;
    send_message(s, &m, -1);
}

/* ---- what the lifecycle says ---- */

static void on_answer(void *ctx, uint32_t client, const struct rp_orchestrator_message *m, int fd)
{
    struct rp_server *s = ctx;
    if (s->socket >= 0 && client == s->client)
        send_message(s, m, fd);
    else
        rp_close_fd(&fd);
}

static void on_event(void *ctx, const struct rp_orchestrator_message *m)
{
    struct rp_server *s = ctx;
    if (s->socket >= 0 && s->greeted)
        send_message(s, m, -1);
}

static void on_ready(void *ctx)
{
    struct rp_server *s = ctx;
    if (s->socket >= 0 && s->hello_tag)
        answer_hello(s);
}

const struct rp_lifecycle_events rp_server_events = {on_answer, on_event, on_ready};

/* ---- requests ---- */

static void refuse(struct rp_server *s, uint32_t tag)
{
    struct rp_orchestrator_message m = {
        .type = RP_ORCH_ERROR, .tag = tag, .code = s->why.code, .errno_value = (uint32_t)s->why.errno_value};
    snprintf(m.text, sizeof(m.text), "%s", s->why.message);
    send_message(s, &m, -1);
}

static int request(struct rp_server *s, const struct rp_orchestrator_message *m, struct rp_error *err)
{
    if (m->type == RP_ORCH_HELLO) {
        if (s->greeted || s->hello_tag)
            return rp_error_set(err, RP_ERROR_PROTOCOL, "a second HELLO");
        if (m->version != RP_ORCHESTRATOR_VERSION)
            return rp_error_set(err, RP_ERROR_PROTOCOL, "the gateway speaks version %u", m->version);
        s->hello_tag = m->tag;
        if (!s->lifecycle || rp_lifecycle_ready(s->lifecycle))
            answer_hello(s);
        return 0;
    }
    if (!s->greeted)
        return rp_error_set(err, RP_ERROR_PROTOCOL, "a request before HELLO was answered");
    if (s->lifecycle)
        rp_lifecycle_request(s->lifecycle, s->client, m);
    else
        refuse(s, m->tag);
    return 0;
}

static void on_socket(void *ctx, unsigned events)
{
    struct rp_server *s = ctx;
    if (events & RP_WATCH_WRITE)
        flush(s);
    if (!(events & (RP_WATCH_READ | RP_WATCH_HANGUP)))
        return;
    for (int i = 0; i < MESSAGES_PER_TURN && s->queued < READ_BELOW; i++) {
        uint8_t data[RP_ORCH_MESSAGE_SIZE_MAX];
        int fd;
        ssize_t n = rp_seqpacket_receive(s->socket, data, sizeof(data), &fd);
        if (n == -EAGAIN)
            return;
        struct rp_orchestrator_message m;
        struct rp_error e;
        bool carries = fd >= 0;
        rp_close_fd(&fd);
        if (n == 0 || n == -ECONNRESET) {
            disconnect(s);
            return;
        }
        if (n < 0)
            rp_error_errno(&e, RP_ERROR_PROTOCOL, (int)-n, "receive");
        else if (carries)
            rp_error_set(&e, RP_ERROR_PROTOCOL, "a descriptor came with a request");
        if (n < 0 || carries || rp_orchestrator_decode(data, (size_t)n, RP_TO_ORCHESTRATOR, &m, &e) < 0 ||
            request(s, &m, &e) < 0) {
            rp_log(RP_LOG_ERROR, "gateway disconnected", "error", e.message, NULL);
            disconnect(s);
            return;
        }
    }
}

/* ---- connections ---- */

static void on_accept(void *ctx, unsigned events)
{
    struct rp_server *s = ctx;
    _cleanup_close_ int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct ucred peer;
    socklen_t n = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || peer.uid != s->user) {
        rp_log(RP_LOG_WARNING, "connection of another user refused", NULL);
        return;
    }
    disconnect(s);
    s->socket = RP_STEAL_FD(fd);
    if (++s->client == 0)
        s->client = 1;
    s->watch = rp_watch_new(s->loop, s->socket, on_socket, s);
    if (s->watch)
        rp_watch_set(s->watch, RP_WATCH_READ);
    else
        rp_close_fd(&s->socket);
}

struct rp_server *rp_server_new(struct rp_loop *loop, int listener, uid_t user)
{
    struct rp_server *s = rp_calloc(1, sizeof(*s));
    s->loop = loop;
    s->listener = listener;
    s->user = user;
    s->socket = -1;
    s->last = &s->first;
    rp_error_set(&s->why, RP_ERROR_UNAVAILABLE, "the orchestrator starts");
    return s;
}

void rp_server_serve(struct rp_server *s, struct rp_lifecycle *lifecycle, const struct rp_driver *driver,
                     const struct rp_error *why)
{
    disconnect(s);
    s->lifecycle = lifecycle;
    s->driver = lifecycle ? driver : NULL;
    if (why)
        s->why = *why;
    if (!s->accepts) {
        s->accepts = rp_watch_new(s->loop, s->listener, on_accept, s);
        rp_watch_set(s->accepts, RP_WATCH_READ);
    }
}

void rp_server_free(struct rp_server *s)
{
    if (!s)
        return;
    s->lifecycle = NULL;
    disconnect(s);
    rp_watch_free(s->accepts);
    free(s);
}
