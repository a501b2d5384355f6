/* What a group may use, and what it has used. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "proto/init.h"
#include "sandbox/oci/cgroup_internal.h"

/*
 * Short periods: whoever has used up its share waits at most 20 ms for the next, which a person who types
 * does not notice (100 ms he does). The kernel takes no quota below 1 ms, so that small shares need long
 * ones.
 */
enum { PERIOD_US = 20000, PERIOD_LONG_US = 100000, QUOTA_MIN_US = 1000 };

static int failed(struct rp_error *err, int r, const struct rp_cgroup_hierarchy *h, const char *group,
                  const char *file)
{
    return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "set %s/%s/%s", h->path, group, file);
}

/* Files that only some kernels or boot options have. */
static int write_optional(const struct rp_cgroup_hierarchy *h, const char *group, const char *file,
                          const char *value)
{
    int r = rp_cgroup_write(h, group, file, value);
    return r == -ENOENT || r == -EOPNOTSUPP || r == -EACCES ? 0 : r;
}

static int limit_memory(const struct rp_cgroup_hierarchy *h, const char *group, uint64_t bytes,
                        struct rp_error *err)
{
    char value[32];
    snprintf(value, sizeof(value), "%" PRIu64, bytes);
    const char *file = h->version == 2 ? "memory.max" : "memory.limit_in_bytes";
    int r;
    if (h->version == 2) {
        r = rp_cgroup_write(h, group, file, value);
        if (r == 0)
            r = write_optional(h, group, file = "memory.swap.max", "0");
    } else {
        /* limit_in_bytes must never be above memsw: memsw goes up first and comes down last. */
        r = write_optional(h, group, "memory.memsw.limit_in_bytes", "-1");
        if (r == 0)
            r = rp_cgroup_write(h, group, file, value);
        if (r == 0)
            r = write_optional(h, group, file = "memory.memsw.limit_in_bytes", value);
    }
    return r < 0 ? failed(err, r, h, group, file) : 0;
}

static int limit_cpu(const struct rp_cgroup_hierarchy *h, const char *group, uint32_t thousandths,
                     struct rp_error *err)
{
    uint64_t period = PERIOD_US, quota = period * thousandths / 1000;
    if (quota < QUOTA_MIN_US) {
        period = PERIOD_LONG_US;
        quota = RP_MAX(period * thousandths / 1000, (uint64_t)QUOTA_MIN_US);
    }
    char value[64];
    int r;
    if (h->version == 2) {
        snprintf(value, sizeof(value), "%" PRIu64 " %" PRIu64, quota, period);
        r = rp_cgroup_write(h, group, "cpu.max", value);
        return r < 0 ? failed(err, r, h, group, "cpu.max") : 0;
    }
    /* Without a quota in between no combination of old and new period is out of range. */
    r = rp_cgroup_write(h, group, "cpu.cfs_quota_us", "-1");
    snprintf(value, sizeof(value), "%" PRIu64, period);
    if (r == 0)
        r = rp_cgroup_write(h, group, "cpu.cfs_period_us", value);
    snprintf(value, sizeof(value), "%" PRIu64, quota);
    if (r == 0)
        r = rp_cgroup_write(h, group, "cpu.cfs_quota_us", value);
    return r < 0 ? failed(err, r, h, group, "cpu.cfs_quota_us") : 0;
}

static int limit_processes(const struct rp_cgroup_hierarchy *h, const char *group, uint32_t processes,
                           struct rp_error *err)
{
    char value[32];
    snprintf(value, sizeof(value), "%" PRIu32, processes);
    int r = rp_cgroup_write(h, group, "pids.max", value);
    return r < 0 ? failed(err, r, h, group, "pids.max") : 0;
}

int rp_cgroup_limit(struct rp_cgroups *c, const char *id, int child, const struct rp_limits *limits,
                    bool burst, struct rp_error *err)
{
    char group[RP_CGROUP_NAME_MAX];
    rp_cgroup_name(id, child, group);
    for (int i = 0; i < c->count; i++)
        if (mkdirat(c->hierarchies[i].fd, group, 0755) < 0 && errno != EEXIST)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make the cgroup %s/%s",
                                  c->hierarchies[i].path, group);
    uint32_t cpu = burst ? RP_MAX(limits->cpu, limits->burst_cpu) : limits->cpu;
    if (limit_memory(rp_cgroup_with(c, RP_CGROUP_MEMORY), group, limits->memory, err) < 0 ||
        limit_cpu(rp_cgroup_with(c, RP_CGROUP_CPU), group, cpu, err) < 0 ||
        limit_processes(rp_cgroup_with(c, RP_CGROUP_PIDS), group, limits->processes, err) < 0)
        return -1;
    return 0;
}

static uint64_t memory_of(const struct rp_cgroup_hierarchy *h, const char *group)
{
    bool v2 = h->version == 2;
    uint64_t all = rp_cgroup_read_number(h, group, v2 ? "memory.current" : "memory.usage_in_bytes", 0);
    uint64_t droppable =
        rp_cgroup_read_key(h, group, "memory.stat", v2 ? "inactive_file" : "total_inactive_file", 0);
    return all > droppable ? all - droppable : 0;
}

