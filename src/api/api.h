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
    const struct rp_settings *settings;
};

enum { RP_CALL_PARAMETERS_MAX = 3 };

struct rp_call {
    struct rp_gateway *gateway;
    struct rp_http_exchange *x;
    const struct rp_http_request *request;
    struct rp_str
        parameters[RP_CALL_PARAMETERS_MAX]; /* of the pattern, in order, decoded: at most 128 bytes each */
    struct rp_project *project;             /* when the route has RP_ROUTE_PROJECT; a reference is held */
};

enum {
    RP_ROUTE_PROJECT = 1, /* the first parameter is a project that must exist (else 404 before the handler) */
    RP_ROUTE_WEBSOCKET = 2, /* the request must ask for a WebSocket (else 426) */
};

typedef void rp_route_fn(struct rp_call *call);

struct rp_route {
    const char *method;  /* "GET" also answers HEAD */
    const char *pattern; /* "/api/v1/projects/{id}/status" */
    rp_route_fn *handler;
    unsigned flags;
};

/* Finds the route and calls it; 404, or 405 with Allow. The call is freed by the router when the exchange
 * closes. */
void rp_api_handle(struct rp_gateway *g, struct rp_http_exchange *x);

/* Answers a JSON value that was written into buf (checked for the writer's failure), and frees buf. */
void rp_api_reply_json(struct rp_call *call, int status, struct rp_json_writer *w);

/* Reads a JSON object body of at most max bytes and calls fn, which owns nothing; a malformed body is
 * answered with 400. */
void rp_api_read_json(struct rp_call *call, size_t max, void (*fn)(struct rp_call *call, json_t *body));

#endif
