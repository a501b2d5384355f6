/* STAT, LIST, READ and EXPORT: what only looks. */
#include <errno.h>
#include <fcntl.h>

#include "init/files/helper.h"

enum { LIST_MAX = 1000000 };

static uint8_t kind(mode_t mode)
{
    return S_ISREG(mode)   ? RP_FILE_REGULAR
           : S_ISDIR(mode) ? RP_FILE_DIRECTORY
           : S_ISLNK(mode) ? RP_FILE_SYMLINK
                           : RP_FILE_OTHER;
}

int rp_helper_send_entry(struct rp_helper *h, int dir, const char *name, const char *path,
                         const struct stat *st)
{
    char target[RP_HELPER_PATH_SIZE] = "", etag[RP_FILES_ETAG_MAX] = "";
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
        if (n < 0)
            return errno;
        target[n] = '\0';
    }
    if (S_ISREG(st->st_mode))
        rp_path_etag(st, etag);
    struct rp_wire_writer w = rp_helper_begin(h, RP_FILES_ENTRY);
    rp_wire_put_str(&w, rp_str_of(path));
    rp_wire_put_u8(&w, kind(st->st_mode));
    rp_wire_put_u32(&w, st->st_mode & 07777);
    rp_wire_put_u64(&w, S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0);
    rp_wire_put_u64(&w, (uint64_t)((int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec));
    rp_wire_put_str(&w, rp_str_of(target));
    rp_wire_put_str(&w, rp_str_of(etag));
    rp_helper_commit(h, &w);
    return 0;
}

int rp_helper_stat(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE], name[RP_HELPER_NAME_SIZE];
    struct stat st;
    _cleanup_close_ int dir = -1;
    int errnum = rp_path_get(h, r, path);
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "stat", path);
    if (!*path) {
        dir = rp_path_open(h, "", O_RDONLY | O_DIRECTORY);
        if (dir < 0)
            return -dir;
        name[0] = '.', name[1] = '\0';
    } else if ((errnum = rp_path_parent(h, path, &dir, name))) {
        return errnum;
    }
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno;
    errnum = rp_helper_send_entry(h, dir, name, "", &st);
    if (!errnum)
        rp_helper_end(h, "");
    return errnum;
}

/* ---- LIST ---- */

struct listing {
    struct rp_helper *h;
    uint32_t left;
    bool truncated;
    char path[RP_HELPER_PATH_SIZE];
};

/* Appends "/name" to path of length n; 0 when it is too long. */
static size_t push(char path[static RP_HELPER_PATH_SIZE], size_t n, const char *name)
{
    size_t m = strlen(name);
    if (n + 1 + m >= RP_HELPER_PATH_SIZE)
        return 0;
    if (n)
        path[n++] = '/';
    memcpy(path + n, name, m + 1);
    return n + m;
}

static int list_directory(struct listing *l, int dir, size_t n, uint32_t depth)
{
    _cleanup_names_ struct rp_names names;
    int errnum = rp_names_read(dir, LIST_MAX, &names);
    if (errnum)
        return n ? 0 : errnum; /* one that may not be read is shown, without what is in it */
    l->truncated |= names.truncated;
    for (size_t i = 0; i < names.count; i++) {
        struct stat st;
        rp_helper_still_wanted(l->h);
        if (!l->left) {
            l->truncated = true;
            return 0;
        }
        size_t m = push(l->path, n, names.list[i]);
        if (!m) {
            l->truncated = true;
            continue;
        }
        if (fstatat(dir, names.list[i], &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            rp_helper_send_entry(l->h, dir, names.list[i], l->path, &st) == 0) {
            l->left--;
            _cleanup_close_ int below = -1;
            if (S_ISDIR(st.st_mode) && depth > 1 &&
                rp_path_open_directory_at(dir, names.list[i], &below) == 0)
                (void)list_directory(l, below, m, depth - 1);
        }
        l->path[n] = '\0';
    }
    return 0;
}

int rp_helper_list(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE];
    int errnum = rp_path_get(h, r, path);
    uint32_t depth = rp_wire_get_u32(r), limit = rp_wire_get_u32(r);
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "list", path);
    _cleanup_close_ int dir = rp_path_open(h, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (dir < 0)
        return -dir;
    struct listing l = {.h = h, .left = RP_MIN(limit ?: 1, (uint32_t)LIST_MAX)};
    errnum = list_directory(&l, dir, 0, RP_MIN(depth ?: 1, (uint32_t)RP_FILES_DEPTH_MAX));
    if (errnum)
        return errnum;
    if (l.truncated)
        rp_helper_truncated(h);
    rp_helper_end(h, "");
    return 0;
}

