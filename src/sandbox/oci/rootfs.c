#include "sandbox/oci/rootfs.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "proto/init.h"
#include "sandbox/oci/rootfs_internal.h"
#include "sandbox/oci/spawn.h"

static int make_dir(const char *path, struct rp_error *err)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", path);
    if (chmod(path, 0755) < 0) /* whatever the umask is: the sandbox's root is nobody here */
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "chmod \"%s\"", path);
    return 0;
}

static int copy_file(const char *from, const char *to, struct rp_error *err)
{
    _cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (in < 0 || fstat(in, &st) < 0)
        return rp_error_errno(err, RP_ERROR_RUNTIME, errno, "open \"%s\"", from);
    char temporary[PATH_MAX];
    if (snprintf(temporary, sizeof(temporary), "%s.%d", to, getpid()) >= (int)sizeof(temporary))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is too long", to);
    _cleanup_close_ int out = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0755);
    if (out < 0 || fchmod(out, 0755) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", temporary);
    for (off_t at = 0; at < st.st_size;) {
        ssize_t n = sendfile(out, in, &at, (size_t)(st.st_size - at));
        if (n <= 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, n < 0 ? errno : EIO, "copy \"%s\"", from);
    }
    /* A file that is open for writing cannot be executed; the new name appears when it is whole. */
    rp_close_fd(&out);
    if (rename(temporary, to) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "rename \"%s\"", temporary);
    return 0;
}

int rp_rootfs_make_tiny(const char *dir, const char *init_path, struct rp_error *err)
{
    static const char *const below[] = {"proc", "dev", "sys", "tmp", "run", RP_TINY_NEW_ROOT, RP_TINY_UPPER};
    char path[PATH_MAX];
    if (strlen(dir) > PATH_MAX - 64)
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is too long", dir);
    if (make_dir(dir, err) < 0)
        return -1;
    for (size_t i = 0; i < RP_ARRAY_SIZE(below); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, below[i]);
        if (make_dir(path, err) < 0)
            return -1;
    }
    for (int i = 0; i < RP_ROOTFS_LAYERS_MAX; i++) {
        snprintf(path, sizeof(path), "%s/" RP_TINY_LAYER, dir, i);
        if (make_dir(path, err) < 0)
            return -1;
    }
    snprintf(path, sizeof(path), "%s/repld-init", dir);
    return copy_file(init_path, path, err);
}

struct sysfs {
    int fd;
    int errnum;
};

/* In a child with a network namespace of its own that shares our descriptors. */
static int make_sysfs(void *ctx)
{
    struct sysfs *s = ctx;
    int fs = rp_fsopen("sysfs");
    if (fs >= 0 && rp_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        s->fd = rp_fsmount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    s->errnum = errno;
    if (fs >= 0)
        close(fs);
    return s->fd < 0;
}

int rp_rootfs_open_sysfs(struct rp_error *err)
{
    struct sysfs s = {.fd = -1};
    int r = rp_spawn_call(make_sysfs, &s, CLONE_NEWNET | CLONE_FILES, err);
    if (r < 0)
        return -1;
    return r ? rp_error_errno(err, RP_ERROR_INTERNAL, s.errnum, "mount a sysfs") : s.fd;
}

/* A detached copy of the mount at `path` alone, with the ids of the sandbox. */
static int open_idmapped(const char *path, int userns, uint64_t attributes, struct rp_error *err)
{
    _cleanup_close_ int fd = rp_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\" as a mount", path);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | attributes, .userns_fd = (uint64_t)userns};
    if (rp_mount_setattr(fd, &attr) < 0)
        return rp_error_errno(err, RP_ERROR_NOT_SUPPORTED, errno, "map the ids of \"%s\"", path);
    return RP_STEAL_FD(fd);
}

static int open_namespace(pid_t pid, const char *which, struct rp_error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, which);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? rp_error_errno(err, RP_ERROR_SANDBOX, errno, "open \"%s\"", path) : fd;
}

