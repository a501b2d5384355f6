/* rootfs_internal.h: what rootfs.c prepares and rootfs_attach.c does inside the sandbox's namespaces. */
#ifndef RP_SANDBOX_OCI_ROOTFS_INTERNAL_H
#define RP_SANDBOX_OCI_ROOTFS_INTERNAL_H

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/oci/rootfs.h"

/* Directories of the tiny root, mount points until the pivot. */
#define RP_TINY_NEW_ROOT "newroot"
#define RP_TINY_UPPER    "upper"
#define RP_TINY_LAYER    "layer%d"

struct rp_attachment {
    int userns, mntns;
    int layers[RP_ROOTFS_LAYERS_MAX]; /* detached idmapped mounts */
    char layer_paths[RP_ROOTFS_LAYERS_MAX][16];
    size_t layer_count;
    char lower[256]; /* as much as fsconfig(2) takes */
    int upper;       /* detached idmapped mount of the directory that holds upper and work */
    char upper_path[128], work_path[128];
    int files, sysfs;
    int limits; /* the host's /proc/sys/user */
    uint32_t uid_base;
    int errnum; /* of what failed */
    const char *what;
};

/* Runs in a child of rp_spawn_call: system calls only. 0, or 1 with errnum and what. */
int rp_attach_child(void *attachment);

/* glibc of Debian 12 has these wrappers only in part. */
static inline int rp_fsopen(const char *type)
{
    return (int)syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);
}

static inline int rp_fsconfig(int fs, unsigned command, const char *key, const char *value, int aux)
{
    return (int)syscall(SYS_fsconfig, fs, command, key, value, aux);
}

static inline int rp_fsmount(int fs, unsigned attributes)
{
    return (int)syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, attributes);
}

static inline int rp_open_tree(int dir, const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, dir, path, flags);
}

static inline int rp_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags)
{
    return (int)syscall(SYS_move_mount, from, from_path, to, to_path, flags);
}

static inline int rp_mount_setattr(int fd, struct mount_attr *attr)
{
    return (int)syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, attr, sizeof(*attr));
}

#endif
