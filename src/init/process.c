/* The user's processes: spawn, their streams, their end. They belong to init, whatever becomes of
 * connections. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "init/init.h"

static struct rp_init_process **find_place(struct rp_init *init, uint64_t id)
{
    for (int i = 0; i < RP_INIT_PROCESSES_MAX; i++)
        if (id ? init->processes[i] && init->processes[i]->id == id : !init->processes[i])
            return &init->processes[i];
    return NULL;
}

struct rp_init_process *rp_init_process_find(struct rp_init *init, uint64_t id)
{
    struct rp_init_process **place = id ? find_place(init, id) : NULL;
    return place && (*place)->report < 0 ? *place : NULL;
}

void rp_init_process_forget(struct rp_init *init, struct rp_init_process *p)
{
    struct rp_init_process **place = find_place(init, p->id);
    if (place)
        *place = NULL;
    rp_init_close(init, &p->report);
    for (int i = 0; i < 4; i++)
        rp_close_fd(&p->streams[i]);
    free(p);
}

/* ---- answers ---- */

void rp_init_process_streams(struct rp_init *init, struct rp_init_connection *c, uint32_t tag,
                             const struct rp_init_process *p)
{
    for (int i = 0; i < 4; i++) {
        if (p->streams[i] < 0)
            continue;
        uint8_t bytes[32];
        struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_STREAM, 0, tag);
        rp_wire_put_u64(&w, p->id);
        rp_wire_put_u8(&w, (uint8_t)i);
        rp_init_send(init, c, &w, p->streams[i]);
    }
}

void rp_init_process_tell(struct rp_init *init, struct rp_init_connection *c, uint32_t tag,
                          const struct rp_init_process *p)
{
    uint8_t bytes[128 + RP_INIT_LABEL_MAX];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_PROCESS, 0, tag);
    rp_wire_put_u64(&w, p->id);
    rp_wire_put_u32(&w, (uint32_t)p->pid);
    rp_wire_put_u32(&w, p->flags);
    rp_wire_put_u8(&w, p->exited);
    rp_wire_put_u32(&w, (uint32_t)p->code);
    rp_wire_put_u32(&w, (uint32_t)p->signal);
    rp_wire_put_u64(&w, p->user_us);
    rp_wire_put_u64(&w, p->system_us);
    rp_wire_put_u64(&w, p->peak_rss);
    rp_wire_put_u64(&w, p->started_ns);
    rp_wire_put_str(&w, (struct rp_str){p->label, p->label_length});
    rp_init_send(init, c, &w, -1);
}

static void tell_exited(struct rp_init *init, const struct rp_init_process *p)
{
    uint8_t bytes[64];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_EXITED, 0, 0);
    rp_wire_put_u64(&w, p->id);
    rp_wire_put_u32(&w, (uint32_t)p->code);
    rp_wire_put_u32(&w, (uint32_t)p->signal);
    rp_wire_put_u64(&w, p->user_us);
    rp_wire_put_u64(&w, p->system_us);
    rp_wire_put_u64(&w, p->peak_rss);
    rp_init_broadcast(init, &w);
}

static const char *stage_name(int stage)
{
    switch (stage) {
    case RP_STAGE_CGROUP:
        return "join the cgroup";
    case RP_STAGE_IDENTITY:
        return "become the user";
    case RP_STAGE_TERMINAL:
        return "take the terminal";
    case RP_STAGE_CHDIR:
        return "change to the working directory";
    default:
        return "run the program";
    }
}

/* ---- from fork to exec ---- */

/* The child reported a failure, or took too long: it leaves nothing behind (it is reaped as an orphan). */
static void spawn_failed(struct rp_init *init, struct rp_init_process *p, int errnum, const char *what)
{
    struct rp_init_connection *c = rp_init_connection_find(init, p->serial);
    if (c)
        rp_init_answer_error(init, c, p->tag, errnum, what);
    rp_init_process_forget(init, p);
}

/* Looks at the report pipe: exec happened (it is closed), failed (it holds why), or is still to come. */
static void check_report(struct rp_init *init, struct rp_init_process *p)
{
    struct rp_init_report r;
    ssize_t n = read(p->report, &r, sizeof(r));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == sizeof(r) && r.errnum > 0) {
        spawn_failed(init, p, r.errnum, stage_name(r.stage));
        return;
    }
    rp_init_close(init, &p->report);
    struct rp_init_connection *c = rp_init_connection_find(init, p->serial);
    if (!c)
        return;
    uint8_t bytes[32];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_SPAWNED, 0, p->tag);
    rp_wire_put_u64(&w, p->id);
    rp_wire_put_u32(&w, (uint32_t)p->pid);
    rp_init_send(init, c, &w, -1);
    rp_init_process_streams(init, c, p->tag, p);
}

static void on_report(struct rp_init *init, struct rp_init_source *source, uint32_t events)
{
    check_report(init, (struct rp_init_process *)source);
}

