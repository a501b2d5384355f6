/* http_body.c: the request's body: collected, streamed, or drained. */
#include "net/http_internal.h"

void http_body_start(struct rp_http_exchange *x)
{
    x->body = HTTP_BODY_WAITING;
    if (x->request.chunked) {
        rp_http_chunked_init(&x->chunked);
    } else {
        x->body_left = (uint64_t)x->request.content_length;
        x->body_complete = x->body_left == 0;
    }
}

/* The client asked to be told before it sends, and was not. */
static bool continue_owed(const struct rp_http_exchange *x)
{
    return x->request.expect_continue && !x->continue_sent && !x->body_seen && !x->body_complete;
}

bool http_body_costly(const struct rp_http_exchange *x)
{
    if (x->body_complete)
        return false;
    return continue_owed(x) || (!x->request.chunked && x->body_left > x->c->server->limits.drain_max);
}

bool http_body_wanted(const struct rp_http_exchange *x)
{
    return !x->body_complete && x->body != HTTP_BODY_WAITING && !x->body_paused;
}

static void send_continue(struct rp_http_exchange *x)
{
    if (!continue_owed(x) || x->phase != HTTP_NOT_BEGUN)
        return;
    x->continue_sent = true;
    rp_stream_write(x->c->stream, &RP_STR("HTTP/1.1 100 Continue\r\n\r\n"), 1);
}

static void too_large(struct rp_http_exchange *x, size_t max)
{
    struct rp_error err;
    rp_error_set(&err, RP_ERROR_TOO_LARGE, "the body is over %zu bytes", max);
    x->body = HTTP_BODY_DRAIN;
    rp_buf_done(&x->collected);
    rp_http_reply_error(x, &err);
}

void rp_http_body_collect(struct rp_http_exchange *x, size_t max, rp_http_body_fn *fn, void *ctx)
{
    if (x->body != HTTP_BODY_WAITING || x->phase == HTTP_ENDED)
        return;
    if (x->request.content_length > 0 && (uint64_t)x->request.content_length > max) {
        too_large(x, max);
        return;
    }
    x->body = HTTP_BODY_COLLECT;
    x->collect_fn = fn;
    x->body_ctx = ctx;
    rp_buf_init(&x->collected, max);
    send_continue(x);
    http_connection_kick(x->c);
}

void rp_http_body_stream(struct rp_http_exchange *x, const struct rp_http_body_callbacks *callbacks,
                         void *ctx)
{
    if (x->body != HTTP_BODY_WAITING || x->phase == HTTP_ENDED)
        return;
    x->body = HTTP_BODY_STREAM;
    x->callbacks = *callbacks;
    x->body_ctx = ctx;
    send_continue(x);
    http_connection_kick(x->c);
}

void rp_http_body_pause(struct rp_http_exchange *x)
{
    if (x->body_paused || x->body == HTTP_BODY_DRAIN)
        return;
    x->body_paused = true;
    rp_stream_pause(x->c->stream);
}

void rp_http_body_resume(struct rp_http_exchange *x)
{
    if (!x->body_paused)
        return;
    x->body_paused = false;
    rp_stream_resume(x->c->stream);
    http_connection_kick(x->c); /* the end may be due without more bytes */
}

/* Gives data to whoever wants it. */
static void deliver(struct rp_http_exchange *x, struct rp_str data)
{
    if (!data.n)
        return;
    switch (x->body) {
    case HTTP_BODY_COLLECT:
        if (!rp_buf_append_str(&x->collected, data))
            too_large(x, x->collected.cap);
        return;
    case HTTP_BODY_STREAM:
        x->callbacks.on_data(x->body_ctx, data);
        return;
    default:
        x->drained += data.n;
        if (x->drained > x->c->server->limits.drain_max)
            x->c->close = true;
        return;
    }
}

ssize_t http_body_feed(struct rp_http_exchange *x, struct rp_str bytes)
{
    if (x->body == HTTP_BODY_WAITING || x->body_paused)
        return 0;
    x->body_seen = true;
    struct rp_str data;
    size_t n;
    if (x->request.chunked) {
        ssize_t r = rp_http_chunked_next(&x->chunked, bytes, &data);
        if (r < 0)
            return -1;
        n = (size_t)r;
        x->body_complete = rp_http_chunked_done(&x->chunked);
    } else {
        n = x->body_left < bytes.n ? (size_t)x->body_left : bytes.n;
        data = (struct rp_str){bytes.p, n};
        x->body_left -= n;
        x->body_complete = x->body_left == 0;
    }
    /* the caller holds the connection; the exchange ends only in its settle() */
    deliver(x, data);
    return (ssize_t)n;
}

void http_body_tell(struct rp_http_exchange *x)
{
    if (!x->body_complete || x->body_told || x->body_paused)
        return;
    if (x->body == HTTP_BODY_COLLECT) {
        x->body_told = true;
        x->collect_fn(x->body_ctx, x, rp_buf_view(&x->collected));
    } else if (x->body == HTTP_BODY_STREAM) {
        x->body_told = true;
        x->callbacks.on_end(x->body_ctx);
    }
}
