/*
 * files_upload.c: PUT …/files/content: the body streams to the file helper at the disk's pace and appears
 * whole or not at all. Loop thread only.
 */
#include <errno.h>
#include <string.h>

#include "api/files_op.h"
#include "api/routes.h"

/* The project's quota is the real limit; this one ends an upload that no quota can hold before it begins. */
static const uint64_t UPLOAD_MAX = 8ull << 30;

struct upload {
    struct rp_file_op op;
    uint8_t flags; /* RP_FILES_WRITE_* */
    bool paused, ended, replaced;
    uint64_t size, received;
    size_t etag_length;
    char etag[RP_FILES_ETAG_MAX];
};

static void refuse_size(struct upload *u)
{
    struct rp_error err = {0};
    (void)rp_error_set(&err, RP_ERROR_TOO_LARGE, "a file may have at most %llu bytes",
                       (unsigned long long)UPLOAD_MAX);
    rp_file_cancel(RP_STEAL_PTR(u->op.request));
    rp_file_op_fail(&u->op, &err);
}

static void on_body(void *ctx, struct rp_str bytes)
{
    struct upload *u = ctx;
    if (!u->op.request)
        return; /* answered already */
    u->received += bytes.n;
    if (u->received > UPLOAD_MAX) {
        refuse_size(u);
        return;
    }
    rp_project_touch(u->op.project);
    if (rp_file_send(u->op.request, bytes) == RP_WRITE_FULL) {
        u->paused = true;
        rp_http_body_pause(u->op.call->x);
    }
}

static void on_body_end(void *ctx)
{
    struct upload *u = ctx;
    if (u->op.request)
        rp_file_finish(u->op.request);
}

static void on_ready(void *ctx)
{
    static const struct rp_http_body_callbacks callbacks = {.on_data = on_body, .on_end = on_body_end};
    struct upload *u = ctx;
    u->replaced = rp_file_replaces(u->op.request).n > 0;
    rp_http_body_stream(u->op.call->x, &callbacks, u);
}

static void on_drain(void *ctx)
{
    struct upload *u = ctx;
    if (u->paused && u->op.call->x) {
        u->paused = false;
        rp_http_body_resume(u->op.call->x);
    }
}

static void on_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct upload *u = ctx;
    struct rp_error own = {0};
    if (err) {
        if (err->code == RP_ERROR_EXISTS && (u->flags & RP_FILES_WRITE_CREATE_ONLY)) {
            /* If-None-Match: * that does not hold is a precondition that failed (RFC 9110 section 13.1.2) */
            own = *err;
            own.code = RP_ERROR_PRECONDITION;
            err = &own;
        }
        rp_file_op_fail(&u->op, err);
        return;
    }
    u->op.request = NULL;
    if (!u->replaced) {
        rp_file_op_created(&u->op, rp_file_op_path(&u->op), etag);
        return;
    }
    char quoted[RP_FILES_ETAG_MAX + 3];
    snprintf(quoted, sizeof(quoted), "\"%.*s\"", (int)etag.n, etag.p);
    rp_http_set_header_text(u->op.call->x, "ETag", quoted);
    rp_api_reply_empty(u->op.call, 204);
}

static void begin(struct rp_file_op *op, struct rp_sandbox *s)
{
    static const struct rp_file_callbacks callbacks = {
        .on_ready = on_ready, .on_drain = on_drain, .on_done = on_done};
    struct upload *u = (struct upload *)op;
    op->request =
        rp_files_write(op->call->gateway->files, s, rp_file_op_path(op), 0, u->flags | RP_FILES_WRITE_PARENTS,
                       (struct rp_str){u->etag, u->etag_length}, u->size, &callbacks, u);
}

/* If-Match and If-None-Match into flags. -1 with err when they say what cannot be done. */
static int preconditions(const struct rp_http_request *r, struct upload *u, struct rp_error *err)
{
    struct rp_str match = rp_http_header(r, "If-Match"), none = rp_http_header(r, "If-None-Match"), tag;
    if (none.p) {
        if (!rp_str_is(rp_str_trim(none), "*"))
            return rp_error_set(err, RP_ERROR_INVALID, "If-None-Match of a write can only be *");
        u->flags |= RP_FILES_WRITE_CREATE_ONLY;
    }
    if (match.p) {
        u->flags |= RP_FILES_WRITE_MATCH;
        if (!rp_etag_single(match, &tag) || tag.n >= sizeof(u->etag))
            return rp_error_set(err, RP_ERROR_INVALID, "If-Match of a write must be one strong entity tag");
        memcpy(u->etag, tag.p, tag.n);
        u->etag_length = tag.n;
    }
    return 0;
}

void rp_api_files_write(struct rp_call *call)
{
    struct rp_error err = {0};
    struct upload *u = rp_file_op_new(call, sizeof(*u), NULL);
    if (!u)
        return;
    u->op.begin = begin;
    u->size = call->request->chunked ? UINT64_MAX : (uint64_t)call->request->content_length;
    if (!call->request->chunked && u->size > UPLOAD_MAX) {
        refuse_size(u);
        return;
    }
    if (preconditions(call->request, u, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    rp_file_op_start(&u->op);
}
