/*
 * proxy.c: one exchange that is answered by a program in the sandbox.
 *
 * It lives until the exchange is closed. What the program sends is hostile: it goes through the strict
 * parser, and what that refuses becomes a 502, or a cut when the response has begun.
 */
#include <string.h>

#include "preview/fields.h"
#include "preview/site_internal.h"

enum { HEAD_CAP = 128 * 1024, INFORMATIONAL_MAX = 16, PIECES_MAX = 48 };

enum phase { CONNECTING, AWAITING_HEAD, IN_BODY, DONE };
enum framing { BY_LENGTH, BY_CHUNKS, BY_END };

struct proxy {
    struct link link;     /* in the site's list */
    struct rp_site *site; /* NULL: it is gone */
    struct rp_http_exchange *x;
    struct upstream *u;
    struct dial *dial;
    struct rp_buf head; /* of the request, kept until a response shows that it need not be sent again */
    struct rp_http_chunked chunked;
    int64_t left;
    uint16_t port;
    unsigned char phase, framing;
    unsigned char informational;
    bool has_body : 1;
    bool body_begun : 1; /* its first byte may have left: no second try */
    bool request_sent : 1;
    bool request_paused : 1;
    bool idempotent : 1;
    bool upgrade : 1;
    bool keep : 1; /* the connection may be used again */
    bool head_request : 1;
};

static void connect_upstream(struct proxy *p, bool fresh);

/* ---- the end ---- */

static void drop_upstream(struct proxy *p)
{
    struct upstream *u = RP_STEAL_PTR(p->u);
    if (u)
        site_discard(u);
}

static void leave_site(struct proxy *p)
{
    if (!p->site)
        return;
    link_remove(&p->link);
    p->site->active--;
    p->site = NULL;
}

/* The exchange is closed: by its end, or because the client left. */
static void on_close(void *ctx)
{
    struct proxy *p = ctx;
    if (p->dial)
        p->dial->proxy = NULL;
    drop_upstream(p);
    leave_site(p);
    rp_buf_done(&p->head);
    free(p);
}

/* No response came, and none will; or its rest will not. */
static void fail(struct proxy *p, const struct rp_error *err)
{
    drop_upstream(p);
    if (p->phase == DONE)
        return;
    p->phase = DONE;
    if (rp_http_responded(p->x))
        rp_http_abort(p->x);
    else
        p->site->hooks->failed(p->site->ctx, p->x, p->port, err);
}

static void fail_protocol(struct proxy *p, const char *why)
{
    struct rp_error err;
    rp_error_set(&err, RP_ERROR_PROTOCOL, "the program on port %u sent a malformed response: %s", p->port,
                 why);
    fail(p, &err);
}

/* The response is complete. Bytes after it would be taken for the next one: such a connection is not kept. */
static void finish(struct proxy *p, bool clean)
{
    p->phase = DONE;
    struct upstream *u = RP_STEAL_PTR(p->u);
    if (u && clean && p->keep && p->request_sent)
        site_keep(u);
    else
        site_discard(u);
}

void proxy_site_gone(struct link *l)
{
    struct proxy *p = RP_CONTAINER_OF(l, struct proxy, link);
    struct rp_error err;
    rp_error_set(&err, RP_ERROR_UNAVAILABLE, "the project stopped");
    fail(p, &err);
    if (p->dial) {
        p->dial->proxy = NULL;
        p->dial = NULL;
    }
    leave_site(p);
}

/* ---- the request ---- */

static void on_body_data(void *ctx, struct rp_str bytes)
{
    struct proxy *p = ctx;
    if (!p->u)
        return;
    char size[24];
    struct rp_str pieces[3] = {{size, 0}, bytes, RP_STR("")};
    if (rp_http_request_of(p->x)->chunked) {
        pieces[0].n = (size_t)snprintf(size, sizeof(size), "%zx\r\n", bytes.n);
        pieces[2] = RP_STR("\r\n");
    }
    p->site->hooks->touch(p->site->ctx);
    if (rp_stream_write(p->u->stream, pieces, 3) == RP_WRITE_FULL) {
        p->request_paused = true;
        rp_http_body_pause(p->x);
    }
}

