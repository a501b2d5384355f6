/* files_list.c: GET …/files and POST …/files/search: answers that are written as they come. Loop thread only.
 */
#include <string.h>

#include "api/files_op.h"
#include "api/routes.h"
#include "base/clock.h"

enum {
    LIST_DEFAULT = 10000,
    LIST_MAX = 100000,
    SEARCH_DEFAULT = 200,
    SEARCH_MAX = 5000,
    SEARCH_BODY_MAX = 16384,
    QUERY_MAX = 1024,
    GLOB_MAX = 256,
    PIECE = 32768, /* written at once */
    ITEM_MAX = 6 * (2 * RP_FILES_PATH_MAX + 1024),
};

struct listing {
    struct rp_file_op op;
    struct rp_buf out;
    struct rp_json_writer w;
    bool begun;
    uint32_t depth, limit;
    /* of a search */
    uint32_t flags;
    size_t query_length, glob_length;
    char query[QUERY_MAX], glob[GLOB_MAX];
};

static void free_own(struct rp_file_op *op)
{
    rp_buf_done(&((struct listing *)op)->out);
}

static void send_piece(struct listing *l)
{
    enum rp_write r = rp_http_send(l->op.call->x, rp_buf_view(&l->out));
    rp_buf_consume(&l->out, l->out.length);
    if (r == RP_WRITE_FULL && l->op.request)
        rp_file_pause(l->op.request);
}

static void on_drain(void *ctx)
{
    struct listing *l = ctx;
    if (l->op.request)
        rp_file_resume(l->op.request);
}

/* The head goes out with the first item, so that an error before it has its own status. */
static void open_answer(struct listing *l)
{
    if (l->begun)
        return;
    l->begun = true;
    rp_http_begin(l->op.call->x, 200, "application/json", -1);
    rp_http_on_drain(l->op.call->x, on_drain, l);
    rp_json_open_object(&l->w);
    rp_json_field_str(&l->w, "path", rp_file_op_path(&l->op));
    rp_json_key(&l->w, "items");
    rp_json_open_array(&l->w);
}

static void item_written(struct listing *l)
{
    if (l->out.length >= PIECE)
        send_piece(l);
}

static void on_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct listing *l = ctx;
    if (err) {
        rp_file_op_fail(&l->op, err);
        return;
    }
    l->op.request = NULL;
    open_answer(l);
    rp_json_close_array(&l->w);
    rp_json_field_bool(&l->w, "truncated", truncated);
    rp_json_key(&l->w, "next_cursor");
    rp_json_null(&l->w);
    rp_json_close_object(&l->w);
    if (l->w.failed) {
        rp_http_abort(l->op.call->x);
        return;
    }
    send_piece(l);
    rp_http_end(l->op.call->x);
}

/* ---- the list ---- */

static const char *kind_name(uint8_t kind)
{
    return kind == RP_FILE_REGULAR     ? "file"
           : kind == RP_FILE_DIRECTORY ? "directory"
           : kind == RP_FILE_SYMLINK   ? "symlink"
                                       : "other";
}

static void on_entry(void *ctx, const struct rp_file_entry *e)
{
    struct listing *l = ctx;
    char mtime[RP_CLOCK_RFC3339_SIZE], mode[8];
    open_answer(l);
    rp_clock_format_rfc3339(e->mtime_ns / 1000, mtime);
    snprintf(mode, sizeof(mode), "%04o", e->mode & 07777);
    rp_json_open_object(&l->w);
    rp_json_field_str(&l->w, "path", e->path);
    rp_json_field_string(&l->w, "type", kind_name(e->kind));
    if (e->kind == RP_FILE_REGULAR) {
        rp_json_field_uint(&l->w, "size", e->size);
        rp_json_field_str(&l->w, "etag", e->etag);
    }
    rp_json_field_string(&l->w, "modified_at", mtime);
    rp_json_field_string(&l->w, "mode", mode);
    if (e->kind == RP_FILE_SYMLINK)
        rp_json_field_str(&l->w, "target", e->target);
    rp_json_close_object(&l->w);
    item_written(l);
}

static void begin_list(struct rp_file_op *op, struct rp_sandbox *s)
{
    static const struct rp_file_callbacks callbacks = {.on_entry = on_entry, .on_done = on_done};
    struct listing *l = (struct listing *)op;
    op->request =
        rp_files_list(op->call->gateway->files, s, rp_file_op_path(op), l->depth, l->limit, &callbacks, l);
}