static void close_attachment(struct rp_attachment *a)
{
    rp_close_fd(&a->userns);
    rp_close_fd(&a->mntns);
    rp_close_fd(&a->upper);
    rp_close_fd(&a->files);
    rp_close_fd(&a->sysfs);
    rp_close_fd(&a->limits);
    for (size_t i = 0; i < a->layer_count; i++)
        rp_close_fd(&a->layers[i]);
}

/* "lowerdir=" wants its layers joined by colons; their mount points in the tiny root are short and have none.
 */
static int compose_lower(struct rp_attachment *a, struct rp_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < a->layer_count; i++) {
        snprintf(a->layer_paths[i], sizeof(a->layer_paths[i]), "/" RP_TINY_LAYER, (int)i);
        int wrote = snprintf(a->lower + n, sizeof(a->lower) - n, "%s%s", i ? ":" : "", a->layer_paths[i]);
        n += (size_t)wrote;
        if (n >= sizeof(a->lower))
            return rp_error_set(err, RP_ERROR_INTERNAL, "too many layers");
    }
    return 0;
}

/* overlayfs wants upper and work on one mount: the directory above both is mapped, and they are named below
 * it. */
static int split_upper(const struct rp_rootfs_spec *spec, struct rp_attachment *a,
                       char parent[static PATH_MAX], struct rp_error *err)
{
    const char *u = strrchr(spec->upper, '/'), *w = strrchr(spec->work, '/');
    size_t n = u ? (size_t)(u - spec->upper) : 0;
    if (!n || !w || n != (size_t)(w - spec->work) || memcmp(spec->upper, spec->work, n) != 0 || n >= PATH_MAX)
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" and \"%s\" are not beside each other", spec->upper,
                            spec->work);
    snprintf(parent, PATH_MAX, "%.*s", (int)n, spec->upper);
    if (snprintf(a->upper_path, sizeof(a->upper_path), "/" RP_TINY_UPPER "%s", u) >=
            (int)sizeof(a->upper_path) ||
        snprintf(a->work_path, sizeof(a->work_path), "/" RP_TINY_UPPER "%s", w) >= (int)sizeof(a->work_path))
        return rp_error_set(err, RP_ERROR_INVALID, "the name of \"%s\" is too long", spec->upper);
    return 0;
}

int rp_rootfs_attach(pid_t pid, const struct rp_rootfs_spec *spec, struct rp_error *err)
{
    _cleanup_(close_attachment) struct rp_attachment a = {.userns = -1,
                                                          .mntns = -1,
                                                          .upper = -1,
                                                          .files = -1,
                                                          .sysfs = -1,
                                                          .limits = -1,
                                                          .uid_base = spec->uid_base};
    char parent[PATH_MAX];
    if (spec->layer_count == 0 || spec->layer_count > RP_ROOTFS_LAYERS_MAX)
        return rp_error_set(err, RP_ERROR_INVALID, "%zu layers", spec->layer_count);
    if (split_upper(spec, &a, parent, err) < 0)
        return -1;
    if ((a.userns = open_namespace(pid, "user", err)) < 0 || (a.mntns = open_namespace(pid, "mnt", err)) < 0)
        return -1;
    for (size_t i = 0; i < spec->layer_count; i++) {
        a.layers[i] = open_idmapped(spec->layers[i], a.userns, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, err);
        if (a.layers[i] < 0)
            return -1;
        a.layer_count++;
    }
    if (compose_lower(&a, err) < 0)
        return -1;
    if ((a.upper = open_idmapped(parent, a.userns, MOUNT_ATTR_NODEV, err)) < 0 ||
        (a.files = open_idmapped(spec->files, a.userns, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err)) < 0)
        return -1;
    a.sysfs = rp_open_tree(spec->sysfs, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (a.sysfs < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "copy the sysfs mount");
    a.limits = open("/proc/sys/user", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (a.limits < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"/proc/sys/user\"");
    int r = rp_spawn_call(rp_attach_child, &a, 0, err);
    if (r < 0)
        return -1;
    return r ? rp_error_errno(err, RP_ERROR_SANDBOX, a.errnum, "give the sandbox its root: %s", a.what) : 0;
}
