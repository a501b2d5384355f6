#include "sandbox/oci/environment_build.h"

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/json.h"
#include "sandbox/oci/environment.h"
#include "sandbox/oci/environment_internal.h"

/* ---- files ---- */

static int make_dir(const char *path, mode_t mode, struct rp_error *err)
{
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", path);
    return 0;
}

/* mkdir -p */
static int make_path(const char *path, struct rp_error *err)
{
    _cleanup_free_ char *copy = rp_strdup(path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (make_dir(copy, 0755, err) < 0)
            return -1;
        *slash = '/';
    }
    return make_dir(copy, 0755, err);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return type == FTW_DP || type == FTW_D || type == FTW_DNR ? rmdir(path) : unlink(path);
}

int rp_environment_remove_tree(const char *path, struct rp_error *err)
{
    struct stat st;
    if (lstat(path, &st) < 0 && errno == ENOENT)
        return 0;
    if (nftw(path, remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "remove \"%s\"", path);
    return 0;
}

int rp_environment_put(const char *root, const char *path, struct rp_str content, unsigned mode,
                       struct rp_error *err)
{
    _cleanup_close_ int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", root);
    /* component by component, so that a symbolic link of a package cannot lead out of root */
    struct rp_str rest = rp_str_of(path);
    for (;;) {
        const char *slash = memchr(rest.p, '/', rest.n);
        if (!slash)
            break;
        char name[256];
        if (!rp_str_copy(name, sizeof(name), rp_str_cut(rest, '/', &rest)))
            return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" has a name that is too long", path);
        if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make a folder of \"%s/%s\"", root, path);
        int next = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open a folder of \"%s/%s\"", root, path);
        close(dir);
        dir = next;
    }
    char name[256];
    if (!rp_str_copy(name, sizeof(name), rest))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" has a name that is too long", path);
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "replace \"%s/%s\"", root, path);
    _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s/%s\"", root, path);
    size_t done = 0;
    while (done < content.n) {
        ssize_t n = write(fd, content.p + done, content.n - done);
        if (n < 0 && errno != EINTR)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "write \"%s/%s\"", root, path);
        if (n > 0)
            done += (size_t)n;
    }
    if (fchmod(fd, mode) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "chmod \"%s/%s\"", root, path);
    return 0;
}

static int sync_path(const char *path, struct rp_error *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "sync \"%s\"", path);
    return 0;
}

/* ---- one layer, in the forked process ---- */

/*
 * Sandboxes have no_new_privs and nosuid; a set-uid program would only be a program that fails. nftw has no
 * context argument, and this runs in a process that does nothing else.
 */
static int drop_setuid(const char *path, const struct stat *st, int type, struct FTW *at)
{
    if (type == FTW_F && S_ISREG(st->st_mode) && st->st_mode & (S_ISUID | S_ISGID))
        return chmod(path, st->st_mode & 0777);
    return 0;
}

static int build_in_namespace(struct rp_environment_job *job, struct rp_error *err)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make a mount namespace (this needs root)");
    umask(022);
    if (strcmp(job->recipe->provider, "debian") != 0)
        return rp_error_set(err, RP_ERROR_NOT_SUPPORTED, "no builder for the provider \"%s\"",
                            job->recipe->provider);
    if (rp_environment_debian(job, err) < 0)
        return -1;
    if (nftw(job->part, drop_setuid, 64, FTW_PHYS | FTW_MOUNT) != 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "take set-uid bits away in \"%s\"", job->part);
    rp_environment_step(job, "writing to disk", 98);
    _cleanup_close_ int fd = open(job->part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "sync \"%s\"", job->part);
    return 0;
}

/* Forks, since a mount namespace is for a whole process; the error comes back through a pipe. */
static int run_job(struct rp_environment_job *job, struct rp_error *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "pipe");
    _cleanup_close_ int in = fds[0];
    _cleanup_close_ int out = fds[1];
    pid_t pid = fork();
    if (pid < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct rp_error why = {0};
        if (build_in_namespace(job, &why) == 0)
            _exit(0);
        ssize_t written = write(out, &why, sizeof(why));
        _exit(written == sizeof(why) ? 1 : 2);
    }
    rp_close_fd(&out);
    struct rp_error why = {0};
    ssize_t n;
    do
        n = read(in, &why, sizeof(why));
    while (n < 0 && errno == EINTR);
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (n == (ssize_t)sizeof(why)) {
        if (err)
            *err = why;
        return -1;
    }
    return rp_error_set(err, RP_ERROR_INTERNAL, "the builder of \"%s\" was killed", job->recipe->name);
}

/* ---- the record of a finished layer ---- */

