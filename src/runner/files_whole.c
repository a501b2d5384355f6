/* files_whole.c: a small file written or read at once, over the streaming requests. */
#include <string.h>

#include "runner/files_internal.h"

struct whole {
    struct rp_file_request *request;
    struct rp_buf content;
    size_t max;
    union {
        rp_files_written_fn *written;
        rp_files_content_fn *read;
    } fn;
    void *ctx;
    bool too_large;
};

static void free_whole(struct whole *w)
{
    rp_buf_done(&w->content);
    free(w);
}

/* ---- write ---- */

static void write_more(void *ctx)
{
    struct whole *w = ctx;
    while (w->content.length) {
        struct rp_str piece = rp_buf_view(&w->content);
        piece.n = RP_MIN(piece.n, (size_t)RP_FILES_PAYLOAD_MAX);
        enum rp_write r = rp_file_send(w->request, piece);
        rp_buf_consume(&w->content, piece.n);
        if (r == RP_WRITE_FAILED)
            return; /* on_done says it */
        if (r == RP_WRITE_FULL && w->content.length)
            return;
    }
    rp_file_finish(w->request);
}

static void written(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct whole *w = ctx;
    w->fn.written(w->ctx, etag, err);
    free_whole(w);
}

void rp_files_write_all(struct rp_files *f, struct rp_sandbox *s, struct rp_str path, uint32_t mode,
                        struct rp_str content, rp_files_written_fn *fn, void *ctx)
{
    static const struct rp_file_callbacks callbacks = {
        .on_ready = write_more, .on_drain = write_more, .on_done = written};
    struct whole *w = rp_calloc(1, sizeof(*w));
    rp_buf_init(&w->content, content.n);
    (void)!rp_buf_append_str(&w->content, content);
    w->fn.written = fn;
    w->ctx = ctx;
    w->request = rp_files_write(f, s, path, mode, RP_FILES_WRITE_PARENTS, (struct rp_str){"", 0}, content.n,
                                &callbacks, w);
}

/* ---- read ---- */

static void read_entry(void *ctx, const struct rp_file_entry *e)
{
}

static void read_data(void *ctx, struct rp_str bytes)
{
    struct whole *w = ctx;
    if (!w->too_large && !rp_buf_append_str(&w->content, bytes))
        w->too_large = true;
}

static void read_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct whole *w = ctx;
    struct rp_error own = {0};
    if (!err && w->too_large) {
        (void)rp_error_set(&own, RP_ERROR_TOO_LARGE, "the file is larger than %zu bytes", w->max);
        err = &own;
    }
    w->fn.read(w->ctx, err ? (struct rp_str){"", 0} : rp_buf_view(&w->content), err);
    free_whole(w);
}

void rp_files_read_all(struct rp_files *f, struct rp_sandbox *s, struct rp_str path, size_t max,
                       rp_files_content_fn *fn, void *ctx)
{
    static const struct rp_file_callbacks callbacks = {
        .on_entry = read_entry, .on_data = read_data, .on_done = read_done};
    struct whole *w = rp_calloc(1, sizeof(*w));
    rp_buf_init(&w->content, max);
    w->max = max;
    w->fn.read = fn;
    w->ctx = ctx;
    /* One byte more than is wanted shows that there is more. */
    w->request = rp_files_read(f, s, path, 0, (uint64_t)max + 1, &callbacks, w);
}
