/* The server's client of the file helper, over a real init: pools, flow control, cancelling, what breaks. */
#include "../init/world.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "net/loop.h"
#include "runner/files.h"

static struct world world;
static struct rp_loop *loop;
static struct rp_sandbox *sandbox;
static struct rp_files *files;

/* ---- a turn of the loop until something is so ---- */

static bool ready, patience_lost;

static void on_ready(void *ctx, const struct rp_error *err)
{
    assert_null(err);
    ready = true;
    rp_loop_stop(loop);
}

static void on_impatient(void *ctx)
{
    patience_lost = true;
    rp_loop_stop(loop);
}

static void on_step(void *ctx)
{
    const bool *done = ctx;
    if (*done)
        rp_loop_stop(loop);
}

/* Runs the loop until *done; fails after 20 s. */
static void run_until(const bool *done)
{
    struct rp_timer *impatient = rp_timer_new(loop, on_impatient, NULL);
    struct rp_timer *step = rp_timer_new(loop, on_step, (void *)done);
    patience_lost = false;
    rp_timer_start(impatient, 20000, 0);
    rp_timer_start(step, 1, 1);
    while (!*done && !patience_lost)
        rp_loop_run(loop);
    rp_timer_free(step);
    rp_timer_free(impatient);
    assert_true(*done);
}

static void on_exited(void *ctx, uint64_t process, const struct rp_exit *exit)
{
}

static void on_ports(void *ctx, const struct rp_port *ports, size_t count)
{
}

static void on_broken(void *ctx, const struct rp_error *why)
{
}

static int set_up(void **state)
{
    static const struct rp_sandbox_events events = {on_exited, on_ports, on_broken};
    world_start(&world);
    loop = rp_loop_new();
    ready = false;
    sandbox = rp_sandbox_new(loop, "aaaaaaaaaaaaaaaa", world_dial(&world), &events, NULL, on_ready);
    run_until(&ready);
    files = rp_files_new(loop);
    return 0;
}

static int tear_down(void **state)
{
    rp_files_drop(files, sandbox);
    rp_files_free(files);
    rp_sandbox_free(sandbox);
    bool turned = true;
    run_until(&turned);
    rp_loop_free(loop);
    world_stop(&world);
    return 0;
}

/* ---- a request whose answers are kept ---- */

struct seen {
    struct rp_file_request *request;
    bool done, hold; /* hold: pause at the first data */
    bool ready, drained;
    unsigned entries, events;
    uint64_t bytes, size;
    bool truncated;
    enum rp_code code;
    char etag[RP_FILES_ETAG_MAX], message[384];
};

static void seen_entry(void *ctx, const struct rp_file_entry *e)
{
    struct seen *s = ctx;
    s->entries++;
    s->size = e->size;
}

static void seen_data(void *ctx, struct rp_str bytes)
{
    struct seen *s = ctx;
    s->bytes += bytes.n;
    if (s->hold)
        rp_file_pause(s->request);
}

static void seen_event(void *ctx, const struct rp_file_event *e)
{
    struct seen *s = ctx;
    s->events++;
}

static void seen_ready(void *ctx)
{
    struct seen *s = ctx;
    s->ready = true;
}

static void seen_drain(void *ctx)
{
    struct seen *s = ctx;
    s->drained = true;
}

static void seen_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct seen *s = ctx;
    assert_false(s->done);
    s->done = true;
    s->request = NULL;
    s->truncated = truncated;
    s->code = err ? err->code : RP_ERROR_NONE;
    if (err)
        memcpy(s->message, err->message, sizeof(s->message));
    assert_true(rp_str_copy(s->etag, sizeof(s->etag), etag));
}

static const struct rp_file_callbacks callbacks = {.on_entry = seen_entry,
                                                   .on_data = seen_data,
                                                   .on_event = seen_event,
                                                   .on_ready = seen_ready,
                                                   .on_drain = seen_drain,
                                                   .on_done = seen_done};

struct whole {
    bool done;
    enum rp_code code;
    size_t length;
    char start[64];
};

static void on_written(void *ctx, struct rp_str etag, const struct rp_error *err)
{
    struct whole *w = ctx;
    w->done = true;
    w->code = err ? err->code : RP_ERROR_NONE;
    w->length = etag.n;
}

