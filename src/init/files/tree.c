/* Whole directories: remove, copy, merge; by descriptors, so that nothing that is renamed meanwhile leads
 * out. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <time.h>

#include "init/files/helper.h"

enum { REMOVE_DEPTH = 32, NAMES_MAX = 1000000, OLD_SECONDS = 3600 };

/* ---- remove ---- */

/* Opens a directory that is to be emptied; one without permission is made ours first. */
static int open_to_empty(int parent, const char *name, int *ret_fd)
{
    int errnum = rp_path_open_directory_at(parent, name, ret_fd);
    if (errnum == EACCES && fchmodat(parent, name, 0700, 0) == 0)
        errnum = rp_path_open_directory_at(parent, name, ret_fd);
    return errnum;
}

/*
 * Empties dir. A directory deeper than REMOVE_DEPTH is moved up to `top`, where the caller meets it again: so
 * any depth goes with a bounded number of descriptors. *moved says that there is more in top.
 */
static int empty_directory(struct rp_helper *h, int top, int dir, unsigned depth, bool *moved)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return errno;
    (void)fchmod(fd, 0700); /* a directory without w keeps its entries */
    struct dirent *e;
    while (errno = 0, (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        rp_helper_still_wanted(h);
        if (unlinkat(dir, e->d_name, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != EISDIR && errno != EPERM)
            return errno;
        if (unlinkat(dir, e->d_name, AT_REMOVEDIR) == 0 || errno == ENOENT)
            continue;
        if (errno != ENOTEMPTY && errno != EEXIST && errno != EACCES)
            return errno;
        if (depth >= REMOVE_DEPTH) {
            char name[RP_HELPER_NAME_SIZE];
            rp_path_temporary(name);
            /* Its ".." changes, which is a write: so it must be writable. */
            if (fchmodat(dir, e->d_name, 0700, 0) < 0 || renameat(dir, e->d_name, top, name) < 0)
                return errno;
            *moved = true;
            continue;
        }
        _cleanup_close_ int below = -1;
        int errnum = open_to_empty(dir, e->d_name, &below);
        if (!errnum)
            errnum = empty_directory(h, top, below, depth + 1, moved);
        if (!errnum && unlinkat(dir, e->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            errnum = errno;
        if (errnum)
            return errnum;
    }
    return errno;
}

int rp_tree_remove(struct rp_helper *h, int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    _cleanup_close_ int dir = -1;
    int errnum = open_to_empty(parent, name, &dir);
    if (errnum)
        return errnum;
    bool moved;
    do {
        moved = false;
        errnum = empty_directory(h, dir, dir, 1, &moved);
        if (errnum)
            return errnum;
    } while (moved);
    return unlinkat(parent, name, AT_REMOVEDIR) < 0 ? errno : 0;
}

void rp_tree_sweep(struct rp_helper *h, int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        struct stat st;
        if (rp_path_is_temporary(e->d_name) && fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            time(NULL) - st.st_ctime > OLD_SECONDS)
            (void)rp_tree_remove(h, dir, e->d_name);
    }
}

/* ---- copy ---- */

/* The bytes from at to end; in the kernel where it can. */
static int copy_range(struct rp_helper *h, int in, int out, off_t at, off_t end)
{
    while (at < end) {
        off_t from = at, to = at;
        ssize_t n = copy_file_range(in, &from, out, &to, (size_t)RP_MIN(end - at, (off_t)(16 << 20)), 0);
        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) {
            n = pread(in, h->data, (size_t)RP_MIN(end - at, (off_t)sizeof(h->data)), at);
            if (n > 0)
                n = pwrite(out, h->data, (size_t)n, at);
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return 0; /* it shrank meanwhile */
        at += n;
        rp_helper_still_wanted(h);
    }
    return 0;
}

/* Holes stay holes: a sparse file must not outgrow the quota by being copied. */
static int copy_content(struct rp_helper *h, int in, int out, off_t size)
{
    if (ioctl(out, FICLONE, in) == 0)
        return 0;
    for (off_t at = 0; at < size;) {
        off_t data = lseek(in, at, SEEK_DATA), hole;
        if (data < 0 && errno == ENXIO)
            break;
        if (data < 0) {
            data = at;
            hole = size;
        } else if ((hole = lseek(in, data, SEEK_HOLE)) < 0) {
            hole = size;
        }
        int errnum = copy_range(h, in, out, data, RP_MIN(hole, size));
        if (errnum)
            return errnum;
        at = RP_MAX(hole, at + 1);
    }
    return ftruncate(out, size) < 0 ? errno : 0;
}

static int copy_file(struct rp_helper *h, int from, const char *name, int to, const char *as)
{
    struct stat st;
    _cleanup_close_ int in = -1;
    int errnum = rp_path_open_regular_at(from, name, &in, &st);
    if (errnum)
        return errnum;
    _cleanup_close_ int out = openat(to, as, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return errno;
    errnum = copy_content(h, in, out, st.st_size);
    if (!errnum && (fchmod(out, st.st_mode & 0777) < 0 || fsync(out) < 0))
        errnum = errno;
    return errnum;
}

static int copy_entry(struct rp_helper *h, int from, const char *name, int to, const char *as,
                      unsigned depth);

static int copy_directory(struct rp_helper *h, int from, const char *name, int to, const char *as,
                          const struct stat *st, unsigned depth)
{
    if (depth > RP_FILES_DEPTH_MAX)
        return ENAMETOOLONG;
    _cleanup_close_ int in = -1, out = -1;
    if (mkdirat(to, as, 0700) < 0)
        return errno;
    int errnum = rp_path_open_directory_at(from, name, &in);
    if (!errnum)
        errnum = rp_path_open_directory_at(to, as, &out);
    if (errnum)
        return errnum;
    _cleanup_names_ struct rp_names names = {0};
    errnum = rp_names_read(in, NAMES_MAX, &names);
    for (size_t i = 0; i < names.count && !errnum; i++) {
        rp_helper_still_wanted(h);
        errnum = copy_entry(h, in, names.list[i], out, names.list[i], depth + 1);
    }
    if (!errnum && fchmod(out, st->st_mode & 0777) < 0)
        errnum = errno;
    return errnum;
}

static int copy_entry(struct rp_helper *h, int from, const char *name, int to, const char *as, unsigned depth)
{
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno;
    if (S_ISREG(st.st_mode))
        return copy_file(h, from, name, to, as);
    if (S_ISDIR(st.st_mode))
        return copy_directory(h, from, name, to, as, &st, depth);
    if (S_ISLNK(st.st_mode)) {
        char target[RP_HELPER_PATH_SIZE];
        ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);
        if (n < 0)
            return errno;
        target[n] = '\0';
        return symlinkat(target, to, as) < 0 ? errno : 0;
    }
    return depth ? 0 : EINVAL; /* sockets and FIFOs are no content: left out below, refused by name */
}

int rp_tree_copy(struct rp_helper *h, int from, const char *name, int to, const char *as)
{
    return copy_entry(h, from, name, to, as, 0);
}

/* ---- merge ---- */

static bool is_directory(int dir, const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int merge_entry(struct rp_helper *h, int from, int to, const char *name, unsigned depth)
{
    if (rp_path_rename(from, name, to, name, false) == 0)
        return 0;
    if (errno != EEXIST && errno != EBUSY)
        return errno;
    bool directory = is_directory(from, name);
    if (directory && is_directory(to, name)) {
        _cleanup_close_ int a = -1, b = -1;
        int errnum = rp_path_open_directory_at(from, name, &a);
        if (!errnum)
            errnum = rp_path_open_directory_at(to, name, &b);
        return errnum ?: rp_tree_merge(h, a, b, depth + 1);
    }
    if (directory || is_directory(to, name)) {
        int errnum = rp_tree_remove(h, to, name);
        if (errnum)
            return errnum;
    }
    return renameat(from, name, to, name) < 0 ? errno : 0;
}

int rp_tree_merge(struct rp_helper *h, int from, int to, unsigned depth)
{
    if (depth > RP_FILES_DEPTH_MAX)
        return ENAMETOOLONG;
    _cleanup_names_ struct rp_names names = {0};
    int errnum = rp_names_read(from, NAMES_MAX, &names);
    for (size_t i = 0; i < names.count && !errnum; i++)
        errnum = merge_entry(h, from, to, names.list[i], depth);
    return errnum;
}
