/* sandbox/oci: a real sandbox, made, claimed, used and destroyed; and what it may not do. Each runtime that
 * is here. */
#include "../cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/str.h"
#include "init_client.h"
#include "oci_world.h"

static void count(void *ctx, const char *id)
{
    ++*(int *)ctx;
}

static int listed(void)
{
    int n = 0;
    struct rp_error e = {0};
    oci_must(oci_driver->ops->list(oci_driver, count, &n, &e), &e);
    return n;
}

static const char *value_of(const char *output, const char *name)
{
    static char value[256];
    size_t n = strlen(name);
    for (const char *line = output; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, name, n) == 0 && (line[n] == ' ' || line[n] == ':')) {
            const char *v = line + n + 1 + strspn(line + n + 1, " \t");
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(v, "\n"), v);
            return value;
        }
    return "(missing)";
}

static char id[RP_ID_SIZE];

static int new_id(void **state)
{
    rp_random_id(id);
    return 0;
}

static void a_sandbox_runs_and_leaves_no_trace(void **state)
{
    int c = oci_begin(id, "volume");
    static struct ended end;
    const char *const echo[] = {"inside", "echo", "hello", NULL};
    init_client_run(c, 0, echo, &end);
    assert_string_equal(end.output, "hello\n");
    assert_int_equal(end.code, 0);
    assert_int_equal(listed(), 1);

    struct rp_error e = {0};
    struct rp_sandbox_ended ended;
    oci_must(oci_driver->ops->alive(oci_driver, id, &ended, &e), &e);
    assert_false(ended.ended);
    int watch = oci_driver->ops->watch(oci_driver, id, &e);
    oci_must(watch, &e);
    struct pollfd p = {.fd = watch, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    close(c);
    oci_destroy(id);
    assert_int_equal(poll(&p, 1, 0), 1);
    close(watch);
    assert_int_equal(listed(), 0);
    oci_destroy(id); /* once more: nothing to do */
    oci_must(oci_driver->ops->alive(oci_driver, id, &ended, &e), &e);
    assert_true(ended.ended);
    assert_int_equal(oci_driver->ops->connect(oci_driver, id, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
}

static void ordinary_programs_work(void **state)
{
    int c = oci_begin(id, "volume");
    static struct ended end;
    const char *const argv[] = {"inside", "ordinary", NULL};
    init_client_run(c, 0, argv, &end);
    static const char *const works[] = {"thread",
                                        "fork",
                                        "socketpair",
                                        "tcp",
                                        "netlink",
                                        "mmap",
                                        "memfd",
                                        "ptmx",
                                        "grantpt",
                                        "write-app",
                                        "write-home",
                                        "write-tmp",
                                        "write-shm",
                                        "write-null",
                                        "random",
                                        "meminfo",
                                        "sysfs-cpus",
                                        "resolv.conf",
                                        "rename-lower-directory",
                                        "debug-own"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(works); i++)
        if (strcmp(value_of(end.output, works[i]), "ok") != 0)
            fail_msg("%s: %s", works[i], value_of(end.output, works[i]));
    assert_string_equal(value_of(end.output, "hostname"), "repld");
    assert_string_equal(value_of(end.output, "uid"), "1000");
    assert_string_equal(value_of(end.output, "gid"), "1000");
    assert_string_equal(value_of(end.output, "cwd"), "/home/runner/app");

    /* On disk the ids are those of inside: a project is not bound to the range that its sandbox had. */
    struct stat st;
    char path[256];
    oci_path(path, sizeof(path), "volume/files/new");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 1000);
    oci_path(path, sizeof(path), "volume/system/home/runner/new");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 1000);
    close(c);
    oci_destroy(id);
}

static void what_is_not_allowed_is_refused(void **state)
{
    int c = oci_begin(id, "volume");
    static struct ended end;
    const char *const argv[] = {"inside", "confined", NULL};
    init_client_run(c, 0, argv, &end);
    assert_int_equal(end.code, 0);
    int tried = 0;
    char *save;
    for (char *line = strtok_r(end.output, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *answer = strchr(line, ' ');
        assert_non_null(answer);
        *answer++ = '\0';
        static const struct {
            const char *name, *answer;
        } special[] = {{"clone3", "ENOSYS"},
                       {"netlink-audit", "EINVAL"},
                       {"write-sysctl", "EACCES|EROFS|ENOENT"},
                       {"write-sysrq", "EACCES|EROFS|ENOENT"},
                       {"write-sysfs", "EACCES|EROFS|ENOENT"},
                       {"write-userns-limit", "EACCES|EROFS|ENOENT"},
                       {"write-root", "EACCES"},
                       {"write-etc", "EACCES"},
                       {"write-dev", "EACCES"},
                       {"old-root", "ENOENT"},
                       {"cgroupfs", "ENOENT"},
                       {"init-mem", "EACCES"},
                       {"init-environ", "EACCES"},
                       {"init-root", "EACCES"},
                       {"init-fd", "EACCES"}};
        const char *want = "EPERM";
        for (size_t i = 0; i < RP_ARRAY_SIZE(special); i++)
            if (strcmp(special[i].name, line) == 0)
                want = special[i].answer;
        if (!strstr(want, answer))
            fail_msg("%s: %s, not %s", line, answer, want);
        tried++;
    }
    assert_true(tried > 50);

    const char *const status[] = {"inside", "status", NULL};
    init_client_run(c, 0, status, &end);
    assert_string_equal(value_of(end.output, "NoNewPrivs"), "1");
    assert_string_equal(value_of(end.output, "Seccomp"), "2");
    assert_string_equal(value_of(end.output, "CapEff"), "0000000000000000");
    assert_string_equal(value_of(end.output, "CapPrm"), "0000000000000000");
    /* What init may have; with no_new_privs nothing that is executed gains any of it. */
    assert_string_equal(value_of(end.output, "CapBnd"), "00000000000000e0");
    close(c);
    oci_destroy(id);
}

static void its_mounts_are_its_own(void **state)
{
    int c = oci_begin(id, "volume");
    static struct ended end;
    const char *const argv[] = {"inside", "cat", "/proc/self/mountinfo", NULL};
    init_client_run(c, 0, argv, &end);
    assert_null(strstr(end.output, "newroot"));
    assert_null(strstr(end.output, " /layer0 "));
    const char *app = strstr(end.output, " /home/runner/app ");
    assert_non_null(app);
    assert_non_null(strstr(app, "nosuid,nodev"));
    const char *root = strstr(end.output, " / / ");
    assert_non_null(root);
    assert_non_null(strstr(root, "nosuid,nodev"));
    /* The host sees none of them. */
    FILE *f = fopen("/proc/self/mountinfo", "r");
    char line[4096];
    while (fgets(line, sizeof(line), f))
        assert_null(strstr(line, "overlay repld"));
    fclose(f);
    close(c);
    oci_destroy(id);
}

static void limits_hold_and_others_live(void **state)
{
    char other[RP_ID_SIZE];
    rp_random_id(other);
    int c = oci_begin(id, "volume"), o = oci_begin(other, "volume2");
    static struct ended end;
    const char *const eat[] = {"inside", "eat", NULL};
    init_client_run(c, 0, eat, &end);
    assert_int_equal(end.signal, SIGKILL);
    struct rp_error e = {0};
    struct rp_sandbox_stats s;
    oci_must(oci_driver->ops->stats(oci_driver, id, &s, &e), &e);
    assert_int_equal(s.oom_kills, 1);
    assert_int_equal(s.memory_limit, 64 << 20);
    assert_int_equal(s.processes_limit, 50);
    assert_int_equal(s.cpu_limit, 1000);
    struct rp_sandbox_ended ended;
    oci_must(oci_driver->ops->alive(oci_driver, id, &ended, &e), &e);
    assert_true(ended.oom);
    assert_false(ended.ended);

    const char *const bomb[] = {"inside", "fork-bomb", NULL};
    int fd = init_client_spawn(c, 77, 0, bomb);
    usleep(200000);
    oci_must(oci_driver->ops->stats(oci_driver, id, &s, &e), &e);
    assert_true(s.processes <= 50);
    const char *const echo[] = {"inside", "echo", "still here", NULL};
    init_client_run(o, 0, echo, &end);
    assert_string_equal(end.output, "still here\n");

    /* A step has limits of its own, and takes its processes with it. */
    struct rp_limits step = {.memory = 32 << 20, .cpu = 500, .processes = 10};
    oci_must(oci_driver->ops->limits(oci_driver, id, 3, &step, c, &e), &e);
    init_client_run(c, 3, eat, &end);
    assert_int_equal(end.signal, SIGKILL);
    const char *const sleeper[] = {"inside", "sleep", NULL};
    int sleeping = init_client_spawn(c, 78, 3, sleeper);
    oci_must(oci_driver->ops->step_drop(oci_driver, id, 3, &e), &e);
    struct pollfd p = {.fd = sleeping, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    char byte;
    assert_int_equal(read(sleeping, &byte, 1), 0);
    close(sleeping);
    close(fd);
    close(c);
    close(o);
    oci_destroy(id); /* with the bomb still going off */
    oci_destroy(other);
    assert_int_equal(listed(), 0);
}

static uint32_t cpu_limit(void)
{
    struct rp_error e = {0};
    struct rp_sandbox_stats s;
    oci_must(oci_driver->ops->stats(oci_driver, id, &s, &e), &e);
    return s.cpu_limit;
}

static void a_burst_ends_also_after_a_restart(void **state)
{
    int c = oci_begin(id, "volume");
    struct rp_error e = {0};
    struct rp_limits l = OCI_LIMITS;
    l.cpu = 500;
    l.burst_cpu = 2000;
    l.burst_ms = 300;
    oci_must(oci_driver->ops->limits(oci_driver, id, 0, &l, -1, &e), &e);
    assert_int_equal(cpu_limit(), 2000);
    usleep(500000);
    assert_int_equal(cpu_limit(), 500);
    oci_must(oci_driver->ops->limits(oci_driver, id, 0, &l, -1, &e), &e);
    oci_driver->ops->free(oci_driver);
    oci_open_driver();
    assert_int_equal(cpu_limit(), 2000);
    usleep(500000);
    assert_int_equal(cpu_limit(), 500);

    /* What another server made is adopted: it answers, and can be destroyed. */
    static struct ended end;
    const char *const echo[] = {"inside", "echo", "adopted", NULL};
    int again = oci_driver->ops->connect(oci_driver, id, &e);
    oci_must(again, &e);
    init_client_hello(again);
    oci_must(oci_driver->ops->limits(oci_driver, id, 0, &OCI_LIMITS, again, &e), &e);
    init_client_run(again, 0, echo, &end);
    assert_string_equal(end.output, "adopted\n");
    close(again);
    close(c);
    oci_destroy(id);
}

static void what_it_wrote_is_there_the_next_time(void **state)
{
    int c = oci_begin(id, "volume");
    static struct ended end;
    const char *const put[] = {"inside", "put", "/home/runner/kept", "kept", NULL};
    init_client_run(c, 0, put, &end);
    assert_string_equal(end.output, "put ok\n");
    const char *const litter[] = {"inside", "put", "/tmp/litter", "litter", NULL};
    init_client_run(c, 0, litter, &end);
    close(c);
    oci_destroy(id);
    rp_random_id(id);
    c = oci_begin(id, "volume"); /* another slot, another range of ids */
    const char *const get[] = {"inside", "cat", "/home/runner/kept", NULL};
    init_client_run(c, 0, get, &end);
    assert_string_equal(end.output, "kept");
    init_client_run(c, 0, put, &end);
    assert_string_equal(end.output, "put ok\n");
    const char *const look[] = {"inside", "cat", "/tmp/litter", NULL};
    init_client_run(c, 0, look, &end);
    assert_string_equal(end.output, "");
    close(c);
    oci_destroy(id);
}

static void a_link_in_place_of_a_mount_point_is_not_followed(void **state)
{
    char path[256];
    oci_path(path, sizeof(path), "volume2/system/home");
    assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
    oci_path(path, sizeof(path), "volume2/system/home/runner");
    assert_int_equal(symlink("/etc", path), 0);
    struct rp_error e = {0};
    oci_must(oci_driver->ops->create(oci_driver, id, &e), &e);
    struct rp_sandbox_spec spec = oci_spec(id, "volume2");
    assert_int_equal(oci_driver->ops->claim(oci_driver, &spec, &e), -1);
    assert_int_equal(e.code, RP_ERROR_SANDBOX);
    assert_non_null(strstr(e.message, "/home/runner/app"));
    oci_destroy(id);
    assert_int_equal(unlink(path), 0);
}

static void a_killed_init_ends_the_sandbox(void **state)
{
    int c = oci_begin(id, "volume");
    char path[256], text[64] = "";
    snprintf(path, sizeof(path), "%s/runtime/sandboxes/%s/init", oci_base, id);
    FILE *f = fopen(path, "r");
    assert_non_null(fgets(text, sizeof(text), f));
    fclose(f);
    struct rp_error e = {0};
    int watch = oci_driver->ops->watch(oci_driver, id, &e);
    oci_must(watch, &e);
    kill((pid_t)strtol(text, NULL, 10), SIGKILL);
    struct pollfd p = {.fd = watch, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    close(watch);
    struct rp_sandbox_ended ended;
    oci_must(oci_driver->ops->alive(oci_driver, id, &ended, &e), &e);
    assert_true(ended.ended);
    assert_int_equal(oci_driver->ops->watch(oci_driver, id, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_RUNNING);
    /* A pid that now is another's is not taken for it. */
    f = fopen(path, "w");
    fprintf(f, "%d 12345\n", getpid());
    fclose(f);
    oci_must(oci_driver->ops->alive(oci_driver, id, &ended, &e), &e);
    assert_true(ended.ended);
    close(c);
    oci_destroy(id);
    assert_int_equal(kill(getpid(), 0), 0);
}

static void half_made_ones_are_listed_and_removed(void **state)
{
    /* As after a crash before the runtime ran: a directory alone, a slot alone. */
    char path[256], other[RP_ID_SIZE];
    snprintf(path, sizeof(path), "%s/runtime/sandboxes/%s", oci_base, id);
    assert_int_equal(mkdir(path, 0700), 0);
    rp_random_id(other);
    struct rp_error e = {0};
    struct rp_network_slot slot;
    oci_must(rp_network_slot_take(oci_network, other, &slot, &e), &e);
    assert_int_equal(listed(), 2);
    assert_int_equal(oci_driver->ops->create(oci_driver, id, &e), -1);
    assert_int_equal(e.code, RP_ERROR_EXISTS);
    oci_destroy(id);
    oci_destroy(other);
    assert_int_equal(listed(), 0);
}

static void bad_input_is_named(void **state)
{
    struct rp_error e = {0};
    assert_int_equal(oci_driver->ops->create(oci_driver, "../../etc/passwd", &e), -1);
    assert_int_equal(e.code, RP_ERROR_INVALID);
    assert_int_equal(oci_driver->ops->destroy(oci_driver, "short", &e), -1);
    struct rp_sandbox_spec spec = oci_spec(id, "volume");
    assert_int_equal(oci_driver->ops->claim(oci_driver, &spec, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
    oci_must(oci_driver->ops->create(oci_driver, id, &e), &e);
    spec.environment[0] = 'f';
    assert_int_equal(oci_driver->ops->claim(oci_driver, &spec, &e), -1);
    assert_int_equal(e.code, RP_ERROR_ENVIRONMENT);
    assert_int_equal(oci_driver->ops->limits(oci_driver, id, 99, &OCI_LIMITS, -1, &e), -1);
    assert_int_equal(oci_driver->ops->step_drop(oci_driver, id, 0, &e), -1);
    oci_destroy(id);

    /* The runtime works as the sandbox's root, who must be able to pass to the tiny root. */
    char closed[256], inner[300];
    oci_path(closed, sizeof(closed), "closed");
    snprintf(inner, sizeof(inner), "%s/runtime", closed);
    assert_int_equal(mkdir(closed, 0700), 0);
    assert_int_equal(mkdir(inner, 0700), 0);
    struct rp_settings wrong = oci_settings;
    wrong.runtime_dir = inner;
    struct rp_driver *none;
    assert_int_equal(rp_oci_driver_open(&wrong, oci_network, &none, &e), -1);
    assert_int_equal(e.code, RP_ERROR_INVALID);
    assert_non_null(strstr(e.message, "lets only its owner pass"));
    wrong = oci_settings;
    wrong.oci_runtime = "no-such-runtime";
    struct rp_driver *d;
    assert_int_equal(rp_oci_driver_open(&wrong, oci_network, &d, &e), -1);
    assert_int_equal(e.code, RP_ERROR_RUNTIME);
    wrong.oci_runtime = "/bin/false";
    assert_int_equal(rp_oci_driver_open(&wrong, oci_network, &d, &e), -1);
    assert_int_equal(e.code, RP_ERROR_RUNTIME);
    oci_must(oci_driver->ops->ready(oci_driver, &e), &e);
}

static void *one_life(void *volume)
{
    char mine[RP_ID_SIZE];
    rp_random_id(mine);
    struct rp_error e = {0};
    struct rp_sandbox_spec spec = oci_spec(mine, volume);
    const char *failed = NULL;
    if (oci_driver->ops->create(oci_driver, mine, &e) < 0)
        failed = "create";
    else if (oci_driver->ops->claim(oci_driver, &spec, &e) < 0)
        failed = "claim";
    if (oci_driver->ops->destroy(oci_driver, mine, failed ? NULL : &e) < 0 && !failed)
        failed = "destroy";
    return failed ? rp_asprintf("%s: %s", failed, e.message) : NULL;
}

static void many_at_once(void **state)
{
    pthread_t threads[8];
    static char volumes[RP_ARRAY_SIZE(threads)][32];
    for (size_t i = 0; i < RP_ARRAY_SIZE(threads); i++) {
        snprintf(volumes[i], sizeof(volumes[i]), "parallel%zu", i);
        oci_volume(volumes[i]);
        assert_int_equal(pthread_create(&threads[i], NULL, one_life, volumes[i]), 0);
    }
    for (size_t i = 0; i < RP_ARRAY_SIZE(threads); i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        if (failed)
            fail_msg("%s", (char *)failed);
    }
    assert_int_equal(listed(), 0);
}

static int run_all(const char *name)
{
    oci_runtime_name = name;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_sandbox_runs_and_leaves_no_trace, new_id),
        cmocka_unit_test_setup(ordinary_programs_work, new_id),
        cmocka_unit_test_setup(what_is_not_allowed_is_refused, new_id),
        cmocka_unit_test_setup(its_mounts_are_its_own, new_id),
        cmocka_unit_test_setup(limits_hold_and_others_live, new_id),
        cmocka_unit_test_setup(a_burst_ends_also_after_a_restart, new_id),
        cmocka_unit_test_setup(what_it_wrote_is_there_the_next_time, new_id),
        cmocka_unit_test_setup(a_link_in_place_of_a_mount_point_is_not_followed, new_id),
        cmocka_unit_test_setup(a_killed_init_ends_the_sandbox, new_id),
        cmocka_unit_test_setup(half_made_ones_are_listed_and_removed, new_id),
        cmocka_unit_test_setup(bad_input_is_named, new_id),
        cmocka_unit_test_setup(many_at_once, new_id),
    };
    return cmocka_run_group_tests_name(name ? name : "chosen by the oci_driver", tests, oci_world_set_up,
                                       oci_world_tear_down);
}

int main(int argc, char **argv)
{
    /* A oci_network namespace of our own: nothing of this reaches the machine's oci_network, and runs do not
     * collide. */
    if (unshare(CLONE_NEWNET) < 0) {
        perror("unshare");
        return 1;
    }
    return run_all(argc > 1 ? argv[1] : NULL);
}
