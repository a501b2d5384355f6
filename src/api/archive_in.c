/*
 * archive_in.c: PUT …/archive: the body goes to an unnamed file first (a zip is read from its end), then a
 * worker unpacks it piece by piece into the file helper, which puts all of it in place at the end or none of
 * it. Loop thread, but for `spool` and `unpack`.
 *
 * Memory is two buffers, whatever the archive's size; on disk it is the archive itself, at most 1 GiB each
 * and four at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "api/archive.h"
#include "api/files_op.h"
#include "api/routes.h"
#include "base/settings.h"

enum { SPOOL_BATCH = 256 * 1024, SPOOL_CAP = 512 * 1024, UNPACK_BATCH = 256 * 1024, UPLOADS_MAX = 4 };
static const uint64_t ARCHIVE_MAX = 1ull << 30;

struct upload {
    struct rp_file_op op;
    int spool;
    uint64_t received;
    bool counted; /* in the gateway's number of uploads */
    bool replace;
    bool body_ended, paused, working, failed;
    bool stalled; /* the helper's queue is full */
    int more;     /* what the unpacker said: 1, 0 the end */
    struct rp_unpacker *unpacker;
    struct rp_buf buffer; /* bytes of the body, then items */
    struct rp_error err;  /* of the worker */
};

static void next_step(struct upload *u);

static void free_own(struct rp_file_op *op)
{
    struct upload *u = (struct upload *)op;
    rp_unpacker_free(u->unpacker);
    rp_close_fd(&u->spool);
    rp_buf_done(&u->buffer);
    if (u->counted)
        op->call->gateway->archive_uploads--;
}

static void fail(struct upload *u, const struct rp_error *err)
{
    rp_file_cancel(RP_STEAL_PTR(u->op.request));
    rp_file_op_fail(&u->op, err);
}

/* Runs one job; done comes back to the loop and releases. */
static void submit(struct upload *u, void (*job)(void *ctx), void (*done)(void *ctx))
{
    struct rp_error err = {0};
    u->working = true;
    rp_file_op_hold(&u->op);
    if (rp_pool_submit(u->op.call->gateway->archives, job, done, u, &err) < 0) {
        u->working = false;
        fail(u, &err);
        rp_file_op_release(&u->op);
    }
}

/* What every job's end begins with: false when there is nothing more to do. */
static bool came_back(struct upload *u)
{
    u->working = false;
    if (u->op.call->x && u->failed)
        fail(u, &u->err);
    return u->op.call->x && !u->failed;
}

/* ---- the body ---- */

static void spool(void *ctx) /* worker thread */
{
    struct upload *u = ctx;
    struct rp_str rest = rp_buf_view(&u->buffer);
    while (rest.n) {
        ssize_t n = write(u->spool, rest.p, rest.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            (void)rp_error_errno(&u->err, RP_ERROR_INTERNAL, errno, "keep the archive");
            u->failed = true;
            return;
        }
        rest = (struct rp_str){rest.p + n, rest.n - (size_t)n};
    }
}

static void spooled(void *ctx)
{
    struct upload *u = ctx;
    rp_buf_consume(&u->buffer, u->buffer.length);
    if (came_back(u)) {
        rp_project_touch(u->op.project);
        if (u->paused) {
            u->paused = false;
            rp_http_body_resume(u->op.call->x);
        }
        next_step(u);
    }
    rp_file_op_release(&u->op);
}

static void refuse_size(struct upload *u)
{
    struct rp_error err = {0};
    (void)rp_error_set(&err, RP_ERROR_TOO_LARGE, "an archive may have at most %llu bytes",
                       (unsigned long long)ARCHIVE_MAX);
    u->failed = true;
    rp_file_op_fail(&u->op, &err);
}

static void on_body(void *ctx, struct rp_str bytes)
{
    struct upload *u = ctx;
    if (u->failed)
        return;
    u->received += bytes.n;
    if (u->received > ARCHIVE_MAX || !rp_buf_append_str(&u->buffer, bytes)) {
        refuse_size(u);
        return;
    }
    if (u->buffer.length >= SPOOL_BATCH) {
        u->paused = true;
        rp_http_body_pause(u->op.call->x);
        if (!u->working)
            submit(u, spool, spooled);
    }
}

static void on_body_end(void *ctx)
{
    struct upload *u = ctx;
    u->body_ended = true;
    if (!u->working && !u->failed)
        next_step(u);
}

/* ---- the entries ---- */

static void unpack(void *ctx) /* worker thread */
{
    struct upload *u = ctx;
    if (!u->unpacker &&
        (lseek(u->spool, 0, SEEK_SET) < 0 || rp_unpacker_new(u->spool, &u->unpacker, &u->err) < 0)) {
        u->failed = true;
        return;
    }
    u->more = rp_unpacker_some(u->unpacker, &u->buffer, UNPACK_BATCH, &u->err);
    u->failed = u->more < 0;
}

