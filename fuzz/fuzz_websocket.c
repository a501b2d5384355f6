/*
 * A WebSocket server fed with whatever a client may send, over a socket pair and a loop: the input is the
 * bytes after the handshake, the first of them decides how they are cut and when the reader pauses.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "net/websocket_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    struct rp_websocket *ws;
    struct rp_loop *loop;
    unsigned seed;
    bool closed;
};

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void on_binary(void *ctx, struct rp_str bytes)
{
    struct state *s = ctx;
    check(!s->closed && bytes.n <= 70000);
    rp_websocket_send_binary(s->ws, &bytes, 1);
    if (s->seed & 1)
        rp_websocket_pause(s->ws);
}

static void on_text(void *ctx, struct rp_str text)
{
    struct state *s = ctx;
    check(!s->closed && rp_utf8_valid(text.p, text.n));
    rp_websocket_send_text(s->ws, text);
    if (s->seed & 2 && text.n == 7)
        rp_websocket_close(s->ws, 1000, "seven");
}

static void on_drain(void *ctx)
{
}

static void on_close(void *ctx, int code)
{
    struct state *s = ctx;
    check(!s->closed);
    check(code == 1005 || code == 1006 || rp_ws_close_code_valid((unsigned)code));
    s->closed = true;
}

static void stop(void *ctx)
{
    rp_loop_stop(((struct state *)ctx)->loop);
}

static void turn(struct state *s)
{
    rp_loop_defer(s->loop, stop, s);
    rp_loop_run(s->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct rp_websocket_callbacks callbacks = {on_binary, on_text, on_drain, on_close};
    static const struct rp_websocket_options options = {.message_max = 70000, .output_cap = 65536};
    static const struct rp_stream_callbacks none; /* never called: ws_new sets its own */
    int fds[2];
    char sink[4096];
    if (!size || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return 0;
    struct state s = {.loop = rp_loop_new(), .seed = data[0]};
    struct rp_stream *stream = rp_stream_new(s.loop, fds[0], 65536, 65536, &none, NULL);
    s.ws = ws_new(s.loop, stream, &options, &callbacks, &s);
    unsigned random = data[0];
    for (size_t at = 1; at < size && !s.closed;) {
        random = random * 1103515245u + 12345u;
        size_t n = s.seed & 4 ? 1 + (random >> 16) % 5 : size - at;
        ssize_t w = send(fds[1], data + at, RP_MIN(n, size - at), MSG_NOSIGNAL);
        turn(&s);
        turn(&s);
        if (!s.closed)
            rp_websocket_resume(s.ws);
        if (w <= 0 && recv(fds[1], sink, sizeof(sink), MSG_DONTWAIT) == 0)
            break;
        if (w > 0)
            at += (size_t)w;
        while (recv(fds[1], sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
    }
    shutdown(fds[1], SHUT_WR);
    for (int i = 0; i < 100 && !s.closed; i++) {
        while (recv(fds[1], sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
        turn(&s);
        if (!s.closed)
            rp_websocket_resume(s.ws);
    }
    check(s.closed);
    for (int i = 0; i < 10; i++) {
        while (recv(fds[1], sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
        turn(&s); /* the socket sees the end and frees itself */
    }
    close(fds[1]);
    turn(&s);
    turn(&s);
    rp_loop_free(s.loop);
    return 0;
}
