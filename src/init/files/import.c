/*
 * IMPORT: entries are laid out in a directory of our own and moved into place when all of them arrived, so
 * that an upload that breaks off or holds something that is refused touches nothing.
 */
#include <errno.h>
#include <fcntl.h>

#include "init/files/helper.h"

struct import {
    struct rp_helper *h;
    struct rp_helper inside; /* whose root is the staging directory */
    int file;                /* that DATA goes to, or -1 */
};

/* A link's target must stay inside as far as names can tell: relative, and not above the project. */
static bool link_stays_inside(const char *path, const char *target)
{
    int depth = 0;
    if (!*target || *target == '/')
        return false;
    for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/'))
        depth++;
    while (*target) {
        size_t n = strcspn(target, "/");
        if (n == 2 && target[0] == '.' && target[1] == '.')
            depth--;
        else if (n && !(n == 1 && target[0] == '.'))
            depth++;
        if (depth < 0)
            return false;
        target += n;
        target += *target == '/';
    }
    return true;
}

static int take_entry(struct import *m, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE], target[RP_HELPER_PATH_SIZE], name[RP_HELPER_NAME_SIZE];
    rp_close_fd(&m->file);
    int errnum = rp_path_get(m->h, r, path);
    uint8_t kind = rp_wire_get_u8(r);
    uint32_t mode = rp_wire_get_u32(r) & 0777;
    (void)rp_wire_get_u64(r);
    (void)rp_wire_get_u64(r);
    struct rp_str link = rp_wire_get_str(r, RP_FILES_PATH_MAX);
    (void)rp_wire_get_str(r, RP_FILES_ETAG_MAX);
    if (!rp_wire_finished(r))
        rp_helper_malformed(m->h);
    rp_helper_detail(m->h, "entry", path);
    if (errnum)
        return errnum;
    if (!*path)
        return kind == RP_FILE_DIRECTORY ? 0 : EINVAL;
    if (rp_path_is_temporary(strrchr(path, '/') ? strrchr(path, '/') + 1 : path))
        return EINVAL;
    unsigned depth = 1;
    for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/'))
        if (++depth > RP_FILES_DEPTH_MAX)
            return ENAMETOOLONG;
    _cleanup_close_ int dir = -1;
    errnum = rp_path_make_parents(&m->inside, path);
    if (!errnum)
        errnum = rp_path_parent(&m->inside, path, &dir, name);
    if (errnum)
        return errnum;
    switch (kind) {
    case RP_FILE_DIRECTORY:
        if (mkdirat(dir, name, mode ? mode | 0700 : 0755) < 0 && errno != EEXIST)
            return errno;
        return 0;
    case RP_FILE_REGULAR:
        (void)unlinkat(dir, name, 0); /* the same name twice: the last one counts, as in tar */
        m->file = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, mode ? mode : 0644);
        return m->file < 0 ? errno : 0;
    case RP_FILE_SYMLINK:
        if (!rp_str_copy(target, sizeof(target), link) || !link_stays_inside(path, target))
            return EXDEV;
        (void)unlinkat(dir, name, 0);
        return symlinkat(target, dir, name) < 0 ? errno : 0;
    default:
        return EINVAL;
    }
}

static int take_entries(struct import *m, bool *ret_ended)
{
    *ret_ended = false;
    for (;;) {
        struct rp_wire_reader r;
        uint8_t type = rp_helper_receive(m->h, &r);
        int errnum = 0;
        if (type == RP_FILES_END) {
            *ret_ended = true;
            return 0;
        }
        if (type == RP_FILES_ENTRY) {
            errnum = take_entry(m, &r);
        } else if (type == RP_FILES_DATA && m->file >= 0) {
            for (size_t at = 0; at < r.length && !errnum;) {
                ssize_t n = write(m->file, r.data + at, r.length - at);
                if (n < 0 && errno != EINTR)
                    errnum = errno;
                at += n > 0 ? (size_t)n : 0;
            }
        } else {
            rp_helper_malformed(m->h);
        }
        if (errnum)
            return errnum;
    }
}

static void drain(struct rp_helper *h)
{
    for (;;) {
        struct rp_wire_reader r;
        uint8_t type = rp_helper_receive(h, &r);
        if (type == RP_FILES_END)
            return;
        if (type != RP_FILES_DATA && type != RP_FILES_ENTRY)
            rp_helper_malformed(h);
    }
}

/* Everything in dir but our own names, among which is the staging directory. */
static int remove_old(struct rp_helper *h, int dir)
{
    _cleanup_names_ struct rp_names names = {0};
    int errnum = rp_names_read(dir, 1000000, &names);
    for (size_t i = 0; i < names.count && !errnum; i++) {
        errnum = rp_tree_remove(h, dir, names.list[i]);
        if (errnum == EBUSY) /* a mount of the project's own, e.g. node_modules: it stays, now empty */
            errnum = 0;
    }
    return errnum;
}

int rp_helper_import(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE], temporary[RP_HELPER_NAME_SIZE];
    int errnum = rp_path_get(h, r, path);
    bool replace = rp_wire_get_u8(r) != 0, ended = false;
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "import", path);
    _cleanup_close_ int dir = rp_path_open(h, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (dir < 0)
        return -dir;
    rp_tree_sweep(h, dir);
    rp_path_temporary(temporary);
    if (mkdirat(dir, temporary, 0755) < 0)
        return errno;
    rp_helper_undo_begin(h, dir, temporary);
    _cleanup_close_ int staging = -1;
    errnum = rp_path_open_directory_at(dir, temporary, &staging);
    if (errnum) {
        rp_helper_undo_end(h);
        return errnum;
    }
    struct import m = {.h = h, .inside = {.root = staging}, .file = -1};
    rp_helper_end(h, "");
    errnum = take_entries(&m, &ended);
    rp_close_fd(&m.file);
    if (!errnum) {
        rp_helper_detail(h, "import", path);
        if (replace)
            errnum = remove_old(h, dir);
        if (!errnum)
            errnum = rp_tree_merge(h, staging, dir, 0);
        if (!errnum && syncfs(dir) < 0)
            errnum = errno;
    }
    (void)rp_tree_remove(h, dir, temporary);
    rp_helper_undo_end(h);
    if (!errnum) {
        rp_helper_end(h, "");
        return 0;
    }
    rp_helper_error(h, errnum);
    if (!ended)
        drain(h);
    return 0;
}
