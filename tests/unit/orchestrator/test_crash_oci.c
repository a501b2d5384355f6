/*
 * orchestrator: SIGKILL at random moments while real sandboxes start and stop: the whole process
 * (rp_orchestrator_main) with volumes, network slots, cgroups and the OCI runtime, in network and mount
 * namespaces of the test's own. At the end the kernel is asked what is left. The first argument is the
 * runtime's name.
 */
#include "../cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include "base/log.h"
#include "base/settings.h"
#include "crash_gateway.h"
#include "orchestrator/backend.h"
#include "orchestrator/orchestrator.h"
#include "sandbox/oci/network.h"

static const char *runtime_name;

static void run_program(const char *const *argv)
{
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static void make_directory(const char *parent, const char *name)
{
    _cleanup_free_ char *path = rp_asprintf("%s/%s", parent, name);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        fail_msg("mkdir %s: %s", path, strerror(errno));
}

/* One layer that is empty but for the mount points: init needs nothing of it. */
static void make_environment(const char *root)
{
    static const char *const names[] = {"",
                                        "/bin",
                                        "/etc",
                                        "/proc",
                                        "/sys",
                                        "/dev",
                                        "/run",
                                        "/tmp",
                                        "/home",
                                        "/home/runner",
                                        "/home/runner/app",
                                        "/home/runner/lower"};
    make_directory(root, "environments");
    make_directory(root, "environments/layers");
    for (size_t i = 0; i < RP_ARRAY_SIZE(names); i++) {
        char path[128];
        snprintf(path, sizeof(path), "environments/layers/" ENVIRONMENT "%s", names[i]);
        make_directory(root, path);
    }
    _cleanup_free_ char *manifest = rp_asprintf("%s/environments/" ENVIRONMENT ".json", root);
    _cleanup_file_ FILE *f = fopen(manifest, "we");
    assert_non_null(f);
    fputs("{\"name\":\"test\",\"layers\":[\"" ENVIRONMENT "\"]}\n", f);
}

static void orchestrate(struct fixture *f)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    rp_orchestrator_main(f->own, f->listener);
}

/* ---- what is left ---- */

static bool tell; /* what is left is printed */

static unsigned ids_in(const char *path)
{
    unsigned count = 0;
    _cleanup_dir_ DIR *d = opendir(path);
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (rp_id_valid(e->d_name, strlen(e->d_name))) {
            count++;
            if (tell)
                print_message("# left: %s/%s\n", path, e->d_name);
        }
    return count;
}

static const char *const hierarchies[] = {"",       "memory/",  "cpu/",     "cpuacct/",
                                          "pids/",  "unified/", "devices/", "freezer/",
                                          "blkio/", "cpuset/",  "systemd/", "cpu,cpuacct/"};

static unsigned left(struct fixture *f)
{
    const struct rp_settings *s = f->own;
    char path[256], line[4096];
    snprintf(path, sizeof(path), "%s/sandboxes", s->runtime_dir);
    unsigned count = ids_in(path);
    for (size_t i = 0; i < RP_ARRAY_SIZE(hierarchies); i++) {
        snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%s", hierarchies[i], s->cgroup_root);
        count += ids_in(path);
    }
    snprintf(path, sizeof(path), "%s/sandboxes/", s->runtime_dir);
    _cleanup_file_ FILE *mounts = fopen("/proc/self/mounts", "re");
    while (mounts && fgets(line, sizeof(line), mounts)) {
        if (!strstr(line, path))
            continue;
        count++;
        if (tell)
            print_message("# left: mount %s\n", line);
    }
    return count;
}

static void count_one(void *ctx, const char *id)
{
    ++*(unsigned *)ctx;
}

static char root[64], data[96], runtime[96], environments[96], cgroup[48];
static struct rp_settings settings;

