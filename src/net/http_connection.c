/*
 * http_connection.c: one connection: finds heads in what arrives, runs one exchange at a time, and ends.
 *
 * Everything that may end an exchange or the connection happens in settle(), which runs while bytes are
 * processed or, for what handlers do from elsewhere, in a deferred kick. So no call of a handler into this
 * module ever frees something under its feet.
 */
#include <sys/socket.h>

#include "net/http_internal.h"

enum { LINGER_BYTES = 4 << 20 };

static const struct rp_stream_callbacks stream_callbacks, no_callbacks;

static void leave(struct http_connection *c)
{
    c->processing--;
    if (c->dead && !c->processing && !c->kicked)
        free(c);
}

/* ---- the end of an exchange and of a connection ---- */

static void over(struct rp_http_exchange *x)
{
    if (x->on_close)
        x->on_close(x->on_close_ctx);
    http_exchange_free(x);
}

void http_connection_free(struct http_connection *c)
{
    if (c->dead)
        return;
    c->dead = true;
    link_remove(&c->timeout);
    struct rp_http_exchange *x = RP_STEAL_PTR(c->exchange);
    if (x && x->phase == HTTP_BEGUN && x->left < 0 && !x->chunked_out && !x->no_body) {
        /* only a reset tells a whole body that ends with the connection from half of one */
        struct linger reset = {1, 0};
        setsockopt(rp_stream_fd(c->stream), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    rp_stream_free(RP_STEAL_PTR(c->stream));
    if (x)
        over(x);
    http_server_gone(c);
    if (!c->processing && !c->kicked)
        free(c);
}

void http_connection_forget(struct http_connection *c)
{
    c->dead = true;
    link_remove(&c->timeout);
    struct rp_stream *stream = RP_STEAL_PTR(c->stream);
    http_server_taken(c, stream);
    struct rp_http_exchange *x = RP_STEAL_PTR(c->exchange);
    rp_stream_set_callbacks(stream, &no_callbacks, NULL);
    over(x);
    if (!c->processing && !c->kicked)
        free(c);
}

/* After the last response: our direction is shut once it is flushed, and what the client still sends is
 * dropped for a while, since closing over unread bytes would reset what it has not read yet. */
void http_connection_linger(struct http_connection *c)
{
    c->state = HTTP_LINGER;
    c->linger_left = LINGER_BYTES;
    rp_stream_end(c->stream);
    if (c->ended && !rp_stream_queued(c->stream)) {
        http_connection_free(c);
        return;
    }
    http_timeout_set(c, HTTP_TIMEOUT_LINGER);
}

static void finish_exchange(struct http_connection *c)
{
    struct rp_http_exchange *x = c->exchange;
    bool paused = x->body_paused;
    if (!x->body_complete)
        c->close = true;
    c->exchange = NULL;
    over(x);
    if (c->dead)
        return;
    if (paused)
        rp_stream_resume(c->stream);
    if (c->close || c->ended) {
        http_connection_linger(c);
        return;
    }
    rp_stream_set_caps(c->stream, RP_HTTP_BODY_CAP, RP_HTTP_OUTPUT_CAP);
    c->full = rp_stream_queued(c->stream) > RP_HTTP_OUTPUT_CAP / 2;
    c->state = HTTP_HEAD;
    c->head_begun = false;
    http_timeout_set(c, HTTP_TIMEOUT_IDLE);
}

static void settle(struct http_connection *c)
{
    while (!c->dead) {
        if (c->cut) {
            http_connection_free(c);
            return;
        }
        struct rp_http_exchange *x = c->exchange;
        if (!x)
            return;
        http_flush_head(x);
        if (x->phase != HTTP_ENDED) {
            http_body_tell(x);
            if (c->dead || c->cut || c->exchange != x)
                continue;
            http_flush_head(x);
        }
        if (x->phase != HTTP_ENDED)
            return;
        if (!x->body_complete && !c->close && !http_body_costly(x)) {
            if (x->body != HTTP_BODY_DRAIN) {
                x->body = HTTP_BODY_DRAIN;
                if (x->body_paused) {
                    x->body_paused = false;
                    rp_stream_resume(c->stream);
                }
            }
            return; /* until the rest was read */
        }
        finish_exchange(c);
    }
}

static void on_kick(void *ctx)
{
    struct http_connection *c = ctx;
    c->processing++;
    c->kicked = false;
    settle(c);
    /* kept bytes may be the next head, or body that is wanted now */
    if (!c->dead && !(c->exchange && c->exchange->body_paused))
        rp_stream_resume(c->stream);
    leave(c);
}

void http_connection_kick(struct http_connection *c)
{
    if (c->processing || c->kicked || c->dead)
        return;
    c->kicked = true;
    rp_loop_defer(c->server->loop, on_kick, c);
}

/* ---- bytes ---- */

static void move(struct rp_str *s, const char *from, size_t n, const char *to)
{
    if (s->p >= from && s->p <= from + n)
        s->p = to + (s->p - from);
}

/* The head is copied out of the stream's buffer, so that it lives as long as the exchange. */
static void keep_head(struct rp_http_exchange *x, const char *from, size_t n)
{
    struct rp_http_request *r = &x->request;
    if (!rp_buf_append(&x->head, from, n))
        abort(); /* the parser's limit is the buffer's cap */
    const char *to = rp_buf_view(&x->head).p;
    move(&r->method, from, n, to);
    move(&r->target, from, n, to);
    move(&r->path, from, n, to);
    move(&r->query, from, n, to);
    move(&r->host, from, n, to);
    for (size_t i = 0; i < r->header_count; i++) {
        move(&r->headers[i].name, from, n, to);
        move(&r->headers[i].value, from, n, to);
    }
}

static bool sane_id(struct rp_str s)
{
    if (!s.n || s.n > 64)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
              c == '_' || c == '-'))
            return false;
    }
    return true;
}

