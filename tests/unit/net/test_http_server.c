/* The HTTP server over real sockets: keep-alive, bodies, flow control, limits, and hostile input. */
#include "http_client.h"

#include <sys/resource.h>

static const struct rp_http_limits limits = {
    .head_ms = 400,
    .idle_ms = 600,
    .progress_ms = 400,
    .linger_ms = 200,
    .connections = 60,
    .connections_per_address = 40,
    .limit_loopback = true,
    .drain_max = 1 << 20,
};

/* ---- handlers: one a path ---- */

struct job {
    struct rp_http_exchange *x;
    struct rp_timer *timer;
    uint64_t left;
    bool paused, ended;
};

static _Atomic unsigned closes, exchanges;

static void job_close(void *ctx)
{
    struct job *j = ctx;
    rp_timer_free(j->timer);
    free(j);
    closes++;
}

static struct job *job_new(struct rp_http_exchange *x)
{
    struct job *j = rp_calloc(1, sizeof(*j));
    j->x = x;
    rp_http_on_close(x, job_close, j);
    return j;
}

static void echo_collected(void *ctx, struct rp_http_exchange *x, struct rp_str body)
{
    rp_http_reply(x, 200, "application/octet-stream", body);
}

static void echo_drained(void *ctx)
{
    struct job *j = ctx;
    if (j->paused) {
        j->paused = false;
        rp_http_body_resume(j->x);
    }
}

static void echo_data(void *ctx, struct rp_str bytes)
{
    struct job *j = ctx;
    if (rp_http_send(j->x, bytes) == RP_WRITE_FULL) {
        j->paused = true;
        rp_http_body_pause(j->x);
    }
}

static void echo_end(void *ctx)
{
    rp_http_end(((struct job *)ctx)->x);
}

static void pump(void *ctx)
{
    static const char block[65536];
    struct job *j = ctx;
    enum rp_write w = RP_WRITE_OK;
    while (j->left && w == RP_WRITE_OK) {
        size_t n = j->left < sizeof(block) ? (size_t)j->left : sizeof(block);
        w = rp_http_send(j->x, (struct rp_str){block, n});
        j->left -= n;
    }
    if (!j->left && !j->ended) {
        j->ended = true;
        rp_http_end(j->x);
    }
}

static void reply_late(void *ctx)
{
    rp_http_reply(((struct job *)ctx)->x, 200, "text/plain", RP_STR("late"));
}

static void collect_late(void *ctx)
{
    rp_http_body_collect(((struct job *)ctx)->x, 1024, echo_collected, NULL);
}

static void event(void *ctx)
{
    struct job *j = ctx;
    rp_http_send(j->x, RP_STR("data: 1\n\n"));
}

static void later(struct job *j, rp_timer_fn *fn, unsigned ms)
{
    j->timer = rp_timer_new(rp_http_loop(j->x), fn, j);
    rp_timer_start(j->timer, ms, 0);
}

