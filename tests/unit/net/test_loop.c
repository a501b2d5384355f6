/* net/loop.h and the pool: order, lifetimes, bounds. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/loop.h"

struct fixture {
    struct rp_loop *loop;
    struct rp_timer *guard;
    char trace[64];
    unsigned count;
    int fds[2];
    struct rp_watch *watch;
    struct rp_timer *timer;
    struct rp_pool *pool;
};

static void trace(struct fixture *f, char c)
{
    assert_true(f->count + 1 < sizeof(f->trace));
    f->trace[f->count++] = c;
}

static void too_late(void *ctx)
{
    fail_msg("the loop did not stop by itself");
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->loop = rp_loop_new();
    f->guard = rp_timer_new(f->loop, too_late, f);
    rp_timer_start(f->guard, 10000, 0);
    *state = f;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->fds);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rp_timer_free(f->guard);
    rp_watch_free(f->watch);
    rp_timer_free(f->timer);
    rp_loop_free(f->loop);
    close(f->fds[0]);
    close(f->fds[1]);
    free(f);
    return 0;
}

static void stop(void *ctx)
{
    rp_loop_stop(((struct fixture *)ctx)->loop);
}

static void second(void *ctx)
{
    trace(ctx, '2');
    stop(ctx);
}

static void first(void *ctx)
{
    struct fixture *f = ctx;
    trace(f, '1');
    rp_loop_defer(f->loop, second, f);
    trace(f, '.');
}

static void defer_runs_after_the_callback(void **state)
{
    struct fixture *f = *state;
    rp_loop_defer(f->loop, first, f);
    rp_loop_run(f->loop);
    assert_string_equal(f->trace, "1.2");
}

static void *poster(void *ctx)
{
    struct fixture *f = ctx;
    for (int i = 0; i < 3; i++)
        rp_loop_post(f->loop, first, f);
    return NULL;
}

static void post_arrives_from_another_thread(void **state)
{
    struct fixture *f = *state;
    pthread_t t;
    pthread_create(&t, NULL, poster, f);
    pthread_join(t, NULL);
    rp_loop_run(f->loop);
    assert_int_equal(f->trace[0], '1');
}

static void count_only(void *ctx)
{
    ((struct fixture *)ctx)->count++;
}

static void free_calls_what_is_left(void **state)
{
    struct fixture *f = *state;
    struct rp_loop *loop = rp_loop_new();
    rp_loop_post(loop, count_only, f);
    rp_loop_defer(loop, count_only, f);
    rp_loop_free(loop);
    assert_int_equal(f->count, 2);
}

static void on_readable_free(void *ctx, unsigned events)
{
    struct fixture *f = ctx;
    assert_true(events & RP_WATCH_READ);
    f->count++;
    rp_watch_free(f->watch); /* from inside its callback */
    f->watch = NULL;
    rp_timer_start(f->timer, 20, 0);
}

static void a_freed_watch_is_silent(void **state)
{
    struct fixture *f = *state;
    f->timer = rp_timer_new(f->loop, stop, f);
    f->watch = rp_watch_new(f->loop, f->fds[0], on_readable_free, f);
    rp_watch_set(f->watch, RP_WATCH_READ);
    assert_int_equal(write(f->fds[1], "x", 1), 1);
    rp_loop_run(f->loop);
    assert_int_equal(f->count, 1);
}

static void on_readable_pause(void *ctx, unsigned events)
{
    struct fixture *f = ctx;
    f->count++;
    rp_watch_set(f->watch, 0); /* without reading: level-triggered, so it would come again */
    rp_timer_start(f->timer, 20, 0);
}

static void a_paused_watch_is_silent_until_set_again(void **state)
{
    struct fixture *f = *state;
    f->timer = rp_timer_new(f->loop, stop, f);
    f->watch = rp_watch_new(f->loop, f->fds[0], on_readable_pause, f);
    rp_watch_set(f->watch, RP_WATCH_READ);
    assert_int_equal(write(f->fds[1], "x", 1), 1);
    rp_loop_run(f->loop);
    assert_int_equal(f->count, 1);
    rp_watch_set(f->watch, RP_WATCH_READ);
    rp_loop_run(f->loop);
    assert_int_equal(f->count, 2);
}

static void on_hangup(void *ctx, unsigned events)
{
    struct fixture *f = ctx;
    char b;
    if (read(f->fds[0], &b, 1) <= 0)
        stop(f);
}

