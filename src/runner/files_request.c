/* files_request.c: the requests to the file helper, encoded, and what an upload sends. */
#include <string.h>

#include "runner/files_internal.h"

enum {
    REQUEST_MAX = 4 * RP_FILES_PATH_MAX,
    QUICK_MS = 30000, /* without progress */
    SLOW_MS = 300000, /* what works through a tree, or waits for the disk, before it says anything */
};

/* A request whose fields are written with the returned writer and then sent by `go`. */
static struct rp_file_request *new_request(uint8_t type, struct rp_str path, uint64_t timeout_ms,
                                           const struct rp_file_callbacks *cb, void *ctx,
                                           struct rp_wire_writer *ret_w)
{
    struct rp_file_request *r = rp_calloc(1, sizeof(*r));
    r->type = type;
    r->cb = cb;
    r->ctx = ctx;
    r->timeout_ms = timeout_ms;
    rp_buf_init(&r->path, RP_FILES_PATH_MAX);
    (void)!rp_buf_append(&r->path, path.p, RP_MIN(path.n, (size_t)RP_FILES_PATH_MAX));
    rp_buf_init(&r->first, REQUEST_MAX);
    char *room = rp_buf_reserve(&r->first, REQUEST_MAX);
    *ret_w = (struct rp_wire_writer){.data = (uint8_t *)room, .cap = REQUEST_MAX};
    rp_wire_put_u32(ret_w, 0);
    rp_wire_put_u8(ret_w, type);
    rp_wire_put_u8(ret_w, 0);
    rp_wire_put_u16(ret_w, 0);
    rp_wire_put_str(ret_w, path);
    return r;
}

static void put_length(uint8_t *frame, size_t length)
{
    struct rp_wire_writer w = {.data = frame, .cap = 4};
    rp_wire_put_u32(&w, (uint32_t)(length - RP_FILES_HEADER_SIZE));
}

static struct rp_file_request *go(struct rp_files *f, struct rp_sandbox *s, struct rp_file_request *r,
                                  struct rp_wire_writer *w)
{
    if (w->overflow) {
        /* Longer than any path can be: the helper says so in its own words, for a path it does get. */
        char longer[RP_FILES_PATH_MAX + 1];
        memset(longer, 'x', sizeof(longer));
        *w = (struct rp_wire_writer){.data = w->data, .cap = w->cap};
        rp_wire_put_u32(w, 0);
        rp_wire_put_u8(w, RP_FILES_STAT);
        rp_wire_put_u8(w, 0);
        rp_wire_put_u16(w, 0);
        rp_wire_put_str(w, (struct rp_str){longer, sizeof(longer)});
    }
    put_length(w->data, w->length);
    rp_buf_commit(&r->first, w->length);
    rp_file_request_start(f, s, r);
    return r;
}

struct rp_file_request *rp_files_stat(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                      const struct rp_file_callbacks *cb, void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_STAT, path, QUICK_MS, cb, ctx, &w);
    return go(f, s, r, &w);
}

struct rp_file_request *rp_files_list(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                      uint32_t depth, uint32_t limit, const struct rp_file_callbacks *cb,
                                      void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_LIST, path, QUICK_MS, cb, ctx, &w);
    rp_wire_put_u32(&w, depth);
    rp_wire_put_u32(&w, limit);
    return go(f, s, r, &w);
}

struct rp_file_request *rp_files_read(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                      uint64_t offset, uint64_t length, const struct rp_file_callbacks *cb,
                                      void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_READ, path, QUICK_MS, cb, ctx, &w);
    rp_wire_put_u64(&w, offset);
    rp_wire_put_u64(&w, length);
    return go(f, s, r, &w);
}

struct rp_file_request *rp_files_write(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                       uint32_t mode, uint8_t flags, struct rp_str etag, uint64_t size,
                                       const struct rp_file_callbacks *cb, void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_WRITE, path, SLOW_MS, cb, ctx, &w);
    rp_wire_put_u32(&w, mode & 0777);
    rp_wire_put_u8(&w, flags);
    /* One that no file can have matches none, however long it is. */
    rp_wire_put_str(&w, etag.n < RP_FILES_ETAG_MAX ? etag : RP_STR("-"));
    rp_wire_put_u64(&w, size);
    return go(f, s, r, &w);
}

struct rp_file_request *rp_files_mkdir(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                       bool parents, const struct rp_file_callbacks *cb, void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_MKDIR, path, SLOW_MS, cb, ctx, &w);
    rp_wire_put_u8(&w, parents);
    return go(f, s, r, &w);
}

static struct rp_file_request *two_paths(uint8_t type, struct rp_files *f, struct rp_sandbox *s,
                                         struct rp_str from, struct rp_str to, bool overwrite,
                                         const struct rp_file_callbacks *cb, void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(type, from, SLOW_MS, cb, ctx, &w);
    rp_wire_put_str(&w, to);
    rp_wire_put_u8(&w, overwrite);
    return go(f, s, r, &w);
}

