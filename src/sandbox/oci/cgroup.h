/*
 * cgroup.h: the cgroups of sandboxes, on v2, v1 and hybrid hosts. Any thread; a sandbox by one thread at a
 * time. Blocking, but only `kill` and `remove` wait for others. docs/internals/cgroups.md.
 *
 * A sandbox ID has one group ROOT/ID in each hierarchy that is used, with children: `init` (a small reserve,
 * never throttled), `user` (the project's limits), and `step-N` for each limited step. Processes live in
 * children only, as v2 demands. Which hierarchy holds which controller is found once, at open; above that no
 * code asks for a layout by name.
 */
#ifndef RP_SANDBOX_OCI_CGROUP_H
#define RP_SANDBOX_OCI_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "proto/orchestrator.h"

struct rp_cgroups;

enum { RP_CGROUP_HIERARCHIES_MAX = 8 };

/* Which group of a sandbox: a step number (0 is `user`), or one of these. */
enum {
    RP_CGROUP_WHOLE = -2, /* the sandbox's own group, which holds the others */
    RP_CGROUP_INIT = -1,
    RP_CGROUP_USER = 0,
};

struct rp_cgroup_options {
    const char *mount;  /* where the hierarchies are mounted; NULL: /sys/fs/cgroup */
    const char *root;   /* path of our group below each hierarchy, e.g. "repld"; no "..", at most 128 bytes */
    const char *layout; /* "auto", "v2", "v1" or "hybrid"; NULL: auto */
};

struct rp_cgroup_usage {
    uint64_t cpu_us;       /* of the whole sandbox */
    uint64_t memory;       /* of `user` and the steps, without page cache that can be dropped */
    uint64_t throttled_us; /* of `user` */
    uint64_t oom_kills;    /* of the whole sandbox, since it began */
    uint32_t processes;    /* of `user` and the steps; threads count, as they do for the limit */
    /* What is set for `user`; 0 where there is no limit. */
    uint64_t memory_limit;
    uint32_t processes_limit;
    uint32_t cpu_limit; /* thousandths of a CPU */
};

/* Finds the hierarchies and makes ROOT in each. RP_ERROR_NOT_SUPPORTED when memory, cpu or pids is nowhere.
 */
int rp_cgroups_open(const struct rp_cgroup_options *options, struct rp_cgroups **ret,
                    struct rp_error *err) RP_MUST_CHECK;
void rp_cgroups_close(struct rp_cgroups *c); /* NULL-safe; the groups stay */

/* "v2", "v1" or "hybrid". */
const char *rp_cgroups_layout(const struct rp_cgroups *c);

/* The group with `init` and `user`, without limits yet. Idempotent. After an error: rp_cgroup_remove. */
int rp_cgroup_create(struct rp_cgroups *c, const char *id, struct rp_error *err) RP_MUST_CHECK;

/* Sets the limits of a step, making it when it is new. With `burst`, CPU is limits->burst_cpu when more. */
int rp_cgroup_limit(struct rp_cgroups *c, const char *id, int child, const struct rp_limits *limits,
                    bool burst, struct rp_error *err) RP_MUST_CHECK;

/*
 * A file of the child in each hierarchy, open for writing, close-on-exec: a process with one thread that
 * writes "0" to all of them has moved there. Returns how many; the caller closes them. On v1 the file is
 * `tasks`: a thread that moves itself takes 50 µs, while `cgroup.procs` waits for an RCU grace period (9 ms,
 * each).
 */
int rp_cgroup_open_procs(struct rp_cgroups *c, const char *id, int child, int fds[RP_CGROUP_HIERARCHIES_MAX],
                         struct rp_error *err) RP_MUST_CHECK;

/*
 * The same for a process that is about to be made: on v2 *ret_directory is the group for CLONE_INTO_CGROUP,
 * which waits for nothing (else -1), and the files are those of the v1 hierarchies only.
 */
int rp_cgroup_open_start(struct rp_cgroups *c, const char *id, int child, int fds[RP_CGROUP_HIERARCHIES_MAX],
                         int *ret_directory, struct rp_error *err) RP_MUST_CHECK;

/* Sends SIGKILL to every process in it, also to those being forked. Succeeds when it does not exist. */
int rp_cgroup_kill(struct rp_cgroups *c, const char *id, int child, struct rp_error *err) RP_MUST_CHECK;

/*
 * Kills what is left in it, waits (10 s at most) until it is empty, and removes it, below other hierarchies
 * that a runtime made groups in as well. Succeeds when it does not exist.
 */
int rp_cgroup_remove(struct rp_cgroups *c, const char *id, int child, struct rp_error *err) RP_MUST_CHECK;

/* RP_ERROR_NOT_FOUND when the sandbox has no group. */
int rp_cgroup_usage(struct rp_cgroups *c, const char *id, struct rp_cgroup_usage *ret,
                    struct rp_error *err) RP_MUST_CHECK;

/* How often the kernel killed something for memory: in one child, or in all (RP_CGROUP_WHOLE). 0 when there
 * is no such group. */
uint64_t rp_cgroup_oom_kills(struct rp_cgroups *c, const char *id, int child);

bool rp_cgroup_exists(const struct rp_cgroups *c, const char *id, int child);

/* True when the process is in the sandbox's group (any child). */
bool rp_cgroup_holds(struct rp_cgroups *c, const char *id, int pid);

/* Every sandbox id that has a group in some hierarchy; one may be named more than once. */
int rp_cgroups_list(struct rp_cgroups *c, void (*each)(void *ctx, const char *id), void *ctx,
                    struct rp_error *err) RP_MUST_CHECK;

/* The value for an OCI config's linux.cgroupsPath: "/ROOT/ID/init". */
void rp_cgroup_oci_path(const struct rp_cgroups *c, const char *id, char *ret, size_t cap);

#endif
