/* net/stream.h: flow control both ways, kept bytes, ends, and being freed from inside a callback. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream.h"

struct fixture {
    struct rp_loop *loop;
    struct rp_timer *guard, *timer;
    struct rp_stream *s;
    int peer;
    struct rp_buf got;
    size_t take;    /* how many bytes on_bytes takes of each view; SIZE_MAX: all */
    size_t stop_at; /* stops the loop when this much arrived */
    unsigned calls, drains, ends, errors, freed;
    int errnum;
    void (*in_bytes)(struct fixture *f);
    void (*in_drain)(struct fixture *f);
};

static void too_late(void *ctx)
{
    fail_msg("the loop did not stop by itself");
}

static void stop(void *ctx)
{
    rp_loop_stop(((struct fixture *)ctx)->loop);
}

static size_t on_bytes(void *ctx, struct rp_str bytes)
{
    struct fixture *f = ctx;
    f->calls++;
    size_t n = RP_MIN(f->take, bytes.n);
    assert_true(rp_buf_append(&f->got, bytes.p, n));
    if (f->in_bytes)
        f->in_bytes(f);
    if (f->got.length >= f->stop_at)
        stop(f);
    return n;
}

static void on_end(void *ctx)
{
    ((struct fixture *)ctx)->ends++;
    stop(ctx);
}

static void on_drain(void *ctx)
{
    struct fixture *f = ctx;
    f->drains++;
    if (f->in_drain)
        f->in_drain(f);
}

static void on_error(void *ctx, int errnum)
{
    struct fixture *f = ctx;
    f->errors++;
    f->errnum = errnum;
    stop(f);
}

static const struct rp_stream_callbacks callbacks = {on_bytes, on_end, on_drain, on_error};

enum { IN_CAP = 4096, OUT_CAP = 64 * 1024 };

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -1;
    f->loop = rp_loop_new();
    f->guard = rp_timer_new(f->loop, too_late, f);
    f->timer = rp_timer_new(f->loop, stop, f);
    rp_timer_start(f->guard, 20000, 0);
    f->peer = fds[1];
    f->take = f->stop_at = SIZE_MAX;
    rp_buf_init(&f->got, 64 << 20);
    f->s = rp_stream_new(f->loop, fds[0], IN_CAP, OUT_CAP, &callbacks, f);
    *state = f;
    return f->s ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rp_stream_free(f->s);
    rp_timer_free(f->guard);
    rp_timer_free(f->timer);
    rp_loop_free(f->loop);
    rp_close_fd(&f->peer);
    rp_buf_done(&f->got);
    free(f);
    return 0;
}

/* Runs the loop for a moment: for what must not happen. */
static void settle(struct fixture *f)
{
    rp_timer_start(f->timer, 30, 0);
    rp_loop_run(f->loop);
}

static void send_all(struct fixture *f, const char *p, size_t n)
{
    assert_int_equal(send(f->peer, p, n, 0), (ssize_t)n);
}

static void bytes_that_are_not_taken_come_again(void **state)
{
    struct fixture *f = *state;
    f->take = 0;
    send_all(f, "abc", 3);
    settle(f);
    assert_int_equal(f->calls, 1); /* not again without news */
    f->take = SIZE_MAX;
    f->stop_at = 6;
    send_all(f, "def", 3);
    rp_loop_run(f->loop);
    assert_int_equal(f->calls, 2);
    assert_true(rp_str_is(rp_buf_view(&f->got), "abcdef"));
}

static void input_is_bounded_and_resume_gives_it_again(void **state)
{
    struct fixture *f = *state;
    char big[3 * IN_CAP];
    memset(big, 'x', sizeof(big));
    f->take = 0;
    send_all(f, big, sizeof(big));
    settle(f);
    int left = 0;
    char rest[sizeof(big)];
    left = (int)recv(rp_stream_fd(f->s), rest, sizeof(rest), MSG_PEEK | MSG_DONTWAIT);
    assert_int_equal(left, 2 * IN_CAP); /* the rest stays in the kernel */
    f->take = SIZE_MAX;
    f->stop_at = sizeof(big);
    rp_stream_resume(f->s);
    rp_loop_run(f->loop);
    assert_int_equal(f->got.length, sizeof(big));
}

