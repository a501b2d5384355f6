/*
 * router.c: from a request to its handler: the checks that every route shares, the life of a call,
 * and the replies that handlers use. Loop thread only.
 */
#include <stdlib.h>
#include <string.h>

#include "api/routes.h"
#include "base/log.h"

/* ---- a call's life ---- */

static void call_exchange_closed(void *ctx)
{
    struct rp_call *call = ctx;
    call->x = NULL;
    call->request = NULL;
    if (call->on_close)
        call->on_close(call->on_close_ctx);
    rp_call_unref(call);
}

static struct rp_call *call_new(struct rp_gateway *g, struct rp_http_exchange *x,
                                const struct rp_route_match *m)
{
    struct rp_call *call = rp_calloc(1, sizeof *call);
    call->gateway = g;
    call->x = x;
    call->request = rp_http_request_of(x);
    call->references = 1;
    for (unsigned i = 0; i < m->count; i++) {
        memcpy(call->storage[i], m->storage[i], m->length[i] + 1);
        call->parameters[i] = (struct rp_str){call->storage[i], m->length[i]};
    }
    rp_http_on_close(x, call_exchange_closed, call);
    return call;
}

struct rp_call *rp_call_ref(struct rp_call *call)
{
    call->references++;
    return call;
}

void rp_call_unref(struct rp_call *call)
{
    if (!call || --call->references)
        return;
    if (call->project)
        rp_project_unref(call->project);
    free(call);
}

void rp_call_on_close(struct rp_call *call, void (*fn)(void *ctx), void *ctx)
{
    call->on_close = fn;
    call->on_close_ctx = ctx;
}

/* ---- dispatch ---- */

static void refuse(struct rp_http_exchange *x, enum rp_code code, const char *message)
{
    struct rp_error err = {0};
    (void)rp_error_set(&err, code, "%s", message);
    rp_http_reply_error(x, &err);
}

static void refuse_method(struct rp_http_exchange *x, const struct rp_http_request *r, const char *allow)
{
    rp_http_set_header_text(x, "Allow", allow);
    if (rp_str_is(r->method, "OPTIONS")) {
        rp_http_reply(x, 204, NULL, (struct rp_str){0});
        return;
    }
    struct rp_error err = {0};
    (void)rp_error_set(&err, RP_ERROR_METHOD, "this path answers %s", allow);
    rp_http_reply_error(x, &err);
}

static bool becomes_websocket(const struct rp_http_request *r, const struct rp_route *route)
{
    return route->flags & RP_ROUTE_WEBSOCKET ||
           (route->flags & RP_ROUTE_WEBSOCKET_TOO && rp_websocket_requested(r));
}

/* Safe methods change nothing (RFC 9110 section 9.2.1), except that a GET may become a WebSocket. */
static bool commands(const struct rp_http_request *r, const struct rp_route *route)
{
    return becomes_websocket(r, route) || !(rp_str_is(r->method, "GET") || rp_str_is(r->method, "HEAD"));
}

void rp_api_handle(struct rp_gateway *g, struct rp_http_exchange *x)
{
    const struct rp_http_request *r = rp_http_request_of(x);
    struct rp_route_match m;

    switch (rp_route_find(rp_routes, rp_routes_count, r->method, r->path, &m)) {
    case RP_ROUTE_FOUND:
        break;
    case RP_ROUTE_OTHER_METHOD:
        refuse_method(x, r, m.allow);
        return;
    case RP_ROUTE_BAD_PATH:
        refuse(x, RP_ERROR_INVALID, "a segment of the path is malformed, too long or not UTF-8");
        return;
    case RP_ROUTE_UNKNOWN:
        refuse(x, RP_ERROR_NOT_FOUND, "no such route");
        return;
    }
    if (m.route->flags & RP_ROUTE_WEBSOCKET && !rp_websocket_requested(r)) {
        struct rp_error err = {0};
        (void)rp_error_set(&err, RP_ERROR_UPGRADE_REQUIRED, "this path speaks WebSocket, version 13");
        rp_http_set_header_text(x, "Upgrade", "websocket");
        rp_http_set_header_text(x, "Sec-WebSocket-Version", "13");
        rp_http_reply_error(x, &err);
        return;
    }
    if (!rp_fetch_allowed(r, commands(r, m.route))) {
        refuse(x, RP_ERROR_FORBIDDEN, "a page of another origin may not use this server");
        return;
    }

    struct rp_project *project = NULL;
    if (m.route->flags & RP_ROUTE_PROJECT) {
        project = rp_projects_find(g->projects, (struct rp_str){m.storage[0], m.length[0]});
        if (!project && becomes_websocket(r, m.route)) {
            rp_websocket_reject(x, 4404, "no such project"); /* a browser cannot see a 404 here */
            return;
        }
        if (!project) {
            refuse(x, RP_ERROR_NOT_FOUND, "no such project");
            return;
        }
    }
    struct rp_call *call = call_new(g, x, &m);
    if (project)
        call->project = rp_project_ref(project);
    /* the handler may answer at once, which may close the exchange and with it the call */
    rp_call_ref(call);
    m.route->handler(call);
    rp_call_unref(call);
}

