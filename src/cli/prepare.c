#include "cli/prepare.h"

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/clock.h"
#include "base/listen.h"
#include "base/str.h"

/* ---- directories ---- */

/* Makes the directory and those above it. A new one gets `mode` whatever the umask; one that is there stays
 * as it is. */
static int make_directories(const char *path, mode_t mode, struct rp_error *err)
{
    _cleanup_free_ char *copy = rp_strdup(path);
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char separator = *p;
        *p = '\0';
        if (mkdir(copy, separator ? 0755 : mode) == 0) {
            if (!separator && chmod(copy, mode) < 0)
                return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "chmod \"%s\"", copy);
        } else if (errno != EEXIST) {
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make directory \"%s\"", copy);
        }
        if (!separator)
            return 0;
        *p = separator;
    }
}

/* Opens a directory below `parent`, made when missing, that belongs to nobody but uid:gid. What another
 * --user left in it goes over to the new one. */
static int own_directory(const char *parent, const char *name, uid_t uid, gid_t gid, struct rp_error *err)
{
    _cleanup_free_ char *path = rp_asprintf("%s/%s", parent, name);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make directory \"%s\"", path);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open directory \"%s\"", path);
    bool foreign = st.st_uid != uid || st.st_gid != gid;
    if (fchmod(fd, 0700) < 0 || (foreign && fchown(fd, uid, gid) < 0))
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "set owner and mode of \"%s\"", path);
    if (!foreign)
        return 0;
    _cleanup_dir_ DIR *d = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            fchownat(fd, e->d_name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "set owner of \"%s/%s\"", path, e->d_name);
    return 0;
}

/* Root follows paths below it, so nobody else may rename things there. */
static int check_data_directory(const char *path, struct rp_error *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "data directory \"%s\"", path);
    if (!S_ISDIR(st.st_mode))
        return rp_error_set(err, RP_ERROR_INVALID, "data directory \"%s\" is not a directory", path);
    if (st.st_mode & 022)
        return rp_error_set(err, RP_ERROR_INVALID,
                            "data directory \"%s\" may be written by others than its owner (mode %04o)", path,
                            st.st_mode & 07777);
    return 0;
}

/* True when path is the root of a tmpfs. */
static bool is_tmpfs_mount(const char *path)
{
    _cleanup_free_ char *parent = rp_asprintf("%s/..", path);
    struct stat own, above;
    struct statfs fs;
    return stat(path, &own) == 0 && stat(parent, &above) == 0 && statfs(path, &fs) == 0 &&
           fs.f_type == TMPFS_MAGIC && own.st_dev != above.st_dev;
}

static int make_runtime_directory(const struct rp_settings *s, struct rp_error *err)
{
    if (make_directories(s->runtime_dir, 0711, err) < 0)
        return -1;
    if (!is_tmpfs_mount(s->runtime_dir) &&
        mount("repld", s->runtime_dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0711,size=50%") < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "mount a tmpfs at \"%s\"", s->runtime_dir);
    if (own_directory(s->runtime_dir, "rings", s->user_id, s->group_id, err) < 0 ||
        own_directory(s->runtime_dir, "records", 0, 0, err) < 0 ||
        own_directory(s->runtime_dir, "jail", 0, 0, err) < 0)
        return -1;
    return 0;
}

/* ---- the lock ---- */

/* Whether the supervisor that wrote its pid into the lock is gone, and the lock is only held by its dying children. */
static bool holder_is_gone(int fd)
{
    char text[32];
    ssize_t n = pread(fd, text, sizeof(text), 0);
    uint64_t pid;
    struct rp_str rest, first = rp_str_cut((struct rp_str){text, n > 0 ? (size_t)n : 0}, '\n', &rest);
    return rp_str_to_u64(first, INT32_MAX, &pid) && pid && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* Kills what still has the lock open: a child that a killed server was in the middle of making may be stuck where
 * nobody waits for it any more. Nothing but the server's own processes ever opens DATA/lock. */
static void kill_holders(int lock)
{
    struct stat wanted, st;
    glob_t found;
    if (fstat(lock, &wanted) < 0 || glob("/proc/[0-9]*/task/[0-9]*/fd/*", GLOB_NOSORT, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i];
        int pid = (int)strtol(path + strlen("/proc/"), NULL, 10);
        if (pid != getpid() && stat(path, &st) == 0 && st.st_ino == wanted.st_ino && st.st_dev == wanted.st_dev)
            (void)kill(pid, SIGKILL);
    }
    globfree(&found);
}

static int take_lock(const char *data_dir, int *ret, struct rp_error *err)
{
    _cleanup_free_ char *path = rp_asprintf("%s/lock", data_dir);
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", path);
    /* The children of a supervisor that was just killed are dying: they hold it a moment longer, which on a busy
     * machine, in the middle of a system call on the volume, may be many seconds. */
    uint64_t began = rp_clock_monotonic_ns();
    bool killed = false;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "lock \"%s\"", path);
        bool orphans = holder_is_gone(fd);
        uint64_t patience = orphans ? RP_PREPARE_DYING_MS : RP_PREPARE_LOCK_MS;
        if (orphans && !killed && rp_clock_monotonic_ns() - began > RP_PREPARE_ORPHANS_MS * UINT64_C(1000000)) {
            kill_holders(fd);
            killed = true;
        }
        if (rp_clock_monotonic_ns() - began > patience * UINT64_C(1000000)) {
            char pid[32] = "";
            ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
            pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
            return rp_error_set(err, RP_ERROR_CONFLICT,
                                "another server (process %s) uses the data directory \"%s\"", pid, data_dir);
        }
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
    char pid[32];
    int n = snprintf(pid, sizeof(pid), "%d\n", getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) != n)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "write \"%s\"", path);
    *ret = RP_STEAL_FD(fd);
    return 0;
}