/* A random prefix a server and a counter: unique, and no system call a request. */
void http_make_id(struct rp_http_server *s, char ret[static 17])
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    memcpy(ret, s->id_prefix, 8);
    uint64_t n = s->id_counter++;
    for (int i = 15; i >= 8; i--, n /= 36)
        ret[i] = digits[n % 36];
    ret[16] = '\0';
}

static void begin_exchange(struct http_connection *c, struct rp_http_exchange *x)
{
    struct rp_str id = rp_http_header(&x->request, "x-request-id");
    if (!sane_id(id) || !rp_str_copy(x->id, sizeof(x->id), id))
        http_make_id(c->server, x->id);
    x->left = -1;
    c->exchange = x;
    c->state = HTTP_EXCHANGE;
    c->strikes = 0;
    c->progress_mark = rp_stream_progress(c->stream);
    http_timeout_set(c, HTTP_TIMEOUT_PROGRESS);
    http_body_start(x);
    c->server->handler(c->server->ctx, x);
}

static size_t read_head(struct http_connection *c, struct rp_str bytes)
{
    if (!bytes.n || c->full)
        return 0;
    /* only the end of a line can be news for the parser */
    if (c->head_begun && bytes.n > c->seen && bytes.n < RP_HTTP_HEAD_MAX &&
        !memchr(bytes.p + c->seen, '\n', bytes.n - c->seen)) {
        c->seen = (uint32_t)bytes.n;
        return 0;
    }
    struct rp_http_exchange *x = http_exchange_new(c);
    const char *why = NULL;
    ssize_t n = rp_http_parse_request(bytes, &x->request, &why);
    if (n > 0) {
        c->seen = 0;
        keep_head(x, bytes.p, (size_t)n);
        begin_exchange(c, x);
        return (size_t)n;
    }
    http_exchange_free(x);
    if (n == RP_HTTP_PARSE_MORE) {
        c->seen = (uint32_t)bytes.n;
        if (!c->head_begun) {
            c->head_begun = true;
            http_timeout_set(c, HTTP_TIMEOUT_HEAD);
        }
        return 0;
    }
    struct rp_error err;
    rp_error_set(&err,
                 n == RP_HTTP_PARSE_TOO_LARGE     ? RP_ERROR_HEADERS_TOO_LARGE
                 : n == RP_HTTP_PARSE_UNSUPPORTED ? RP_ERROR_NOT_SUPPORTED
                                                  : RP_ERROR_INVALID,
                 "malformed request: %s", why);
    http_refuse(c, &err, rp_code_http_status(err.code));
    http_connection_linger(c);
    return bytes.n;
}

static size_t read_body(struct http_connection *c, struct rp_str bytes)
{
    struct rp_http_exchange *x = c->exchange;
    if (!bytes.n || x->body_complete)
        return 0;
    ssize_t n = http_body_feed(x, bytes);
    if (n >= 0)
        return (size_t)n;
    /* after a bad chunk nothing on this connection can be told apart any more */
    c->close = true;
    if (x->phase == HTTP_NOT_BEGUN) {
        struct rp_error err;
        rp_error_set(&err, RP_ERROR_INVALID, "malformed request: a chunk of the body is malformed");
        rp_http_reply_error(x, &err);
    } else if (x->phase == HTTP_BEGUN) {
        c->cut = true;
    }
    return bytes.n;
}

