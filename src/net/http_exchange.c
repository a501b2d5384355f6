/* http_exchange.c: what a handler sees of an exchange, and its response. */
#include <string.h>

#include "net/http_internal.h"

enum { PIECES_MAX = 60 };

struct rp_loop *rp_http_loop(struct rp_http_exchange *x)
{
    return x->c->server->loop;
}

const struct rp_http_request *rp_http_request_of(const struct rp_http_exchange *x)
{
    return &x->request;
}

const char *rp_http_request_id(const struct rp_http_exchange *x)
{
    return x->id;
}

const char *rp_http_peer(const struct rp_http_exchange *x)
{
    return x->c->address->text;
}

bool rp_http_peer_is_loopback(const struct rp_http_exchange *x)
{
    return x->c->address->loopback;
}

void rp_http_on_close(struct rp_http_exchange *x, void (*fn)(void *ctx), void *ctx)
{
    x->on_close = fn;
    x->on_close_ctx = ctx;
}

void rp_http_close_with_client(struct rp_http_exchange *x)
{
    x->close_with_client = true;
    if (x->c->ended)
        rp_http_abort(x);
}

bool rp_http_responded(const struct rp_http_exchange *x)
{
    return x->phase != HTTP_NOT_BEGUN;
}

/* ---- head ---- */

/* The server's own: framing and the connection's fate. */
static bool reserved(struct rp_str name, struct rp_str value)
{
    if (name.n == 10 && rp_str_is_nocase(name, "connection"))
        return !rp_str_is_nocase(value, "upgrade");
    return (name.n == 14 && rp_str_is_nocase(name, "content-length")) ||
           (name.n == 17 && rp_str_is_nocase(name, "transfer-encoding")) ||
           (name.n == 10 && rp_str_is_nocase(name, "keep-alive"));
}

void rp_http_set_header_str(struct rp_http_exchange *x, struct rp_str n, struct rp_str value)
{
    if (x->phase != HTTP_NOT_BEGUN || !rp_http_is_token(n) || reserved(n, value))
        return;
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] == '\r' || value.p[i] == '\n' || value.p[i] == '\0')
            return;
    char *at = rp_buf_reserve(&x->fields, n.n + value.n + 4);
    if (!at)
        return;
    memcpy(at, n.p, n.n);
    memcpy(at + n.n, ": ", 2);
    if (value.n)
        memcpy(at + n.n + 2, value.p, value.n);
    memcpy(at + n.n + 2 + value.n, "\r\n", 2);
    rp_buf_commit(&x->fields, n.n + value.n + 4);
    if (n.n == 4 && rp_str_is_nocase(n, "date"))
        x->has_date = true;
    else if (n.n == 12 && rp_str_is_nocase(n, "x-request-id"))
        x->has_id = true;
}

void rp_http_set_header(struct rp_http_exchange *x, const char *name, struct rp_str value)
{
    rp_http_set_header_str(x, rp_str_of(name), value);
}

void rp_http_set_header_text(struct rp_http_exchange *x, const char *name, const char *value)
{
    rp_http_set_header(x, name, rp_str_of(value));
}

/* A head is composed by hand, since printf would cost more than the rest of a small answer. The fixed parts
 * fit into HEAD_ROOM by construction. */
enum { HEAD_ROOM = 1024, TYPE_MAX = 1024 };

static char *put(char *at, const char *text)
{
    size_t n = strlen(text);
    memcpy(at, text, n);
    return at + n;
}

static char *put_number(char *at, uint64_t n, unsigned base)
{
    char digits[24];
    int i = 0;
    do
        digits[i++] = "0123456789abcdef"[n % base];
    while (n /= base);
    while (i)
        *at++ = digits[--i];
    return at;
}

