/*
 * site_internal.h: what the files of the proxy share. Loop thread only.
 *
 * site.c    the site, its idle connections, dialling
 * proxy.c   one proxied exchange
 * tunnel.c  two streams after a 101
 */
#ifndef RP_PREVIEW_SITE_INTERNAL_H
#define RP_PREVIEW_SITE_INTERNAL_H

#include "net/http_chunked.h"
#include "net/http_internal.h"
#include "preview/site.h"

enum {
    SITE_ACTIVE_MAX = 256,
    SITE_IDLE_MAX = 128,
    SITE_IDLE_PER_PORT = 64,
    SITE_IDLE_MS = 4000,
    SITE_BUFFER = 64 * 1024,
};

struct rp_site {
    struct rp_loop *loop;
    const struct rp_site_hooks *hooks;
    void *ctx;
    struct link proxies; /* struct proxy */
    struct link tunnels; /* struct tunnel */
    struct link idle;    /* struct upstream, longest first */
    unsigned active, idle_count;
    struct rp_timer *sweep;
};

struct proxy;

/* A connection to a program. */
struct upstream {
    struct link link; /* in the site's idle list */
    struct rp_site *site;
    struct rp_stream *stream;
    struct proxy *proxy; /* NULL while idle */
    uint64_t idle_since;
    uint16_t port;
    bool reused;
};

/* A connection that is being made: outlives the proxy that wanted it. */
struct dial {
    struct proxy *proxy; /* NULL: nobody waits any more */
};

/* site.c */
struct upstream *site_take_idle(struct rp_site *s, uint16_t port);
void site_keep(struct upstream *u);    /* to the idle ones, or closed */
void site_discard(struct upstream *u); /* NULL-safe */
void site_dial(struct rp_site *s, uint16_t port, struct dial *d);
struct upstream *site_upstream(struct rp_site *s, uint16_t port, int fd);

/* proxy.c */
void proxy_connected(struct proxy *p, int fd, const struct rp_error *err);
void proxy_site_gone(struct link *l);
size_t proxy_on_bytes(struct proxy *p, struct rp_str bytes);
void proxy_on_end(struct proxy *p);
void proxy_on_drain(struct proxy *p);
void proxy_on_error(struct proxy *p, int errnum);

/* tunnel.c: joins the two; each byte that comes from one goes to the other. */
void tunnel_new(struct rp_site *s, struct rp_stream *client, struct rp_stream *upstream);
void tunnel_cut(struct link *l);

#endif
