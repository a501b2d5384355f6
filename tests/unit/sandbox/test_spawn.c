/* sandbox/oci: children that share our memory, and emptying directories that strangers filled. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/str.h"
#include "sandbox/oci/rootfs.h"
#include "sandbox/oci/spawn.h"

#ifndef CGROUP2_SUPER_MAGIC
#define CGROUP2_SUPER_MAGIC 0x63677270
#endif

static const char *const environment[] = {"PATH=/usr/bin:/bin", NULL};

static struct rp_spawn_program shell(const char *const *argv, int output)
{
    return (struct rp_spawn_program){
        .path = "/bin/sh", .argv = argv, .env = environment, .fds = {-1, output, output, -1}, .cgroup_directory = -1};
}

static int run(const struct rp_spawn_program *p, int timeout_ms, struct rp_error *e)
{
    int pidfd, status;
    pid_t pid = rp_spawn_start(p, &pidfd, e);
    if (pid < 0)
        return -1;
    int r = rp_spawn_wait(pid, pidfd, timeout_ms, &status, e);
    close(pidfd);
    return r < 0 ? -1 : status;
}

static int scratch(void)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void read_back(int fd, char *ret, size_t cap)
{
    ssize_t n = pread(fd, ret, cap - 1, 0);
    ret[n > 0 ? n : 0] = '\0';
}

static void only_the_given_descriptors_and_variables_are_inherited(void **state)
{
    int output = scratch(), leak = open("/dev/null", O_RDONLY); /* without close-on-exec */
    assert_int_equal(setenv("REPLD_SECRET", "x", 1), 0);
    const char *const argv[] = {"sh", "-c", "ls /proc/self/fd | wc -l; env | grep -c SECRET; cat; echo end", NULL};
    struct rp_spawn_program p = shell(argv, output);
    struct rp_error e = {0};
    assert_int_equal(run(&p, 5000, &e), 0);
    char text[256];
    read_back(output, text, sizeof(text));
    /* 0, 1, 2 and the directory that ls reads */
    assert_string_equal(text, "4\n0\nend\n");
    close(output);
    close(leak);
}

