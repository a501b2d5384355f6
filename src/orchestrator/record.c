#include "orchestrator/record.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"

/* First line; raised when the meaning of a line changes. Unknown names are skipped, so that a newer server's
 * records can still be read. */
#define MAGIC "repld sandbox 1"

enum { RECORD_MAX = 1024 };

int rp_record_write(const char *dir, const struct rp_record *r, struct rp_error *err)
{
    char text[RECORD_MAX];
    int n = snprintf(
        text, sizeof(text),
        MAGIC "\nsandbox %s\ninstance %s\nproject %s\nenvironment %s\nstarted_at %lld\nstate %s\nwarm %d\n",
        r->sandbox, r->instance, r->project, r->environment, (long long)r->started_at,
        r->running ? "running" : "starting", r->warm);
    _cleanup_free_ char *path = rp_asprintf("%s/%s", dir, r->sandbox);
    _cleanup_free_ char *temporary = rp_asprintf("%s/.%s", dir, r->sandbox);
    _cleanup_close_ int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", temporary);
    ssize_t written = write(fd, text, (size_t)n);
    if (written != n || rename(temporary, path) < 0) {
        int saved = written >= 0 && written != n ? ENOSPC : errno;
        unlink(temporary);
        return rp_error_errno(err, RP_ERROR_INTERNAL, saved, "write \"%s\"", path);
    }
    return 0;
}

int rp_record_remove(const char *dir, const char *sandbox, struct rp_error *err)
{
    _cleanup_free_ char *path = rp_asprintf("%s/%s", dir, sandbox);
    if (unlink(path) < 0 && errno != ENOENT)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "remove \"%s\"", path);
    return 0;
}

static bool parse_id(struct rp_str value, char *dst)
{
    return rp_id_valid(value.p, value.n) && rp_str_copy(dst, RP_ID_SIZE, value);
}

static bool parse_line(struct rp_str name, struct rp_str value, struct rp_record *r)
{
    uint64_t number;
    if (rp_str_is(name, "sandbox"))
        return parse_id(value, r->sandbox);
    if (rp_str_is(name, "instance"))
        return parse_id(value, r->instance);
    if (rp_str_is(name, "project"))
        return parse_id(value, r->project);
    if (rp_str_is(name, "environment"))
        return value.n == RP_ENVIRONMENT_LENGTH && rp_str_copy(r->environment, sizeof(r->environment), value);
    if (rp_str_is(name, "started_at")) {
        if (!rp_str_to_u64(value, INT64_MAX, &number))
            return false;
        r->started_at = (int64_t)number;
    } else if (rp_str_is(name, "state")) {
        r->running = rp_str_is(value, "running");
    } else if (rp_str_is(name, "warm")) {
        r->warm = rp_str_is(value, "1");
    }
    return true;
}

static bool parse(struct rp_str text, struct rp_record *ret)
{
    struct rp_record r = {0};
    struct rp_str line = rp_str_cut(text, '\n', &text);
    if (!rp_str_is(line, MAGIC))
        return false;
    while (text.n) {
        line = rp_str_cut(text, '\n', &text);
        struct rp_str value, name = rp_str_cut(line, ' ', &value);
        if (!parse_line(name, value, &r))
            return false;
    }
    if (!*r.sandbox || !*r.instance || !*r.project || !*r.environment || !r.started_at)
        return false;
    *ret = r;
    return true;
}

int rp_record_load_all(const char *dir, void (*each)(void *ctx, const struct rp_record *r), void *ctx,
                       struct rp_error *err)
{
    _cleanup_dir_ DIR *d = opendir(dir);
    if (!d)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", dir);
    struct dirent *e;
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char text[RECORD_MAX];
        ssize_t n = -1;
        _cleanup_close_ int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd >= 0)
            n = read(fd, text, sizeof(text));
        struct rp_record r;
        if (n > 0 && parse((struct rp_str){text, (size_t)n}, &r) && strcmp(r.sandbox, e->d_name) == 0)
            each(ctx, &r);
        else
            unlinkat(dirfd(d), e->d_name, 0);
    }
    return 0;
}
