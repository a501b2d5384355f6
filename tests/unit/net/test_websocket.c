/* The WebSocket server over real sockets: the handshake, echoes, and each rule of RFC 6455 that a client can
 * break. */
#include "http_client.h"

#include "net/sha1.h"
#include "net/websocket.h"
#include "net/websocket_frame.h"

enum { MESSAGE_MAX = 100000, OUTPUT_CAP = 256 * 1024 };

static _Atomic int last_code, messages;

struct echo {
    struct rp_websocket *ws;
};

static void on_binary(void *ctx, struct rp_str bytes)
{
    struct echo *e = ctx;
    messages++;
    struct rp_str halves[2] = {{bytes.p, bytes.n / 2}, {bytes.p + bytes.n / 2, bytes.n - bytes.n / 2}};
    if (rp_websocket_send_binary(e->ws, halves, 2) == RP_WRITE_FULL)
        rp_websocket_pause(e->ws);
}

static void on_text(void *ctx, struct rp_str text)
{
    struct echo *e = ctx;
    messages++;
    if (rp_str_is(text, "close me"))
        rp_websocket_close(e->ws, 1000, "bye");
    else if (rp_str_is(text, "overflow"))
        for (int i = 0; i < 1000; i++) {
            static const char block[65536];
            if (rp_websocket_send_binary(e->ws, &(struct rp_str){block, sizeof(block)}, 1) == RP_WRITE_FAILED)
                break;
        }
    else
        rp_websocket_send_text(e->ws, text);
}

static void on_drain(void *ctx)
{
    rp_websocket_resume(((struct echo *)ctx)->ws);
}

static void on_close(void *ctx, int code)
{
    last_code = code;
    free(ctx);
}

static void handle(void *ctx, struct rp_http_exchange *x)
{
    static const struct rp_websocket_callbacks callbacks = {on_binary, on_text, on_drain, on_close};
    static const struct rp_websocket_options options = {MESSAGE_MAX, OUTPUT_CAP, NULL};
    static const struct rp_websocket_options with_protocol = {MESSAGE_MAX, OUTPUT_CAP, "chat"};
    const struct rp_http_request *r = rp_http_request_of(x);
    if (rp_str_is(r->path, "/reject")) {
        rp_websocket_reject(x, 4404, "no such project");
        return;
    }
    struct echo *e = rp_calloc(1, sizeof(*e));
    e->ws = rp_websocket_accept(x, rp_str_is(r->path, "/chat") ? &with_protocol : &options, &callbacks, e);
    if (!e->ws)
        free(e);
}

static void close_all(void *ctx)
{
    struct server_thread *s = ctx;
    rp_websocket_close_all(s->loop, 1001, "restart");
}

struct fixture {
    struct server_thread server;
    struct client c;
};

