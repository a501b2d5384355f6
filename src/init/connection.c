/* The connections of init's socket: accept, receive, send without ever waiting. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "init/init.h"
#include "proto/seqpacket.h"

enum { MESSAGES_A_TURN = 16 };

static void free_queue(struct rp_init_connection *c)
{
    while (c->first) {
        struct rp_init_pending *p = c->first;
        c->first = p->next;
        rp_close_fd(&p->fd);
        free(p);
    }
    c->last = NULL;
    c->queued = 0;
}

static void free_connection(struct rp_init *init, struct rp_init_connection *c)
{
    free_queue(c);
    rp_init_close(init, &c->fd);
    free(c);
}

void rp_init_connections_sweep(struct rp_init *init)
{
    for (int i = 0; i < RP_INIT_CONNECTIONS_MAX; i++) {
        struct rp_init_connection *c = init->connections[i];
        if (c && c->dead) {
            init->connections[i] = NULL;
            free_connection(init, c);
        }
    }
}

struct rp_init_connection *rp_init_connection_find(struct rp_init *init, uint32_t serial)
{
    for (int i = 0; i < RP_INIT_CONNECTIONS_MAX; i++) {
        struct rp_init_connection *c = init->connections[i];
        if (c && c->serial == serial && !c->dead)
            return c;
    }
    return NULL;
}

bool rp_init_anyone(const struct rp_init *init)
{
    for (int i = 0; i < RP_INIT_CONNECTIONS_MAX; i++)
        if (init->connections[i] && init->connections[i]->hello && !init->connections[i]->dead)
            return true;
    return false;
}

/* ---- sending ---- */

static void watch_writable(struct rp_init *init, struct rp_init_connection *c, bool on)
{
    if (c->wants_write == on)
        return;
    c->wants_write = on;
    rp_init_modify(init, c->fd, on ? EPOLLIN | EPOLLOUT : EPOLLIN, &c->source);
}

static void queue(struct rp_init *init, struct rp_init_connection *c, const struct rp_wire_writer *w, int fd)
{
    size_t cost = sizeof(struct rp_init_pending) + w->length + (fd >= 0 ? RP_INIT_QUEUED_FD_COST : 0);
    struct rp_init_pending *p = c->queued + cost > RP_INIT_QUEUE_MAX ? NULL : malloc(sizeof(*p) + w->length);
    if (!p) {
        c->dead = true;
        return;
    }
    p->next = NULL;
    p->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (fd >= 0 && p->fd < 0) {
        free(p);
        c->dead = true;
        return;
    }
    p->length = w->length;
    memcpy(p->bytes, w->data, w->length);
    if (c->last)
        c->last->next = p;
    else
        c->first = p;
    c->last = p;
    c->queued += cost;
    watch_writable(init, c, true);
}

void rp_init_send(struct rp_init *init, struct rp_init_connection *c, const struct rp_wire_writer *w, int fd)
{
    if (c->dead || w->overflow) {
        c->dead = true;
        return;
    }
    if (!c->first) {
        int r = rp_seqpacket_send(c->fd, w->data, w->length, fd);
        if (r == 0)
            return;
        if (r != -EAGAIN) {
            c->dead = true;
            return;
        }
    }
    queue(init, c, w, fd);
}

static void flush(struct rp_init *init, struct rp_init_connection *c)
{
    while (c->first) {
        struct rp_init_pending *p = c->first;
        int r = rp_seqpacket_send(c->fd, p->bytes, p->length, p->fd);
        if (r == -EAGAIN)
            return;
        if (r < 0) {
            c->dead = true;
            return;
        }
        c->first = p->next;
        if (!c->first)
            c->last = NULL;
        c->queued -= sizeof(*p) + p->length + (p->fd >= 0 ? RP_INIT_QUEUED_FD_COST : 0);
        rp_close_fd(&p->fd);
        free(p);
    }
    watch_writable(init, c, false);
}

void rp_init_broadcast(struct rp_init *init, const struct rp_wire_writer *w)
{
    for (int i = 0; i < RP_INIT_CONNECTIONS_MAX; i++) {
        struct rp_init_connection *c = init->connections[i];
        if (c && c->hello && !c->dead)
            rp_init_send(init, c, w, -1);
    }
}

void rp_init_answer_ok(struct rp_init *init, struct rp_init_connection *c, uint32_t tag)
{
    uint8_t bytes[RP_WIRE_HEADER_SIZE];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_OK, 0, tag);
    rp_init_send(init, c, &w, -1);
}

void rp_init_answer_error(struct rp_init *init, struct rp_init_connection *c, uint32_t tag, int errnum,
                          const char *what)
{
    uint8_t bytes[512];
    char message[320];
    int n = snprintf(message, sizeof(message), "%s: %s", what, strerror(errnum));
    n = RP_MIN(n, (int)sizeof(message) - 1);
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_ERROR, 0, tag);
    rp_wire_put_u32(&w, (uint32_t)errnum);
    rp_wire_put_str(&w, (struct rp_str){message, (size_t)n});
    rp_init_send(init, c, &w, -1);
}

/* ---- receiving ---- */

static void receive(struct rp_init *init, struct rp_init_connection *c)
{
    uint8_t bytes[RP_WIRE_MESSAGE_MAX];
    for (int i = 0; i < MESSAGES_A_TURN && !c->dead; i++) {
        int fd = -1;
        ssize_t n = rp_seqpacket_receive(c->fd, bytes, sizeof(bytes), &fd);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            c->dead = true;
            return;
        }
        struct rp_init_request *q = &init->request;
        int refused = rp_init_decode(bytes, (size_t)n, fd >= 0, q);
        if (refused < 0 || (!c->hello && q->type != RP_INIT_HELLO) || (c->hello && q->type == RP_INIT_HELLO))
            c->dead = true;
        else if (refused > 0)
            rp_init_answer_error(init, c, q->tag, refused, "request");
        else
            rp_init_handle(init, c, q, &fd);
        rp_close_fd(&fd);
    }
}

static void on_connection(struct rp_init *init, struct rp_init_source *source, uint32_t events)
{
    struct rp_init_connection *c = (struct rp_init_connection *)source;
    if (events & EPOLLOUT)
        flush(init, c);
    if (!c->dead && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        receive(init, c);
}

/* A free place; where there is none, the oldest connection that has not said HELLO makes room. -1: none. */
static int find_place(struct rp_init *init)
{
    int oldest = -1;
    for (int i = 0; i < RP_INIT_CONNECTIONS_MAX; i++) {
        struct rp_init_connection *c = init->connections[i];
        if (!c)
            return i;
        if (!c->hello && (oldest < 0 || c->serial < init->connections[oldest]->serial))
            oldest = i;
    }
    if (oldest >= 0) {
        free_connection(init, init->connections[oldest]);
        init->connections[oldest] = NULL;
    }
    return oldest;
}

void rp_init_accept(struct rp_init *init, struct rp_init_source *source, uint32_t events)
{
    _cleanup_close_ int fd = accept4(init->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    /* The file permission of the socket is the authority. Beside it: a process of this sandbox has a pid in
     * our eyes, one from outside has 0. */
    struct ucred peer;
    socklen_t n = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || (init->check_peer && peer.pid != 0))
        return;
    int place = find_place(init);
    struct rp_init_connection *c = place < 0 ? NULL : calloc(1, sizeof(*c));
    if (!c)
        return;
    c->source.ready = on_connection;
    if (rp_init_add(init, fd, EPOLLIN, &c->source)) {
        free(c);
        return;
    }
    c->fd = RP_STEAL_FD(fd);
    c->serial = ++init->next_serial;
    init->connections[place] = c;
}
