/* The driver: open and close, and the operations of driver.h out of the modules beside this file. */
#include "sandbox/oci/oci.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "proto/init.h"
#include "sandbox/oci/config.h"
#include "sandbox/oci/environment.h"
#include "sandbox/oci/oci_internal.h"
#include "sandbox/oci/record.h"
#include "sandbox/oci/rootfs.h"

enum { FILES_MAX = 65536, IDS_MAX = 2 * RP_NETWORK_SLOTS };

static struct rp_oci *of(struct rp_driver *d)
{
    return (struct rp_oci *)d;
}

static int check_id(const char *id, struct rp_error *err)
{
    return rp_id_valid(id, strlen(id)) ? 0 : rp_error_set(err, RP_ERROR_INVALID, "not the id of a sandbox");
}

static int create(struct rp_driver *d, const char *id, struct rp_error *err)
{
    struct rp_oci *o = of(d);
    struct rp_network_slot slot;
    if (check_id(id, err) < 0 || rp_network_slot_take(o->network, id, &slot, err) < 0)
        return -1;
    if (rp_oci_start(o, id, slot.netns, RP_OCI_UID_BASE + slot.index * RP_OCI_UID_COUNT, err) == 0)
        return 0;
    /* One that was there already is not ours to undo. */
    if (err && err->code == RP_ERROR_EXISTS)
        return -1;
    struct rp_error ignored;
    if (rp_oci_remove(o, id, &ignored) == 0)
        (void)!rp_network_slot_give(o->network, id, &ignored);
    return -1;
}

static int claim(struct rp_driver *d, const struct rp_sandbox_spec *spec, struct rp_error *err)
{
    struct rp_oci *o = of(d);
    if (check_id(spec->id, err) < 0)
        return -1;
    _cleanup_close_ int dir = rp_oci_open_dir(o, spec->id, err);
    if (dir < 0)
        return -1;
    struct rp_oci_init init;
    _cleanup_close_ int pidfd = rp_oci_init_open(dir, spec->id, o->cgroups, &init, err);
    if (pidfd < 0)
        return -1;
    struct rp_network_slot slot;
    struct rp_environment environment;
    if (rp_network_slot_find(o->network, spec->id, &slot, err) < 0 ||
        rp_environment_find(o->settings->environments_dir, spec->environment, &environment, err) < 0 ||
        rp_bursts_limit(o->bursts, dir, spec->id, 0, &spec->limits, err) < 0 ||
        rp_network_policy_set(o->network, spec->id, &spec->network, err) < 0)
        return -1;
    /* On disk, so that it does not count as memory; but a sandbox starts as a machine does. */
    if (rp_rootfs_empty(spec->system, "tmp", err) < 0 || rp_rootfs_empty(spec->system, "run", err) < 0)
        return -1;
    struct rp_rootfs_spec root = {.upper = spec->system,
                                  .work = spec->work,
                                  .files = spec->files,
                                  .uid_base = RP_OCI_UID_BASE + slot.index * RP_OCI_UID_COUNT,
                                  .sysfs = o->sysfs};
    root.layers[root.layer_count++] = o->host_layer;
    for (size_t i = 0; i < environment.layer_count; i++)
        root.layers[root.layer_count++] = environment.layers[i];
    return rp_rootfs_attach(init.pid, &root, err);
}
_Static_assert((int)RP_ENVIRONMENT_LAYERS_MAX < (int)RP_ROOTFS_LAYERS_MAX, "the host's layer comes on top");

static int destroy(struct rp_driver *d, const char *id, struct rp_error *err)
{
    if (check_id(id, err) < 0 || rp_oci_remove(of(d), id, err) < 0)
        return -1;
    return rp_network_slot_give(of(d)->network, id, err);
}

static int connect_init(struct rp_driver *d, const char *id, struct rp_error *err)
{
    if (check_id(id, err) < 0)
        return -1;
    _cleanup_close_ int dir = rp_oci_open_dir(of(d), id, err);
    if (dir < 0)
        return -1;
    return rp_oci_connect(dir, id, err);
}

struct ids {
    char (*id)[RP_ID_SIZE];
    size_t count;
};

static void add_id(void *ctx, const char *id)
{
    struct ids *l = ctx;
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->id[i], id) == 0)
            return;
    if (l->count < IDS_MAX)
        memcpy(l->id[l->count++], id, RP_ID_SIZE);
}

static int add_directories(struct ids *l, const char *path, struct rp_error *err)
{
    _cleanup_dir_ DIR *d = opendir(path);
    if (!d)
        return errno == ENOENT ? 0 : rp_error_errno(err, RP_ERROR_INTERNAL, errno, "list \"%s\"", path);
    struct dirent *e;
    while ((e = readdir(d)))
        if (rp_id_valid(e->d_name, strlen(e->d_name)))
            add_id(l, e->d_name);
    return 0;
}