struct rp_file_request *rp_files_move(struct rp_files *f, struct rp_sandbox *s, struct rp_str from,
                                      struct rp_str to, bool overwrite, const struct rp_file_callbacks *cb,
                                      void *ctx)
{
    return two_paths(RP_FILES_MOVE, f, s, from, to, overwrite, cb, ctx);
}

struct rp_file_request *rp_files_copy(struct rp_files *f, struct rp_sandbox *s, struct rp_str from,
                                      struct rp_str to, bool overwrite, const struct rp_file_callbacks *cb,
                                      void *ctx)
{
    return two_paths(RP_FILES_COPY, f, s, from, to, overwrite, cb, ctx);
}

struct rp_file_request *rp_files_delete(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                        bool recursive, const struct rp_file_callbacks *cb, void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_DELETE, path, SLOW_MS, cb, ctx, &w);
    rp_wire_put_u8(&w, recursive);
    return go(f, s, r, &w);
}

struct rp_file_request *rp_files_search(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                        struct rp_str query, uint32_t flags, uint32_t limit,
                                        struct rp_str glob, const struct rp_file_callbacks *cb, void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_SEARCH, path, SLOW_MS, cb, ctx, &w);
    rp_wire_put_str(&w, query);
    rp_wire_put_u32(&w, flags);
    rp_wire_put_u32(&w, limit);
    rp_wire_put_str(&w, glob);
    return go(f, s, r, &w);
}

struct rp_file_request *rp_files_export(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                        const struct rp_file_callbacks *cb, void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_EXPORT, path, QUICK_MS, cb, ctx, &w);
    return go(f, s, r, &w);
}

struct rp_file_request *rp_files_import(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                        bool replace, const struct rp_file_callbacks *cb, void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_IMPORT, path, SLOW_MS, cb, ctx, &w);
    rp_wire_put_u8(&w, replace);
    return go(f, s, r, &w);
}

struct rp_file_request *rp_files_watch(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                       const struct rp_file_callbacks *cb, void *ctx)
{
    struct rp_wire_writer w;
    struct rp_file_request *r = new_request(RP_FILES_WATCH, path, QUICK_MS, cb, ctx, &w);
    return go(f, s, r, &w);
}

/* ---- flow ---- */

struct rp_str rp_file_replaces(const struct rp_file_request *r)
{
    return (struct rp_str){r->replaces, r->replaces_length};
}

void rp_file_pause(struct rp_file_request *r)
{
    struct rp_stream *s = rp_file_request_stream(r);
    r->paused = true;
    if (s)
        rp_stream_pause(s);
}

void rp_file_resume(struct rp_file_request *r)
{
    struct rp_stream *s = rp_file_request_stream(r);
    r->paused = false;
    if (s)
        rp_stream_resume(s);
}

static enum rp_write send_frame(struct rp_file_request *r, uint8_t type, struct rp_str payload)
{
    struct rp_stream *s = rp_file_request_stream(r);
    if (!s || !r->ready || r->sent_end)
        return RP_WRITE_FAILED;
    uint8_t head[RP_FILES_HEADER_SIZE] = {0};
    put_length(head, sizeof(head) + payload.n);
    head[4] = type;
    struct rp_str pieces[2] = {{(const char *)head, sizeof(head)}, payload};
    return rp_stream_write(s, pieces, 2);
}

enum rp_write rp_file_send(struct rp_file_request *r, struct rp_str bytes)
{
    enum rp_write result = RP_WRITE_OK;
    while (bytes.n) {
        struct rp_str piece = {bytes.p, RP_MIN(bytes.n, (size_t)RP_FILES_PAYLOAD_MAX)};
        result = send_frame(r, RP_FILES_DATA, piece);
        if (result == RP_WRITE_FAILED)
            break;
        bytes.p += piece.n;
        bytes.n -= piece.n;
    }
    return result;
}

enum rp_write rp_file_send_entry(struct rp_file_request *r, const struct rp_file_entry *e)
{
    uint8_t bytes[2 * RP_FILES_PATH_MAX + 256];
    struct rp_wire_writer w = {.data = bytes, .cap = sizeof(bytes)};
    rp_wire_put_str(&w, e->path);
    rp_wire_put_u8(&w, e->kind);
    rp_wire_put_u32(&w, e->mode);
    rp_wire_put_u64(&w, e->size);
    rp_wire_put_u64(&w, (uint64_t)e->mtime_ns);
    rp_wire_put_str(&w, e->target);
    rp_wire_put_str(&w, e->etag);
    return w.overflow ? RP_WRITE_FAILED
                      : send_frame(r, RP_FILES_ENTRY, (struct rp_str){(const char *)bytes, w.length});
}

void rp_file_finish(struct rp_file_request *r)
{
    static const char empty[4] = {0};
    (void)send_frame(r, RP_FILES_END, (struct rp_str){empty, sizeof(empty)});
    r->sent_end = true;
}
