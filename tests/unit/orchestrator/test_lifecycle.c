/*
 * orchestrator: client, server, lifecycle, reconcile and records together, over a real socket, with a driver
 * and volumes that are files (fake_driver.h): every way in which a sandbox begins, ends, fails and is found
 * again.
 */
#include "../cmocka_all.h"

#include "base/log.h"
#include "fake_driver.h"
#include "orchestrator/client.h"
#include "orchestrator/lifecycle.h"
#include "orchestrator/record.h"
#include "orchestrator/server.h"
#include "orchestrator/warm.h"

#define ENVIRONMENT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PROJECT_1   "projectprojecta1"
#define PROJECT_2   "projectprojecta2"
#define SANDBOX_1   "sandboxsandboxa1"
#define SANDBOX_2   "sandboxsandboxa2"

/* ---- volumes: each is a name in this list ---- */

struct rp_volumes {
    char ids[8][RP_ID_SIZE];
    unsigned count;
};

static int volume_find(struct rp_volumes *v, const char *project, struct rp_error *err)
{
    for (unsigned i = 0; i < v->count; i++)
        if (strcmp(v->ids[i], project) == 0)
            return (int)i;
    return rp_error_set(err, RP_ERROR_NOT_FOUND, "there is no volume %s", project);
}

int rp_volumes_create(struct rp_volumes *v, const char *project, uint64_t quota, struct rp_error *err)
{
    if (volume_find(v, project, NULL) < 0)
        snprintf(v->ids[v->count++], RP_ID_SIZE, "%s", project);
    return 0;
}

int rp_volumes_remove(struct rp_volumes *v, const char *project, struct rp_error *err)
{
    int i = volume_find(v, project, NULL);
    if (i >= 0)
        memmove(v->ids[i], v->ids[--v->count], RP_ID_SIZE);
    return 0;
}

int rp_volumes_set_quota(struct rp_volumes *v, const char *project, uint64_t quota, struct rp_error *err)
{
    return volume_find(v, project, err) < 0 ? -1 : 0;
}

int rp_volumes_usage(struct rp_volumes *v, const char *project, struct rp_volume_usage *ret,
                     struct rp_error *err)
{
    *ret = (struct rp_volume_usage){.used = 11, .quota = 22};
    return volume_find(v, project, err) < 0 ? -1 : 0;
}

int rp_volumes_clone(struct rp_volumes *v, const char *from, const char *to, struct rp_error *err)
{
    return volume_find(v, from, err) < 0 ? -1 : rp_volumes_create(v, to, 0, err);
}

int rp_volumes_list(struct rp_volumes *v, void (*each)(void *ctx, const char *project), void *ctx,
                    struct rp_error *err)
{
    for (unsigned i = 0; i < v->count; i++)
        each(ctx, v->ids[i]);
    return 0;
}

int rp_volumes_paths(struct rp_volumes *v, const char *project, struct rp_volume_paths *ret,
                     struct rp_error *err)
{
    return volume_find(v, project, err) < 0 ? -1 : 0;
}

int rp_volumes_check(struct rp_volumes *v, struct rp_error *err)
{
    return 0;
}

/* ---- the fixture ---- */

struct fixture {
    char root[64], records[80], socket[80];
    struct fake_driver driver;
    struct rp_volumes volumes;
    struct rp_loop *loop;
    struct rp_server *server;
    struct rp_lifecycle *lifecycle;
    struct rp_orchestrator *client;
    int listener;
    uint32_t max, warm;
    struct rp_timer *timeout;
    bool timed_out;
    /* what was answered last */
    unsigned answers;
    int fd;
    int64_t started_at;
    bool was_warm;
    enum rp_code code, codes[64]; /* of the last, and of each */
    char message[384], progress[200];
    struct rp_orchestrator_sandbox list[8];
    char volumes_listed[8][RP_ID_SIZE];
    size_t count;
    struct rp_sandbox_stats stats;
    uint64_t used, quota;
    /* events */
    unsigned connected, disconnected, gone, oom;
    char gone_sandbox[RP_ID_SIZE];
    enum rp_code gone_code;
};

