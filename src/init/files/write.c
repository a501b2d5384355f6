/*
 * WRITE: a file appears whole or not at all. Temporary file, fsync, rename, fsync of the directory. The
 * temporary file has no name (O_TMPFILE) until it is complete, where the file system can.
 */
#include <errno.h>
#include <fcntl.h>

#include "init/files/helper.h"

struct target {
    int dir;
    char name[RP_HELPER_NAME_SIZE];
    uint8_t flags;
    char etag[RP_FILES_ETAG_MAX];
};

/* Does what is there now allow the write? Fills *mode from it when it keeps its own; etag "" : nothing there.
 */
static int check(const struct target *t, uint32_t *mode, char etag[static RP_FILES_ETAG_MAX])
{
    struct stat st;
    etag[0] = '\0';
    if (fstatat(t->dir, t->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != ENOENT)
            return errno;
        if (t->flags & RP_FILES_WRITE_MATCH)
            return ESTALE;
        *mode = *mode ?: 0644;
        return 0;
    }
    if (t->flags & RP_FILES_WRITE_CREATE_ONLY)
        return EEXIST;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    rp_path_etag(&st, etag);
    if ((t->flags & RP_FILES_WRITE_MATCH) && strcmp(etag, t->etag) != 0)
        return ESTALE;
    *mode = *mode ?: st.st_mode & 0777;
    return 0;
}

/* A file to write into; temporary[0] is NUL while it has no name. */
static int open_temporary(int dir, char temporary[static RP_HELPER_NAME_SIZE], int *ret_fd)
{
    temporary[0] = '\0';
    int fd = openat(dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
        rp_path_temporary(temporary);
        fd = openat(dir, temporary, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    }
    if (fd < 0)
        return errno;
    *ret_fd = fd;
    return 0;
}

static int name_temporary(int dir, int fd, char temporary[static RP_HELPER_NAME_SIZE])
{
    if (temporary[0])
        return 0;
    char self[64];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    rp_path_temporary(temporary);
    return linkat(AT_FDCWD, self, dir, temporary, AT_SYMLINK_FOLLOW) < 0 ? errno : 0;
}

/* Takes DATA frames until END. An error is told at once; what still comes is read and thrown away by the
 * caller (drain). *ret_ended says whether END was seen. */
static int take_content(struct rp_helper *h, int fd, uint64_t size, bool *ret_ended)
{
    uint64_t total = 0;
    *ret_ended = false;
    for (;;) {
        struct rp_wire_reader r;
        uint8_t type = rp_helper_receive(h, &r);
        if (type == RP_FILES_END) {
            *ret_ended = true;
            return size != UINT64_MAX && total != size ? EBADMSG : 0;
        }
        if (type != RP_FILES_DATA)
            rp_helper_malformed(h);
        total += r.length;
        if (total > size)
            return EFBIG;
        for (size_t at = 0; at < r.length;) {
            ssize_t n = write(fd, r.data + at, r.length - at);
            if (n < 0 && errno != EINTR)
                return errno;
            at += n > 0 ? (size_t)n : 0;
        }
    }
}

static int put_in_place(const struct target *t, int fd, uint32_t mode,
                        char temporary[static RP_HELPER_NAME_SIZE], char ret_etag[static RP_FILES_ETAG_MAX])
{
    struct stat st;
    /* Named before it is made durable: btrfs logs nothing of a file without a name. */
    int errnum = fchmod(fd, mode & 0777) < 0 ? errno : name_temporary(t->dir, fd, temporary);
    if (!errnum && fsync(fd) < 0)
        errnum = errno;
    if (!errnum)
        errnum = check(t, &mode, ret_etag); /* again: it may have changed while the content came */
    if (errnum)
        return errnum;
    if (rp_path_rename(t->dir, temporary, t->dir, t->name, !(t->flags & RP_FILES_WRITE_CREATE_ONLY)) < 0)
        return errno;
    temporary[0] = '\0';
    if (fsync(t->dir) < 0 || fstat(fd, &st) < 0)
        return errno;
    rp_path_etag(&st, ret_etag);
    return 0;
}

static void drain(struct rp_helper *h)
{
    for (;;) {
        struct rp_wire_reader r;
        uint8_t type = rp_helper_receive(h, &r);
        if (type == RP_FILES_END)
            return;
        if (type != RP_FILES_DATA)
            rp_helper_malformed(h);
    }
}

static int find_target(struct rp_helper *h, char path[static RP_HELPER_PATH_SIZE], struct target *t)
{
    if (!*path)
        return EISDIR;
    int errnum = t->flags & RP_FILES_WRITE_PARENTS ? rp_path_make_parents(h, path) : 0;
    if (!errnum)
        errnum = rp_path_follow(h, path);
    if (!errnum)
        errnum = rp_path_parent(h, path, &t->dir, t->name);
    return errnum;
}

int rp_helper_write(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE], etag[RP_FILES_ETAG_MAX] = "";
    _cleanup_(rp_close_fd) int dir = -1;
    _cleanup_close_ int fd = -1;
    struct target t = {.dir = -1};
    int errnum = rp_path_get(h, r, path);
    uint32_t mode = rp_wire_get_u32(r);
    t.flags = rp_wire_get_u8(r);
    struct rp_str want = rp_wire_get_str(r, RP_FILES_ETAG_MAX - 1);
    uint64_t size = rp_wire_get_u64(r);
    if (!rp_wire_finished(r) || mode > 0777 || (t.flags & ~7))
        rp_helper_malformed(h);
    if (want.n)
        memcpy(t.etag, want.p, want.n);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "write", path);
    char temporary[RP_HELPER_NAME_SIZE] = "";
    errnum = find_target(h, path, &t);
    dir = t.dir;
    if (!errnum)
        errnum = check(&t, &mode, etag);
    if (!errnum)
        errnum = open_temporary(dir, temporary, &fd);
    if (errnum)
        return errnum;
    if (temporary[0])
        rp_helper_undo_begin(h, dir, temporary);
    rp_helper_end(h, etag);
    bool ended;
    errnum = take_content(h, fd, size, &ended);
    if (!errnum)
        errnum = put_in_place(&t, fd, mode, temporary, etag);
    if (temporary[0])
        (void)unlinkat(dir, temporary, 0);
    rp_helper_undo_end(h);
    if (!errnum) {
        rp_helper_end(h, etag);
        return 0;
    }
    if (errnum == EDQUOT || errnum == ENOSPC) {
        /* What was written counts against the quota until the file system commits: without it, the next file, however
         * small, would be refused for the sake of one that is not there. */
        rp_close_fd(&fd);
        (void)syncfs(dir);
    }
    rp_helper_error(h, errnum);
    if (!ended)
        drain(h);
    return 0;
}
