/*
 * site.h: the connections to the programs of one sandbox: proxied exchanges, tunnels, and idle connections
 * that are used again. Knows nothing of projects: it is given a way to connect. Loop thread only.
 *
 * Limits of a site: 256 connections that are in use, 128 idle ones (64 a port) for 4 s: programs close theirs
 * after 5 s (Node, uvicorn), and a request that meets the closing is only sent again when that is harmless.
 * In each direction at most 64 KiB wait beside one read of up to 64 KiB; both only while bytes are in flight.
 */
#ifndef RP_PREVIEW_SITE_H
#define RP_PREVIEW_SITE_H

#include "net/http_server.h"

typedef void rp_site_connected_fn(void *ctx, int fd, const struct rp_error *err);

struct rp_site_hooks {
    /* Answers once, from the loop, also after the site is gone. fd is owned by the callee when err is NULL.
     */
    void (*connect)(void *ctx, uint16_t port, rp_site_connected_fn *fn, void *fn_ctx);
    void (*touch)(void *ctx); /* bytes moved */
    /* Answers the exchange: there is no response, because of err. RP_ERROR_PORT_CLOSED: nobody listens. */
    void (*failed)(void *ctx, struct rp_http_exchange *x, uint16_t port, const struct rp_error *err);
};

struct rp_site;

struct rp_site *rp_site_new(struct rp_loop *loop, const struct rp_site_hooks *hooks, void *ctx);
/* Closes all connections; exchanges without a response get one, by `failed` with RP_ERROR_UNAVAILABLE.
 * NULL-safe. */
void rp_site_free(struct rp_site *s);
/* Proxies the exchange to a port: takes it over until it is closed. */
void rp_site_proxy(struct rp_site *s, struct rp_http_exchange *x, uint16_t port);

/* For tests. */
unsigned rp_site_idle(const struct rp_site *s);
unsigned rp_site_active(const struct rp_site *s);

#endif