static void handle(void *ctx, struct rp_http_exchange *x)
{
    const struct rp_http_request *r = rp_http_request_of(x);
    exchanges++;
    if (rp_str_is(r->path, "/hello")) {
        rp_http_reply(x, 200, "text/plain", RP_STR("hello"));
    } else if (rp_str_is(r->path, "/echo")) {
        rp_http_body_collect(x, 1 << 20, echo_collected, NULL);
    } else if (rp_str_is(r->path, "/small")) {
        rp_http_body_collect(x, 10, echo_collected, NULL);
    } else if (rp_str_is(r->path, "/echo-stream")) {
        struct job *j = job_new(x);
        static const struct rp_http_body_callbacks callbacks = {echo_data, echo_end};
        rp_http_on_drain(x, echo_drained, j);
        rp_http_begin(x, 200, NULL, -1);
        rp_http_body_stream(x, &callbacks, j);
    } else if (rp_str_is(r->path, "/big") || rp_str_is(r->path, "/big-chunked")) {
        struct job *j = job_new(x);
        char text[32];
        size_t n;
        assert_int_equal(rp_http_query(r, "n", text, sizeof(text), &n), 1);
        assert_true(rp_str_to_u64((struct rp_str){text, n}, UINT64_MAX, &j->left));
        rp_http_on_drain(x, pump, j);
        rp_http_begin(x, 200, "x/y", rp_str_is(r->path, "/big") ? (int64_t)j->left : -1);
        pump(j);
    } else if (rp_str_is(r->path, "/whole")) {
        static const char block[8 << 20];
        rp_http_reply(x, 200, NULL, (struct rp_str){block, sizeof(block)});
    } else if (rp_str_is(r->path, "/late")) {
        later(job_new(x), reply_late, 30);
    } else if (rp_str_is(r->path, "/collect-late")) {
        later(job_new(x), collect_late, 30);
    } else if (rp_str_is(r->path, "/events")) {
        struct job *j = job_new(x);
        rp_http_begin(x, 200, "text/event-stream", -1);
        later(j, event, 30);
    } else if (rp_str_is(r->path, "/never")) {
        job_new(x);
    } else if (rp_str_is(r->path, "/short")) {
        rp_http_begin(x, 200, NULL, 10);
        rp_http_send(x, RP_STR("short"));
        rp_http_end(x);
    } else if (rp_str_is(r->path, "/abort")) {
        rp_http_begin(x, 200, NULL, -1);
        rp_http_send(x, RP_STR("some"));
        rp_http_abort(x);
    } else if (rp_str_is(r->path, "/fields")) {
        rp_http_set_header_text(x, "X-One", "1");
        rp_http_set_header_text(x, "Set-Cookie", "a=1");
        rp_http_set_header_text(x, "Set-Cookie", "b=2");
        rp_http_set_header_text(x, "X-Split", "a\r\nX-Evil: 1");
        rp_http_set_header_text(x, "Bad Name", "1");
        rp_http_set_header_text(x, "Content-Length", "999");
        rp_http_set_header_text(x, "Date", "then");
        rp_http_reply(x, 204, NULL, RP_STR(""));
    } else {
        struct rp_error err;
        rp_error_field(&err, "/path", "nothing is at \"%.*s\"", (int)r->path.n, r->path.p);
        err.code = RP_ERROR_NOT_FOUND;
        rp_http_reply_error(x, &err);
    }
}

struct fixture {
    struct server_thread server;
    struct client c;
};

static int setup(void **state)
{
    struct fixture *f = rp_calloc(1, sizeof(*f));
    server_start(&f->server, handle, f, &limits);
    f->c = dial(f->server.port);
    *state = f;
    closes = exchanges = 0;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hang_up(&f->c);
    server_stop(&f->server);
    free(f);
    return 0;
}

#define HOST "Host: a\r\n"

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

/* ---- what ought to work ---- */

static void a_request_is_answered_and_the_connection_kept(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        tell(&f->c, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
        struct answer a;
        read_answer(&f->c, false, &a);
        assert_int_equal(a.head.status, 200);
        assert_true(rp_str_is(rp_buf_view(&a.body), "hello"));
        assert_true(a.head.keep_alive);
        assert_int_equal(answer_field(&a, "x-request-id").n, 16);
        assert_int_equal(answer_field(&a, "date").n, 29);
        assert_null(answer_field(&a, "server").p);
        answer_done(&a);
    }
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "GET /late HTTP/1.1\r\n" HOST "\r\n"
                "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
                "GET /hello HTTP/1.1\r\n" HOST "\r\n"
                "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n"
                "GET /late HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    expect(&f->c, 200, "late");
    expect(&f->c, 200, "abc");
    expect(&f->c, 200, "hello");
    expect(&f->c, 200, "xy");
    expect(&f->c, 200, "late");
    assert_true(closed_by_peer(&f->c));
}

static void a_head_may_come_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    const char *text =
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n";
    for (; *text; text++) {
        tell_bytes(&f->c, text, 1);
        nap(1);
    }
    expect(&f->c, 200, "abc");
}

