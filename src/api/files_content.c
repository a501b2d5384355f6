/*
 * files_content.c: GET and HEAD …/files/content: a file with its entity tag, whole or one range of it (RFC
 * 9110 sections 13 and 14). Loop thread only.
 *
 * What a user's program wrote is shown on the server's own origin here: `sandbox` in the content security
 * policy keeps it from acting there, `nosniff` from being taken for something else.
 */
#include <errno.h>
#include <string.h>

#include "api/files_op.h"
#include "api/routes.h"
#include "base/clock.h"

enum { OUTPUT_CAP = 512 * 1024, FIELD_MAX = 512 };

struct download {
    struct rp_file_op op;
    bool head, attachment;

    enum rp_range_result range;
    uint64_t first; /* of the range; UINT64_MAX length: to the end */
    uint64_t length;
    uint64_t left; /* bytes of the body still to come */
    char none_match[FIELD_MAX], match[FIELD_MAX], if_range[FIELD_MAX];
};

static void begin_read(struct rp_file_op *op, struct rp_sandbox *s);

static void on_drain(void *ctx)
{
    struct download *d = ctx;
    if (d->op.request)
        rp_file_resume(d->op.request);
}

/* The read has told enough: it ends here. */
static void stop_reading(struct download *d)
{
    rp_file_cancel(RP_STEAL_PTR(d->op.request));
}

static void read_again(struct download *d)
{
    struct rp_error err = {0};
    struct rp_sandbox *s = rp_project_sandbox(d->op.project);
    stop_reading(d);
    if (s) {
        begin_read(&d->op, s);
        return;
    }
    (void)rp_error_set(&err, RP_ERROR_UNAVAILABLE, "the project's sandbox has just ended");
    rp_file_op_fail(&d->op, &err);
}

static void set_common(struct download *d, const struct rp_file_entry *e)
{
    struct rp_http_exchange *x = d->op.call->x;
    char text[RP_FILES_ETAG_MAX + 3];
    snprintf(text, sizeof(text), "\"%.*s\"", (int)e->etag.n, e->etag.p);
    rp_http_set_header_text(x, "ETag", text);
    rp_http_set_header_text(x, "Accept-Ranges", "bytes");
    rp_http_set_header_text(x, "Cache-Control", "private, no-cache");
    rp_http_set_header_text(x, "X-Content-Type-Options", "nosniff");
    rp_http_set_header_text(x, "Content-Security-Policy", "sandbox; default-src 'none'");
    if (!d->attachment)
        return;
    struct rp_str path = rp_file_op_path(&d->op);
    const char *slash = memrchr(path.p, '/', path.n);
    if (slash)
        path = (struct rp_str){slash + 1, (size_t)(path.p + path.n - slash) - 1};
    struct rp_buf b;
    rp_buf_init(&b, 4096);
    if (rp_buf_printf(&b, "attachment; filename*=UTF-8''") && rp_percent_encode(&b, path))
        rp_http_set_header(x, "Content-Disposition", rp_buf_view(&b));
    rp_buf_done(&b);
}

static void refuse_range(struct download *d, uint64_t size)
{
    struct rp_error err = {0};
    char text[64];
    snprintf(text, sizeof(text), "bytes */%llu", (unsigned long long)size);
    rp_http_set_header_text(d->op.call->x, "Content-Range", text);
    (void)rp_error_set(&err, RP_ERROR_RANGE, "the file has %llu bytes", (unsigned long long)size);
    stop_reading(d);
    rp_file_op_fail(&d->op, &err);
}

/* Preconditions in the order of RFC 9110 section 13.2.2. True when they answered. */
static bool answered_by_precondition(struct download *d, const struct rp_file_entry *e)
{
    if (d->match[0] && !rp_etag_listed(rp_str_of(d->match), e->etag, false)) {
        struct rp_error err = {0};
        (void)rp_files_explain(&err, ESTALE, rp_file_op_path(&d->op));
        stop_reading(d);
        rp_file_op_fail(&d->op, &err);
        return true;
    }
    if (d->none_match[0] && rp_etag_listed(rp_str_of(d->none_match), e->etag, true)) {
        set_common(d, e);
        stop_reading(d);
        rp_http_reply(d->op.call->x, 304, NULL, (struct rp_str){0});
        return true;
    }
    return false;
}

