/* cgroups: the same calls write the right files on v2, v1 and hybrid (pretend trees), and work on this host.
 */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/str.h"
#include "sandbox/oci/cgroup.h"

static const char ID[] = "abcdefgh01234567";
static const struct rp_limits LIMITS = {
    .memory = 256 << 20, .cpu = 500, .processes = 100, .burst_cpu = 2000, .burst_ms = 1000};

static char tree[64];

static void make_directory(const char *path)
{
    char at[PATH_MAX];
    for (const char *p = path + 1;; p++)
        if (*p == '/' || !*p) {
            snprintf(at, sizeof(at), "%.*s", (int)(p - path), path);
            assert_true(mkdir(at, 0755) == 0 || errno == EEXIST);
            if (!*p)
                return;
        }
}

static void put(const char *path, const char *content)
{
    char at[PATH_MAX];
    snprintf(at, sizeof(at), "%s/%s", tree, path);
    char *slash = strrchr(at, '/');
    *slash = '\0';
    make_directory(at);
    *slash = '/';
    FILE *f = fopen(at, "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
}

static void expect(const char *path, const char *content)
{
    char at[PATH_MAX], got[256] = "";
    snprintf(at, sizeof(at), "%s/%s", tree, path);
    FILE *f = fopen(at, "r");
    assert_non_null(f);
    assert_true(fgets(got, sizeof(got), f) || !*content);
    fclose(f);
    assert_string_equal(got, content);
}

/* The files of ID and its children below `where` (a hierarchy's ROOT), which cgroupfs would have made. */
static void put_group(const char *where, const char *const *files)
{
    static const char *const groups[] = {"", "/init", "/user"};
    char path[PATH_MAX];
    for (size_t g = 0; g < RP_ARRAY_SIZE(groups); g++)
        for (size_t i = 0; files[i]; i++) {
            snprintf(path, sizeof(path), "%s/repld/%s%s/%s", where, ID, groups[g], files[i]);
            put(path, "");
        }
}

static struct rp_cgroups *open_tree_as(const char *layout, const char *expected)
{
    struct rp_cgroups *c;
    struct rp_error e = {0};
    struct rp_cgroup_options o = {.mount = tree, .root = "repld", .layout = layout};
    if (rp_cgroups_open(&o, &c, &e) < 0)
        fail_msg("%s", e.message);
    assert_string_equal(rp_cgroups_layout(c), expected);
    assert_int_equal(rp_cgroup_create(c, ID, &e), 0);
    assert_int_equal(rp_cgroup_limit(c, ID, RP_CGROUP_USER, &LIMITS, false, &e), 0);
    return c;
}

static int set_up(void **state)
{
    snprintf(tree, sizeof(tree), "/tmp/repld-cgroup-%d-XXXXXX", getpid());
    return mkdtemp(tree) ? 0 : -1;
}

static int tear_down(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", tree, NULL);
        _exit(1);
    }
    int status;
    waitpid(pid, &status, 0);
    return status;
}

static const char *const v2_files[] = {
    "cgroup.procs", "cgroup.subtree_control", "cgroup.kill", "cpu.max",  "cpu.weight",
    "memory.max",   "memory.swap.max",        "memory.min",  "pids.max", NULL};

