/* The proxy's core between a real client and a scripted program on loopback: streaming, keep-alive, retries,
 * upgrades, hostile answers. */
#include "../net/http_client.h"

#include <fcntl.h>

#include "preview/site.h"

struct fixture {
    struct server_thread server;
    struct rp_site *site;
    struct client c;
    int listener; /* the program's */
    uint16_t port;
    bool refuse;
    _Atomic unsigned dials, touches;
};

struct answer_dial {
    rp_site_connected_fn *fn;
    void *ctx;
    int fd;
};

static void answer_dial(void *ctx)
{
    struct answer_dial a = *(struct answer_dial *)ctx;
    free(ctx);
    struct rp_error err;
    if (a.fd < 0)
        rp_error_set(&err, RP_ERROR_PORT_CLOSED, "nothing listens there");
    a.fn(a.ctx, a.fd, a.fd < 0 ? &err : NULL);
}

static void hook_connect(void *ctx, uint16_t port, rp_site_connected_fn *fn, void *fn_ctx)
{
    struct fixture *f = ctx;
    struct answer_dial *a = rp_alloc(sizeof(*a));
    *a = (struct answer_dial){fn, fn_ctx, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    f->dials++;
    if (connect(a->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        rp_close_fd(&a->fd);
    rp_loop_defer(f->server.loop, answer_dial, a);
}

static void hook_touch(void *ctx)
{
    ((struct fixture *)ctx)->touches++;
}

static void hook_failed(void *ctx, struct rp_http_exchange *x, uint16_t port, const struct rp_error *err)
{
    rp_http_reply_error(x, err);
}

static const struct rp_site_hooks hooks = {hook_connect, hook_touch, hook_failed};

static void handle(void *ctx, struct rp_http_exchange *x)
{
    struct fixture *f = ctx;
    uint16_t port = f->port;
    if (rp_str_is(rp_http_request_of(x)->path, "/closed"))
        port = 1;
    if (f->site)
        rp_site_proxy(f->site, x, port);
    else
        rp_http_reply(x, 200, NULL, RP_STR("no site"));
}

static void free_site(void *ctx)
{
    struct fixture *f = ctx;
    rp_site_free(f->site);
    f->site = NULL;
}

static void make_site(void *ctx)
{
    struct fixture *f = ctx;
    f->site = rp_site_new(f->server.loop, &hooks, f);
}

static int setup(void **state)
{
    struct fixture *f = rp_calloc(1, sizeof(*f));
    f->listener = listen_on_loopback(&f->port);
    fcntl(f->listener, F_SETFL, 0);
    struct timeval limit = {.tv_sec = 15};
    setsockopt(f->listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    server_start(&f->server, handle, f, &rp_http_limits_default);
    f->server.teardown = free_site;
    f->server.ctx = f;
    rp_loop_post(f->server.loop, make_site, f);
    f->c = dial(f->server.port);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hang_up(&f->c);
    server_stop(&f->server);
    close(f->listener);
    free(f);
    return 0;
}

/* The program's side of the next connection. */
static struct client answer_call(struct fixture *f)
{
    struct client u = {.fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC)};
    if (u.fd < 0)
        fail_msg("the proxy does not connect");
    struct timeval limit = {.tv_sec = 15};
    setsockopt(u.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    rp_buf_init(&u.in, 64 << 20);
    return u;
}

/* Reads a request head; the rest stays in u->in. */
static struct rp_http_request head_of(struct client *u)
{
    static struct rp_http_request r;
    static char text[65536];
    const char *why = "";
    ssize_t n;
    while ((n = rp_http_parse_request(rp_buf_view(&u->in), &r, &why)) == 0)
        if (!hear(u))
            fail_msg("the proxy hung up");
    if (n < 0)
        fail_msg("the proxy sent a bad request: %s", why);
    memcpy(text, rp_buf_view(&u->in).p, (size_t)n);
    rp_buf_consume(&u->in, (size_t)n);
    assert_true(rp_http_parse_request((struct rp_str){text, (size_t)n}, &r, &why) > 0);
    return r;
}

static void expect(struct client *c, int status, const char *body)
{
    struct answer a;
    read_answer(c, false, &a);
    assert_int_equal(a.head.status, status);
    assert_true(a.whole);
    if (body) {
        assert_int_equal(a.body.length, strlen(body));
        assert_memory_equal(rp_buf_view(&a.body).p, body, strlen(body));
    }
    answer_done(&a);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: 80-x.localhost\r\n\r\n"

static void connections_are_used_again(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, GET("/one"));
    struct client u = answer_call(f);
    struct rp_http_request r = head_of(&u);
    assert_true(rp_str_is(r.path, "/one"));
    assert_true(rp_str_is(r.host, "80-x.localhost"));
    assert_true(rp_str_is(rp_http_header(&r, "x-forwarded-for"), "127.0.0.1"));
    tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Own: 1\r\nX-Request-Id: own\r\n\r\none");
    struct answer a;
    read_answer(&f->c, false, &a);
    assert_true(rp_str_is(rp_buf_view(&a.body), "one"));
    assert_true(rp_str_is(answer_field(&a, "x-own"), "1"));
    assert_true(rp_str_is(answer_field(&a, "x-request-id"), "own"));
    answer_done(&a);
    for (int i = 0; i < 5; i++) {
        tell(&f->c, GET("/two"));
        head_of(&u);
        tell(&u, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\nX-Trailer: "
                 "1\r\n\r\n");
        expect(&f->c, 200, "two");
    }
    assert_int_equal(f->dials, 1);
    hang_up(&u);
}

static void a_stale_connection_is_tried_again(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, GET("/"));
    struct client u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.1 204 No Content\r\n\r\n");
    expect(&f->c, 204, NULL);
    /* closes as the next request arrives */
    tell(&f->c, GET("/again"));
    head_of(&u);
    hang_up(&u);
    u = answer_call(f);
    assert_true(rp_str_is(head_of(&u).path, "/again"));
    tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect(&f->c, 200, "ok");
    /* but not with a method that may have had its effect */
    tell(&f->c, "POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    head_of(&u);
    hang_up(&u);
    expect(&f->c, 502, NULL);
    assert_int_equal(f->dials, 2);
    /* nor twice */
    tell(&f->c, GET("/"));
    u = answer_call(f);
    head_of(&u);
    hang_up(&u);
    expect(&f->c, 502, NULL);
}

static void an_idle_connection_that_closes_or_speaks_is_dropped(void **state)
{
    struct fixture *f = *state;
    for (int speaks = 0; speaks < 2; speaks++) {
        tell(&f->c, GET("/"));
        struct client u = answer_call(f);
        head_of(&u);
        tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        expect(&f->c, 200, "ok");
        if (speaks)
            tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
        else
            shutdown(u.fd, SHUT_WR);
        assert_true(closed_by_peer(&u));
        hang_up(&u);
    }
}

static void bytes_after_a_response_never_reach_the_next(void **state)
{
    struct fixture *f = *state;
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200\r\n\r\npoison",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison",
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(answers); i++) {
        tell(&f->c, GET("/"));
        struct client u = answer_call(f);
        head_of(&u);
        tell(&u, answers[i]);
        struct answer a;
        read_answer(&f->c, false, &a);
        assert_in_range(a.head.status, 200, 304);
        assert_true(a.body.length <= 2);
        answer_done(&a);
        assert_true(closed_by_peer(&u));
        hang_up(&u);
    }
}

static void close_delimited_bodies_end_with_the_connection(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, GET("/"));
    struct client u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nsome");
    nap(20);
    tell(&u, " more");
    hang_up(&u);
    expect(&f->c, 200, "some more");
    tell(&f->c, GET("/")); /* the client's connection lives on */
    u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.1 200 OK\r\n\r\n");
    hang_up(&u);
    expect(&f->c, 200, "");
}

static void head_and_informational_responses(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    struct client u = answer_call(f);
    assert_true(rp_str_is(head_of(&u).method, "HEAD"));
    tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    struct answer a;
    read_answer(&f->c, true, &a);
    assert_int_equal(a.head.content_length, 1000);
    answer_done(&a);
    assert_true(closed_by_peer(&u)); /* a body may follow all the same */
    hang_up(&u);
    tell(&f->c, GET("/"));
    u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
             "Content-Length: 2\r\n\r\nok");
    expect(&f->c, 200, "ok");
    assert_int_equal(f->dials, 2);
    hang_up(&u);
}

static void request_bodies_stream(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n");
    struct client u = answer_call(f);
    struct rp_http_request r = head_of(&u);
    assert_int_equal(r.content_length, 6);
    assert_null(rp_http_header(&r, "expect").p);
    while (!memmem(rp_buf_view(&f->c.in).p, f->c.in.length, "100 Continue\r\n\r\n", 16))
        assert_true(hear(&f->c));
    tell(&f->c, "abc"); /* reaches the program before the rest is sent */
    while (u.in.length < 3)
        assert_true(hear(&u));
    tell(&f->c, "def");
    while (u.in.length < 6)
        assert_true(hear(&u));
    assert_true(rp_str_is(rp_buf_view(&u.in), "abcdef"));
    rp_buf_consume(&u.in, 6);
    tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect(&f->c, 200, "ok");
    tell(&f->c,
         "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n");
    assert_true(head_of(&u).chunked);
    struct rp_http_chunked d;
    rp_http_chunked_init(&d);
    char body[16];
    size_t n = 0;
    while (!rp_http_chunked_done(&d)) {
        struct rp_str data;
        if (!u.in.length)
            assert_true(hear(&u));
        ssize_t used = rp_http_chunked_next(&d, rp_buf_view(&u.in), &data);
        assert_true(used >= 0);
        memcpy(body + n, data.p, data.n);
        n += data.n;
        rp_buf_consume(&u.in, (size_t)used);
    }
    assert_memory_equal(body, "abcd", 4);
    tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect(&f->c, 200, "ok");
    assert_int_equal(f->dials, 1);
    hang_up(&u);
}

/* What a proxy that buffers little may grow by. AddressSanitizer keeps freed memory back for a while. */
#ifndef __has_feature /* clang's; gcc defines __SANITIZE_ADDRESS__ */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define GROWTH_KIB (16 * 1024)
#else
#define GROWTH_KIB 1024
#endif

static size_t resident_kib(void)
{
    unsigned long total, resident = 0;
    _cleanup_file_ FILE *m = fopen("/proc/self/statm", "re");
    assert_int_equal(fscanf(m, "%lu %lu", &total, &resident), 2);
    return resident * 4;
}

/* Writes until the other side stops reading: how much went through. */
static size_t fill(int fd)
{
    static const char block[65536];
    size_t total = 0;
    for (int quiet = 0; quiet < 20;) {
        ssize_t n = send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            total += (size_t)n;
            quiet = 0;
        } else {
            quiet++;
            nap(5);
        }
    }
    return total;
}