static uint64_t oom_kills_of(const struct rp_cgroup_hierarchy *h, const char *group)
{
    return h->version == 2 ? rp_cgroup_read_key(h, group, "memory.events", "oom_kill", 0)
                           : rp_cgroup_read_key(h, group, "memory.oom_control", "oom_kill", 0);
}

uint64_t rp_cgroup_oom_kills(struct rp_cgroups *c, const char *id, int child)
{
    const struct rp_cgroup_hierarchy *h = rp_cgroup_with(c, RP_CGROUP_MEMORY);
    char group[RP_CGROUP_NAME_MAX];
    if (child != RP_CGROUP_WHOLE || h->version == 2) {
        rp_cgroup_name(id, child, group); /* v2 counts what happened further down as well */
        return oom_kills_of(h, group);
    }
    uint64_t sum = 0;
    for (int i = RP_CGROUP_INIT; i < RP_INIT_STEPS_MAX; i++) {
        rp_cgroup_name(id, i, group);
        sum += oom_kills_of(h, group);
    }
    return sum;
}

static void read_limits(const struct rp_cgroups *c, const char *group, struct rp_cgroup_usage *u)
{
    const struct rp_cgroup_hierarchy *memory = rp_cgroup_with(c, RP_CGROUP_MEMORY);
    const struct rp_cgroup_hierarchy *cpu = rp_cgroup_with(c, RP_CGROUP_CPU);
    /* "max", or on v1 a number near 2^63, is no limit */
    u->memory_limit = rp_cgroup_read_number(memory, group,
                                            memory->version == 2 ? "memory.max" : "memory.limit_in_bytes", 0);
    if (u->memory_limit > UINT64_MAX / 4)
        u->memory_limit = 0;
    u->processes_limit =
        (uint32_t)rp_cgroup_read_number(rp_cgroup_with(c, RP_CGROUP_PIDS), group, "pids.max", 0);
    uint64_t quota = 0, period = 0;
    if (cpu->version == 2) {
        char text[64]; /* "QUOTA PERIOD", or "max PERIOD" */
        int n = rp_cgroup_read(cpu, group, "cpu.max", text, sizeof(text));
        struct rp_str rest = {text, n > 0 ? strcspn(text, "\n") : 0}, first = rp_str_cut(rest, ' ', &rest);
        if (!rp_str_to_u64(first, UINT32_MAX, &quota) || !rp_str_to_u64(rest, UINT32_MAX, &period))
            quota = 0;
    } else {
        quota = rp_cgroup_read_number(cpu, group, "cpu.cfs_quota_us", 0);
        period = rp_cgroup_read_number(cpu, group, "cpu.cfs_period_us", 0);
    }
    u->cpu_limit =
        period && quota < UINT32_MAX ? (uint32_t)(quota * 1000 / period) : 0; /* v1: -1 is no limit */
}

int rp_cgroup_usage(struct rp_cgroups *c, const char *id, struct rp_cgroup_usage *ret, struct rp_error *err)
{
    const struct rp_cgroup_hierarchy *memory = rp_cgroup_with(c, RP_CGROUP_MEMORY);
    const struct rp_cgroup_hierarchy *cpu = rp_cgroup_with(c, RP_CGROUP_CPU);
    const struct rp_cgroup_hierarchy *account = rp_cgroup_with(c, RP_CGROUP_CPUACCT);
    const struct rp_cgroup_hierarchy *pids = rp_cgroup_with(c, RP_CGROUP_PIDS);
    if (faccessat(memory->fd, id, F_OK, 0) < 0)
        return rp_error_set(err, RP_ERROR_NOT_FOUND, "there is no cgroup %s/%s", memory->path, id);
    struct rp_cgroup_usage u = {0};
    u.cpu_us = account->version == 2 ? rp_cgroup_read_key(account, id, "cpu.stat", "usage_usec", 0)
                                     : rp_cgroup_read_number(account, id, "cpuacct.usage", 0) / 1000;
    u.oom_kills = rp_cgroup_oom_kills(c, id, RP_CGROUP_WHOLE);
    char group[RP_CGROUP_NAME_MAX];
    for (int i = RP_CGROUP_USER; i < RP_INIT_STEPS_MAX; i++) {
        rp_cgroup_name(id, i, group);
        if (faccessat(memory->fd, group, F_OK, 0) < 0)
            continue;
        u.memory += memory_of(memory, group);
        u.processes += (uint32_t)rp_cgroup_read_number(pids, group, "pids.current", 0);
    }
    rp_cgroup_name(id, RP_CGROUP_USER, group);
    u.throttled_us = cpu->version == 2
                         ? rp_cgroup_read_key(cpu, group, "cpu.stat", "throttled_usec", 0)
                         : rp_cgroup_read_key(cpu, group, "cpu.stat", "throttled_time", 0) / 1000;
    read_limits(c, group, &u);
    *ret = u;
    return 0;
}
