/* Which hierarchy holds which controller, and reading and writing its files. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "sandbox/oci/cgroup_internal.h"

static const struct {
    const char *name;
    unsigned bit;
} controllers[] = {
    {"memory", RP_CGROUP_MEMORY},
    {"cpu", RP_CGROUP_CPU},
    {"cpuacct", RP_CGROUP_CPUACCT},
    {"pids", RP_CGROUP_PIDS},
};

void rp_cgroup_name(const char *id, int child, char ret[static RP_CGROUP_NAME_MAX])
{
    if (child == RP_CGROUP_WHOLE)
        snprintf(ret, RP_CGROUP_NAME_MAX, "%s", id);
    else if (child == RP_CGROUP_INIT)
        snprintf(ret, RP_CGROUP_NAME_MAX, "%s/init", id);
    else if (child == RP_CGROUP_USER)
        snprintf(ret, RP_CGROUP_NAME_MAX, "%s/user", id);
    else
        snprintf(ret, RP_CGROUP_NAME_MAX, "%s/step-%d", id, child);
}

static int open_file(const struct rp_cgroup_hierarchy *h, const char *group, const char *file, int flags)
{
    char path[RP_CGROUP_NAME_MAX + 64];
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", group, file) >= sizeof(path))
        return -ENAMETOOLONG;
    int fd = openat(h->fd, path, flags | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

int rp_cgroup_write(const struct rp_cgroup_hierarchy *h, const char *group, const char *file,
                    const char *value)
{
    _cleanup_close_ int fd = open_file(h, group, file, O_WRONLY | O_TRUNC);
    if (fd < 0)
        return fd;
    size_t n = strlen(value);
    ssize_t written = write(fd, value, n);
    if (written < 0)
        return -errno;
    return (size_t)written == n ? 0 : -EIO;
}

int rp_cgroup_read(const struct rp_cgroup_hierarchy *h, const char *group, const char *file, char *ret,
                   size_t cap)
{
    _cleanup_close_ int fd = open_file(h, group, file, O_RDONLY);
    if (fd < 0)
        return fd;
    size_t n = 0;
    while (n < cap - 1) {
        ssize_t got = read(fd, ret + n, cap - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    ret[n] = '\0';
    return (int)n;
}

uint64_t rp_cgroup_read_number(const struct rp_cgroup_hierarchy *h, const char *group, const char *file,
                               uint64_t fallback)
{
    char text[64];
    if (!h || rp_cgroup_read(h, group, file, text, sizeof(text)) <= 0)
        return fallback;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    return end == text || errno ? fallback : v;
}

uint64_t rp_cgroup_read_key(const struct rp_cgroup_hierarchy *h, const char *group, const char *file,
                            const char *key, uint64_t fallback)
{
    char text[8192];
    if (!h || rp_cgroup_read(h, group, file, text, sizeof(text)) <= 0)
        return fallback;
    size_t n = strlen(key);
    for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, n) == 0 && line[n] == ' ')
            return strtoull(line + n + 1, NULL, 10);
    return fallback;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool file_has_word(const char *path, const char *word)
{
    _cleanup_file_ FILE *f = fopen(path, "re");
    char text[512];
    if (!f || !fgets(text, sizeof(text), f))
        return false;
    size_t n = strlen(word);
    for (const char *at = text; *at; at += strcspn(at, " \n"), at += strspn(at, " \n"))
        if (strncmp(at, word, n) == 0 && (at[n] == ' ' || at[n] == '\n' || !at[n]))
            return true;
    return false;
}

/* The hierarchy mounted at `path` (symlinks resolved: cpu and cpuacct often are one), found or added. */
static struct rp_cgroup_hierarchy *hierarchy_at(struct rp_cgroups *c, const char *path, int version,
                                                struct rp_error *err)
{
    char real[PATH_MAX];
    if (!realpath(path, real)) {
        rp_error_errno(err, RP_ERROR_INTERNAL, errno, "cgroup hierarchy \"%s\"", path);
        return NULL;
    }
    for (int i = 0; i < c->count; i++)
        if (strcmp(c->hierarchies[i].path, real) == 0)
            return &c->hierarchies[i];
    if (c->count == RP_CGROUP_HIERARCHIES_MAX || strlen(real) + strlen(c->root) + 2 > RP_CGROUP_PATH_MAX) {
        rp_error_set(err, RP_ERROR_NOT_SUPPORTED, "too many cgroup hierarchies at \"%s\"", path);
        return NULL;
    }
    struct rp_cgroup_hierarchy *h = &c->hierarchies[c->count++];
    *h = (struct rp_cgroup_hierarchy){.version = version, .fd = -1};
    memcpy(h->path, real, strlen(real) + 1);
    return h;
}

