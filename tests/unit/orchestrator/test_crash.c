/*
 * orchestrator: SIGKILL at random moments while sandboxes start and stop. The orchestrator runs in a process
 * of its own over a driver whose every step takes a little (fake_driver.h); this process is the gateway and
 * holds the listening socket, as the supervisor does. After each crash the next orchestrator must know
 * exactly what exists, and after the last stop nothing may be left. The seed of a run is printed;
 * REPLD_TEST_SEED repeats it.
 */
#include "../cmocka_all.h"

#include "base/clock.h"
#include "base/log.h"
#include "fake_driver.h"
#include "orchestrator/client.h"
#include "orchestrator/lifecycle.h"
#include "orchestrator/record.h"
#include "orchestrator/server.h"

#define ENVIRONMENT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

enum { PROJECTS = 6, CRASHES = 25 };

/* ---- volumes: every project has one ---- */

int rp_volumes_create(struct rp_volumes *v, const char *project, uint64_t quota, struct rp_error *err)
{
    return 0;
}
int rp_volumes_remove(struct rp_volumes *v, const char *project, struct rp_error *err)
{
    return 0;
}
int rp_volumes_set_quota(struct rp_volumes *v, const char *project, uint64_t quota, struct rp_error *err)
{
    return 0;
}
int rp_volumes_usage(struct rp_volumes *v, const char *project, struct rp_volume_usage *ret,
                     struct rp_error *err)
{
    return rp_error_set(err, RP_ERROR_NOT_FOUND, "not measured");
}
int rp_volumes_clone(struct rp_volumes *v, const char *from, const char *to, struct rp_error *err)
{
    return 0;
}
int rp_volumes_list(struct rp_volumes *v, void (*each)(void *ctx, const char *project), void *ctx,
                    struct rp_error *err)
{
    return 0;
}
int rp_volumes_paths(struct rp_volumes *v, const char *project, struct rp_volume_paths *ret,
                     struct rp_error *err)
{
    return 0;
}
int rp_volumes_check(struct rp_volumes *v, struct rp_error *err)
{
    return 0;
}

/* ---- the gateway ---- */

struct project {
    struct fixture *fixture;
    char id[RP_ID_SIZE], sandbox[RP_ID_SIZE]; /* "": none as far as is known */
    bool busy, stopping;
};

struct fixture {
    char root[64], records[80], socket[80];
    struct fake_driver driver;
    struct rp_loop *loop;
    struct rp_orchestrator *client;
    struct rp_timer *act, *crash, *end;
    int listener;
    pid_t orchestrator;
    unsigned seed, crashes, starts, stops, adopted, ignored_gone;
    bool winding_down, finished, timed_out;
    struct project projects[PROJECTS];
};

static unsigned roll(struct fixture *f, unsigned n)
{
    return (unsigned)rand_r(&f->seed) % n;
}

static _Noreturn void orchestrate(struct fixture *f)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct rp_loop *loop = rp_loop_new();
    struct rp_lifecycle_options options = {
        .loop = loop, .driver = &f->driver.driver, .records = f->records, .max_sandboxes = 100, .warm = 1};
    struct rp_error e;
    atomic_store(&f->driver.slow_ms, 2);
    struct rp_server *server = rp_server_new(loop, f->listener, getuid());
    struct rp_lifecycle *lifecycle = rp_lifecycle_new(&options, &rp_server_events, server);
    rp_server_serve(server, lifecycle, &f->driver.driver, NULL);
    if (rp_lifecycle_reconcile(lifecycle, &e) < 0)
        _exit(1);
    rp_loop_run(loop);
    _exit(0);
}

static void launch(struct fixture *f)
{
    f->orchestrator = fork();
    if (f->orchestrator == 0)
        orchestrate(f);
}

static void on_crash(void *ctx)
{
    struct fixture *f = ctx;
    int status;
    kill(f->orchestrator, SIGKILL);
    waitpid(f->orchestrator, &status, 0);
    if (!WIFSIGNALED(status))
        fail_msg("the orchestrator ended by itself: %x", status);
    f->crashes++;
    launch(f);
    if (f->crashes < CRASHES)
        rp_timer_start(f->crash, roll(f, 5) ? 2000 : 5, 0); /* a few while it reconciles */
    else
        f->winding_down = true;
}

static void on_started(void *ctx, int connection, int64_t started_at, bool warm, const struct rp_error *err)
{
    struct project *p = ctx;
    rp_close_fd(&connection);
    p->busy = false;
    if (err) /* whether it is there will be seen in the next list */
        p->sandbox[0] = '\0';
}

static void on_stopped(void *ctx, const struct rp_error *err)
{
    struct project *p = ctx;
    p->busy = p->stopping = false;
    if (err)
        fail_msg("stop: %s", err->message);
    p->sandbox[0] = '\0';
}

static void on_stray_stopped(void *ctx, const struct rp_error *err)
{
    if (err)
        fail_msg("stop of a stray: %s", err->message);
}

/* As the gateway does after each reconnection. */
static void on_list(void *ctx, const struct rp_orchestrator_sandbox *list, size_t count,
                    const struct rp_error *err)
{
    struct fixture *f = ctx;
    if (err)
        fail_msg("list: %s", err->message);
    for (size_t i = 0; i < PROJECTS; i++) {
        struct project *p = &f->projects[i];
        bool there = false;
        for (size_t j = 0; j < count; j++)
            there = there || strcmp(list[j].sandbox, p->sandbox) == 0;
        if (there)
            f->adopted++;
        /* what was running and that nobody stopped must have been kept */
        if (*p->sandbox && !p->busy && !there)
            fail_msg("the sandbox of project %zu is lost", i);
    }
    for (size_t j = 0; j < count; j++) {
        bool known = false;
        for (size_t i = 0; i < PROJECTS; i++)
            known = known || strcmp(list[j].sandbox, f->projects[i].sandbox) == 0;
        if (!known)
            rp_orchestrator_stop(f->client, list[j].sandbox, 0, on_stray_stopped, NULL);
    }
}

