/* The frames of the file helper, decoded; and its errors, explained. Pure. */
#include <errno.h>
#include <string.h>

#include "proto/wire.h"
#include "runner/files.h"

/* A path that the helper reports: it goes into answers and archives, so it must not lead anywhere. */
static bool path_is_sane(struct rp_str path)
{
    if (path.n && (path.p[0] == '/' || memchr(path.p, '\0', path.n)))
        return false;
    for (size_t at = 0; at < path.n;) {
        const char *slash = memchr(path.p + at, '/', path.n - at);
        size_t n = slash ? (size_t)(slash - (path.p + at)) : path.n - at;
        if (n == 0 || (n == 1 && path.p[at] == '.') || (n == 2 && memcmp(path.p + at, "..", 2) == 0))
            return false;
        at += n + 1;
    }
    return true;
}

static bool decode_entry(struct rp_wire_reader *r, struct rp_file_entry *e)
{
    e->path = rp_wire_get_str(r, RP_FILES_PATH_MAX);
    e->kind = rp_wire_get_u8(r);
    e->mode = rp_wire_get_u32(r);
    e->size = rp_wire_get_u64(r);
    e->mtime_ns = (int64_t)rp_wire_get_u64(r);
    e->target = rp_wire_get_str(r, RP_FILES_PATH_MAX);
    e->etag = rp_wire_get_str(r, RP_FILES_ETAG_MAX);
    return e->kind >= RP_FILE_REGULAR && e->kind <= RP_FILE_OTHER && e->mode <= 07777 &&
           e->size <= INT64_MAX && path_is_sane(e->path);
}

/* The etag becomes a header field. */
static bool etag_is_sane(struct rp_str etag)
{
    for (size_t i = 0; i < etag.n; i++)
        if (etag.p[i] <= ' ' || etag.p[i] == '"' || etag.p[i] == 0x7f || (unsigned char)etag.p[i] >= 0x80)
            return false;
    return true;
}

static bool decode_payload(struct rp_files_frame *f)
{
    struct rp_wire_reader r = {.data = (const uint8_t *)f->payload.p, .length = f->payload.n};
    bool sane = true;
    switch (f->type) {
    case RP_FILES_END:
        f->etag = rp_wire_get_str(&r, RP_FILES_ETAG_MAX);
        sane = etag_is_sane(f->etag);
        break;
    case RP_FILES_ERROR:
        f->error.errnum = rp_wire_get_u32(&r);
        f->error.message = rp_wire_get_str(&r, 4096);
        sane = f->error.errnum > 0 && f->error.errnum < 4096;
        break;
    case RP_FILES_ENTRY:
        sane = decode_entry(&r, &f->entry) && etag_is_sane(f->entry.etag);
        break;
    case RP_FILES_DATA:
        return f->payload.n > 0;
    case RP_FILES_MATCH:
        f->match.path = rp_wire_get_str(&r, RP_FILES_PATH_MAX);
        f->match.line = rp_wire_get_u32(&r);
        f->match.column = rp_wire_get_u32(&r);
        f->match.text = rp_wire_get_str(&r, 512);
        sane = path_is_sane(f->match.path);
        break;
    case RP_FILES_EVENT:
        f->event.type = rp_wire_get_u8(&r);
        f->event.path = rp_wire_get_str(&r, RP_FILES_PATH_MAX);
        f->event.to = rp_wire_get_str(&r, RP_FILES_PATH_MAX);
        sane = f->event.type >= RP_FILES_EVENT_CREATED && f->event.type <= RP_FILES_EVENT_OVERFLOW &&
               path_is_sane(f->event.path) && path_is_sane(f->event.to);
        break;
    case RP_FILES_TRUNCATED:
        break;
    default:
        return false;
    }
    return sane && rp_wire_finished(&r);
}

