/*
 * crash_gateway.h: a gateway that starts and stops sandboxes at random while the orchestrator, a process of
 * its own, is killed at random moments. This process holds the listening socket, as the supervisor does.
 * After each crash the next orchestrator must know exactly what exists. The seed of a run is printed;
 * REPLD_TEST_SEED repeats it.
 *
 * Included once by each test, which says what an orchestrator is made of: fixture.orchestrate.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/str.h"
#include "orchestrator/client.h"
#include "orchestrator/record.h"

#define ENVIRONMENT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

enum { PROJECTS = 6 };

struct project {
    struct fixture *fixture;
    char id[RP_ID_SIZE], sandbox[RP_ID_SIZE]; /* "": none as far as is known */
    bool busy, stopping;
};

struct fixture {
    char root[64], records[80], socket[80];
    void (*orchestrate)(struct fixture *f); /* in the orchestrator's process; for ever */
    void *own;                              /* the test's */
    unsigned crashes_wanted;
    unsigned life_ms; /* of an orchestrator: up to so long after its first answer */
    unsigned pace_ms; /* between two requests */
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

static void launch(struct fixture *f)
{
    f->orchestrator = fork();
    if (f->orchestrator == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        f->orchestrate(f);
        _exit(1);
    }
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
    if (f->crashes < f->crashes_wanted)
        rp_timer_start(f->crash, roll(f, 5) ? 5000 : f->life_ms / 20, 0); /* a few while it reconciles */
    else
        f->winding_down = true;
}

static void on_started(void *ctx, int connection, int64_t started_at, bool warm, const struct rp_error *err)
{
    struct project *p = ctx;
    rp_close_fd(&connection);
    p->busy = false;
    if (!err)
        return;
    if (getenv("REPLD_TEST_VERBOSE"))
        print_message("# start: %s\n", err->message);
    p->sandbox[0] = '\0'; /* whether it is there will be seen in the next list */
    /* cut off, stopped as a stray, or (before the first answer) without its volume; everything else is a bug
     */
    if (err->code != RP_ERROR_UNAVAILABLE && err->code != RP_ERROR_CONFLICT &&
        err->code != RP_ERROR_NOT_FOUND)
        fail_msg("start: %s", err->message);
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

static void on_volume_made(void *ctx, const struct rp_error *err)
{
    if (err)
        fail_msg("volume: %s", err->message);
}

static void on_connected(void *ctx, const struct rp_orchestrator_info *info)
{
    struct fixture *f = ctx;
    rp_orchestrator_list(f->client, on_list, f);
    for (size_t i = 0; i < PROJECTS; i++)
        rp_orchestrator_volume_create(f->client, f->projects[i].id, 1 << 24, on_volume_made, f);
    if (!f->winding_down)
        rp_timer_start(f->crash, 5 + roll(f, f->life_ms), 0);
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

static void gateway_open(struct fixture *f)
{
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
}

/* Crashes, then stops everything, and waits until no record is there and `left` says 0; the caller looks
 * again. */
static void gateway_run(struct fixture *f, unsigned (*left)(struct fixture *f))
{
    launch(f);
    f->loop = rp_loop_new();
    f->client = rp_orchestrator_new(f->loop, f->socket, &events, f);
    f->act = rp_timer_new(f->loop, on_act, f);
    f->crash = rp_timer_new(f->loop, on_crash, f);
    f->end = rp_timer_new(f->loop, on_end, f);
    rp_timer_start(f->act, f->pace_ms, f->pace_ms);
    rp_timer_start(f->end, 100000, 0);
    while (!f->finished && !f->timed_out)
        rp_loop_run(f->loop);
    assert_true(f->finished);
    print_message("%u crashes, %u starts, %u stops, %u found again\n", f->crashes, f->starts, f->stops,
                  f->adopted);
    assert_int_equal(f->crashes, f->crashes_wanted);
    assert_true(f->starts > f->crashes_wanted / 2 && f->adopted > 0);

    /* strays of the last list are still being stopped */
    unsigned records = 1;
    for (int i = 0; i < 500 && (records || left(f)); i++) {
        rp_timer_start(f->end, 20, 0);
        for (f->timed_out = false; !f->timed_out;)
            rp_loop_run(f->loop);
        records = 0;
        assert_int_equal(rp_record_load_all(f->records, count_record, &records, NULL), 0);
    }
    assert_int_equal(records, 0);
}

/* Also twice, and after a failure. */
static void gateway_close(struct fixture *f)
{
    if (!f->loop)
        return;
    kill(f->orchestrator, SIGKILL);
    waitpid(f->orchestrator, NULL, 0);
    rp_orchestrator_free(f->client);
    rp_timer_free(f->act);
    rp_timer_free(f->crash);
    rp_timer_free(f->end);
    rp_loop_free(f->loop);
    f->loop = NULL;
    close(f->listener);
    unlink(f->socket);
}