void rp_init_processes_tick(struct rp_init *init, uint64_t now, uint64_t *next)
{
    for (int i = 0; i < RP_INIT_PROCESSES_MAX; i++) {
        struct rp_init_process *p = init->processes[i];
        if (!p || p->report < 0)
            continue;
        if (p->deadline_ms <= now) {
            /* Held up before exec: a user process may stop it, a directory may hang. */
            (void)kill(p->pid, SIGKILL);
            spawn_failed(init, p, ETIMEDOUT, "run the program");
        } else {
            *next = RP_MIN(*next, p->deadline_ms);
        }
    }
}

/* ---- spawn ---- */

/* argv, environment and working directory as C strings in one allocation that starts with the pointers. */
static char **copy_strings(const struct rp_init_request *q, char ***ret_env, char **ret_cwd)
{
    size_t pointers = (size_t)q->spawn.argc + q->spawn.envc + 2, bytes = q->spawn.cwd.n + 1;
    for (uint32_t i = 0; i < q->spawn.argc; i++)
        bytes += q->spawn.argv[i].n + 1;
    for (uint32_t i = 0; i < q->spawn.envc; i++)
        bytes += q->spawn.env[i].n + 1;
    char **at = malloc(pointers * sizeof(char *) + bytes);
    if (!at)
        return NULL;
    char **argv = at, **env = at + q->spawn.argc + 1, *text = (char *)(at + pointers);
    for (uint32_t i = 0; i < q->spawn.argc; i++) {
        argv[i] = text;
        text = (char *)mempcpy(text, q->spawn.argv[i].p, q->spawn.argv[i].n) + 1;
        text[-1] = '\0';
    }
    argv[q->spawn.argc] = NULL;
    for (uint32_t i = 0; i < q->spawn.envc; i++) {
        env[i] = text;
        text = (char *)mempcpy(text, q->spawn.env[i].p, q->spawn.env[i].n) + 1;
        text[-1] = '\0';
    }
    env[q->spawn.envc] = NULL;
    *(char *)mempcpy(text, q->spawn.cwd.p, q->spawn.cwd.n) = '\0';
    *ret_env = env;
    *ret_cwd = text;
    return argv;
}

/* The streams of p, and in theirs[0..2] what the child gets as 0, 1 and 2 (owned by the caller). 0 or errno.
 */