static void shake(struct client *c)
{
    tell(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    char *end;
    do {
        assert_true(hear(c));
    } while (!(end = memmem(rp_buf_view(&c->in).p, c->in.length, "\r\n\r\n", 4)));
    assert_true(rp_str_starts(rp_buf_view(&c->in), "HTTP/1.1 101 "));
    assert_non_null(memmem(rp_buf_view(&c->in).p, c->in.length, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28));
    rp_buf_consume(&c->in, (size_t)(end + 4 - rp_buf_view(&c->in).p));
}

static void set_timing(void *ctx)
{
    rp_websocket_set_timing(((struct server_thread *)ctx)->loop, 100, 350, 200);
}

static void clean(void *ctx)
{
    rp_websocket_close_all(((struct server_thread *)ctx)->loop, 1001, "");
}

static int setup(void **state)
{
    struct fixture *f = rp_calloc(1, sizeof(*f));
    server_start(&f->server, handle, f, &rp_http_limits_default);
    f->server.teardown = clean;
    f->server.ctx = &f->server;
    f->c = dial(f->server.port);
    shake(&f->c);
    last_code = 0;
    messages = 0;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hang_up(&f->c);
    for (int i = 0; i < 100 && rp_http_server_connections(f->server.server); i++)
        nap(5); /* the sockets see it and free themselves */
    server_stop(&f->server);
    free(f);
    return 0;
}

/* A frame with a mask, sent in pieces of `step` bytes (0: at once). */
static void frame(struct client *c, unsigned first, const void *p, size_t n)
{
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned char header[14] = {(unsigned char)first};
    size_t at = rp_ws_write_header(header, 0, n);
    header[0] = (unsigned char)first;
    header[1] |= 0x80;
    memcpy(header + at, mask, 4);
    at += 4;
    _cleanup_free_ char *all = rp_alloc(at + n);
    memcpy(all, header, at);
    if (n)
        memcpy(all + at, p, n);
    rp_ws_mask(all + at, n, mask, 0);
    tell_bytes(c, all, at + n);
}

#define TEXT   0x81
#define BINARY 0x82
#define CLOSE  0x88
#define PING   0x89
#define PONG   0x8a

/* The next frame from the server; its payload stays at the front of c->in until the next call. */
static unsigned next_frame(struct client *c, struct rp_str *ret)
{
    rp_buf_consume(&c->in, c->used);
    c->used = 0;
    for (;;) {
        struct rp_str v = rp_buf_view(&c->in);
        const unsigned char *p = (const unsigned char *)v.p;
        if (v.n >= 2) {
            assert_false(p[1] & 0x80);
            size_t at = 2;
            uint64_t n = p[1];
            if (n >= 126) {
                size_t size = n == 126 ? 2 : 8;
                n = 0;
                for (size_t i = 0; i < size && v.n >= 2 + size; i++)
                    n = n << 8 | p[2 + i];
                at += size;
            }
            if (v.n >= at && v.n - at >= n) {
                *ret = (struct rp_str){v.p + at, (size_t)n};
                c->used = at + (size_t)n;
                return p[0];
            }
        }
        if (!hear(c))
            return 0;
    }
}

static void expect_frame(struct client *c, unsigned first, struct rp_str payload)
{
    struct rp_str got;
    assert_int_equal(next_frame(c, &got), first);
    assert_int_equal(got.n, payload.n);
    assert_memory_equal(got.p, payload.p, payload.n);
}

static void expect_close(struct client *c, int code)
{
    struct rp_str got;
    assert_int_equal(next_frame(c, &got), CLOSE);
    int said = got.n >= 2 ? (unsigned char)got.p[0] << 8 | (unsigned char)got.p[1] : 1005;
    assert_int_equal(said, code);
    assert_int_equal(next_frame(c, &got), 0); /* and the server ends the connection */
}

static void sha1_matches_its_vectors(void **state)
{
    unsigned char hash[20];
    rp_sha1(RP_STR("abc"), hash);
    assert_memory_equal(
        hash, "\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d", 20);
    rp_sha1(RP_STR("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), hash);
    assert_memory_equal(
        hash, "\x84\x98\x3e\x44\x1c\x3b\xd2\x6e\xba\xae\x4a\xa1\xf9\x51\x29\xe5\xe5\x46\x70\xf1", 20);
}

static void messages_are_echoed(void **state)
{
    struct fixture *f = *state;
    frame(&f->c, TEXT, "h\xc3\xa9llo", 6);
    expect_frame(&f->c, TEXT, RP_STR("h\xc3\xa9llo"));
    static const size_t sizes[] = {0, 1, 125, 126, 127, 65535, 65536, MESSAGE_MAX};
    static char payload[MESSAGE_MAX];
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (char)(i * 13 + i / 999);
    for (size_t i = 0; i < RP_ARRAY_SIZE(sizes); i++) {
        frame(&f->c, BINARY, payload, sizes[i]);
        expect_frame(&f->c, BINARY, (struct rp_str){payload, sizes[i]});
    }
    frame(&f->c, CLOSE, "\x03\xe8", 2);
    expect_close(&f->c, 1000);
    assert_int_equal(last_code, 1000);
}

static void many_frames_in_one_write(void **state)
{
    struct fixture *f = *state;
    struct client scratch = {.fd = -1};
    char all[64000];
    size_t at = 0;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    scratch.fd = fds[0];
    for (int i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        frame(&scratch, TEXT, text, strlen(text));
        ssize_t n = recv(fds[1], all + at, sizeof(all) - at, 0);
        at += (size_t)n;
    }
    tell_bytes(&f->c, all, at);
    for (int i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        expect_frame(&f->c, TEXT, rp_str_of(text));
    }
    close(fds[0]);
    close(fds[1]);
}

static void frames_may_come_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    const char *wire = "\x81\x85\x01\x02\x03\x04"
                       "ijkhn"; /* "hello" */
    for (int i = 0; i < 11; i++) {
        tell_bytes(&f->c, wire + i, 1);
        nap(2);
    }
    expect_frame(&f->c, TEXT, RP_STR("hhhlo"));
}

static void fragments_are_joined_around_control_frames(void **state)
{
    struct fixture *f = *state;
    frame(&f->c, 0x01, "one \xe2\x82", 6);
    frame(&f->c, PING, "p", 1);
    frame(&f->c, 0x00, "", 0);
    frame(&f->c, 0x00, "\xac", 1);
    frame(&f->c, PONG, "unasked", 7);
    frame(&f->c, 0x80, " two", 4);
    expect_frame(&f->c, PONG, RP_STR("p"));
    expect_frame(&f->c, TEXT, RP_STR("one \xe2\x82\xac two"));
    assert_int_equal(messages, 1);
}

static void pings_are_answered_with_their_payload(void **state)
{
    struct fixture *f = *state;
    char payload[125];
    memset(payload, 0xfe, sizeof(payload));
    frame(&f->c, PING, payload, 125);
    expect_frame(&f->c, PONG, (struct rp_str){payload, 125});
    frame(&f->c, PING, "", 0);
    expect_frame(&f->c, PONG, RP_STR(""));
}

/* ---- violations ---- */

struct violation {
    const char *name;
    const char *wire;
    size_t n;
    int code;
};
#define W(text) text, sizeof(text) - 1
#define MASKED  "\0\0\0\0"

static const struct violation violations[] = {
    {"unmasked text", W("\x81\x05hello"), 1002},
    {"unmasked close", W("\x88\x00"), 1002},
    {"RSV1", W("\xc1\x80" MASKED), 1002},
    {"RSV2", W("\xa1\x80" MASKED), 1002},
    {"RSV3", W("\x91\x80" MASKED), 1002},
    {"RSV in a ping", W("\xc9\x80" MASKED), 1002},
    {"opcode 3", W("\x83\x80" MASKED), 1002},
    {"opcode 7", W("\x87\x80" MASKED), 1002},
    {"opcode 11", W("\x8b\x80" MASKED), 1002},
    {"opcode 15", W("\x8f\x80" MASKED), 1002},
    {"fragmented ping", W("\x09\x80" MASKED), 1002},
    {"fragmented close", W("\x08\x80" MASKED), 1002},
    {"ping of 126 bytes", W("\x89\xfe\x00\x7e" MASKED), 1002},
    {"close of 126 bytes", W("\x88\xfe\x00\x7e" MASKED), 1002},
    {"length of 2^63", W("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"), 1002},
    {"length of 2^64-1", W("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"), 1002},
    {"length of 2^63-1", W("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" MASKED), 1009},
    {"length in more bytes than needed", W("\x82\xfe\x00\x05" MASKED "hello"), 1002},
    {"length in eight bytes in place of two", W("\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff" MASKED), 1002},
    {"over the limit", W("\x82\xff\x00\x00\x00\x00\x00\x01\x86\xa1" MASKED), 1009},
    {"over the limit in fragments",
     W("\x02\x81" MASKED "a"
       "\x80\xff\x00\x00\x00\x00\x00\x01\x86\xa0" MASKED),
     1009},
    {"continuation of nothing", W("\x80\x80" MASKED), 1002},
    {"text inside of text",
     W("\x01\x81" MASKED "a"
       "\x81\x81" MASKED "b"),
     1002},
    {"binary inside of text",
     W("\x01\x81" MASKED "a"
       "\x02\x81" MASKED "b"),
     1002},
    {"continuation after the end",
     W("\x02\x81" MASKED "a"
       "\x80\x81" MASKED "b"
       "\x80\x81" MASKED "c"),
     -1002},
    {"invalid UTF-8",
     W("\x81\x83" MASKED "a\xff"
       "b"),
     1007},
    {"overlong UTF-8", W("\x81\x82" MASKED "\xc0\xaf"), 1007},
    {"overlong UTF-8 of three bytes", W("\x81\x83" MASKED "\xe0\x80\xaf"), 1007},
    {"surrogate", W("\x81\x83" MASKED "\xed\xa0\x80"), 1007},
    {"above U+10FFFF", W("\x81\x84" MASKED "\xf4\x90\x80\x80"), 1007},
    {"UTF-8 cut at the message's end", W("\x81\x83" MASKED "a\xe2\x82"), 1007},
    {"UTF-8 wrong in the first fragment: at once", W("\x01\x82" MASKED "\xc3\x28"), 1007},
    {"UTF-8 wrong over fragments",
     W("\x01\x81" MASKED "\xc3"
       "\x80\x81" MASKED "\x28"),
     1007},
    {"UTF-8 wrong inside of an unfinished frame", W("\x81\xfe\x10\x00" MASKED "\xff"), 1007},
    {"close with one byte", W("\x88\x81" MASKED "\x03"), 1002},
    {"close with code 0", W("\x88\x82" MASKED "\x00\x00"), 1002},
    {"close with code 999", W("\x88\x82" MASKED "\x03\xe7"), 1002},
    {"close with code 1004", W("\x88\x82" MASKED "\x03\xec"), 1002},
    {"close with code 1005", W("\x88\x82" MASKED "\x03\xed"), 1002},
    {"close with code 1006", W("\x88\x82" MASKED "\x03\xee"), 1002},
    {"close with code 1015", W("\x88\x82" MASKED "\x03\xf7"), 1002},
    {"close with code 2999", W("\x88\x82" MASKED "\x0b\xb7"), 1002},
    {"close with code 5000", W("\x88\x82" MASKED "\x13\x88"), 1002},
    {"close with a reason that is not UTF-8", W("\x88\x84" MASKED "\x03\xe8\xc3\x28"), 1007},
};

static void violations_end_the_socket_with_their_code(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < RP_ARRAY_SIZE(violations); i++) {
        const struct violation *v = &violations[i];
        struct client c = dial(f->server.port);
        struct rp_str got;
        shake(&c);
        last_code = 0;
        tell_bytes(&c, v->wire, v->n);
        unsigned first = next_frame(&c, &got);
        if (v->code < 0) { /* a message is echoed first */
            assert_int_equal(first, BINARY);
            first = next_frame(&c, &got);
        }
        int said = first == CLOSE && got.n >= 2 ? (unsigned char)got.p[0] << 8 | (unsigned char)got.p[1] : 0;
        if (said != abs(v->code))
            fail_msg("%s: %d in place of %d", v->name, said, abs(v->code));
        frame(&c, TEXT, "still there?", 12); /* dropped */
        assert_int_equal(next_frame(&c, &got), 0);
        assert_int_equal(last_code, abs(v->code));
        hang_up(&c);
    }
    frame(&f->c, TEXT, "others", 6);
    expect_frame(&f->c, TEXT, RP_STR("others"));
}

static void valid_close_codes_are_echoed(void **state)
{
    struct fixture *f = *state;
    static const int codes[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999};
    for (size_t i = 0; i < RP_ARRAY_SIZE(codes); i++) {
        struct client c = dial(f->server.port);
        shake(&c);
        frame(&c, CLOSE, (char[]){(char)(codes[i] >> 8), (char)codes[i], 'o', 'k'}, 4);
        expect_close(&c, codes[i]);
        assert_int_equal(last_code, codes[i]);
        hang_up(&c);
    }
    frame(&f->c, CLOSE, "", 0);
    expect_close(&f->c, 1005);
    assert_int_equal(last_code, 1005);
}

static void the_server_may_close_first(void **state)
{
    struct fixture *f = *state;
    struct rp_str got;
    frame(&f->c, TEXT, "close me", 8);
    frame(&f->c, TEXT, "too late", 8);
    assert_int_equal(next_frame(&f->c, &got), CLOSE);
    assert_true(rp_str_equal(got, RP_STR("\x03\xe8"
                                         "bye")));
    assert_int_equal(last_code, 0);
    frame(&f->c, CLOSE, "\x03\xe8", 2);
    assert_int_equal(next_frame(&f->c, &got), 0);
    assert_int_equal(last_code, 1000);
    assert_int_equal(messages, 1);
}

static void a_peer_that_does_not_answer_a_close_is_cut(void **state)
{
    struct fixture *f = *state;
    struct rp_str got;
    rp_loop_post(f->server.loop, set_timing, &f->server);
    frame(&f->c, TEXT, "close me", 8);
    assert_int_equal(next_frame(&f->c, &got), CLOSE);
    assert_int_equal(next_frame(&f->c, &got), 0);
    assert_int_equal(last_code, 1006);
}

static void silent_peers_are_pinged_and_then_cut(void **state)
{
    struct fixture *f = *state;
    struct rp_str got;
    rp_loop_post(f->server.loop, set_timing, &f->server);
    nap(20);
    struct client live = dial(f->server.port);
    shake(&live);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(next_frame(&live, &got), PING);
        frame(&live, PONG, got.p, got.n);
    }
    frame(&live, TEXT, "alive", 5);
    unsigned first;
    while ((first = next_frame(&live, &got)) == PING)
        ;
    assert_int_equal(first, TEXT);
    assert_true(rp_str_is(got, "alive"));
    hang_up(&live);
    struct client dead = dial(f->server.port);
    shake(&dead);
    last_code = 0;
    while (next_frame(&dead, &got) == PING)
        ;
    assert_int_equal(last_code, 1006);
    hang_up(&dead);
}

