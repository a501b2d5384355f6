/* runner/watchdog: a call that blocks is interrupted and named; a quick one is left alone. */
#include "../cmocka_all.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "runner/watchdog.h"

static void interrupts_a_call_that_blocks(void **state)
{
    struct rp_watchdog *w = rp_watchdog_new(100);
    int fds[2];
    char c;
    assert_int_equal(pipe(fds), 0);
    uint64_t began = rp_clock_monotonic_ns();
    rp_watchdog_enter(w);
    ssize_t n = read(fds[0], &c, 1);
    int error = errno;
    assert_true(rp_watchdog_leave(w));
    assert_int_equal(n, -1);
    assert_int_equal(error, EINTR);
    assert_in_range(rp_clock_monotonic_ns() - began, 90 * 1000000ULL, 5000 * 1000000ULL);
    /* the next one is judged by itself */
    assert_int_equal(write(fds[1], "x", 1), 1);
    rp_watchdog_enter(w);
    n = read(fds[0], &c, 1);
    assert_false(rp_watchdog_leave(w));
    assert_int_equal(n, 1);
    close(fds[0]);
    close(fds[1]);
    rp_watchdog_free(w);
}

static void leaves_a_busy_loop_alone(void **state)
{
    struct rp_watchdog *w = rp_watchdog_new(100);
    uint64_t until = rp_clock_monotonic_ns() + 400 * 1000000ULL;
    while (rp_clock_monotonic_ns() < until) {
        rp_watchdog_enter(w);
        assert_false(rp_watchdog_leave(w));
        usleep(1000);
    }
    rp_watchdog_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interrupts_a_call_that_blocks),
        cmocka_unit_test(leaves_a_busy_loop_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