ssize_t rp_files_decode(struct rp_str bytes, struct rp_files_frame *ret)
{
    if (bytes.n < RP_FILES_HEADER_SIZE)
        return 0;
    struct rp_wire_reader r = {.data = (const uint8_t *)bytes.p, .length = RP_FILES_HEADER_SIZE};
    uint32_t length = rp_wire_get_u32(&r);
    uint8_t type = rp_wire_get_u8(&r);
    uint8_t flags = rp_wire_get_u8(&r);
    uint16_t reserved = rp_wire_get_u16(&r);
    if (length > RP_FILES_PAYLOAD_MAX || flags || reserved)
        return -1;
    if (bytes.n - RP_FILES_HEADER_SIZE < length)
        return 0;
    memset(ret, 0, sizeof(*ret));
    ret->type = type;
    ret->payload = (struct rp_str){bytes.p + RP_FILES_HEADER_SIZE, length};
    return decode_payload(ret) ? (ssize_t)(RP_FILES_HEADER_SIZE + length) : -1;
}

/* A name as a person reads it: one line, cut, valid UTF-8. */
static void show(struct rp_str path, char *dst, size_t cap)
{
    size_t n = RP_MIN(path.n, cap - 1);
    while (n && n < path.n && ((unsigned char)path.p[n] & 0xc0) == 0x80)
        n--;
    memcpy(dst, path.p, n);
    dst[n] = '\0';
    bool utf8 = rp_utf8_valid(dst, n);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)dst[i] < ' ' || dst[i] == 0x7f || (!utf8 && (unsigned char)dst[i] >= 0x80))
            dst[i] = '?';
}

int rp_files_explain(struct rp_error *err, int errnum, struct rp_str path)
{
    char name[200];
    show(path, name, sizeof(name));
    if (!name[0])
        memcpy(name, "the project's folder", 21);
    static const struct {
        int errnum;
        enum rp_code code;
        const char *text;
    } table[] = {
        {ENOENT, RP_ERROR_NOT_FOUND, "\"%s\" does not exist"},
        {ENOTDIR, RP_ERROR_INVALID, "\"%s\" is not a directory, or something above it is not"},
        {EISDIR, RP_ERROR_INVALID, "\"%s\" is a directory"},
        {EEXIST, RP_ERROR_EXISTS, "\"%s\" is already there"},
        {ENOTEMPTY, RP_ERROR_CONFLICT, "the directory \"%s\" is not empty"},
        {ESTALE, RP_ERROR_PRECONDITION, "\"%s\" has changed since it was read"},
        {EXDEV, RP_ERROR_INVALID, "the path \"%s\" leaves the project"},
        {ELOOP, RP_ERROR_INVALID, "\"%s\" goes through too many symbolic links"},
        {EINVAL, RP_ERROR_INVALID, "\"%s\" cannot be that, or cannot go there"},
        {ENAMETOOLONG, RP_ERROR_INVALID, "\"%s\" is too long or too deep"},
        {EBADMSG, RP_ERROR_INVALID, "the content of \"%s\" is not as long as was announced"},
        {EFBIG, RP_ERROR_TOO_LARGE, "\"%s\" is too large"},
        {EACCES, RP_ERROR_FORBIDDEN, "the sandbox's user may not do this to \"%s\""},
        {EPERM, RP_ERROR_FORBIDDEN, "the sandbox's user may not do this to \"%s\""},
        {EROFS, RP_ERROR_FORBIDDEN, "\"%s\" is on a read-only file system"},
        {EAGAIN, RP_ERROR_CONFLICT, "\"%s\" is held by a lease, or moved about, by a program in the sandbox"},
        {EBUSY, RP_ERROR_CONFLICT, "\"%s\" is in use"},
        {ETXTBSY, RP_ERROR_CONFLICT, "\"%s\" is being executed"},
        {ENXIO, RP_ERROR_INVALID, "\"%s\" is not a regular file"},
        {ENOSPC, RP_ERROR_DISK_FULL, "no space is left in the project for \"%s\""},
        {EDQUOT, RP_ERROR_DISK_FULL, "the project's disk quota is used up; \"%s\" was not written"},
        {ENOMEM, RP_ERROR_OUT_OF_MEMORY, "not enough memory in the sandbox for \"%s\""},
        {EMFILE, RP_ERROR_UNAVAILABLE, "too many open files for \"%s\""},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(table); i++) {
        if (table[i].errnum != errnum)
            continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
        rp_error_set(err, table[i].code, table[i].text, name);
#pragma GCC diagnostic pop
        if (err)
            err->errno_value = errnum;
        return -1;
    }
    return rp_error_errno(err, RP_ERROR_SANDBOX, errnum, "\"%s\"", name);
}
