/*
 * Paths of the peer, resolved by the kernel below the project: openat2(2) with RESOLVE_BENEATH, so that no
 * "..", symlink or magic link leads out, whatever the user's programs rename meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "init/files/helper.h"

enum { LINKS_MAX = 8, RETRIES = 16 };

int rp_path_clean(struct rp_str path, char ret[static RP_HELPER_PATH_SIZE])
{
    size_t n = 0;
    ret[0] = '\0';
    if (path.n > RP_FILES_PATH_MAX)
        return ENAMETOOLONG;
    if (path.n && memchr(path.p, '\0', path.n))
        return EINVAL;
    if (path.n && path.p[0] == '/')
        return EXDEV;
    while (path.n) {
        struct rp_str part = path;
        const char *slash = memchr(path.p, '/', path.n);
        if (slash) {
            part.n = (size_t)(slash - path.p);
            path = (struct rp_str){slash + 1, path.n - part.n - 1};
        } else {
            path.n = 0;
        }
        if (part.n == 0 || (part.n == 1 && part.p[0] == '.'))
            continue;
        if (part.n == 2 && part.p[0] == '.' && part.p[1] == '.')
            return EXDEV;
        if (part.n >= RP_HELPER_NAME_SIZE)
            return ENAMETOOLONG;
        if (n)
            ret[n++] = '/';
        memcpy(ret + n, part.p, part.n);
        n += part.n;
        ret[n] = '\0';
    }
    return 0;
}

int rp_path_get(struct rp_helper *h, struct rp_wire_reader *r, char ret[static RP_HELPER_PATH_SIZE])
{
    struct rp_str s = rp_wire_get_str(r, RP_FILES_PAYLOAD_MAX);
    if (r->bad)
        rp_helper_malformed(h);
    /* Whatever becomes of it, an error names the path as it was sent. */
    snprintf(h->detail, sizeof(h->detail), "path \"%.*s\"", (int)RP_MIN(s.n, (size_t)256), s.p);
    return rp_path_clean(s, ret);
}

int rp_path_open(const struct rp_helper *h, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    /* A rename at the same time makes the kernel unsure whether the path stayed inside: it asks to try again.
     * A lease gives the same errno, and stays. */
    for (int i = 0;; i++) {
        long fd = syscall(SYS_openat2, h->root, *path ? path : ".", &how, sizeof(how));
        if (fd >= 0)
            return (int)fd;
        if (errno == EINTR || (errno == EAGAIN && i < RETRIES))
            continue;
        return -errno;
    }
}

/* Splits at the last slash: the directory's part, "" for the project, and the name. */
static int split(const char *path, char ret_dir[static RP_HELPER_PATH_SIZE],
                 char ret_name[static RP_HELPER_NAME_SIZE])
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (strlen(name) >= RP_HELPER_NAME_SIZE)
        return ENAMETOOLONG;
    memcpy(ret_dir, path, n);
    ret_dir[n] = '\0';
    memcpy(ret_name, name, strlen(name) + 1);
    return 0;
}