static void on_timeout(void *ctx)
{
    struct fixture *f = ctx;
    f->timed_out = true;
    rp_loop_stop(f->loop);
}

/* Runs the loop until *what has reached n. */
static void spin(struct fixture *f, const unsigned *what, unsigned n)
{
    rp_timer_start(f->timeout, 10000, 0);
    while (*what < n) {
        rp_loop_run(f->loop);
        if (f->timed_out)
            fail_msg("nothing happened for ten seconds");
    }
    rp_timer_stop(f->timeout);
}

/* Lets the loop run for a while. */
static void idle(struct fixture *f, unsigned ms)
{
    rp_timer_start(f->timeout, ms, 0);
    while (!f->timed_out)
        rp_loop_run(f->loop);
    f->timed_out = false;
}

static void take(struct fixture *f, const struct rp_error *err)
{
    f->code = err ? err->code : RP_ERROR_NONE;
    snprintf(f->message, sizeof(f->message), "%s", err ? err->message : "");
    f->codes[f->answers++ % RP_ARRAY_SIZE(f->codes)] = f->code;
    rp_loop_stop(f->loop);
}

static void on_done(void *ctx, const struct rp_error *err)
{
    take(ctx, err);
}

static void on_attached(void *ctx, int connection, int64_t started_at, bool warm, const struct rp_error *err)
{
    struct fixture *f = ctx;
    rp_close_fd(&f->fd);
    f->fd = connection;
    f->started_at = started_at;
    f->was_warm = warm;
    take(f, err);
}

static void on_progress(void *ctx, const char *step)
{
    struct fixture *f = ctx;
    size_t n = strlen(f->progress);
    snprintf(f->progress + n, sizeof(f->progress) - n, "%s ", step);
}

static void on_list(void *ctx, const struct rp_orchestrator_sandbox *list, size_t count,
                    const struct rp_error *err)
{
    struct fixture *f = ctx;
    f->count = count;
    if (count)
        memcpy(f->list, list, RP_MIN(count, RP_ARRAY_SIZE(f->list)) * sizeof(*list));
    take(f, err);
}

static void on_volumes(void *ctx, const char (*ids)[RP_ID_SIZE], size_t count, const struct rp_error *err)
{
    struct fixture *f = ctx;
    f->count = count;
    if (count)
        memcpy(f->volumes_listed, ids, RP_MIN(count, RP_ARRAY_SIZE(f->volumes_listed)) * RP_ID_SIZE);
    take(f, err);
}

static void on_stats(void *ctx, const struct rp_sandbox_stats *stats, const struct rp_error *err)
{
    struct fixture *f = ctx;
    if (stats)
        f->stats = *stats;
    take(f, err);
}

static void on_usage(void *ctx, uint64_t used, uint64_t quota, const struct rp_error *err)
{
    struct fixture *f = ctx;
    f->used = used;
    f->quota = quota;
    take(f, err);
}

static void on_connected(void *ctx, const struct rp_orchestrator_info *info)
{
    struct fixture *f = ctx;
    assert_string_equal(info->driver, "fake");
    assert_true(info->cpus > 0 && info->memory > 0);
    f->connected++;
    rp_loop_stop(f->loop);
}

static void on_disconnected(void *ctx)
{
    struct fixture *f = ctx;
    f->disconnected++;
    rp_loop_stop(f->loop);
}

static void on_gone(void *ctx, const char *sandbox, const struct rp_error *why)
{
    struct fixture *f = ctx;
    memcpy(f->gone_sandbox, sandbox, RP_ID_SIZE);
    f->gone_code = why->code;
    f->gone++;
    rp_loop_stop(f->loop);
}

static void on_oom(void *ctx, const char *sandbox, uint32_t step)
{
    struct fixture *f = ctx;
    f->oom++;
    rp_loop_stop(f->loop);
}

static const struct rp_orchestrator_events client_events = {on_connected, on_disconnected, on_gone, on_oom};

