/* cgroup_internal.h: what cgroup.c, cgroup_layout.c and cgroup_limits.c share. */
#ifndef RP_SANDBOX_OCI_CGROUP_INTERNAL_H
#define RP_SANDBOX_OCI_CGROUP_INTERNAL_H

#include "sandbox/oci/cgroup.h"

enum {
    RP_CGROUP_MEMORY = 1,
    RP_CGROUP_CPU = 2,
    RP_CGROUP_CPUACCT = 4,
    RP_CGROUP_PIDS = 8,

    RP_CGROUP_PATH_MAX = 512,
    RP_CGROUP_NAME_MAX = 48, /* "ID/step-N" */
};

struct rp_cgroup_hierarchy {
    int version;          /* 1 or 2 */
    unsigned controllers; /* what we use this hierarchy for */
    int fd;               /* directory MOUNT/…/ROOT */
    char path[RP_CGROUP_PATH_MAX];
};

struct rp_cgroups {
    const char *layout;
    char root[130];
    int count;
    struct rp_cgroup_hierarchy hierarchies[RP_CGROUP_HIERARCHIES_MAX];
    /* ROOT below hierarchies that we do not use, but in which a runtime may make groups of its own. */
    int other_count;
    char others[RP_CGROUP_HIERARCHIES_MAX * 2][RP_CGROUP_PATH_MAX];
};

/* The hierarchy that has all of `controllers`, or NULL. */
static inline const struct rp_cgroup_hierarchy *rp_cgroup_with(const struct rp_cgroups *c,
                                                               unsigned controllers)
{
    for (int i = 0; i < c->count; i++)
        if ((c->hierarchies[i].controllers & controllers) == controllers)
            return &c->hierarchies[i];
    return NULL;
}

/* "ID", "ID/init", "ID/user" or "ID/step-N". */
void rp_cgroup_name(const char *id, int child, char ret[static RP_CGROUP_NAME_MAX]);

/* Writes a value to `group`/`file` below h. 0, or a negative errno. */
int rp_cgroup_write(const struct rp_cgroup_hierarchy *h, const char *group, const char *file,
                    const char *value);
/* Reads at most cap - 1 bytes and ends them with NUL. Their number, or a negative errno. */
int rp_cgroup_read(const struct rp_cgroup_hierarchy *h, const char *group, const char *file, char *ret,
                   size_t cap);
/* The number in the file; `fallback` when it cannot be read. */
uint64_t rp_cgroup_read_number(const struct rp_cgroup_hierarchy *h, const char *group, const char *file,
                               uint64_t fallback);
/* The number after `key` in a file of "key number" lines; `fallback` when it is not there. */
uint64_t rp_cgroup_read_key(const struct rp_cgroup_hierarchy *h, const char *group, const char *file,
                            const char *key, uint64_t fallback);

#endif
