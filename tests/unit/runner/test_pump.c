/* runner/pump on PTYs and pipes of the test's own: what a hostile or unlucky other end does to the loop. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "runner/pump.h"

static char directory[64];

struct world {
    struct rp_loop *loop;
    struct rp_watchdog *watchdog;
    struct rp_output *output;
    struct rp_pump *pump;
    struct rp_timer *limit;
    int other;  /* the program's end */
    int shared; /* the same open file description as the pump's */
    unsigned held, ended, bytes;
    bool full;
};

static void on_limit(void *ctx)
{
    fail_msg("nothing happened for too long");
}

static void on_bytes(void *ctx)
{
    struct world *w = ctx;
    w->bytes++;
    rp_loop_stop(w->loop);
}

static void on_input(void *ctx, bool full)
{
    struct world *w = ctx;
    w->full = full;
    rp_loop_stop(w->loop);
}

static void on_end(void *ctx)
{
    struct world *w = ctx;
    w->ended++;
    rp_loop_stop(w->loop);
}

static void on_held(void *ctx)
{
    struct world *w = ctx;
    w->held++;
    rp_loop_stop(w->loop);
}

static void start(struct world *w, int fd, int other, unsigned flags)
{
    static const struct rp_pump_callbacks CALLBACKS = {on_bytes, on_input, on_end, on_held};
    struct rp_ring *ring;
    memset(w, 0, sizeof(*w));
    w->loop = rp_loop_new();
    w->limit = rp_timer_new(w->loop, on_limit, w);
    rp_timer_start(w->limit, 10000, 0);
    w->watchdog = rp_watchdog_new(200);
    assert_int_equal(rp_ring_create(directory, "ring", 0, RP_STR(""), &ring, NULL), 0);
    w->output = rp_output_new(w->loop, ring);
    w->other = other;
    w->shared = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    w->pump = rp_pump_new(w->loop, w->watchdog, fd, flags, w->output, &CALLBACKS, w);
    assert_non_null(w->pump);
}

static void stop(struct world *w)
{
    rp_pump_free(w->pump);
    rp_output_free(w->output, true);
    rp_watchdog_free(w->watchdog);
    rp_timer_free(w->limit);
    rp_close_fd(&w->other);
    rp_close_fd(&w->shared);
    rp_loop_free(w->loop);
}

static void start_pty(struct world *w)
{
    int master, slave;
    struct termios raw = {0};
    cfmakeraw(&raw);
    assert_int_equal(openpty(&master, &slave, NULL, &raw, NULL), 0);
    start(w, master, slave, RP_PUMP_PTY | RP_PUMP_READS | RP_PUMP_WRITES);
}

static uint64_t end_offset(const struct world *w)
{
    return rp_ring_end(rp_output_ring(w->output));
}

/* As much as one read gives, so that another read follows, on a description that somebody made blocking. */
static void a_descriptor_that_blocks_is_given_up(void **state)
{
    struct world w;
    char block[4095];
    memset(block, 'x', sizeof(block));
    start_pty(&w);
    assert_int_equal(fcntl(w.shared, F_SETFL, fcntl(w.shared, F_GETFL) & ~O_NONBLOCK), 0);
    assert_int_equal(write(w.other, block, sizeof(block)), (ssize_t)sizeof(block));
    uint64_t began = rp_clock_monotonic_ns();
    while (!w.held)
        rp_loop_run(w.loop);
    assert_int_equal(w.held, 1);
    assert_true(rp_clock_monotonic_ns() - began < 5000000000ULL);
    assert_int_equal(end_offset(&w), sizeof(block)); /* and what it gave before is kept */
    assert_int_equal(rp_pump_write(w.pump, RP_STR("x")), RP_PUMP_CLOSED);
    stop(&w);
}

