#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>

#include "api/archive.h"

enum { OUTPUT_CAP = 8 * RP_ARCHIVE_ITEMS_CAP };

/* ---- items ---- */

struct item {
    uint8_t kind; /* RP_FILE_*, 0 for data */
    uint32_t mode;
    uint64_t size;
    int64_t mtime_ns;
    size_t path, target, data; /* lengths of what follows */
};

static bool put(struct rp_buf *items, const struct item *i, struct rp_str a, struct rp_str b)
{
    size_t total = sizeof(*i) + a.n + b.n;
    char *at = rp_buf_reserve(items, total);
    if (!at)
        return false;
    memcpy(at, i, sizeof(*i));
    if (a.n)
        memcpy(at + sizeof(*i), a.p, a.n);
    if (b.n)
        memcpy(at + sizeof(*i) + a.n, b.p, b.n);
    rp_buf_commit(items, total);
    return true;
}

bool rp_archive_put_entry(struct rp_buf *items, const struct rp_file_entry *e)
{
    struct item i = {.kind = e->kind,
                     .mode = e->mode,
                     .size = e->size,
                     .mtime_ns = e->mtime_ns,
                     .path = e->path.n,
                     .target = e->target.n};
    return put(items, &i, e->path, e->target);
}

bool rp_archive_put_data(struct rp_buf *items, struct rp_str data)
{
    struct item i = {.data = data.n};
    return put(items, &i, data, (struct rp_str){"", 0});
}

int rp_archive_next(struct rp_str *items, struct rp_file_entry *ret_entry, struct rp_str *ret_data)
{
    struct item i;
    if (!items->n)
        return 0;
    memcpy(&i, items->p, sizeof(i));
    const char *at = items->p + sizeof(i);
    *ret_entry =
        (struct rp_file_entry){.kind = i.kind, .mode = i.mode, .size = i.size, .mtime_ns = i.mtime_ns};
    ret_entry->path = (struct rp_str){at, i.path};
    ret_entry->target = (struct rp_str){at + i.path, i.target};
    *ret_data = (struct rp_str){at, i.data};
    size_t total = sizeof(i) + i.path + i.target + i.data;
    *items = (struct rp_str){items->p + total, items->n - total};
    return 1;
}

/* ---- the packer ---- */

struct rp_packer {
    struct archive *archive;
    struct archive_entry *entry;
    locale_t locale; /* libarchive converts names by the locale of the thread */
    struct rp_buf out;
};

static int fail(struct rp_packer *p, struct rp_error *err)
{
    const char *why = archive_error_string(p->archive);
    return rp_error_set(err, RP_ERROR_INTERNAL, "pack: %s",
                        why && rp_utf8_valid(why, strlen(why)) ? why : "failed");
}

static la_ssize_t on_write(struct archive *a, void *ctx, const void *bytes, size_t n)
{
    struct rp_packer *p = ctx;
    if (!rp_buf_append(&p->out, bytes, n)) {
        archive_set_error(a, ENOBUFS, "too much output at once");
        return -1;
    }
    return (la_ssize_t)n;
}

int rp_packer_new(enum rp_archive_format format, struct rp_packer **ret, struct rp_error *err)
{
    struct rp_packer *p = rp_calloc(1, sizeof(*p));
    rp_buf_init(&p->out, OUTPUT_CAP);
    p->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    p->archive = archive_write_new();
    p->entry = archive_entry_new();
    if (!p->archive || !p->entry)
        abort(); /* as rp_alloc does */
    int r;
    if (format == RP_ARCHIVE_ZIP) {
        r = archive_write_set_format_zip(p->archive);
    } else {
        r = archive_write_set_format_pax_restricted(p->archive);
        if (r == ARCHIVE_OK)
            r = archive_write_add_filter_gzip(p->archive);
    }
    if (r == ARCHIVE_OK)
        r = archive_write_set_bytes_per_block(p->archive, 0);
    if (r == ARCHIVE_OK)
        r = archive_write_open(p->archive, p, NULL, on_write, NULL);
    if (r != ARCHIVE_OK) {
        fail(p, err);
        rp_packer_free(p);
        return -1;
    }
    *ret = p;
    return 0;
}

static int add_entry(struct rp_packer *p, const struct rp_file_entry *e, struct rp_error *err)
{
    _cleanup_free_ char *path = rp_str_dup(e->path), *target = rp_str_dup(e->target);
    archive_entry_clear(p->entry);
    archive_entry_copy_pathname(p->entry, path);
    archive_entry_set_perm(p->entry, e->mode & 0777);
    archive_entry_set_mtime(p->entry, e->mtime_ns / 1000000000, (long)(e->mtime_ns % 1000000000));
    archive_entry_set_size(p->entry, 0);
    switch (e->kind) {
    case RP_FILE_DIRECTORY:
        archive_entry_set_filetype(p->entry, AE_IFDIR);
        break;
    case RP_FILE_SYMLINK:
        archive_entry_set_filetype(p->entry, AE_IFLNK);
        archive_entry_copy_symlink(p->entry, target);
        break;
    default:
        archive_entry_set_filetype(p->entry, AE_IFREG);
        archive_entry_set_size(p->entry, (la_int64_t)e->size);
    }
    /* A warning: a name that is not UTF-8 went out as the bytes that it is. */
    return archive_write_header(p->archive, p->entry) < ARCHIVE_WARN ? fail(p, err) : 0;
}

int rp_packer_add(struct rp_packer *p, struct rp_str items, struct rp_error *err)
{
    struct rp_file_entry e;
    struct rp_str data;
    locale_t before = p->locale ? uselocale(p->locale) : (locale_t)0;
    int r = 0;
    while (r == 0 && rp_archive_next(&items, &e, &data) == 1) {
        if (e.kind)
            r = add_entry(p, &e, err);
        else if (archive_write_data(p->archive, data.p, data.n) != (la_ssize_t)data.n)
            r = fail(p, err);
    }
    if (before)
        uselocale(before);
    return r;
}

int rp_packer_finish(struct rp_packer *p, struct rp_error *err)
{
    return archive_write_close(p->archive) != ARCHIVE_OK ? fail(p, err) : 0;
}

struct rp_buf *rp_packer_output(struct rp_packer *p)
{
    return &p->out;
}

void rp_packer_free(struct rp_packer *p)
{
    if (!p)
        return;
    if (p->archive)
        (void)archive_write_fail(p->archive); /* one that was broken off must not be ended in form */
    archive_write_free(p->archive);
    archive_entry_free(p->entry);
    if (p->locale)
        freelocale(p->locale);
    rp_buf_done(&p->out);
    free(p);
}