static void on_body_end(void *ctx)
{
    struct proxy *p = ctx;
    if (!p->u)
        return;
    if (rp_http_request_of(p->x)->chunked)
        rp_stream_write(p->u->stream, &RP_STR("0\r\n\r\n"), 1);
    p->request_sent = true;
}

static void send_request(struct proxy *p)
{
    p->phase = AWAITING_HEAD;
    if (rp_stream_write(p->u->stream, &(struct rp_str){rp_buf_view(&p->head).p, p->head.length}, 1) ==
        RP_WRITE_FAILED)
        return; /* on_error follows */
    if (p->has_body) {
        static const struct rp_http_body_callbacks callbacks = {on_body_data, on_body_end};
        p->body_begun = true;
        rp_http_body_stream(p->x, &callbacks, p);
    } else {
        p->request_sent = true;
    }
}

void proxy_connected(struct proxy *p, int fd, const struct rp_error *err)
{
    p->dial = NULL;
    if (err) {
        fail(p, err);
        return;
    }
    p->u = site_upstream(p->site, p->port, fd);
    if (!p->u) {
        struct rp_error broken;
        rp_error_set(&broken, RP_ERROR_SANDBOX, "the connection to port %u cannot be used", p->port);
        fail(p, &broken);
        return;
    }
    p->u->proxy = p;
    send_request(p);
}

static void connect_upstream(struct proxy *p, bool fresh)
{
    p->phase = CONNECTING;
    p->u = fresh ? NULL : site_take_idle(p->site, p->port);
    if (p->u) {
        p->u->proxy = p;
        send_request(p);
        return;
    }
    p->dial = rp_calloc(1, sizeof(*p->dial));
    p->dial->proxy = p;
    site_dial(p->site, p->port, p->dial);
}

void proxy_on_drain(struct proxy *p)
{
    if (!p->request_paused)
        return;
    p->request_paused = false;
    rp_http_body_resume(p->x);
}

/* ---- the response ---- */

static void client_drained(void *ctx)
{
    struct proxy *p = ctx;
    if (p->u)
        rp_stream_resume(p->u->stream);
}

static void pass_field(void *ctx, struct rp_str name, struct rp_str value)
{
    rp_http_set_header_str(ctx, name, value);
}

static struct rp_str host_name(struct rp_str host)
{
    struct rp_str port;
    return rp_str_cut(host, ':', &port);
}

/* `clean`: nothing follows the head yet. */
static void begin_response(struct proxy *p, const struct rp_http_response *r, bool clean)
{
    rp_buf_done(&p->head); /* no second try */
    struct rp_buf scratch;
    rp_buf_init(&scratch, RP_HTTP_HEAD_MAX);
    rp_fields_response(r, host_name(rp_http_request_of(p->x)->host), &scratch, pass_field, p->x);
    rp_buf_done(&scratch);

    bool bodyless = p->head_request || r->status == 204 || r->status == 304;
    p->phase = IN_BODY;
    /* not after HEAD: programs that send a body all the same are too many */
    p->keep = r->keep_alive && !p->head_request;
    p->left = r->content_length;
    if (bodyless) {
        p->left = 0;
        p->framing = BY_LENGTH;
    } else if (r->chunked) {
        p->framing = BY_CHUNKS;
        rp_http_chunked_init(&p->chunked);
    } else if (r->content_length >= 0) {
        p->framing = BY_LENGTH;
    } else {
        p->framing = BY_END;
        p->keep = false;
    }
    rp_http_set_output_cap(p->x, SITE_BUFFER + 1024);
    rp_http_on_drain(p->x, client_drained, p);
    rp_http_begin(p->x, r->status, NULL, r->chunked ? -1 : r->content_length);
    if (p->framing == BY_LENGTH && p->left == 0) {
        rp_http_end(p->x);
        finish(p, clean);
    }
}

