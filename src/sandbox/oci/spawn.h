/*
 * spawn.h: runs code in a child that shares the caller's memory, as vfork(2) does. Any thread.
 *
 * A copy of the orchestrator's page tables for every start would cost more than the start itself. The child
 * has descriptors, credentials, signal handlers, working directory and namespaces of its own, so it may enter
 * a sandbox's or change its identity; the calling thread sleeps until it has exec'd or exited. What it runs
 * must only make system calls and write to memory that the caller gave it: no allocation, no stdio, no lock.
 */
#ifndef RP_SANDBOX_OCI_SPAWN_H
#define RP_SANDBOX_OCI_SPAWN_H

#include <sys/types.h>

#include "base/error.h"

/* Runs f(ctx) in the child and returns its exit status (0 to 255), or -1 when no child could be made or a
 * signal ended it. extra_flags: CLONE_NEW*, CLONE_FILES. */
int rp_spawn_call(int (*f)(void *ctx), void *ctx, int extra_flags, struct rp_error *err) RP_MUST_CHECK;

struct rp_spawn_program {
    const char *path;
    const char *const *argv;
    const char *const *env;
    int fds[4];              /* become 0, 1, 2 and 3; -1: /dev/null (3: closed). Nothing else is inherited */
    const int *cgroup_procs; /* the child moves itself into these first */
    int cgroup_count;
    int cgroup_directory; /* v2: it is made in this group; -1: not */
    const char *hide;     /* a mount point that the program must not see, or NULL */
};

/*
 * Starts a program; returns its pid, with *ret_pidfd to wait on (close-on-exec). The caller reaps it by
 * rp_spawn_wait.
 */
pid_t rp_spawn_start(const struct rp_spawn_program *program, int *ret_pidfd,
                     struct rp_error *err) RP_MUST_CHECK;

/* Waits; after timeout_ms the child is killed and RP_ERROR_TIMEOUT returned. *ret_status as of waitpid(2). */
int rp_spawn_wait(pid_t pid, int pidfd, int timeout_ms, int *ret_status, struct rp_error *err) RP_MUST_CHECK;

#endif