static int set_up(void **state)
{
    snprintf(root, sizeof(root), "/var/tmp/repld-crash-oci-%d", getpid());
    snprintf(data, sizeof(data), "%s/data", root);
    snprintf(runtime, sizeof(runtime), "%s/run", root);
    snprintf(environments, sizeof(environments), "%s/environments", root);
    snprintf(cgroup, sizeof(cgroup), "repld-crash-%d", getpid());
    if (mkdir(root, 0755) < 0)
        return -1;
    make_directory(root, "data");
    make_directory(root, "run");
    if (mount("test", runtime, "tmpfs", 0, "mode=0711") < 0)
        return -1;
    make_directory(runtime, "records");
    make_environment(root);
    settings = (struct rp_settings){.data_dir = data,
                                    .runtime_dir = runtime,
                                    .environments_dir = environments,
                                    .oci_runtime = runtime_name,
                                    .init_path = INIT_PROGRAM,
                                    .cgroup_root = cgroup,
                                    .cgroup_layout = "auto",
                                    .network_prefix = "100.88.0.0/16",
                                    .resolver = "192.0.2.53",
                                    .volume_size = UINT64_C(1) << 30,
                                    .max_sandboxes = 100};
    struct fixture *f = rp_calloc(1, sizeof(*f));
    *f = (struct fixture){
        .own = &settings, .orchestrate = orchestrate, .crashes_wanted = 12, .life_ms = 1200, .pace_ms = 60};
    snprintf(f->root, sizeof(f->root), "%s", root);
    snprintf(f->records, sizeof(f->records), "%s/run/records", root);
    snprintf(f->socket, sizeof(f->socket), "%s/run/socket", root);
    *state = f;
    return 0;
}

static void destroy_one(void *ctx, const char *id)
{
    struct rp_driver *d = ctx;
    struct rp_error e;
    (void)!d->ops->destroy(d, id, &e);
}

/* Also after a test that failed in the middle: nothing of it may stay on the machine. */
static int tear_down(void **state)
{
    struct fixture *f = *state;
    gateway_close(f);
    struct rp_backend backend;
    struct rp_error e = {0};
    if (rp_backend_open(&settings, &backend, &e) < 0 ||
        backend.driver->ops->list(backend.driver, destroy_one, backend.driver, &e) < 0) {
        print_error("%s\n", e.message);
        return -1;
    }
    backend.driver->ops->free(backend.driver);
    if (rp_network_destroy_all(backend.network, &e) < 0 || rp_volumes_unmount(backend.volumes, &e) < 0) {
        print_error("%s\n", e.message);
        return -1;
    }
    for (size_t i = 0; i < RP_ARRAY_SIZE(hierarchies); i++) {
        char path[256];
        snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%s", hierarchies[i], cgroup);
        if (rmdir(path) < 0 && errno != ENOENT && errno != ENOTDIR)
            print_error("left: %s\n", path);
    }
    umount2(runtime, MNT_DETACH);
    run_program((const char *const[]){"rm", "-rf", "--one-file-system", root, NULL});
    free(f);
    return access(root, F_OK) == 0 ? -1 : 0;
}

static void after_any_crash_nothing_is_lost_and_nothing_is_left(void **state)
{
    struct fixture *f = *state;
    gateway_open(f);
    gateway_run(f, left);
    gateway_close(f);
    tell = true;
    assert_int_equal(left(f), 0);

    struct rp_backend backend;
    struct rp_error e = {0};
    unsigned sandboxes = 0, slots = 0;
    if (rp_backend_open(&settings, &backend, &e) < 0 ||
        backend.driver->ops->list(backend.driver, count_one, &sandboxes, &e) < 0 ||
        rp_network_list(backend.network, count_one, &slots, &e) < 0)
        fail_msg("%s", e.message);
    rp_backend_close(&backend);
    assert_int_equal(sandboxes, 0);
    assert_int_equal(slots, 0);
}

int main(int argc, char **argv)
{
    runtime_name = argc > 1 ? argv[1] : NULL;
    rp_log_open("test", RP_LOG_ERROR + 1, false);
    if (unshare(CLONE_NEWNET) < 0) {
        perror("unshare");
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(after_any_crash_nothing_is_lost_and_nothing_is_left, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
