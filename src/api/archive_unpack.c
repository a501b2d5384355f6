#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <string.h>

#include "api/archive.h"

enum { BLOCK = 65536, DATA_PIECE = 32768, SHOWN_MAX = 120 };

struct rp_unpacker {
    struct archive *archive;
    locale_t locale;
    unsigned entries;
    uint64_t bytes;
    bool in_file; /* its content is being read */
    bool ended;
};

static int damaged(struct rp_unpacker *u, struct rp_error *err)
{
    const char *why = archive_error_string(u->archive);
    int errnum = archive_errno(u->archive);
    if (errnum == ENOMEM)
        return rp_error_set(err, RP_ERROR_TOO_LARGE, "the archive needs too much memory to unpack");
    return rp_error_set(err, RP_ERROR_INVALID, "this is no tar.gz or zip archive, or it is damaged: %.150s",
                        why && rp_utf8_valid(why, strlen(why)) ? why : "cannot be read");
}

int rp_unpacker_new(int fd, struct rp_unpacker **ret, struct rp_error *err)
{
    struct rp_unpacker *u = rp_calloc(1, sizeof(*u));
    u->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    u->archive = archive_read_new();
    if (!u->archive)
        abort();
    int r = archive_read_support_filter_gzip(u->archive);
    if (r == ARCHIVE_OK)
        r = archive_read_support_format_tar(u->archive);
    if (r == ARCHIVE_OK)
        r = archive_read_support_format_zip_seekable(u->archive);
    if (r == ARCHIVE_OK)
        r = archive_read_open_fd(u->archive, fd, BLOCK);
    if (r != ARCHIVE_OK) {
        damaged(u, err);
        rp_unpacker_free(u);
        return -1;
    }
    *ret = u;
    return 0;
}

/* A stranger's name in a message: one line of UTF-8, cut. */
static void show(struct rp_str name, char dst[static SHOWN_MAX + 1])
{
    size_t n = RP_MIN(name.n, (size_t)SHOWN_MAX);
    while (n && n < name.n && ((unsigned char)name.p[n] & 0xc0) == 0x80)
        n--;
    memcpy(dst, name.p, n);
    dst[n] = '\0';
    bool utf8 = rp_utf8_valid(dst, n);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)dst[i] < ' ' || dst[i] == 0x7f || (!utf8 && (unsigned char)dst[i] >= 0x80))
            dst[i] = '?';
}

static int refuse(struct rp_str name, const char *why, struct rp_error *err)
{
    char shown[SHOWN_MAX + 1];
    show(name, shown);
    return rp_error_set(err, RP_ERROR_INVALID, "the archive's entry \"%s\" %s", shown, why);
}

/* Checks a path and drops what means nothing ("./", "//", a slash at the end). Into dst of RP_FILES_PATH_MAX
 * + 1. */
static int clean(struct rp_str name, char *dst, size_t *ret_n, struct rp_error *err)
{
    struct rp_str rest = name;
    size_t n = 0;
    if (name.n > RP_FILES_PATH_MAX)
        return refuse(name, "has a path that is too long", err);
    if (name.n && (name.p[0] == '/' || name.p[0] == '\\'))
        return refuse(name, "has an absolute path", err);
    while (rest.n) {
        struct rp_str part = rp_str_cut(rest, '/', &rest);
        if (!part.n || rp_str_is(part, "."))
            continue;
        if (rp_str_is(part, ".."))
            return refuse(name, "leaves the project", err);
        if (n)
            dst[n++] = '/';
        memcpy(dst + n, part.p, part.n);
        n += part.n;
    }
    *ret_n = n;
    return 0;
}

