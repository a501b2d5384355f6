/* What a forked child does before it becomes the user's program, or a helper of init. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "init/init.h"

int rp_init_drop_capabilities(uint64_t keep)
{
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct had[2], d[2] = {0};
    if (syscall(SYS_capget, &h, had) < 0)
        return errno;
    for (int i = 0; i < 2; i++) {
        uint32_t wanted = (uint32_t)(keep >> (32 * i));
        d[i].permitted = d[i].effective = had[i].permitted & wanted;
    }
    /* The bounding set needs SETPCAP, which we may not have; no_new_privs makes up for it. */
    for (int c = 0; c < 64; c++)
        if (!(keep >> c & 1))
            (void)prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &h, d) < 0 ? errno : 0;
}

static void reset_signals(void)
{
    /* the kernel's own struct sigaction, at most this large, zero being SIG_DFL: libc's call leaves out the signals that
     * it uses itself, which posix_spawn(3) of whoever started us may have set to be ignored */
    static const char defaults[64];
    for (int s = 1; s <= 64; s++)
        (void)syscall(SYS_rt_sigaction, s, defaults, NULL, 8);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* User processes are killed for memory before init is. Raising is always permitted; without /proc it stays.
 */
static void raise_oom_score(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = write(fd, "500", 3);
        (void)n;
        close(fd);
    }
}

static void __attribute__((noreturn)) fail(int report, int errnum, enum rp_init_stage stage)
{
    struct rp_init_report r = {.errnum = errnum, .stage = stage};
    ssize_t n = write(report, &r, sizeof(r));
    (void)n;
    _exit(127);
}

/* As execvpe(3), with the PATH of the new environment. Returns the errno. */
static int run_program(char **argv, char **env)
{
    if (strchr(argv[0], '/')) {
        execve(argv[0], argv, env);
        return errno;
    }
    const char *path = "/usr/local/bin:/usr/bin:/bin";
    for (char **e = env; *e; e++)
        if (strncmp(*e, "PATH=", 5) == 0)
            path = *e + 5;
    int result = ENOENT;
    for (const char *at = path;;) {
        const char *end = strchrnul(at, ':');
        char full[4096];
        int n = snprintf(full, sizeof(full), "%.*s%s%s", (int)(end - at), at, end > at ? "/" : "", argv[0]);
        if (n > 0 && n < (int)sizeof(full)) {
            execve(full, argv, env);
            if (errno == EACCES)
                result = EACCES;
            else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP && errno != ENAMETOOLONG)
                return errno;
        }
        if (!*end)
            return result;
        at = end + 1;
    }
}

void rp_init_child_run(const struct rp_init *init, const struct rp_init_plan *plan)
{
    int report = plan->report;
    int errnum = rp_init_step_join(init, plan->step);
    if (errnum)
        fail(report, errnum, RP_STAGE_CGROUP);
    raise_oom_score();

    if (setsid() < 0)
        fail(report, errno, RP_STAGE_TERMINAL);
    if (plan->pty && ioctl(plan->fds[0], TIOCSCTTY, 0) < 0)
        fail(report, errno, RP_STAGE_TERMINAL);
    for (int i = 0; i < 3; i++)
        if (dup2(plan->fds[i], i) < 0)
            fail(report, errno, RP_STAGE_TERMINAL);

    struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)setrlimit(RLIMIT_NOFILE, &init->files);
    umask(022);
    reset_signals();

    /* Without file capabilities or set-uid (no_new_privs) there is no way back from here. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
        setresgid(RP_INIT_USER_UID, RP_INIT_USER_UID, RP_INIT_USER_UID) < 0 ||
        setresuid(RP_INIT_USER_UID, RP_INIT_USER_UID, RP_INIT_USER_UID) < 0)
        fail(report, errno, RP_STAGE_IDENTITY);
    if (chdir(plan->cwd) < 0)
        fail(report, errno, RP_STAGE_CHDIR);
    fail(report, run_program(plan->argv, plan->env), RP_STAGE_EXEC);
}

int rp_init_become_helper(const struct rp_init *init, int *fd, const char *name)
{
    (void)prctl(PR_SET_NAME, name);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int errnum = rp_init_step_join(init, 0);
    if (errnum)
        return errnum;
    raise_oom_score();
    if (*fd != 3) {
        if (dup3(*fd, 3, O_CLOEXEC) < 0)
            return errno;
        *fd = 3;
    }
    if (syscall(SYS_close_range, 4U, ~0U, 0U) < 0)
        for (int i = 4; i < (int)RP_MIN(init->files.rlim_max, (rlim_t)65536); i++)
            close(i);
    reset_signals();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* shut down asks every process of the user to end; we end with init */
    signal(SIGHUP, SIG_IGN);
    struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    umask(022);
    if (setgroups(0, NULL) < 0)
        return errno;
    setfsgid(RP_INIT_USER_UID);
    setfsuid(RP_INIT_USER_UID);
    /* They report no failure; the next call tells who we are. */
    if (setfsgid((gid_t)-1) != RP_INIT_USER_UID || setfsuid((uid_t)-1) != RP_INIT_USER_UID)
        return EPERM;
    /* Real, effective and saved uid stay 0: the user (1000) cannot signal or trace us. */
    errnum = rp_init_drop_capabilities(0);
    if (errnum)
        return errnum;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? errno : 0;
}
