/* TCP connections to ports of the sandbox, opened here and handed out; init keeps no copy. */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#include "init/init.h"

enum { TIMEOUT_DEFAULT_MS = 5000, TIMEOUT_MAX_MS = 60000 };

static void finish(struct rp_init *init, struct rp_init_connecting *k, int errnum)
{
    struct rp_init_connection *c = rp_init_connection_find(init, k->serial);
    if (c && errnum) {
        rp_init_answer_error(init, c, k->tag, errnum, "connect");
    } else if (c) {
        uint8_t bytes[RP_WIRE_HEADER_SIZE];
        struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_CONNECTED, 0, k->tag);
        /* Out of our set before the descriptor is anyone else's. */
        (void)epoll_ctl(init->epoll, EPOLL_CTL_DEL, k->fd, NULL);
        rp_init_send(init, c, &w, k->fd);
    }
    for (int i = 0; i < RP_INIT_CONNECTS_MAX; i++)
        if (init->connecting[i] == k)
            init->connecting[i] = NULL;
    rp_init_close(init, &k->fd);
    free(k);
}

static void on_connecting(struct rp_init *init, struct rp_init_source *source, uint32_t events)
{
    struct rp_init_connecting *k = (struct rp_init_connecting *)source;
    int errnum = 0;
    socklen_t n = sizeof(errnum);
    if (getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &errnum, &n) < 0)
        errnum = errno;
    if (!errnum && !(events & EPOLLOUT))
        return;
    finish(init, k, errnum);
}

/* Begins; 0 when it is connected or under way, else an errno. */
static int begin(const struct rp_init_request *q, int *ret_fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    socklen_t n;
    if (q->connect.family == 4) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(q->connect.port);
        memcpy(&a.v4.sin_addr, q->connect.address, 4);
        n = sizeof(a.v4);
    } else {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons(q->connect.port);
        memcpy(&a.v6.sin6_addr, q->connect.address, 16);
        n = sizeof(a.v6);
    }
    _cleanup_close_ int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    if (connect(fd, &a.any, n) < 0 && errno != EINPROGRESS)
        return errno;
    *ret_fd = RP_STEAL_FD(fd);
    return 0;
}

void rp_init_connect(struct rp_init *init, struct rp_init_connection *c, const struct rp_init_request *q)
{
    struct rp_init_connecting **place = NULL;
    for (int i = 0; i < RP_INIT_CONNECTS_MAX && !place; i++)
        if (!init->connecting[i])
            place = &init->connecting[i];
    struct rp_init_connecting *k = place ? calloc(1, sizeof(*k)) : NULL;
    int errnum = !place ? EAGAIN : !k ? ENOMEM : 0;
    if (!errnum) {
        uint32_t timeout = q->connect.timeout_ms ?: TIMEOUT_DEFAULT_MS;
        *k = (struct rp_init_connecting){.source.ready = on_connecting,
                                         .fd = -1,
                                         .serial = c->serial,
                                         .tag = q->tag,
                                         .deadline_ms =
                                             rp_init_now_ms() + RP_MIN(timeout, (uint32_t)TIMEOUT_MAX_MS)};
        errnum = begin(q, &k->fd);
    }
    if (!errnum)
        errnum = rp_init_add(init, k->fd, EPOLLOUT, &k->source);
    if (errnum) {
        if (k)
            rp_init_close(init, &k->fd);
        free(k);
        rp_init_answer_error(init, c, q->tag, errnum, "connect");
        return;
    }
    *place = k;
}

void rp_init_connecting_tick(struct rp_init *init, uint64_t now, uint64_t *next)
{
    for (int i = 0; i < RP_INIT_CONNECTS_MAX; i++) {
        struct rp_init_connecting *k = init->connecting[i];
        if (k && k->deadline_ms <= now)
            finish(init, k, ETIMEDOUT);
        else if (k)
            *next = RP_MIN(*next, k->deadline_ms);
    }
}