static void on_content(void *ctx, struct rp_str content, const struct rp_error *err)
{
    struct whole *w = ctx;
    w->done = true;
    w->code = err ? err->code : RP_ERROR_NONE;
    w->length = content.n;
    memcpy(w->start, content.p, RP_MIN(content.n, sizeof(w->start) - 1));
}

static enum rp_code write_whole(const char *path, const void *content, size_t n)
{
    struct whole w = {0};
    rp_files_write_all(files, sandbox, rp_str_of(path), 0, (struct rp_str){content, n}, on_written, &w);
    assert_false(w.done);
    run_until(&w.done);
    return w.code;
}

static struct whole read_whole(const char *path, size_t max)
{
    struct whole w = {0};
    rp_files_read_all(files, sandbox, rp_str_of(path), max, on_content, &w);
    run_until(&w.done);
    return w;
}

/* ---- tests ---- */

static void whole_files(void **state)
{
    size_t n = 5 * 1024 * 1024; /* more than any queue holds */
    _cleanup_free_ char *big = malloc(n);
    memset(big, 'b', n);
    assert_int_equal(write_whole("deep/inside/big", big, n), RP_ERROR_NONE);
    struct whole w = read_whole("deep/inside/big", n);
    assert_int_equal(w.code, RP_ERROR_NONE);
    assert_int_equal(w.length, n);
    assert_int_equal(read_whole("deep/inside/big", n - 1).code, RP_ERROR_TOO_LARGE);
    assert_int_equal(read_whole("none", 10).code, RP_ERROR_NOT_FOUND);
    assert_int_equal(write_whole("", "x", 1), RP_ERROR_INVALID);
    assert_int_equal(write_whole("../x", "x", 1), RP_ERROR_INVALID);
    assert_int_equal(write_whole("empty", "", 0), RP_ERROR_NONE);
    w = read_whole("empty", 0);
    assert_int_equal(w.code, RP_ERROR_NONE);
    assert_int_equal(w.length, 0);
    assert_int_equal(read_whole("deep", 10).code, RP_ERROR_INVALID);
}

/* Far more than there are channels, at once; all are answered, and a few idle channels stay. */
static void many_at_once(void **state)
{
    enum { MANY = 200 };
    static struct whole w[MANY];
    memset(w, 0, sizeof(w));
    char content[32];
    for (int i = 0; i < MANY; i++) {
        char path[32];
        snprintf(path, sizeof(path), "f%d", i);
        snprintf(content, sizeof(content), "content %d", i);
        rp_files_write_all(files, sandbox, rp_str_of(path), 0, rp_str_of(content), on_written, &w[i]);
    }
    for (int i = 0; i < MANY; i++) {
        run_until(&w[i].done);
        assert_int_equal(w[i].code, RP_ERROR_NONE);
    }
    for (int i = 0; i < MANY; i++) {
        char path[32];
        snprintf(path, sizeof(path), "f%d", i);
        snprintf(content, sizeof(content), "content %d", i);
        struct whole r = read_whole(path, 100);
        assert_int_equal(r.code, RP_ERROR_NONE);
        assert_string_equal(r.start, content);
    }
    struct seen s = {0};
    s.request = rp_files_list(files, sandbox, (struct rp_str){"", 0}, 1, 150, &callbacks, &s);
    run_until(&s.done);
    assert_int_equal(s.entries, 150);
    assert_true(s.truncated);
}

static void waiting_is_bounded(void **state)
{
    enum { MANY = 400 };
    static struct whole w[MANY];
    memset(w, 0, sizeof(w));
    for (int i = 0; i < MANY; i++)
        rp_files_read_all(files, sandbox, RP_STR("none"), 10, on_content, &w[i]);
    unsigned refused = 0;
    for (int i = 0; i < MANY; i++) {
        run_until(&w[i].done);
        refused += w[i].code == RP_ERROR_TOO_MANY;
        assert_true(w[i].code == RP_ERROR_TOO_MANY || w[i].code == RP_ERROR_NOT_FOUND);
    }
    assert_true(refused > 0 && refused < MANY);
}

static bool elapsed;

static void on_elapsed(void *ctx)
{
    elapsed = true;
}

static void let_time_pass(unsigned ms)
{
    struct rp_timer *t = rp_timer_new(loop, on_elapsed, NULL);
    elapsed = false;
    rp_timer_start(t, ms, 0);
    run_until(&elapsed);
    rp_timer_free(t);
}