static void count_bytes(int fd, size_t want)
{
    static char sink[65536];
    while (want) {
        ssize_t n = recv(fd, sink, RP_MIN(want, sizeof(sink)), 0);
        assert_true(n > 0);
        want -= (size_t)n;
    }
}

static void slow_readers_hold_the_source_back(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, GET("/down"));
    struct client u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    size_t before = resident_kib();
    size_t sent = fill(u.fd);
    assert_true(sent < 40 << 20); /* the kernel's buffers of two connections */
    assert_true(resident_kib() < before + GROWTH_KIB);
    while (!memmem(rp_buf_view(&f->c.in).p, f->c.in.length, "\r\n\r\n", 4))
        assert_true(hear(&f->c));
    struct rp_str v = rp_buf_view(&f->c.in);
    size_t head = (size_t)((char *)memmem(v.p, v.n, "\r\n\r\n", 4) - v.p) + 4;
    count_bytes(f->c.fd, sent - (f->c.in.length - head));
    assert_true(fill(u.fd) > 0); /* it flows again */
    hang_up(&u);
    hang_up(&f->c);

    f->c = dial(f->server.port);
    tell(&f->c, "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    u = answer_call(f);
    head_of(&u);
    sent = fill(f->c.fd);
    assert_true(sent < 40 << 20);
    assert_true(resident_kib() < before + GROWTH_KIB);
    count_bytes(u.fd, sent - u.in.length);
    assert_true(fill(f->c.fd) > 0);
    hang_up(&u);
}

