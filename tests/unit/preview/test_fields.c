/* preview/fields.h: what passes the proxy and what does not. */
#include "../cmocka_all.h"

#include "preview/fields.h"

static struct rp_buf out;

static const char *request_for(const char *text, bool upgrade)
{
    static struct rp_http_request r;
    const char *why = "";
    if (rp_http_parse_request(rp_str_of(text), &r, &why) <= 0)
        fail_msg("%s", why);
    struct rp_forward f = {"192.0.2.1", "id-1", upgrade};
    rp_buf_done(&out);
    rp_buf_init(&out, 65536);
    assert_true(rp_fields_request(&out, &r, &f));
    assert_true(rp_buf_append(&out, "", 1));
    return rp_buf_view(&out).p;
}

#define OURS                                                                                                 \
    "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: h:1\r\nX-Forwarded-Proto: http\r\n"                     \
    "Forwarded: for=192.0.2.1;host=\"h:1\";proto=http\r\nX-Request-Id: id-1\r\n"

static void a_plain_request_passes(void **state)
{
    assert_string_equal(
        request_for("GET /a%20b?q=1&r HTTP/1.1\r\nHost: h:1\r\nAccept: */*\r\nX: \r\n\r\n", false),
        "GET /a%20b?q=1&r HTTP/1.1\r\nHost: h:1\r\nAccept: */*\r\nX: \r\n" OURS "\r\n");
    assert_string_equal(request_for("GET /a? HTTP/1.1\r\nHost: h:1\r\n\r\n", false),
                        "GET /a? HTTP/1.1\r\nHost: h:1\r\n" OURS "\r\n");
    assert_string_equal(request_for("GET http://h:1/x?y HTTP/1.1\r\nHost: other\r\n\r\n", false),
                        "GET /x?y HTTP/1.1\r\nHost: h:1\r\n" OURS "\r\n");
    assert_string_equal(request_for("OPTIONS * HTTP/1.1\r\nHost: h:1\r\n\r\n", false),
                        "OPTIONS * HTTP/1.1\r\nHost: h:1\r\n" OURS "\r\n");
}

static void bodies_are_framed_anew(void **state)
{
    assert_string_equal(
        request_for("POST / HTTP/1.1\r\nHost: h:1\r\nContent-Length: 007\r\nExpect: 100-continue\r\n\r\n",
                    false),
        "POST / HTTP/1.1\r\nHost: h:1\r\n" OURS "Content-Length: 7\r\n\r\n");
    assert_string_equal(request_for("POST / HTTP/1.1\r\nHost: h:1\r\nContent-Length: 0\r\n\r\n", false),
                        "POST / HTTP/1.1\r\nHost: h:1\r\n" OURS "Content-Length: 0\r\n\r\n");
    assert_string_equal(
        request_for("POST / HTTP/1.1\r\nHost: h:1\r\nTransfer-Encoding: Chunked\r\n\r\n", false),
        "POST / HTTP/1.1\r\nHost: h:1\r\n" OURS "Transfer-Encoding: chunked\r\n\r\n");
}

static void hop_by_hop_and_claims_are_dropped(void **state)
{
    assert_string_equal(
        request_for("GET / HTTP/1.1\r\nHost: h:1\r\nConnection: close, X-Hop\r\nConnection: x-two\r\n"
                    "X-Hop: 1\r\nX-Two: 2\r\nX-Three: 3\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n"
                    "Trailer: X\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n"
                    "Upgrade: h2c\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\n"
                    "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n"
                    "X-Real-IP: 10.0.0.1\r\nVia: 1.1 x\r\nX-Request-Id: theirs\r\n\r\n",
                    false),
        "GET / HTTP/1.1\r\nHost: h:1\r\nX-Three: 3\r\n" OURS "\r\n");
}