/* The controllers that the v2 hierarchy at `path` offers and v1 does not have go to it. */
static int add_v2(struct rp_cgroups *c, const char *path, struct rp_error *err)
{
    char file[PATH_MAX];
    snprintf(file, sizeof(file), "%s/cgroup.controllers", path);
    unsigned found = 0;
    for (size_t i = 0; i < RP_ARRAY_SIZE(controllers); i++)
        if (!rp_cgroup_with(c, controllers[i].bit) && file_has_word(file, controllers[i].name))
            found |= controllers[i].bit;
    /* CPU time is counted in every v2 group, without a controller. */
    if (!rp_cgroup_with(c, RP_CGROUP_CPUACCT))
        found |= RP_CGROUP_CPUACCT;
    /* A hierarchy for nothing would only make each start and each process slower. */
    if (!found)
        return 0;
    struct rp_cgroup_hierarchy *h = hierarchy_at(c, path, 2, err);
    if (!h)
        return -1;
    h->controllers |= found;
    return 0;
}

static int add_v1(struct rp_cgroups *c, const char *mount, struct rp_error *err)
{
    for (size_t i = 0; i < RP_ARRAY_SIZE(controllers); i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/%s", mount, controllers[i].name);
        if (!is_directory(path))
            continue;
        struct rp_cgroup_hierarchy *h = hierarchy_at(c, path, 1, err);
        if (!h)
            return -1;
        h->controllers |= controllers[i].bit;
    }
    return 0;
}

/* mkdir -p of the root below h; on v2 each level hands its controllers down. */
static int make_root(struct rp_cgroups *c, struct rp_cgroup_hierarchy *h, struct rp_error *err)
{
    char at[RP_CGROUP_PATH_MAX];
    snprintf(at, sizeof(at), "%s", h->path);
    const char *rest = c->root;
    while (true) {
        if (h->version == 2)
            for (size_t i = 0; i < RP_ARRAY_SIZE(controllers); i++) {
                unsigned bit = controllers[i].bit;
                if (!(h->controllers & bit & (RP_CGROUP_MEMORY | RP_CGROUP_CPU | RP_CGROUP_PIDS)))
                    continue;
                char file[RP_CGROUP_PATH_MAX + 32], value[32];
                snprintf(file, sizeof(file), "%s/cgroup.subtree_control", at);
                snprintf(value, sizeof(value), "+%s", controllers[i].name);
                _cleanup_close_ int fd = open(file, O_WRONLY | O_CLOEXEC | O_APPEND);
                if (fd < 0 || write(fd, value, strlen(value)) < 0)
                    return rp_error_errno(err, RP_ERROR_NOT_SUPPORTED, errno, "write \"%s\" to \"%s\"", value,
                                          file);
            }
        if (!*rest)
            break;
        size_t n = strcspn(rest, "/"), length = strlen(at);
        snprintf(at + length, sizeof(at) - length, "/%.*s", (int)n, rest);
        rest += n;
        rest += strspn(rest, "/");
        if (mkdir(at, 0755) < 0 && errno != EEXIST)
            return rp_error_errno(err, RP_ERROR_NOT_SUPPORTED, errno, "make the cgroup \"%s\"", at);
    }
    memcpy(h->path, at, sizeof(at));
    h->fd = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (h->fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open the cgroup \"%s\"", at);
    return 0;
}