static void events_pass_at_once(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, GET("/events"));
    struct client u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    while (!memmem(rp_buf_view(&f->c.in).p, f->c.in.length, "\r\n\r\n", 4))
        assert_true(hear(&f->c));
    for (int i = 0; i < 3; i++) {
        rp_buf_consume(&f->c.in, f->c.in.length);
        tell(&u, "9\r\ndata: x\n\n\r\n");
        while (!memmem(rp_buf_view(&f->c.in).p, f->c.in.length, "data: x\n\n", 9))
            assert_true(hear(&f->c));
    }
    hang_up(&f->c); /* the program learns that its reader left */
    assert_true(closed_by_peer(&u));
    hang_up(&u);
    f->c = dial(f->server.port);
}

static void an_upgrade_becomes_a_tunnel(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: anything\r\n\r\nearly");
    struct client u = answer_call(f);
    struct rp_http_request r = head_of(&u);
    assert_true(r.upgrade);
    assert_true(rp_str_is(rp_http_header(&r, "upgrade"), "anything"));
    tell(&u, "HTTP/1.1 101 Sure\r\nConnection: Upgrade\r\nUpgrade: anything\r\nX-Own: 1\r\n\r\nhello");
    while (!memmem(rp_buf_view(&f->c.in).p, f->c.in.length, "\r\n\r\nhello", 9))
        assert_true(hear(&f->c));
    assert_non_null(memmem(rp_buf_view(&f->c.in).p, f->c.in.length, "X-Own: 1\r\n", 10));
    while (u.in.length < 5)
        assert_true(hear(&u));
    assert_true(rp_str_is(rp_buf_view(&u.in), "early"));
    size_t there = fill(f->c.fd), back = fill(u.fd); /* both directions are bounded */
    assert_true(there < 40 << 20 && back < 40 << 20);
    count_bytes(u.fd, there);
    count_bytes(f->c.fd, back);
    shutdown(f->c.fd, SHUT_WR); /* a half-close passes, and the other half still works */
    char b;
    assert_int_equal(recv(u.fd, &b, 1, 0), 0);
    tell(&u, "bye");
    assert_int_equal(recv(f->c.fd, &b, 1, 0), 1);
    hang_up(&u);
    f->c.in.length = 0;
    assert_true(closed_by_peer(&f->c));
}

