#include "cli/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

enum {
    STABLE_MS = 10000, /* a child that lived so long begins anew with its back-off */
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    GIVE_UP_FAILURES = 5, /* of a child, when the server has never been ready: it never will */
    STOP_MS = 15000,      /* a child that is asked to end has so long */
};

enum { ORCHESTRATOR, GATEWAY, CHILDREN };
static const char *const names[CHILDREN] = {"orchestrator", "gateway"};

struct child {
    pid_t pid; /* 0: not running */
    uint64_t started_ms;
    uint64_t start_at_ms; /* when not running: when to start it */
    unsigned failures;    /* in a row */
    uint64_t kill_at_ms;  /* 0, or when its time to end is over */
};

struct supervisor {
    struct rp_settings *settings;
    struct rp_prepared *prepared;
    struct child children[CHILDREN];
    int signals; /* signalfd */
    int ready;   /* read end of the gateway's pipe, or -1 */
    bool was_ready;
    bool stopping;
    int status;
};

static uint64_t now_ms(void)
{
    return rp_clock_monotonic_ns() / 1000000;
}

/* ---- starting ---- */

/* Puts fds[i] at 3 + i, open over exec. The sources may lie in each other's places. */
static int arrange(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 64)) < 0)
            return -1;
    for (size_t i = 0; i < count; i++)
        if (dup2(fds[i], 3 + (int)i) < 0)
            return -1;
    return 0;
}

/* In the child. argv was made before the fork. */
static void become(const char *const *argv, int *fds, size_t fd_count, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    /* A group of its own: Ctrl-C at the terminal reaches the supervisor only, which then ends them in order.
     */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent || setpgid(0, 0) < 0 ||
        dup2(STDERR_FILENO, STDOUT_FILENO) < 0 || arrange(fds, fd_count) < 0 ||
        sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        _exit(71);
    execv("/proc/self/exe", (char *const *)argv);
    _exit(72);
}

static int start(struct supervisor *s, int which, struct rp_error *err)
{
    struct rp_prepared *p = s->prepared;
    _cleanup_close_ int pipe_read = -1, pipe_write = -1;
    int fds[2 + RP_LISTENERS_MAX], pair[2];
    size_t fd_count = 0;
    fds[fd_count++] = p->lock;
    if (which == ORCHESTRATOR) {
        fds[fd_count++] = p->orchestrator;
    } else {
        if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "pipe");
        pipe_read = pair[0];
        fds[fd_count++] = pipe_write = pair[1];
        for (size_t i = 0; i < p->listener_count; i++)
            fds[fd_count++] = p->listeners[i];
    }

    char listeners[32];
    snprintf(listeners, sizeof(listeners), "--listeners=%zu", p->listener_count);
    const char *argv[5 + RP_SETTINGS_COUNT_MAX] = {
        "repld", "serve", which == GATEWAY ? RP_ROLE_GATEWAY : RP_ROLE_ORCHESTRATOR, listeners};
    rp_settings_to_argv(s->settings, argv, 4);

    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "fork");
    if (pid == 0)
        become(argv, fds, fd_count, parent);
    s->children[which].pid = pid;
    s->children[which].started_ms = now_ms();
    s->children[which].kill_at_ms = 0;
    if (which == GATEWAY) {
        rp_close_fd(&s->ready);
        s->ready = RP_STEAL_FD(pipe_read);
    }
    return 0;
}

static void start_due(struct supervisor *s)
{
    for (int i = 0; i < CHILDREN; i++) {
        struct child *c = &s->children[i];
        if (s->stopping || c->pid || c->start_at_ms > now_ms())
            continue;
        struct rp_error e;
        if (start(s, i, &e) < 0) {
            rp_log(RP_LOG_ERROR, "process not started", "process", names[i], "error", e.message, NULL);
            c->start_at_ms = now_ms() + BACKOFF_MAX_MS;
        }
    }
}

/* ---- ending ---- */

static void ask_to_end(struct supervisor *s, int which)
{
    struct child *c = &s->children[which];
    if (c->pid && !c->kill_at_ms) {
        kill(c->pid, SIGTERM);
        c->kill_at_ms = now_ms() + STOP_MS;
    }
}

/* The gateway first, since it still needs the orchestrator while it drains. */
static void stop(struct supervisor *s)
{
    s->stopping = true;
    ask_to_end(s, s->children[GATEWAY].pid ? GATEWAY : ORCHESTRATOR);
}

