#include "preview/fields.h"

static const char control_cookie[] = "jwt";
static const char token_prefix[] = "rpl_";

static bool name_in(struct rp_str name, const char *const *list)
{
    for (; *list; list++)
        if (rp_str_is_nocase(name, *list))
            return true;
    return false;
}

static bool hop_by_hop(struct rp_str name)
{
    static const char *const list[] = {"connection",
                                       "keep-alive",
                                       "proxy-connection",
                                       "te",
                                       "trailer",
                                       "transfer-encoding",
                                       "upgrade",
                                       "proxy-authorization",
                                       "proxy-authenticate",
                                       "proxy-authentication-info",
                                       NULL};
    switch (name.n) { /* most names are told apart by their length */
    case 2:
    case 7:
    case 10:
    case 16:
    case 17:
    case 18:
    case 19:
    case 25:
        return name_in(name, list);
    default:
        return false;
    }
}

static bool said_by_us(struct rp_str name)
{
    static const char *const list[] = {"host",
                                       "content-length",
                                       "expect",
                                       "forwarded",
                                       "x-forwarded-for",
                                       "x-forwarded-host",
                                       "x-forwarded-proto",
                                       "x-forwarded-port",
                                       "x-forwarded-server",
                                       "x-forwarded-ssl",
                                       "x-forwarded-prefix",
                                       "x-real-ip",
                                       "x-request-id",
                                       "via",
                                       NULL};
    switch (name.n) {
    case 3:
    case 4:
    case 6:
    case 9:
    case 12:
    case 14:
    case 15:
    case 16:
    case 17:
    case 18:
        return name_in(name, list);
    default:
        return false;
    }
}

/* A field that some Connection field names; the usual tokens name none. */
static bool nominated(const struct rp_http_field *fields, size_t count, struct rp_str name)
{
    for (size_t i = 0; i < count; i++) {
        if (!rp_str_is_nocase(fields[i].name, "connection"))
            continue;
        struct rp_str list = fields[i].value;
        while (list.n) {
            struct rp_str token = rp_str_trim(rp_str_cut(list, ',', &list));
            char text[128];
            if (token.n == name.n && rp_str_copy(text, sizeof(text), token) && rp_str_is_nocase(name, text))
                return true;
        }
    }
    return false;
}

/* True when a Connection field holds more than the usual tokens, so that `nominated` must look. */
static bool nominates(const struct rp_http_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!rp_str_is_nocase(fields[i].name, "connection"))
            continue;
        struct rp_str list = fields[i].value;
        while (list.n) {
            struct rp_str token = rp_str_trim(rp_str_cut(list, ',', &list));
            if (token.n && !rp_str_is_nocase(token, "close") && !rp_str_is_nocase(token, "keep-alive") &&
                !rp_str_is_nocase(token, "upgrade"))
                return true;
        }
    }
    return false;
}

static bool put(struct rp_buf *out, struct rp_str s)
{
    return rp_buf_append_str(out, s);
}

static bool put_field(struct rp_buf *out, struct rp_str name, struct rp_str value)
{
    char *at = rp_buf_reserve(out, name.n + value.n + 4);
    if (!at)
        return false;
    memcpy(at, name.p, name.n);
    memcpy(at + name.n, ": ", 2);
    if (value.n)
        memcpy(at + name.n + 2, value.p, value.n);
    memcpy(at + name.n + 2 + value.n, "\r\n", 2);
    rp_buf_commit(out, name.n + value.n + 4);
    return true;
}

static bool is_control_cookie(struct rp_str pair)
{
    struct rp_str value, name = rp_str_trim(rp_str_cut(pair, '=', &value));
    while (!name.n && value.n) /* a cookie without a name: a browser sends "=jwt=x" as "jwt=x" */
        name = rp_str_trim(rp_str_cut(value, '=', &value));
    return rp_str_is_nocase(name, control_cookie);
}

/* "a=1; jwt=…; b=2" without the control cookie. Nothing when nothing is left. */
static bool put_cookies(struct rp_buf *out, struct rp_str value)
{
    bool first = true;
    for (struct rp_str rest = value; rest.n;) {
        struct rp_str pair = rp_str_trim(rp_str_cut(rest, ';', &rest));
        if (!pair.n || is_control_cookie(pair))
            continue;
        if (!put(out, first ? RP_STR("Cookie: ") : RP_STR("; ")) || !put(out, pair))
            return false;
        first = false;
    }
    return first || put(out, RP_STR("\r\n"));
}

static bool is_control_token(struct rp_str value)
{
    struct rp_str token, scheme = rp_str_cut(value, ' ', &token);
    return rp_str_is_nocase(scheme, "bearer") && rp_str_starts(rp_str_trim(token), token_prefix);
}