/* The orchestrator's half: what a process of it would make. */
static void orchestrator_up(struct fixture *f)
{
    struct rp_lifecycle_options options = {.loop = f->loop,
                                           .driver = &f->driver.driver,
                                           .volumes = &f->volumes,
                                           .records = f->records,
                                           .max_sandboxes = f->max,
                                           .warm = f->warm};
    struct rp_error e;
    f->server = rp_server_new(f->loop, f->listener, getuid());
    f->lifecycle = rp_lifecycle_new(&options, &rp_server_events, f->server);
    rp_server_serve(f->server, f->lifecycle, &f->driver.driver, NULL);
    if (rp_lifecycle_reconcile(f->lifecycle, &e) < 0)
        fail_msg("%s", e.message);
}

static void orchestrator_down(struct fixture *f)
{
    rp_lifecycle_free(f->lifecycle);
    rp_server_free(f->server);
    f->lifecycle = NULL;
    f->server = NULL;
}

static int setup(void **state)
{
    static unsigned number;
    struct fixture *f = rp_calloc(1, sizeof(*f));
    snprintf(f->root, sizeof(f->root), "/tmp/repld-lifecycle-%d-%u", getpid(), ++number);
    snprintf(f->records, sizeof(f->records), "%s/records", f->root);
    snprintf(f->socket, sizeof(f->socket), "%s/socket", f->root);
    fake_driver_init(&f->driver, f->root);
    mkdir(f->records, 0700);
    f->max = 100;
    f->fd = -1;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->socket);
    f->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(f->listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(f->listener, 8) < 0)
        return -1;
    f->loop = rp_loop_new();
    f->timeout = rp_timer_new(f->loop, on_timeout, f);
    if (rp_volumes_create(&f->volumes, PROJECT_1, 0, NULL) < 0 ||
        rp_volumes_create(&f->volumes, PROJECT_2, 0, NULL) < 0)
        return -1;
    f->client = rp_orchestrator_new(f->loop, f->socket, &client_events, f);
    *state = f;
    return 0;
}

static int setup_up(void **state)
{
    if (setup(state) < 0)
        return -1;
    struct fixture *f = *state;
    orchestrator_up(f);
    spin(f, &f->connected, 1);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rp_orchestrator_free(f->client);
    orchestrator_down(f);
    rp_close_fd(&f->fd);
    rp_timer_free(f->timeout);
    rp_loop_free(f->loop);
    fake_driver_done(&f->driver);
    close(f->listener);
    unlink(f->socket);
    struct dirent *e;
    DIR *d = opendir(f->records);
    while (d && (e = readdir(d)))
        if (strlen(e->d_name) >= RP_ID_LENGTH)
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(f->records);
    int r = rmdir(f->root); /* fails when something is left */
    free(f);
    return r;
}

static void begin_start(struct fixture *f, const char *sandbox, const char *project)
{
    struct rp_orchestrator_start s = {.environment = ENVIRONMENT,
                                      .limits = {64 << 20, 500, 100, 0, 0},
                                      .network = {.mode = RP_NETWORK_NONE}};
    snprintf(s.sandbox, sizeof(s.sandbox), "%s", sandbox);
    snprintf(s.project, sizeof(s.project), "%s", project);
    f->progress[0] = '\0';
    rp_orchestrator_start(f->client, &s, on_progress, on_attached, f);
}

static enum rp_code start(struct fixture *f, const char *sandbox, const char *project)
{
    begin_start(f, sandbox, project);
    spin(f, &f->answers, f->answers + 1);
    return f->code;
}

static enum rp_code stop(struct fixture *f, const char *sandbox, uint32_t grace_ms)
{
    rp_orchestrator_stop(f->client, sandbox, grace_ms, on_done, f);
    spin(f, &f->answers, f->answers + 1);
    return f->code;
}

static size_t list(struct fixture *f)
{
    rp_orchestrator_list(f->client, on_list, f);
    spin(f, &f->answers, f->answers + 1);
    assert_int_equal(f->code, RP_ERROR_NONE);
    return f->count;
}

static void count_record(void *ctx, const struct rp_record *r)
{
    ++*(unsigned *)ctx;
}

static unsigned records(struct fixture *f)
{
    unsigned n = 0;
    assert_int_equal(rp_record_load_all(f->records, count_record, &n, NULL), 0);
    return n;
}