/* ---- READ ---- */

int rp_helper_read(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE];
    int errnum = rp_path_get(h, r, path);
    uint64_t offset = rp_wire_get_u64(r), length = rp_wire_get_u64(r);
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "read", path);
    struct stat st;
    _cleanup_close_ int fd = -1;
    errnum = rp_path_open_regular(h, path, &fd, &st);
    if (!errnum)
        errnum = rp_helper_send_entry(h, fd, "", "", &st);
    if (errnum)
        return errnum;
    if (offset > INT64_MAX)
        length = 0;
    while (length) {
        ssize_t n = pread(fd, h->data, (size_t)RP_MIN(length, (uint64_t)sizeof(h->data)), (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            break;
        rp_helper_send_data(h, h->data, (size_t)n);
        offset += (uint64_t)n;
        length -= (uint64_t)n;
    }
    rp_helper_end(h, "");
    return 0;
}

/* ---- EXPORT ---- */

/* Exactly `size` bytes, whatever happens to the file meanwhile: an archive has announced them. */
static int send_content(struct rp_helper *h, int fd, uint64_t size)
{
    for (uint64_t at = 0; at < size;) {
        size_t want = (size_t)RP_MIN(size - at, (uint64_t)sizeof(h->data));
        ssize_t n = pread(fd, h->data, want, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0) {
            memset(h->data, 0, want);
            n = (ssize_t)want;
        }
        rp_helper_send_data(h, h->data, (size_t)n);
        at += (uint64_t)n;
    }
    return 0;
}

static int export_directory(struct listing *l, int dir, size_t n, uint32_t depth)
{
    if (depth > RP_FILES_DEPTH_MAX)
        return ENAMETOOLONG;
    _cleanup_names_ struct rp_names names;
    int errnum = rp_names_read(dir, LIST_MAX, &names);
    if (errnum)
        return errnum;
    for (size_t i = 0; i < names.count && !errnum; i++) {
        const char *name = names.list[i];
        struct stat st;
        rp_helper_still_wanted(l->h);
        size_t m = push(l->path, n, name);
        if (!m)
            return ENAMETOOLONG;
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            errnum = errno == ENOENT ? 0 : errno; /* removed since: not an error */
        } else {
            _cleanup_close_ int fd = -1;
            rp_helper_detail(l->h, "read", l->path);
            if (S_ISREG(st.st_mode))
                errnum = rp_path_open_regular_at(dir, name, &fd, &st);
            else if (S_ISDIR(st.st_mode))
                errnum = rp_path_open_directory_at(dir, name, &fd);
            if (errnum == ENOENT) {
                errnum = 0;
            } else if (!errnum && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode))) {
                errnum = rp_helper_send_entry(l->h, dir, name, l->path, &st);
                if (!errnum && S_ISREG(st.st_mode))
                    errnum = send_content(l->h, fd, (uint64_t)st.st_size);
                if (!errnum && S_ISDIR(st.st_mode))
                    errnum = export_directory(l, fd, m, depth + 1);
            }
        }
        l->path[n] = '\0';
    }
    return errnum;
}

int rp_helper_export(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE];
    int errnum = rp_path_get(h, r, path);
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "export", path);
    _cleanup_close_ int dir = rp_path_open(h, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (dir < 0)
        return -dir;
    struct listing l = {.h = h};
    errnum = export_directory(&l, dir, 0, 1);
    if (!errnum)
        rp_helper_end(h, "");
    return errnum;
}
