/* A blocking client for the tests of the HTTP server, and the server on a thread of its own. */
#ifndef RP_TESTS_HTTP_CLIENT_H
#define RP_TESTS_HTTP_CLIENT_H

#include "../cmocka_all.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/http_chunked.h"
#include "net/http_parser.h"
#include "net/http_server.h"

struct server_thread {
    struct rp_loop *loop;
    struct rp_http_server *server;
    int listener;
    uint16_t port;
    pthread_t thread;
    void (*teardown)(void *ctx); /* on the loop, before the server goes */
    void *ctx;
};

static void *server_main(void *ctx)
{
    rp_loop_run(((struct server_thread *)ctx)->loop);
    return NULL;
}

static int listen_on_loopback(uint16_t *ret_port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(a);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(fd, 1024), 0);
    getsockname(fd, (struct sockaddr *)&a, &n);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static inline void server_start(struct server_thread *s, rp_http_handler *handler, void *ctx,
                                const struct rp_http_limits *limits)
{
    s->loop = rp_loop_new();
    s->listener = listen_on_loopback(&s->port);
    s->server = rp_http_server_new_limited(s->loop, s->listener, handler, ctx, limits);
    pthread_create(&s->thread, NULL, server_main, s);
}

static void server_stop_on_loop(void *ctx)
{
    struct server_thread *s = ctx;
    if (s->teardown)
        s->teardown(s->ctx);
    rp_http_server_free(s->server);
    rp_loop_stop(s->loop);
}

static inline void server_stop(struct server_thread *s)
{
    rp_loop_post(s->loop, server_stop_on_loop, s);
    pthread_join(s->thread, NULL);
    rp_loop_free(s->loop);
    close(s->listener);
}

struct client {
    int fd;
    struct rp_buf in;
    size_t used; /* bytes of `in` that the last look handed out */
};

static struct client dial(uint16_t port)
{
    struct client c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(c.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    struct timeval limit = {.tv_sec = 15};
    setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(c.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    rp_buf_init(&c.in, 64 << 20);
    return c;
}

static inline void hang_up(struct client *c)
{
    close(c->fd);
    rp_buf_done(&c->in);
}

static inline void tell_bytes(struct client *c, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t w = send(c->fd, at, n, MSG_NOSIGNAL);
        if (w <= 0)
            return; /* the server may have closed: the answer tells */
        at += w;
        n -= (size_t)w;
    }
}

static inline void tell(struct client *c, const char *text)
{
    tell_bytes(c, text, strlen(text));
}

/* More bytes: false at the end. Fails the test when nothing comes for 15 s. */
static bool hear(struct client *c)
{
    char *at = rp_buf_reserve(&c->in, 65536);
    assert_non_null(at);
    ssize_t n = recv(c->fd, at, 65536, 0);
    if (n < 0 && errno != ECONNRESET)
        fail_msg("no answer: %s", strerror(errno));
    if (n <= 0)
        return false;
    rp_buf_commit(&c->in, (size_t)n);
    return true;
}

static inline bool closed_by_peer(struct client *c)
{
    while (hear(c))
        ;
    return true;
}

struct answer {
    struct rp_http_response head;
    char head_bytes[32768];
    struct rp_buf body;
    bool whole;
};

static inline void answer_done(struct answer *a)
{
    rp_buf_done(&a->body);
}

/* The next response, decoded; `whole` is false when the connection ended inside it. */
static inline void read_answer(struct client *c, bool head_request, struct answer *a)
{
    const char *why;
    ssize_t n;
    rp_buf_init(&a->body, 64 << 20);
    a->whole = false;
    do {
        while ((n = rp_http_parse_response(rp_buf_view(&c->in), &a->head, &why)) == RP_HTTP_PARSE_MORE)
            if (!hear(c)) {
                a->head.status = 0;
                return;
            }
        if (n < 0)
            fail_msg("bad response: %s: %.*s", why, (int)c->in.length, rp_buf_view(&c->in).p);
        memcpy(a->head_bytes, rp_buf_view(&c->in).p, (size_t)n);
        rp_buf_consume(&c->in, (size_t)n);
    } while (a->head.status == 100);
    assert_true(rp_http_parse_response((struct rp_str){a->head_bytes, (size_t)n}, &a->head, &why) > 0);
    if (head_request || a->head.status == 204 || a->head.status == 304) {
        a->whole = true;
        return;
    }
    struct rp_http_chunked d;
    rp_http_chunked_init(&d);
    size_t left = a->head.content_length < 0 ? SIZE_MAX : (size_t)a->head.content_length;
    for (;;) {
        struct rp_str data = rp_buf_view(&c->in);
        if (a->head.chunked) {
            ssize_t used = rp_http_chunked_next(&d, data, &data);
            assert_true(used >= 0);
            assert_true(rp_buf_append_str(&a->body, data));
            rp_buf_consume(&c->in, (size_t)used);
            if (rp_http_chunked_done(&d))
                break;
            if (c->in.length)
                continue;
        } else {
            data.n = RP_MIN(data.n, left);
            assert_true(rp_buf_append_str(&a->body, data));
            rp_buf_consume(&c->in, data.n);
            left -= data.n;
            if (!left)
                break;
        }
        if (!hear(c)) {
            a->whole = left > (size_t)1 << 60 && !a->head.chunked;
            return;
        }
    }
    a->whole = true;
}

static inline struct rp_str answer_field(const struct answer *a, const char *name)
{
    for (size_t i = 0; i < a->head.header_count; i++)
        if (rp_str_is_nocase(a->head.headers[i].name, name))
            return a->head.headers[i].value;
    return (struct rp_str){NULL, 0};
}

static inline void nap(unsigned ms)
{
    nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

#endif
