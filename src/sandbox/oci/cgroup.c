/* Making, entering, killing and removing the groups of a sandbox. */
#include "sandbox/oci/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "proto/init.h"
#include "sandbox/oci/cgroup_internal.h"

/* init and its connections hold at most a few MiB; the runtime that starts it needs some as well. The share
 * of CPU is against the sandbox's own processes only. */
#define INIT_MEMORY     "67108864"
#define INIT_MEMORY_MIN "2097152"

enum { REMOVE_TIMEOUT_MS = 10000, KILL_TIMEOUT_MS = 2000 };

static void sleep_us(unsigned us)
{
    struct timespec t = {.tv_nsec = (long)us * 1000};
    nanosleep(&t, NULL);
}

static int make(const struct rp_cgroup_hierarchy *h, const char *group, struct rp_error *err)
{
    if (mkdirat(h->fd, group, 0755) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make the cgroup %s/%s", h->path, group);
    return 0;
}

/* On v2 a group hands its controllers on to its children only when it says so. */
static int delegate(const struct rp_cgroup_hierarchy *h, const char *id, struct rp_error *err)
{
    static const struct {
        unsigned bit;
        const char *value;
    } each[] = {{RP_CGROUP_MEMORY, "+memory"}, {RP_CGROUP_CPU, "+cpu"}, {RP_CGROUP_PIDS, "+pids"}};
    for (size_t i = 0; i < RP_ARRAY_SIZE(each); i++) {
        if (!(h->controllers & each[i].bit))
            continue;
        int r = rp_cgroup_write(h, id, "cgroup.subtree_control", each[i].value);
        if (r < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "write \"%s\" to %s/%s/cgroup.subtree_control",
                                  each[i].value, h->path, id);
    }
    return 0;
}

/* A reserve is best effort: it is about which pages and whose turn, not about what is allowed. */
static void reserve_for_init(const struct rp_cgroups *c, const char *id)
{
    char group[RP_CGROUP_NAME_MAX];
    rp_cgroup_name(id, RP_CGROUP_INIT, group);
    const struct rp_cgroup_hierarchy *memory = rp_cgroup_with(c, RP_CGROUP_MEMORY);
    const struct rp_cgroup_hierarchy *cpu = rp_cgroup_with(c, RP_CGROUP_CPU);
    if (memory->version == 2) {
        (void)rp_cgroup_write(memory, group, "memory.max", INIT_MEMORY);
        (void)rp_cgroup_write(memory, id, "memory.min", INIT_MEMORY_MIN);
        (void)rp_cgroup_write(memory, group, "memory.min", INIT_MEMORY_MIN);
    } else {
        (void)rp_cgroup_write(memory, group, "memory.limit_in_bytes", INIT_MEMORY);
    }
    if (cpu->version == 2)
        (void)rp_cgroup_write(cpu, group, "cpu.weight", "1000");
    else
        (void)rp_cgroup_write(cpu, group, "cpu.shares", "10240");
}

int rp_cgroup_create(struct rp_cgroups *c, const char *id, struct rp_error *err)
{
    for (int i = 0; i < c->count; i++) {
        const struct rp_cgroup_hierarchy *h = &c->hierarchies[i];
        if (make(h, id, err) < 0 || (h->version == 2 && delegate(h, id, err) < 0))
            return -1;
        for (int child = RP_CGROUP_INIT; child <= RP_CGROUP_USER; child++) {
            char group[RP_CGROUP_NAME_MAX];
            rp_cgroup_name(id, child, group);
            if (make(h, group, err) < 0)
                return -1;
        }
    }
    reserve_for_init(c, id);
    return 0;
}

static int open_failed(int errnum, const char *path, struct rp_error *err)
{
    return rp_error_errno(err, errnum == ENOENT ? RP_ERROR_NOT_FOUND : RP_ERROR_INTERNAL, errnum,
                          "open the cgroup %s", path);
}

/* Those of the versions from 1 to max_version. */
static int open_tasks(struct rp_cgroups *c, const char *id, int child, int max_version, int *fds,
                      struct rp_error *err)
{
    char group[RP_CGROUP_NAME_MAX], path[RP_CGROUP_NAME_MAX + 16];
    rp_cgroup_name(id, child, group);
    int n = 0;
    for (int i = 0; i < c->count; i++) {
        const struct rp_cgroup_hierarchy *h = &c->hierarchies[i];
        if (h->version > max_version)
            continue;
        snprintf(path, sizeof(path), "%s/%s", group, h->version == 1 ? "tasks" : "cgroup.procs");
        fds[n] = openat(h->fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fds[n] < 0) {
            int errnum = errno;
            while (n-- > 0)
                rp_close_fd(&fds[n]);
            return open_failed(errnum, path, err);
        }
        n++;
    }
    return n;
}

int rp_cgroup_open_procs(struct rp_cgroups *c, const char *id, int child, int fds[RP_CGROUP_HIERARCHIES_MAX],
                         struct rp_error *err)
{
    return open_tasks(c, id, child, 2, fds, err);
}

int rp_cgroup_open_start(struct rp_cgroups *c, const char *id, int child, int fds[RP_CGROUP_HIERARCHIES_MAX],
                         int *ret_directory, struct rp_error *err)
{
    char group[RP_CGROUP_NAME_MAX];
    rp_cgroup_name(id, child, group);
    _cleanup_close_ int directory = -1;
    for (int i = 0; i < c->count; i++)
        if (c->hierarchies[i].version == 2) { /* there is at most one */
            directory = openat(c->hierarchies[i].fd, group, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
            if (directory < 0)
                return open_failed(errno, group, err);
        }
    int n = open_tasks(c, id, child, 1, fds, err);
    if (n >= 0)
        *ret_directory = RP_STEAL_FD(directory);
    return n;
}

/* Calls f for each pid that the group has in h, not those further down. Returns how many, or a negative
 * errno. */
static int each_process(const struct rp_cgroup_hierarchy *h, const char *group, void (*f)(pid_t pid))
{
    char path[RP_CGROUP_NAME_MAX + 16];
    snprintf(path, sizeof(path), "%s/cgroup.procs", group);
    int fd = openat(h->fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    _cleanup_file_ FILE *file = fdopen(fd, "r");
    if (!file) {
        close(fd);
        return -ENOMEM;
    }
    char line[32];
    int count = 0;
    while (fgets(line, sizeof(line), file)) {
        long pid = strtol(line, NULL, 10);
        if (pid > 1) { /* 0: a process that our pid namespace does not see */
            f((pid_t)pid);
            count++;
        }
    }
    return count;
}

static void kill_one(pid_t pid)
{
    (void)kill(pid, SIGKILL);
}

/* Names of the groups in `group`, which has no grandchildren but what runtimes never make. */
static int each_child(int root, const char *group, void (*f)(void *ctx, const char *name), void *ctx)
{
    int fd = openat(root, group, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    _cleanup_dir_ DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return -ENOMEM;
    }
    struct dirent *e;
    while ((e = readdir(d)))
        if (e->d_type == DT_DIR && e->d_name[0] != '.')
            f(ctx, e->d_name);
    return 0;
}

struct killing {
    const struct rp_cgroup_hierarchy *h;
    const char *group;
    int found;
};

static void kill_child(void *ctx, const char *name)
{
    struct killing *k = ctx;
    char group[NAME_MAX + RP_CGROUP_NAME_MAX];
    snprintf(group, sizeof(group), "%s/%s", k->group, name);
    if (strlen(group) < RP_CGROUP_NAME_MAX)
        k->found += RP_MAX(each_process(k->h, group, kill_one), 0);
}

/* v1 has no cgroup.kill. With pids.max at 0 nothing in it forks any more, so that a few rounds reach all. */
static void kill_v1(const struct rp_cgroup_hierarchy *h, const char *group)
{
    char before[32];
    if (rp_cgroup_read(h, group, "pids.max", before, sizeof(before)) <= 0)
        return;
    (void)rp_cgroup_write(h, group, "pids.max", "0");
    uint64_t until = rp_clock_monotonic_ns() + KILL_TIMEOUT_MS * UINT64_C(1000000);
    unsigned pause_us = 100;
    do {
        struct killing k = {.h = h, .group = group};
        k.found = RP_MAX(each_process(h, group, kill_one), 0);
        (void)each_child(h->fd, group, kill_child, &k);
        if (!k.found)
            break;
        sleep_us(pause_us);
        pause_us = RP_MIN(pause_us * 2, 10000u);
    } while (rp_clock_monotonic_ns() < until);
    before[strcspn(before, "\n")] = '\0';
    (void)rp_cgroup_write(h, group, "pids.max", before);
}

int rp_cgroup_kill(struct rp_cgroups *c, const char *id, int child, struct rp_error *err)
{
    char group[RP_CGROUP_NAME_MAX];
    rp_cgroup_name(id, child, group);
    const struct rp_cgroup_hierarchy *h = rp_cgroup_with(c, RP_CGROUP_PIDS);
    if (h->version == 1) {
        kill_v1(h, group);
        return 0;
    }
    int r = rp_cgroup_write(h, group, "cgroup.kill", "1");
    if (r < 0 && r != -ENOENT)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "write %s/%s/cgroup.kill", h->path, group);
    return 0;
}

struct removing {
    int fd;
    const char *group;
    int errnum;
};

static void remove_child(void *ctx, const char *name)
{
    struct removing *r = ctx;
    char path[NAME_MAX + RP_CGROUP_NAME_MAX];
    snprintf(path, sizeof(path), "%s/%s", r->group, name);
    if (unlinkat(r->fd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
        r->errnum = errno;
}

/* The group and its children, once. 0 or a negative errno. */
static int remove_in(int root, const char *group)
{
    struct removing r = {.fd = root, .group = group};
    int listed = each_child(root, group, remove_child, &r);
    if (listed == -ENOENT)
        return 0;
    if (listed < 0 || r.errnum)
        return listed < 0 ? listed : -r.errnum;
    return unlinkat(root, group, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

int rp_cgroup_remove(struct rp_cgroups *c, const char *id, int child, struct rp_error *err)
{
    char group[RP_CGROUP_NAME_MAX];
    rp_cgroup_name(id, child, group);
    uint64_t until = rp_clock_monotonic_ns() + REMOVE_TIMEOUT_MS * UINT64_C(1000000);
    unsigned pause_us = 200;
    if (rp_cgroup_kill(c, id, child, err) < 0)
        return -1;
    for (int i = 0; i < c->count;) {
        int r = remove_in(c->hierarchies[i].fd, group);
        if (r == 0) {
            i++;
            continue;
        }
        /* What was killed leaves the group when it has been torn down, which takes a moment. */
        if (r != -EBUSY || rp_clock_monotonic_ns() > until)
            return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "remove the cgroup %s/%s",
                                  c->hierarchies[i].path, group);
        sleep_us(pause_us);
        pause_us = RP_MIN(pause_us * 2, 20000u);
        if (pause_us >= 10000 && rp_cgroup_kill(c, id, child, err) < 0)
            return -1;
    }
    for (int i = 0; i < c->other_count; i++) {
        _cleanup_close_ int fd = open(c->others[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r;
        while (fd >= 0 && (r = remove_in(fd, group)) < 0) {
            if (r != -EBUSY || rp_clock_monotonic_ns() > until)
                return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "remove the cgroup %s/%s", c->others[i],
                                      group);
            sleep_us(1000);
        }
    }
    return 0;
}

bool rp_cgroup_exists(const struct rp_cgroups *c, const char *id, int child)
{
    char group[RP_CGROUP_NAME_MAX];
    rp_cgroup_name(id, child, group);
    return faccessat(c->hierarchies[0].fd, group, F_OK, 0) == 0;
}

bool rp_cgroup_holds(struct rp_cgroups *c, const char *id, int pid)
{
    char path[64], line[1024], want[RP_CGROUP_PATH_MAX];
    snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
    snprintf(want, sizeof(want), "/%s/%s/", c->root, id);
    _cleanup_file_ FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (strstr(line, want))
            return true;
    return false;
}

struct listing {
    void (*each)(void *ctx, const char *id);
    void *ctx;
};

static void list_one(void *ctx, const char *name)
{
    struct listing *l = ctx;
    if (rp_id_valid(name, strlen(name)))
        l->each(l->ctx, name);
}

int rp_cgroups_list(struct rp_cgroups *c, void (*each)(void *ctx, const char *id), void *ctx,
                    struct rp_error *err)
{
    struct listing l = {each, ctx};
    for (int i = 0; i < c->count; i++) {
        int r = each_child(c->hierarchies[i].fd, ".", list_one, &l);
        if (r < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "list %s", c->hierarchies[i].path);
    }
    /* A runtime that was killed may have left groups there and nowhere else. */
    for (int i = 0; i < c->other_count; i++) {
        _cleanup_close_ int fd = open(c->others[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            (void)each_child(fd, ".", list_one, &l);
    }
    return 0;
}
