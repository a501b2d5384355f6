#include "sandbox/oci/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <sanitizer/asan_interface.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/str.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#define CLONE_INTO_CGROUP_FLAG                                                                               \
    UINT64_C(0x200000000) /* <sched.h> and <linux/sched.h> cannot both be included */

struct clone_args { /* of clone3(2), as far as CLONE_INTO_CGROUP needs it */
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size,
        cgroup;
};

enum { STACK_SIZE = 128 * 1024 };

/*
 * clone(2) like posix_spawn does it: all signals blocked, since a handler of ours must not run in a child
 * that writes to our memory.
 */
static pid_t clone_vm(int (*f)(void *ctx), void *ctx, int flags, int *pidfd, struct rp_error *err)
{
    char *stack =
        mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "stack for a child");
    /* The frames of an earlier child that executed were never left: a sanitizer would take them for ours. */
    ASAN_UNPOISON_MEMORY_REGION(stack, STACK_SIZE);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pid_t pid = clone(f, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD | flags, ctx, pidfd);
    int errnum = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    munmap(stack, STACK_SIZE);
    return pid < 0 ? rp_error_errno(err, RP_ERROR_INTERNAL, errnum, "make a child process") : pid;
}

static int reap(pid_t pid, int *status)
{
    while (waitpid(pid, status, __WALL) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int rp_spawn_call(int (*f)(void *ctx), void *ctx, int extra_flags, struct rp_error *err)
{
    pid_t pid = clone_vm(f, ctx, extra_flags, NULL, err);
    if (pid < 0)
        return -1;
    int status, r = reap(pid, &status);
    if (r < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "wait for a child process");
    if (!WIFEXITED(status))
        return rp_error_set(err, RP_ERROR_INTERNAL, "a child process was ended by signal %d",
                            WTERMSIG(status));
    return WEXITSTATUS(status);
}

struct failure {
    int errnum;
    const char *what;
};

struct launch {
    const struct rp_spawn_program *program;
    struct failure *failure;
    pid_t parent;
};

static int launch_failed(struct launch *l, const char *what)
{
    l->failure->errnum = errno;
    l->failure->what = what;
    return 127;
}

static void default_signals(void)
{
    /* the kernel's own struct sigaction, at most this large, zero being SIG_DFL: libc's call leaves out the signals that
     * it uses itself, which posix_spawn(3) of whoever started us may have set to be ignored */
    static const char defaults[64];
    for (int s = 1; s < NSIG; s++)
        (void)syscall(SYS_rt_sigaction, s, defaults, NULL, 8); /* SIGKILL and SIGSTOP refuse */
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int launch_child(void *ctx)
{
    struct launch *l = ctx;
    const struct rp_spawn_program *p = l->program;
    /* A runtime that outlived a killed orchestrator would go on making what the next one has just removed. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != l->parent)
        return launch_failed(l, "live as long as its parent");
    for (int i = 0; i < p->cgroup_count; i++)
        if (write(p->cgroup_procs[i], "0", 1) != 1)
            return launch_failed(l, "join the cgroup");
    if (p->hide) {
        /* Private first, or the host would lose the mount too. */
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
            return launch_failed(l, "make mounts private");
        if (umount2(p->hide, MNT_DETACH) < 0 && errno != EINVAL)
            return launch_failed(l, p->hide);
    }
    /* Out of the way of 0 to 3 first, so that no dup2 overwrites another's source. */
    int at[4], count = p->fds[3] < 0 ? 3 : 4;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < count; i++) {
        at[i] = fcntl(p->fds[i] < 0 ? null : p->fds[i], F_DUPFD_CLOEXEC, 10);
        if (at[i] < 0)
            return launch_failed(l, "descriptors");
    }
    for (int i = 0; i < count; i++)
        if (dup2(at[i], i) < 0)
            return launch_failed(l, "descriptors");
    if (syscall(SYS_close_range, count, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return launch_failed(l, "close_range");
    (void)setsid();
    default_signals();
    execve(p->path, (char *const *)p->argv, (char *const *)p->env);
    return launch_failed(l, "execute");
}

/*
 * Made in its v2 group: a process that moves there by itself waits for an RCU grace period. glibc has no
 * wrapper of clone3, and without one the child cannot have a stack of its own in our memory: this one has a
 * copy of it all.
 */
static pid_t clone_into_cgroup(struct launch *l, int flags, int *pidfd, struct rp_error *err)
{
    struct clone_args args = {.flags = (uint64_t)(CLONE_VFORK | CLONE_INTO_CGROUP_FLAG) | (uint64_t)flags,
                              .pidfd = (uint64_t)(uintptr_t)pidfd,
                              .exit_signal = SIGCHLD,
                              .cgroup = (uint64_t)l->program->cgroup_directory};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        _exit(launch_child(l));
    int errnum = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return pid < 0 ? rp_error_errno(err, RP_ERROR_INTERNAL, errnum, "make a child process in its cgroup")
                   : (pid_t)pid;
}

pid_t rp_spawn_start(const struct rp_spawn_program *program, int *ret_pidfd, struct rp_error *err)
{
    struct failure *failure =
        mmap(NULL, sizeof(*failure), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (failure == MAP_FAILED)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "memory for a child");
    struct launch l = {.program = program, .failure = failure, .parent = getpid()};
    int pidfd = -1, status;
    int flags = CLONE_PIDFD | (program->hide ? CLONE_NEWNS : 0);
    pid_t pid = program->cgroup_directory >= 0 ? clone_into_cgroup(&l, flags, &pidfd, err)
                                               : clone_vm(launch_child, &l, flags, &pidfd, err);
    struct failure failed = *failure;
    munmap(failure, sizeof(*failure));
    if (pid < 0)
        return -1;
    if (failed.what) {
        (void)reap(pid, &status);
        rp_close_fd(&pidfd);
        return rp_error_errno(err, RP_ERROR_RUNTIME, failed.errnum, "start \"%s\": %s", program->path,
                              failed.what);
    }
    *ret_pidfd = pidfd;
    return pid;
}

int rp_spawn_wait(pid_t pid, int pidfd, int timeout_ms, int *ret_status, struct rp_error *err)
{
    uint64_t until = rp_clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int n;
    do {
        uint64_t now = rp_clock_monotonic_ns();
        n = poll(&p, 1, now < until ? (int)((until - now) / 1000000) + 1 : 0);
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        (void)kill(pid, SIGKILL);
    int r = reap(pid, ret_status);
    if (r < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "wait for a child process");
    return n <= 0 ? rp_error_set(err, RP_ERROR_TIMEOUT, "no end after %d ms", timeout_ms) : 0;
}
