#include "net/http_parser.h"

/* Classes of bytes; a table, since each byte of a head is looked at once. */
enum { TOKEN = 1, VALUE = 2, TARGET = 4, HOST = 8 };

static const unsigned char class_of[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = TOKEN | VALUE | TARGET | HOST,
    ['"'] = VALUE | TARGET,
    ['#'] = TOKEN | VALUE,
    ['$'] = TOKEN | VALUE | TARGET | HOST,
    ['%'] = TOKEN | VALUE | TARGET | HOST,
    ['&'] = TOKEN | VALUE | TARGET | HOST,
    ['\''] = TOKEN | VALUE | TARGET | HOST,
    ['('] = VALUE | TARGET | HOST,
    [')'] = VALUE | TARGET | HOST,
    ['*'] = TOKEN | VALUE | TARGET | HOST,
    ['+'] = TOKEN | VALUE | TARGET | HOST,
    [','] = VALUE | TARGET | HOST,
    ['-'] = TOKEN | VALUE | TARGET | HOST,
    ['.'] = TOKEN | VALUE | TARGET | HOST,
    ['/'] = VALUE | TARGET,
    ['0' ... '9'] = TOKEN | VALUE | TARGET | HOST,
    [':'] = VALUE | TARGET | HOST,
    [';'] = VALUE | TARGET | HOST,
    ['<'] = VALUE | TARGET,
    ['='] = VALUE | TARGET | HOST,
    ['>'] = VALUE | TARGET,
    ['?'] = VALUE | TARGET,
    ['@'] = VALUE | TARGET,
    ['A' ... 'Z'] = TOKEN | VALUE | TARGET | HOST,
    ['['] = VALUE | TARGET | HOST,
    ['\\'] = VALUE | TARGET,
    [']'] = VALUE | TARGET | HOST,
    ['^'] = TOKEN | VALUE | TARGET,
    ['_'] = TOKEN | VALUE | TARGET | HOST,
    ['`'] = TOKEN | VALUE | TARGET,
    ['a' ... 'z'] = TOKEN | VALUE | TARGET | HOST,
    ['{'] = VALUE | TARGET,
    ['|'] = TOKEN | VALUE | TARGET,
    ['}'] = VALUE | TARGET,
    ['~'] = TOKEN | VALUE | TARGET | HOST,
    [0x80 ... 0xff] = VALUE,
};

static bool all_of(struct rp_str s, unsigned char wanted)
{
    for (size_t i = 0; i < s.n; i++)
        if (!(class_of[(unsigned char)s.p[i]] & wanted))
            return false;
    return true;
}

bool rp_http_is_token(struct rp_str s)
{
    return s.n && all_of(s, TOKEN);
}

bool rp_http_list_has(struct rp_str list, const char *token)
{
    while (list.n) {
        struct rp_str item = rp_str_trim(rp_str_cut(list, ',', &list));
        if (rp_str_is_nocase(item, token))
            return true;
    }
    return false;
}

/* What both kinds of head share while they are read. */
struct head {
    struct rp_str bytes;
    size_t at;
    const char *why;
    struct rp_http_field *headers;
    size_t header_count;
    int64_t content_length; /* -1: none */
    unsigned hosts, transfer_encodings;
    struct rp_str host;
    bool close, keep_alive, upgrade, chunked, expect_continue, expect_other;
};

static ssize_t bad(struct head *h, const char *why)
{
    h->why = why;
    return RP_HTTP_PARSE_BAD;
}

static ssize_t too_large(struct head *h, const char *why)
{
    h->why = why;
    return RP_HTTP_PARSE_TOO_LARGE;
}

static ssize_t unsupported(struct head *h, const char *why)
{
    h->why = why;
    return RP_HTTP_PARSE_UNSUPPORTED;
}

/* The next line without its CRLF: 1, or MORE, BAD, TOO_LARGE. */
static ssize_t next_line(struct head *h, struct rp_str *ret)
{
    const char *p = h->bytes.p + h->at;
    size_t room = RP_MIN(h->bytes.n, (size_t)RP_HTTP_HEAD_MAX) - h->at;
    const char *lf = room ? memchr(p, '\n', room) : NULL;
    if (!lf) {
        if (h->bytes.n >= RP_HTTP_HEAD_MAX)
            return too_large(h, "the head is over 32 KiB");
        /* a NUL or a lone CR will not become right with more bytes, but the line's end will say so */
        return RP_HTTP_PARSE_MORE;
    }
    if (lf == p || lf[-1] != '\r')
        return bad(h, "a line ends in LF without CR");
    *ret = (struct rp_str){p, (size_t)(lf - p) - 1};
    h->at += (size_t)(lf - p) + 1;
    return 1;
}