static int make_streams(const struct rp_init_request *q, struct rp_init_process *p, int theirs[3])
{
    if (q->spawn.flags & RP_SPAWN_PTY) {
        int errnum = rp_init_pty_open(q->spawn.cols, q->spawn.rows, &p->streams[RP_STREAM_PTY], &theirs[0]);
        if (errnum)
            return errnum;
        for (int i = 1; i < 3; i++)
            if ((theirs[i] = fcntl(theirs[0], F_DUPFD_CLOEXEC, 3)) < 0)
                return errno;
        return 0;
    }
    for (int i = 0; i < 3; i++) {
        int pipe[2];
        if (i == RP_STREAM_STDIN && !(q->spawn.flags & RP_SPAWN_STDIN)) {
            if ((theirs[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
                return errno;
            continue;
        }
        if (i == RP_STREAM_STDERR && (q->spawn.flags & RP_SPAWN_MERGE)) {
            if ((theirs[i] = fcntl(theirs[1], F_DUPFD_CLOEXEC, 3)) < 0)
                return errno;
            continue;
        }
        if (pipe2(pipe, O_CLOEXEC) < 0)
            return errno;
        int ours = i == RP_STREAM_STDIN ? 1 : 0;
        p->streams[i] = pipe[ours];
        theirs[i] = pipe[!ours];
        /* Each end is an open file of its own: the program's end stays blocking. */
        if (fcntl(pipe[ours], F_SETFL, O_NONBLOCK) < 0)
            return errno;
    }
    return 0;
}

/* Forks into p. 0 or errno; then nothing but p is left to free. */
static int start(struct rp_init *init, const struct rp_init_request *q, struct rp_init_process *p)
{
    int theirs[3] = {-1, -1, -1}, report[2] = {-1, -1};
    struct rp_init_plan plan = {.step = q->spawn.step, .pty = q->spawn.flags & RP_SPAWN_PTY};
    char *cwd = NULL;
    int errnum = make_streams(q, p, theirs);
    if (!errnum && !(plan.argv = copy_strings(q, &plan.env, &cwd)))
        errnum = ENOMEM;
    if (!errnum && pipe2(report, O_CLOEXEC) < 0)
        errnum = errno;
    if (!errnum && fcntl(report[0], F_SETFL, O_NONBLOCK) < 0)
        errnum = errno;
    if (!errnum) {
        plan.cwd = cwd;
        plan.report = report[1];
        memcpy(plan.fds, theirs, sizeof(theirs));
        p->started_ns = rp_clock_monotonic_ns();
        p->pid = fork();
        if (p->pid == 0)
            rp_init_child_run(init, &plan);
        if (p->pid < 0)
            errnum = errno;
    }
    if (!errnum) {
        p->report = RP_STEAL_FD(report[0]);
        errnum = rp_init_add(init, p->report, EPOLLIN, &p->source);
        if (errnum)
            (void)kill(p->pid, SIGKILL);
    }
    for (int i = 0; i < 3; i++)
        rp_close_fd(&theirs[i]);
    rp_close_fd(&report[0]);
    rp_close_fd(&report[1]);
    free(plan.argv);
    return errnum;
}

void rp_init_spawn(struct rp_init *init, struct rp_init_connection *c, const struct rp_init_request *q)
{
    struct rp_init_process **place = find_place(init, 0);
    int errnum = init->stopping ? ESHUTDOWN : find_place(init, q->spawn.id) ? EEXIST : !place ? EAGAIN : 0;
    struct rp_init_process *p = errnum ? NULL : calloc(1, sizeof(*p) + q->spawn.label.n);
    if (!p) {
        rp_init_answer_error(init, c, q->tag, errnum ?: ENOMEM, "spawn");
        return;
    }
    *p = (struct rp_init_process){.source.ready = on_report,
                                  .id = q->spawn.id,
                                  .flags = q->spawn.flags,
                                  .report = -1,
                                  .serial = c->serial,
                                  .tag = q->tag,
                                  .deadline_ms = rp_init_now_ms() + RP_INIT_SPAWN_TIMEOUT_MS,
                                  .streams = {-1, -1, -1, -1},
                                  .label_length = q->spawn.label.n};
    memcpy(p->label, q->spawn.label.p, q->spawn.label.n);
    errnum = start(init, q, p);
    if (errnum) {
        rp_init_answer_error(init, c, q->tag, errnum, "spawn");
        rp_init_process_forget(init, p);
        return;
    }
    *place = p;
}

/* ---- signals and the end ---- */

/* Every process of the session: also the jobs that an interactive shell put into groups of their own. A
 * second look finds those that were forked during the first. */
static int signal_session(pid_t session, int signal)
{
    unsigned found = 0;
    for (int round = 0; round < 2; round++) {
        _cleanup_dir_ DIR *proc = opendir("/proc");
        struct dirent *e;
        while (proc && (e = readdir(proc))) {
            char *end;
            unsigned long pid = strtoul(e->d_name, &end, 10);
            if (*end || end == e->d_name || pid < 2 || getsid((pid_t)pid) != session)
                continue;
            found += (round == 0 || signal == SIGKILL) && kill((pid_t)pid, signal) == 0;
        }
    }
    /* without /proc at least the leader's group */
    return found || kill(-session, signal) == 0 ? 0 : errno;
}

int rp_init_process_signal(const struct rp_init_process *p, int signal, uint8_t target)
{
    if (target == RP_SIGNAL_FOREGROUND) {
        pid_t group = 0;
        if (p->streams[RP_STREAM_PTY] < 0)
            return ENOTTY;
        if (ioctl(p->streams[RP_STREAM_PTY], TIOCGPGRP, &group) < 0 || group <= 1)
            return ESRCH;
        return kill(-group, signal) < 0 ? errno : 0;
    }
    /* Its pid is ours until it is reaped; afterwards it may be anyone's. */
    if (p->exited)
        return ESRCH;
    if (target == RP_SIGNAL_SESSION)
        return signal_session(p->pid, signal);
    return kill(target == RP_SIGNAL_GROUP ? -p->pid : p->pid, signal) < 0 ? errno : 0;
}

static uint64_t microseconds(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

static void ended(struct rp_init *init, struct rp_init_process *p, int status, const struct rusage *use)
{
    p->exited = true;
    p->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    p->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    p->user_us = microseconds(use->ru_utime);
    p->system_us = microseconds(use->ru_stime);
    p->peak_rss = (uint64_t)use->ru_maxrss * 1024;
    uint64_t id = p->id;
    if (p->report >= 0)
        check_report(init, p);
    struct rp_init_process **place = find_place(init, id); /* it is gone when exec had failed */
    if (place)
        tell_exited(init, *place);
}

static void forget_helper(struct rp_init *init, pid_t pid)
{
    for (int i = 0; i < RP_INIT_FILE_CHANNELS_MAX; i++)
        if (init->helpers[i] == pid)
            init->helpers[i] = 0;
    if (init->ports.scanner_pid == pid)
        init->ports.scanner_pid = 0;
}

void rp_init_reap(struct rp_init *init)
{
    for (;;) {
        int status;
        struct rusage use;
        pid_t pid = wait4(-1, &status, WNOHANG, &use);
        if (pid < 0 && errno == ECHILD)
            rp_init_no_child_left(init);
        if (pid <= 0)
            return;
        forget_helper(init, pid);
        for (int i = 0; i < RP_INIT_PROCESSES_MAX; i++) {
            struct rp_init_process *p = init->processes[i];
            if (p && p->pid == pid && !p->exited) {
                ended(init, p, status, &use);
                break;
            }
        }
    }
}