static void a_refused_upgrade_is_an_ordinary_response(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    struct client u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    expect(&f->c, 403, "no");
    tell(&f->c, GET("/"));
    head_of(&u);
    tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect(&f->c, 200, "ok");
    hang_up(&u);
}

static void hostile_responses_become_502(void **state)
{
    static const char *const answers[] = {
        "nonsense\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/1.1 600 High\r\n\r\n",
        "HTTP/1.1 2xx OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200", /* and then the end */
        "",
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < RP_ARRAY_SIZE(answers); i++) {
        tell(&f->c, GET("/"));
        struct client u = answer_call(f);
        head_of(&u);
        tell(&u, answers[i]);
        shutdown(u.fd, SHUT_WR);
        struct answer a;
        read_answer(&f->c, false, &a);
        if (a.head.status != 502)
            fail_msg("%d for: %s", a.head.status, answers[i]);
        assert_true(rp_str_is(answer_field(&a, "content-type"), "application/problem+json"));
        answer_done(&a);
        hang_up(&u);
    }
    /* too large a head, and 1xx without end */
    char filler[40000];
    memset(filler, 'x', sizeof(filler));
    tell(&f->c, GET("/"));
    struct client u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.1 200 OK\r\nX: ");
    tell_bytes(&u, filler, sizeof(filler));
    expect(&f->c, 502, NULL);
    hang_up(&u);
    tell(&f->c, GET("/"));
    u = answer_call(f);
    head_of(&u);
    for (int i = 0; i < 30; i++)
        tell(&u, "HTTP/1.1 103 Early Hints\r\n\r\n");
    expect(&f->c, 502, NULL);
    hang_up(&u);
}