static void a_vanished_peer_is_noticed(void **state)
{
    struct fixture *f = *state;
    shutdown(f->c.fd, SHUT_RDWR);
    for (int i = 0; i < 100 && !last_code; i++)
        nap(5);
    assert_int_equal(last_code, 1006);
}

static void an_overflowing_queue_ends_the_socket(void **state)
{
    struct fixture *f = *state;
    frame(&f->c, TEXT, "overflow", 8);
    for (int i = 0; i < 400 && !last_code; i++)
        nap(5);
    assert_int_equal(last_code, 1006);
}

static void backpressure_pauses_the_reader(void **state)
{
    struct fixture *f = *state;
    static char block[MESSAGE_MAX];
    enum { N = 300 };
    pid_t pid = fork(); /* 30 MB that nobody reads for a while */
    if (pid == 0) {
        for (int i = 0; i < N; i++) {
            memset(block, i, sizeof(block));
            frame(&f->c, BINARY, block, sizeof(block));
        }
        _exit(0);
    }
    nap(200);
    assert_true(messages < N);
    for (int i = 0; i < N; i++) {
        struct rp_str got;
        assert_int_equal(next_frame(&f->c, &got), BINARY);
        assert_int_equal(got.n, sizeof(block));
        assert_int_equal((unsigned char)got.p[0], i & 255);
        assert_int_equal(got.p[got.n - 1], got.p[0]);
    }
}

