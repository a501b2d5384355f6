/*
 * archive_out.c: GET …/archive: everything below a path as tar.gz or zip. The file helper's stream is
 * gathered to a batch, a worker packs it, and what comes out goes to the client; only one of the three works
 * at a time, so memory is one batch whatever the project's size. Loop thread, but for `pack`.
 */
#include <string.h>

#include "api/archive.h"
#include "api/files_op.h"
#include "api/routes.h"

enum { BATCH = 256 * 1024, OUTPUT_CAP = 4 * RP_ARCHIVE_ITEMS_CAP };

struct download {
    struct rp_file_op op;
    enum rp_archive_format format;
    struct rp_packer *packer;
    struct rp_buf items;
    struct rp_error err; /* of the worker */
    bool last;           /* the stream has ended: the batch is the last one */
    bool working, failed;
};

static void free_own(struct rp_file_op *op)
{
    struct download *d = (struct download *)op;
    rp_packer_free(d->packer);
    rp_buf_done(&d->items);
}

static void pack(void *ctx) /* worker thread */
{
    struct download *d = ctx;
    d->failed = rp_packer_add(d->packer, rp_buf_view(&d->items), &d->err) < 0 ||
                (d->last && rp_packer_finish(d->packer, &d->err) < 0);
}

static void on_drain(void *ctx)
{
    struct download *d = ctx;
    if (d->op.request && !d->working)
        rp_file_resume(d->op.request);
}

static void open_answer(struct download *d)
{
    struct rp_http_exchange *x = d->op.call->x;
    char name[96];
    bool zip = d->format == RP_ARCHIVE_ZIP;
    snprintf(name, sizeof(name), "attachment; filename=\"%s%s\"", rp_project_id(d->op.project),
             zip ? ".zip" : ".tar.gz");
    rp_http_set_header_text(x, "Content-Disposition", name);
    rp_http_set_header_text(x, "Cache-Control", "private, no-store");
    rp_http_set_header_text(x, "X-Content-Type-Options", "nosniff");
    rp_http_set_output_cap(x, OUTPUT_CAP);
    rp_http_begin(x, 200, zip ? "application/zip" : "application/gzip", -1);
    rp_http_on_drain(x, on_drain, d);
}

static void packed(void *ctx)
{
    struct download *d = ctx;
    struct rp_http_exchange *x = d->op.call->x;
    d->working = false;
    rp_buf_consume(&d->items, d->items.length);
    if (!x) {
        rp_file_op_release(&d->op);
        return;
    }
    if (d->failed) {
        rp_file_cancel(RP_STEAL_PTR(d->op.request));
        rp_file_op_fail(&d->op, &d->err);
        rp_file_op_release(&d->op);
        return;
    }
    if (!rp_http_responded(x))
        open_answer(d);
    struct rp_buf *out = rp_packer_output(d->packer);
    enum rp_write r = out->length ? rp_http_send(x, rp_buf_view(out)) : RP_WRITE_OK;
    rp_buf_consume(out, out->length);
    rp_project_touch(d->op.project);
    if (d->last)
        rp_http_end(x);
    else if (r == RP_WRITE_OK && d->op.request)
        rp_file_resume(d->op.request);
    rp_file_op_release(&d->op);
}

static void work(struct download *d)
{
    struct rp_error err = {0};
    if (d->op.request)
        rp_file_pause(d->op.request);
    d->working = true;
    rp_file_op_hold(&d->op);
    if (rp_pool_submit(d->op.call->gateway->archives, pack, packed, d, &err) == 0)
        return;
    d->working = false;
    rp_file_cancel(RP_STEAL_PTR(d->op.request));
    rp_file_op_fail(&d->op, &err);
    rp_file_op_release(&d->op);
}

/* The batch's cap leaves room for one more item of any size over BATCH. */
static void full(struct download *d, bool fits)
{
    struct rp_error err = {0};
    if (!fits) {
        (void)rp_error_set(&err, RP_ERROR_INTERNAL, "the batch of an archive is full");
        rp_file_cancel(RP_STEAL_PTR(d->op.request));
        rp_file_op_fail(&d->op, &err);
    } else if (d->items.length >= BATCH) {
        work(d);
    }
}

static void on_entry(void *ctx, const struct rp_file_entry *e)
{
    struct download *d = ctx;
    full(d, rp_archive_put_entry(&d->items, e));
}

static void on_data(void *ctx, struct rp_str bytes)
{
    struct download *d = ctx;
    full(d, rp_archive_put_data(&d->items, bytes));
}

static void on_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct download *d = ctx;
    if (err) {
        rp_file_op_fail(&d->op, err);
        return;
    }
    d->op.request = NULL;
    d->last = true;
    work(d);
}

static void begin(struct rp_file_op *op, struct rp_sandbox *s)
{
    static const struct rp_file_callbacks callbacks = {
        .on_entry = on_entry, .on_data = on_data, .on_done = on_done};
    struct download *d = (struct download *)op;
    op->request = rp_files_export(op->call->gateway->files, s, rp_file_op_path(op), &callbacks, d);
}

void rp_api_archive_read(struct rp_call *call)
{
    char format[16] = "tar.gz";
    size_t n = 0;
    struct rp_error err = {0};
    struct download *d = rp_file_op_new(call, sizeof(*d), NULL);
    if (!d)
        return;
    rp_buf_init(&d->items, RP_ARCHIVE_ITEMS_CAP);
    d->op.free_own = free_own;
    d->op.begin = begin;
    int there = rp_http_query(call->request, "format", format, sizeof(format), &n);
    if (there < 0 || (strcmp(format, "tar.gz") != 0 && strcmp(format, "zip") != 0)) {
        (void)rp_error_set(&err, RP_ERROR_INVALID, "the format must be tar.gz or zip");
        rp_api_reply_error(call, &err);
        return;
    }
    d->format = strcmp(format, "zip") == 0 ? RP_ARCHIVE_ZIP : RP_ARCHIVE_TAR_GZ;
    if (rp_packer_new(d->format, &d->packer, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    rp_file_op_start(&d->op);
}
