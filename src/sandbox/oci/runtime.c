#include "sandbox/oci/runtime.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/str.h"
#include "sandbox/oci/spawn.h"

#ifndef CGROUP2_SUPER_MAGIC
#define CGROUP2_SUPER_MAGIC 0x63677270
#endif

#define UNIFIED "/sys/fs/cgroup/unified"

/* The orchestrator's own environment is not the runtime's business. */
static const char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                          NULL};

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static int look_up(const char *name, char ret[static PATH_MAX], struct rp_error *err)
{
    if (strchr(name, '/')) {
        if (!realpath(name, ret) || !is_program(ret))
            return rp_error_set(err, RP_ERROR_RUNTIME, "there is no OCI runtime \"%s\"", name);
        return 0;
    }
    struct rp_str rest = rp_str_of(environment[0] + strlen("PATH="));
    while (rest.n) {
        struct rp_str dir = rp_str_cut(rest, ':', &rest);
        if (snprintf(ret, PATH_MAX, "%.*s/%s", (int)dir.n, dir.p, name) < PATH_MAX && is_program(ret))
            return 0;
    }
    return rp_error_set(err, RP_ERROR_RUNTIME, "there is no OCI runtime \"%s\" in %s", name, environment[0]);
}

/* The end of what was said, in one line: errors come last. */
static void last_words(int fd, char *ret, size_t cap)
{
    char text[4096];
    struct stat st;
    off_t from = fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(text) - 1
                     ? st.st_size - (off_t)sizeof(text) + 1
                     : 0;
    ssize_t n = pread(fd, text, sizeof(text) - 1, from);
    if (n < 0)
        n = 0;
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;
    text[n] = '\0';
    for (ssize_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ')
            text[i] = ' ';
    size_t skip = (size_t)n > cap - 1 ? (size_t)n - (cap - 1) : 0;
    while (((unsigned char)text[skip] & 0xc0) == 0x80)
        skip++;
    snprintf(ret, cap, "%.*s", (int)(cap - 1), text + skip);
}

/* Runs the program with `output` as its 1 and 2 and turns a bad end into an error with the last words. */
static int execute(const struct rp_runtime *r, const struct rp_spawn_program *program, int output,
                   struct rp_error *err)
{
    _cleanup_close_ int pidfd = -1;
    pid_t pid = rp_spawn_start(program, &pidfd, err);
    if (pid < 0)
        return -1;
    int status;
    if (rp_spawn_wait(pid, pidfd, RP_RUNTIME_TIMEOUT_MS, &status, err) < 0)
        return rp_error_prefix(err, "%s %s", r->path, program->argv[1]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    char words[256];
    last_words(output, words, sizeof(words));
    if (WIFSIGNALED(status))
        return rp_error_set(err, RP_ERROR_RUNTIME, "%s was ended by signal %d: %s", r->path, WTERMSIG(status),
                            words);
    return rp_error_set(err, RP_ERROR_RUNTIME, "%s: exit status %d: %s", r->path, WEXITSTATUS(status), words);
}

static int ask_version(struct rp_runtime *r, struct rp_error *err)
{
    _cleanup_close_ int output = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (output < 0)
        output = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (output < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "temporary file");
    const char *const argv[] = {r->path, "--version", NULL};
    struct rp_spawn_program p = {.path = r->path,
                                 .argv = argv,
                                 .env = environment,
                                 .fds = {-1, output, output, -1},
                                 .cgroup_directory = -1};
    if (execute(r, &p, output, err) < 0)
        return -1;
    ssize_t n = pread(output, r->version, sizeof(r->version) - 1, 0);
    r->version[n > 0 ? n : 0] = '\0';
    r->version[strcspn(r->version, "\r\n")] = '\0';
    return 0;
}

int rp_runtime_find(const char *name, const char *state_dir, struct rp_runtime *ret, struct rp_error *err)
{
    struct rp_runtime r = {0};
    if (look_up(name, r.path, err) < 0)
        return -1;
    if ((size_t)snprintf(r.state_dir, sizeof(r.state_dir), "%s", state_dir) >= sizeof(r.state_dir))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is too long", state_dir);
    if (ask_version(&r, err) < 0)
        return -1;
    struct rp_str version = rp_str_of(r.version);
    r.kind = rp_str_starts(version, "crun")   ? RP_RUNTIME_CRUN
             : rp_str_starts(version, "runc") ? RP_RUNTIME_RUNC
                                              : RP_RUNTIME_OTHER;
    struct statfs fs;
    if (r.kind == RP_RUNTIME_CRUN && statfs(UNIFIED, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
        r.hide = UNIFIED;
    *ret = r;
    return 0;
}

int rp_runtime_check(const struct rp_runtime *r, struct rp_error *err)
{
    struct rp_runtime copy = *r;
    return ask_version(&copy, err);
}

enum { ARGUMENTS_MAX = 16 };

static size_t put(const char *argv[ARGUMENTS_MAX], size_t n, const char *a)
{
    argv[n] = a;
    argv[n + 1] = NULL;
    return n + 1;
}

static size_t put_global(const struct rp_runtime *r, const char *argv[ARGUMENTS_MAX])
{
    size_t n = put(argv, 0, r->path);
    if (r->kind == RP_RUNTIME_CRUN)
        n = put(argv, n, "--cgroup-manager=disabled");
    n = put(argv, n, "--root");
    return put(argv, n, r->state_dir);
}

int rp_runtime_run(const struct rp_runtime *r, const struct rp_runtime_run *run, struct rp_error *err)
{
    _cleanup_close_ int log =
        open(run->log, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", run->log);
    const char *argv[ARGUMENTS_MAX];
    size_t n = put_global(r, argv);
    n = put(argv, n, "run");
    n = put(argv, n, "--detach");
    n = put(argv, n, "--pid-file");
    n = put(argv, n, run->pid_file);
    n = put(argv, n, "--bundle");
    n = put(argv, n, run->bundle);
    if (run->listener >= 0) {
        n = put(argv, n, "--preserve-fds");
        n = put(argv, n, "1");
    }
    put(argv, n, run->id);
    struct rp_spawn_program p = {.path = r->path,
                                 .argv = argv,
                                 .env = environment,
                                 .fds = {-1, log, log, run->listener},
                                 .cgroup_directory = -1,
                                 .hide = r->hide};
    if (r->kind == RP_RUNTIME_CRUN) {
        p.cgroup_procs = run->cgroup_procs;
        p.cgroup_count = run->cgroup_count;
        p.cgroup_directory = run->cgroup_directory;
    }
    return execute(r, &p, log, err);
}

int rp_runtime_delete(const struct rp_runtime *r, const char *id, struct rp_error *err)
{
    char state[PATH_MAX];
    if (snprintf(state, sizeof(state), "%s/%s", r->state_dir, id) >= (int)sizeof(state) ||
        access(state, F_OK) < 0)
        return 0;
    _cleanup_close_ int output = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (output < 0)
        output = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (output < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "temporary file");
    const char *argv[ARGUMENTS_MAX];
    size_t n = put_global(r, argv);
    n = put(argv, n, "delete");
    n = put(argv, n, "--force");
    put(argv, n, id);
    struct rp_spawn_program p = {.path = r->path,
                                 .argv = argv,
                                 .env = environment,
                                 .fds = {-1, output, output, -1},
                                 .cgroup_directory = -1,
                                 .hide = r->hide};
    return execute(r, &p, output, err);
}
