/* files_change.c: DELETE …/files/content and POST …/files/{mkdir,move,copy}. Loop thread only. */
#include <errno.h>
#include <string.h>

#include "api/files_op.h"
#include "api/routes.h"

enum { BODY_MAX = 32768 };

enum verb { VERB_DELETE, VERB_MKDIR, VERB_MOVE, VERB_COPY };

struct change {
    struct rp_file_op op;
    enum verb verb;
    bool flag; /* recursive, parents, overwrite */
    bool checked;
    size_t to_length;
    char to[RP_FILES_PATH_MAX + 1];
    char match[512]; /* If-Match of a DELETE */
};

static void begin(struct rp_file_op *op, struct rp_sandbox *s);

static void on_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct change *c = ctx;
    if (err) {
        rp_file_op_fail(&c->op, err);
        return;
    }
    c->op.request = NULL;
    if (c->verb == VERB_MKDIR)
        rp_file_op_created(&c->op, rp_file_op_path(&c->op), (struct rp_str){0});
    else if (c->verb == VERB_COPY)
        rp_file_op_created(&c->op, (struct rp_str){c->to, c->to_length}, (struct rp_str){0});
    else
        rp_api_reply_empty(c->op.call, 204);
}

/* DELETE with If-Match looks first. */
static void on_stat(void *ctx, const struct rp_file_entry *e)
{
    struct change *c = ctx;
    c->checked = rp_etag_listed(rp_str_of(c->match), e->etag, false);
}

static void on_stat_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct change *c = ctx;
    struct rp_error own = {0};
    struct rp_sandbox *s = rp_project_sandbox(c->op.project);
    c->op.request = NULL;
    if (!err && !c->checked) {
        (void)rp_files_explain(&own, ESTALE, rp_file_op_path(&c->op));
        err = &own;
    } else if (!err && !s) {
        (void)rp_error_set(&own, RP_ERROR_UNAVAILABLE, "the project's sandbox has just ended");
        err = &own;
    }
    if (err) {
        rp_file_op_fail(&c->op, err);
        return;
    }
    c->match[0] = '\0';
    begin(&c->op, s);
}

static void begin(struct rp_file_op *op, struct rp_sandbox *s)
{
    static const struct rp_file_callbacks callbacks = {.on_done = on_done};
    static const struct rp_file_callbacks stat_callbacks = {.on_entry = on_stat, .on_done = on_stat_done};
    struct change *c = (struct change *)op;
    struct rp_files *files = op->call->gateway->files;
    struct rp_str path = rp_file_op_path(op), to = {c->to, c->to_length};
    if (c->match[0]) {
        op->request = rp_files_stat(files, s, path, &stat_callbacks, c);
        return;
    }
    switch (c->verb) {
    case VERB_DELETE:
        op->request = rp_files_delete(files, s, path, c->flag, &callbacks, c);
        break;
    case VERB_MKDIR:
        op->request = rp_files_mkdir(files, s, path, c->flag, &callbacks, c);
        break;
    case VERB_MOVE:
        op->request = rp_files_move(files, s, path, to, c->flag, &callbacks, c);
        break;
    case VERB_COPY:
        op->request = rp_files_copy(files, s, path, to, c->flag, &callbacks, c);
        break;
    }
}

void rp_api_files_delete(struct rp_call *call)
{
    char recursive[8];
    size_t n = 0;
    struct change *c = rp_file_op_new(call, sizeof(*c), NULL);
    if (!c)
        return;
    struct rp_str match = rp_http_header(call->request, "If-Match");
    c->verb = VERB_DELETE;
    c->flag = rp_http_query(call->request, "recursive", recursive, sizeof(recursive), &n) == 1 && n &&
              strcmp(recursive, "0") != 0;
    if (match.p && !rp_str_copy(c->match, sizeof(c->match), match))
        memcpy(c->match, "-", 2);
    c->op.begin = begin;
    rp_file_op_start(&c->op);
}

/* A path that must be there: 1, or -1 with err. */
static int need_path(json_t *body, const char *key, struct rp_str *ret, struct rp_error *err)
{
    char pointer[32];
    int r = rp_json_get_str(body, "", key, RP_FILES_PATH_MAX, ret, err);
    if (r > 0 && ret->n)
        return 1;
    if (r < 0)
        return -1;
    rp_json_pointer(pointer, sizeof(pointer), "", key);
    return rp_error_field(err, pointer, "the path is missing");
}

static void on_mkdir_body(struct rp_call *call, json_t *body)
{
    static const char *const keys[] = {"path", "parents", NULL};
    struct rp_str path;
    bool parents = true;
    struct rp_error err = {0};
    if (rp_json_only_keys(body, "", keys, &err) < 0 || need_path(body, "path", &path, &err) < 0 ||
        rp_json_get_bool(body, "", "parents", &parents, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    struct change *c = rp_file_op_new(call, sizeof(*c), &path);
    if (!c)
        return;
    c->verb = VERB_MKDIR;
    c->flag = parents;
    c->op.begin = begin;
    rp_file_op_start(&c->op);
}

static void two_paths(struct rp_call *call, json_t *body, enum verb verb)
{
    static const char *const keys[] = {"from", "to", "overwrite", NULL};
    struct rp_str from, to;
    bool overwrite = false;
    struct rp_error err = {0};
    if (rp_json_only_keys(body, "", keys, &err) < 0 || need_path(body, "from", &from, &err) < 0 ||
        need_path(body, "to", &to, &err) < 0 ||
        rp_json_get_bool(body, "", "overwrite", &overwrite, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    struct change *c = rp_file_op_new(call, sizeof(*c), &from);
    if (!c)
        return;
    c->verb = verb;
    c->flag = overwrite;
    memcpy(c->to, to.p, to.n);
    c->to_length = to.n;
    c->op.begin = begin;
    rp_file_op_start(&c->op);
}

static void on_move_body(struct rp_call *call, json_t *body)
{
    two_paths(call, body, VERB_MOVE);
}

static void on_copy_body(struct rp_call *call, json_t *body)
{
    two_paths(call, body, VERB_COPY);
}

void rp_api_files_mkdir(struct rp_call *call)
{
    rp_api_read_json(call, BODY_MAX, on_mkdir_body);
}

void rp_api_files_move(struct rp_call *call)
{
    rp_api_read_json(call, BODY_MAX, on_move_body);
}

void rp_api_files_copy(struct rp_call *call)
{
    rp_api_read_json(call, BODY_MAX, on_copy_body);
}