static void signals_are_as_after_boot(void **state)
{
    int output = scratch();
    signal(SIGPIPE, SIG_IGN);
    const char *const argv[] = {"sh", "-c", "grep -E 'Sig(Ign|Blk)' /proc/self/status", NULL};
    struct rp_spawn_program p = shell(argv, output);
    assert_int_equal(run(&p, 5000, NULL), 0);
    signal(SIGPIPE, SIG_DFL);
    char text[256];
    read_back(output, text, sizeof(text));
    assert_string_equal(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    close(output);
}

static void what_cannot_run_is_named(void **state)
{
    const char *const argv[] = {"x", NULL};
    struct rp_spawn_program p = shell(argv, -1);
    p.path = "/no/such/program";
    struct rp_error e = {0};
    assert_int_equal(run(&p, 5000, &e), -1);
    assert_int_equal(e.code, RP_ERROR_RUNTIME);
    assert_int_equal(e.errno_value, ENOENT);
    assert_non_null(strstr(e.message, "/no/such/program"));
    int status;
    assert_int_equal(waitpid(-1, &status, WNOHANG), -1); /* no child is left */
}

static void what_hangs_is_killed(void **state)
{
    const char *const argv[] = {"sh", "-c", "sleep 60", NULL};
    struct rp_spawn_program p = shell(argv, -1);
    struct rp_error e = {0};
    uint64_t before = rp_clock_monotonic_ns();
    assert_int_equal(run(&p, 100, &e), -1);
    assert_int_equal(e.code, RP_ERROR_TIMEOUT);
    assert_true(rp_clock_monotonic_ns() - before < 5000000000u);
}

/* Where the v2 hierarchy is on this host, if anywhere. */
static const char *unified(void)
{
    static const char *const places[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    struct statfs fs;
    for (size_t i = 0; i < RP_ARRAY_SIZE(places); i++)
        if (statfs(places[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
            return places[i];
    return NULL;
}

static void a_child_is_made_in_its_v2_group(void **state)
{
    const char *where = unified();
    assert_non_null(where); /* every kernel that the driver runs on has one; it must be mounted for this test */
    char path[128], line[160];
    snprintf(path, sizeof(path), "%s/repld-test-spawn-%d", where, getpid());
    assert_int_equal(mkdir(path, 0755), 0);
    int output = scratch();
    const char *const argv[] = {"sh", "-c", "grep ^0: /proc/self/cgroup", NULL};
    struct rp_spawn_program p = shell(argv, output);
    p.cgroup_directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(run(&p, 5000, NULL), 0);
    p.path = "/no/such/program"; /* a failure is told from there, too */
    struct rp_error e = {0};
    assert_int_equal(run(&p, 5000, &e), -1);
    assert_int_equal(e.errno_value, ENOENT);
    close(p.cgroup_directory);
    char text[256];
    read_back(output, text, sizeof(text));
    snprintf(line, sizeof(line), "/repld-test-spawn-%d\n", getpid());
    assert_non_null(strstr(text, line));
    close(output);
    int gone = -1;
    for (int i = 0; i < 100 && gone < 0; i++, usleep(10000))
        gone = rmdir(path);
    assert_int_equal(gone, 0);
}

static int add_one(void *ctx)
{
    ++*(int *)ctx;
    return 42;
}

static int crash(void *ctx)
{
    return raise(SIGKILL);
}

static void a_call_works_on_our_memory(void **state)
{
    int value = 1;
    struct rp_error e = {0};
    assert_int_equal(rp_spawn_call(add_one, &value, 0, &e), 42);
    assert_int_equal(value, 2);
    assert_int_equal(rp_spawn_call(crash, NULL, 0, &e), -1);
    assert_non_null(strstr(e.message, "signal 9"));
}

static void make_file(int dir, const char *name)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0);
    assert_true(fd >= 0);
    close(fd);
}

static void a_strangers_directory_is_emptied(void **state)
{
    char base[] = "/tmp/repld-empty-XXXXXX", path[128];
    assert_non_null(mkdtemp(base));
    snprintf(path, sizeof(path), "%s/tmp", base);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/outside", base);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/outside/kept", base);
    int kept = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(kept);

    snprintf(path, sizeof(path), "%s/tmp", base);
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    make_file(top, "file\nwith a newline");
    make_file(top, ".repld-removed-0"); /* the names that we would use ourselves */
    assert_int_equal(mkdirat(top, ".repld-removed-1", 0), 0);
    assert_int_equal(symlinkat("../outside", top, "link"), 0);
    assert_int_equal(mknodat(top, "fifo", S_IFIFO | 0600, 0), 0);
    /* deeper than any path or stack allows */
    int at = dup(top);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(mkdirat(at, "deeper", 0700), 0);
        make_file(at, "a");
        make_file(at, "b");
        assert_true(symlinkat("/", at, "root") == 0);
        int next = openat(at, "deeper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    close(at);
    struct rp_error e = {0};
    if (rp_rootfs_empty(base, "tmp", &e) < 0)
        fail_msg("%s", e.message);
    assert_int_equal(unlinkat(top, "x", 0), -1);
    close(top);
    assert_int_equal(rmdir(path), 0); /* only an empty directory goes */

    assert_int_equal(rp_rootfs_empty(base, "tmp", &e), 0); /* not there: nothing to do */
    assert_int_equal(symlink("outside", path), 0);
    assert_int_equal(rp_rootfs_empty(base, "tmp", &e), 0); /* a link: left alone */
    snprintf(path, sizeof(path), "%s/outside/kept", base);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof(path), "%s/outside", base);
    assert_int_equal(rmdir(path), 0);
    snprintf(path, sizeof(path), "%s/tmp", base);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(base), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_given_descriptors_and_variables_are_inherited),
        cmocka_unit_test(signals_are_as_after_boot),
        cmocka_unit_test(what_cannot_run_is_named),
        cmocka_unit_test(what_hangs_is_killed),
        cmocka_unit_test(a_child_is_made_in_its_v2_group),
        cmocka_unit_test(a_call_works_on_our_memory),
        cmocka_unit_test(a_strangers_directory_is_emptied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
