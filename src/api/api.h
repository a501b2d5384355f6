/*
 * api.h: what every route handler gets. Routes are one table (routes.c); one file a resource. Loop thread
 * only.
 */
#ifndef RP_API_API_H
#define RP_API_API_H

#include "base/json.h"
#include "domain/project.h"
#include "net/http_server.h"
#include "net/websocket.h"

/* The gateway's parts, wired in gateway.c. */
struct rp_gateway {
    struct rp_loop *loop;
    struct rp_store *store;
    struct rp_projects *projects;
    struct rp_stacks *stacks;
    struct rp_processes *processes; /* terminals, processes and logs: runner/process.h */
    struct rp_files *files;         /* runner/files.h */
    struct rp_preview *preview;
    struct rp_pool *archives; /* workers that pack and unpack */
    unsigned archive_uploads; /* under way */
    const struct rp_settings *settings;
    struct rp_creation *creations; /* projects.c: those under way */
};

enum { RP_CALL_PARAMETERS_MAX = 3, RP_CALL_PARAMETER_MAX = 128 };

/*
 * One request at a handler. It lives until its exchange closes; what answers later takes a reference
 * (rp_call_ref). When the exchange closes first, x and request become NULL and the replies below do nothing,
 * so the holder only has to release it. Accepting a WebSocket closes the exchange: take what you need of the
 * call (a reference on the project above all) before rp_websocket_accept.
 */
struct rp_call {
    struct rp_gateway *gateway;
    struct rp_http_exchange *x;            /* NULL once the exchange is over */
    const struct rp_http_request *request; /* NULL once the exchange is over */
    struct rp_str
        parameters[RP_CALL_PARAMETERS_MAX]; /* of the pattern, in order, decoded, UTF-8 without NUL */
    struct rp_project *project;             /* when the route has RP_ROUTE_PROJECT; a reference is held */
    unsigned references;                    /* rp_call_ref, rp_call_unref */
    void (*on_close)(void *ctx);            /* rp_call_on_close */
    void *on_close_ctx;
    void (*on_json)(struct rp_call *call, json_t *body); /* rp_api_read_json */
    char storage[RP_CALL_PARAMETERS_MAX][RP_CALL_PARAMETER_MAX + 1];
};

enum {
    RP_ROUTE_PROJECT = 1,   /* the first parameter is a project that must exist (else 404 before the handler;
                               with RP_ROUTE_WEBSOCKET the socket is closed with 4404) */
    RP_ROUTE_WEBSOCKET = 2, /* the request must ask for a WebSocket (else 426) */
    RP_ROUTE_WEBSOCKET_TOO = 4, /* the request may ask for one; the handler looks (rp_websocket_requested) */
};

typedef void rp_route_fn(struct rp_call *call);

struct rp_route {
    const char *method;  /* "GET" also answers HEAD */
    const char *pattern; /* "/api/v1/projects/{id}/status"; a {name} is one segment, {name*} is the rest */
    rp_route_fn *handler;
    unsigned flags;
};

/*
 * Finds the route and calls it; 404, or 405 with Allow. A mutation or a WebSocket with an Origin that is not
 * the server's own is 403: pages of other origins, previews among them, must not command the server.
 */
void rp_api_handle(struct rp_gateway *g, struct rp_http_exchange *x);

struct rp_call *rp_call_ref(struct rp_call *call);
void rp_call_unref(struct rp_call *call);
/* fn(ctx) once, when the exchange closes (instead of rp_http_on_close, which the router uses itself). */
void rp_call_on_close(struct rp_call *call, void (*fn)(void *ctx), void *ctx);

/* Answers the JSON value that was written into w->out (500 when the writer failed), and frees that buffer. */
void rp_api_reply_json(struct rp_call *call, int status, struct rp_json_writer *w);
/* Answers problem+json. */
void rp_api_reply_error(struct rp_call *call, const struct rp_error *err);
/* Answers without a body: 204 and its like. */
void rp_api_reply_empty(struct rp_call *call, int status);

/* Reads a JSON object body of at most max bytes and calls fn, which owns nothing; a malformed body is
 * answered with 400, one that says it is not JSON with 415. No body at all is an empty object. */
void rp_api_read_json(struct rp_call *call, size_t max, void (*fn)(struct rp_call *call, json_t *body));

/* A number in the query: 1 found, 0 absent, -1 with err. */
int rp_api_query_u64(struct rp_call *call, const char *name, uint64_t max, uint64_t *ret,
                     struct rp_error *err) RP_MUST_CHECK;

#endif