static void compose_head(struct rp_http_exchange *x, int status, const char *content_type, int64_t length,
                         bool bodyless)
{
    struct http_connection *c = x->c;
    size_t type_length = content_type ? strnlen(content_type, TYPE_MAX + 1) : 0;
    if (type_length > TYPE_MAX)
        content_type = NULL;
    char *start = rp_buf_reserve(&x->out, HEAD_ROOM + type_length + x->fields.length);
    if (!start)
        abort(); /* the caps of both buffers say that it fits */
    char *at = put(start, "HTTP/1.1 ");
    at = put_number(at, (uint64_t)status, 10);
    *at++ = ' ';
    at = put(at, rp_http_reason(status));
    if (!x->has_date) {
        at = put(at, "\r\nDate: ");
        at = put(at, http_date(c->server));
    }
    if (!x->has_id) {
        at = put(at, "\r\nX-Request-Id: ");
        at = put(at, x->id);
    }
    if (content_type) {
        at = put(at, "\r\nContent-Type: ");
        at = put(at, content_type);
    }
    if (length >= 0 && !bodyless) {
        at = put(at, "\r\nContent-Length: ");
        at = put_number(at, (uint64_t)length, 10);
    } else if (x->chunked_out) {
        at = put(at, "\r\nTransfer-Encoding: chunked");
    }
    if (c->close)
        at = put(at, "\r\nConnection: close");
    else if (x->request.minor_version == 0)
        at = put(at, "\r\nConnection: keep-alive");
    at = put(at, "\r\n");
    struct rp_str fields = rp_buf_view(&x->fields);
    memcpy(at, fields.p, fields.n);
    at = put(at + fields.n, "\r\n");
    rp_buf_commit(&x->out, (size_t)(at - start));
}

/* `final`: the response is over before more of the request's body can be read. */
static void begin(struct rp_http_exchange *x, int status, const char *content_type, int64_t length,
                  bool final)
{
    struct http_connection *c = x->c;
    x->phase = HTTP_BEGUN;
    bool bodyless = status == 204 || status == 304 || status < 200;
    x->no_body = bodyless || rp_str_is(x->request.method, "HEAD");
    x->chunked_out = length < 0 && !bodyless && x->request.minor_version >= 1;
    x->left = length;
    if (!x->request.keep_alive || c->server->draining || (length < 0 && !x->chunked_out && !x->no_body))
        c->close = true;
    if (final && http_body_costly(x))
        c->close = true;
    compose_head(x, status, content_type, length, bodyless);
    http_connection_kick(c); /* sends the head, should nothing follow at once */
}

void rp_http_begin(struct rp_http_exchange *x, int status, const char *content_type, int64_t length)
{
    if (x->phase == HTTP_NOT_BEGUN)
        begin(x, status, content_type, length, false);
}

static enum rp_write write_out(struct rp_http_exchange *x, const struct rp_str *pieces, size_t count)
{
    struct http_connection *c = x->c;
    enum rp_write w = rp_stream_write(c->stream, pieces, count);
    x->out.start = x->out.length = 0;
    if (w == RP_WRITE_FULL)
        c->full = true;
    return w;
}

void http_flush_head(struct rp_http_exchange *x)
{
    if (x->out.length)
        write_out(x, &(struct rp_str){rp_buf_view(&x->out).p, x->out.length}, 1);
}

/* ---- body ---- */

static void ended(struct rp_http_exchange *x)
{
    x->phase = HTTP_ENDED;
    if (x->left > 0 && !x->no_body)
        x->c->cut = true;
    http_connection_kick(x->c);
}

