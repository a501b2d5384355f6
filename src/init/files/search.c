/* SEARCH: a literal text in names or in content. Case is that of ASCII; binary and very large files are left
 * out. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>

#include "init/files/helper.h"

enum {
    QUERY_MAX = 1024,
    GLOB_MAX = 256,
    TEXT_MAX = 512,             /* of the line, in a match */
    FILE_MAX = 8 * 1024 * 1024, /* larger files are not looked into */
    BINARY_PROBE = 8192,        /* a NUL in the first bytes: not text */
    LIMIT_MAX = 10000,
    NAMES_MAX = 1000000,
};

struct search {
    struct rp_helper *h;
    uint32_t flags, left;
    bool truncated;
    size_t query_length;
    char query[QUERY_MAX + 1], glob[GLOB_MAX + 1];
    char path[RP_HELPER_PATH_SIZE];
    uint8_t *content, *folded; /* FILE_MAX each, made when first needed */
};

static void fold(uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t)(from[i] >= 'A' && from[i] <= 'Z' ? from[i] + 32 : from[i]);
}

static void match(struct search *s, uint32_t line, uint32_t column, const void *text, size_t n)
{
    if (!s->left) {
        s->truncated = true;
        return;
    }
    s->left--;
    struct rp_wire_writer w = rp_helper_begin(s->h, RP_FILES_MATCH);
    rp_wire_put_str(&w, rp_str_of(s->path));
    rp_wire_put_u32(&w, line);
    rp_wire_put_u32(&w, column);
    rp_wire_put_str(&w, (struct rp_str){text, RP_MIN(n, (size_t)TEXT_MAX)});
    rp_helper_commit(s->h, &w);
}

/* One match a line: the first. */
static void search_content(struct search *s, int dir, const char *name)
{
    struct stat st;
    _cleanup_close_ int fd = -1;
    if (rp_path_open_regular_at(dir, name, &fd, &st) || st.st_size > FILE_MAX)
        return;
    size_t length = 0;
    while (length < FILE_MAX) {
        ssize_t n = read(fd, s->content + length, FILE_MAX - length);
        if (n <= 0)
            break;
        length += (size_t)n;
    }
    if (!length || memchr(s->content, '\0', RP_MIN(length, (size_t)BINARY_PROBE)))
        return;
    const uint8_t *in = s->content;
    if (!(s->flags & RP_FILES_SEARCH_CASE)) {
        fold(s->folded, s->content, length);
        in = s->folded;
    }
    uint32_t line = 1;
    size_t line_start = 0;
    for (size_t at = 0; at < length && !s->truncated;) {
        const uint8_t *hit = memmem(in + at, length - at, s->query, s->query_length);
        if (!hit)
            return;
        size_t where = (size_t)(hit - in);
        for (const uint8_t *nl; (nl = memchr(in + line_start, '\n', where - line_start));) {
            line++;
            line_start = (size_t)(nl - in) + 1;
        }
        const uint8_t *end = memchr(in + where, '\n', length - where);
        size_t line_end = end ? (size_t)(end - in) : length;
        match(s, line, (uint32_t)(where - line_start) + 1, s->content + line_start, line_end - line_start);
        at = line_end + 1;
    }
}

static void search_name(struct search *s, const char *name)
{
    uint8_t folded[RP_HELPER_NAME_SIZE];
    size_t n = strlen(name);
    const void *in = name;
    if (!(s->flags & RP_FILES_SEARCH_CASE) && n < sizeof(folded)) {
        fold(folded, (const uint8_t *)name, n);
        in = folded;
    }
    const char *hit = memmem(in, n, s->query, s->query_length);
    if (hit)
        match(s, 0, (uint32_t)(hit - (const char *)in) + 1, name, n);
}

static bool left_out(const struct search *s, const char *name)
{
    if (!(s->flags & RP_FILES_SEARCH_DEPS) &&
        (strcmp(name, "node_modules") == 0 || strcmp(name, ".venv") == 0 || strcmp(name, "__pycache__") == 0))
        return true;
    /* asked for .venv by DEPS: then its dot does not count */
    return name[0] == '.' && !(s->flags & RP_FILES_SEARCH_HIDDEN) && strcmp(name, ".venv") != 0;
}

static void search_directory(struct search *s, int dir, size_t n, unsigned depth)
{
    _cleanup_names_ struct rp_names names = {0};
    if (depth > RP_FILES_DEPTH_MAX || rp_names_read(dir, NAMES_MAX, &names))
        return;
    for (size_t i = 0; i < names.count && !s->truncated; i++) {
        const char *name = names.list[i];
        struct stat st;
        rp_helper_still_wanted(s->h);
        size_t m = strlen(name), at = n;
        if (left_out(s, name) || n + 1 + m >= sizeof(s->path) ||
            fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (at)
            s->path[at++] = '/';
        memcpy(s->path + at, name, m + 1);
        bool wanted = !s->glob[0] || fnmatch(s->glob, strchr(s->glob, '/') ? s->path : name, FNM_PERIOD) == 0;
        if (wanted && (s->flags & RP_FILES_SEARCH_NAMES))
            search_name(s, name);
        else if (wanted && S_ISREG(st.st_mode))
            search_content(s, dir, name);
        _cleanup_close_ int below = -1;
        if (S_ISDIR(st.st_mode) && rp_path_open_directory_at(dir, name, &below) == 0)
            search_directory(s, below, at + m, depth + 1);
        s->path[n] = '\0';
    }
}

static int prepare(struct search *s, struct rp_str query, struct rp_str glob)
{
    if (!query.n || !rp_str_copy(s->query, sizeof(s->query), query) ||
        !rp_str_copy(s->glob, sizeof(s->glob), glob))
        return EINVAL;
    s->query_length = query.n;
    if (!(s->flags & RP_FILES_SEARCH_CASE))
        fold((uint8_t *)s->query, (uint8_t *)s->query, s->query_length);
    if (!(s->flags & RP_FILES_SEARCH_NAMES)) {
        s->content = malloc(FILE_MAX);
        s->folded = malloc(FILE_MAX);
        if (!s->content || !s->folded)
            return ENOMEM;
    }
    return 0;
}

int rp_helper_search(struct rp_helper *h, struct rp_wire_reader *r)
{
    char path[RP_HELPER_PATH_SIZE];
    int errnum = rp_path_get(h, r, path);
    struct rp_str query = rp_wire_get_str(r, RP_FILES_PAYLOAD_MAX);
    uint32_t flags = rp_wire_get_u32(r), limit = rp_wire_get_u32(r);
    struct rp_str glob = rp_wire_get_str(r, RP_FILES_PAYLOAD_MAX);
    if (!rp_wire_finished(r))
        rp_helper_malformed(h);
    if (errnum)
        return errnum;
    rp_helper_detail(h, "search", path);
    _cleanup_close_ int dir = rp_path_open(h, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (dir < 0)
        return -dir;
    struct search s = {.h = h, .flags = flags, .left = RP_MIN(limit ?: 1, (uint32_t)LIMIT_MAX)};
    errnum = prepare(&s, query, glob);
    if (!errnum)
        search_directory(&s, dir, 0, 1);
    free(s.content);
    free(s.folded);
    if (errnum)
        return errnum;
    if (s.truncated)
        rp_helper_truncated(h);
    rp_helper_end(h, "");
    return 0;
}