/* Whatever has left a trace anywhere, so that nothing half made escapes the reaper. */
static int list(struct rp_driver *d, void (*each)(void *ctx, const char *id), void *ctx, struct rp_error *err)
{
    struct rp_oci *o = of(d);
    struct ids l = {.id = rp_calloc(IDS_MAX, RP_ID_SIZE)};
    int r = add_directories(&l, o->sandboxes, err);
    if (r == 0)
        r = add_directories(&l, o->runtime.state_dir, err);
    if (r == 0)
        r = rp_cgroups_list(o->cgroups, add_id, &l, err);
    if (r == 0)
        r = rp_network_list(o->network, add_id, &l, err);
    for (size_t i = 0; r == 0 && i < l.count; i++)
        each(ctx, l.id[i]);
    free(l.id);
    return r;
}

static int alive(struct rp_driver *d, const char *id, struct rp_sandbox_ended *ret, struct rp_error *err)
{
    struct rp_oci *o = of(d);
    if (check_id(id, err) < 0)
        return -1;
    struct rp_error why = {0};
    _cleanup_close_ int dir = rp_oci_open_dir(o, id, &why);
    _cleanup_close_ int pidfd = dir < 0 ? -1 : rp_oci_init_open(dir, id, o->cgroups, NULL, &why);
    if (pidfd < 0 && why.code != RP_ERROR_NOT_RUNNING && why.code != RP_ERROR_NOT_FOUND) {
        if (err)
            *err = why;
        return -1;
    }
    ret->ended = pidfd < 0;
    ret->oom = rp_cgroup_oom_kills(o->cgroups, id, RP_CGROUP_WHOLE) > 0;
    return 0;
}

static int watch(struct rp_driver *d, const char *id, struct rp_error *err)
{
    if (check_id(id, err) < 0)
        return -1;
    _cleanup_close_ int dir = rp_oci_open_dir(of(d), id, err);
    return dir < 0 ? -1 : rp_oci_init_open(dir, id, of(d)->cgroups, NULL, err);
}

static int check_step(uint32_t step, uint32_t min, struct rp_error *err)
{
    if (step < min || step >= RP_INIT_STEPS_MAX)
        return rp_error_set(err, RP_ERROR_INVALID, "step %u: not from %u to %d", step, min,
                            RP_INIT_STEPS_MAX - 1);
    return 0;
}

static int limits(struct rp_driver *d, const char *id, uint32_t step, const struct rp_limits *l,
                  int connection, struct rp_error *err)
{
    struct rp_oci *o = of(d);
    if (check_id(id, err) < 0 || check_step(step, 0, err) < 0)
        return -1;
    _cleanup_close_ int dir = rp_oci_open_dir(o, id, err);
    if (dir < 0 || rp_bursts_limit(o->bursts, dir, id, step, l, err) < 0)
        return -1;
    return connection < 0 ? 0 : rp_oci_give_cgroup(o, id, step, connection, err);
}

static int step_drop(struct rp_driver *d, const char *id, uint32_t step, struct rp_error *err)
{
    struct rp_oci *o = of(d);
    if (check_id(id, err) < 0 || check_step(step, 1, err) < 0)
        return -1;
    rp_bursts_forget(o->bursts, id, (int)step);
    return rp_cgroup_remove(o->cgroups, id, (int)step, err);
}

static int stats(struct rp_driver *d, const char *id, struct rp_sandbox_stats *ret, struct rp_error *err)
{
    struct rp_oci *o = of(d);
    struct rp_cgroup_usage u;
    struct rp_sandbox_stats s;
    if (check_id(id, err) < 0 || rp_cgroup_usage(o->cgroups, id, &u, err) < 0 ||
        rp_network_stats(o->network, id, &s.received, &s.sent, err) < 0)
        return -1;
    s.cpu_us = u.cpu_us;
    s.memory = u.memory;
    s.memory_limit = u.memory_limit;
    s.oom_kills = u.oom_kills;
    s.throttled_us = u.throttled_us;
    s.processes = u.processes;
    s.processes_limit = u.processes_limit;
    s.cpu_limit = u.cpu_limit;
    *ret = s;
    return 0;
}

static int ready(struct rp_driver *d, struct rp_error *err)
{
    struct rp_oci *o = of(d);
    struct rp_error ignored;
    if (rp_runtime_check(&o->runtime, err) < 0 || rp_network_check(o->network, err) < 0)
        return -1;
    struct ids l = {.id = rp_calloc(IDS_MAX, RP_ID_SIZE)};
    int r = rp_cgroups_list(o->cgroups, add_id, &l, err ?: &ignored);
    free(l.id);
    return r;
}

static void release(struct rp_driver *d)
{
    struct rp_oci *o = of(d);
    rp_bursts_close(o->bursts);
    rp_cgroups_close(o->cgroups);
    rp_buf_done(&o->seccomp);
    rp_close_fd(&o->sandboxes_fd);
    rp_close_fd(&o->sysfs);
    free(o->tiny_root);
    free(o->host_layer);
    free(o->sandboxes);
    free(o);
}