static void assert_nothing_left(struct fixture *f)
{
    assert_int_equal(fake_count(&f->driver), 0);
    assert_int_equal(records(f), 0);
}

/* ---- tests ---- */

static void a_sandbox_starts_and_stops(void **state)
{
    struct fixture *f = *state;
    int64_t before = rp_orchestrator_info_of(f->client)->memory > 0;
    assert_int_equal(before, 1);
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    assert_true(f->fd >= 0);
    assert_false(f->was_warm);
    assert_string_equal(f->progress, "volume sandbox files limits ");
    assert_int_equal(f->driver.limit_calls, 1);
    assert_int_equal(list(f), 1);
    assert_string_equal(f->list[0].sandbox, SANDBOX_1);
    assert_string_equal(f->list[0].project, PROJECT_1);
    assert_string_equal(f->list[0].environment, ENVIRONMENT);
    assert_true(f->list[0].started_at == f->started_at);
    assert_int_equal(records(f), 1);
    assert_int_equal(stop(f, SANDBOX_1, 1000), RP_ERROR_NONE);
    assert_nothing_left(f);
    assert_int_equal(list(f), 0);
    assert_int_equal(f->gone, 0);
    assert_int_equal(stop(f, SANDBOX_1, 1000), RP_ERROR_NONE); /* idempotent */
}

static void requests_for_what_is_not_there(void **state)
{
    struct fixture *f = *state;
    struct rp_limits limits = {64 << 20, 500, 100, 0, 0};
    rp_orchestrator_attach(f->client, SANDBOX_1, on_attached, f);
    spin(f, &f->answers, 1);
    assert_int_equal(f->code, RP_ERROR_NOT_FOUND);
    assert_int_equal(f->fd, -1);
    rp_orchestrator_limits(f->client, SANDBOX_1, 1, &limits, on_done, f);
    spin(f, &f->answers, 2);
    assert_int_equal(f->code, RP_ERROR_NOT_FOUND);
    assert_int_equal(start(f, SANDBOX_1, "projectnotthere1"), RP_ERROR_NOT_FOUND);
    assert_nothing_left(f);
}

static void what_is_out_of_range_is_not_sent(void **state)
{
    struct fixture *f = *state;
    unsigned before = f->answers;
    rp_orchestrator_attach(f->client, "../../etc/passwd", on_attached, f);
    rp_orchestrator_stop(f->client, "longer than an id can be", 0, on_done, f);
    assert_int_equal(f->answers, before); /* never from inside */
    spin(f, &f->answers, before + 2);
    assert_int_equal(f->code, RP_ERROR_INVALID);
    struct rp_limits limits = {1, 500, 100, 0, 0};
    rp_orchestrator_limits(f->client, SANDBOX_1, 1, &limits, on_done, f);
    spin(f, &f->answers, before + 3);
    assert_int_equal(f->code, RP_ERROR_INVALID);
    assert_int_equal(f->disconnected, 0);
}

static void a_project_has_one_sandbox(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    assert_int_equal(start(f, SANDBOX_2, PROJECT_1), RP_ERROR_CONFLICT);
    assert_int_equal(start(f, SANDBOX_1, PROJECT_2), RP_ERROR_EXISTS);
    assert_int_equal(list(f), 1);
}

static void the_number_of_sandboxes_is_limited(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    assert_int_equal(start(f, SANDBOX_2, PROJECT_2), RP_ERROR_UNAVAILABLE);
    assert_string_equal(f->message, "all 1 sandboxes are in use");
    assert_int_equal(stop(f, SANDBOX_1, 0), RP_ERROR_NONE);
    assert_int_equal(start(f, SANDBOX_2, PROJECT_2), RP_ERROR_NONE);
}

static int setup_max_1(void **state)
{
    if (setup(state) < 0)
        return -1;
    struct fixture *f = *state;
    f->max = 1;
    orchestrator_up(f);
    spin(f, &f->connected, 1);
    return 0;
}