static void open_answer(struct download *d, const struct rp_file_entry *e)
{
    struct rp_http_exchange *x = d->op.call->x;
    uint64_t first = 0, length = e->size;
    set_common(d, e);
    if (d->range == RP_RANGE_ONE) {
        char text[96];
        first = d->first;
        length = RP_MIN(d->length, e->size - first);
        snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", (unsigned long long)first,
                 (unsigned long long)(first + length - 1), (unsigned long long)e->size);
        rp_http_set_header_text(x, "Content-Range", text);
    }
    d->left = length;
    rp_http_set_output_cap(x, OUTPUT_CAP);
    rp_http_begin(x, d->range == RP_RANGE_ONE ? 206 : 200, rp_media_type(rp_file_op_path(&d->op)),
                  (int64_t)length);
    rp_http_on_drain(x, on_drain, d);
    if (d->head || !length) {
        stop_reading(d);
        rp_http_end(x);
    }
}

static void on_entry(void *ctx, const struct rp_file_entry *e)
{
    struct download *d = ctx;
    if (answered_by_precondition(d, e))
        return;
    if (d->range != RP_RANGE_NONE && d->if_range[0] &&
        !rp_etag_listed(rp_str_of(d->if_range), e->etag, false)) {
        d->range = RP_RANGE_NONE; /* it changed since: all of it */
        read_again(d);
        return;
    }
    if (d->range == RP_RANGE_SUFFIX) {
        if (!d->length || !e->size) {
            refuse_range(d, e->size);
            return;
        }
        d->range = RP_RANGE_ONE;
        d->first = e->size - RP_MIN(d->length, e->size);
        d->length = e->size - d->first;
        read_again(d);
        return;
    }
    if (d->range == RP_RANGE_ONE && d->first >= e->size) {
        refuse_range(d, e->size);
        return;
    }
    open_answer(d, e);
}

static void on_data(void *ctx, struct rp_str bytes)
{
    struct download *d = ctx;
    bytes.n = (size_t)RP_MIN((uint64_t)bytes.n, d->left);
    d->left -= bytes.n;
    rp_project_touch(d->op.project);
    enum rp_write r = rp_http_send(d->op.call->x, bytes);
    if (!d->left) {
        /* A file that grows while it is read has no end: what was announced is all. */
        stop_reading(d);
        rp_http_end(d->op.call->x);
    } else if (r == RP_WRITE_FULL) {
        rp_file_pause(d->op.request);
    }
}

static void on_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct download *d = ctx;
    if (err) {
        rp_file_op_fail(&d->op, err);
        return;
    }
    d->op.request = NULL;
    rp_http_abort(d->op.call->x); /* shorter than it was at first: the client must see it */
}

static void begin_read(struct rp_file_op *op, struct rp_sandbox *s)
{
    static const struct rp_file_callbacks callbacks = {
        .on_entry = on_entry, .on_data = on_data, .on_done = on_done};
    struct download *d = (struct download *)op;
    uint64_t first = d->range == RP_RANGE_ONE ? d->first : 0;
    uint64_t length = d->head || d->range == RP_RANGE_SUFFIX ? 0
                      : d->range == RP_RANGE_ONE             ? d->length
                                                             : UINT64_MAX;
    op->request =
        rp_files_read(op->call->gateway->files, s, rp_file_op_path(op), first, length, &callbacks, d);
}

/* A field that is too long is as if it matched nothing: for If-Match a refusal, else the whole file. */
static void copy_field(struct rp_call *call, const char *name, char dst[static FIELD_MAX])
{
    struct rp_str value = rp_http_header(call->request, name);
    if (value.p && !rp_str_copy(dst, FIELD_MAX, value))
        memcpy(dst, "-", 2);
}

void rp_api_files_read(struct rp_call *call)
{
    char download[8];
    size_t n = 0;
    struct download *d = rp_file_op_new(call, sizeof(*d), NULL);
    if (!d)
        return;
    d->head = rp_str_is(call->request->method, "HEAD");
    d->attachment = rp_http_query(call->request, "download", download, sizeof(download), &n) == 1 && n &&
                    strcmp(download, "0") != 0;
    copy_field(call, "If-None-Match", d->none_match);
    copy_field(call, "If-Match", d->match);
    copy_field(call, "If-Range", d->if_range);
    if (!d->head)
        d->range = rp_range_parse(rp_http_header(call->request, "Range"), &d->first, &d->length);
    d->op.begin = begin_read;
    rp_file_op_start(&d->op);
}
