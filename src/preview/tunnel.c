/*
 * tunnel.c: two streams joined after a 101. Nothing is parsed any more. Each direction is as fast as its
 * reader: a full queue towards one end stops reading the other. When one end has ended, the tunnel is cut
 * once nothing moved for 10 s.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "preview/site_internal.h"

enum { END_MS = 10000 };

struct tunnel;

struct end {
    struct tunnel *tunnel;
    struct rp_stream *stream;
    struct end *other;
    bool ended;
};

struct tunnel {
    struct link link;
    struct rp_site *site;
    struct end client, upstream;
    struct rp_timer *timer; /* from the first end on */
    uint64_t moved;         /* when it was last looked at */
};

static void tunnel_free(struct tunnel *t)
{
    link_remove(&t->link);
    t->site->active--;
    rp_timer_free(t->timer);
    rp_stream_free(t->client.stream);
    rp_stream_free(t->upstream.stream);
    free(t);
}

void tunnel_cut(struct link *l)
{
    tunnel_free(RP_CONTAINER_OF(l, struct tunnel, link));
}

static size_t on_bytes(void *ctx, struct rp_str bytes)
{
    struct end *e = ctx;
    struct rp_stream *to = e->other->stream;
    size_t queued = rp_stream_queued(to), cap = rp_stream_output_cap(to);
    size_t room = cap > queued ? cap - queued : 0;
    struct rp_str piece = {bytes.p, RP_MIN(bytes.n, room)};
    e->tunnel->site->hooks->touch(e->tunnel->site->ctx);
    enum rp_write w = piece.n ? rp_stream_write(to, &piece, 1) : RP_WRITE_FULL;
    if (w == RP_WRITE_FAILED)
        return bytes.n; /* its on_error follows */
    if (w == RP_WRITE_FULL)
        rp_stream_pause(e->stream);
    return piece.n;
}

static uint64_t moved(const struct tunnel *t)
{
    return rp_stream_progress(t->client.stream) + rp_stream_progress(t->upstream.stream);
}

static void on_timer(void *ctx)
{
    struct tunnel *t = ctx;
    if (t->moved == moved(t))
        tunnel_free(t);
    else
        t->moved = moved(t);
}

static void on_end(void *ctx)
{
    struct end *e = ctx;
    struct tunnel *t = e->tunnel;
    e->ended = true;
    rp_stream_end(e->other->stream);
    if (!t->timer) {
        t->timer = rp_timer_new(t->site->loop, on_timer, t);
        t->moved = moved(t);
        rp_timer_start(t->timer, END_MS, END_MS);
    }
    if (e->other->ended && !rp_stream_queued(e->stream) && !rp_stream_queued(e->other->stream))
        tunnel_free(t);
}

static void on_drain(void *ctx)
{
    struct end *e = ctx;
    rp_stream_resume(e->other->stream);
}

static void on_error(void *ctx, int errnum)
{
    tunnel_free(((struct end *)ctx)->tunnel);
}

static const struct rp_stream_callbacks callbacks = {on_bytes, on_end, on_drain, on_error};

/* A client that vanished without a word would hold its tunnel for ever. */
static void keep_alive(int fd)
{
    int on = 1, idle = 60, interval = 15, count = 4;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

void tunnel_new(struct rp_site *s, struct rp_stream *client, struct rp_stream *upstream)
{
    struct tunnel *t = rp_calloc(1, sizeof(*t));
    t->site = s;
    t->client = (struct end){t, client, &t->upstream, false};
    t->upstream = (struct end){t, upstream, &t->client, false};
    link_append(&s->tunnels, &t->link);
    s->active++;
    keep_alive(rp_stream_fd(client));
    rp_stream_set_caps(client, SITE_BUFFER, SITE_BUFFER);
    rp_stream_set_caps(upstream, SITE_BUFFER, SITE_BUFFER);
    rp_stream_set_callbacks(client, &callbacks, &t->client);
    rp_stream_set_callbacks(upstream, &callbacks, &t->upstream);
}