static void restart_closes_all_with_1001(void **state)
{
    struct fixture *f = *state;
    struct client other = dial(f->server.port);
    shake(&other);
    rp_loop_post(f->server.loop, close_all, &f->server);
    struct rp_str got;
    assert_int_equal(next_frame(&f->c, &got), CLOSE);
    assert_true(rp_str_equal(got, RP_STR("\x03\xe9"
                                         "restart")));
    assert_int_equal(next_frame(&other, &got), CLOSE);
    hang_up(&other);
}

/* ---- the handshake ---- */

#define WS_GET  "GET / HTTP/1.1\r\nHost: a\r\n"
#define UPGRADE "Connection: Upgrade\r\nUpgrade: websocket\r\n"
#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"

static void wrong_handshakes_are_refused(void **state)
{
    static const struct {
        const char *input;
        int status;
    } cases[] = {
        {WS_GET "\r\n", 426},
        {WS_GET "Connection: Upgrade\r\n" KEY VERSION "\r\n", 426},
        {WS_GET "Upgrade: websocket\r\n" KEY VERSION "\r\n", 426},
        {WS_GET "Connection: Upgrade\r\nUpgrade: h2c\r\n" KEY VERSION "\r\n", 426},
        {WS_GET UPGRADE KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426},
        {WS_GET UPGRADE KEY "\r\n", 426},
        {WS_GET UPGRADE VERSION "\r\n", 400},
        {WS_GET UPGRADE VERSION "Sec-WebSocket-Key: short\r\n\r\n", 400},
        {WS_GET UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n\r\n", 400},
        {WS_GET UPGRADE VERSION KEY "Content-Length: 3\r\n\r\nabc", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\n" UPGRADE VERSION KEY "\r\n", 426},
        {"GET / HTTP/1.0\r\nHost: a\r\n" UPGRADE VERSION KEY "\r\n", 426},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < RP_ARRAY_SIZE(cases); i++) {
        struct client c = dial(f->server.port);
        struct answer a;
        tell(&c, cases[i].input);
        read_answer(&c, false, &a);
        if (a.head.status != cases[i].status)
            fail_msg("%d in place of %d for: %s", a.head.status, cases[i].status, cases[i].input);
        if (a.head.status == 426)
            assert_true(rp_str_is(answer_field(&a, "sec-websocket-version"), "13"));
        answer_done(&a);
        hang_up(&c);
    }
}

static void a_subprotocol_is_said(void **state)
{
    struct fixture *f = *state;
    struct client c = dial(f->server.port);
    tell(&c, "GET /chat HTTP/1.1\r\nHost: a\r\n" UPGRADE VERSION KEY "\r\n");
    do {
        assert_true(hear(&c));
    } while (!memmem(rp_buf_view(&c.in).p, c.in.length, "\r\n\r\n", 4));
    assert_non_null(memmem(rp_buf_view(&c.in).p, c.in.length, "Sec-WebSocket-Protocol: chat\r\n", 30));
    hang_up(&c);
}

static void frames_right_behind_the_request_count(void **state)
{
    struct fixture *f = *state;
    struct client c = dial(f->server.port);
    tell(&c, WS_GET UPGRADE VERSION KEY "\r\n\x81\x82");
    tell_bytes(&c, MASKED "hi", 6);
    do {
        assert_true(hear(&c));
    } while (!memmem(rp_buf_view(&c.in).p, c.in.length, "\r\n\r\n\x81\x02hi", 8));
    hang_up(&c);
}

static void rejecting_closes_with_the_code(void **state)
{
    struct fixture *f = *state;
    struct client c = dial(f->server.port);
    tell(&c, "GET /reject HTTP/1.1\r\nHost: a\r\n" UPGRADE VERSION KEY "\r\n");
    while (!memmem(rp_buf_view(&c.in).p, c.in.length, "\x88\x11\x11\x34no such project", 19))
        assert_true(hear(&c));
    hang_up(&c);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha1_matches_its_vectors),
        T(messages_are_echoed),
        T(many_frames_in_one_write),
        T(frames_may_come_byte_by_byte),
        T(fragments_are_joined_around_control_frames),
        T(pings_are_answered_with_their_payload),
        T(violations_end_the_socket_with_their_code),
        T(valid_close_codes_are_echoed),
        T(the_server_may_close_first),
        T(a_peer_that_does_not_answer_a_close_is_cut),
        T(silent_peers_are_pinged_and_then_cut),
        T(a_vanished_peer_is_noticed),
        T(an_overflowing_queue_ends_the_socket),
        T(backpressure_pauses_the_reader),
        T(restart_closes_all_with_1001),
        T(wrong_handshakes_are_refused),
        T(a_subprotocol_is_said),
        T(frames_right_behind_the_request_count),
        T(rejecting_closes_with_the_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