static void broken_bodies_are_cut(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < RP_ARRAY_SIZE(answers); i++) {
        struct client c = dial(f->server.port);
        tell(&c, GET("/"));
        struct client u = answer_call(f);
        head_of(&u);
        tell(&u, answers[i]);
        hang_up(&u);
        struct answer a;
        read_answer(&c, false, &a);
        assert_false(a.whole);
        answer_done(&a);
        hang_up(&c);
    }
}

static void a_closed_port_is_said(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    tell(&f->c, GET("/closed"));
    read_answer(&f->c, false, &a);
    assert_int_equal(a.head.status, 502);
    assert_true(rp_buf_append(&a.body, "", 1));
    assert_non_null(strstr(rp_buf_view(&a.body).p, "\"port_closed\""));
    answer_done(&a);
}

static void an_early_answer_to_an_upload_passes(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc");
    struct client u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    expect(&f->c, 401, "no");
    assert_true(closed_by_peer(&u)); /* its body never came: not used again */
    hang_up(&u);
    char rest[997];
    memset(rest, 'x', sizeof(rest));
    tell_bytes(&f->c, rest, sizeof(rest));
    tell(&f->c, GET("/"));
    u = answer_call(f);
    head_of(&u);
    tell(&u, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect(&f->c, 200, "ok");
    hang_up(&u);
}

static void the_end_of_the_site_ends_what_it_carries(void **state)
{
    struct fixture *f = *state;
    struct client waiting = dial(f->server.port), tunnel = dial(f->server.port), body = dial(f->server.port);
    tell(&waiting, GET("/waits"));
    struct client u1 = answer_call(f);
    head_of(&u1);
    tell(&tunnel, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    struct client u2 = answer_call(f);
    head_of(&u2);
    tell(&u2, "HTTP/1.1 101 Sure\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_true(hear(&tunnel));
    tell(&body, GET("/body"));
    struct client u3 = answer_call(f);
    head_of(&u3);
    tell(&u3, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    while (!memmem(rp_buf_view(&body.in).p, body.in.length, "half", 4))
        assert_true(hear(&body));
    rp_loop_post(f->server.loop, free_site, f);
    expect(&waiting, 503, NULL);
    assert_true(closed_by_peer(&tunnel));
    assert_true(closed_by_peer(&body));
    struct client *all[] = {&waiting, &tunnel, &body, &u1, &u2, &u3};
    for (size_t i = 0; i < RP_ARRAY_SIZE(all); i++)
        hang_up(all[i]);
}

static void a_client_that_leaves_while_dialling_costs_nothing(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 20; i++) {
        struct client c = dial(f->server.port);
        tell(&c, GET("/"));
        hang_up(&c);
    }
    for (int i = 0; i < 400 && (f->dials < 20 || rp_http_server_connections(f->server.server) != 1); i++)
        nap(5);
    assert_int_equal(f->dials, 20);
    assert_int_equal(rp_http_server_connections(f->server.server), 1);
    for (int i = 0; i < 200 && rp_site_active(f->site); i++)
        nap(5);
    assert_int_equal(rp_site_active(f->site), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(connections_are_used_again),
        T(a_stale_connection_is_tried_again),
        T(an_idle_connection_that_closes_or_speaks_is_dropped),
        T(bytes_after_a_response_never_reach_the_next),
        T(close_delimited_bodies_end_with_the_connection),
        T(head_and_informational_responses),
        T(request_bodies_stream),
        T(slow_readers_hold_the_source_back),
        T(events_pass_at_once),
        T(an_upgrade_becomes_a_tunnel),
        T(a_refused_upgrade_is_an_ordinary_response),
        T(hostile_responses_become_502),
        T(broken_bodies_are_cut),
        T(a_closed_port_is_said),
        T(an_early_answer_to_an_upload_passes),
        T(the_end_of_the_site_ends_what_it_carries),
        T(a_client_that_leaves_while_dialling_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
