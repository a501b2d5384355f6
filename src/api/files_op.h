/*
 * files_op.h: what every route of a project's files begins with: the path, a sandbox that serves files, and
 * one request to its file helper that lives no longer than the exchange. Loop thread only.
 */
#ifndef RP_API_FILES_OP_H
#define RP_API_FILES_OP_H

#include "api/api.h"
#include "runner/files.h"

struct rp_file_op;

/* Embedded first in a route's own state. Freed when the exchange is closed and nothing else is under way
 * (rp_file_op_hold). The project counts as in use while it lives. */
struct rp_file_op {
    struct rp_call *call;
    struct rp_project *project;
    struct rp_file_request *request; /* cancelled when the exchange closes; set NULL by on_done */
    void (*begin)(struct rp_file_op *op, struct rp_sandbox *s);
    void (*closed)(struct rp_file_op *op);   /* or NULL: the exchange is over; call->x is NULL */
    void (*free_own)(struct rp_file_op *op); /* or NULL: before the memory goes */
    unsigned holds;
    size_t path_length;
    char path[RP_FILES_PATH_MAX + 1];
};

/*
 * Makes an op of `size` bytes. The path comes from the query's "path" (absent: the project) unless path is
 * given. NULL, and answered, when it is malformed. Then fill begin and call rp_file_op_start.
 */
void *rp_file_op_new(struct rp_call *call, size_t size, const struct rp_str *path);
/* Gets a sandbox and calls begin, or answers with the error. */
void rp_file_op_start(struct rp_file_op *op);

void rp_file_op_hold(struct rp_file_op *op);
void rp_file_op_release(struct rp_file_op *op);

/* Answers with the error, or cuts the response when it has begun. Sets request NULL: for on_done. */
void rp_file_op_fail(struct rp_file_op *op, const struct rp_error *err);
/* 201 with Location of a file of this project. */
void rp_file_op_created(struct rp_file_op *op, struct rp_str path, struct rp_str etag);

static inline struct rp_str rp_file_op_path(const struct rp_file_op *op)
{
    return (struct rp_str){op->path, op->path_length};
}

/* ---- small ones that several routes need; pure ---- */

/* Media type by the name's extension; "application/octet-stream" when it is not known. Never NULL. */
const char *rp_media_type(struct rp_str path);

/* True when the field's list of entity tags (RFC 9110 section 8.8.3) names this one, or is "*". `weak`: a W/
 * tag counts too. */
bool rp_etag_listed(struct rp_str field, struct rp_str etag, bool weak);
/* The one tag of an If-Match field without its quotes; false when it is a list, weak or "*". */
bool rp_etag_single(struct rp_str field, struct rp_str *ret);

enum rp_range_result { RP_RANGE_NONE, RP_RANGE_ONE, RP_RANGE_SUFFIX };
/* A Range field (RFC 9110 section 14.2) of one range; NONE when it is absent, malformed, of another unit, or
 * of several. ONE: *ret_first, *ret_length (UINT64_MAX: to the end). SUFFIX: the last *ret_length bytes. */
enum rp_range_result rp_range_parse(struct rp_str field, uint64_t *ret_first, uint64_t *ret_length);

/* Appends path percent-encoded as a query value (RFC 3986). */
bool rp_percent_encode(struct rp_buf *out, struct rp_str s) RP_MUST_CHECK;

#endif