static void ended(struct supervisor *s, int which, int status)
{
    struct child *c = &s->children[which];
    char how[64];
    if (WIFSIGNALED(status))
        snprintf(how, sizeof(how), "signal %d", WTERMSIG(status));
    else
        snprintf(how, sizeof(how), "status %d", WEXITSTATUS(status));
    c->pid = 0;
    c->kill_at_ms = 0;
    if (s->stopping) {
        ask_to_end(s, ORCHESTRATOR);
        return;
    }
    uint64_t now = now_ms();
    if (now - c->started_ms >= STABLE_MS)
        c->failures = 0;
    unsigned doublings = c->failures ? RP_MIN(c->failures - 1, 10u) : 0;
    uint64_t delay = c->failures ? RP_MIN(BACKOFF_MIN_MS << doublings, (int)BACKOFF_MAX_MS) : 0;
    c->failures++;
    c->start_at_ms = now + delay;
    char ms[24];
    snprintf(ms, sizeof(ms), "%llu", (unsigned long long)delay);
    rp_log(RP_LOG_ERROR, "process ended, starting again", "process", names[which], "how", how, "in_ms", ms,
           NULL);
    if (!s->was_ready && c->failures >= GIVE_UP_FAILURES) {
        rp_log(RP_LOG_ERROR, "giving up", "process", names[which], NULL);
        s->status = 1;
        stop(s);
    }
}

static void reap(struct supervisor *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < CHILDREN; i++)
            if (s->children[i].pid == pid)
                ended(s, i, status);
}

static void kill_overdue(struct supervisor *s, bool all)
{
    for (int i = 0; i < CHILDREN; i++) {
        struct child *c = &s->children[i];
        if (c->pid && c->kill_at_ms && (all || c->kill_at_ms <= now_ms())) {
            rp_log(RP_LOG_WARNING, "process killed, did not end in time", "process", names[i], NULL);
            kill(c->pid, SIGKILL);
            c->kill_at_ms = now_ms() + STOP_MS;
        }
    }
}

/* ---- the loop ---- */

static void gateway_is_ready(struct supervisor *s)
{
    char byte;
    ssize_t n = read(s->ready, &byte, 1);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    rp_close_fd(&s->ready);
    if (n != 1 || s->was_ready)
        return;
    s->was_ready = true;
    bool v4 = strncmp(s->settings->listen, "127.0.0.1:", 10) == 0 ||
              strncasecmp(s->settings->listen, "localhost:", 10) == 0;
    printf("repld: ready on http://%.*s:%u\n",
           v4 ? 9 : (int)(strrchr(s->settings->listen, ':') - s->settings->listen),
           v4 ? "localhost" : s->settings->listen, s->prepared->port);
    fflush(stdout);
}

static void signalled(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD)
            continue;
        if (s->stopping)
            kill_overdue(s, true);
        else
            stop(s);
    }
    reap(s);
}

static int time_to_next(struct supervisor *s)
{
    uint64_t next = UINT64_MAX, now = now_ms();
    for (int i = 0; i < CHILDREN; i++) {
        struct child *c = &s->children[i];
        if (c->pid && c->kill_at_ms)
            next = RP_MIN(next, c->kill_at_ms);
        if (!c->pid && !s->stopping)
            next = RP_MIN(next, c->start_at_ms);
    }
    return next == UINT64_MAX ? -1 : next <= now ? 0 : (int)(next - now);
}

int rp_supervisor_run(struct rp_settings *settings, struct rp_prepared *prepared)
{
    struct supervisor s = {.settings = settings, .prepared = prepared, .ready = -1};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 ||
        (s.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0) {
        rp_log(RP_LOG_ERROR, "signalfd failed", NULL);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        start_due(&s);
        if (s.stopping && !s.children[GATEWAY].pid && !s.children[ORCHESTRATOR].pid)
            break;
        struct pollfd p[] = {{.fd = s.signals, .events = POLLIN}, {.fd = s.ready, .events = POLLIN}};
        if (poll(p, 2, time_to_next(&s)) < 0 && errno != EINTR) {
            rp_log(RP_LOG_ERROR, "poll failed", NULL);
            s.status = 1;
            stop(&s);
        }
        if (p[0].revents)
            signalled(&s);
        if (s.ready >= 0 && p[1].revents)
            gateway_is_ready(&s);
        kill_overdue(&s, false);
    }
    rp_close_fd(&s.signals);
    rp_close_fd(&s.ready);
    return s.status;
}