static void put_v2(void)
{
    put("cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
    put("cgroup.subtree_control", "");
    put("repld/cgroup.subtree_control", "");
    put_group(".", v2_files);
}

static void v2_limits_and_usage(void **state)
{
    put_v2();
    struct rp_cgroups *c = open_tree_as("auto", "v2");
    expect("cgroup.subtree_control", "+memory+cpu+pids"); /* appended, since the file is a plain one here */
    expect("repld/abcdefgh01234567/user/memory.max", "268435456");
    expect("repld/abcdefgh01234567/user/memory.swap.max", "0");
    expect("repld/abcdefgh01234567/user/cpu.max", "10000 20000");
    expect("repld/abcdefgh01234567/user/pids.max", "100");
    expect("repld/abcdefgh01234567/init/cpu.max", "");
    expect("repld/abcdefgh01234567/init/cpu.weight", "1000");
    assert_int_equal(rp_cgroup_limit(c, ID, RP_CGROUP_USER, &LIMITS, true, NULL), 0);
    expect("repld/abcdefgh01234567/user/cpu.max", "40000 20000");
    put("repld/abcdefgh01234567/cpu.stat", "usage_usec 1234\nuser_usec 1\n");
    put("repld/abcdefgh01234567/user/cpu.stat", "usage_usec 4\nnr_throttled 3\nthrottled_usec 77\n");
    put("repld/abcdefgh01234567/user/memory.current", "5000\n");
    put("repld/abcdefgh01234567/user/memory.stat", "anon 1000\ninactive_file 2000\n");
    put("repld/abcdefgh01234567/user/pids.current", "9\n");
    put("repld/abcdefgh01234567/memory.events", "low 0\noom 1\noom_kill 3\noom_group_kill 0\n");
    struct rp_cgroup_usage u;
    assert_int_equal(rp_cgroup_usage(c, ID, &u, NULL), 0);
    assert_int_equal(u.cpu_us, 1234);
    assert_int_equal(u.throttled_us, 77);
    assert_int_equal(u.memory, 3000);
    assert_int_equal(u.processes, 9);
    assert_int_equal(u.oom_kills, 3);
    assert_int_equal(rp_cgroup_kill(c, ID, RP_CGROUP_WHOLE, NULL), 0);
    expect("repld/abcdefgh01234567/cgroup.kill", "1");
    int fds[RP_CGROUP_HIERARCHIES_MAX];
    assert_int_equal(rp_cgroup_open_procs(c, ID, RP_CGROUP_USER, fds, NULL), 1);
    close(fds[0]);
    rp_cgroups_close(c);
}

static void put_v1(const char *cpu, const char *cpuacct)
{
    static const char *const memory[] = {"tasks", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
                                         NULL};
    static const char *const cpus[] = {"tasks", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", NULL};
    static const char *const procs[] = {"tasks", "cpuacct.usage", NULL};
    static const char *const pids[] = {"tasks", "cgroup.procs", "pids.max", NULL};
    put_group("memory", memory);
    put_group(cpu, cpus);
    put_group(cpuacct, procs);
    put_group("pids", pids);
}

static void v1_limits_and_usage(void **state)
{
    /* As on most hosts: cpu and cpuacct are one hierarchy with two names. */
    put_v1("cpu,cpuacct", "cpu,cpuacct");
    char link[PATH_MAX];
    snprintf(link, sizeof(link), "%s/cpu", tree);
    assert_int_equal(symlink("cpu,cpuacct", link), 0);
    snprintf(link, sizeof(link), "%s/cpuacct", tree);
    assert_int_equal(symlink("cpu,cpuacct", link), 0);

    struct rp_cgroups *c = open_tree_as("auto", "v1");
    expect("memory/repld/abcdefgh01234567/user/memory.limit_in_bytes", "268435456");
    expect("memory/repld/abcdefgh01234567/user/memory.memsw.limit_in_bytes", "268435456");
    expect("cpu/repld/abcdefgh01234567/user/cpu.cfs_quota_us", "10000");
    expect("cpu/repld/abcdefgh01234567/user/cpu.cfs_period_us", "20000");
    expect("cpu/repld/abcdefgh01234567/init/cpu.shares", "10240");
    expect("pids/repld/abcdefgh01234567/user/pids.max", "100");
    put("cpuacct/repld/abcdefgh01234567/cpuacct.usage", "5000000\n");
    put("cpu/repld/abcdefgh01234567/user/cpu.stat", "nr_periods 5\nthrottled_time 9000\n");
    put("memory/repld/abcdefgh01234567/user/memory.usage_in_bytes", "5000\n");
    put("memory/repld/abcdefgh01234567/user/memory.stat", "cache 5\ntotal_inactive_file 1000\n");
    put("memory/repld/abcdefgh01234567/user/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    put("memory/repld/abcdefgh01234567/init/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
    put("pids/repld/abcdefgh01234567/user/pids.current", "7\n");
    struct rp_cgroup_usage u;
    assert_int_equal(rp_cgroup_usage(c, ID, &u, NULL), 0);
    assert_int_equal(u.cpu_us, 5000);
    assert_int_equal(u.throttled_us, 9);
    assert_int_equal(u.memory, 4000);
    assert_int_equal(u.processes, 7);
    assert_int_equal(u.oom_kills, 3); /* v1 does not count upwards */
    int fds[RP_CGROUP_HIERARCHIES_MAX];
    int n = rp_cgroup_open_procs(c, ID, RP_CGROUP_USER, fds, NULL);
    assert_int_equal(n, 3);
    while (n--)
        close(fds[n]);
    /* Killing stops forks, and sets back what was allowed. */
    put("pids/repld/abcdefgh01234567/pids.max", "max\n");
    assert_int_equal(rp_cgroup_kill(c, ID, RP_CGROUP_WHOLE, NULL), 0);
    expect("pids/repld/abcdefgh01234567/pids.max", "max");
    rp_cgroups_close(c);
}

static void hybrid_takes_each_controller_where_it_is(void **state)
{
    put_v1("cpu", "cpuacct");
    /* pids moved to v2, as systemd's hybrid mode allows. */
    char from[PATH_MAX], to[PATH_MAX];
    snprintf(from, sizeof(from), "%s/pids", tree);
    snprintf(to, sizeof(to), "%s/was-pids", tree);
    assert_int_equal(rename(from, to), 0);
    put("unified/cgroup.controllers", "hugetlb pids\n");
    put("unified/cgroup.subtree_control", "");
    put("unified/repld/cgroup.subtree_control", "");
    static const char *const unified[] = {"cgroup.procs", "cgroup.kill", "cgroup.subtree_control", "pids.max",
                                          NULL};
    put_group("unified", unified);
    struct rp_cgroups *c = open_tree_as("auto", "hybrid");
    expect("memory/repld/abcdefgh01234567/user/memory.limit_in_bytes", "268435456");
    expect("cpu/repld/abcdefgh01234567/user/cpu.cfs_quota_us", "10000");
    expect("unified/repld/cgroup.subtree_control", "+pids");
    expect("unified/repld/abcdefgh01234567/user/pids.max", "100");
    put("cpuacct/repld/abcdefgh01234567/cpuacct.usage", "42000\n");
    struct rp_cgroup_usage u;
    assert_int_equal(rp_cgroup_usage(c, ID, &u, NULL), 0);
    assert_int_equal(u.cpu_us, 42);
    assert_int_equal(rp_cgroup_kill(c, ID, 3, NULL), 0); /* no such step */
    assert_int_equal(rp_cgroup_kill(c, ID, RP_CGROUP_WHOLE, NULL), 0);
    expect("unified/repld/abcdefgh01234567/cgroup.kill", "1");
    int fds[RP_CGROUP_HIERARCHIES_MAX], directory;
    assert_int_equal(rp_cgroup_open_start(c, ID, RP_CGROUP_INIT, fds, &directory, NULL), 3);
    assert_true(directory >= 0);
    close(directory);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    rp_cgroups_close(c);
}

static void hybrid_leaves_an_empty_v2_hierarchy_alone(void **state)
{
    put_v1("cpu", "cpuacct");
    put("unified/cgroup.controllers", "hugetlb\n");
    struct rp_cgroups *c = open_tree_as("auto", "hybrid");
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/unified/repld", tree);
    assert_int_equal(access(path, F_OK), -1);
    rp_cgroups_close(c);
}

static void tiny_shares_of_cpu_get_a_long_period(void **state)
{
    put_v2();
    struct rp_cgroups *c = open_tree_as("v2", "v2");
    struct rp_limits small = LIMITS;
    small.cpu = 10;
    assert_int_equal(rp_cgroup_limit(c, ID, RP_CGROUP_USER, &small, false, NULL), 0);
    expect("repld/abcdefgh01234567/user/cpu.max", "1000 100000");
    rp_cgroups_close(c);
}

static void what_is_missing_is_named(void **state)
{
    struct rp_cgroups *c;
    struct rp_error e;
    struct rp_cgroup_options o = {.mount = tree, .root = "repld"};
    assert_int_equal(rp_cgroups_open(&o, &c, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_SUPPORTED);
    assert_non_null(strstr(e.message, "memory"));
    o.root = "../../etc";
    assert_int_equal(rp_cgroups_open(&o, &c, &e), -1);
    assert_int_equal(e.code, RP_ERROR_INVALID);
    o.root = "repld";
    o.layout = "v3";
    assert_int_equal(rp_cgroups_open(&o, &c, &e), -1);
    assert_int_equal(e.code, RP_ERROR_INVALID);
}

/* ---- this host ---- */

static struct rp_cgroups *open_real(const char *layout)
{
    static char root[64];
    struct rp_cgroups *c = NULL;
    struct rp_error e = {0};
    snprintf(root, sizeof(root), "repld-test-%d", getpid());
    struct rp_cgroup_options o = {.root = root, .layout = layout};
    if (rp_cgroups_open(&o, &c, &e) < 0)
        fail_msg("%s", e.message);
    return c;
}

static void close_real(struct rp_cgroups *c)
{
    rp_cgroups_close(c);
    static const char *const hierarchies[] = {"",      "memory/",  "cpu/",    "cpuacct/",
                                              "pids/", "freezer/", "unified/"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(hierarchies); i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "/sys/fs/cgroup/%srepld-test-%d", hierarchies[i], getpid());
        assert_true(rmdir(path) == 0 || errno == ENOENT);
    }
}

/* A child that moves itself into the group, and then runs f. */
static pid_t run_inside(struct rp_cgroups *c, int child, void (*f)(void))
{
    int fds[RP_CGROUP_HIERARCHIES_MAX];
    int n = rp_cgroup_open_procs(c, ID, child, fds, NULL);
    assert_true(n > 0);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < n; i++)
            if (write(fds[i], "0", 1) != 1)
                _exit(99);
        f();
        _exit(0);
    }
    while (n--)
        close(fds[n]);
    return pid;
}

static void eat_memory(void)
{
    for (int i = 0; i < 256; i++) {
        char *p = rp_alloc(1 << 20);
        memset(p, 1, 1 << 20);
        __asm__ volatile("" : : "r"(p) : "memory");
    }
}

static void fork_until_refused(void)
{
    int made = 0;
    for (; made < 100; made++) {
        pid_t pid = fork();
        if (pid == 0) {
            pause();
            _exit(0);
        }
        if (pid < 0)
            break;
    }
    _exit(made);
}

static void fork_without_end(void)
{
    signal(SIGCHLD, SIG_IGN);
    while (true)
        if (fork() == 0)
            usleep(1000);
}

static void limits_hold(struct rp_cgroups *c)
{
    struct rp_error e = {0};
    struct rp_limits limits = {.memory = 32 << 20, .cpu = 1000, .processes = 20};
    assert_int_equal(rp_cgroup_create(c, ID, &e), 0);
    assert_int_equal(rp_cgroup_create(c, ID, &e), 0); /* idempotent */
    assert_int_equal(rp_cgroup_limit(c, ID, RP_CGROUP_USER, &limits, false, &e), 0);
    assert_int_equal(rp_cgroup_limit(c, ID, 2, &limits, false, &e), 0);

    int status;
    waitpid(run_inside(c, RP_CGROUP_USER, eat_memory), &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(rp_cgroup_oom_kills(c, ID, RP_CGROUP_USER), 1);
    assert_int_equal(rp_cgroup_oom_kills(c, ID, 2), 0);

    waitpid(run_inside(c, RP_CGROUP_USER, fork_until_refused), &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 19);
    assert_int_equal(rp_cgroup_kill(c, ID, RP_CGROUP_USER, &e), 0);

    struct rp_cgroup_usage u;
    assert_int_equal(rp_cgroup_usage(c, ID, &u, &e), 0);
    assert_true(u.cpu_us > 0);
    assert_int_equal(u.oom_kills, 1);
    assert_true(u.memory < 32 << 20);

    pid_t bomb = run_inside(c, 2, fork_without_end);
    usleep(50000);
    assert_true(rp_cgroup_holds(c, ID, bomb));
    assert_int_equal(rp_cgroup_remove(c, ID, 2, &e), 0);
    waitpid(bomb, &status, 0);
    assert_true(WIFSIGNALED(status));
    assert_false(rp_cgroup_holds(c, ID, getpid()));

    if (rp_cgroup_remove(c, ID, RP_CGROUP_WHOLE, &e) < 0)
        fail_msg("%s", e.message);
    assert_int_equal(rp_cgroup_remove(c, ID, RP_CGROUP_WHOLE, &e), 0);
    assert_int_equal(rp_cgroup_usage(c, ID, &u, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
}

static void count_id(void *ctx, const char *id)
{
    assert_string_equal(id, ID);
    ++*(int *)ctx;
}

static void this_host(void **state)
{
    struct rp_cgroups *c = open_real("auto");
    limits_hold(c);
    int count = 0;
    assert_int_equal(rp_cgroups_list(c, count_id, &count, NULL), 0);
    assert_int_equal(count, 0);
    assert_int_equal(rp_cgroup_create(c, ID, NULL), 0);
    assert_int_equal(rp_cgroups_list(c, count_id, &count, NULL), 0);
    assert_true(count >= 1);
    assert_int_equal(rp_cgroup_remove(c, ID, RP_CGROUP_WHOLE, NULL), 0);
    close_real(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(v2_limits_and_usage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(v1_limits_and_usage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hybrid_takes_each_controller_where_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hybrid_leaves_an_empty_v2_hierarchy_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tiny_shares_of_cpu_get_a_long_period, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_missing_is_named, set_up, tear_down),
        cmocka_unit_test(this_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