static void a_limit_beyond_the_machine_is_refused(void **state)
{
    struct fixture *f = *state;
    struct rp_orchestrator_start s = {
        SANDBOX_1, PROJECT_1, ENVIRONMENT, {UINT64_C(1) << 40, 500, 100, 0, 0}, {0}};
    rp_orchestrator_start(f->client, &s, NULL, on_attached, f);
    spin(f, &f->answers, 1);
    assert_int_equal(f->code, RP_ERROR_INVALID);
    assert_nothing_left(f);
}

static void each_step_that_fails_is_undone(void **state)
{
    struct fixture *f = *state;
    static const enum fake_step steps[] = {FAKE_CREATE, FAKE_CLAIM, FAKE_CONNECT, FAKE_WATCH, FAKE_LIMITS};
    for (size_t i = 0; i < RP_ARRAY_SIZE(steps); i++) {
        atomic_store(&f->driver.fails, steps[i]);
        atomic_store(&f->driver.times, 1);
        assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_RUNTIME);
        assert_nothing_left(f);
        assert_int_equal(f->fd, -1);
    }
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
}

static void what_cannot_be_removed_is_tried_again(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    atomic_store(&f->driver.fails, FAKE_DESTROY);
    atomic_store(&f->driver.times, 2);
    assert_int_equal(stop(f, SANDBOX_1, 0), RP_ERROR_RUNTIME);
    assert_int_equal(records(f), 1);
    assert_int_equal(list(f), 0);
    assert_int_equal(start(f, SANDBOX_2, PROJECT_1), RP_ERROR_UNAVAILABLE);
    assert_int_equal(stop(f, SANDBOX_1, 0), RP_ERROR_RUNTIME); /* a stop tries at once */
    for (int i = 0; i < 100 && records(f); i++)
        idle(f, 50);
    assert_nothing_left(f);
    assert_int_equal(start(f, SANDBOX_2, PROJECT_1), RP_ERROR_NONE);
}

static void a_failed_start_that_cannot_be_undone_is_removed_later(void **state)
{
    struct fixture *f = *state;
    /* the claim fails because its folder is gone, so does not fit one step: fail the destroy of a failed
     * start */
    atomic_store(&f->driver.fails, FAKE_DESTROY);
    atomic_store(&f->driver.times, 1);
    begin_start(f, SANDBOX_1, PROJECT_1);
    rp_orchestrator_stop(f->client, SANDBOX_1, 0, on_done, f);
    spin(f, &f->answers, f->answers + 2);
    for (int i = 0; i < 100 && (records(f) || fake_count(&f->driver)); i++)
        idle(f, 50);
    assert_nothing_left(f);
}

static void a_stop_ends_a_start_under_way(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->driver.slow_ms, 60);
    begin_start(f, SANDBOX_1, PROJECT_1);
    idle(f, 30);
    rp_orchestrator_stop(f->client, SANDBOX_1, 5000, on_done, f);
    spin(f, &f->answers, 2);
    assert_int_equal(f->codes[0], RP_ERROR_CONFLICT); /* the start */
    assert_int_equal(f->codes[1], RP_ERROR_NONE);
    assert_nothing_left(f);
}

static void a_deaf_init_is_killed_after_the_grace(void **state)
{
    struct fixture *f = *state;
    f->driver.deaf = true;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    assert_int_equal(stop(f, SANDBOX_1, 100), RP_ERROR_NONE);
    assert_nothing_left(f);
    assert_int_equal(f->gone, 0);
}

static void other_projects_do_not_wait_for_a_grace(void **state)
{
    struct fixture *f = *state;
    f->driver.deaf = true;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    rp_orchestrator_stop(f->client, SANDBOX_1, 60000, on_done, f);
    unsigned before = f->answers;
    assert_int_equal(start(f, SANDBOX_2, PROJECT_2), RP_ERROR_NONE);
    assert_int_equal(f->answers, before + 1);
}

static void an_init_that_ends_by_itself_is_cleaned_up_and_told(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    kill(fake_pid(&f->driver, SANDBOX_1), SIGKILL);
    spin(f, &f->gone, 1);
    assert_string_equal(f->gone_sandbox, SANDBOX_1);
    assert_int_equal(f->gone_code, RP_ERROR_SANDBOX);
    assert_nothing_left(f);
    assert_int_equal(list(f), 0);
    assert_int_equal(start(f, SANDBOX_2, PROJECT_1), RP_ERROR_NONE);
    atomic_store(&f->driver.oom_kills, 1);
    kill(fake_pid(&f->driver, SANDBOX_2), SIGKILL);
    spin(f, &f->gone, 2);
    assert_int_equal(f->gone_code, RP_ERROR_OUT_OF_MEMORY);
}

