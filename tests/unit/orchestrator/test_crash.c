/*
 * orchestrator: SIGKILL at random moments while sandboxes start and stop, over a driver whose every step
 * takes a little (fake_driver.h). test_crash_oci.c does the same with the real one.
 */
#include "../cmocka_all.h"

#include "base/log.h"
#include "crash_gateway.h"
#include "fake_driver.h"
#include "orchestrator/lifecycle.h"
#include "orchestrator/server.h"

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

static void orchestrate(struct fixture *f)
{
    struct fake_driver *driver = f->own;
    struct rp_loop *loop = rp_loop_new();
    struct rp_lifecycle_options options = {
        .loop = loop, .driver = &driver->driver, .records = f->records, .max_sandboxes = 100, .warm = 1};
    struct rp_error e;
    atomic_store(&driver->slow_ms, 2);
    struct rp_server *server = rp_server_new(loop, f->listener, getuid());
    struct rp_lifecycle *lifecycle = rp_lifecycle_new(&options, &rp_server_events, server);
    rp_server_serve(server, lifecycle, &driver->driver, NULL);
    if (rp_lifecycle_reconcile(lifecycle, &e) == 0)
        rp_loop_run(loop);
}

/* The warm one may be there. */
static unsigned left(struct fixture *f)
{
    unsigned count = fake_count(f->own);
    return count > 1 ? count : 0;
}

static void after_any_crash_nothing_is_lost_and_nothing_is_left(void **state)
{
    static struct fake_driver driver;
    struct fixture *f = rp_calloc(1, sizeof(*f));
    *f = (struct fixture){
        .own = &driver, .orchestrate = orchestrate, .crashes_wanted = 25, .life_ms = 100, .pace_ms = 2};
    snprintf(f->root, sizeof(f->root), "/tmp/repld-crash-%d", getpid());
    snprintf(f->records, sizeof(f->records), "%s/records", f->root);
    snprintf(f->socket, sizeof(f->socket), "%s/socket", f->root);
    fake_driver_init(&driver, f->root);
    mkdir(f->records, 0700);
    gateway_open(f);
    gateway_run(f, left);
    gateway_close(f);
    assert_int_equal(left(f), 0);
    fake_driver_done(&driver);
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