/* After the last response. Who sends on and on did not want to read it. */
static size_t drop(struct http_connection *c, struct rp_str bytes)
{
    if (bytes.n > c->linger_left)
        http_connection_free(c);
    else
        c->linger_left -= bytes.n;
    return bytes.n;
}

static size_t on_bytes(void *ctx, struct rp_str bytes)
{
    struct http_connection *c = ctx;
    size_t taken = 0;
    c->processing++;
    for (;;) {
        settle(c);
        if (c->dead)
            break;
        struct rp_str rest = {bytes.p + taken, bytes.n - taken};
        size_t n = c->state == HTTP_HEAD       ? read_head(c, rest)
                   : c->state == HTTP_EXCHANGE ? read_body(c, rest)
                                               : drop(c, rest);
        if (!n)
            break;
        taken += n;
    }
    leave(c);
    return taken;
}

static void on_end(void *ctx)
{
    struct http_connection *c = ctx;
    c->ended = true;
    struct rp_http_exchange *x = c->exchange;
    if (x && (x->phase == HTTP_ENDED || (x->body_complete && !x->close_with_client))) {
        c->close = true; /* it may still read the response */
        http_connection_kick(c);
        return;
    }
    if (!x && rp_stream_queued(c->stream)) {
        if (c->state != HTTP_LINGER)
            http_connection_linger(c);
        return;
    }
    http_connection_free(c);
}

static void on_drain(void *ctx)
{
    struct http_connection *c = ctx;
    c->full = false;
    struct rp_http_exchange *x = c->exchange;
    if (x && x->phase == HTTP_BEGUN && x->on_drain)
        x->on_drain(x->on_drain_ctx);
    else
        http_connection_kick(c);
}

static void on_error(void *ctx, int errnum)
{
    http_connection_free(ctx);
}

static const struct rp_stream_callbacks stream_callbacks = {on_bytes, on_end, on_drain, on_error};

/* Between rp_http_take_over and the new owner's rp_stream_set_callbacks. */
static size_t take_nothing(void *ctx, struct rp_str bytes)
{
    return 0;
}

static void ignore_end(void *ctx)
{
}

static void ignore_error(void *ctx, int errnum)
{
}

static const struct rp_stream_callbacks no_callbacks = {take_nothing, ignore_end, NULL, ignore_error};

/* ---- time ---- */

static void too_slow(struct http_connection *c)
{
    struct rp_error err;
    struct rp_http_exchange *x = c->exchange;
    if (!x) {
        rp_error_set(&err, RP_ERROR_REQUEST_TIMEOUT, "the request's head did not arrive in time");
        http_refuse(c, &err, 408);
        http_connection_linger(c);
    } else if (x->phase == HTTP_NOT_BEGUN && http_body_wanted(x)) {
        rp_error_set(&err, RP_ERROR_REQUEST_TIMEOUT, "the request's body stands still");
        c->close = true;
        c->processing++;
        rp_http_reply_error(x, &err);
        settle(c);
        leave(c);
    } else {
        http_connection_free(c);
    }
}

void http_connection_expired(struct http_connection *c, enum http_timeout t)
{
    uint64_t progress = rp_stream_progress(c->stream);
    bool moved = progress != c->progress_mark;
    size_t queued = rp_stream_queued(c->stream);
    c->progress_mark = progress;
    switch (t) {
    case HTTP_TIMEOUT_HEAD:
        if (c->head_begun)
            too_slow(c);
        else
            http_connection_free(c);
        return;
    case HTTP_TIMEOUT_IDLE:
    case HTTP_TIMEOUT_LINGER:
        /* the last response may still be on its way to a slow client */
        if (queued && moved)
            http_timeout_set(c, t);
        else
            http_connection_free(c);
        return;
    default:
        /* a handler may take its time; only a client must not */
        if (moved || !(queued || http_body_wanted(c->exchange) || c->ended))
            c->strikes = 0;
        else
            c->strikes++;
        http_timeout_set(c, t);
        if (c->strikes >= 2)
            too_slow(c);
        return;
    }
}

void http_connection_new(struct rp_http_server *s, int fd, struct http_address *address)
{
    struct http_connection *c = rp_calloc(1, sizeof(*c));
    c->server = s;
    c->address = address;
    link_init(&c->timeout);
    c->stream = rp_stream_new(s->loop, fd, RP_HTTP_BODY_CAP, RP_HTTP_OUTPUT_CAP, &stream_callbacks, c);
    if (!c->stream) {
        http_server_gone(c);
        free(c);
        return;
    }
    http_timeout_set(c, HTTP_TIMEOUT_HEAD);
}