/* ---- replies ---- */

static void log_failure(struct rp_call *call, const struct rp_error *err)
{
    if (rp_code_http_status(err->code) < 500)
        return;
    rp_log(RP_LOG_WARNING, "request failed", "request", rp_http_request_id(call->x), "code",
           rp_code_name(err->code), "why", err->message, NULL);
}

void rp_api_reply_error(struct rp_call *call, const struct rp_error *err)
{
    if (!call->x || rp_http_responded(call->x))
        return;
    log_failure(call, err);
    rp_http_reply_error(call->x, err);
}

void rp_api_reply_empty(struct rp_call *call, int status)
{
    if (call->x && !rp_http_responded(call->x))
        rp_http_reply(call->x, status, NULL, (struct rp_str){0});
}

void rp_api_reply_json(struct rp_call *call, int status, struct rp_json_writer *w)
{
    struct rp_buf *b = w->out;
    if (w->failed) {
        struct rp_error err = {0};
        (void)rp_error_set(&err, RP_ERROR_INTERNAL, "the answer is larger than %zu bytes", b->cap);
        rp_api_reply_error(call, &err);
    } else if (call->x && !rp_http_responded(call->x)) {
        rp_http_reply(call->x, status, "application/json", rp_buf_view(b));
    }
    rp_buf_done(b);
}

/* ---- input ---- */

static bool says_json(struct rp_str type)
{
    struct rp_str rest, media = rp_str_trim(rp_str_cut(type, ';', &rest));
    return rp_str_is_nocase(media, "application/json") || rp_str_ends(media, "+json");
}

static void json_body(void *ctx, struct rp_http_exchange *x, struct rp_str body)
{
    struct rp_call *call = ctx;
    struct rp_error err = {0};
    _cleanup_json_ json_t *j = NULL;
    if (rp_str_trim(body).n == 0) {
        j = json_object();
    } else if (rp_json_parse_object(body, &j, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    rp_call_ref(call);
    call->on_json(call, j);
    rp_call_unref(call);
}

void rp_api_read_json(struct rp_call *call, size_t max, void (*fn)(struct rp_call *call, json_t *body))
{
    struct rp_str type = rp_http_header(call->request, "Content-Type");
    if (type.p && call->request->content_length != 0 && !says_json(type)) {
        struct rp_error err = {0};
        (void)rp_error_set(&err, RP_ERROR_MEDIA_TYPE, "the body must be application/json");
        rp_api_reply_error(call, &err);
        return;
    }
    call->on_json = fn;
    rp_http_body_collect(call->x, max, json_body, call);
}

int rp_api_query_u64(struct rp_call *call, const char *name, uint64_t max, uint64_t *ret,
                     struct rp_error *err)
{
    char text[32];
    size_t n;
    int there = rp_http_query(call->request, name, text, sizeof text, &n);
    if (there == 0)
        return 0;
    if (there < 0 || !rp_str_to_u64((struct rp_str){text, n}, max, ret))
        return rp_error_set(err, RP_ERROR_INVALID, "the query's \"%s\" must be a number from 0 to %llu", name,
                            (unsigned long long)max);
    return 1;
}
