/* The request head parser. What it accepts must obey the rules that keep two parsers from reading it
 * differently. */
#include <stdlib.h>

#include "net/http_parser.h"
#include "preview/fields.h"
#include "preview/host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static bool inside(struct rp_str s, const char *p, size_t n)
{
    return s.n == 0 || (s.p >= p && s.p + s.n <= p + n) || rp_str_is(s, "/");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rp_http_request r, again;
    struct rp_str all = {(const char *)data, size};
    const char *why = NULL;
    ssize_t n = rp_http_parse_request(all, &r, &why);
    check(n <= 0 || (size_t)n <= size);
    check(n >= 0 || why);
    if (n <= 0)
        return 0;
    check(n <= RP_HTTP_HEAD_MAX && memcmp(all.p + n - 4, "\r\n\r\n", 4) == 0);
    check(inside(r.path, all.p, (size_t)n) && inside(r.query, all.p, (size_t)n) &&
          inside(r.host, all.p, (size_t)n));
    check(r.path.n && r.path.p[0] == '/');
    check(!(r.chunked && r.content_length >= 0));
    check(r.chunked == (r.content_length == -1));
    unsigned framing = 0;
    for (size_t i = 0; i < r.header_count; i++) {
        struct rp_str v = r.headers[i].value;
        check(rp_http_is_token(r.headers[i].name) && inside(v, all.p, (size_t)n));
        for (size_t k = 0; k < v.n; k++)
            check(v.p[k] != '\r' && v.p[k] != '\n' && v.p[k] != '\0');
        framing += rp_str_is_nocase(r.headers[i].name, "content-length");
        framing += rp_str_is_nocase(r.headers[i].name, "transfer-encoding");
    }
    check(framing <= 1);
    /* a whole head is the same however much follows, and is not whole before its end */
    check(rp_http_parse_request((struct rp_str){all.p, (size_t)n}, &again, &why) == n);
    check(rp_http_parse_request((struct rp_str){all.p, (size_t)n - 1}, &again, &why) == 0);

    char text[256];
    size_t length;
    (void)rp_http_query(&r, "q", text, sizeof(text), &length);
    (void)rp_http_percent_decode(r.path, text, sizeof(text), &length);
    (void)rp_host_parse(r.host, "localhost", "127.0.0.1:8000");

    /* what the proxy makes of it is a request again, with the same framing and without the control cookie */
    struct rp_buf out;
    rp_buf_init(&out, 256 * 1024);
    struct rp_forward f = {"192.0.2.1", "id",
                           r.upgrade && rp_http_header(&r, "upgrade").n && r.content_length == 0};
    if (rp_fields_request(&out, &r, &f) && r.host.n) {
        ssize_t m = rp_http_parse_request(rp_buf_view(&out), &again, &why);
        if (m == (ssize_t)out.length) {
            check(again.chunked == r.chunked && again.content_length == r.content_length);
            check(rp_str_equal(again.method, r.method) && rp_str_equal(again.host, r.host));
        } else {
            /* only our own fields may have made it too large */
            check(m == RP_HTTP_PARSE_TOO_LARGE);
        }
    }
    rp_buf_done(&out);
    return 0;
}
