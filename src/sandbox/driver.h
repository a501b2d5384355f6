/*
 * driver.h: the boundary between the orchestrator and whatever makes sandboxes.
 *
 * A driver only makes and destroys sandboxes and hands out connections to their init; terminals, files,
 * processes and ports go through init and are the same in every driver. Calls block and run on the
 * orchestrator's worker threads: different sandboxes at the same time, one sandbox by one thread at a time.
 * The orchestrator owns the order of calls and the record of which sandbox belongs to which project.
 */
#ifndef RP_SANDBOX_DRIVER_H
#define RP_SANDBOX_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "proto/orchestrator.h"

enum {
    RP_DRIVER_WARM = 1,       /* an empty sandbox can be made ahead and claimed for any environment */
    RP_DRIVER_DISK_QUOTA = 2, /* the kernel enforces the project's quota */
    RP_DRIVER_ALLOW_LIST = 4, /* RP_NETWORK_ALLOW works */
    RP_DRIVER_STEPS = 8,      /* cgroup steps beside `user` */
};

/* What a sandbox is made for. All paths are the orchestrator's own, absolute, and outlive the call. */
struct rp_sandbox_spec {
    char id[RP_ID_SIZE];
    char project[RP_ID_SIZE];
    char environment[RP_ENVIRONMENT_LENGTH + 1];
    const char *files;  /* project's files: directory owned by on-disk uid 1000 */
    const char *system; /* overlay upper */
    const char *work;   /* overlay work directory, same file system as system */
    struct rp_limits limits;
    struct rp_network_policy network;
};

struct rp_sandbox_stats {
    uint64_t cpu_us, memory, memory_limit, oom_kills, received, sent, throttled_us;
    uint32_t processes, processes_limit, cpu_limit;
};

struct rp_sandbox_ended {
    bool ended; /* its init is gone */
    bool oom;   /* the kernel killed something in it for memory since the sandbox began */
};

struct rp_driver;

struct rp_driver_operations {
    const char *name;
    uint32_t capabilities;

    /* Makes an empty sandbox with init running on a tiny root, its cgroups and its network, without a
     * project. With RP_DRIVER_WARM unset, `claim` does all of it. */
    int (*create)(struct rp_driver *d, const char *id, struct rp_error *err);
    /* Gives the sandbox its environment, project, limits and network policy; afterwards user processes may
     * start. */
    int (*claim)(struct rp_driver *d, const struct rp_sandbox_spec *spec, struct rp_error *err);
    /* Kills what is left and removes every trace: mounts, namespaces, cgroups, sockets, records. Succeeds
     * when there is nothing (also for one that a crash left half made). */
    int (*destroy)(struct rp_driver *d, const char *id, struct rp_error *err);
    /* A new connection to init's socket (SOCK_SEQPACKET, close-on-exec, non-blocking), HELLO not yet said. */
    int (*connect)(struct rp_driver *d, const char *id, struct rp_error *err);
    /* Ids of everything that exists, half made or whole, by looking at the system, not at memory. Each id is
     * passed to `each`. */
    int (*list)(struct rp_driver *d, void (*each)(void *ctx, const char *id), void *ctx,
                struct rp_error *err);
    int (*alive)(struct rp_driver *d, const char *id, struct rp_sandbox_ended *ret, struct rp_error *err);
    /* A descriptor that becomes readable when init ends (a pidfd), close-on-exec, owned by the caller. */
    int (*watch)(struct rp_driver *d, const char *id, struct rp_error *err);
    /* Sets the limits of a step (0: user), making it if it is new, and gives its cgroup descriptors to init
     * over `init_connection` when that is not negative (HELLO said). */
    int (*limits)(struct rp_driver *d, const char *id, uint32_t step, const struct rp_limits *limits,
                  int init_connection, struct rp_error *err);
    int (*step_drop)(struct rp_driver *d, const char *id, uint32_t step, struct rp_error *err);
    int (*stats)(struct rp_driver *d, const char *id, struct rp_sandbox_stats *ret, struct rp_error *err);
    /* Really asks the engine behind it. */
    int (*ready)(struct rp_driver *d, struct rp_error *err);
    void (*free)(struct rp_driver *d);
};

struct rp_driver {
    const struct rp_driver_operations *ops;
};

#endif