static void a_kill_for_memory_is_told(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    idle(f, 1300); /* the counter has been seen */
    atomic_store(&f->driver.oom_kills, 1);
    spin(f, &f->oom, 1);
    assert_int_equal(list(f), 1);
}

static void a_running_sandbox_is_attached_limited_and_measured(void **state)
{
    struct fixture *f = *state;
    struct rp_limits limits = {64 << 20, 500, 100, 0, 0};
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    int64_t started_at = f->started_at;
    unsigned n = f->answers;
    rp_orchestrator_attach(f->client, SANDBOX_1, on_attached, f);
    spin(f, &f->answers, ++n);
    assert_int_equal(f->code, RP_ERROR_NONE);
    assert_true(f->started_at == started_at && f->fd >= 0);
    rp_orchestrator_limits(f->client, SANDBOX_1, 1, &limits, on_done, f);
    spin(f, &f->answers, ++n);
    assert_int_equal(f->code, RP_ERROR_NONE);
    assert_int_equal(f->driver.limit_calls, 2);
    rp_orchestrator_step_drop(f->client, SANDBOX_1, 1, on_done, f);
    spin(f, &f->answers, ++n);
    assert_int_equal(f->code, RP_ERROR_NONE);
    assert_int_equal(f->driver.drops, 1);
    rp_orchestrator_stats(f->client, SANDBOX_1, on_stats, f);
    spin(f, &f->answers, ++n);
    assert_int_equal(f->stats.memory, 42);
    rp_orchestrator_ready(f->client, on_done, f);
    spin(f, &f->answers, ++n);
    assert_int_equal(f->code, RP_ERROR_NONE);
}

static void volumes_are_made_measured_copied_listed_and_deleted(void **state)
{
    struct fixture *f = *state;
    unsigned n = 0;
    rp_orchestrator_volume_create(f->client, "projectprojecta3", 1 << 30, on_done, f);
    spin(f, &f->answers, ++n);
    assert_int_equal(f->code, RP_ERROR_NONE);
    rp_orchestrator_volume_usage(f->client, "projectprojecta3", on_usage, f);
    spin(f, &f->answers, ++n);
    assert_true(f->used == 11 && f->quota == 22);
    rp_orchestrator_volume_clone(f->client, "projectprojecta3", "projectprojecta4", on_done, f);
    spin(f, &f->answers, ++n);
    rp_orchestrator_volume_list(f->client, on_volumes, f);
    spin(f, &f->answers, ++n);
    assert_int_equal(f->count, 4);
    assert_string_equal(f->volumes_listed[3], "projectprojecta4");
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    n = f->answers;
    rp_orchestrator_volume_delete(f->client, PROJECT_1, on_done, f);
    spin(f, &f->answers, ++n);
    assert_int_equal(f->code, RP_ERROR_CONFLICT);
    rp_orchestrator_volume_delete(f->client, "projectprojecta3", on_done, f);
    spin(f, &f->answers, ++n);
    assert_int_equal(f->code, RP_ERROR_NONE);
    assert_int_equal(f->volumes.count, 3);
}

static void sandboxes_are_adopted_after_a_restart(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    int64_t started_at = f->started_at;
    pid_t pid = fake_pid(&f->driver, SANDBOX_1);
    orchestrator_down(f);
    spin(f, &f->disconnected, 1);
    assert_null(rp_orchestrator_info_of(f->client));
    orchestrator_up(f);
    spin(f, &f->connected, 2);
    assert_int_equal(list(f), 1);
    assert_string_equal(f->list[0].sandbox, SANDBOX_1);
    assert_true(f->list[0].started_at == started_at);
    assert_int_equal(fake_pid(&f->driver, SANDBOX_1), pid);
    assert_int_equal(kill(pid, 0), 0);
    /* and it is watched as before */
    kill(pid, SIGKILL);
    spin(f, &f->gone, 1);
    assert_nothing_left(f);
}