static struct listing *new_listing(struct rp_call *call, const struct rp_str *path)
{
    struct listing *l = rp_file_op_new(call, sizeof(*l), path);
    if (!l)
        return NULL;
    rp_buf_init(&l->out, PIECE + ITEM_MAX);
    l->w = rp_json_writer(&l->out);
    l->op.free_own = free_own;
    return l;
}

void rp_api_files_list(struct rp_call *call)
{
    uint64_t depth = 1, limit = LIST_DEFAULT;
    struct rp_error err = {0};
    if (rp_api_query_u64(call, "depth", RP_FILES_DEPTH_MAX, &depth, &err) < 0 ||
        rp_api_query_u64(call, "limit", LIST_MAX, &limit, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    struct listing *l = new_listing(call, NULL);
    if (!l)
        return;
    l->depth = (uint32_t)RP_MAX(depth, (uint64_t)1);
    l->limit = (uint32_t)RP_MAX(limit, (uint64_t)1);
    l->op.begin = begin_list;
    rp_file_op_start(&l->op);
}

/* ---- search ---- */

static void on_match(void *ctx, const struct rp_file_match *m)
{
    struct listing *l = ctx;
    open_answer(l);
    rp_json_open_object(&l->w);
    rp_json_field_str(&l->w, "path", m->path);
    if (m->line) {
        rp_json_field_uint(&l->w, "line", m->line);
        rp_json_field_uint(&l->w, "column", m->column);
        rp_json_field_str(&l->w, "text", m->text);
    }
    rp_json_close_object(&l->w);
    item_written(l);
}

static void begin_search(struct rp_file_op *op, struct rp_sandbox *s)
{
    static const struct rp_file_callbacks callbacks = {.on_match = on_match, .on_done = on_done};
    struct listing *l = (struct listing *)op;
    op->request = rp_files_search(op->call->gateway->files, s, rp_file_op_path(op),
                                  (struct rp_str){l->query, l->query_length}, l->flags, l->limit,
                                  (struct rp_str){l->glob, l->glob_length}, &callbacks, l);
}

static int get_flags(json_t *body, uint32_t *ret, struct rp_error *err)
{
    static const struct {
        const char *key;
        uint32_t flag;
    } flags[] = {{"case_sensitive", RP_FILES_SEARCH_CASE},
                 {"names", RP_FILES_SEARCH_NAMES},
                 {"hidden", RP_FILES_SEARCH_HIDDEN},
                 {"dependencies", RP_FILES_SEARCH_DEPS}};
    for (size_t i = 0; i < RP_ARRAY_SIZE(flags); i++) {
        bool on = false;
        if (rp_json_get_bool(body, "", flags[i].key, &on, err) < 0)
            return -1;
        *ret |= on ? flags[i].flag : 0;
    }
    return 0;
}

static void on_search_body(struct rp_call *call, json_t *body)
{
    static const char *const keys[] = {"path",  "query",  "glob",         "limit", "case_sensitive",
                                       "names", "hidden", "dependencies", NULL};
    struct rp_str path = {"", 0}, query = {"", 0}, glob = {"", 0};
    int64_t limit = SEARCH_DEFAULT;
    uint32_t flags = 0;
    struct rp_error err = {0};
    int there = rp_json_only_keys(body, "", keys, &err);
    if (there >= 0)
        there = rp_json_get_str(body, "", "path", RP_FILES_PATH_MAX, &path, &err);
    if (there >= 0)
        there = rp_json_get_str(body, "", "glob", GLOB_MAX - 1, &glob, &err);
    if (there >= 0)
        there = rp_json_get_int(body, "", "limit", 1, SEARCH_MAX, &limit, &err);
    if (there >= 0)
        there = get_flags(body, &flags, &err);
    if (there >= 0)
        there = rp_json_get_str(body, "", "query", QUERY_MAX - 1, &query, &err);
    if (there == 0 || (there > 0 && !query.n))
        there = rp_error_field(&err, "/query", "what to search for is missing");
    if (there < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    struct listing *l = new_listing(call, &path);
    if (!l)
        return;
    l->flags = flags;
    l->limit = (uint32_t)limit;
    l->query_length = query.n;
    memcpy(l->query, query.p, query.n);
    l->glob_length = glob.n;
    memcpy(l->glob, glob.p, glob.n);
    l->op.begin = begin_search;
    rp_file_op_start(&l->op);
}

void rp_api_files_search(struct rp_call *call)
{
    rp_api_read_json(call, SEARCH_BODY_MAX, on_search_body);
}
