/*
 * making.c: making, changing and deleting a project. Nothing is answered before it is in the store; what
 * fails half way is undone, and what a dying server left half done is undone by the next one (unsettled
 * volumes).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/project_files.h"
#include "domain/project_internal.h"

/* ---- deleting volumes ---- */

struct volume_call {
    struct rp_projects *all;
    char id[RP_ID_SIZE];
    void (*done)(void *ctx);
    void *ctx;
};

static void volume_settled(void *ctx, const struct rp_error *err)
{
    struct volume_call *c = ctx;
    if (err)
        rp_log(RP_LOG_WARNING, "volume not settled", "project", c->id, "why", err->message, NULL);
    if (c->done)
        c->done(c->ctx);
    free(c);
}

static void volume_deleted(void *ctx, const struct rp_error *err)
{
    struct volume_call *c = ctx;
    if (!err) {
        rp_store_volume_settled(c->all->parts.store, c->id, volume_settled, c);
        return;
    }
    rp_log(RP_LOG_WARNING, "volume not deleted; the next start tries again", "project", c->id, "why",
           err->message, NULL);
    if (c->done)
        c->done(c->ctx);
    free(c);
}

static void delete_volume(struct rp_projects *all, const char *id, void (*done)(void *ctx), void *ctx)
{
    struct volume_call *c = rp_calloc(1, sizeof *c);
    c->all = all;
    c->done = done;
    c->ctx = ctx;
    memcpy(c->id, id, sizeof c->id);
    rp_orchestrator_volume_delete(all->orchestrator, id, volume_deleted, c);
}

void rp_projects_finish_deletions(struct rp_projects *all)
{
    for (size_t i = 0; i < all->unsettled_count; i++) {
        if (rp_projects_find(all, rp_str_of(all->unsettled[i])))
            continue;
        rp_log(RP_LOG_INFO, "deleting a volume without a project", "project", all->unsettled[i], NULL);
        delete_volume(all, all->unsettled[i], NULL, NULL);
    }
    free(all->unsettled);
    all->unsettled = NULL;
    all->unsettled_count = 0;
}

/* ---- making ---- */

struct making {
    struct rp_projects *all;
    struct rp_project *p;
    struct rp_project_input input;
    char *key, *request; /* NULL: may be made again */
    rp_project_fn *fn;
    void *ctx;
    struct rp_error err;
};

static void making_free(struct making *m)
{
    rp_project_input_done(&m->input);
    rp_project_unref(m->p);
    free(m->key);
    free(m->request);
    free(m);
}

static void making_undone(void *ctx)
{
    struct making *m = ctx;
    m->fn(m->ctx, NULL, &m->err);
    making_free(m);
}

static void making_stopped(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct making *m = ctx;
    rp_project_observers_deleted(p);
    delete_volume(m->all, p->record.id, making_undone, m);
}

static void making_failed(struct making *m, const struct rp_error *err)
{
    m->err = *err;
    m->p->deleting = true;
    rp_project_take_down(m->p, NULL, making_stopped, m);
}

static void making_inserted(void *ctx, const struct rp_error *err)
{
    struct making *m = ctx;
    if (err) {
        making_failed(m, err);
        return;
    }
    rp_projects_add(m->all, rp_project_ref(m->p));
    rp_log(RP_LOG_INFO, "project made", "project", m->p->record.id, "stack", m->p->record.stack, NULL);
    m->fn(m->ctx, m->p, NULL);
    making_free(m);
}