static void pause_once(struct fixture *f)
{
    if (f->calls == 1)
        rp_stream_pause(f->s);
}

static void a_paused_stream_is_silent_even_about_the_end(void **state)
{
    struct fixture *f = *state;
    f->in_bytes = pause_once;
    f->take = 1;
    send_all(f, "abc", 3);
    settle(f);
    send_all(f, "def", 3);
    rp_close_fd(&f->peer);
    settle(f);
    assert_int_equal(f->calls, 1);
    assert_int_equal(f->ends, 0);
    f->take = SIZE_MAX;
    rp_stream_resume(f->s);
    rp_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
    assert_true(rp_str_is(rp_buf_view(&f->got), "abcdef"));
}

static void free_inside(struct fixture *f)
{
    rp_stream_free(f->s);
    f->s = NULL;
    f->freed++;
    stop(f);
}

static void a_stream_may_be_freed_in_on_bytes(void **state)
{
    struct fixture *f = *state;
    f->in_bytes = free_inside;
    send_all(f, "abc", 3);
    rp_loop_run(f->loop);
    settle(f);
    assert_int_equal(f->freed, 1);
    assert_int_equal(f->calls, 1);
    char b;
    assert_int_equal(recv(f->peer, &b, 1, 0), 0);
}

static struct rp_buf released;
static int released_fd;

static void release_inside(struct fixture *f)
{
    released_fd = rp_stream_release(f->s, &released);
    f->s = NULL;
    stop(f);
}

static void release_hands_on_what_was_read(void **state)
{
    struct fixture *f = *state;
    rp_buf_init(&released, 2); /* a cap that is too small must not lose bytes */
    f->in_bytes = release_inside;
    send_all(f, "hello", 5);
    rp_loop_run(f->loop);
    assert_true(rp_str_is(rp_buf_view(&released), "hello"));
    assert_int_equal(send(released_fd, "x", 1, 0), 1);
    close(released_fd);
    rp_buf_done(&released);
}

static size_t second_owner(void *ctx, struct rp_str bytes)
{
    struct fixture *f = ctx;
    assert_true(rp_str_is(bytes, "tail"));
    stop(f);
    return bytes.n;
}

static const struct rp_stream_callbacks second = {second_owner, on_end, on_drain, on_error};

static void change_owner(struct fixture *f)
{
    rp_stream_set_callbacks(f->s, &second, f);
}

static void the_next_owner_gets_the_rest(void **state)
{
    struct fixture *f = *state;
    f->take = 4;
    f->in_bytes = change_owner;
    send_all(f, "headtail", 8);
    rp_loop_run(f->loop);
    assert_true(rp_str_is(rp_buf_view(&f->got), "head"));
}