int rp_path_parent(const struct rp_helper *h, const char *path, int *ret_dir,
                   char ret_name[static RP_HELPER_NAME_SIZE])
{
    char dir[RP_HELPER_PATH_SIZE];
    if (!*path)
        return EBUSY;
    int errnum = split(path, dir, ret_name);
    if (errnum)
        return errnum;
    int fd = rp_path_open(h, dir, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return -fd;
    *ret_dir = fd;
    return 0;
}

int rp_path_follow(const struct rp_helper *h, char path[static RP_HELPER_PATH_SIZE])
{
    for (int i = 0; i < LINKS_MAX; i++) {
        char dir[RP_HELPER_PATH_SIZE], name[RP_HELPER_NAME_SIZE], target[RP_HELPER_PATH_SIZE];
        _cleanup_close_ int parent = -1;
        int errnum = split(path, dir, name);
        if (errnum)
            return errnum;
        if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return EISDIR;
        parent = rp_path_open(h, dir, O_PATH | O_DIRECTORY);
        if (parent < 0)
            return -parent;
        ssize_t n = readlinkat(parent, name, target, sizeof(target) - 1);
        if (n < 0) /* no link, or nothing there: this is the place */
            return errno == EINVAL || errno == ENOENT ? 0 : errno;
        target[n] = '\0';
        if (target[0] == '/')
            return EXDEV;
        size_t d = strlen(dir);
        if (d + 1 + (size_t)n >= RP_HELPER_PATH_SIZE)
            return ENAMETOOLONG;
        /* Not shortened by us: the kernel resolves a ".." in it against what is really there. */
        if (d)
            path[d++] = '/';
        memcpy(path + d, target, (size_t)n + 1);
    }
    return ELOOP;
}

/* Opens what `probe` (O_PATH) showed to be a regular file. */
static int open_checked(int dir, const char *name, const struct rp_helper *h, const char *path, int *ret_fd,
                        struct stat *ret)
{
    /* A look first: to open a FIFO would already be felt by its writer. */
    _cleanup_close_ int probe =
        h ? rp_path_open(h, path, O_PATH) : openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (probe < 0)
        return h ? -probe : errno;
    if (fstat(probe, ret) < 0)
        return errno;
    if (S_ISDIR(ret->st_mode))
        return EISDIR;
    if (!S_ISREG(ret->st_mode))
        return EINVAL;
    int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
    _cleanup_close_ int fd =
        h ? rp_path_open(h, path, flags) : openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return h ? -fd : errno;
    if (fstat(fd, ret) < 0)
        return errno;
    if (!S_ISREG(ret->st_mode))
        return EINVAL;
    *ret_fd = RP_STEAL_FD(fd);
    return 0;
}

int rp_path_open_regular(const struct rp_helper *h, const char *path, int *ret_fd, struct stat *ret)
{
    return open_checked(-1, NULL, h, path, ret_fd, ret);
}

int rp_path_open_regular_at(int dir, const char *name, int *ret_fd, struct stat *ret)
{
    return open_checked(dir, name, NULL, NULL, ret_fd, ret);
}

int rp_path_open_directory_at(int dir, const char *name, int *ret_fd)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno;
    *ret_fd = fd;
    return 0;
}

int rp_path_make_parents(const struct rp_helper *h, const char *path)
{
    char part[RP_HELPER_PATH_SIZE];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t n = (size_t)(slash - path);
        memcpy(part, path, n);
        part[n] = '\0';
        _cleanup_close_ int there = rp_path_open(h, part, O_PATH | O_DIRECTORY);
        if (there >= 0)
            continue;
        if (there != -ENOENT)
            return -there;
        _cleanup_close_ int dir = -1;
        char name[RP_HELPER_NAME_SIZE];
        int errnum = rp_path_parent(h, part, &dir, name);
        if (errnum)
            return errnum;
        if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
            return errno;
    }
    return 0;
}

int rp_path_rename(int from_dir, const char *from, int to_dir, const char *to, bool replace)
{
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, replace ? 0U : 1U /* RENAME_NOREPLACE */);
}

bool rp_path_is_temporary(const char *name)
{
    return strncmp(name, RP_HELPER_TEMPORARY, sizeof(RP_HELPER_TEMPORARY) - 1) == 0;
}

void rp_path_temporary(char ret[static RP_HELPER_NAME_SIZE])
{
    uint64_t number;
    while (getrandom(&number, sizeof(number), 0) != sizeof(number))
        ;
    snprintf(ret, RP_HELPER_NAME_SIZE, RP_HELPER_TEMPORARY "%016llx", (unsigned long long)number);
}

void rp_path_etag(const struct stat *st, char ret[static RP_FILES_ETAG_MAX])
{
    uint64_t m = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
    uint64_t c = (uint64_t)st->st_ctim.tv_sec * 1000000000u + (uint64_t)st->st_ctim.tv_nsec;
    snprintf(ret, RP_FILES_ETAG_MAX, "%llx-%llx-%llx-%llx", (unsigned long long)st->st_ino,
             (unsigned long long)m, (unsigned long long)(c ^ m), (unsigned long long)st->st_size);
}
