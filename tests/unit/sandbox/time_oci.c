/*
 * How long the parts of a start take, beside the bare runtime: `time_oci [crun|runc [ROUNDS]]`. For
 * developers; bench/cold_start.py measures through the public API.
 */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/str.h"
#include "init_client.h"
#include "oci_world.h"
#include "sandbox/oci/config.h"
#include "sandbox/oci/oci_internal.h"

enum { ROUNDS_MAX = 1000 };
enum part { CREATE, CLAIM, CONNECT, ECHO, WHOLE, DESTROY, BARE, PARTS };

static double took[PARTS][ROUNDS_MAX];
static int rounds = 30;

static double now_ms(void)
{
    return (double)rp_clock_monotonic_ns() / 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The same program with the same configuration as the driver gives it, started and waited for like any other.
 */
static double bare(const char *bundle)
{
    struct rp_oci *o = (struct rp_oci *)oci_driver;
    char state[128];
    snprintf(state, sizeof(state), "%s/bare-state", oci_base);
    double before = now_ms();
    pid_t pid = vfork();
    if (pid == 0) {
        if (o->runtime.kind == RP_RUNTIME_CRUN)
            execl(o->runtime.path, "crun", "--cgroup-manager=disabled", "--root", state, "run", "--detach",
                  "--bundle", bundle, "bare", NULL);
        else
            execl(o->runtime.path, "runc", "--root", state, "run", "--detach", "--bundle", bundle, "bare",
                  NULL);
        _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    double ms = now_ms() - before;
    assert_int_equal(status, 0);
    pid = vfork();
    if (pid == 0) {
        execl(o->runtime.path, "runtime", "--root", state, "delete", "--force", "bare", NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    return ms;
}

static void measure(void **state)
{
    static struct ended end;
    const char *const echo[] = {"inside", "echo", "x", NULL};
    struct rp_error e = {0};
    char bundle[128];
    oci_path(bundle, sizeof(bundle), "bare");
    for (int i = 0; i < rounds; i++) {
        char id[RP_ID_SIZE];
        rp_random_id(id);
        struct rp_sandbox_spec spec = oci_spec(id, "volume");
        double t0 = now_ms();
        oci_must(oci_driver->ops->create(oci_driver, id, &e), &e);
        double t1 = now_ms();
        oci_must(oci_driver->ops->claim(oci_driver, &spec, &e), &e);
        double t2 = now_ms();
        int c = oci_driver->ops->connect(oci_driver, id, &e);
        oci_must(c, &e);
        init_client_hello(c);
        oci_must(oci_driver->ops->limits(oci_driver, id, 0, &spec.limits, c, &e), &e);
        double t3 = now_ms();
        init_client_run(c, 0, echo, &end);
        double t4 = now_ms();
        assert_string_equal(end.output, "x\n");
        close(c);
        oci_destroy(id);
        double t5 = now_ms();
        took[CREATE][i] = t1 - t0;
        took[CLAIM][i] = t2 - t1;
        took[CONNECT][i] = t3 - t2;
        took[ECHO][i] = t4 - t3;
        took[WHOLE][i] = t4 - t0;
        took[DESTROY][i] = t5 - t4;
        took[BARE][i] = bare(bundle);
    }
    static const char *const names[] = {
        "create", "claim", "connect, hello, cgroup", "echo", "start to echo", "destroy", "bare runtime"};
    for (int part = 0; part < PARTS; part++) {
        qsort(took[part], (size_t)rounds, sizeof(double), compare);
        printf("%-24s median %6.2f ms  min %6.2f  p90 %6.2f\n", names[part], took[part][rounds / 2],
               took[part][0], took[part][rounds * 9 / 10]);
    }
}

static long meminfo(const char *key)
{
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (fgets(line, sizeof(line), f))
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtol(line + strlen(key) + 1, NULL, 10);
    fclose(f);
    return kib;
}

static void density(void **state)
{
    static const char *const keys[] = {"MemAvailable", "MemFree", "AnonPages", "Slab", "SUnreclaim", "SReclaimable", "Percpu",
                                       "PageTables", "KernelStack", "Shmem", "VmallocUsed", "Cached"};
    long before[RP_ARRAY_SIZE(keys)];
    struct rp_error e = {0};
    char warm[RP_ID_SIZE];
    rp_random_id(warm);
    oci_volume("volume-warm");
    close(oci_begin(warm, "volume-warm"));
    sleep(2);
    for (size_t i = 0; i < RP_ARRAY_SIZE(keys); i++)
        before[i] = meminfo(keys[i]);
    for (int i = 0; i < rounds; i++) {
        char id[RP_ID_SIZE], volume[32];
        rp_random_id(id);
        snprintf(volume, sizeof(volume), "volume-%d", i);
        oci_volume(volume);
        struct rp_sandbox_spec spec = oci_spec(id, volume);
        oci_must(oci_driver->ops->create(oci_driver, id, &e), &e);
        oci_must(oci_driver->ops->claim(oci_driver, &spec, &e), &e);
    }
    sleep(3);
    for (size_t i = 0; i < RP_ARRAY_SIZE(keys); i++)
        printf("%-14s %8.1f KiB each\n", keys[i], (double)(meminfo(keys[i]) - before[i]) / rounds);
    if (getenv("PAUSE"))
        sleep(60);
}

/* The configuration of a real sandbox, but for what is the sandbox's alone: init without a socket would end.
 */
static void write_bare_bundle(void)
{
    char from[256], to[256], id[RP_ID_SIZE];
    struct rp_error e = {0};
    struct rp_network_slot slot;
    struct rp_oci *o = (struct rp_oci *)oci_driver;
    struct rp_buf json;
    rp_random_id(id);
    oci_must(rp_network_slot_take(oci_network, id, &slot, &e), &e);
    rp_buf_init(&json, RP_OCI_CONFIG_MAX);
    bool crun = o->runtime.kind == RP_RUNTIME_CRUN;
    char root[128];
    oci_path(root, sizeof(root), "runtime/root");
    struct rp_oci_config c = {.root = root,
                              .hostname = "repld",
                              .cgroup_path = crun ? NULL : "/repld-bare",
                              .netns = slot.netns,
                              .uid_base = RP_OCI_UID_BASE + slot.index * RP_OCI_UID_COUNT,
                              .files_max = 1024};
    *(crun ? &c.seccomp_bpf_base64 : &c.seccomp_json) = rp_buf_view(&o->seccomp);
    oci_must(rp_oci_config_write(&c, &json, &e), &e);
    /* waits instead of init, which wants its socket */
    assert_true(rp_buf_append(&json, "", 1));
    char *args = strstr(json.data, "\"/repld-init\"");
    assert_non_null(args);
    oci_path(from, sizeof(from), "bare");
    assert_int_equal(mkdir(from, 0755), 0);
    oci_path(to, sizeof(to), "bare/config.json");
    FILE *f = fopen(to, "w");
    fwrite(json.data, 1, (size_t)(args - json.data), f);
    fputs("\"/inside\",\"sleep\"", f);
    fputs(args + strlen("\"/repld-init\""), f);
    fclose(f);
    rp_buf_done(&json);
    char command[600];
    snprintf(command, sizeof(command), "%s/inside", root);
    pid_t pid = fork();
    if (pid == 0) {
        execlp("cp", "cp", INSIDE_PROGRAM, command, NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static int prepare(void **state)
{
    /* crun refuses a host with both cgroup versions; the driver hides one of them from it, and so do we here.
     */
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    oci_world_set_up(state);
    write_bare_bundle();
    const char *hide = ((struct rp_oci *)oci_driver)->runtime.hide;
    if (hide && umount2(hide, MNT_DETACH) < 0)
        return -1;
    return 0;
}

int main(int argc, char **argv)
{
    oci_runtime_name = argc > 1 ? argv[1] : NULL;
    bool dense = argc > 2 && strcmp(argv[2], "density") == 0;
    if (argc > 2 + dense)
        rounds = RP_MIN((int)strtol(argv[2 + dense], NULL, 10), (int)ROUNDS_MAX);
    if (unshare(CLONE_NEWNET) < 0)
        return 1;
    const struct CMUnitTest idle[] = {cmocka_unit_test(density)};
    if (dense)
        return cmocka_run_group_tests(idle, oci_world_set_up, oci_world_tear_down);
    const struct CMUnitTest tests[] = {cmocka_unit_test(measure)};
    return cmocka_run_group_tests(tests, prepare, oci_world_tear_down);
}