static void find_others(struct rp_cgroups *c, const char *mount)
{
    _cleanup_dir_ DIR *d = opendir(mount);
    struct dirent *e;
    while (d && (e = readdir(d)) && c->other_count < (int)RP_ARRAY_SIZE(c->others)) {
        char path[PATH_MAX], real[PATH_MAX];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s/cgroup.procs", mount, e->d_name);
        if (access(path, F_OK) < 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", mount, e->d_name);
        if (!realpath(path, real) || strlen(real) + strlen(c->root) + 2 > RP_CGROUP_PATH_MAX)
            continue;
        char root[PATH_MAX + 132];
        snprintf(root, sizeof(root), "%s/%s", real, c->root);
        bool known = false;
        for (int i = 0; i < c->count; i++)
            known = known || strcmp(c->hierarchies[i].path, root) == 0;
        for (int i = 0; i < c->other_count; i++)
            known = known || strcmp(c->others[i], root) == 0;
        if (!known)
            memcpy(c->others[c->other_count++], root, strlen(root) + 1);
    }
}

static int find(struct rp_cgroups *c, const char *mount, const char *layout, struct rp_error *err)
{
    char top[PATH_MAX], unified[PATH_MAX];
    snprintf(top, sizeof(top), "%s/cgroup.controllers", mount);
    snprintf(unified, sizeof(unified), "%s/unified/cgroup.controllers", mount);
    bool has_v2 = access(top, F_OK) == 0, has_unified = access(unified, F_OK) == 0;
    snprintf(unified, sizeof(unified), "%s/unified", mount);

    if (strcmp(layout, "auto") == 0)
        layout = has_v2 ? "v2" : has_unified ? "hybrid" : "v1";
    if (strcmp(layout, "v2") == 0) {
        c->layout = "v2";
        if (!has_v2)
            return rp_error_set(err, RP_ERROR_NOT_SUPPORTED, "\"%s\" is not a cgroup v2 hierarchy", mount);
        return add_v2(c, mount, err);
    }
    if (strcmp(layout, "hybrid") == 0) {
        c->layout = "hybrid";
        if (!has_unified)
            return rp_error_set(err, RP_ERROR_NOT_SUPPORTED, "there is no cgroup v2 hierarchy at \"%s\"",
                                unified);
        if (add_v1(c, mount, err) < 0)
            return -1;
        return add_v2(c, unified, err);
    }
    if (strcmp(layout, "v1") != 0)
        return rp_error_set(err, RP_ERROR_INVALID, "cgroup layout \"%s\": not auto, v2, v1 or hybrid",
                            layout);
    c->layout = "v1";
    return add_v1(c, mount, err);
}

int rp_cgroups_open(const struct rp_cgroup_options *options, struct rp_cgroups **ret, struct rp_error *err)
{
    const char *mount = options->mount ?: "/sys/fs/cgroup";
    const char *root = options->root + strspn(options->root, "/");
    if (!*root || strlen(root) > 128 || strstr(root, ".."))
        return rp_error_set(err, RP_ERROR_INVALID, "cgroup root \"%s\": not a path of 1 to 128 bytes", root);
    struct rp_cgroups *c = rp_calloc(1, sizeof(*c));
    snprintf(c->root, sizeof(c->root), "%s", root);
    int r = find(c, mount, options->layout ?: "auto", err);
    for (size_t i = 0; r == 0 && i < RP_ARRAY_SIZE(controllers); i++) {
        if (!rp_cgroup_with(c, controllers[i].bit))
            r = rp_error_set(err, RP_ERROR_NOT_SUPPORTED,
                             "no cgroup hierarchy at \"%s\" has the controller %s (layout %s)", mount,
                             controllers[i].name, c->layout);
    }
    for (int i = 0; r == 0 && i < c->count; i++)
        r = make_root(c, &c->hierarchies[i], err);
    if (r < 0) {
        rp_cgroups_close(c);
        return -1;
    }
    if (strcmp(c->layout, "v2") != 0)
        find_others(c, mount);
    *ret = c;
    return 0;
}

void rp_cgroups_close(struct rp_cgroups *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++)
        rp_close_fd(&c->hierarchies[i].fd);
    free(c);
}

const char *rp_cgroups_layout(const struct rp_cgroups *c)
{
    return c->layout;
}

void rp_cgroup_oci_path(const struct rp_cgroups *c, const char *id, char *ret, size_t cap)
{
    snprintf(ret, cap, "/%s/%s/init", c->root, id);
}