/* RWF_NOWAIT holds, whatever the description says. */
static void a_blocking_pipe_does_not_block(void **state)
{
    struct world w;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    start(&w, fds[0], fds[1], RP_PUMP_READS);
    assert_int_equal(fcntl(w.shared, F_SETFL, 0), 0);
    char block[RP_RING_READ_MAX];
    memset(block, 'y', sizeof(block));
    assert_int_equal(write(w.other, block, sizeof(block)), (ssize_t)sizeof(block));
    while (!w.bytes)
        rp_loop_run(w.loop);
    assert_int_equal(w.held, 0);
    assert_int_equal(end_offset(&w), sizeof(block));
    rp_close_fd(&w.other);
    while (!w.ended)
        rp_loop_run(w.loop);
    assert_int_equal(w.held, 0);
    stop(&w);
}

static void a_pty_that_nobody_has_open_may_be_opened_again(void **state)
{
    struct world w;
    char name[64];
    start_pty(&w);
    assert_int_equal(ttyname_r(w.other, name, sizeof(name)), 0);
    assert_int_equal(write(w.other, "one", 3), 3);
    rp_close_fd(&w.other);
    while (end_offset(&w) < 3)
        rp_loop_run(w.loop);
    usleep(150000);
    w.other = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(w.other >= 0);
    assert_int_equal(write(w.other, "two", 3), 3);
    while (end_offset(&w) < 6)
        rp_loop_run(w.loop);
    assert_int_equal(w.ended, 0);
    rp_pump_drain(w.pump); /* the process has exited, and something still has it open */
    uint64_t began = rp_clock_monotonic_ns();
    while (!w.ended)
        rp_loop_run(w.loop);
    assert_true(rp_clock_monotonic_ns() - began < 1500000000ULL);
    stop(&w);
}

static void a_pipe_whose_reader_left_takes_nothing(void **state)
{
    struct world w;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    start(&w, fds[1], fds[0], RP_PUMP_WRITES);
    assert_int_equal(rp_pump_write(w.pump, RP_STR("taken")), RP_PUMP_OK);
    rp_close_fd(&w.other);
    assert_int_equal(rp_pump_write(w.pump, RP_STR("lost")), RP_PUMP_CLOSED);
    assert_int_equal(rp_pump_write(w.pump, RP_STR("lost")), RP_PUMP_CLOSED);
    stop(&w);
}

static void stop_loop(void *ctx)
{
    rp_loop_stop(ctx);
}

static void what_was_typed_is_written_before_the_end(void **state)
{
    struct world w;
    int fds[2];
    static char block[200 * 1024];
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    start(&w, fds[1], fds[0], RP_PUMP_WRITES);
    assert_int_equal(rp_pump_write(w.pump, (struct rp_str){block, sizeof(block)}), RP_PUMP_OK);
    assert_true(rp_pump_queued(w.pump) > 0);
    rp_pump_flushed(w.pump, on_end, &w);
    assert_int_equal(w.ended, 0);
    size_t got = 0;
    while (!w.ended) {
        static char sink[65536];
        ssize_t n = read(w.other, sink, sizeof(sink));
        got += n > 0 ? (size_t)n : 0;
        struct rp_timer *t = rp_timer_new(w.loop, stop_loop, w.loop);
        rp_timer_start(t, 1, 0);
        rp_loop_run(w.loop);
        rp_timer_free(t);
    }
    static char sink[sizeof(block)];
    ssize_t n;
    while ((n = read(w.other, sink, sizeof(sink))) > 0)
        got += (size_t)n;
    assert_int_equal(got, sizeof(block));
    stop(&w);
}

static int set_up(void **state)
{
    snprintf(directory, sizeof(directory), "/dev/shm/rp-pump-%d", getpid());
    return mkdir(directory, 0700);
}

static int tear_down(void **state)
{
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_descriptor_that_blocks_is_given_up),
        cmocka_unit_test(a_blocking_pipe_does_not_block),
        cmocka_unit_test(a_pty_that_nobody_has_open_may_be_opened_again),
        cmocka_unit_test(a_pipe_whose_reader_left_takes_nothing),
        cmocka_unit_test(what_was_typed_is_written_before_the_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