static void what_a_crash_left_is_removed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    orchestrator_down(f);
    /* dead with a record; alive without one; half made, with a record that says so; a record alone; not a
     * record */
    kill(fake_pid(&f->driver, SANDBOX_1), SIGKILL);
    struct rp_error e;
    assert_int_equal(fake_create(&f->driver.driver, "sandboxunknown01", &e), 0);
    assert_int_equal(fake_create(&f->driver.driver, SANDBOX_2, &e), 0);
    struct rp_record half = {SANDBOX_2, SANDBOX_2, PROJECT_2, ENVIRONMENT, 1, false, false};
    struct rp_record alone = {
        "sandboxrecorded1", "sandboxrecorded1", "projectprojecta3", ENVIRONMENT, 1, true, false};
    assert_int_equal(rp_record_write(f->records, &half, &e), 0);
    assert_int_equal(rp_record_write(f->records, &alone, &e), 0);
    _cleanup_free_ char *rubbish = rp_asprintf("%s/rubbishrubbish01", f->records);
    close(open(rubbish, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    orchestrator_up(f);
    spin(f, &f->connected, 2);
    /* the answer to HELLO waited for all of it */
    assert_nothing_left(f);
    assert_int_equal(access(rubbish, F_OK), -1);
    assert_int_equal(list(f), 0);
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
}

static void requests_wait_for_an_orchestrator_that_restarts(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    atomic_store(&f->driver.slow_ms, 20);
    unsigned before = f->answers;
    rp_orchestrator_stop(f->client, SANDBOX_1, 0, on_done, f);
    idle(f, 10);
    rp_server_serve(f->server, NULL, NULL, NULL); /* as when it is killed: what it still does is not told */
    orchestrator_down(f);
    idle(f, 50);
    assert_int_equal(f->answers, before);
    rp_orchestrator_volume_usage(f->client, PROJECT_1, on_usage, f);
    orchestrator_up(f);
    spin(f, &f->answers, before + 2);
    assert_int_equal(f->code, RP_ERROR_NONE);
    assert_nothing_left(f);
}

static void a_start_that_was_cut_off_fails_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->driver.slow_ms, 60);
    begin_start(f, SANDBOX_1, PROJECT_1);
    idle(f, 30);
    /* the connection breaks while the work goes on: the server drops a gateway that breaks the rules */
    rp_server_serve(f->server, f->lifecycle, &f->driver.driver, NULL);
    spin(f, &f->answers, 1);
    assert_int_equal(f->code, RP_ERROR_UNAVAILABLE);
    spin(f, &f->connected, 2);
    atomic_store(&f->driver.slow_ms, 0);
    for (int i = 0; i < 100 && fake_count(&f->driver); i++)
        idle(f, 20);
    assert_nothing_left(f);
    assert_int_equal(list(f), 0);
}

static void a_warm_sandbox_is_claimed(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 100 && f->driver.creates < 2; i++)
        idle(f, 10);
    idle(f, 50);
    assert_int_equal(fake_count(&f->driver), 2);
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
    assert_true(f->was_warm);
    assert_string_equal(f->progress, "volume files limits ");
    assert_int_equal(list(f), 1);
    assert_string_equal(f->list[0].sandbox, SANDBOX_1);
    assert_int_equal(stop(f, SANDBOX_1, 0), RP_ERROR_NONE);
    for (int i = 0; i < 100 && f->driver.creates < 3; i++)
        idle(f, 10); /* it is made full again */
    idle(f, 50);
    assert_int_equal(fake_count(&f->driver), 2);
    /* the pool is emptied when the orchestrator ends */
    orchestrator_down(f);
    assert_nothing_left(f);
}

static void a_dead_warm_sandbox_is_no_reason_not_to_start(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 100 && f->driver.creates < 2; i++)
        idle(f, 10);
    idle(f, 50);
    atomic_store(&f->driver.fails, FAKE_CLAIM);
    atomic_store(&f->driver.times, 1);
    assert_int_equal(start(f, SANDBOX_1, PROJECT_1), RP_ERROR_NONE);
}