static void unpacked(void *ctx)
{
    struct upload *u = ctx;
    if (came_back(u) && u->op.request) {
        struct rp_str items = rp_buf_view(&u->buffer), data;
        struct rp_file_entry e;
        enum rp_write r = RP_WRITE_OK;
        while (rp_archive_next(&items, &e, &data) == 1 && r != RP_WRITE_FAILED)
            r = e.kind ? rp_file_send_entry(u->op.request, &e) : rp_file_send(u->op.request, data);
        rp_buf_consume(&u->buffer, u->buffer.length);
        rp_project_touch(u->op.project);
        if (!u->more)
            rp_file_finish(u->op.request);
        else if (r == RP_WRITE_FULL)
            u->stalled = true;
        else if (r == RP_WRITE_OK)
            submit(u, unpack, unpacked);
        /* RP_WRITE_FAILED: on_done says why */
    }
    rp_file_op_release(&u->op);
}

static void on_drain(void *ctx)
{
    struct upload *u = ctx;
    if (u->stalled && !u->working) {
        u->stalled = false;
        submit(u, unpack, unpacked);
    }
}

static void on_ready(void *ctx)
{
    submit(ctx, unpack, unpacked);
}

static void on_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct upload *u = ctx;
    u->op.request = NULL;
    if (err)
        rp_file_op_fail(&u->op, err);
    else
        rp_api_reply_empty(u->op.call, 204);
}

/* The body is on its way to the disk, or all of it is there. */
static void next_step(struct upload *u)
{
    static const struct rp_file_callbacks callbacks = {
        .on_ready = on_ready, .on_drain = on_drain, .on_done = on_done};
    if (u->working)
        return; /* more of the body came with the resume */
    if (u->buffer.length && (u->body_ended || u->buffer.length >= SPOOL_BATCH)) {
        submit(u, spool, spooled);
        return;
    }
    if (!u->body_ended || u->op.request)
        return;
    struct rp_sandbox *s = rp_project_sandbox(u->op.project);
    if (!s) {
        struct rp_error err = {0};
        (void)rp_error_set(&err, RP_ERROR_UNAVAILABLE, "the project's sandbox has just ended");
        fail(u, &err);
        return;
    }
    rp_buf_done(&u->buffer);
    rp_buf_init(&u->buffer, RP_ARCHIVE_ITEMS_CAP);
    u->op.request =
        rp_files_import(u->op.call->gateway->files, s, rp_file_op_path(&u->op), u->replace, &callbacks, u);
}

static void begin(struct rp_file_op *op, struct rp_sandbox *s)
{
    static const struct rp_http_body_callbacks callbacks = {.on_data = on_body, .on_end = on_body_end};
    rp_http_body_stream(op->call->x, &callbacks, op);
}

static int open_spool(const struct rp_settings *settings, struct rp_error *err)
{
    char directory[4096];
    int n = snprintf(directory, sizeof(directory), "%s/gateway", settings->data_dir);
    if (n < 0 || n >= (int)sizeof(directory))
        return rp_error_set(err, RP_ERROR_INTERNAL, "the data directory's path is too long");
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd < 0 ? rp_error_errno(err, RP_ERROR_INTERNAL, errno, "keep the archive") : fd;
}

void rp_api_archive_write(struct rp_call *call)
{
    struct rp_error err = {0};
    char replace[8];
    size_t n = 0;
    struct upload *u = rp_file_op_new(call, sizeof(*u), NULL);
    if (!u)
        return;
    u->spool = -1;
    rp_buf_init(&u->buffer, SPOOL_CAP);
    u->op.free_own = free_own;
    u->op.begin = begin;
    u->replace = rp_http_query(call->request, "replace", replace, sizeof(replace), &n) == 1 && n &&
                 strcmp(replace, "0") != 0;
    if (!call->request->chunked && (uint64_t)call->request->content_length > ARCHIVE_MAX) {
        refuse_size(u);
        return;
    }
    if (call->gateway->archive_uploads >= UPLOADS_MAX) {
        (void)rp_error_set(&err, RP_ERROR_TOO_MANY, "%d archives are being uploaded already", UPLOADS_MAX);
        rp_http_set_header_text(call->x, "Retry-After", "5");
        rp_api_reply_error(call, &err);
        return;
    }
    call->gateway->archive_uploads++;
    u->counted = true;
    u->spool = open_spool(call->gateway->settings, &err);
    if (u->spool < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    rp_file_op_start(&u->op);
}
