#include "api/files_op.h"

#include <stdlib.h>
#include <string.h>

enum { LOCATION_MAX = 3 * RP_FILES_PATH_MAX + 256 };

static void release_project(struct rp_file_op *op)
{
    rp_project_viewer(op->project, -1);
    rp_project_touch(op->project);
    rp_project_unref(op->project);
}

void rp_file_op_hold(struct rp_file_op *op)
{
    op->holds++;
}

void rp_file_op_release(struct rp_file_op *op)
{
    if (--op->holds)
        return;
    if (op->free_own)
        op->free_own(op);
    release_project(op);
    rp_call_unref(op->call);
    free(op);
}

static void on_closed(void *ctx)
{
    struct rp_file_op *op = ctx;
    rp_file_cancel(RP_STEAL_PTR(op->request));
    if (op->closed)
        op->closed(op);
    rp_file_op_release(op);
}

/* The path of the query. False, and answered, when it cannot be one. */
static bool take_path(struct rp_call *call, struct rp_file_op *op, const struct rp_str *given)
{
    struct rp_error err = {0};
    int there = 1;
    if (given) {
        if (given->n > RP_FILES_PATH_MAX) {
            there = -1;
        } else {
            memcpy(op->path, given->p, given->n);
            op->path_length = given->n;
        }
    } else {
        there = rp_http_query(call->request, "path", op->path, sizeof(op->path), &op->path_length);
    }
    if (there == 0)
        op->path_length = 0;
    if (there < 0 || !rp_utf8_valid(op->path, op->path_length) || memchr(op->path, '\0', op->path_length)) {
        (void)rp_error_set(&err, RP_ERROR_INVALID,
                           "the path must be UTF-8 without NUL, percent-encoded, and at most %d bytes",
                           RP_FILES_PATH_MAX);
        rp_api_reply_error(call, &err);
        return false;
    }
    op->path[op->path_length] = '\0';
    return true;
}

void *rp_file_op_new(struct rp_call *call, size_t size, const struct rp_str *path)
{
    struct rp_file_op *op = rp_calloc(1, size);
    if (!take_path(call, op, path)) {
        free(op);
        return NULL;
    }
    op->call = rp_call_ref(call);
    op->project = rp_project_ref(call->project);
    rp_project_viewer(op->project, 1);
    op->holds = 1; /* the exchange */
    rp_call_on_close(call, on_closed, op);
    return op;
}

static void on_sandbox(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct rp_file_op *op = ctx;
    struct rp_sandbox *s = rp_project_sandbox(op->project);
    if (op->call->x) {
        struct rp_error gone = {0};
        if (!err && !s) {
            (void)rp_error_set(&gone, RP_ERROR_UNAVAILABLE, "the project's sandbox has just ended");
            err = &gone;
        }
        if (err)
            rp_api_reply_error(op->call, err);
        else
            op->begin(op, s);
    }
    rp_file_op_release(op);
}

void rp_file_op_start(struct rp_file_op *op)
{
    rp_project_touch(op->project);
    rp_file_op_hold(op);
    rp_project_need_files(op->project, on_sandbox, op);
}

void rp_file_op_fail(struct rp_file_op *op, const struct rp_error *err)
{
    op->request = NULL;
    if (!op->call->x)
        return;
    if (rp_http_responded(op->call->x))
        rp_http_abort(op->call->x);
    else
        rp_api_reply_error(op->call, err);
}

void rp_file_op_created(struct rp_file_op *op, struct rp_str path, struct rp_str etag)
{
    struct rp_call *call = op->call;
    if (!call->x)
        return;
    struct rp_buf location;
    rp_buf_init(&location, LOCATION_MAX);
    if (rp_buf_printf(&location, "/api/v1/projects/%s/files/content?path=", rp_project_id(op->project)) &&
        rp_percent_encode(&location, path))
        rp_http_set_header(call->x, "Location", rp_buf_view(&location));
    rp_buf_done(&location);
    if (etag.n) {
        char quoted[RP_FILES_ETAG_MAX + 3];
        snprintf(quoted, sizeof(quoted), "\"%.*s\"", (int)etag.n, etag.p);
        rp_http_set_header_text(call->x, "ETag", quoted);
    }
    struct rp_buf b;
    rp_buf_init(&b, 6 * RP_FILES_PATH_MAX + 64);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_str(&w, "path", path);
    rp_json_close_object(&w);
    rp_api_reply_json(call, 201, &w);
}