static void making_insert(struct making *m)
{
    if (!m->key) {
        rp_store_project_insert(m->all->parts.store, &m->p->record, NULL, making_inserted, m);
        return;
    }
    struct rp_buf b;
    rp_buf_init(&b, 1024 * 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_project_write_json(&w, m->p);
    _cleanup_free_ char *body = rp_str_dup(rp_buf_view(&b));
    rp_buf_done(&b);
    char location[64];
    snprintf(location, sizeof location, "/api/v1/projects/%s", m->p->record.id);
    struct rp_idempotent_answer answer = {
        .key = m->key, .request = m->request, .location = location, .body = body, .status = 201};
    rp_store_project_insert(m->all->parts.store, &m->p->record, &answer, making_inserted, m);
}

static void making_written(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct making *m = ctx;
    if (err)
        making_failed(m, err);
    else
        making_insert(m);
}

/* ---- its first files ---- */

static bool user_gives(const struct rp_project_input *in, const char *path, size_t *ret)
{
    for (size_t i = 0; i < in->file_count; i++) {
        if (strcmp(in->files[i].path, path) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static int add_manifest(struct making *m, struct rp_first_files *files, struct rp_error *err)
{
    const struct rp_stack *stack = m->p->stack;
    size_t own;
    struct rp_buf b;
    if (!stack->manifest)
        return 0;
    rp_buf_init(&b, 4 * 1024 * 1024);
    int r;
    if (!user_gives(&m->input, stack->manifest, &own)) {
        r = rp_manifest_write(stack, &m->input.dependencies, m->p->record.id, &b, err);
    } else if (m->input.dependencies.count) {
        struct rp_project_input_file *f = &m->input.files[own];
        r = rp_manifest_edit(stack, (struct rp_str){f->content, f->size}, &m->input.dependencies, NULL, &b,
                             err);
        f->path[0] = '\0'; /* the edited one is written instead */
    } else {
        return 0;
    }
    if (r == 0 && rp_buf_view(&b).n)
        rp_first_files_add(files, stack->manifest, rp_buf_view(&b), false);
    rp_buf_done(&b);
    return r;
}

static int collect_files(struct making *m, struct rp_first_files *files, struct rp_error *err)
{
    const struct rp_stack *stack = m->p->stack;
    const struct rp_stack_template *t = rp_stack_template_for(stack, &m->input.dependencies);
    struct rp_stack_substitution with = {.project_id = m->p->record.id, .name = m->p->record.name};
    size_t own;
    for (size_t i = 0; i < t->file_count; i++) {
        if (user_gives(&m->input, t->files[i].path, &own))
            continue;
        struct rp_buf b;
        rp_buf_init(&b, 8 * 1024 * 1024);
        if (rp_stack_render(stack, &t->files[i], &with, &b, err) < 0) {
            rp_buf_done(&b);
            return -1;
        }
        rp_first_files_add(files, t->files[i].path, rp_buf_view(&b), t->files[i].executable);
        rp_buf_done(&b);
    }
    if (add_manifest(m, files, err) < 0)
        return -1;
    for (size_t i = 0; i < m->input.file_count; i++) {
        struct rp_project_input_file *f = &m->input.files[i];
        if (f->path[0])
            rp_first_files_add(files, f->path, (struct rp_str){f->content, f->size}, false);
    }
    return 0;
}

static void making_has_sandbox(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct making *m = ctx;
    struct rp_error why = {0};
    struct rp_first_files *files = rp_first_files_new();
    if (err) {
        making_failed(m, err);
    } else if (collect_files(m, files, &why) < 0) {
        making_failed(m, &why);
    } else {
        rp_first_files_write(files, p, making_written, m);
        return; /* it frees the files */
    }
    rp_first_files_free(files);
}

static void making_has_volume(void *ctx, const struct rp_error *err)
{
    struct making *m = ctx;
    if (err)
        making_failed(m, err);
    else
        rp_project_need_files(m->p, making_has_sandbox, m);
}

static void making_noted(void *ctx, const struct rp_error *err)
{
    struct making *m = ctx;
    if (err) {
        m->fn(m->ctx, NULL, err);
        rp_project_observers_deleted(m->p);
        making_free(m);
        return;
    }
    rp_orchestrator_volume_create(m->all->orchestrator, m->p->record.id, rp_project_disk(m->p),
                                  making_has_volume, m);
}

static char *dependencies_json(const struct rp_dependencies *d)
{
    struct rp_buf b;
    rp_buf_init(&b, 1024 * 1024); /* 500 dependencies of at most 342 bytes, escaped */
    struct rp_json_writer w = rp_json_writer(&b);
    rp_dependencies_write_json(d, &w);
    char *text = rp_str_dup(rp_buf_view(&b));
    rp_buf_done(&b);
    return text;
}

/* The record of a new project; its strings are freed with rp_project_record_done. */
static int first_record(struct rp_projects *all, const struct rp_project_input *in,
                        struct rp_project_record *r, struct rp_error *err)
{
    const struct rp_stack_template *t = rp_stack_template_for(in->stack, &in->dependencies);
    *r = (struct rp_project_record){.version = 1, .idle_timeout = all->parts.settings->idle_timeout};
    do
        rp_random_id(r->id);
    while (rp_projects_find(all, rp_str_of(r->id)));
    r->name = rp_asprintf("%s %.4s", in->stack->title, r->id);
    r->stack = rp_strdup(in->stack->name);
    r->run_command = t->run_command ? rp_strdup(t->run_command) : NULL;
    r->dependencies = dependencies_json(&in->dependencies);
    r->env = rp_strdup("{}");
    r->metadata = rp_strdup("{}");
    r->network = rp_strdup("{\"mode\":\"internet\"}");
    r->created_at = r->updated_at = rp_clock_wall_us();
    return rp_project_input_apply(in, r, err);
}

struct late {
    rp_project_fn *fn;
    void *ctx;
    struct rp_error err;
};

static void answer_late(void *ctx)
{
    struct late *l = ctx;
    l->fn(l->ctx, NULL, &l->err);
    free(l);
}

void rp_projects_create(struct rp_projects *all, struct rp_project_input *input,
                        const struct rp_project_once *once, rp_project_fn *fn, void *ctx)
{
    struct rp_project_record r;
    struct rp_error err = {0};
    if (first_record(all, input, &r, &err) < 0) {
        struct late *l = rp_calloc(1, sizeof *l);
        *l = (struct late){fn, ctx, err};
        rp_project_record_done(&r);
        rp_project_input_done(input);
        rp_loop_defer(all->parts.loop, answer_late, l);
        return;
    }
    struct making *m = rp_calloc(1, sizeof *m);
    m->all = all;
    m->p = rp_project_new(all, &r);
    m->input = *input;
    *input = (struct rp_project_input){0};
    m->key = once ? rp_strdup(once->key) : NULL;
    m->request = once ? rp_strdup(once->request) : NULL;
    m->fn = fn;
    m->ctx = ctx;
    rp_project_record_done(&r);
    rp_store_volume_unsettled(all->parts.store, m->p->record.id, making_noted, m);
}

/* ---- deleting ---- */

struct deleting {
    struct rp_project *p;
    rp_project_fn *fn;
    void *ctx;
};

static void deletion_done(void *ctx)
{
    struct deleting *d = ctx;
    d->fn(d->ctx, d->p, NULL);
    rp_project_unref(d->p);
    free(d);
}

static void deletion_failed(struct deleting *d, const struct rp_error *err)
{
    d->p->deleting = false;
    d->fn(d->ctx, d->p, err);
    rp_project_unref(d->p);
    free(d);
}

static void row_deleted(void *ctx, const struct rp_error *err)
{
    struct deleting *d = ctx;
    struct rp_project *p = d->p;
    if (err) {
        deletion_failed(d, err);
        return;
    }
    rp_projects_remove(p->all, p);
    rp_project_observers_deleted(p);
    rp_log(RP_LOG_INFO, "project deleted", "project", p->record.id, NULL);
    delete_volume(p->all, p->record.id, deletion_done, d);
    rp_project_unref(p); /* the table's */
}

static void deletion_stopped(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct deleting *d = ctx;
    if (err)
        deletion_failed(d, err);
    else
        rp_store_project_delete(p->all->parts.store, p->record.id, row_deleted, d);
}

void rp_project_delete(struct rp_project *p, rp_project_fn *fn, void *ctx)
{
    struct rp_error err = {0};
    if (p->deleting) {
        (void)rp_error_set(&err, RP_ERROR_NOT_FOUND, "the project is being deleted");
        fn(ctx, p, &err);
        return;
    }
    p->deleting = true;
    struct deleting *d = rp_calloc(1, sizeof *d);
    d->p = rp_project_ref(p);
    d->fn = fn;
    d->ctx = ctx;
    (void)rp_error_set(&err, RP_ERROR_NOT_FOUND, "the project was deleted");
    waiters_answer(&p->files_waiters, p, &err);
    rp_project_take_down(p, NULL, deletion_stopped, d);
}