/* A 101: the exchange ends here, and the two streams are joined. */
static void add_101_field(void *ctx, struct rp_str name, struct rp_str value)
{
    struct rp_buf *head = ctx;
    if (!rp_buf_printf(head, "%.*s: %.*s\r\n", (int)name.n, name.p, (int)value.n, value.p))
        head->cap = 0; /* seen by the caller */
}

static void switch_protocols(struct proxy *p, const struct rp_http_response *r)
{
    struct rp_str protocol = {NULL, 0};
    for (size_t i = 0; i < r->header_count; i++)
        if (rp_str_is_nocase(r->headers[i].name, "upgrade"))
            protocol = r->headers[i].value;
    struct rp_buf head, scratch;
    rp_buf_init(&head, HEAD_CAP);
    rp_buf_init(&scratch, RP_HTTP_HEAD_MAX);
    bool ok =
        rp_buf_printf(&head, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %.*s\r\n",
                      (int)protocol.n, protocol.p ? protocol.p : "");
    rp_fields_response(r, host_name(rp_http_request_of(p->x)->host), &scratch, add_101_field, &head);
    ok = ok && rp_buf_append(&head, "\r\n", 2);
    rp_buf_done(&scratch);
    if (!ok) {
        rp_buf_done(&head);
        fail_protocol(p, "its head is too large");
        return;
    }
    struct rp_site *site = p->site;
    struct upstream *u = RP_STEAL_PTR(p->u);
    struct rp_stream *upstream = RP_STEAL_PTR(u->stream);
    free(u);
    p->phase = DONE;
    /* closes the exchange, and with it this proxy */
    struct rp_stream *client = rp_http_take_over(p->x, rp_buf_view(&head));
    rp_buf_done(&head);
    tunnel_new(site, client, upstream);
}

/* Bytes of the body to the client, as much as it takes. Returns how many were used. */
static size_t forward(struct proxy *p, struct rp_str bytes)
{
    size_t used = 0;
    while (p->u && p->phase == IN_BODY && used < bytes.n) {
        size_t room = rp_http_room(p->x);
        struct rp_str rest = {bytes.p + used, RP_MIN(bytes.n - used, room)};
        if (!rest.n) {
            rp_stream_pause(p->u->stream);
            return used;
        }
        struct rp_str pieces[PIECES_MAX];
        size_t count = 0, n = 0;
        bool last = false;
        if (p->framing == BY_CHUNKS) {
            while (n < rest.n && count < PIECES_MAX && !last) {
                ssize_t r = rp_http_chunked_next(&p->chunked, (struct rp_str){rest.p + n, rest.n - n},
                                                 &pieces[count]);
                if (r < 0) {
                    fail_protocol(p, "a malformed chunk");
                    return bytes.n;
                }
                n += (size_t)r;
                count += pieces[count].n > 0;
                last = rp_http_chunked_done(&p->chunked);
            }
        } else {
            n = p->framing == BY_LENGTH && (uint64_t)p->left < rest.n ? (size_t)p->left : rest.n;
            pieces[count++] = (struct rp_str){rest.p, n};
            if (p->framing == BY_LENGTH) {
                p->left -= (int64_t)n;
                last = p->left == 0;
            }
        }
        used += n;
        enum rp_write w = count || last ? rp_http_send_pieces(p->x, pieces, count, last) : RP_WRITE_OK;
        if (last)
            finish(p, used == bytes.n);
        else if (w == RP_WRITE_FULL)
            rp_stream_pause(p->u->stream);
        else if (w == RP_WRITE_FAILED)
            return bytes.n; /* the client is gone: on_close follows */
        if (w == RP_WRITE_FULL)
            return used;
    }
    return used;
}