static bool list_flags(struct head *h, struct rp_str list)
{
    while (list.n) {
        struct rp_str item = rp_str_trim(rp_str_cut(list, ',', &list));
        if (!item.n)
            continue;
        if (!rp_http_is_token(item))
            return false;
        if (rp_str_is_nocase(item, "close"))
            h->close = true;
        else if (rp_str_is_nocase(item, "keep-alive"))
            h->keep_alive = true;
        else if (rp_str_is_nocase(item, "upgrade"))
            h->upgrade = true;
    }
    return true;
}

/* Fields that decide about framing; names are told apart by length first. */
static ssize_t known_field(struct head *h, struct rp_str name, struct rp_str value)
{
    switch (name.n) {
    case 4:
        if (rp_str_is_nocase(name, "host")) {
            h->hosts++;
            h->host = value;
        }
        break;
    case 6:
        if (rp_str_is_nocase(name, "expect")) {
            if (rp_str_is_nocase(value, "100-continue"))
                h->expect_continue = true;
            else
                h->expect_other = true;
        }
        break;
    case 10:
        if (rp_str_is_nocase(name, "connection") && !list_flags(h, value))
            return bad(h, "the Connection field is malformed");
        break;
    case 14:
        if (rp_str_is_nocase(name, "content-length")) {
            uint64_t n;
            if (h->content_length >= 0)
                return bad(h, "Content-Length is given twice");
            if (!rp_str_to_u64(value, INT64_MAX, &n))
                return bad(h, "Content-Length is not a number");
            h->content_length = (int64_t)n;
        }
        break;
    case 17:
        if (rp_str_is_nocase(name, "transfer-encoding")) {
            if (h->transfer_encodings++)
                return bad(h, "Transfer-Encoding is given twice");
            if (!rp_str_is_nocase(value, "chunked"))
                return unsupported(h, "a transfer coding other than chunked");
            h->chunked = true;
        }
        break;
    default:
        break;
    }
    return 1;
}

static ssize_t parse_fields(struct head *h)
{
    for (;;) {
        struct rp_str line;
        ssize_t r = next_line(h, &line);
        if (r <= 0)
            return r;
        if (!line.n)
            return 1;
        if (line.p[0] == ' ' || line.p[0] == '\t')
            return bad(h, "a field is folded over lines");
        const char *colon = memchr(line.p, ':', line.n);
        if (!colon)
            return bad(h, "a field has no colon");
        struct rp_str name = {line.p, (size_t)(colon - line.p)};
        struct rp_str value = {colon + 1, line.n - name.n - 1};
        if (!rp_http_is_token(name))
            return bad(h, "a field name is malformed");
        if (!all_of(value, VALUE))
            return bad(h, "a field value holds a control character");
        value = rp_str_trim(value);
        if (h->header_count == RP_HTTP_HEADERS_MAX)
            return too_large(h, "more than 100 fields");
        h->headers[h->header_count++] = (struct rp_http_field){name, value};
        r = known_field(h, name, value);
        if (r <= 0)
            return r;
    }
}

/* "HTTP/1.x": the minor version, or -1; *ret_other when it is another HTTP version. */
static int parse_version(struct rp_str s, bool *ret_other)
{
    *ret_other = false;
    if (s.n != 8 || memcmp(s.p, "HTTP/", 5) != 0 || s.p[6] != '.' || s.p[5] < '0' || s.p[5] > '9' ||
        s.p[7] < '0' || s.p[7] > '9')
        return -1;
    if (s.p[5] != '1') {
        *ret_other = true;
        return -1;
    }
    return s.p[7] - '0';
}

/* origin-form, absolute-form of http, or "*" for OPTIONS (RFC 9112 section 3.2). */
static bool split_target(struct rp_http_request *r, struct rp_str *ret_authority)
{
    struct rp_str t = r->target;
    *ret_authority = (struct rp_str){NULL, 0};
    if (rp_str_is(t, "*") && rp_str_is(r->method, "OPTIONS")) {
        r->path = RP_STR("/");
        r->query = RP_STR("");
        return true;
    }
    if (t.n >= 7 && rp_str_is_nocase((struct rp_str){t.p, 7}, "http://")) {
        t.p += 7;
        t.n -= 7;
        size_t n = 0;
        while (n < t.n && t.p[n] != '/' && t.p[n] != '?')
            n++;
        *ret_authority = (struct rp_str){t.p, n};
        if (!n)
            return false;
        t.p += n;
        t.n -= n;
        if (!t.n || t.p[0] != '/') {
            if (t.n)
                return false; /* "http://host?query": legal, sent by nobody */
            t = RP_STR("/");
        }
    }
    if (!t.n || t.p[0] != '/')
        return false;
    r->path = rp_str_cut(t, '?', &r->query);
    return true;
}

