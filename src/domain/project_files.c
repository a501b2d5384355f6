#include "domain/project_files.h"

#include <stdlib.h>
#include <string.h>

#include "domain/project_internal.h"
#include "runner/files.h"

/* ---- first files: one import, which lands whole or not at all ---- */

enum { CHUNK = 32768, WATCHED_MAX = 32 * 1024 * 1024 };

struct first_file {
    char *path, *content;
    size_t size;
    bool executable;
};

struct rp_first_files {
    struct first_file *items;
    size_t count;
    size_t at;   /* the one that is being sent */
    size_t sent; /* bytes of it */
    bool entry_sent;
    struct rp_project *p;
    struct rp_file_request *request;
    rp_project_fn *fn;
    void *ctx;
};

struct rp_first_files *rp_first_files_new(void)
{
    return rp_calloc(1, sizeof(struct rp_first_files));
}

void rp_first_files_free(struct rp_first_files *f)
{
    for (size_t i = 0; i < f->count; i++) {
        free(f->items[i].path);
        free(f->items[i].content);
    }
    free(f->items);
    rp_project_unref(f->p);
    free(f);
}

void rp_first_files_add(struct rp_first_files *f, const char *path, struct rp_str content, bool executable)
{
    f->items = rp_realloc(f->items, (f->count + 1) * sizeof *f->items);
    f->items[f->count++] = (struct first_file){rp_strdup(path), rp_str_dup(content), content.n, executable};
}

/* Sends until the request has enough for now. */
static void send_more(void *ctx)
{
    struct rp_first_files *f = ctx;
    for (; f->at < f->count; f->at++, f->sent = 0, f->entry_sent = false) {
        const struct first_file *one = &f->items[f->at];
        if (!f->entry_sent) {
            struct rp_file_entry entry = {
                .path = rp_str_of(one->path),
                .kind = RP_FILE_REGULAR,
                .mode = one->executable ? 0755 : 0644,
                .size = one->size,
            };
            f->entry_sent = true;
            if (rp_file_send_entry(f->request, &entry) != RP_WRITE_OK)
                return;
        }
        while (f->sent < one->size) {
            size_t n = RP_MIN(one->size - f->sent, (size_t)CHUNK);
            struct rp_str bytes = {one->content + f->sent, n};
            f->sent += n;
            if (rp_file_send(f->request, bytes) != RP_WRITE_OK)
                return; /* on_drain goes on behind it; on_done tells when it failed */
        }
    }
    rp_file_finish(f->request);
}

static void import_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct rp_first_files *f = ctx;
    f->fn(f->ctx, f->p, err);
    rp_first_files_free(f);
}

void rp_first_files_write(struct rp_first_files *f, struct rp_project *p, rp_project_fn *fn, void *ctx)
{
    static const struct rp_file_callbacks callbacks = {
        .on_ready = send_more, .on_drain = send_more, .on_done = import_done};
    f->p = rp_project_ref(p);
    f->fn = fn;
    f->ctx = ctx;
    f->request = rp_files_import(p->all->parts.files, rp_project_sandbox(p), (struct rp_str){"", 0}, false,
                                 &callbacks, f);
}

/* ---- what decides about an installation ---- */

struct watched_call {
    struct rp_project *p;
    size_t at;
    rp_project_watched_fn *fn;
    void *ctx;
};

static void watched_next(struct watched_call *c);

static void watched_end(struct watched_call *c, const struct rp_error *err)
{
    c->p->run.watched_known = !err;
    c->fn(c->ctx, c->p, err);
    rp_project_unref(c->p);
    free(c);
}

/* Not there is an answer, not a failure. */
static bool watched_failed(struct watched_call *c, const struct rp_error *err)
{
    if (!err || err->code == RP_ERROR_NOT_FOUND)
        return false;
    watched_end(c, err);
    return true;
}

static void watched_content(void *ctx, struct rp_str content, const struct rp_error *err)
{
    struct watched_call *c = ctx;
    struct run *run = &c->p->run;
    if (watched_failed(c, err))
        return;
    if (!err) {
        free(run->watched_content[c->at]);
        run->watched_content[c->at] = rp_str_dup(content);
        run->watched[c->at] = (struct rp_stack_state){true, {run->watched_content[c->at], content.n}};
    }
    c->at++;
    watched_next(c);
}

static void watched_stat(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct watched_call *c = ctx;
    if (watched_failed(c, err))
        return;
    c->p->run.watched[c->at].exists = !err;
    c->at++;
    watched_next(c);
}

static void watched_next(struct watched_call *c)
{
    static const struct rp_file_callbacks stat_callbacks = {.on_done = watched_stat};
    struct rp_project *p = c->p;
    struct rp_sandbox *s = rp_project_sandbox(p);
    if (!s) {
        struct rp_error err = {0};
        (void)rp_error_set(&err, RP_ERROR_NOT_RUNNING, "the project was stopped");
        watched_end(c, &err);
        return;
    }
    if (c->at >= p->stack->watched_count || c->at >= RP_STACK_WATCHED_MAX) {
        watched_end(c, NULL);
        return;
    }
    const struct rp_stack_watched *w = &p->stack->watched[c->at];
    if (w->content)
        rp_files_read_all(p->all->parts.files, s, rp_str_of(w->path), WATCHED_MAX, watched_content, c);
    else
        rp_files_stat(p->all->parts.files, s, rp_str_of(w->path), &stat_callbacks, c);
}

void rp_project_read_watched(struct rp_project *p, rp_project_watched_fn *fn, void *ctx)
{
    struct watched_call *c = rp_calloc(1, sizeof *c);
    rp_run_clear_watched(p);
    c->p = rp_project_ref(p);
    c->fn = fn;
    c->ctx = ctx;
    watched_next(c);
}