/* One entry into items. 1 taken, 0 it means nothing (the root), -1 refused. */
static int take_entry(struct rp_unpacker *u, struct archive_entry *e, struct rp_buf *items,
                      struct rp_error *err)
{
    char path[RP_FILES_PATH_MAX + 1];
    size_t n = 0;
    const char *raw = archive_entry_pathname_utf8(e) ?: archive_entry_pathname(e);
    struct rp_str name = rp_str_of(raw);
    if (!raw)
        return rp_error_set(err, RP_ERROR_INVALID, "entry %u of the archive has no name that can be read",
                            u->entries);
    if (archive_entry_hardlink(e))
        return refuse(name, "is a hard link, which an archive for a project may not hold", err);
    struct rp_file_entry out = {.mode = (uint32_t)archive_entry_perm(e) & 0777};
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        out.kind = RP_FILE_REGULAR;
        break;
    case AE_IFDIR:
        out.kind = RP_FILE_DIRECTORY;
        break;
    case AE_IFLNK:
        out.kind = RP_FILE_SYMLINK;
        out.target = rp_str_of(archive_entry_symlink_utf8(e) ?: archive_entry_symlink(e));
        break;
    default:
        return refuse(name, "is a device, FIFO or socket", err);
    }
    if (clean(name, path, &n, err) < 0)
        return -1;
    if (!n && out.kind == RP_FILE_DIRECTORY)
        return 0;
    if (!n)
        return refuse(name, "has no name", err);
    if (out.target.n > RP_FILES_PATH_MAX)
        return refuse(name, "points too far", err);
    out.path = (struct rp_str){path, n};
    if (archive_entry_size_is_set(e) && archive_entry_size(e) > 0)
        out.size = (uint64_t)archive_entry_size(e);
    if (!rp_archive_put_entry(items, &out))
        return rp_error_set(err, RP_ERROR_INTERNAL, "the buffer of entries is full");
    u->in_file = out.kind == RP_FILE_REGULAR;
    return 1;
}

static int next_entry(struct rp_unpacker *u, struct rp_buf *items, struct rp_error *err)
{
    struct archive_entry *e;
    int r = archive_read_next_header(u->archive, &e);
    if (r == ARCHIVE_EOF) {
        u->ended = true;
        return 0;
    }
    if (r == ARCHIVE_RETRY)
        return 0;
    if (r < ARCHIVE_WARN)
        return damaged(u, err);
    if (++u->entries > RP_ARCHIVE_ENTRIES_MAX)
        return rp_error_set(err, RP_ERROR_TOO_LARGE, "the archive has more than %d entries",
                            RP_ARCHIVE_ENTRIES_MAX);
    return take_entry(u, e, items, err) < 0 ? -1 : 0;
}

static int next_data(struct rp_unpacker *u, struct rp_buf *items, struct rp_error *err)
{
    char bytes[DATA_PIECE];
    la_ssize_t n = archive_read_data(u->archive, bytes, sizeof(bytes));
    if (n == ARCHIVE_RETRY)
        return 0;
    if (n < 0)
        return damaged(u, err);
    if (n == 0) {
        u->in_file = false;
        return 0;
    }
    u->bytes += (uint64_t)n;
    if (u->bytes > RP_ARCHIVE_UNPACKED_MAX)
        return rp_error_set(err, RP_ERROR_TOO_LARGE, "the archive unpacks to more than %llu bytes",
                            RP_ARCHIVE_UNPACKED_MAX);
    if (!rp_archive_put_data(items, (struct rp_str){bytes, (size_t)n}))
        return rp_error_set(err, RP_ERROR_INTERNAL, "the buffer of entries is full");
    return 0;
}

int rp_unpacker_some(struct rp_unpacker *u, struct rp_buf *items, size_t max, struct rp_error *err)
{
    locale_t before = u->locale ? uselocale(u->locale) : (locale_t)0;
    int r = 0;
    while (r == 0 && !u->ended && items->length < max)
        r = u->in_file ? next_data(u, items, err) : next_entry(u, items, err);
    if (before)
        uselocale(before);
    return r < 0 ? -1 : !u->ended;
}

void rp_unpacker_free(struct rp_unpacker *u)
{
    if (!u)
        return;
    archive_read_free(u->archive);
    if (u->locale)
        freelocale(u->locale);
    free(u);
}