static void an_upgrade_passes_when_asked_for(void **state)
{
    assert_string_equal(request_for("GET / HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive, Upgrade\r\n"
                                    "Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
                                    true),
                        "GET / HTTP/1.1\r\nHost: h:1\r\nSec-WebSocket-Key: k\r\n" OURS
                        "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
}

static void control_credentials_stay_outside(void **state)
{
    assert_string_equal(
        request_for("GET / HTTP/1.1\r\nHost: h:1\r\nCookie: a=1; jwt=secret; b=\"2\"; JWT=x\r\n"
                    "Authorization: Bearer rpl_secret\r\n\r\n",
                    false),
        "GET / HTTP/1.1\r\nHost: h:1\r\nCookie: a=1; b=\"2\"\r\n" OURS "\r\n");
    assert_string_equal(
        request_for("GET / HTTP/1.1\r\nHost: h:1\r\nCookie: jwt=secret\r\nCookie: jwt =x;jwt2=y\r\n"
                    "Authorization: Bearer own\r\n\r\n",
                    false),
        "GET / HTTP/1.1\r\nHost: h:1\r\nCookie: jwt2=y\r\nAuthorization: Bearer own\r\n" OURS "\r\n");
}

static void ipv6_peers_are_quoted(void **state)
{
    struct rp_http_request r;
    const char *why;
    assert_true(rp_http_parse_request(RP_STR("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), &r, &why) > 0);
    struct rp_forward f = {"2001:db8::1", "i", false};
    rp_buf_done(&out);
    rp_buf_init(&out, 4096);
    assert_true(rp_fields_request(&out, &r, &f));
    assert_non_null(memmem(rp_buf_view(&out).p, out.length, "for=\"[2001:db8::1]\";", 20));
}

static void a_head_that_does_not_fit_is_said(void **state)
{
    struct rp_http_request r;
    const char *why;
    assert_true(rp_http_parse_request(RP_STR("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), &r, &why) > 0);
    struct rp_forward f = {"192.0.2.1", "i", false};
    for (size_t cap = 0; cap < 150; cap++) {
        struct rp_buf small;
        rp_buf_init(&small, cap);
        assert_false(rp_fields_request(&small, &r, &f));
        rp_buf_done(&small);
    }
}

static void collect(void *ctx, struct rp_str name, struct rp_str value)
{
    assert_true(rp_buf_printf(ctx, "%.*s: %.*s\n", (int)name.n, name.p, (int)value.n, value.p));
}

static const char *response_for(const char *text)
{
    struct rp_http_response r;
    const char *why = "";
    if (rp_http_parse_response(rp_str_of(text), &r, &why) <= 0)
        fail_msg("%s", why);
    rp_buf_done(&out);
    rp_buf_init(&out, 65536);
    struct rp_buf scratch;
    rp_buf_init(&scratch, 65536);
    rp_fields_response(&r, RP_STR("3000-x.localhost"), &scratch, collect, &out);
    rp_buf_done(&scratch);
    assert_true(rp_buf_append(&out, "", 1));
    return rp_buf_view(&out).p;
}

static void responses_lose_hop_by_hop_fields(void **state)
{
    assert_string_equal(response_for("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 3\r\n"
                                     "Connection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
                                     "Upgrade: h2c\r\nTrailer: x\r\nServer: s\r\nDate: d\r\n\r\n"),
                        "Content-Type: a/b\nServer: s\nDate: d\n");
}

static void cookies_stay_with_their_host(void **state)
{
    assert_string_equal(response_for("HTTP/1.1 200 OK\r\n"
                                     "Set-Cookie: jwt=evil; Path=/\r\n"
                                     "Set-Cookie: Jwt=evil\r\n"
                                     "Set-Cookie: =jwt=evil\r\n"
                                     "Set-Cookie: = =jwt=evil; Path=/\r\n"
                                     "Set-Cookie: a=1; Path=/; HttpOnly\r\n"
                                     "Set-Cookie: b=2; Domain=localhost; Path=/\r\n"
                                     "Set-Cookie: c=3; domain=.localhost\r\n"
                                     "Set-Cookie: d=4; Domain=3000-X.localhost; Secure\r\n"
                                     "Set-Cookie: e\r\n\r\n"),
                        "Set-Cookie: a=1; Path=/; HttpOnly\n"
                        "Set-Cookie: b=2; Path=/\n"
                        "Set-Cookie: c=3\n"
                        "Set-Cookie: d=4; Domain=3000-X.localhost; Secure\n"
                        "Set-Cookie: e\n");
}

static int done(void **state)
{
    rp_buf_done(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_request_passes),
        cmocka_unit_test(bodies_are_framed_anew),
        cmocka_unit_test(hop_by_hop_and_claims_are_dropped),
        cmocka_unit_test(an_upgrade_passes_when_asked_for),
        cmocka_unit_test(control_credentials_stay_outside),
        cmocka_unit_test(ipv6_peers_are_quoted),
        cmocka_unit_test(a_head_that_does_not_fit_is_said),
        cmocka_unit_test(responses_lose_hop_by_hop_fields),
        cmocka_unit_test(cookies_stay_with_their_host),
    };
    return cmocka_run_group_tests(tests, NULL, done);
}
