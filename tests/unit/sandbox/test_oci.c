/* sandbox/oci: a real sandbox, made, claimed, used and destroyed; and what it may not do. Each runtime that is here. */
#include "../cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/str.h"
#include "init_client.h"
#include "sandbox/oci/network.h"
#include "sandbox/oci/oci.h"

#define ENVIRONMENT "00000000000000000000000000000000000000000000000000000000000000aa"

static char base[64], cgroup_root[64];
static struct rp_settings settings;
static struct rp_network *network;
static struct rp_driver *driver;
static const char *runtime_name; /* NULL: the driver's own choice */

static void must(int r, const struct rp_error *e)
{
    if (r < 0)
        fail_msg("%s", e->message);
}

static void make_path(char *ret, size_t cap, const char *path)
{
    assert_true((size_t)snprintf(ret, cap, "%s/%s", base, path) < cap);
}

static void make_dir(const char *path, uid_t owner)
{
    char full[512];
    make_path(full, sizeof(full), path);
    assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
    assert_int_equal(chown(full, owner, owner), 0);
}

static void write_at(const char *path, const char *text)
{
    char full[512];
    make_path(full, sizeof(full), path);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void run_program(const char *const *argv)
{
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

/* An environment of one layer, in which there is only our own program. */
static void make_environment(void)
{
    make_dir("environments", 0);
    make_dir("environments/layers", 0);
    char layer[256], full[512];
    snprintf(layer, sizeof(layer), "environments/layers/%s", ENVIRONMENT);
    make_dir(layer, 0);
    static const char *const dirs[] = {"bin", "etc", "proc", "sys", "dev", "run", "tmp", "home", "home/runner",
                                       "home/runner/app", "home/runner/lower"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(dirs); i++) {
        snprintf(full, sizeof(full), "%s/%s", layer, dirs[i]);
        make_dir(full, strncmp(dirs[i], "home/", 5) == 0 ? 1000 : 0);
    }
    snprintf(full, sizeof(full), "%s/%s/tmp", base, layer);
    assert_int_equal(chmod(full, 01777), 0);
    snprintf(full, sizeof(full), "%s/%s/bin/inside", base, layer);
    const char *const copy[] = {"cp", INSIDE_PROGRAM, full, NULL};
    run_program(copy);
    snprintf(full, sizeof(full), "environments/%s.json", ENVIRONMENT);
    write_at(full, "{\"name\":\"test\",\"layers\":[\"" ENVIRONMENT "\"]}\n");
}

static void make_volume(const char *name)
{
    char path[256];
    make_dir(name, 0);
    snprintf(path, sizeof(path), "%s/files", name);
    make_dir(path, 1000);
    snprintf(path, sizeof(path), "%s/system", name);
    make_dir(path, 0);
    snprintf(path, sizeof(path), "%s/work", name);
    make_dir(path, 0);
}

static void open_driver(void)
{
    struct rp_error e = {0};
    settings.oci_runtime = runtime_name;
    must(rp_oci_driver_open(&settings, network, &driver, &e), &e);
}

static int set_up(void **state)
{
    static char runtime[128], environments[128];
    snprintf(base, sizeof(base), "/run/repld-test-oci-%d", getpid());
    snprintf(cgroup_root, sizeof(cgroup_root), "repld-test-oci-%d", getpid());
    assert_int_equal(mkdir(base, 0755), 0);
    /* Owners on disk differ from those inside, and tmpfs takes idmapped mounts only since Linux 6.3: a file system
     * of our own keeps the test away from what /run happens to be. */
    make_dir("runtime", 0);
    make_environment();
    make_volume("volume");
    make_volume("volume2");
    make_path(runtime, sizeof(runtime), "runtime");
    make_path(environments, sizeof(environments), "environments");
    settings = (struct rp_settings){.runtime_dir = runtime,
                                    .environments_dir = environments,
                                    .init_path = INIT_PROGRAM,
                                    .cgroup_root = cgroup_root,
                                    .cgroup_layout = "auto"};
    struct rp_error e = {0};
    struct rp_network_options o = {.runtime_dir = runtime, .prefix = "100.88.0.0/16", .resolver = "192.0.2.53", .ready = 2};
    must(rp_network_open(&o, &network, &e), &e);
    open_driver();
    return 0;
}

static void remove_cgroups(void)
{
    static const char *const where[] = {"", "memory/", "cpu/", "cpuacct/", "cpu,cpuacct/", "pids/", "unified/",
                                        "devices/", "freezer/", "blkio/", "cpuset/", "systemd/", "hugetlb/",
                                        "net_cls/", "net_prio/", "perf_event/", "rdma/", "misc/"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(where); i++) {
        char path[256];
        snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%s", where[i], cgroup_root);
        if (rmdir(path) < 0 && errno != ENOENT)
            print_message("# left behind: %s (%s)\n", path, strerror(errno));
    }
}

static void destroy_left(void *ctx, const char *left)
{
    struct rp_error e;
    (void)!driver->ops->destroy(driver, left, &e);
}

static int tear_down(void **state)
{
    struct rp_error e = {0};
    must(driver->ops->list(driver, destroy_left, NULL, &e), &e);
    driver->ops->free(driver);
    must(rp_network_destroy_all(network, &e), &e);
    remove_cgroups();
    const char *const rm[] = {"rm", "-rf", "--one-file-system", base, NULL};
    run_program(rm);
    return 0;
}

static const struct rp_limits LIMITS = {.memory = 64 << 20, .cpu = 1000, .processes = 50};

static struct rp_sandbox_spec spec_for(const char *id, const char *volume)
{
    static char files[4][256], system[4][256], work[4][256];
    static int turn;
    int t = turn++ % 4;
    struct rp_sandbox_spec s = {.environment = ENVIRONMENT, .limits = LIMITS, .network = {.mode = RP_NETWORK_NONE}};
    snprintf(s.id, sizeof(s.id), "%s", id);
    snprintf(s.project, sizeof(s.project), "%s", id);
    snprintf(files[t], sizeof(files[t]), "%s/%s/files", base, volume);
    snprintf(system[t], sizeof(system[t]), "%s/%s/system", base, volume);
    snprintf(work[t], sizeof(work[t]), "%s/%s/work", base, volume);
    s.files = files[t];
    s.system = system[t];
    s.work = work[t];
    return s;
}

/* Made, claimed, connected, HELLO said, cgroup given. */
static int start(const char *id, const char *volume)
{
    struct rp_error e = {0};
    must(driver->ops->create(driver, id, &e), &e);
    struct rp_sandbox_spec spec = spec_for(id, volume);
    must(driver->ops->claim(driver, &spec, &e), &e);
    int c = driver->ops->connect(driver, id, &e);
    must(c, &e);
    init_client_hello(c);
    must(driver->ops->limits(driver, id, 0, &LIMITS, c, &e), &e);
    return c;
}

static void destroy(const char *id)
{
    struct rp_error e = {0};
    must(driver->ops->destroy(driver, id, &e), &e);
}

static void count(void *ctx, const char *id)
{
    ++*(int *)ctx;
}

static int listed(void)
{
    int n = 0;
    struct rp_error e = {0};
    must(driver->ops->list(driver, count, &n, &e), &e);
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
    int c = start(id, "volume");
    static struct ended end;
    const char *const echo[] = {"inside", "echo", "hello", NULL};
    init_client_run(c, 0, echo, &end);
    assert_string_equal(end.output, "hello\n");
    assert_int_equal(end.code, 0);
    assert_int_equal(listed(), 1);

    struct rp_error e = {0};
    struct rp_sandbox_ended ended;
    must(driver->ops->alive(driver, id, &ended, &e), &e);
    assert_false(ended.ended);
    int watch = driver->ops->watch(driver, id, &e);
    must(watch, &e);
    struct pollfd p = {.fd = watch, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    close(c);
    destroy(id);
    assert_int_equal(poll(&p, 1, 0), 1);
    close(watch);
    assert_int_equal(listed(), 0);
    destroy(id); /* once more: nothing to do */
    must(driver->ops->alive(driver, id, &ended, &e), &e);
    assert_true(ended.ended);
    assert_int_equal(driver->ops->connect(driver, id, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
}

static void ordinary_programs_work(void **state)
{
    int c = start(id, "volume");
    static struct ended end;
    const char *const argv[] = {"inside", "ordinary", NULL};
    init_client_run(c, 0, argv, &end);
    static const char *const works[] = {
        "thread",    "fork",       "socketpair", "tcp",        "netlink",  "mmap",    "memfd",   "ptmx",       "grantpt",
        "write-app", "write-home", "write-tmp",  "write-shm",  "write-null", "random", "meminfo", "sysfs-cpus",
        "resolv.conf", "rename-lower-directory", "debug-own"};
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
    make_path(path, sizeof(path), "volume/files/new");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 1000);
    make_path(path, sizeof(path), "volume/system/home/runner/new");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 1000);
    close(c);
    destroy(id);
}

static void what_is_not_allowed_is_refused(void **state)
{
    int c = start(id, "volume");
    static struct ended end;
    const char *const argv[] = {"inside", "confined", NULL};
    init_client_run(c, 0, argv, &end);
    assert_int_equal(end.code, 0);
    int tried = 0;
    for (char *line = strtok(end.output, "\n"); line; line = strtok(NULL, "\n")) {
        char *answer = strchr(line, ' ');
        assert_non_null(answer);
        *answer++ = '\0';
        static const struct {
            const char *name, *answer;
        } special[] = {{"clone3", "ENOSYS"},       {"netlink-audit", "EINVAL"}, {"write-sysctl", "EACCES|EROFS|ENOENT"},
                       {"write-sysrq", "EACCES|EROFS|ENOENT"},   {"write-sysfs", "EACCES|EROFS|ENOENT"},    {"write-userns-limit", "EACCES|EROFS|ENOENT"},
                       {"write-root", "EACCES"},   {"write-etc", "EACCES"},     {"write-dev", "EACCES"},
                       {"old-root", "ENOENT"},     {"cgroupfs", "ENOENT"},      {"init-mem", "EACCES"},
                       {"init-environ", "EACCES"}, {"init-root", "EACCES"},     {"init-fd", "EACCES"}};
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
    destroy(id);
}

static void its_mounts_are_its_own(void **state)
{
    int c = start(id, "volume");
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
    destroy(id);
}

static void limits_hold_and_others_live(void **state)
{
    char other[RP_ID_SIZE];
    rp_random_id(other);
    int c = start(id, "volume"), o = start(other, "volume2");
    static struct ended end;
    const char *const eat[] = {"inside", "eat", NULL};
    init_client_run(c, 0, eat, &end);
    assert_int_equal(end.signal, SIGKILL);
    struct rp_error e = {0};
    struct rp_sandbox_stats s;
    must(driver->ops->stats(driver, id, &s, &e), &e);
    assert_int_equal(s.oom_kills, 1);
    assert_int_equal(s.memory_limit, 64 << 20);
    assert_int_equal(s.processes_limit, 50);
    assert_int_equal(s.cpu_limit, 1000);
    struct rp_sandbox_ended ended;
    must(driver->ops->alive(driver, id, &ended, &e), &e);
    assert_true(ended.oom);
    assert_false(ended.ended);

    const char *const bomb[] = {"inside", "fork-bomb", NULL};
    int fd = init_client_spawn(c, 77, 0, bomb);
    usleep(200000);
    must(driver->ops->stats(driver, id, &s, &e), &e);
    assert_true(s.processes <= 50);
    const char *const echo[] = {"inside", "echo", "still here", NULL};
    init_client_run(o, 0, echo, &end);
    assert_string_equal(end.output, "still here\n");

    /* A step has limits of its own, and takes its processes with it. */
    struct rp_limits step = {.memory = 32 << 20, .cpu = 500, .processes = 10};
    must(driver->ops->limits(driver, id, 3, &step, c, &e), &e);
    init_client_run(c, 3, eat, &end);
    assert_int_equal(end.signal, SIGKILL);
    const char *const sleeper[] = {"inside", "sleep", NULL};
    int sleeping = init_client_spawn(c, 78, 3, sleeper);
    must(driver->ops->step_drop(driver, id, 3, &e), &e);
    struct pollfd p = {.fd = sleeping, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    char byte;
    assert_int_equal(read(sleeping, &byte, 1), 0);
    close(sleeping);
    close(fd);
    close(c);
    close(o);
    destroy(id); /* with the bomb still going off */
    destroy(other);
    assert_int_equal(listed(), 0);
}

static uint32_t cpu_limit(void)
{
    struct rp_error e = {0};
    struct rp_sandbox_stats s;
    must(driver->ops->stats(driver, id, &s, &e), &e);
    return s.cpu_limit;
}

static void a_burst_ends_also_after_a_restart(void **state)
{
    int c = start(id, "volume");
    struct rp_error e = {0};
    struct rp_limits l = LIMITS;
    l.cpu = 500;
    l.burst_cpu = 2000;
    l.burst_ms = 300;
    must(driver->ops->limits(driver, id, 0, &l, -1, &e), &e);
    assert_int_equal(cpu_limit(), 2000);
    usleep(500000);
    assert_int_equal(cpu_limit(), 500);
    must(driver->ops->limits(driver, id, 0, &l, -1, &e), &e);
    driver->ops->free(driver);
    open_driver();
    assert_int_equal(cpu_limit(), 2000);
    usleep(500000);
    assert_int_equal(cpu_limit(), 500);

    /* What another server made is adopted: it answers, and can be destroyed. */
    static struct ended end;
    const char *const echo[] = {"inside", "echo", "adopted", NULL};
    int again = driver->ops->connect(driver, id, &e);
    must(again, &e);
    init_client_hello(again);
    must(driver->ops->limits(driver, id, 0, &LIMITS, again, &e), &e);
    init_client_run(again, 0, echo, &end);
    assert_string_equal(end.output, "adopted\n");
    close(again);
    close(c);
    destroy(id);
}

static void what_it_wrote_is_there_the_next_time(void **state)
{
    int c = start(id, "volume");
    static struct ended end;
    const char *const put[] = {"inside", "put", "/home/runner/kept", "kept", NULL};
    init_client_run(c, 0, put, &end);
    assert_string_equal(end.output, "put ok\n");
    const char *const litter[] = {"inside", "put", "/tmp/litter", "litter", NULL};
    init_client_run(c, 0, litter, &end);
    close(c);
    destroy(id);
    rp_random_id(id);
    c = start(id, "volume"); /* another slot, another range of ids */
    const char *const get[] = {"inside", "cat", "/home/runner/kept", NULL};
    init_client_run(c, 0, get, &end);
    assert_string_equal(end.output, "kept");
    init_client_run(c, 0, put, &end);
    assert_string_equal(end.output, "put ok\n");
    const char *const look[] = {"inside", "cat", "/tmp/litter", NULL};
    init_client_run(c, 0, look, &end);
    assert_string_equal(end.output, "");
    close(c);
    destroy(id);
}

static void a_link_in_place_of_a_mount_point_is_not_followed(void **state)
{
    char path[256];
    make_path(path, sizeof(path), "volume2/system/home");
    assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
    make_path(path, sizeof(path), "volume2/system/home/runner");
    assert_int_equal(symlink("/etc", path), 0);
    struct rp_error e = {0};
    must(driver->ops->create(driver, id, &e), &e);
    struct rp_sandbox_spec spec = spec_for(id, "volume2");
    assert_int_equal(driver->ops->claim(driver, &spec, &e), -1);
    assert_int_equal(e.code, RP_ERROR_SANDBOX);
    assert_non_null(strstr(e.message, "/home/runner/app"));
    destroy(id);
    assert_int_equal(unlink(path), 0);
}

static void a_killed_init_ends_the_sandbox(void **state)
{
    int c = start(id, "volume");
    char path[256], text[64] = "";
    snprintf(path, sizeof(path), "%s/runtime/sandboxes/%s/init", base, id);
    FILE *f = fopen(path, "r");
    assert_non_null(fgets(text, sizeof(text), f));
    fclose(f);
    struct rp_error e = {0};
    int watch = driver->ops->watch(driver, id, &e);
    must(watch, &e);
    kill((pid_t)strtol(text, NULL, 10), SIGKILL);
    struct pollfd p = {.fd = watch, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    close(watch);
    struct rp_sandbox_ended ended;
    must(driver->ops->alive(driver, id, &ended, &e), &e);
    assert_true(ended.ended);
    assert_int_equal(driver->ops->watch(driver, id, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_RUNNING);
    /* A pid that now is another's is not taken for it. */
    f = fopen(path, "w");
    fprintf(f, "%d 12345\n", getpid());
    fclose(f);
    must(driver->ops->alive(driver, id, &ended, &e), &e);
    assert_true(ended.ended);
    close(c);
    destroy(id);
    assert_int_equal(kill(getpid(), 0), 0);
}

static void half_made_ones_are_listed_and_removed(void **state)
{
    /* As after a crash before the runtime ran: a directory alone, a slot alone. */
    char path[256], other[RP_ID_SIZE];
    snprintf(path, sizeof(path), "%s/runtime/sandboxes/%s", base, id);
    assert_int_equal(mkdir(path, 0700), 0);
    rp_random_id(other);
    struct rp_error e = {0};
    struct rp_network_slot slot;
    must(rp_network_slot_take(network, other, &slot, &e), &e);
    assert_int_equal(listed(), 2);
    assert_int_equal(driver->ops->create(driver, id, &e), -1);
    assert_int_equal(e.code, RP_ERROR_EXISTS);
    destroy(id);
    destroy(other);
    assert_int_equal(listed(), 0);
}

static void bad_input_is_named(void **state)
{
    struct rp_error e = {0};
    assert_int_equal(driver->ops->create(driver, "../../etc/passwd", &e), -1);
    assert_int_equal(e.code, RP_ERROR_INVALID);
    assert_int_equal(driver->ops->destroy(driver, "short", &e), -1);
    struct rp_sandbox_spec spec = spec_for(id, "volume");
    assert_int_equal(driver->ops->claim(driver, &spec, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
    must(driver->ops->create(driver, id, &e), &e);
    spec.environment[0] = 'f';
    assert_int_equal(driver->ops->claim(driver, &spec, &e), -1);
    assert_int_equal(e.code, RP_ERROR_ENVIRONMENT);
    assert_int_equal(driver->ops->limits(driver, id, 99, &LIMITS, -1, &e), -1);
    assert_int_equal(driver->ops->step_drop(driver, id, 0, &e), -1);
    destroy(id);

    struct rp_settings wrong = settings;
    wrong.oci_runtime = "no-such-runtime";
    struct rp_driver *d;
    assert_int_equal(rp_oci_driver_open(&wrong, network, &d, &e), -1);
    assert_int_equal(e.code, RP_ERROR_RUNTIME);
    wrong.oci_runtime = "/bin/false";
    assert_int_equal(rp_oci_driver_open(&wrong, network, &d, &e), -1);
    assert_int_equal(e.code, RP_ERROR_RUNTIME);
    must(driver->ops->ready(driver, &e), &e);
}

static void *one_life(void *volume)
{
    char mine[RP_ID_SIZE];
    rp_random_id(mine);
    struct rp_error e = {0};
    struct rp_sandbox_spec spec = spec_for(mine, volume);
    const char *failed = NULL;
    if (driver->ops->create(driver, mine, &e) < 0)
        failed = "create";
    else if (driver->ops->claim(driver, &spec, &e) < 0)
        failed = "claim";
    if (driver->ops->destroy(driver, mine, failed ? NULL : &e) < 0 && !failed)
        failed = "destroy";
    return failed ? rp_asprintf("%s: %s", failed, e.message) : NULL;
}

static void many_at_once(void **state)
{
    pthread_t threads[8];
    static char volumes[RP_ARRAY_SIZE(threads)][32];
    for (size_t i = 0; i < RP_ARRAY_SIZE(threads); i++) {
        snprintf(volumes[i], sizeof(volumes[i]), "parallel%zu", i);
        make_volume(volumes[i]);
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
    runtime_name = name;
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
    return cmocka_run_group_tests_name(name ? name : "chosen by the driver", tests, set_up, tear_down);
}

int main(int argc, char **argv)
{
    /* A network namespace of our own: nothing of this reaches the machine's network, and runs do not collide. */
    if (unshare(CLONE_NEWNET) < 0) {
        perror("unshare");
        return 1;
    }
    return run_all(argc > 1 ? argv[1] : NULL);
}