static void on_connected(void *ctx, const struct rp_orchestrator_info *info)
{
    struct fixture *f = ctx;
    rp_orchestrator_list(f->client, on_list, f);
    if (!f->winding_down)
        rp_timer_start(f->crash, 5 + roll(f, 100), 0);
}

static void on_gone(void *ctx, const char *sandbox, const struct rp_error *why)
{
    struct fixture *f = ctx;
    f->ignored_gone++;
}

static const struct rp_orchestrator_events events = {.on_connected = on_connected, .on_gone = on_gone};

static void act_on(struct fixture *f, struct project *p)
{
    if (p->busy)
        return;
    p->busy = true;
    if (*p->sandbox) {
        f->stops++;
        p->stopping = true;
        rp_orchestrator_stop(f->client, p->sandbox, roll(f, 2) * 200, on_stopped, p);
        return;
    }
    struct rp_orchestrator_start s = {.environment = ENVIRONMENT, .limits = {64 << 20, 500, 100, 0, 0}};
    rp_random_id(p->sandbox);
    memcpy(s.sandbox, p->sandbox, sizeof(s.sandbox));
    memcpy(s.project, p->id, sizeof(s.project));
    f->starts++;
    rp_orchestrator_start(f->client, &s, NULL, on_started, p);
}

static void on_act(void *ctx)
{
    struct fixture *f = ctx;
    if (!f->winding_down) {
        act_on(f, &f->projects[roll(f, PROJECTS)]);
        return;
    }
    bool quiet = rp_orchestrator_info_of(f->client) != NULL;
    for (size_t i = 0; i < PROJECTS; i++) {
        if (*f->projects[i].sandbox && !f->projects[i].busy)
            act_on(f, &f->projects[i]);
        quiet = quiet && !*f->projects[i].sandbox && !f->projects[i].busy;
    }
    if (quiet) {
        f->finished = true;
        rp_loop_stop(f->loop);
    }
}

static void on_end(void *ctx)
{
    struct fixture *f = ctx;
    f->timed_out = true;
    rp_loop_stop(f->loop);
}

static void count_record(void *ctx, const struct rp_record *r)
{
    ++*(unsigned *)ctx;
}

static void after_any_crash_nothing_is_lost_and_nothing_is_left(void **state)
{
    struct fixture *f = rp_calloc(1, sizeof(*f));
    snprintf(f->root, sizeof(f->root), "/tmp/repld-crash-%d", getpid());
    snprintf(f->records, sizeof(f->records), "%s/records", f->root);
    snprintf(f->socket, sizeof(f->socket), "%s/socket", f->root);
    fake_driver_init(&f->driver, f->root);
    mkdir(f->records, 0700);
    const char *seed = getenv("REPLD_TEST_SEED");
    f->seed = seed ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)rp_clock_monotonic_ns();
    print_message("seed %u\n", f->seed);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->socket);
    f->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(f->listener, 8), 0);
    for (size_t i = 0; i < PROJECTS; i++) {
        f->projects[i].fixture = f;
        rp_random_id(f->projects[i].id);
    }
    launch(f);
    f->loop = rp_loop_new();
    f->client = rp_orchestrator_new(f->loop, f->socket, &events, f);
    f->act = rp_timer_new(f->loop, on_act, f);
    f->crash = rp_timer_new(f->loop, on_crash, f);
    f->end = rp_timer_new(f->loop, on_end, f);
    rp_timer_start(f->act, 2, 2);
    rp_timer_start(f->crash, 60, 0);
    rp_timer_start(f->end, 50000, 0);
    while (!f->finished && !f->timed_out)
        rp_loop_run(f->loop);
    assert_true(f->finished);
    print_message("%u crashes, %u starts, %u stops, %u found again\n", f->crashes, f->starts, f->stops,
                  f->adopted);
    assert_int_equal(f->crashes, CRASHES);
    assert_true(f->starts > CRASHES && f->adopted > 0);

    /* strays of the last list, and the warm one */
    unsigned records = 1, sandboxes = 2;
    for (int i = 0; i < 200 && (records > 0 || sandboxes > 1); i++) {
        rp_timer_start(f->end, 20, 0);
        for (f->timed_out = false; !f->timed_out;)
            rp_loop_run(f->loop);
        records = 0;
        assert_int_equal(rp_record_load_all(f->records, count_record, &records, NULL), 0);
        sandboxes = fake_count(&f->driver);
    }
    assert_int_equal(records, 0);
    assert_in_range(sandboxes, 0, 1);

    kill(f->orchestrator, SIGKILL);
    waitpid(f->orchestrator, NULL, 0);
    rp_orchestrator_free(f->client);
    rp_timer_free(f->act);
    rp_timer_free(f->crash);
    rp_timer_free(f->end);
    rp_loop_free(f->loop);
    fake_driver_done(&f->driver);
    close(f->listener);
    unlink(f->socket);
    rmdir(f->records);
    assert_int_equal(rmdir(f->root), 0);
    free(f);
}

int main(void)
{
    rp_log_open("test", RP_LOG_ERROR + 1, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_any_crash_nothing_is_lost_and_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