static int setup_warm(void **state)
{
    if (setup(state) < 0)
        return -1;
    struct fixture *f = *state;
    f->warm = 2;
    orchestrator_up(f);
    spin(f, &f->connected, 1);
    return 0;
}

static void a_client_without_orchestrator_gives_up(void **state)
{
    struct fixture *f = *state;
    rp_orchestrator_list(f->client, on_list, f);
    rp_timer_start(f->timeout, RP_ORCHESTRATOR_PATIENCE_MS + 3000, 0);
    while (!f->answers && !f->timed_out)
        rp_loop_run(f->loop);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->code, RP_ERROR_UNAVAILABLE);
    f->timed_out = false;
}

/* What a gateway that was taken over may try: the connection ends, the orchestrator does not. */
static void malformed_messages_end_the_connection_only(void **state)
{
    struct fixture *f = *state;
    static const struct {
        size_t n;
        const char *bytes;
    } bad[] = {
        {1, "x"},
        {8, "\x19\0\0\0\1\0\0\0"},        /* LIST before HELLO */
        {12, "\1\0\0\0\1\0\0\0\2\0\0\0"}, /* HELLO of version 2 */
        {12, "\1\0\1\0\1\0\0\0\1\0\0\0"}, /* flags */
        {8, "\xff\xff\0\0\1\0\0\0"},      /* unknown type */
        {8, "\2\0\0\0\1\0\0\0"},          /* an answer instead of a request */
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->socket);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(send(fd, bad[i].bytes, bad[i].n, 0), bad[i].n);
        idle(f, 20);
        char byte;
        ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
        assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
        close(fd);
    }
    /* a descriptor that nobody asked for; a message beyond the buffer */
    idle(f, 600);
    assert_int_equal(list(f), 0);
}

static void another_user_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(chmod(f->root, 0711), 0);
    assert_int_equal(chmod(f->socket, 0777), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->socket);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        char byte;
        if (setuid(64299) < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
            _exit(1);
        send(fd, "\1\0\0\0\1\0\0\0\1\0\0\0", 12, MSG_NOSIGNAL);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        _exit(poll(&p, 1, 5000) == 1 && recv(fd, &byte, 1, 0) <= 0 ? 0 : 2);
    }
    idle(f, 200);
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(f->disconnected, 0); /* it did not replace the gateway */
}

#define UP(test)          cmocka_unit_test_setup_teardown(test, setup_up, teardown)
#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    rp_log_open("test", RP_LOG_ERROR + 1, false);
    const struct CMUnitTest tests[] = {
        UP(a_sandbox_starts_and_stops),
        UP(requests_for_what_is_not_there),
        UP(what_is_out_of_range_is_not_sent),
        UP(a_project_has_one_sandbox),
        WITH(setup_max_1, the_number_of_sandboxes_is_limited),
        UP(a_limit_beyond_the_machine_is_refused),
        UP(each_step_that_fails_is_undone),
        UP(what_cannot_be_removed_is_tried_again),
        UP(a_failed_start_that_cannot_be_undone_is_removed_later),
        UP(a_stop_ends_a_start_under_way),
        UP(a_deaf_init_is_killed_after_the_grace),
        UP(other_projects_do_not_wait_for_a_grace),
        UP(an_init_that_ends_by_itself_is_cleaned_up_and_told),
        UP(a_kill_for_memory_is_told),
        UP(a_running_sandbox_is_attached_limited_and_measured),
        UP(volumes_are_made_measured_copied_listed_and_deleted),
        UP(sandboxes_are_adopted_after_a_restart),
        UP(what_a_crash_left_is_removed),
        UP(requests_wait_for_an_orchestrator_that_restarts),
        UP(a_start_that_was_cut_off_fails_and_leaves_nothing),
        WITH(setup_warm, a_warm_sandbox_is_claimed),
        WITH(setup_warm, a_dead_warm_sandbox_is_no_reason_not_to_start),
        WITH(setup, a_client_without_orchestrator_gives_up),
        UP(malformed_messages_end_the_connection_only),
        UP(another_user_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