size_t proxy_on_bytes(struct proxy *p, struct rp_str bytes)
{
    size_t used = 0;
    p->site->hooks->touch(p->site->ctx);
    while (p->phase == AWAITING_HEAD) {
        struct rp_http_response r;
        const char *why = NULL;
        ssize_t n = rp_http_parse_response((struct rp_str){bytes.p + used, bytes.n - used}, &r, &why);
        if (n < 0) {
            fail_protocol(p, why);
            return bytes.n;
        }
        if (n == 0)
            return used;
        used += (size_t)n;
        if (r.status == 101) {
            if (p->upgrade && r.upgrade) {
                switch_protocols(p, &r);
                return used;
            }
            fail_protocol(p, "it switches protocols unasked");
            return bytes.n;
        }
        if (r.status >= 200)
            begin_response(p, &r, used == bytes.n);
        else if (++p->informational > INFORMATIONAL_MAX) {
            fail_protocol(p, "too many informational responses");
            return bytes.n;
        }
    }
    return used + forward(p, (struct rp_str){bytes.p + used, bytes.n - used});
}

/* ---- the connection's end ---- */

static void lost(struct proxy *p, int errnum)
{
    bool stale = p->u && p->u->reused && p->phase == AWAITING_HEAD && !p->informational;
    if (stale && p->idempotent && !p->body_begun && !rp_stream_input(p->u->stream).n) {
        drop_upstream(p);
        connect_upstream(p, true);
        return;
    }
    struct rp_error err;
    if (errnum)
        rp_error_errno(&err, RP_ERROR_SANDBOX, errnum, "the connection to port %u broke", p->port);
    else
        rp_error_set(&err, RP_ERROR_SANDBOX,
                     "the program on port %u closed the connection without a response", p->port);
    fail(p, &err);
}

void proxy_on_end(struct proxy *p)
{
    if (p->phase == IN_BODY && p->framing == BY_END) {
        rp_http_end(p->x);
        finish(p, false);
        return;
    }
    lost(p, 0);
}

void proxy_on_error(struct proxy *p, int errnum)
{
    lost(p, errnum);
}

/* ---- the beginning ---- */

static bool is_idempotent(struct rp_str method)
{
    static const char *const list[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(list); i++)
        if (rp_str_is(method, list[i]))
            return true;
    return false;
}

void rp_site_proxy(struct rp_site *s, struct rp_http_exchange *x, uint16_t port)
{
    const struct rp_http_request *r = rp_http_request_of(x);
    struct rp_error err;
    if (s->active >= SITE_ACTIVE_MAX) {
        rp_error_set(&err, RP_ERROR_UNAVAILABLE, "the project already has %d open requests", SITE_ACTIVE_MAX);
        s->hooks->failed(s->ctx, x, port, &err);
        return;
    }
    struct proxy *p = rp_calloc(1, sizeof(*p));
    p->site = s;
    p->x = x;
    p->port = port;
    p->has_body = r->content_length != 0;
    p->head_request = rp_str_is(r->method, "HEAD");
    p->idempotent = is_idempotent(r->method);
    p->upgrade = r->upgrade && !p->has_body && rp_http_header(r, "upgrade").n;
    rp_buf_init(&p->head, HEAD_CAP);
    struct rp_forward f = {rp_http_peer(x), rp_http_request_id(x), p->upgrade};
    if (!rp_fields_request(&p->head, r, &f)) {
        rp_error_set(&err, RP_ERROR_HEADERS_TOO_LARGE, "the request's head is too large");
        rp_buf_done(&p->head);
        free(p);
        s->hooks->failed(s->ctx, x, port, &err);
        return;
    }
    s->active++;
    link_append(&s->proxies, &p->link);
    rp_http_on_close(x, on_close, p);
    rp_http_close_with_client(x);
    s->hooks->touch(s->ctx);
    connect_upstream(p, false);
}
