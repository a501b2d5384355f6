/* A runtime directory, an environment, volumes, a network and a driver of the test's own. */
#include "../cmocka_all.h"

#include "oci_world.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "init_client.h"

char oci_base[64];
static char cgroup_root[64];
struct rp_settings oci_settings;
struct rp_network *oci_network;
struct rp_driver *oci_driver;
const char *oci_runtime_name;

void oci_must(int r, const struct rp_error *e)
{
    if (r < 0)
        fail_msg("%s", e->message);
}

void oci_path(char *ret, size_t cap, const char *path)
{
    assert_true((size_t)snprintf(ret, cap, "%s/%s", oci_base, path) < cap);
}

static void make_dir(const char *path, uid_t owner)
{
    char full[512];
    oci_path(full, sizeof(full), path);
    assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
    assert_int_equal(chown(full, owner, owner), 0);
}

static void write_at(const char *path, const char *text)
{
    char full[512];
    oci_path(full, sizeof(full), path);
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
    snprintf(layer, sizeof(layer), "environments/layers/%s", OCI_ENVIRONMENT);
    make_dir(layer, 0);
    static const char *const dirs[] = {"bin",
                                       "etc",
                                       "proc",
                                       "sys",
                                       "dev",
                                       "run",
                                       "tmp",
                                       "home",
                                       "home/runner",
                                       "home/runner/app",
                                       "home/runner/lower"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(dirs); i++) {
        snprintf(full, sizeof(full), "%s/%s", layer, dirs[i]);
        make_dir(full, strncmp(dirs[i], "home/", 5) == 0 ? 1000 : 0);
    }
    snprintf(full, sizeof(full), "%s/%s/tmp", oci_base, layer);
    assert_int_equal(chmod(full, 01777), 0);
    snprintf(full, sizeof(full), "%s/%s/bin/inside", oci_base, layer);
    const char *const copy[] = {"cp", INSIDE_PROGRAM, full, NULL};
    run_program(copy);
    snprintf(full, sizeof(full), "environments/%s.json", OCI_ENVIRONMENT);
    write_at(full, "{\"name\":\"test\",\"layers\":[\"" OCI_ENVIRONMENT "\"]}\n");
}

void oci_volume(const char *name)
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

void oci_open_driver(void)
{
    struct rp_error e = {0};
    oci_settings.oci_runtime = oci_runtime_name;
    oci_must(rp_oci_driver_open(&oci_settings, oci_network, &oci_driver, &e), &e);
}

int oci_world_set_up(void **state)
{
    static char runtime[128], environments[128];
    snprintf(oci_base, sizeof(oci_base), "/var/tmp/repld-test-oci-%d", getpid());
    snprintf(cgroup_root, sizeof(cgroup_root), "repld-test-oci-%d", getpid());
    assert_int_equal(mkdir(oci_base, 0755), 0);
    /* On tmpfs, as the server has it; the volumes stay on whatever file system is below, since tmpfs takes
     * idmapped mounts only since Linux 6.3. */
    make_dir("runtime", 0);
    oci_path(runtime, sizeof(runtime), "runtime");
    assert_int_equal(mount("tmpfs", runtime, "tmpfs", MS_NOSUID | MS_NODEV, "mode=711"), 0);
    make_environment();
    oci_volume("volume");
    oci_volume("volume2");
    oci_path(runtime, sizeof(runtime), "runtime");
    oci_path(environments, sizeof(environments), "environments");
    oci_settings = (struct rp_settings){.runtime_dir = runtime,
                                        .environments_dir = environments,
                                        .init_path = INIT_PROGRAM,
                                        .cgroup_root = cgroup_root,
                                        .cgroup_layout = "auto"};
    struct rp_error e = {0};
    struct rp_network_options o = {
        .runtime_dir = runtime, .prefix = "100.88.0.0/16", .resolver = "192.0.2.53", .ready = 2};
    oci_must(rp_network_open(&o, &oci_network, &e), &e);
    oci_open_driver();
    return 0;
}

static void remove_cgroups(void)
{
    static const char *const where[] = {
        "",         "memory/",  "cpu/",      "cpuacct/",    "cpu,cpuacct/", "pids/",
        "unified/", "devices/", "freezer/",  "blkio/",      "cpuset/",      "systemd/",
        "hugetlb/", "net_cls/", "net_prio/", "perf_event/", "rdma/",        "misc/"};
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
    (void)!oci_driver->ops->destroy(oci_driver, left, &e);
}

int oci_world_tear_down(void **state)
{
    struct rp_error e = {0};
    oci_must(oci_driver->ops->list(oci_driver, destroy_left, NULL, &e), &e);
    oci_driver->ops->free(oci_driver);
    oci_must(rp_network_destroy_all(oci_network, &e), &e);
    remove_cgroups();
    assert_int_equal(umount2(oci_settings.runtime_dir, MNT_DETACH), 0);
    const char *const rm[] = {"rm", "-rf", "--one-file-system", oci_base, NULL};
    run_program(rm);
    return 0;
}

const struct rp_limits OCI_LIMITS = {.memory = 64 << 20, .cpu = 1000, .processes = 50};

struct rp_sandbox_spec oci_spec(const char *id, const char *volume)
{
    static char files[4][256], system[4][256], work[4][256];
    static int turn;
    int t = turn++ % 4;
    struct rp_sandbox_spec s = {
        .environment = OCI_ENVIRONMENT, .limits = OCI_LIMITS, .network = {.mode = RP_NETWORK_NONE}};
    snprintf(s.id, sizeof(s.id), "%s", id);
    snprintf(s.project, sizeof(s.project), "%s", id);
    snprintf(files[t], sizeof(files[t]), "%s/%s/files", oci_base, volume);
    snprintf(system[t], sizeof(system[t]), "%s/%s/system", oci_base, volume);
    snprintf(work[t], sizeof(work[t]), "%s/%s/work", oci_base, volume);
    s.files = files[t];
    s.system = system[t];
    s.work = work[t];
    return s;
}

/* Made, claimed, connected, HELLO said, cgroup given. */
int oci_begin(const char *id, const char *volume)
{
    struct rp_error e = {0};
    oci_must(oci_driver->ops->create(oci_driver, id, &e), &e);
    struct rp_sandbox_spec spec = oci_spec(id, volume);
    oci_must(oci_driver->ops->claim(oci_driver, &spec, &e), &e);
    int c = oci_driver->ops->connect(oci_driver, id, &e);
    oci_must(c, &e);
    init_client_hello(c);
    oci_must(oci_driver->ops->limits(oci_driver, id, 0, &OCI_LIMITS, c, &e), &e);
    return c;
}

void oci_destroy(const char *id)
{
    struct rp_error e = {0};
    oci_must(oci_driver->ops->destroy(oci_driver, id, &e), &e);
}