enum rp_write rp_http_send_pieces(struct rp_http_exchange *x, const struct rp_str *pieces, size_t count,
                                  bool last)
{
    if (x->phase != HTTP_BEGUN)
        return RP_WRITE_FAILED;
    enum rp_write w = RP_WRITE_OK;
    while (count > PIECES_MAX) {
        w = rp_http_send_pieces(x, pieces, PIECES_MAX, false);
        if (w == RP_WRITE_FAILED)
            return w;
        pieces += PIECES_MAX;
        count -= PIECES_MAX;
    }
    struct rp_str all[PIECES_MAX + 3];
    size_t n = 0, total = 0;
    all[n++] = rp_buf_view(&x->out);
    n++; /* for the chunk's size */
    for (size_t i = 0; i < count && !x->no_body; i++) {
        struct rp_str piece = pieces[i];
        if (x->left >= 0)
            piece.n = RP_MIN(piece.n, (size_t)x->left - total);
        all[n++] = piece;
        total += piece.n;
    }
    if (x->left >= 0)
        x->left -= (int64_t)total;
    char size[32];
    bool framed = x->chunked_out && !x->no_body;
    all[1] = (struct rp_str){size, 0};
    if (framed && total) {
        char *at = put_number(size, total, 16);
        at = put(at, "\r\n");
        all[1].n = (size_t)(at - size);
    }
    if (framed && (total || last))
        all[n++] = !total ? RP_STR("0\r\n\r\n") : last ? RP_STR("\r\n0\r\n\r\n") : RP_STR("\r\n");
    if (total || all[0].n || (framed && last))
        w = write_out(x, all, n);
    if (last)
        ended(x);
    return w;
}

enum rp_write rp_http_send(struct rp_http_exchange *x, struct rp_str bytes)
{
    return rp_http_send_pieces(x, &bytes, 1, false);
}

void rp_http_end(struct rp_http_exchange *x)
{
    rp_http_send_pieces(x, NULL, 0, true);
}

void rp_http_on_drain(struct rp_http_exchange *x, void (*fn)(void *ctx), void *ctx)
{
    x->on_drain = fn;
    x->on_drain_ctx = ctx;
}

void rp_http_set_output_cap(struct rp_http_exchange *x, size_t cap)
{
    rp_stream_set_caps(x->c->stream, RP_HTTP_BODY_CAP, cap);
}

size_t rp_http_room(const struct rp_http_exchange *x)
{
    enum { FRAMING = 32 };
    size_t used = rp_stream_queued(x->c->stream) + x->out.length + FRAMING;
    size_t cap = rp_stream_output_cap(x->c->stream);
    return cap > used ? cap - used : 0;
}

void rp_http_reply(struct rp_http_exchange *x, int status, const char *content_type, struct rp_str body)
{
    if (x->phase != HTTP_NOT_BEGUN)
        return;
    begin(x, status, content_type, (int64_t)body.n, true);
    size_t need = rp_stream_queued(x->c->stream) + x->out.length + body.n;
    if (need > rp_stream_output_cap(x->c->stream))
        rp_stream_set_caps(x->c->stream, RP_HTTP_BODY_CAP, need);
    rp_http_send_pieces(x, &body, 1, true);
}

void http_reply_problem(struct rp_http_exchange *x, const struct rp_error *err, int status)
{
    struct rp_buf body;
    rp_buf_init(&body, 8192);
    http_problem_write(&body, err, status, x->id);
    rp_http_reply(x, status, "application/problem+json", rp_buf_view(&body));
    rp_buf_done(&body);
}

void rp_http_reply_error(struct rp_http_exchange *x, const struct rp_error *err)
{
    http_reply_problem(x, err, rp_code_http_status(err->code));
}

void http_refuse(struct http_connection *c, const struct rp_error *err, int status)
{
    struct rp_http_exchange *x = http_exchange_new(c);
    x->request.minor_version = 1;
    x->request.method = RP_STR("GET");
    x->request.keep_alive = false;
    x->body_complete = true;
    x->left = -1;
    c->close = true;
    http_make_id(c->server, x->id);
    c->processing++; /* no kick: this exchange never becomes the connection's */
    http_reply_problem(x, err, status);
    c->processing--;
    http_exchange_free(x);
}

void rp_http_abort(struct rp_http_exchange *x)
{
    x->c->cut = true;
    http_connection_kick(x->c);
}

struct rp_stream *rp_http_take_over(struct rp_http_exchange *x, struct rp_str head)
{
    struct http_connection *c = x->c;
    struct rp_stream *stream = c->stream;
    if (head.n)
        rp_stream_write(stream, &head, 1);
    if (x->body_paused)
        rp_stream_resume(stream);
    http_connection_forget(c);
    return stream;
}
