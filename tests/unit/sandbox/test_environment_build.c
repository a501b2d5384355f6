/*
 * sandbox/oci/environment_build: a build that fails, is interrupted or comes second leaves nothing half made
 * and says why. The tools are programs of the test's own in PATH; real builds are in
 * tests/e2e/test_stack_command.py.
 */
#include "../cmocka_all.h"

#include <ftw.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "sandbox/oci/environment.h"
#include "sandbox/oci/environment_internal.h"

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static char root[64];
static char *path_before;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static int make_root(void **state)
{
    snprintf(root, sizeof(root), "/tmp/repld-build-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    path_before = rp_strdup(getenv("PATH"));
    _cleanup_free_ char *path = rp_asprintf("%s/bin:%s", root, path_before);
    return setenv("PATH", path, 1);
}

static int remove_root(void **state)
{
    setenv("PATH", path_before, 1);
    free(path_before);
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void tool(const char *name, const char *script)
{
    struct rp_error e;
    _cleanup_free_ char *path = rp_asprintf("bin/%s", name);
    _cleanup_free_ char *text = rp_asprintf("#!/bin/sh\n%s\n", script);
    assert_int_equal(rp_environment_put(root, path, rp_str_of(text), 0755, &e), 0);
}

static const char *const none[] = {NULL};
static const struct rp_recipe recipe = {.hash = HASH_A,
                                        .name = "_test",
                                        .provider = "debian",
                                        .suite = "bookworm",
                                        .packages = none,
                                        .exclude = none};

static int build(const struct rp_recipe *r, struct rp_error *err)
{
    _cleanup_free_ char *dir = rp_asprintf("%s/deep/environments", root);
    const struct rp_environment_build b = {.environments_dir = dir,
                                           .debian_mirror = "http://mirror.example/debian"};
    return rp_environment_build(&b, r, err);
}

static bool exists(const char *path)
{
    _cleanup_free_ char *full = rp_asprintf("%s/deep/environments/%s", root, path);
    return access(full, F_OK) == 0;
}

static void nothing_is_left(void)
{
    assert_false(exists("layers/" HASH_A));
    assert_false(exists("layers/" HASH_A ".part"));
    assert_false(exists("layers/" HASH_A ".work"));
    assert_false(exists(HASH_A ".json"));
}

static void a_failing_tool_is_quoted(void **state)
{
    tool("mmdebstrap", "echo 'I: starting'; echo 'E: no such mirror: mirror.example' >&2; exit 25");
    struct rp_error e = {0};
    assert_int_equal(build(&recipe, &e), -1);
    assert_int_equal(e.code, RP_ERROR_ENVIRONMENT);
    if (!strstr(e.message, "_test") || !strstr(e.message, "mmdebstrap ended with 25") ||
        !strstr(e.message, "no such mirror"))
        fail_msg("%s", e.message);
    nothing_is_left();
    assert_true(exists("log/_test.log"));
}

static void a_missing_tool_is_named(void **state)
{
    setenv("PATH", "/nonexistent", 1);
    struct rp_error e = {0};
    assert_int_equal(build(&recipe, &e), -1);
    if (!strstr(e.message, "mmdebstrap") || !strstr(e.message, "No such file"))
        fail_msg("%s", e.message);
    nothing_is_left();
}

static void a_killed_tool_is_a_failure(void **state)
{
    tool("mmdebstrap", "kill -9 $$");
    struct rp_error e = {0};
    assert_int_equal(build(&recipe, &e), -1);
    if (!strstr(e.message, "signal 9"))
        fail_msg("%s", e.message);
    nothing_is_left();
}

static void endless_output_is_no_burden(void **state)
{
    tool("mmdebstrap", "head -c 3000000 /dev/zero | tr '\\0' x; exit 3");
    struct rp_error e = {0};
    assert_int_equal(build(&recipe, &e), -1);
    if (!strstr(e.message, "ended with 3"))
        fail_msg("%s", e.message);
}

static void an_unknown_provider_is_refused(void **state)
{
    struct rp_recipe other = recipe;
    other.provider = "magic";
    struct rp_error e = {0};
    assert_int_equal(build(&other, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_SUPPORTED);
    nothing_is_left();
}

/* What stands there after power was lost between any two steps is removed, and the layer is built again. */
static void leftovers_are_removed(void **state)
{
    struct rp_error e = {0};
    assert_int_equal(
        rp_environment_put(root, "deep/environments/layers/" HASH_A ".part/usr/old", RP_STR("x"), 0644, &e),
        0);
    assert_int_equal(
        rp_environment_put(root, "deep/environments/layers/" HASH_A "/usr/old", RP_STR("x"), 0644, &e), 0);
    tool("mmdebstrap", "exit 1");
    assert_int_equal(build(&recipe, &e), -1);
    nothing_is_left();
}

static void a_second_build_waits(void **state)
{
    struct rp_error e = {0};
    assert_int_equal(rp_environment_put(root, "deep/environments/lock", RP_STR(""), 0600, &e), 0);
    _cleanup_free_ char *lock = rp_asprintf("%s/deep/environments/lock", root);
    FILE *held = fopen(lock, "re");
    assert_non_null(held);
    assert_int_equal(flock(fileno(held), LOCK_EX), 0);
    tool("mmdebstrap", "exit 9");
    pid_t pid = fork();
    if (pid == 0) {
        /* the lock belongs to the open file, which a fork shares */
        fclose(held);
        _exit(build(&recipe, NULL) == -1 ? 0 : 1);
    }
    struct timespec pause = {.tv_nsec = 200000000};
    nanosleep(&pause, NULL);
    int status;
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
    fclose(held);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_built_one_is_not_built_again(void **state)
{
    struct rp_error e = {0};
    tool("mmdebstrap", "exit 1");
    assert_int_equal(rp_environment_put(root, "deep/environments/layers/" HASH_A "/x", RP_STR(""), 0644, &e),
                     0);
    assert_int_equal(rp_environment_put(root, "deep/environments/" HASH_A ".json",
                                        RP_STR("{\"name\":\"_test\",\"layers\":[\"" HASH_A "\"]}"), 0644, &e),
                     0);
    assert_int_equal(build(&recipe, &e), 0);
    assert_false(exists("log"));
}

#define WITH_ROOT(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ROOT(a_failing_tool_is_quoted),       WITH_ROOT(a_missing_tool_is_named),
        WITH_ROOT(a_killed_tool_is_a_failure),     WITH_ROOT(endless_output_is_no_burden),
        WITH_ROOT(an_unknown_provider_is_refused), WITH_ROOT(leftovers_are_removed),
        WITH_ROOT(a_second_build_waits),           WITH_ROOT(a_built_one_is_not_built_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