static ssize_t parse_request_line(struct head *h, struct rp_http_request *r)
{
    struct rp_str line;
    ssize_t got;
    /* RFC 9112 section 2.2: at least one empty line before the request line is to be ignored */
    for (unsigned empty = 0;; empty++) {
        got = next_line(h, &line);
        if (got <= 0) {
            struct rp_str left = {h->bytes.p + h->at, h->bytes.n - h->at};
            if (got == RP_HTTP_PARSE_MORE && left.n > RP_HTTP_TARGET_MAX + 64)
                return too_large(h, "the request target is over 8 KiB");
            /* a TLS hello, or other noise, need not wait for a line end that never comes */
            if (got == RP_HTTP_PARSE_MORE && left.n && left.p[0] != '\r' &&
                !(class_of[(unsigned char)left.p[0]] & TOKEN))
                return bad(h, "this is not HTTP");
            return got;
        }
        if (line.n)
            break;
        if (empty == 2)
            return bad(h, "empty lines in place of a request");
    }
    struct rp_str rest, version;
    r->method = rp_str_cut(line, ' ', &rest);
    r->target = rp_str_cut(rest, ' ', &version);
    if (!rp_http_is_token(r->method) || r->method.n > 32)
        return bad(h, "the method is malformed");
    if (r->target.n > RP_HTTP_TARGET_MAX)
        return too_large(h, "the request target is over 8 KiB");
    if (!r->target.n || !all_of(r->target, TARGET))
        return bad(h, "the request target is malformed");
    bool other;
    r->minor_version = parse_version(version, &other);
    if (other)
        return unsupported(h, "an HTTP version other than 1.x");
    if (r->minor_version < 0)
        return bad(h, "the request line is malformed");
    return 1;
}

ssize_t rp_http_parse_request(struct rp_str bytes, struct rp_http_request *r, const char **ret_why)
{
    struct head h = {.bytes = bytes, .content_length = -1, .headers = r->headers};
    ssize_t got = parse_request_line(&h, r);
    if (got > 0)
        got = parse_fields(&h);
    if (got <= 0) {
        *ret_why = h.why;
        return got;
    }
    struct rp_str authority;
    const char *why = NULL;
    if (!split_target(r, &authority))
        why = "the request target is malformed";
    else if (h.hosts > 1)
        why = "Host is given twice";
    else if (!h.hosts && r->minor_version >= 1)
        why = "Host is missing";
    else if (!all_of(h.host, HOST) || !all_of(authority, HOST))
        why = "Host is malformed";
    else if (h.chunked && h.content_length >= 0)
        why = "both Content-Length and Transfer-Encoding";
    else if (h.chunked && r->minor_version == 0)
        why = "Transfer-Encoding in HTTP/1.0";
    else if (h.expect_other)
        why = "an expectation other than 100-continue";
    if (why) {
        *ret_why = why;
        return RP_HTTP_PARSE_BAD;
    }
    r->host = authority.p ? authority : h.host.p ? h.host : RP_STR("");
    r->keep_alive = !h.close && (r->minor_version >= 1 || h.keep_alive);
    r->upgrade = h.upgrade && r->minor_version >= 1;
    r->chunked = h.chunked;
    r->content_length = h.chunked ? -1 : RP_MAX(h.content_length, (int64_t)0);
    r->expect_continue = h.expect_continue && r->minor_version >= 1 && r->content_length != 0;
    r->header_count = h.header_count;
    return (ssize_t)h.at;
}

ssize_t rp_http_parse_response(struct rp_str bytes, struct rp_http_response *r, const char **ret_why)
{
    struct head h = {.bytes = bytes, .content_length = -1, .headers = r->headers};
    struct rp_str line, rest;
    ssize_t got = next_line(&h, &line);
    if (got > 0) {
        bool other;
        r->minor_version = parse_version(rp_str_cut(line, ' ', &rest), &other);
        struct rp_str status = rp_str_cut(rest, ' ', &r->reason);
        uint64_t n = 0;
        if (r->minor_version < 0 || status.n != 3 || !rp_str_to_u64(status, 599, &n) || n < 100 ||
            !all_of(r->reason, VALUE))
            got = bad(&h, "the status line is malformed");
        r->status = (int)n;
    }
    if (got > 0)
        got = parse_fields(&h);
    if (got > 0 && h.chunked && h.content_length >= 0)
        got = bad(&h, "both Content-Length and Transfer-Encoding");
    if (got > 0 && h.chunked && r->minor_version == 0)
        got = bad(&h, "Transfer-Encoding in HTTP/1.0");
    if (got <= 0) {
        *ret_why = h.why;
        return got;
    }
    r->keep_alive = !h.close && (r->minor_version >= 1 || h.keep_alive);
    r->upgrade = h.upgrade;
    r->chunked = h.chunked;
    r->content_length = h.content_length;
    r->header_count = h.header_count;
    return (ssize_t)h.at;
}