static void a_reset_wakes_the_reader(void **state)
{
    struct fixture *f = *state;
    f->watch = rp_watch_new(f->loop, f->fds[0], on_hangup, f);
    rp_watch_set(f->watch, RP_WATCH_READ);
    /* unread bytes at the other end make its close a reset */
    assert_int_equal(write(f->fds[0], "x", 1), 1);
    close(f->fds[1]);
    f->fds[1] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    rp_loop_run(f->loop);
}

static void a_regular_file_is_refused(void **state)
{
    struct fixture *f = *state;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_null(rp_watch_new(f->loop, fd, on_hangup, f));
    close(fd);
}

static void repeat(void *ctx)
{
    struct fixture *f = ctx;
    if (++f->count == 3) {
        rp_timer_stop(f->timer);
        assert_false(rp_timer_active(f->timer));
        stop(f);
    }
}

static void timers_repeat_and_stop(void **state)
{
    struct fixture *f = *state;
    uint64_t before = rp_loop_now_ms(f->loop);
    f->timer = rp_timer_new(f->loop, repeat, f);
    rp_timer_start(f->timer, 5, 5);
    rp_loop_run(f->loop);
    assert_int_equal(f->count, 3);
    assert_true(rp_loop_now_ms(f->loop) - before >= 14);
}

struct job {
    struct fixture *f;
    pthread_t ran_on;
    bool worked, done;
    int fd; /* closed by the test: lets the job end */
};

static void job_work(void *ctx)
{
    struct job *j = ctx;
    char b;
    if (j->fd >= 0)
        while (read(j->fd, &b, 1) > 0)
            ;
    j->ran_on = pthread_self();
    j->worked = true;
}

static void job_done(void *ctx)
{
    struct job *j = ctx;
    assert_true(j->worked);
    j->done = true;
    if (++j->f->count == 3)
        stop(j->f);
}

static void the_pool_is_bounded_and_answers_on_the_loop(void **state)
{
    struct fixture *f = *state;
    int gate[2];
    assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
    struct rp_pool *p = rp_pool_new(f->loop, 2, 1);
    struct job jobs[4] = {{f, .fd = gate[0]}, {f, .fd = gate[0]}, {f, .fd = -1}, {f, .fd = -1}};
    struct rp_error err;
    for (int i = 0; i < 3; i++)
        assert_int_equal(rp_pool_submit(p, job_work, job_done, &jobs[i], &err), 0);
    assert_int_equal(rp_pool_submit(p, job_work, job_done, &jobs[3], &err), -1);
    assert_int_equal(err.code, RP_ERROR_UNAVAILABLE);
    close(gate[1]);
    rp_loop_run(f->loop);
    for (int i = 0; i < 3; i++) {
        assert_true(jobs[i].done);
        assert_false(pthread_equal(jobs[i].ran_on, pthread_self()));
    }
    rp_pool_free(p);
    close(gate[0]);
}

static void freeing_the_pool_finishes_its_queue(void **state)
{
    struct fixture *f = *state;
    struct rp_pool *p = rp_pool_new(f->loop, 1, 10);
    struct job jobs[2] = {{f, .fd = -1}, {f, .fd = -1}};
    for (int i = 0; i < 2; i++)
        assert_int_equal(rp_pool_submit(p, job_work, job_done, &jobs[i], NULL), 0);
    rp_pool_free(p);
    assert_true(jobs[0].done && jobs[1].done);
    assert_int_equal(f->count, 2);
}

static void done_frees(void *ctx)
{
    struct fixture *f = ctx;
    rp_pool_free(f->pool);
    stop(f);
}

static void nothing(void *ctx)
{
}

static void a_pool_may_be_freed_by_its_own_answer(void **state)
{
    struct fixture *f = *state;
    f->pool = rp_pool_new(f->loop, 1, 1);
    assert_int_equal(rp_pool_submit(f->pool, nothing, done_frees, f, NULL), 0);
    rp_loop_run(f->loop);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(defer_runs_after_the_callback),
        T(post_arrives_from_another_thread),
        T(free_calls_what_is_left),
        T(a_freed_watch_is_silent),
        T(a_paused_watch_is_silent_until_set_again),
        T(a_reset_wakes_the_reader),
        T(a_regular_file_is_refused),
        T(timers_repeat_and_stop),
        T(the_pool_is_bounded_and_answers_on_the_loop),
        T(freeing_the_pool_finishes_its_queue),
        T(a_pool_may_be_freed_by_its_own_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