static void old_clients_are_served(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    struct answer a;
    read_answer(&f->c, false, &a);
    assert_true(rp_str_is_nocase(answer_field(&a, "connection"), "keep-alive"));
    answer_done(&a);
    tell(&f->c, "GET /big-chunked?n=100000 HTTP/1.0\r\n\r\n");
    read_answer(&f->c, false, &a);
    assert_false(a.head.chunked);
    assert_int_equal(a.body.length, 100000);
    answer_done(&a);
}

static void head_has_no_body(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    static const char *const requests[] = {"HEAD /hello HTTP/1.1\r\n" HOST "\r\n",
                                           "HEAD /big?n=70000 HTTP/1.1\r\n" HOST "\r\n",
                                           "HEAD /big-chunked?n=70000 HTTP/1.1\r\n" HOST "\r\n"};
    static const int64_t lengths[] = {5, 70000, -1};
    for (size_t i = 0; i < RP_ARRAY_SIZE(requests); i++) {
        tell(&f->c, requests[i]);
        read_answer(&f->c, true, &a);
        assert_int_equal(a.head.content_length, lengths[i]);
        answer_done(&a);
    }
    tell(&f->c, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    expect(&f->c, 200, "hello");
}

static void fields_are_added_and_checked(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    tell(&f->c, "GET /fields HTTP/1.1\r\n" HOST "X-Request-Id: my-id.1\r\n\r\n");
    read_answer(&f->c, false, &a);
    assert_int_equal(a.head.status, 204);
    assert_true(rp_str_is(answer_field(&a, "x-one"), "1"));
    assert_true(rp_str_is(answer_field(&a, "date"), "then"));
    assert_true(rp_str_is(answer_field(&a, "x-request-id"), "my-id.1"));
    assert_null(answer_field(&a, "x-split").p);
    assert_null(answer_field(&a, "x-evil").p);
    assert_null(answer_field(&a, "content-length").p);
    unsigned cookies = 0, dates = 0;
    for (size_t i = 0; i < a.head.header_count; i++) {
        cookies += rp_str_is_nocase(a.head.headers[i].name, "set-cookie");
        dates += rp_str_is_nocase(a.head.headers[i].name, "date");
    }
    assert_int_equal(cookies, 2);
    assert_int_equal(dates, 1);
    answer_done(&a);
    tell(&f->c, "GET /hello HTTP/1.1\r\n" HOST "X-Request-Id: not sane\r\n\r\n");
    read_answer(&f->c, false, &a);
    assert_int_equal(answer_field(&a, "x-request-id").n, 16);
    answer_done(&a);
}

static void errors_are_problem_json(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    tell(&f->c, "GET /nothing HTTP/1.1\r\n" HOST "\r\n");
    read_answer(&f->c, false, &a);
    assert_int_equal(a.head.status, 404);
    assert_true(rp_str_is(answer_field(&a, "content-type"), "application/problem+json"));
    assert_true(rp_buf_append(&a.body, "", 1));
    const char *text = rp_buf_view(&a.body).p;
    assert_non_null(strstr(text, "\"code\":\"not_found\""));
    assert_non_null(strstr(text, "\"status\":404"));
    assert_non_null(strstr(text, "\"errors\":[{\"pointer\":\"/path\""));
    assert_non_null(strstr(text, "\"request_id\":\""));
    answer_done(&a);
}

static void large_bodies_stream_both_ways(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    static char body[3 << 20];
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (char)(i * 7 + (i >> 10));
    /* written by another thread, since the echo blocks when nobody reads it */
    for (int chunked = 0; chunked < 2; chunked++) {
        char head[200];
        snprintf(head, sizeof(head), "POST /echo-stream HTTP/1.1\r\n" HOST "%s: %s\r\n\r\n",
                 chunked ? "Transfer-Encoding" : "Content-Length", chunked ? "chunked" : "3145728");
        pid_t pid = fork();
        if (pid == 0) {
            tell(&f->c, head);
            for (size_t at = 0; at < sizeof(body); at += 65536) {
                if (chunked)
                    tell(&f->c, "10000\r\n");
                tell_bytes(&f->c, body + at, 65536);
                if (chunked)
                    tell(&f->c, "\r\n");
            }
            if (chunked)
                tell(&f->c, "0\r\n\r\n");
            _exit(0);
        }
        read_answer(&f->c, false, &a);
        assert_int_equal(a.body.length, sizeof(body));
        assert_true(a.whole);
        assert_memory_equal(rp_buf_view(&a.body).p, body, sizeof(body));
        answer_done(&a);
    }
    tell(&f->c, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    expect(&f->c, 200, "hello");
}

static size_t resident_kib(void)
{
    unsigned long total, resident = 0;
    _cleanup_file_ FILE *m = fopen("/proc/self/statm", "re");
    assert_int_equal(fscanf(m, "%lu %lu", &total, &resident), 2);
    return resident * 4;
}

static void a_slow_reader_costs_no_memory(void **state)
{
    struct fixture *f = *state;
    size_t before = resident_kib();
    tell(&f->c, "GET /big?n=1000000000 HTTP/1.1\r\n" HOST "\r\n");
    char some[65536];
    for (int i = 0; i < 20; i++) {
        assert_true(recv(f->c.fd, some, sizeof(some), 0) > 0);
        nap(5);
    }
    assert_true(resident_kib() < before + 1500);
    /* and is cut when it stands still */
    nap(1000);
    while (recv(f->c.fd, some, sizeof(some), 0) > 0)
        ;
    assert_int_equal(closes, 1);
}

static void a_whole_reply_survives_a_slow_reader(void **state)
{
    struct fixture *f = *state;
    int small = 16384;
    setsockopt(f->c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    tell(&f->c, "GET /whole HTTP/1.1\r\n" HOST "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n");
    size_t total = 0, pause_at = 0;
    char some[65536];
    while (total < 8 << 20) { /* takes three times as long as a connection may be idle */
        ssize_t n = recv(f->c.fd, some, sizeof(some), 0);
        assert_true(n > 0);
        total += (size_t)n;
        if (total > pause_at) {
            nap(100);
            pause_at += (8 << 20) / 18;
        }
    }
    while (!memmem(rp_buf_view(&f->c.in).p, f->c.in.length, "hello", 5))
        assert_true(hear(&f->c));
}

static void events_leave_at_once(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "GET /events HTTP/1.1\r\n" HOST "\r\n");
    /* the head before the first event, then the event without an end */
    while (!memmem(rp_buf_view(&f->c.in).p, f->c.in.length, "\r\n\r\n", 4))
        assert_true(hear(&f->c));
    while (!memmem(rp_buf_view(&f->c.in).p, f->c.in.length, "data: 1\n\n", 9))
        assert_true(hear(&f->c));
}

static void a_handler_may_take_longer_than_the_timeouts(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "GET /never HTTP/1.1\r\n" HOST "\r\n");
    nap(900);
    char b;
    assert_int_equal(recv(f->c.fd, &b, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static void half_closing_clients_get_their_answer(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "GET /late HTTP/1.1\r\n" HOST "\r\n");
    shutdown(f->c.fd, SHUT_WR);
    expect(&f->c, 200, "late");
    assert_true(closed_by_peer(&f->c));
}

static void on_close_comes_when_the_client_leaves(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "POST /never HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n");
    nap(50);
    assert_int_equal(closes, 0);
    shutdown(f->c.fd, SHUT_RDWR);
    for (int i = 0; i < 100 && !closes; i++)
        nap(10);
    assert_int_equal(closes, 1);
}

static void expect_continue(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "POST /collect-late HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_true(hear(&f->c));
    assert_true(rp_str_is(rp_buf_view(&f->c.in), "HTTP/1.1 100 Continue\r\n\r\n"));
    tell(&f->c, "abc");
    expect(&f->c, 200, "abc");
    /* refused before the body: no 100, and the connection closes */
    tell(&f->c, "POST /small HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n");
    expect(&f->c, 413, NULL);
    assert_true(closed_by_peer(&f->c));
}

static void too_large_keeps_the_connection_when_it_is_cheap(void **state)
{
    struct fixture *f = *state;
    tell(&f->c,
         "POST /small HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\n01234567890"
         "POST /small HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n"
         "POST /small HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789");
    expect(&f->c, 413, NULL);
    expect(&f->c, 413, NULL);
    expect(&f->c, 200, "0123456789");
    tell(&f->c, "POST /small HTTP/1.1\r\n" HOST "Content-Length: 9000000000\r\n\r\n");
    struct answer a;
    read_answer(&f->c, false, &a);
    assert_int_equal(a.head.status, 413);
    assert_false(a.head.keep_alive);
    answer_done(&a);
    assert_true(closed_by_peer(&f->c));
}

static void an_unread_body_is_drained(void **state)
{
    struct fixture *f = *state;
    static char body[500000];
    tell(&f->c, "POST /hello HTTP/1.1\r\n" HOST "Content-Length: 500000\r\n\r\n");
    tell_bytes(&f->c, body, sizeof(body));
    tell(&f->c, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    expect(&f->c, 200, "hello");
    expect(&f->c, 200, "hello");
}

static void a_response_that_is_not_whole_shows(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    tell(&f->c, "GET /short HTTP/1.1\r\n" HOST "\r\n");
    read_answer(&f->c, false, &a);
    assert_false(a.whole);
    answer_done(&a);
    struct client other = dial(f->server.port);
    tell(&other, "GET /abort HTTP/1.1\r\n" HOST "\r\n");
    read_answer(&other, false, &a);
    assert_false(a.whole);
    answer_done(&a);
    hang_up(&other);
    other = dial(f->server.port);
    tell(&other, "GET /abort HTTP/1.0\r\n\r\n");
    char sink[4096];
    ssize_t n;
    while ((n = recv(other.fd, sink, sizeof(sink), 0)) > 0)
        ;
    assert_int_equal(n, -1);
    assert_int_equal(errno, ECONNRESET);
    hang_up(&other);
}

/* ---- hostile input: each gets its status, the connection is closed, the next client is served ---- */

static const struct {
    const char *input;
    int status;
} hostile[] = {
    {"GET /hello HTTP/1.1\n" HOST "\n", 400},
    {"GET /hello HTTP/1.1\r\nHost: a\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n" HOST HOST "\r\n", 400},
    {"GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n" HOST "X : a\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n" HOST "X\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n" HOST ": a\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n" HOST "X: \x01\r\n\r\n", 400},
    {"GET  /hello HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET /hel lo HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET /hello HTTP/1.1 \r\n" HOST "\r\n", 400},
    {"GET /hello\r\n" HOST "\r\n", 400},
    {"GET hello HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET /h\xc3\xa9llo HTTP/1.1\r\n" HOST "\r\n", 400},
    {"G@T /hello HTTP/1.1\r\n" HOST "\r\n", 400},
    {"CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET /hello HTTP/1.15\r\n" HOST "\r\n", 400},
    {"GET /hello HTTP/2.0\r\n" HOST "\r\n", 501},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 501},
    {"\x16\x03\x01\x02", 400},
    {"\r\n\r\n\r\n\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3, 3\r\n\r\nabc", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\nabc", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\nabc", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\nabc", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: \r\n\r\nabc", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775808\r\n\r\nabc", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775807\r\n\r\nabc", 413},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
     "chunked\r\n\r\n0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
    {"POST /echo HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nx\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\na\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\nT: \x01\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n" HOST "Expect: 200-ok\r\n\r\n", 400},
    {"GET /hello HTTP/1.1\r\n" HOST "Connection: @\r\n\r\n", 400},
    {"GET http:///x HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET * HTTP/1.1\r\n" HOST "\r\n", 400},
};

static void refused(struct fixture *f, const char *p, size_t n, int status)
{
    struct client c = dial(f->server.port);
    struct answer a;
    tell_bytes(&c, p, n);
    read_answer(&c, false, &a);
    if (a.head.status != status)
        fail_msg("%d in place of %d for: %.*s", a.head.status, status, (int)RP_MIN(n, (size_t)300), p);
    assert_true(rp_str_is(answer_field(&a, "content-type"), "application/problem+json"));
    assert_false(a.head.keep_alive);
    answer_done(&a);
    assert_true(closed_by_peer(&c));
    assert_int_equal(c.in.length, 0); /* what follows is not taken for a request */
    hang_up(&c);
}

static void hostile_requests_are_refused(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < RP_ARRAY_SIZE(hostile); i++)
        refused(f, hostile[i].input, strlen(hostile[i].input), hostile[i].status);
    static const char nul[] = "GET /hello HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n";
    refused(f, nul, sizeof(nul) - 1, 400);
    static const char nul_in_target[] = "GET /hel\0lo HTTP/1.1\r\n" HOST "\r\n";
    refused(f, nul_in_target, sizeof(nul_in_target) - 1, 400);
    tell(&f->c, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    expect(&f->c, 200, "hello");
}

static void oversize_heads_are_refused(void **state)
{
    struct fixture *f = *state;
    struct rp_buf b;
    rp_buf_init(&b, 1 << 20);
    char filler[40000];
    memset(filler, 'a', sizeof(filler));
    assert_true(rp_buf_append(&b, "GET /", 5) && rp_buf_append(&b, filler, 8200) &&
                rp_buf_printf(&b, " HTTP/1.1\r\n" HOST "\r\n"));
    refused(f, rp_buf_view(&b).p, b.length, 431);
    rp_buf_done(&b);
    assert_true(rp_buf_append(&b, "GET /", 5) && rp_buf_append(&b, filler, 9000)); /* its line never ends */
    assert_true(rp_buf_append(&b, filler, 30000));
    refused(f, rp_buf_view(&b).p, b.length, 431);
    rp_buf_done(&b);
    assert_true(rp_buf_printf(&b, "GET / HTTP/1.1\r\n" HOST "X: ") && rp_buf_append(&b, filler, 33000) &&
                rp_buf_printf(&b, "\r\n\r\n"));
    refused(f, rp_buf_view(&b).p, b.length, 431);
    rp_buf_done(&b);
    assert_true(rp_buf_printf(&b, "GET / HTTP/1.1\r\n" HOST));
    for (int i = 0; i < 100; i++)
        assert_true(rp_buf_printf(&b, "X%d: 1\r\n", i));
    assert_true(rp_buf_printf(&b, "\r\n"));
    refused(f, rp_buf_view(&b).p, b.length, 431);
    rp_buf_done(&b);
}

static void a_bad_chunk_after_the_response_began_cuts(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    tell(&f->c, "POST /echo-stream HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    nap(30);
    tell(&f->c, "zzz\r\n");
    read_answer(&f->c, false, &a);
    assert_int_equal(a.head.status, 200);
    assert_false(a.whole);
    answer_done(&a);
}

static void half_a_head_gets_408(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    tell(&f->c, "GET /hello HTTP/1.1\r\nHo");
    read_answer(&f->c, false, &a);
    assert_int_equal(a.head.status, 408);
    answer_done(&a);
    assert_true(closed_by_peer(&f->c));
}

static void a_dripping_head_gets_408(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    for (int i = 0; i < 30; i++) {
        tell_bytes(&f->c, &"X: 1\r\n"[i % 6], 1);
        nap(20);
    }
    read_answer(&f->c, false, &a);
    assert_true(a.head.status == 408 || a.head.status == 400);
    answer_done(&a);
}

static void a_body_that_stands_still_gets_408(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    tell(&f->c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc");
    read_answer(&f->c, false, &a);
    assert_int_equal(a.head.status, 408);
    answer_done(&a);
}

static void idle_and_silent_connections_are_closed(void **state)
{
    struct fixture *f = *state;
    struct client kept = dial(f->server.port);
    tell(&kept, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    expect(&kept, 200, "hello");
    assert_true(closed_by_peer(&f->c)); /* said nothing */
    assert_int_equal(f->c.in.length, 0);
    assert_true(closed_by_peer(&kept));
    hang_up(&kept);
}

static void silent_connections_make_room(void **state)
{
    struct fixture *f = *state;
    enum { N = 150 };
    struct client silent[N];
    for (int i = 0; i < N; i++) {
        silent[i] = dial(f->server.port);
        if (i % 3 == 0)
            tell(&silent[i], "GET /hel");
    }
    struct client c = dial(f->server.port);
    tell(&c, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    expect(&c, 200, "hello");
    hang_up(&c);
    for (int i = 0; i < N; i++)
        hang_up(&silent[i]);
}

static void busy_connections_are_limited(void **state)
{
    struct fixture *f = *state;
    enum { N = 40 };
    struct client busy[N];
    hang_up(&f->c);
    nap(50);
    for (int i = 0; i < N; i++) {
        busy[i] = dial(f->server.port);
        tell(&busy[i], "GET /never HTTP/1.1\r\n" HOST "\r\n");
    }
    for (int i = 0; i < 200 && exchanges < N; i++)
        nap(5);
    f->c = dial(f->server.port);
    struct answer a;
    read_answer(&f->c, false, &a);
    assert_int_equal(a.head.status, 503);
    answer_done(&a);
    for (int i = 0; i < N; i++)
        hang_up(&busy[i]);
}

static void running_out_of_descriptors_is_survived(void **state)
{
    struct fixture *f = *state;
    tell(&f->c, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    expect(&f->c, 200, "hello");
    struct rlimit old, low;
    getrlimit(RLIMIT_NOFILE, &old);
    int next = dup(0);
    close(next);
    low = old;
    low.rlim_cur = (rlim_t)next + 6;
    int fds[64];
    unsigned n = 0;
    setrlimit(RLIMIT_NOFILE, &low);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(f->server.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    /* ours and the server's descriptors are of the same process: some connections wait in the queue */
    while (n < RP_ARRAY_SIZE(fds) && (fds[n] = socket(AF_INET, SOCK_STREAM, 0)) >= 0) {
        assert_int_equal(connect(fds[n], (struct sockaddr *)&a, sizeof(a)), 0);
        n++;
    }
    nap(100);
    setrlimit(RLIMIT_NOFILE, &old);
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
    struct client c = dial(f->server.port);
    tell(&c, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    expect(&c, 200, "hello");
    hang_up(&c);
}

static void drain_on_loop(void *ctx)
{
    rp_http_server_drain(((struct fixture *)ctx)->server.server);
}

static void draining_lets_exchanges_finish(void **state)
{
    struct fixture *f = *state;
    struct client idle = dial(f->server.port);
    tell(&f->c, "GET /late HTTP/1.1\r\n" HOST "\r\nGET /late HTTP/1.1\r\n" HOST "\r\n");
    nap(15);
    rp_loop_post(f->server.loop, drain_on_loop, f);
    assert_true(closed_by_peer(&idle));
    struct answer a;
    read_answer(&f->c, false, &a);
    assert_int_equal(a.head.status, 200);
    assert_false(a.head.keep_alive);
    answer_done(&a);
    assert_true(closed_by_peer(&f->c));
    assert_int_equal(f->c.in.length, 0);
    hang_up(&idle);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_request_is_answered_and_the_connection_kept),
        T(pipelined_requests_are_answered_in_order),
        T(a_head_may_come_byte_by_byte),
        T(old_clients_are_served),
        T(head_has_no_body),
        T(fields_are_added_and_checked),
        T(errors_are_problem_json),
        T(large_bodies_stream_both_ways),
        T(a_slow_reader_costs_no_memory),
        T(a_whole_reply_survives_a_slow_reader),
        T(events_leave_at_once),
        T(a_handler_may_take_longer_than_the_timeouts),
        T(half_closing_clients_get_their_answer),
        T(on_close_comes_when_the_client_leaves),
        T(expect_continue),
        T(too_large_keeps_the_connection_when_it_is_cheap),
        T(an_unread_body_is_drained),
        T(a_response_that_is_not_whole_shows),
        T(hostile_requests_are_refused),
        T(oversize_heads_are_refused),
        T(a_bad_chunk_after_the_response_began_cuts),
        T(half_a_head_gets_408),
        T(a_dripping_head_gets_408),
        T(a_body_that_stands_still_gets_408),
        T(idle_and_silent_connections_are_closed),
        T(silent_connections_make_room),
        T(busy_connections_are_limited),
        T(running_out_of_descriptors_is_survived),
        T(draining_lets_exchanges_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