static const struct rp_driver_operations operations = {
    .name = "oci",
    .capabilities = RP_DRIVER_WARM | RP_DRIVER_DISK_QUOTA | RP_DRIVER_ALLOW_LIST | RP_DRIVER_STEPS,
    .create = create,
    .claim = claim,
    .destroy = destroy,
    .connect = connect_init,
    .list = list,
    .alive = alive,
    .watch = watch,
    .limits = limits,
    .step_drop = step_drop,
    .stats = stats,
    .ready = ready,
    .free = release,
};

/* Idmapped overlay layers came with 5.19. */
static int check_kernel(struct rp_error *err)
{
    struct utsname u;
    char *rest;
    if (uname(&u) < 0)
        return rp_error_errno(err, RP_ERROR_NOT_SUPPORTED, errno, "uname");
    unsigned long major = strtoul(u.release, &rest, 10),
                  minor = *rest == '.' ? strtoul(rest + 1, NULL, 10) : 0;
    if (major < 5 || (major == 5 && minor < 19))
        return rp_error_set(err, RP_ERROR_NOT_SUPPORTED, "Linux %s is too old: sandboxes need 5.19 or newer",
                            u.release);
    return 0;
}

/* A runtime sets up the tiny root with the rights of the sandbox's root, who is nobody on the host. */
static int check_reachable(const char *runtime_dir, struct rp_error *err)
{
    _cleanup_free_ char *path = rp_strdup(runtime_dir);
    for (char *slash; (slash = strrchr(path, '/')); *slash = '\0') {
        struct stat st;
        if (stat(path, &st) < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "\"%s\"", path);
        if (st.st_mode & S_IXOTH)
            continue;
        if (strcmp(path, runtime_dir) == 0 && chmod(path, (st.st_mode & 07777) | S_IXGRP | S_IXOTH) == 0)
            continue; /* passing through is all; what is in it has modes of its own */
        return rp_error_set(err, RP_ERROR_INVALID,
                            "the runtime directory \"%s\" cannot be used: \"%s\" lets only its owner pass",
                            runtime_dir, path);
    }
    return 0;
}

static int open_directories(struct rp_oci *o, struct rp_error *err)
{
    const char *base = o->settings->runtime_dir;
    if (base[0] != '/' || strlen(base) > 512)
        return rp_error_set(err, RP_ERROR_INVALID,
                            "runtime directory \"%s\": not an absolute path of at most 512 bytes", base);
    o->tiny_root = rp_asprintf("%s/root", base);
    o->host_layer = rp_asprintf("%s/host-layer", base);
    o->sandboxes = rp_asprintf("%s/sandboxes", base);
    if (check_reachable(base, err) < 0)
        return -1;
    if (mkdir(o->sandboxes, 0700) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", o->sandboxes);
    o->sandboxes_fd = open(o->sandboxes, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (o->sandboxes_fd < 0 || fchmod(o->sandboxes_fd, 0700) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", o->sandboxes);
    char resolver[16];
    uint32_t a = rp_network_resolver(o->network);
    snprintf(resolver, sizeof(resolver), "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
    if (rp_rootfs_make_tiny(o->tiny_root, o->settings->init_path, err) < 0 ||
        rp_environment_host_layer_write(o->host_layer, o->settings, resolver, err) < 0)
        return -1;
    return 0;
}

static int adopt_bursts(struct rp_oci *o, struct rp_error *err)
{
    struct ids l = {.id = rp_calloc(IDS_MAX, RP_ID_SIZE)};
    int r = add_directories(&l, o->sandboxes, err);
    for (size_t i = 0; r == 0 && i < l.count; i++) {
        _cleanup_close_ int dir = rp_oci_open_dir(o, l.id[i], NULL);
        if (dir >= 0)
            rp_bursts_adopt(o->bursts, dir, l.id[i]);
    }
    free(l.id);
    return r;
}

int rp_oci_driver_open(const struct rp_settings *settings, struct rp_network *network, struct rp_driver **ret,
                       struct rp_error *err)
{
    struct rp_oci *o = rp_calloc(1, sizeof(*o));
    o->driver.ops = &operations;
    o->settings = settings;
    o->network = network;
    o->sandboxes_fd = o->sysfs = -1;
    struct rlimit files = {0};
    (void)getrlimit(RLIMIT_NOFILE, &files);
    o->files_max = RP_MIN((uint64_t)files.rlim_max, (uint64_t)FILES_MAX);
    struct rp_cgroup_options cgroups = {.root = settings->cgroup_root, .layout = settings->cgroup_layout};
    int r = check_kernel(err);
    if (r == 0)
        r = rp_cgroups_open(&cgroups, &o->cgroups, err);
    if (r == 0)
        r = rp_bursts_open(o->cgroups, &o->bursts, err);
    if (r == 0)
        r = open_directories(o, err);
    if (r == 0 && (o->sysfs = rp_rootfs_open_sysfs(err)) < 0)
        r = -1;
    if (r == 0)
        r = rp_oci_choose_runtime(o, err);
    if (r == 0)
        r = adopt_bursts(o, err);
    if (r < 0) {
        release(&o->driver);
        return -1;
    }
    *ret = &o->driver;
    return 0;
}