/* ---- sockets ---- */

static int listen_orchestrator(const struct rp_settings *s, int *ret, struct rp_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path, sizeof(a.sun_path), "%s/orchestrator.sock", s->runtime_dir);
    if (n < 0 || (size_t)n >= sizeof(a.sun_path))
        return rp_error_set(err, RP_ERROR_INVALID,
                            "the runtime directory's path is too long for a socket: \"%s\"", s->runtime_dir);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "socket");
    if (unlink(a.sun_path) < 0 && errno != ENOENT)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "remove \"%s\"", a.sun_path);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(a.sun_path, 0600) < 0 ||
        chown(a.sun_path, s->user_id, s->group_id) < 0 || listen(fd, 16) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "listen on \"%s\"", a.sun_path);
    *ret = RP_STEAL_FD(fd);
    return 0;
}

static int listen_one(struct sockaddr_storage *a, socklen_t length, int *ret)
{
    _cleanup_close_ int fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        (a->ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
        bind(fd, (struct sockaddr *)a, length) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)a, &length) < 0)
        return -errno;
    *ret = RP_STEAL_FD(fd);
    return 0;
}

static int listen_tcp(const char *text, struct rp_prepared *p, struct rp_error *err)
{
    struct rp_listen l;
    if (rp_listen_parse(text, &l, err) < 0)
        return -1;
    if (!l.loopback)
        return rp_error_set(err, RP_ERROR_NOT_SUPPORTED,
                            "will not listen on %s: loopback addresses only, until there are accounts", text);
    for (unsigned i = 0; i < l.count; i++) {
        /* sin_port and sin6_port stand at the same place */
        struct sockaddr_in *port = (struct sockaddr_in *)&l.addresses[i];
        if (i > 0)
            port->sin_port = htons(p->port);
        int r = listen_one(&l.addresses[i], l.lengths[i], &p->listeners[p->listener_count]);
        if (i > 0 && (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL))
            continue; /* localhost on a machine without IPv6 */
        if (r < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "listen on %s", text);
        p->listener_count++;
        p->port = ntohs(port->sin_port);
    }
    return 0;
}

/* ---- all of it ---- */

void rp_prepared_done(struct rp_prepared *p)
{
    rp_close_fd(&p->lock);
    rp_close_fd(&p->orchestrator);
    for (size_t i = 0; i < p->listener_count; i++)
        rp_close_fd(&p->listeners[i]);
    p->listener_count = 0;
}

static int prepare(const struct rp_settings *s, struct rp_prepared *p, struct rp_error *err)
{
    if (make_directories(s->data_dir, 0700, err) < 0 || check_data_directory(s->data_dir, err) < 0 ||
        take_lock(s->data_dir, &p->lock, err) < 0 ||
        own_directory(s->data_dir, "gateway", s->user_id, s->group_id, err) < 0 ||
        make_directories(s->environments_dir, 0755, err) < 0 || make_runtime_directory(s, err) < 0 ||
        listen_orchestrator(s, &p->orchestrator, err) < 0)
        return -1;
    return listen_tcp(s->listen, p, err);
}

int rp_prepare(const struct rp_settings *s, struct rp_prepared *ret, struct rp_error *err)
{
    struct rp_prepared p = {.lock = -1, .orchestrator = -1};
    if (prepare(s, &p, err) < 0) {
        rp_prepared_done(&p);
        return -1;
    }
    *ret = p;
    return 0;
}