static bool put_forwarding(struct rp_buf *out, const struct rp_http_request *r, const struct rp_forward *f)
{
    struct rp_str peer = rp_str_of(f->peer);
    bool v6 = peer.n && memchr(peer.p, ':', peer.n);
    return put_field(out, RP_STR("X-Forwarded-For"), peer) &&
           put_field(out, RP_STR("X-Forwarded-Host"), r->host) &&
           put(out, RP_STR("X-Forwarded-Proto: http\r\nForwarded: for=")) &&
           put(out, v6 ? RP_STR("\"[") : RP_STR("")) && put(out, peer) &&
           put(out, v6 ? RP_STR("]\"") : RP_STR("")) && put(out, RP_STR(";host=\"")) && put(out, r->host) &&
           put(out, RP_STR("\";proto=http\r\n")) &&
           put_field(out, RP_STR("X-Request-Id"), rp_str_of(f->request_id));
}

static bool put_framing(struct rp_buf *out, const struct rp_http_request *r, const struct rp_forward *f)
{
    if (f->upgrade && !(put(out, RP_STR("Connection: Upgrade\r\n")) &&
                        put_field(out, RP_STR("Upgrade"), rp_http_header(r, "upgrade"))))
        return false;
    if (r->chunked)
        return put(out, RP_STR("Transfer-Encoding: chunked\r\n"));
    if (r->content_length > 0 || rp_http_header(r, "content-length").p)
        return rp_buf_printf(out, "Content-Length: %lld\r\n", (long long)r->content_length);
    return true;
}

bool rp_fields_request(struct rp_buf *out, const struct rp_http_request *r, const struct rp_forward *f)
{
    bool look = nominates(r->headers, r->header_count);
    if (!put(out, r->method) || !put(out, RP_STR(" ")) ||
        !put(out, rp_str_is(r->target, "*") ? r->target : r->path))
        return false;
    if (memchr(r->target.p, '?', r->target.n) && (!put(out, RP_STR("?")) || !put(out, r->query)))
        return false;
    if (!put(out, RP_STR(" HTTP/1.1\r\n")) || !put_field(out, RP_STR("Host"), r->host))
        return false;
    for (size_t i = 0; i < r->header_count; i++) {
        struct rp_str name = r->headers[i].name, value = r->headers[i].value;
        if (hop_by_hop(name) || said_by_us(name) || (look && nominated(r->headers, r->header_count, name)))
            continue;
        bool ok = true;
        if (name.n == 6 && rp_str_is_nocase(name, "cookie"))
            ok = put_cookies(out, value);
        else if (!(name.n == 13 && rp_str_is_nocase(name, "authorization") && is_control_token(value)))
            ok = put_field(out, name, value);
        if (!ok)
            return false;
    }
    return put_forwarding(out, r, f) && put_framing(out, r, f) && put(out, RP_STR("\r\n"));
}

/* A Set-Cookie without a Domain that reaches further than the host itself; empty when it is not to pass at
 * all. */
static struct rp_str set_cookie(struct rp_str value, struct rp_str host, struct rp_buf *scratch)
{
    struct rp_str rest, pair = rp_str_cut(value, ';', &rest);
    if (is_control_cookie(pair))
        return (struct rp_str){NULL, 0};
    bool changed = false;
    scratch->start = scratch->length = 0;
    bool ok = put(scratch, pair);
    while (rest.n) {
        struct rp_str setting, attribute = rp_str_cut(rest, ';', &rest);
        struct rp_str name = rp_str_trim(rp_str_cut(attribute, '=', &setting));
        if (rp_str_is_nocase(name, "domain")) {
            setting = rp_str_trim(setting);
            char text[256];
            if (!rp_str_copy(text, sizeof(text), setting) || !rp_str_is_nocase(host, text)) {
                changed = true;
                continue;
            }
        }
        ok = ok && put(scratch, RP_STR(";")) && put(scratch, attribute);
    }
    if (!changed)
        return value;
    return ok ? rp_buf_view(scratch) : (struct rp_str){NULL, 0};
}

void rp_fields_response(const struct rp_http_response *r, struct rp_str host, struct rp_buf *scratch,
                        void (*each)(void *ctx, struct rp_str name, struct rp_str value), void *ctx)
{
    bool look = nominates(r->headers, r->header_count);
    for (size_t i = 0; i < r->header_count; i++) {
        struct rp_str name = r->headers[i].name, value = r->headers[i].value;
        if (hop_by_hop(name) || (name.n == 14 && rp_str_is_nocase(name, "content-length")) ||
            (look && nominated(r->headers, r->header_count, name)))
            continue;
        if (name.n == 10 && rp_str_is_nocase(name, "set-cookie")) {
            value = set_cookie(value, host, scratch);
            if (!value.p)
                continue;
        }
        each(ctx, name, value);
    }
}
