#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "sandbox/oci/environment_internal.h"

enum { LINE_MAX_BYTES = 4096, TAIL_BYTES = 240 };

void rp_environment_step(struct rp_environment_job *job, const char *step, unsigned percent)
{
    if (step)
        snprintf(job->step, sizeof(job->step), "%s", step);
    if (percent > job->percent)
        job->percent = RP_MIN(percent, 100u);
    if (job->options->progress)
        job->options->progress(job->recipe->name, job->step, job->percent,
                               (unsigned)((rp_clock_monotonic_ns() - job->started_ns) / 1000000000u));
}

/* In the child: never returns. */
static void execute(const char *const *argv, const char *const *env, int out, int errors)
{
    int null = open("/dev/null", O_RDONLY);
    if (!argv[0] || null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(errors, 2) < 0)
        _exit(126);
    /* a tool must not see the descriptors of whoever called us, but the lock, which it keeps held */
    signal(SIGPIPE, SIG_DFL);
    if (env)
        execvpe(argv[0], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)env);
    else
        execvp(argv[0], (char *const *)(uintptr_t)argv);
    dprintf(2, "%s: %s\n", argv[0], strerrordesc_np(errno));
    _exit(127);
}

/* The end of what a tool said, on one line. */
struct tail {
    char text[TAIL_BYTES + 1];
    size_t length;
};

static void tail_add(struct tail *t, const char *line)
{
    size_t n = strlen(line);
    if (n == 0)
        return;
    n = RP_MIN(n, (size_t)TAIL_BYTES - 3);
    if (t->length + n + 3 > TAIL_BYTES) {
        size_t drop = t->length + n + 3 - TAIL_BYTES;
        memmove(t->text, t->text + drop, t->length - drop);
        t->length -= drop;
    }
    if (t->length) {
        memcpy(t->text + t->length, " | ", 3);
        t->length += 3;
    }
    memcpy(t->text + t->length, line, n);
    t->length += n;
    t->text[t->length] = '\0';
}

static void take_line(struct rp_environment_job *job, char *line,
                      bool (*on_line)(struct rp_environment_job *job, char *line), struct tail *tail)
{
    /* a tool that draws progress with carriage returns: the last state counts */
    char *last = strrchr(line, '\r');
    if (last && last[1])
        line = last + 1;
    else if (last)
        *last = '\0';
    if (on_line && !on_line(job, line))
        return;
    dprintf(job->log, "%s\n", line);
    tail_add(tail, line);
}

static int collect(struct rp_environment_job *job, int fd,
                   bool (*on_line)(struct rp_environment_job *job, char *line), struct tail *tail,
                   struct rp_error *err)
{
    char line[LINE_MAX_BYTES];
    size_t length = 0;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, 1000);
        if (ready < 0 && errno != EINTR)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "poll");
        if (ready <= 0) {
            rp_environment_step(job, NULL, 0);
            continue;
        }
        ssize_t n = read(fd, line + length, sizeof(line) - 1 - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "read the output of a tool");
        length += (size_t)n;
        line[length] = '\0';
        char *from = line, *newline;
        while ((newline = strchr(from, '\n'))) {
            *newline = '\0';
            take_line(job, from, on_line, tail);
            from = newline + 1;
        }
        length -= (size_t)(from - line);
        memmove(line, from, length + 1);
        if (n == 0 || length == sizeof(line) - 1) {
            if (length)
                take_line(job, line, on_line, tail);
            length = 0;
        }
        if (n == 0)
            return 0;
    }
}

static int reap(pid_t pid, const char *name, struct rp_error *err)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "wait for %s", name);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        return rp_error_set(err, RP_ERROR_ENVIRONMENT, "%s was ended by signal %d", name, WTERMSIG(status));
    return rp_error_set(err, RP_ERROR_ENVIRONMENT, "%s ended with %d", name, WEXITSTATUS(status));
}

int rp_environment_command(struct rp_environment_job *job, const char *const *argv, const char *const *env,
                           bool (*on_line)(struct rp_environment_job *job, char *line), struct rp_error *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "pipe");
    _cleanup_close_ int in = fds[0];
    _cleanup_close_ int out = fds[1];
    dprintf(job->log, "+");
    for (const char *const *a = argv; *a; a++)
        dprintf(job->log, " %s", *a);
    dprintf(job->log, "\n");
    pid_t pid = fork();
    if (pid < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "fork");
    if (pid == 0)
        execute(argv, env, out, out);
    rp_close_fd(&out);
    struct tail tail = {.length = 0};
    int collected = collect(job, in, on_line, &tail, err);
    rp_close_fd(&in);
    if (reap(pid, argv[0], collected < 0 ? NULL : err) < 0 && collected == 0) {
        if (err && tail.length) {
            char message[sizeof(err->message)];
            memcpy(message, err->message, sizeof(message));
            return rp_error_set(err, RP_ERROR_ENVIRONMENT, "%.100s: %s", message, tail.text);
        }
        return -1;
    }
    return collected;
}

int rp_environment_command_output(const char *const *argv, struct rp_buf *out, struct rp_error *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "pipe");
    _cleanup_close_ int in = fds[0];
    _cleanup_close_ int to = fds[1];
    pid_t pid = fork();
    if (pid < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "fork");
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        execute(argv, NULL, to, null);
    }
    rp_close_fd(&to);
    int r = 0;
    for (;;) {
        char *at = rp_buf_reserve(out, 4096);
        if (!at) {
            r = rp_error_set(err, RP_ERROR_ENVIRONMENT, "%s says too much", argv[0]);
            break;
        }
        ssize_t n = read(in, at, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r = rp_error_errno(err, RP_ERROR_INTERNAL, errno, "read the output of %s", argv[0]);
        if (n <= 0)
            break;
        rp_buf_commit(out, (size_t)n);
    }
    rp_close_fd(&in);
    int ended = reap(pid, argv[0], r < 0 ? NULL : err);
    return r < 0 ? r : ended;
}