/* A reader that pauses gets little more; another request is served meanwhile; afterwards it gets the rest. */
static void a_paused_reader_holds_up_no_one(void **state)
{
    size_t n = 8 * 1024 * 1024;
    _cleanup_free_ char *big = malloc(n);
    memset(big, 'b', n);
    assert_int_equal(write_whole("big", big, n), RP_ERROR_NONE);
    struct seen s = {.hold = true};
    s.request = rp_files_read(files, sandbox, RP_STR("big"), 0, UINT64_MAX, &callbacks, &s);
    let_time_pass(200);
    assert_true(s.bytes > 0 && s.bytes <= 65536 && !s.done);
    assert_int_equal(read_whole("none", 10).code, RP_ERROR_NOT_FOUND);
    uint64_t before = s.bytes;
    let_time_pass(100);
    assert_int_equal(s.bytes, before);
    s.hold = false;
    rp_file_resume(s.request);
    run_until(&s.done);
    assert_int_equal(s.code, RP_ERROR_NONE);
    assert_int_equal(s.bytes, n);
}

static void cancelled_uploads_leave_nothing(void **state)
{
    struct seen s = {0};
    s.request = rp_files_write(files, sandbox, RP_STR("half"), 0, 0, (struct rp_str){"", 0}, UINT64_MAX,
                               &callbacks, &s);
    run_until(&s.ready);
    static char some[100000];
    assert_int_equal(rp_file_send(s.request, (struct rp_str){some, sizeof(some)}), RP_WRITE_OK);
    rp_file_cancel(s.request);
    assert_int_equal(read_whole("half", 10).code, RP_ERROR_NOT_FOUND);
    assert_false(s.done);
    /* cancelled before it had a channel, and before the loop turned at all */
    struct seen t = {0};
    t.request = rp_files_stat(files, sandbox, RP_STR("x"), &callbacks, &t);
    rp_file_cancel(t.request);
    let_time_pass(50);
    assert_false(t.done);
    assert_int_equal(write_whole("half", "whole", 5), RP_ERROR_NONE);
}

static void tags_guard_writes(void **state)
{
    struct seen s = {0};
    assert_int_equal(write_whole("f", "one", 3), RP_ERROR_NONE);
    s.request = rp_files_write(files, sandbox, RP_STR("f"), 0, RP_FILES_WRITE_MATCH, RP_STR("no-such-tag"), 3,
                               &callbacks, &s);
    run_until(&s.done);
    assert_int_equal(s.code, RP_ERROR_PRECONDITION);
    s = (struct seen){0};
    s.request = rp_files_write(files, sandbox, RP_STR("f"), 0, RP_FILES_WRITE_CREATE_ONLY,
                               (struct rp_str){"", 0}, 3, &callbacks, &s);
    run_until(&s.done);
    assert_int_equal(s.code, RP_ERROR_EXISTS);
    assert_non_null(strstr(s.message, "\"f\""));
    /* an upload knows what it replaces */
    s = (struct seen){0};
    s.request = rp_files_write(files, sandbox, RP_STR("f"), 0, 0, (struct rp_str){"", 0}, 3, &callbacks, &s);
    run_until(&s.ready);
    assert_true(rp_file_replaces(s.request).n > 0);
    assert_int_equal(rp_file_send(s.request, RP_STR("two")), RP_WRITE_OK);
    rp_file_finish(s.request);
    run_until(&s.done);
    assert_int_equal(s.code, RP_ERROR_NONE);
    assert_true(s.etag[0]);
    /* more than was announced ends the upload, and the next one works */
    s = (struct seen){0};
    s.request = rp_files_write(files, sandbox, RP_STR("f"), 0, 0, (struct rp_str){"", 0}, 3, &callbacks, &s);
    run_until(&s.ready);
    (void)rp_file_send(s.request, RP_STR("three"));
    run_until(&s.done);
    assert_int_equal(s.code, RP_ERROR_TOO_LARGE);
    assert_string_equal(read_whole("f", 10).start, "two");
}