static void output_is_bounded_and_drains_at_half(void **state)
{
    struct fixture *f = *state;
    char block[8192];
    memset(block, 'y', sizeof(block));
    struct rp_str piece = {block, sizeof(block)};
    enum rp_write w;
    do
        w = rp_stream_write(f->s, &piece, 1);
    while (w == RP_WRITE_OK);
    assert_int_equal(w, RP_WRITE_FULL);
    assert_true(rp_stream_queued(f->s) > OUT_CAP / 2);
    settle(f);
    assert_int_equal(f->drains, 0);
    char sink[65536];
    for (int turns = 0; turns < 100 && !f->drains; turns++) {
        while (recv(f->peer, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
        rp_timer_start(f->timer, 1, 0);
        rp_loop_run(f->loop);
    }
    assert_int_equal(f->drains, 1);
    assert_true(rp_stream_queued(f->s) <= OUT_CAP / 2);
}

static void writing_past_the_cap_breaks_the_stream(void **state)
{
    struct fixture *f = *state;
    size_t n = 8 << 20;
    char *big = calloc(1, n);
    assert_int_equal(rp_stream_write(f->s, &(struct rp_str){big, n}, 1), RP_WRITE_FAILED);
    assert_int_equal(f->errors, 0); /* not from inside the call */
    rp_loop_run(f->loop);
    assert_int_equal(f->errors, 1);
    assert_int_equal(f->errnum, ENOBUFS);
    assert_int_equal(rp_stream_write(f->s, &(struct rp_str){big, 1}, 1), RP_WRITE_FAILED);
    free(big);
}

static void many_pieces_stay_in_order(void **state)
{
    struct fixture *f = *state;
    enum { N = 500 };
    struct rp_str pieces[N];
    char text[N];
    for (int i = 0; i < N; i++) {
        text[i] = (char)('a' + i % 26);
        pieces[i] = (struct rp_str){text + i, i % 7 == 0 ? 0u : 1u};
    }
    assert_int_equal(rp_stream_write(f->s, pieces, N), RP_WRITE_OK);
    char got[N + 1];
    ssize_t n = recv(f->peer, got, sizeof(got), 0);
    ssize_t at = 0;
    for (int i = 0; i < N; i++)
        if (pieces[i].n)
            assert_int_equal(got[at++], text[i]);
    assert_int_equal(n, at);
}

static void end_comes_after_the_queue(void **state)
{
    struct fixture *f = *state;
    int small = 4096;
    setsockopt(rp_stream_fd(f->s), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    char block[32768];
    memset(block, 'z', sizeof(block));
    assert_int_not_equal(rp_stream_write(f->s, &(struct rp_str){block, sizeof(block)}, 1), RP_WRITE_FAILED);
    rp_stream_end(f->s);
    size_t total = 0;
    char sink[65536];
    for (int i = 0; i < 1000; i++) {
        ssize_t n = recv(f->peer, sink, sizeof(sink), MSG_DONTWAIT);
        if (n == 0)
            break;
        if (n > 0)
            total += (size_t)n;
        rp_timer_start(f->timer, 1, 0);
        rp_loop_run(f->loop);
    }
    assert_int_equal(total, sizeof(block));
}

static void the_peer_going_away_is_an_error_or_an_end(void **state)
{
    struct fixture *f = *state;
    rp_close_fd(&f->peer);
    rp_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
    assert_int_equal(rp_stream_write(f->s, &RP_STR("x"), 1), RP_WRITE_FAILED);
    rp_loop_run(f->loop);
    assert_int_equal(f->errnum, EPIPE);
}

static void other_kind(struct fixture *f, int fd)
{
    rp_stream_free(f->s);
    f->s = rp_stream_new(f->loop, fd, IN_CAP, OUT_CAP, &callbacks, f);
    assert_non_null(f->s);
}

static void pipes_work(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    other_kind(f, fds[0]);
    assert_int_equal(write(fds[1], "pipe", 4), 4);
    close(fds[1]);
    rp_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
    assert_true(rp_str_is(rp_buf_view(&f->got), "pipe"));
}

static void a_terminal_ends_when_its_slaves_are_closed(void **state)
{
    struct fixture *f = *state;
    int master, slave;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    other_kind(f, master);
    assert_int_equal(write(slave, "tty", 3), 3);
    f->stop_at = 3;
    rp_loop_run(f->loop);
    close(slave);
    rp_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->errors, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(bytes_that_are_not_taken_come_again),
        T(input_is_bounded_and_resume_gives_it_again),
        T(a_paused_stream_is_silent_even_about_the_end),
        T(a_stream_may_be_freed_in_on_bytes),
        T(release_hands_on_what_was_read),
        T(the_next_owner_gets_the_rest),
        T(output_is_bounded_and_drains_at_half),
        T(writing_past_the_cap_breaks_the_stream),
        T(many_pieces_stay_in_order),
        T(end_comes_after_the_queue),
        T(the_peer_going_away_is_an_error_or_an_end),
        T(pipes_work),
        T(a_terminal_ends_when_its_slaves_are_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
