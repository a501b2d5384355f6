/*
 * WATCH: inotify(7) on every directory below a path, gathered for 50 ms. Directories that hold installed
 * packages or a version store are not watched: they are large, and nobody looks at them as they change.
 *
 * A directory is a node with its parent and name, so that a move of one renames all that is below. When
 * something cannot be followed (too many directories or events) OVERFLOW says so once: list again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/inotify.h>
#include <time.h>

#include "init/files/helper.h"

enum {
    NODES_MAX = 8192,
    PENDING_MAX = 4096, /* different events in one group */
    GROUP_MS = 50,
    NAMES_MAX = 100000,
    MASK = IN_CREATE | IN_DELETE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR | IN_EXCL_UNLINK,
};

struct node {
    int wd; /* -1: free */
    int parent;
    char *name;
};

struct pending {
    uint8_t type;
    char *path, *to;
};

struct watch {
    struct rp_helper *h;
    int inotify;
    struct node nodes[NODES_MAX];
    int count; /* nodes ever used */
    struct pending pending[PENDING_MAX];
    int pending_count;
    bool overflow;
    /* a MOVED_FROM that waits for its MOVED_TO */
    uint32_t cookie;
    char *moved_from;
    bool moved_directory;
    int moved_node;
};

static bool left_out(const char *name)
{
    static const char *const names[] = {"node_modules", ".venv", "__pycache__", ".git"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static int find_wd(const struct watch *w, int wd)
{
    for (int i = 0; i < w->count; i++)
        if (w->nodes[i].wd == wd)
            return i;
    return -1;
}

static int find_child(const struct watch *w, int parent, const char *name)
{
    for (int i = 1; i < w->count; i++)
        if (w->nodes[i].wd >= 0 && w->nodes[i].parent == parent && strcmp(w->nodes[i].name, name) == 0)
            return i;
    return -1;
}

/* The path of name in node; NULL when it is too long or a parent is gone. The caller frees. */
static char *path_of(const struct watch *w, int node, const char *name)
{
    char path[RP_HELPER_PATH_SIZE];
    size_t at = sizeof(path) - 1, n = strlen(name);
    path[at] = '\0';
    for (;;) {
        if (n > at)
            return NULL;
        at -= n;
        memcpy(path + at, name, n);
        if (node <= 0)
            return node < 0 ? NULL : strdup(path + at);
        if (!at)
            return NULL;
        path[--at] = '/';
        name = w->nodes[node].name;
        n = strlen(name);
        node = w->nodes[node].wd < 0 ? -1 : w->nodes[node].parent;
    }
}

/* ---- events out ---- */

static void send_event(struct watch *w, uint8_t type, const char *path, const char *to)
{
    struct rp_wire_writer out = rp_helper_begin(w->h, RP_FILES_EVENT);
    rp_wire_put_u8(&out, type);
    rp_wire_put_str(&out, rp_str_of(path));
    rp_wire_put_str(&out, rp_str_of(to));
    rp_helper_commit(w->h, &out);
}

static void flush(struct watch *w)
{
    for (int i = 0; i < w->pending_count; i++) {
        struct pending *p = &w->pending[i];
        if (!w->overflow && p->type)
            send_event(w, p->type, p->path, p->to ?: "");
        free(p->path);
        free(p->to);
    }
    w->pending_count = 0;
    if (w->overflow)
        send_event(w, RP_FILES_EVENT_OVERFLOW, "", "");
    w->overflow = false;
    rp_helper_flush(w->h);
}

/* Takes path and to. */
static void add(struct watch *w, uint8_t type, char *path, char *to)
{
    if (!path || w->pending_count == PENDING_MAX) {
        w->overflow = true;
        free(path);
        free(to);
        return;
    }
    /* The same file changed again, or changed right after it was made: once is enough. */
    for (int i = w->pending_count - 1; i >= 0 && type == RP_FILES_EVENT_CHANGED; i--) {
        const struct pending *p = &w->pending[i];
        if (p->type != RP_FILES_EVENT_CHANGED && p->type != RP_FILES_EVENT_CREATED) {
            if (strcmp(p->path, path) == 0)
                break;
        } else if (strcmp(p->path, path) == 0) {
            free(path);
            free(to);
            return;
        }
    }
    w->pending[w->pending_count++] = (struct pending){type, path, to};
}

/* ---- directories ---- */

static void forget_node(struct watch *w, int node)
{
    for (int i = 1; i < w->count; i++)
        if (w->nodes[i].wd >= 0 && w->nodes[i].parent == node)
            forget_node(w, i);
    (void)inotify_rm_watch(w->inotify, w->nodes[node].wd);
    w->nodes[node].wd = -1;
    free(w->nodes[node].name);
    w->nodes[node].name = NULL;
}

/* Watches dir and what is below it. `announce`: it is new, so what is in it is new as well. */
static void add_directory(struct watch *w, int dir, int parent, const char *name, unsigned depth,
                          bool announce)
{
    int node = -1;
    for (int i = 0; i < NODES_MAX && node < 0; i++)
        if (i >= w->count || w->nodes[i].wd < 0)
            node = i;
    char self[64];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", dir);
    int wd = node < 0 || depth > RP_FILES_DEPTH_MAX ? -1 : inotify_add_watch(w->inotify, self, MASK);
    char *copy = wd < 0 ? NULL : strdup(name);
    if (!copy) {
        w->overflow = true;
        return;
    }
    int known = find_wd(w, wd); /* the same directory again: it has moved */
    if (known >= 0) {
        free(w->nodes[known].name);
        w->nodes[known].name = copy;
        w->nodes[known].parent = parent;
        return;
    }
    w->nodes[node] = (struct node){wd, parent, copy};
    w->count = RP_MAX(w->count, node + 1);
    _cleanup_names_ struct rp_names names = {0};
    if (rp_names_read(dir, NAMES_MAX, &names))
        return;
    w->overflow |= names.truncated;
    for (size_t i = 0; i < names.count; i++) {
        struct stat st;
        _cleanup_close_ int below = -1;
        if (fstatat(dir, names.list[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (announce)
            add(w, RP_FILES_EVENT_CREATED, path_of(w, node, names.list[i]), NULL);
        if (S_ISDIR(st.st_mode) && !left_out(names.list[i]) &&
            rp_path_open_directory_at(dir, names.list[i], &below) == 0)
            add_directory(w, below, node, names.list[i], depth + 1, announce);
    }
}

static void new_directory(struct watch *w, int node, const char *name)
{
    if (left_out(name))
        return;
    char *path = path_of(w, node, name);
    _cleanup_close_ int dir = -1;
    if (path) {
        /* By path below the project: the node's directory may have moved meanwhile, then there is an event.
         */
        dir = rp_path_open(w->h, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        free(path);
    }
    if (dir >= 0)
        add_directory(w, dir, node, name, 1, true);
}

/* ---- events in ---- */

/* A MOVED_FROM without its MOVED_TO: it left the watched tree. */
static void end_move(struct watch *w)
{
    if (!w->moved_from)
        return;
    add(w, RP_FILES_EVENT_DELETED, RP_STEAL_PTR(w->moved_from), NULL);
    if (w->moved_node >= 0)
        forget_node(w, w->moved_node);
    w->moved_node = -1;
}

static void moved_to(struct watch *w, int node, const struct inotify_event *e)
{
    if (!w->moved_from || e->cookie != w->cookie) {
        end_move(w);
        /* From outside, or from a temporary name: the file was replaced, which is how editors save. */
        add(w, e->mask & IN_ISDIR ? RP_FILES_EVENT_CREATED : RP_FILES_EVENT_CHANGED,
            path_of(w, node, e->name), NULL);
        if (e->mask & IN_ISDIR)
            new_directory(w, node, e->name);
        return;
    }
    add(w, RP_FILES_EVENT_MOVED, RP_STEAL_PTR(w->moved_from), path_of(w, node, e->name));
    if (w->moved_node >= 0) {
        char *copy = strdup(e->name);
        if (copy) {
            free(w->nodes[w->moved_node].name);
            w->nodes[w->moved_node].name = copy;
            w->nodes[w->moved_node].parent = node;
        }
    } else if (e->mask & IN_ISDIR) {
        new_directory(w, node, e->name);
    }
    w->moved_node = -1;
}

static void take(struct watch *w, const struct inotify_event *e)
{
    if (e->mask & IN_Q_OVERFLOW) {
        w->overflow = true;
        return;
    }
    int node = find_wd(w, e->wd);
    if (node < 0)
        return;
    if (e->mask & IN_IGNORED) {
        if (node > 0)
            forget_node(w, node);
        return;
    }
    if (!e->len)
        return;
    if (!(e->mask & IN_MOVED_TO))
        end_move(w);
    if (rp_path_is_temporary(e->name))
        return;
    if (e->mask & IN_MOVED_FROM) {
        w->moved_from = path_of(w, node, e->name);
        w->cookie = e->cookie;
        w->moved_node = e->mask & IN_ISDIR ? find_child(w, node, e->name) : -1;
    } else if (e->mask & IN_MOVED_TO) {
        moved_to(w, node, e);
    } else if (e->mask & IN_CREATE) {
        add(w, RP_FILES_EVENT_CREATED, path_of(w, node, e->name), NULL);
        if (e->mask & IN_ISDIR)
            new_directory(w, node, e->name);
    } else if (e->mask & IN_DELETE) {
        add(w, RP_FILES_EVENT_DELETED, path_of(w, node, e->name), NULL);
    } else if (e->mask & IN_MODIFY) {
        add(w, RP_FILES_EVENT_CHANGED, path_of(w, node, e->name), NULL);
    }
}

static void read_events(struct watch *w)
{
    _Alignas(struct inotify_event) char bytes[65536];
    ssize_t n = read(w->inotify, bytes, sizeof(bytes));
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const struct inotify_event *)(bytes + at);
        take(w, e);
        at += (ssize_t)(sizeof(*e) + e->len);
    }
}

static void __attribute__((noreturn)) run(struct watch *w)
{
    struct pollfd p[2] = {{.fd = w->h->channel, .events = POLLIN | POLLRDHUP},
                          {.fd = w->inotify, .events = POLLIN}};
    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            _exit(1);
        if (p[0].revents) /* nothing is asked while it watches: it is over */
            _exit(0);
        /* What follows within the group's time goes with it. */
        struct timespec group = {.tv_nsec = GROUP_MS * 1000000L};
        nanosleep(&group, NULL);
        do
            read_events(w);
        while (poll(&p[1], 1, 0) > 0 && w->pending_count < PENDING_MAX / 2);
        end_move(w);
        flush(w);
    }
}

int rp_helper_watch(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE];
    int errnum = rp_path_get(h, r, path);
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "watch", path);
    int dir = rp_path_open(h, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (dir < 0)
        return -dir;
    struct watch *w = calloc(1, sizeof(*w));
    int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (!w || inotify < 0) {
        errnum = w ? errno : ENOMEM;
        free(w);
        close(dir);
        return errnum;
    }
    w->h = h;
    w->inotify = inotify;
    w->moved_node = -1;
    /* Events are relative to the path asked for, so new directories are looked up below it. */
    close(h->root);
    h->root = dir;
    add_directory(w, dir, 0, "", 0, false);
    if (!w->count) { /* the first watch failed: no inotify left */
        errnum = errno ?: ENOSPC;
        close(inotify);
        free(w);
        return errnum;
    }
    rp_helper_end(h, "");
    rp_helper_flush(h);
    run(w);
}
