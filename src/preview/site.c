#include "preview/site.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "preview/site_internal.h"

/* ---- the streams' callbacks: an idle connection that says anything is of no use any more ---- */

static size_t on_bytes(void *ctx, struct rp_str bytes)
{
    struct upstream *u = ctx;
    if (u->proxy)
        return proxy_on_bytes(u->proxy, bytes);
    site_discard(u);
    return bytes.n;
}

static void on_end(void *ctx)
{
    struct upstream *u = ctx;
    if (u->proxy)
        proxy_on_end(u->proxy);
    else
        site_discard(u);
}

static void on_drain(void *ctx)
{
    struct upstream *u = ctx;
    if (u->proxy)
        proxy_on_drain(u->proxy);
}

static void on_error(void *ctx, int errnum)
{
    struct upstream *u = ctx;
    if (u->proxy)
        proxy_on_error(u->proxy, errnum);
    else
        site_discard(u);
}

static const struct rp_stream_callbacks callbacks = {on_bytes, on_end, on_drain, on_error};

/* ---- connections ---- */

struct upstream *site_upstream(struct rp_site *s, uint16_t port, int fd)
{
    int on = 1;
    /* the descriptor comes from inside: a lingering close would block the loop */
    struct linger none = {0, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct upstream *u = rp_calloc(1, sizeof(*u));
    link_init(&u->link);
    u->site = s;
    u->port = port;
    /* a body piece of 64 KiB must fit while the queue is not over half */
    u->stream = rp_stream_new(s->loop, fd, SITE_BUFFER, 2 * SITE_BUFFER + 64, &callbacks, u);
    if (!u->stream) {
        free(u);
        return NULL;
    }
    return u;
}

static void leave_idle(struct upstream *u)
{
    if (link_empty(&u->link))
        return;
    link_remove(&u->link);
    u->site->idle_count--;
    if (!u->site->idle_count)
        rp_timer_stop(u->site->sweep);
}

void site_discard(struct upstream *u)
{
    if (!u)
        return;
    leave_idle(u);
    rp_stream_free(u->stream);
    free(u);
}

struct upstream *site_take_idle(struct rp_site *s, uint16_t port)
{
    /* the one that was used last is the one least likely to be closed just now */
    for (struct link *l = s->idle.prev; l != &s->idle; l = l->prev) {
        struct upstream *u = RP_CONTAINER_OF(l, struct upstream, link);
        if (u->port != port)
            continue;
        leave_idle(u);
        u->reused = true;
        return u;
    }
    return NULL;
}

void site_keep(struct upstream *u)
{
    struct rp_site *s = u->site;
    unsigned same = 0;
    struct upstream *oldest_same = NULL;
    for (struct link *l = s->idle.next; l != &s->idle; l = l->next) {
        struct upstream *other = RP_CONTAINER_OF(l, struct upstream, link);
        if (other->port != u->port)
            continue;
        oldest_same = oldest_same ? oldest_same : other;
        same++;
    }
    if (same >= SITE_IDLE_PER_PORT)
        site_discard(oldest_same);
    else if (s->idle_count >= SITE_IDLE_MAX)
        site_discard(RP_CONTAINER_OF(s->idle.next, struct upstream, link));
    u->proxy = NULL;
    u->idle_since = rp_loop_now_ms(s->loop);
    link_append(&s->idle, &u->link);
    if (s->idle_count++ == 0 && !rp_timer_active(s->sweep))
        rp_timer_start(s->sweep, SITE_IDLE_MS / 4, SITE_IDLE_MS / 4);
}

static void on_sweep(void *ctx)
{
    struct rp_site *s = ctx;
    uint64_t now = rp_loop_now_ms(s->loop);
    while (!link_empty(&s->idle)) {
        struct upstream *u = RP_CONTAINER_OF(s->idle.next, struct upstream, link);
        if (now - u->idle_since < SITE_IDLE_MS)
            return;
        site_discard(u);
    }
}

static void on_connected(void *ctx, int fd, const struct rp_error *err)
{
    struct dial *d = ctx;
    struct proxy *p = d->proxy;
    free(d);
    if (p)
        proxy_connected(p, err ? -1 : fd, err);
    else if (!err)
        rp_close_fd(&fd);
}

void site_dial(struct rp_site *s, uint16_t port, struct dial *d)
{
    s->hooks->connect(s->ctx, port, on_connected, d);
}

/* ---- life ---- */

struct rp_site *rp_site_new(struct rp_loop *loop, const struct rp_site_hooks *hooks, void *ctx)
{
    struct rp_site *s = rp_calloc(1, sizeof(*s));
    s->loop = loop;
    s->hooks = hooks;
    s->ctx = ctx;
    link_init(&s->proxies);
    link_init(&s->tunnels);
    link_init(&s->idle);
    s->sweep = rp_timer_new(loop, on_sweep, s);
    return s;
}

void rp_site_free(struct rp_site *s)
{
    if (!s)
        return;
    while (!link_empty(&s->proxies))
        proxy_site_gone(s->proxies.next);
    while (!link_empty(&s->tunnels))
        tunnel_cut(s->tunnels.next);
    while (!link_empty(&s->idle))
        site_discard(RP_CONTAINER_OF(s->idle.next, struct upstream, link));
    rp_timer_free(s->sweep);
    free(s);
}

unsigned rp_site_idle(const struct rp_site *s)
{
    return s->idle_count;
}

unsigned rp_site_active(const struct rp_site *s)
{
    return s->active;
}