static int write_manifest(const struct rp_environment_build *b, const struct rp_recipe *recipe,
                          struct rp_error *err)
{
    struct rp_buf text;
    rp_buf_init(&text, 64 * 1024);
    struct rp_json_writer w = rp_json_writer(&text);
    char now[RP_CLOCK_RFC3339_SIZE];
    rp_clock_format_rfc3339(rp_clock_wall_us(), now);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "name", recipe->name);
    rp_json_field_string(&w, "provider", recipe->provider);
    rp_json_field_string(&w, "suite", recipe->suite);
    rp_json_field_string(&w, "built_at", now);
    rp_json_key(&w, "layers");
    rp_json_open_array(&w);
    for (const struct rp_recipe *r = recipe; r; r = r->base)
        rp_json_string(&w, rp_str_of(r->hash));
    rp_json_close_array(&w);
    rp_json_key(&w, "packages");
    rp_json_open_array(&w);
    for (const char *const *p = recipe->packages; *p; p++)
        rp_json_string(&w, rp_str_of(*p));
    rp_json_close_array(&w);
    rp_json_close_object(&w);
    _cleanup_free_ char *name = rp_asprintf("%s.json", recipe->hash);
    _cleanup_free_ char *part = rp_asprintf("%s.json.part", recipe->hash);
    _cleanup_free_ char *from = rp_asprintf("%s/%s", b->environments_dir, part);
    _cleanup_free_ char *to = rp_asprintf("%s/%s", b->environments_dir, name);
    int r = 0;
    if (w.failed || !rp_buf_append(&text, "\n", 1))
        r = rp_error_set(err, RP_ERROR_INTERNAL, "the manifest of \"%s\" is too long", recipe->name);
    if (r == 0)
        r = rp_environment_put(b->environments_dir, part, rp_buf_view(&text), 0644, err);
    rp_buf_done(&text);
    if (r < 0 || sync_path(from, err) < 0)
        return -1;
    if (rename(from, to) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "rename \"%s\"", from);
    return sync_path(b->environments_dir, err);
}

bool rp_environment_built(const char *environments_dir, const struct rp_recipe *recipe)
{
    struct rp_environment found;
    return rp_environment_find(environments_dir, recipe->hash, &found, NULL) == 0;
}

/* ---- a layer from outside ---- */

static int prepare(struct rp_environment_job *job, struct rp_error *err)
{
    _cleanup_free_ char *overlay = rp_asprintf("%s/overlay", job->work);
    if (rp_environment_remove_tree(job->part, err) < 0 || rp_environment_remove_tree(job->work, err) < 0 ||
        make_dir(job->part, 0755, err) < 0 || make_dir(job->work, 0700, err) < 0 ||
        make_dir(overlay, 0700, err) < 0)
        return -1;
    return job->recipe->base ? make_dir(job->merged, 0755, err) : 0;
}

static int build_layer(const struct rp_environment_build *b, const struct rp_recipe *recipe,
                       struct rp_error *err)
{
    _cleanup_free_ char *layer = rp_asprintf("%s/layers/%s", b->environments_dir, recipe->hash);
    _cleanup_free_ char *part = rp_asprintf("%s.part", layer);
    _cleanup_free_ char *work = rp_asprintf("%s.work", layer);
    _cleanup_free_ char *merged = recipe->base ? rp_asprintf("%s/merged", work) : rp_strdup(part);
    _cleanup_free_ char *log_path = rp_asprintf("%s/log/%s.log", b->environments_dir, recipe->name);
    _cleanup_free_ char *layers = rp_asprintf("%s/layers", b->environments_dir);
    _cleanup_close_ int log = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", log_path);
    struct rp_environment_job job = {.options = b,
                                     .recipe = recipe,
                                     .part = part,
                                     .work = work,
                                     .merged = merged,
                                     .log = log,
                                     .started_ns = rp_clock_monotonic_ns()};
    /* a layer without its manifest is what an interrupted build left between its last two steps */
    if (prepare(&job, err) < 0 || rp_environment_remove_tree(layer, err) < 0)
        return -1;
    rp_environment_step(&job, "starting", 0);
    if (run_job(&job, err) < 0) {
        (void)!rp_environment_remove_tree(part, NULL);
        (void)!rp_environment_remove_tree(work, NULL);
        return rp_error_prefix(err, "%s", recipe->name);
    }
    if (rename(part, layer) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "rename \"%s\"", part);
    if (sync_path(layers, err) < 0 || write_manifest(b, recipe, err) < 0 ||
        rp_environment_remove_tree(work, err) < 0)
        return -1;
    rp_environment_step(&job, "built", 100);
    return 0;
}

/* The descriptor is inherited by every tool, so the lock is held until the last one of them is gone. */
static int take_lock(const struct rp_environment_build *b, struct rp_error *err)
{
    _cleanup_free_ char *path = rp_asprintf("%s/lock", b->environments_dir);
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "lock \"%s\"", path);
        if (b->waiting)
            b->waiting();
        while (flock(fd, LOCK_EX) < 0)
            if (errno != EINTR)
                return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "lock \"%s\"", path);
    }
    return RP_STEAL_FD(fd);
}

static int build_missing(const struct rp_environment_build *b, const struct rp_recipe *recipe,
                         struct rp_error *err)
{
    if (rp_environment_built(b->environments_dir, recipe))
        return 0;
    if (recipe->base && build_missing(b, recipe->base, err) < 0)
        return -1;
    return build_layer(b, recipe, err) < 0 ? -1 : 1;
}

int rp_environment_build(const struct rp_environment_build *b, const struct rp_recipe *recipe,
                         struct rp_error *err)
{
    if (rp_environment_built(b->environments_dir, recipe))
        return 0;
    _cleanup_free_ char *layers = rp_asprintf("%s/layers", b->environments_dir);
    _cleanup_free_ char *log = rp_asprintf("%s/log", b->environments_dir);
    if (make_path(b->environments_dir, err) < 0 || make_dir(layers, 0755, err) < 0 ||
        make_dir(log, 0755, err) < 0)
        return -1;
    _cleanup_close_ int lock = take_lock(b, err);
    if (lock < 0)
        return -1;
    return build_missing(b, recipe, err);
}
