#include "domain/stack_internal.h"

#include <fcntl.h>
#include <sys/stat.h>

int rp_stack_read_file(struct rp_arena *a, int dirfd, const char *name, const char *shown, size_t max,
                       struct rp_str *ret, struct rp_error *err)
{
    _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INVALID, errno, "open \"%s\"", shown);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return rp_error_errno(err, RP_ERROR_INVALID, errno, "stat \"%s\"", shown);
    if (!S_ISREG(st.st_mode))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not a regular file", shown);
    if ((uint64_t)st.st_size > max)
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is larger than %zu bytes", shown, max);
    size_t size = (size_t)st.st_size, n = 0;
    char *p = rp_arena_alloc(a, size + 1);
    while (n < size) {
        ssize_t got = read(fd, p + n, size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return rp_error_errno(err, RP_ERROR_INVALID, errno, "read \"%s\"", shown);
        if (got == 0)
            break;
        n += (size_t)got;
    }
    *ret = (struct rp_str){p, n};
    return 0;
}

bool rp_stack_path_valid(struct rp_str path)
{
    if (path.n == 0 || path.n > 255 || !rp_utf8_valid(path.p, path.n))
        return false;
    for (size_t i = 0; i < path.n; i++)
        if ((unsigned char)path.p[i] < ' ' || path.p[i] == 0x7f || path.p[i] == '\\')
            return false;
    struct rp_str rest = path;
    for (;;) {
        const char *slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;
        struct rp_str part = {rest.p, slash ? (size_t)(slash - rest.p) : rest.n};
        if (part.n == 0 || rp_str_is(part, ".") || rp_str_is(part, ".."))
            return false;
        if (!slash)
            return true;
        rest = (struct rp_str){slash + 1, rest.n - part.n - 1};
    }
}

struct tree {
    struct rp_arena *arena;
    struct rp_recipe_file *files;
    size_t count, bytes;
};

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct rp_recipe_file *)a)->path, ((const struct rp_recipe_file *)b)->path);
}

/* prefix: the path below the tree's root, "" or "etc/vim/"; shown: the folder for errors. */
static int walk(struct tree *t, int dirfd, const char *folder, const char *prefix, const char *shown,
                unsigned depth, struct rp_error *err)
{
    if (depth > 16)
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is nested too deeply", shown);
    _cleanup_close_ int fd = openat(dirfd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INVALID, errno, "open \"%s\"", shown);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    _cleanup_dir_ DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir)
        return rp_error_errno(err, RP_ERROR_INVALID, errno, "open \"%s\"", shown);
    struct dirent *e;
    while ((errno = 0, e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        _cleanup_free_ char *path = rp_asprintf("%s%s", prefix, e->d_name);
        _cleanup_free_ char *full = rp_asprintf("%s/%s", shown, e->d_name);
        struct stat st;
        if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return rp_error_errno(err, RP_ERROR_INVALID, errno, "stat \"%s\"", full);
        if (S_ISDIR(st.st_mode)) {
            _cleanup_free_ char *inner = rp_asprintf("%s/", path);
            if (walk(t, fd, e->d_name, inner, full, depth + 1, err) < 0)
                return -1;
            continue;
        }
        if (!rp_stack_path_valid(rp_str_of(path)))
            return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not a valid name in a template", full);
        if (t->count == RP_STACK_TREE_FILES_MAX)
            return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" has more than %d files", shown,
                                RP_STACK_TREE_FILES_MAX);
        struct rp_recipe_file *f = &t->files[t->count];
        if (rp_stack_read_file(t->arena, fd, e->d_name, full, RP_STACK_TREE_BYTES_MAX - t->bytes, &f->content,
                               err) < 0)
            return -1;
        f->path = rp_arena_str(t->arena, rp_str_of(path));
        f->executable = st.st_mode & 0100;
        t->bytes += f->content.n;
        t->count++;
    }
    if (errno)
        return rp_error_errno(err, RP_ERROR_INVALID, errno, "read \"%s\"", shown);
    return 0;
}

int rp_stack_read_tree(struct rp_arena *a, int dirfd, const char *path, const char *shown, bool optional,
                       const struct rp_recipe_file **ret, size_t *ret_count, struct rp_error *err)
{
    *ret = NULL;
    *ret_count = 0;
    struct stat st;
    if (optional && fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
        return 0;
    struct tree t = {.arena = a,
                     .files = rp_arena_alloc(a, RP_STACK_TREE_FILES_MAX * sizeof(struct rp_recipe_file))};
    if (walk(&t, dirfd, path, "", shown, 0, err) < 0)
        return -1;
    qsort(t.files, t.count, sizeof(*t.files), compare_files);
    *ret = t.files;
    *ret_count = t.count;
    return 0;
}
