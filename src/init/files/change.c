/* MKDIR, MOVE, COPY and DELETE. They work on links themselves, not on what links point to. */
#include <errno.h>
#include <fcntl.h>

#include "init/files/helper.h"

int rp_helper_mkdir(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE], name[RP_HELPER_NAME_SIZE];
    _cleanup_close_ int dir = -1;
    int errnum = rp_path_get(h, r, path);
    bool parents = rp_wire_get_u8(r) != 0;
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "make directory", path);
    if (!*path)
        errnum = parents ? 0 : EEXIST;
    else {
        if (parents)
            errnum = rp_path_make_parents(h, path);
        if (!errnum)
            errnum = rp_path_parent(h, path, &dir, name);
        if (!errnum && mkdirat(dir, name, 0755) < 0) {
            _cleanup_close_ int there = -1;
            errnum = errno;
            if (errnum == EEXIST && parents && rp_path_open_directory_at(dir, name, &there) == 0)
                errnum = 0;
        }
        if (!errnum && fsync(dir) < 0)
            errnum = errno;
    }
    if (!errnum)
        rp_helper_end(h, "");
    return errnum;
}

/* The two ends of a move or copy, opened. */
struct ends {
    int from, to;
    char from_name[RP_HELPER_NAME_SIZE], to_name[RP_HELPER_NAME_SIZE];
    bool overwrite;
};

static void ends_done(struct ends *e)
{
    rp_close_fd(&e->from);
    rp_close_fd(&e->to);
}

static int open_ends(struct rp_helper *h, struct rp_wire_reader *r, const char *operation, struct ends *e)
{
    char from[RP_HELPER_PATH_SIZE], to[RP_HELPER_PATH_SIZE];
    struct stat st;
    int first = rp_path_get(h, r, from);
    if (first)
        return first;
    int second = rp_path_get(h, r, to);
    e->overwrite = rp_wire_get_u8(r) != 0;
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (second)
        return second;
    rp_helper_detail(h, operation, from);
    int errnum = rp_path_parent(h, from, &e->from, e->from_name);
    if (!errnum && fstatat(e->from, e->from_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        errnum = errno;
    if (errnum)
        return errnum;
    size_t n = strlen(from);
    if (strncmp(from, to, n) == 0 && (to[n] == '/' || to[n] == '\0'))
        return EINVAL; /* into itself, or onto itself */
    rp_helper_detail(h, operation, to);
    return rp_path_parent(h, to, &e->to, e->to_name);
}

/* Copies to a name of our own beside the goal, and takes the goal's name when all of it is there. */
static int copy_then_name(struct rp_helper *h, const struct ends *e)
{
    char temporary[RP_HELPER_NAME_SIZE];
    struct stat st;
    if (!e->overwrite && fstatat(e->to, e->to_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return EEXIST;
    rp_path_temporary(temporary);
    rp_helper_undo_begin(h, e->to, temporary);
    int errnum = rp_tree_copy(h, e->from, e->from_name, e->to, temporary);
    if (!errnum && rp_path_rename(e->to, temporary, e->to, e->to_name, e->overwrite) < 0)
        errnum = errno;
    if (!errnum && fsync(e->to) < 0)
        errnum = errno;
    if (errnum)
        (void)rp_tree_remove(h, e->to, temporary);
    rp_helper_undo_end(h);
    return errnum;
}

int rp_helper_move(struct rp_helper *h, struct rp_wire_reader *r)
{
    _cleanup_(ends_done) struct ends e = {.from = -1, .to = -1};
    int errnum = open_ends(h, r, "move", &e);
    if (errnum)
        return errnum;
    if (rp_path_rename(e.from, e.from_name, e.to, e.to_name, e.overwrite) < 0) {
        errnum = errno;
        /* Between two mounts of the project (node_modules is one): to the caller that is a move all the same.
         */
        if (errnum == EXDEV && !(errnum = copy_then_name(h, &e)))
            errnum = rp_tree_remove(h, e.from, e.from_name);
    }
    if (!errnum && (fsync(e.to) < 0 || fsync(e.from) < 0))
        errnum = errno;
    if (!errnum)
        rp_helper_end(h, "");
    return errnum;
}

int rp_helper_copy(struct rp_helper *h, struct rp_wire_reader *r)
{
    _cleanup_(ends_done) struct ends e = {.from = -1, .to = -1};
    int errnum = open_ends(h, r, "copy", &e);
    if (!errnum)
        errnum = copy_then_name(h, &e);
    if (!errnum)
        rp_helper_end(h, "");
    return errnum;
}

int rp_helper_delete(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE], name[RP_HELPER_NAME_SIZE];
    _cleanup_close_ int dir = -1;
    int errnum = rp_path_get(h, r, path);
    bool recursive = rp_wire_get_u8(r) != 0;
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "delete", path);
    errnum = rp_path_parent(h, path, &dir, name);
    if (errnum)
        return errnum;
    if (recursive)
        errnum = rp_tree_remove(h, dir, name);
    else if (unlinkat(dir, name, 0) < 0) {
        errnum = errno;
        if (errnum == EISDIR || errnum == EPERM)
            errnum = unlinkat(dir, name, AT_REMOVEDIR) < 0 ? errno : 0;
    }
    if (!errnum && fsync(dir) < 0)
        errnum = errno;
    if (!errnum)
        rp_helper_end(h, "");
    return errnum;
}
