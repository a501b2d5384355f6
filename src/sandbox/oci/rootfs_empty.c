/* Empties a directory whose content strangers made, with constant depth, memory and descriptors. */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "sandbox/oci/rootfs.h"

/* 1 when it is gone, 0 when it is a directory with something in it, or a negative errno. */
static int remove_one(int dir, const char *name)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 1;
    if (errno != EISDIR)
        return -errno;
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return 1;
    return errno == ENOTEMPTY || errno == EEXIST ? 0 : -errno;
}

static DIR *open_dir(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && fd >= 0)
        close(fd);
    return d;
}

static bool is_dot(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* Removes what it can of top/name, and moves the directories in it that are not empty up to top. */
static int flatten(int top, const char *name, uint64_t *counter)
{
    _cleanup_dir_ DIR *d = open_dir(top, name);
    if (!d)
        return -errno;
    struct dirent *e;
    while ((e = readdir(d))) {
        if (is_dot(e->d_name))
            continue;
        int r = remove_one(dirfd(d), e->d_name);
        if (r < 0)
            return r;
        while (r == 0) {
            char fresh[64];
            snprintf(fresh, sizeof(fresh), ".repld-removed-%llu", (unsigned long long)(*counter)++);
            /* The name may be taken by a stranger's file. */
            if (syscall(SYS_renameat2, dirfd(d), e->d_name, top, fresh, 1 /* RENAME_NOREPLACE */) == 0)
                break;
            if (errno != EEXIST)
                return -errno;
        }
    }
    return 0;
}

int rp_rootfs_empty(const char *dir, const char *name, struct rp_error *err)
{
    _cleanup_close_ int parent = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", dir);
    uint64_t counter = 0;
    int r = 0;
    for (bool again = true; again && r >= 0;) {
        again = false;
        _cleanup_dir_ DIR *top = open_dir(parent, name);
        if (!top)
            return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                       ? 0
                       : rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s/%s\"", dir, name);
        struct dirent *e;
        while (r >= 0 && (e = readdir(top))) {
            if (is_dot(e->d_name))
                continue;
            r = remove_one(dirfd(top), e->d_name);
            if (r == 0) {
                again = true; /* what was moved up may have been passed already */
                r = flatten(dirfd(top), e->d_name, &counter);
                if (r == 0)
                    r = remove_one(dirfd(top), e->d_name);
            }
        }
    }
    return r < 0 ? rp_error_errno(err, RP_ERROR_INTERNAL, -r, "empty \"%s/%s\"", dir, name) : 0;
}
