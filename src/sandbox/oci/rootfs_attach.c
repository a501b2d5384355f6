/*
 * The part of attach that runs inside the sandbox's namespaces, in a child that shares our memory: system
 * calls only. It is root of the host all the way to the last step, so no name is followed that a user could
 * have changed: mount points inside the project's root are opened without following any link.
 */
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <string.h>
#include <sys/fsuid.h>

#include "base/cleanup.h"
#include "proto/init.h"
#include "sandbox/oci/host_limits.h"
#include "sandbox/oci/rootfs_internal.h"

static int failed(struct rp_attachment *a, const char *what)
{
    a->errnum = errno;
    a->what = what;
    return 1;
}

/*
 * overlayfs makes files in the upper layer with the ids and rights of whoever mounted it. The upper layer is
 * idmapped: the host's root has no id there, and every write would fail with EOVERFLOW. The sandbox's root
 * has one. Leaving fsuid 0 takes the file capabilities away; they are still permitted.
 */
static int become_root_of_sandbox(uint32_t uid_base)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    (void)setfsgid(uid_base);
    (void)setfsuid(uid_base);
    if ((uint32_t)setfsuid((uid_t)-1) != uid_base || (uint32_t)setfsgid((gid_t)-1) != uid_base) {
        errno = EPERM;
        return -1;
    }
    if (syscall(SYS_capget, &header, data) < 0)
        return -1;
    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    return (int)syscall(SYS_capset, &header, data);
}

static int mount_overlay(const struct rp_attachment *a)
{
    _cleanup_close_ int fs = rp_fsopen("overlay");
    if (fs < 0 || rp_fsconfig(fs, FSCONFIG_SET_STRING, "source", "repld", 0) < 0 ||
        rp_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", a->lower, 0) < 0 ||
        rp_fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", a->upper_path, 0) < 0 ||
        rp_fsconfig(fs, FSCONFIG_SET_STRING, "workdir", a->work_path, 0) < 0 ||
        /* Renaming a directory of the environment works as on any other file system. */
        rp_fsconfig(fs, FSCONFIG_SET_STRING, "redirect_dir", "on", 0) < 0 ||
        rp_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -1;
    _cleanup_close_ int root = rp_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (root < 0)
        return -1;
    return rp_move_mount(root, "", AT_FDCWD, "/" RP_TINY_NEW_ROOT, MOVE_MOUNT_F_EMPTY_PATH);
}

static int open_point(int root, const char *path)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

/* Puts a detached mount, or the mount at `from_path`, at root/point. */
static int place(int from, const char *from_path, int root, const char *point)
{
    _cleanup_close_ int at = open_point(root, point);
    if (at < 0)
        return -1;
    unsigned flags = MOVE_MOUNT_T_EMPTY_PATH | (*from_path ? 0 : MOVE_MOUNT_F_EMPTY_PATH);
    return rp_move_mount(from, from_path, at, "", flags);
}

/* Covers what the host's firmware tells with an empty directory of the tiny root. */
static int mask_sysfs(int root)
{
    static const char *const masked[] = {"sys/firmware", "sys/devices/virtual/powercap"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(masked); i++) {
        _cleanup_close_ int empty = rp_open_tree(AT_FDCWD, "/tmp", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (empty < 0 || (place(empty, "", root, masked[i]) < 0 && errno != ENOENT))
            return -1;
    }
    return 0;
}

/* The kernel counts these against the sandbox's users and, since root made the namespace, against the host's root for
 * all sandboxes together: without a bound of its own one sandbox would use up everybody's (host_limits.c). */
static int limit_namespace(const struct rp_attachment *a)
{
    static const struct {
        const char *name, *value;
    } bounds[] = {
        {"max_inotify_instances", RP_TEXT(RP_INOTIFY_INSTANCES)},
        {"max_inotify_watches", RP_TEXT(RP_INOTIFY_WATCHES)},
        {"max_user_namespaces", "0"}, /* none can be made inside from here on */
    };
    if (setns(a->userns, CLONE_NEWUSER) < 0) /* whose sysctls these are */
        return -1;
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
        _cleanup_close_ int fd = openat(a->limits, bounds[i].name, O_WRONLY | O_CLOEXEC);
        ssize_t n = (ssize_t)strlen(bounds[i].value);
        if (fd < 0 || write(fd, bounds[i].value, (size_t)n) != n)
            return -1;
    }
    return 0;
}

int rp_attach_child(void *attachment)
{
    struct rp_attachment *a = attachment;
    if (setns(a->mntns, CLONE_NEWNS) < 0)
        return failed(a, "enter its mount namespace");
    for (size_t i = 0; i < a->layer_count; i++)
        if (rp_move_mount(a->layers[i], "", AT_FDCWD, a->layer_paths[i], MOVE_MOUNT_F_EMPTY_PATH) < 0)
            return failed(a, "attach a layer");
    if (rp_move_mount(a->upper, "", AT_FDCWD, "/" RP_TINY_UPPER, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return failed(a, "attach the upper layer");
    if (become_root_of_sandbox(a->uid_base) < 0)
        return failed(a, "become its root");
    if (mount_overlay(a) < 0)
        return failed(a, "mount the overlay");

    _cleanup_close_ int root = open("/" RP_TINY_NEW_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return failed(a, "open the new root");
    if (place(a->files, "", root, &RP_INIT_APP[1]) < 0)
        return failed(a, RP_INIT_APP);
    if (place(AT_FDCWD, "/proc", root, "proc") < 0)
        return failed(a, "move /proc");
    if (place(AT_FDCWD, "/dev", root, "dev") < 0)
        return failed(a, "move /dev");
    if (place(a->sysfs, "", root, "sys") < 0 || mask_sysfs(root) < 0)
        return failed(a, "mount /sys");

    /* Whoever's root was the old one, init above all, is on the new one after this. The old one, with the
     * layers attached to it, goes as a whole: the overlay has clones of its own. */
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return failed(a, "pivot_root");
    if (umount2(".", MNT_DETACH) < 0)
        return failed(a, "detach the tiny root");
    if (limit_namespace(a) < 0)
        return failed(a, "limit its user namespace");
    return 0;
}
