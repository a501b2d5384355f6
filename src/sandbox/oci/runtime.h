/*
 * runtime.h: the OCI runtime as a program: which one works here, `run` and `delete`. Any thread; blocks.
 *
 * crun is tried first, since it starts a container in a third of runc's time. It is told to leave cgroups
 * alone
 * (--cgroup-manager=disabled): its process joins the sandbox's before it starts, and the container inherits
 * them. crun 1.8 refuses hosts that have a v2 hierarchy beside v1; there it runs in a mount namespace that
 * lacks it.
 */
#ifndef RP_SANDBOX_OCI_RUNTIME_H
#define RP_SANDBOX_OCI_RUNTIME_H

#include <limits.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/random.h"

enum { RP_RUNTIME_TIMEOUT_MS = 30000, RP_RUNTIME_VERSION_MAX = 128 };

enum rp_runtime_kind {
    RP_RUNTIME_CRUN,
    RP_RUNTIME_RUNC,
    RP_RUNTIME_OTHER, /* like runc: it makes cgroups itself and compiles seccomp itself */
};

struct rp_runtime {
    char path[PATH_MAX];
    enum rp_runtime_kind kind;
    char version[RP_RUNTIME_VERSION_MAX]; /* first line of --version */
    char state_dir[PATH_MAX];             /* --root */
    const char *hide;                     /* mount point to hide from it, or NULL */
};

/* Finds `name` (a path, or looked up in PATH) and asks for its version. Sandboxes are not tried. */
int rp_runtime_find(const char *name, const char *state_dir, struct rp_runtime *ret,
                    struct rp_error *err) RP_MUST_CHECK;

struct rp_runtime_run {
    const char *id;
    const char *bundle;   /* directory with config.json */
    const char *pid_file; /* written by the runtime */
    const char *log;      /* what it and the container's first process say; made anew */
    int listener;         /* becomes the container's descriptor 3, or -1 */
    const int *cgroup_procs;
    int cgroup_count; /* joined first when the kind is crun */
    int cgroup_directory;
};

/* `run --detach`: returns when the container's process runs. On failure the error holds what the runtime
 * said, and the state may need `rp_runtime_delete`. */
int rp_runtime_run(const struct rp_runtime *r, const struct rp_runtime_run *run,
                   struct rp_error *err) RP_MUST_CHECK;

/* `delete --force`. Succeeds when there is no such container. */
int rp_runtime_delete(const struct rp_runtime *r, const char *id, struct rp_error *err) RP_MUST_CHECK;

/* Runs `--version` again: that the program is there and executes. */
int rp_runtime_check(const struct rp_runtime *r, struct rp_error *err) RP_MUST_CHECK;

#endif