static void errors_name_the_path_they_are_about(void **state)
{
    struct seen s = {0};
    assert_int_equal(write_whole("a", "1", 1), RP_ERROR_NONE);
    assert_int_equal(write_whole("b", "2", 1), RP_ERROR_NONE);
    s.request = rp_files_move(files, sandbox, RP_STR("a"), RP_STR("b"), false, &callbacks, &s);
    run_until(&s.done);
    assert_int_equal(s.code, RP_ERROR_EXISTS);
    assert_string_equal(s.message, "\"b\" is already there");
    s = (struct seen){0};
    s.request = rp_files_copy(files, sandbox, RP_STR("a"), RP_STR("../b"), false, &callbacks, &s);
    run_until(&s.done);
    assert_int_equal(s.code, RP_ERROR_INVALID);
    assert_string_equal(s.message, "the path \"../b\" leaves the project");
    char fifo[128];
    snprintf(fifo, sizeof(fifo), "%s/fifo", world.app);
    assert_int_equal(mkfifo(fifo, 0666), 0);
    s = (struct seen){0};
    s.request = rp_files_read(files, sandbox, RP_STR("fifo"), 0, 1, &callbacks, &s);
    run_until(&s.done);
    assert_int_equal(s.code, RP_ERROR_INVALID);
    assert_string_equal(s.message, "\"fifo\" is not a regular file");
}

static void watching(void **state)
{
    struct seen s = {0};
    s.request = rp_files_watch(files, sandbox, (struct rp_str){"", 0}, &callbacks, &s);
    run_until(&s.ready);
    assert_int_equal(write_whole("new", "x", 1), RP_ERROR_NONE);
    for (int i = 0; i < 100 && !s.events; i++)
        let_time_pass(20);
    assert_int_equal(s.events, 1);
    rp_file_cancel(s.request);
    assert_int_equal(write_whole("other", "x", 1), RP_ERROR_NONE);
    let_time_pass(150);
    assert_int_equal(s.events, 1);
}

/* The sandbox ends in the middle of everything: each request is answered once. */
static void the_end_of_the_sandbox_answers_all(void **state)
{
    struct seen reading = {.hold = true}, writing = {0}, watched = {0};
    static char some[300000];
    assert_int_equal(write_whole("f", some, sizeof(some)), RP_ERROR_NONE);
    reading.request = rp_files_read(files, sandbox, RP_STR("f"), 0, UINT64_MAX, &callbacks, &reading);
    writing.request = rp_files_write(files, sandbox, RP_STR("g"), 0, 0, (struct rp_str){"", 0}, UINT64_MAX,
                                     &callbacks, &writing);
    watched.request = rp_files_watch(files, sandbox, (struct rp_str){"", 0}, &callbacks, &watched);
    run_until(&watched.ready);
    run_until(&writing.ready);
    static struct whole waiting[20];
    memset(waiting, 0, sizeof(waiting));
    for (int i = 0; i < 20; i++)
        rp_files_read_all(files, sandbox, RP_STR("f"), 10, on_content, &waiting[i]);
    rp_files_drop(files, sandbox);
    assert_int_equal(rp_file_send(writing.request, RP_STR("late")), RP_WRITE_FAILED);
    rp_file_resume(reading.request);
    run_until(&reading.done);
    run_until(&writing.done);
    run_until(&watched.done);
    assert_int_equal(reading.code, RP_ERROR_SANDBOX);
    assert_int_equal(writing.code, RP_ERROR_SANDBOX);
    for (int i = 0; i < 20; i++) {
        run_until(&waiting[i].done);
        assert_int_equal(waiting[i].code, RP_ERROR_SANDBOX);
    }
}

/* Killed from outside, as for memory: the request ends, the next one gets a new helper. */
static void a_killed_helper_is_replaced(void **state)
{
    struct seen s = {0};
    s.request =
        rp_files_write(files, sandbox, RP_STR("g"), 0, 0, (struct rp_str){"", 0}, UINT64_MAX, &callbacks, &s);
    run_until(&s.ready);
    char path[64], pids[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", world.init, world.init);
    int fd = open(path, O_RDONLY);
    assert_true(read(fd, pids, sizeof(pids) - 1) > 0);
    close(fd);
    for (char *at = pids, *end; *at; at = *end ? end + 1 : end) {
        long pid = strtol(at, &end, 10);
        if (end == at)
            break;
        assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    }
    run_until(&s.done);
    assert_int_equal(s.code, RP_ERROR_SANDBOX);
    assert_int_equal(write_whole("g", "x", 1), RP_ERROR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(whole_files),
        T(many_at_once),
        T(waiting_is_bounded),
        T(a_paused_reader_holds_up_no_one),
        T(cancelled_uploads_leave_nothing),
        T(tags_guard_writes),
        T(errors_name_the_path_they_are_about),
        T(watching),
        T(the_end_of_the_sandbox_answers_all),
        T(a_killed_helper_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
