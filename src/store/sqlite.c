/*
 * sqlite.c: store.h on SQLite: the statements, and the jobs that carry them to the lanes (lane.h).
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/lane.h"
#include "store/store.h"

enum { READERS = 2 };

static const int64_t ANSWER_KEPT_US = 24LL * 3600 * 1000000;

struct rp_store {
    char *path;
    struct rp_lane *writer, *readers;
};

/* ---- rows ---- */

#define PROJECT_COLUMNS                                                                                      \
    "id, name, stack, run_command, dependencies, env, metadata, network, memory, cpu, processes, disk, "     \
    "idle_timeout, always_on, version, created_at, updated_at, wanted, run_wanted, sandbox, boot_id, "       \
    "reason, installed"

static char *column_text(sqlite3_stmt *s, int at)
{
    const unsigned char *text = sqlite3_column_text(s, at);
    return text ? rp_strdup((const char *)text) : NULL;
}

static void column_chars(sqlite3_stmt *s, int at, char *dst, size_t cap)
{
    const unsigned char *text = sqlite3_column_text(s, at);
    (void)rp_str_copy(dst, cap, rp_str_of(text ? (const char *)text : ""));
}

static void read_record(sqlite3_stmt *s, struct rp_project_record *r)
{
    *r = (struct rp_project_record){0};
    column_chars(s, 0, r->id, sizeof r->id);
    r->name = column_text(s, 1);
    r->stack = column_text(s, 2);
    r->run_command = column_text(s, 3);
    r->dependencies = column_text(s, 4);
    r->env = column_text(s, 5);
    r->metadata = column_text(s, 6);
    r->network = column_text(s, 7);
    r->memory = (uint64_t)sqlite3_column_int64(s, 8);
    r->cpu = (uint32_t)sqlite3_column_int64(s, 9);
    r->processes = (uint32_t)sqlite3_column_int64(s, 10);
    r->disk = (uint64_t)sqlite3_column_int64(s, 11);
    r->idle_timeout = (uint32_t)sqlite3_column_int64(s, 12);
    r->always_on = sqlite3_column_int(s, 13);
    r->version = (uint64_t)sqlite3_column_int64(s, 14);
    r->created_at = sqlite3_column_int64(s, 15);
    r->updated_at = sqlite3_column_int64(s, 16);
    r->wanted = sqlite3_column_int(s, 17);
    r->run_wanted = sqlite3_column_int(s, 18);
    column_chars(s, 19, r->sandbox, sizeof r->sandbox);
    column_chars(s, 20, r->boot_id, sizeof r->boot_id);
    r->reason = column_text(s, 21);
    r->installed = column_text(s, 22);
}

/* What a user may edit, from parameter `at` on, in the order of the columns. Returns the next parameter. */
static int bind_settings(sqlite3_stmt *s, int at, const struct rp_project_record *r)
{
    rp_bind_text(s, at++, r->name);
    rp_bind_text(s, at++, r->stack);
    rp_bind_text(s, at++, r->run_command);
    rp_bind_text(s, at++, r->dependencies);
    rp_bind_text(s, at++, r->env);
    rp_bind_text(s, at++, r->metadata);
    rp_bind_text(s, at++, r->network);
    sqlite3_bind_int64(s, at++, (int64_t)r->memory);
    sqlite3_bind_int64(s, at++, r->cpu);
    sqlite3_bind_int64(s, at++, r->processes);
    sqlite3_bind_int64(s, at++, (int64_t)r->disk);
    sqlite3_bind_int64(s, at++, r->idle_timeout);
    sqlite3_bind_int(s, at++, r->always_on);
    return at;
}

static int bind_state(sqlite3_stmt *s, int at, const struct rp_project_record *r)
{
    sqlite3_bind_int(s, at++, r->wanted);
    sqlite3_bind_int(s, at++, r->run_wanted);
    rp_bind_text(s, at++, r->sandbox);
    rp_bind_text(s, at++, r->boot_id);
    rp_bind_text(s, at++, r->reason);
    rp_bind_text(s, at++, r->installed);
    return at;
}

/* ---- writing ---- */

struct project_job {
    struct rp_job job;
    struct rp_project_record record;
    bool has_answer;
    struct rp_idempotent_answer answer; /* strings are ours */
    rp_store_done_fn *fn;
    void *ctx;
};

static void project_done(struct rp_job *job, const struct rp_error *err)
{
    struct project_job *p = RP_CONTAINER_OF(job, struct project_job, job);
    p->fn(p->ctx, err);
    rp_project_record_done(&p->record);
    free((char *)p->answer.key);
    free((char *)p->answer.request);
    free((char *)p->answer.location);
    free((char *)p->answer.body);
    free(p);
}

static void submit_project(struct rp_store *s, const struct rp_project_record *r,
                           int (*work)(struct rp_job *, struct rp_database *, struct rp_error *),
                           const struct rp_idempotent_answer *answer, rp_store_done_fn *fn, void *ctx)
{
    struct project_job *p = rp_calloc(1, sizeof *p);
    p->job.work = work;
    p->job.done = project_done;
    p->fn = fn;
    p->ctx = ctx;
    rp_project_record_copy(&p->record, r);
    if (answer) {
        p->has_answer = true;
        p->answer = (struct rp_idempotent_answer){
            .key = rp_strdup(answer->key),
            .request = rp_strdup(answer->request),
            .location = rp_strdup(answer->location),
            .body = rp_strdup(answer->body),
            .status = answer->status,
        };
    }
    rp_lane_submit(s->writer, &p->job);
}

static int keep_answer(struct rp_database *d, const struct rp_idempotent_answer *a, struct rp_error *err)
{
    int64_t now = rp_clock_wall_us();
    _cleanup_statement_ sqlite3_stmt *old =
        rp_database_prepare(d, "DELETE FROM idempotent_answers WHERE created_at < ?", err);
    if (!old)
        return -1;
    sqlite3_bind_int64(old, 1, now - ANSWER_KEPT_US);
    if (rp_database_step(d, old, err) < 0)
        return -1;
    _cleanup_statement_ sqlite3_stmt *s = rp_database_prepare(
        d,
        "INSERT INTO idempotent_answers (key, request, status, location, body, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        err);
    if (!s)
        return -1;
    rp_bind_text(s, 1, a->key);
    rp_bind_text(s, 2, a->request);
    sqlite3_bind_int(s, 3, a->status);
    rp_bind_text(s, 4, a->location);
    rp_bind_text(s, 5, a->body);
    sqlite3_bind_int64(s, 6, now);
    return rp_database_step(d, s, err) < 0 ? -1 : 0;
}

static int run_with_id(struct rp_database *d, const char *sql, const char *id, struct rp_error *err)
{
    _cleanup_statement_ sqlite3_stmt *s = rp_database_prepare(d, sql, err);
    if (!s)
        return -1;
    rp_bind_text(s, 1, id);
    return rp_database_step(d, s, err) < 0 ? -1 : 0;
}

static const char UNSETTLE[] = "INSERT OR IGNORE INTO unsettled_volumes VALUES (?)";
static const char SETTLE[] = "DELETE FROM unsettled_volumes WHERE project = ?";

static int insert_work(struct rp_job *job, struct rp_database *d, struct rp_error *err)
{
    struct project_job *p = RP_CONTAINER_OF(job, struct project_job, job);
    const struct rp_project_record *r = &p->record;
    _cleanup_statement_ sqlite3_stmt *s =
        rp_database_prepare(d,
                            "INSERT INTO projects (" PROJECT_COLUMNS ", owner) VALUES "
                            "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'local')",
                            err);
    if (!s)
        return -1;
    rp_bind_text(s, 1, r->id);
    int at = bind_settings(s, 2, r);
    sqlite3_bind_int64(s, at++, (int64_t)r->version);
    sqlite3_bind_int64(s, at++, r->created_at);
    sqlite3_bind_int64(s, at++, r->updated_at);
    bind_state(s, at, r);
    if (rp_database_step(d, s, err) < 0)
        return rp_error_prefix(err, "project %s", r->id);
    if (run_with_id(d, SETTLE, r->id, err) < 0)
        return -1;
    return p->has_answer ? keep_answer(d, &p->answer, err) : 0;
}

void rp_store_project_insert(struct rp_store *s, const struct rp_project_record *r,
                             const struct rp_idempotent_answer *answer, rp_store_done_fn *fn, void *ctx)
{
    submit_project(s, r, insert_work, answer, fn, ctx);
}

static bool row_exists(struct rp_database *d, const char *id)
{
    struct rp_error ignored;
    _cleanup_statement_ sqlite3_stmt *s =
        rp_database_prepare(d, "SELECT 1 FROM projects WHERE id = ?", &ignored);
    if (!s)
        return false;
    rp_bind_text(s, 1, id);
    return rp_database_step(d, s, &ignored) == 1;
}

static int update_work(struct rp_job *job, struct rp_database *d, struct rp_error *err)
{
    struct project_job *p = RP_CONTAINER_OF(job, struct project_job, job);
    const struct rp_project_record *r = &p->record;
    _cleanup_statement_ sqlite3_stmt *s = rp_database_prepare(
        d,
        "UPDATE projects SET name = ?, stack = ?, run_command = ?, dependencies = ?, env = ?, metadata = ?, "
        "network = ?, memory = ?, cpu = ?, processes = ?, disk = ?, idle_timeout = ?, always_on = ?, "
        "updated_at = ?, version = version + 1 WHERE id = ? AND version = ?",
        err);
    if (!s)
        return -1;
    int at = bind_settings(s, 1, r);
    sqlite3_bind_int64(s, at++, r->updated_at);
    rp_bind_text(s, at++, r->id);
    sqlite3_bind_int64(s, at++, (int64_t)r->version);
    if (rp_database_step(d, s, err) < 0)
        return -1;
    if (sqlite3_changes(d->handle) == 1)
        return 0;
    if (!row_exists(d, r->id))
        return rp_error_set(err, RP_ERROR_NOT_FOUND, "no such project");
    return rp_error_set(err, RP_ERROR_PRECONDITION, "the project was changed in the meantime");
}

void rp_store_project_update(struct rp_store *s, const struct rp_project_record *r, rp_store_done_fn *fn,
                             void *ctx)
{
    submit_project(s, r, update_work, NULL, fn, ctx);
}

static int state_work(struct rp_job *job, struct rp_database *d, struct rp_error *err)
{
    struct project_job *p = RP_CONTAINER_OF(job, struct project_job, job);
    _cleanup_statement_ sqlite3_stmt *s = rp_database_prepare(
        d,
        "UPDATE projects SET wanted = ?, run_wanted = ?, sandbox = ?, boot_id = ?, reason = ?, installed = ? "
        "WHERE id = ?",
        err);
    if (!s)
        return -1;
    int at = bind_state(s, 1, &p->record);
    rp_bind_text(s, at, p->record.id);
    if (rp_database_step(d, s, err) < 0)
        return -1;
    return sqlite3_changes(d->handle) == 1 ? 0 : rp_error_set(err, RP_ERROR_NOT_FOUND, "no such project");
}

void rp_store_project_state(struct rp_store *s, const struct rp_project_record *r, rp_store_done_fn *fn,
                            void *ctx)
{
    submit_project(s, r, state_work, NULL, fn, ctx);
}

static int delete_work(struct rp_job *job, struct rp_database *d, struct rp_error *err)
{
    struct project_job *p = RP_CONTAINER_OF(job, struct project_job, job);
    if (run_with_id(d, UNSETTLE, p->record.id, err) < 0)
        return -1;
    return run_with_id(d, "DELETE FROM projects WHERE id = ?", p->record.id, err);
}

static int unsettle_work(struct rp_job *job, struct rp_database *d, struct rp_error *err)
{
    return run_with_id(d, UNSETTLE, RP_CONTAINER_OF(job, struct project_job, job)->record.id, err);
}

static int settle_work(struct rp_job *job, struct rp_database *d, struct rp_error *err)
{
    return run_with_id(d, SETTLE, RP_CONTAINER_OF(job, struct project_job, job)->record.id, err);
}

static void submit_id(struct rp_store *s, const char *id,
                      int (*work)(struct rp_job *, struct rp_database *, struct rp_error *),
                      rp_store_done_fn *fn, void *ctx)
{
    struct rp_project_record r = {0};
    (void)rp_str_copy(r.id, sizeof r.id, rp_str_of(id));
    submit_project(s, &r, work, NULL, fn, ctx);
}

void rp_store_project_delete(struct rp_store *s, const char *id, rp_store_done_fn *fn, void *ctx)
{
    submit_id(s, id, delete_work, fn, ctx);
}

void rp_store_volume_unsettled(struct rp_store *s, const char *project, rp_store_done_fn *fn, void *ctx)
{
    submit_id(s, project, unsettle_work, fn, ctx);
}

void rp_store_volume_settled(struct rp_store *s, const char *project, rp_store_done_fn *fn, void *ctx)
{
    submit_id(s, project, settle_work, fn, ctx);
}

/* ---- reading ---- */

struct read_job {
    struct rp_job job;
    char *key;
    bool found;
    struct rp_idempotent_answer answer; /* strings are ours */
    rp_store_answer_fn *answer_fn;
    rp_store_done_fn *done_fn;
    void *ctx;
};

static int answer_work(struct rp_job *job, struct rp_database *d, struct rp_error *err)
{
    struct read_job *r = RP_CONTAINER_OF(job, struct read_job, job);
    _cleanup_statement_ sqlite3_stmt *s = rp_database_prepare(
        d, "SELECT request, status, location, body FROM idempotent_answers WHERE key = ? AND created_at >= ?",
        err);
    if (!s)
        return -1;
    rp_bind_text(s, 1, r->key);
    sqlite3_bind_int64(s, 2, rp_clock_wall_us() - ANSWER_KEPT_US);
    int row = rp_database_step(d, s, err);
    if (row <= 0)
        return row;
    r->found = true;
    r->answer.key = r->key;
    r->answer.request = column_text(s, 0);
    r->answer.status = sqlite3_column_int(s, 1);
    r->answer.location = column_text(s, 2);
    r->answer.body = column_text(s, 3);
    return 0;
}

static void read_done(struct rp_job *job, const struct rp_error *err)
{
    struct read_job *r = RP_CONTAINER_OF(job, struct read_job, job);
    if (r->answer_fn)
        r->answer_fn(r->ctx, !err && r->found ? &r->answer : NULL, err);
    else
        r->done_fn(r->ctx, err);
    free(r->key);
    free((char *)r->answer.request);
    free((char *)r->answer.location);
    free((char *)r->answer.body);
    free(r);
}

void rp_store_idempotent_answer(struct rp_store *s, const char *key, rp_store_answer_fn *fn, void *ctx)
{
    struct read_job *r = rp_calloc(1, sizeof *r);
    r->job.work = answer_work;
    r->job.done = read_done;
    r->key = rp_strdup(key);
    r->answer_fn = fn;
    r->ctx = ctx;
    rp_lane_submit(s->readers, &r->job);
}

/* Goes through the writer, since a disk on which nothing can be written is not ready. */
static int ready_work(struct rp_job *job, struct rp_database *d, struct rp_error *err)
{
    _cleanup_statement_ sqlite3_stmt *s =
        rp_database_prepare(d, "SELECT max(version) FROM schema_version", err);
    if (!s)
        return -1;
    return rp_database_step(d, s, err) < 0 ? -1 : 0;
}

void rp_store_ready(struct rp_store *s, rp_store_done_fn *fn, void *ctx)
{
    struct read_job *r = rp_calloc(1, sizeof *r);
    r->job.work = ready_work;
    r->job.done = read_done;
    r->done_fn = fn;
    r->ctx = ctx;
    rp_lane_submit(s->writer, &r->job);
}

int rp_store_projects_load(struct rp_store *s, void (*each)(void *ctx, const struct rp_project_record *r),
                           void *ctx, struct rp_error *err)
{
    struct rp_database d;
    if (rp_database_open(s->path, true, &d, err) < 0)
        return -1;
    sqlite3_stmt *q =
        rp_database_prepare(&d, "SELECT " PROJECT_COLUMNS " FROM projects ORDER BY created_at, id", err);
    int row = q ? 1 : -1;
    while (row > 0 && (row = rp_database_step(&d, q, err)) > 0) {
        struct rp_project_record r;
        read_record(q, &r);
        each(ctx, &r);
        rp_project_record_done(&r);
    }
    rp_database_close(&d);
    return row < 0 ? rp_error_prefix(err, "load the projects") : 0;
}

int rp_store_unsettled_load(struct rp_store *s, void (*each)(void *ctx, const char *project), void *ctx,
                            struct rp_error *err)
{
    struct rp_database d;
    if (rp_database_open(s->path, true, &d, err) < 0)
        return -1;
    sqlite3_stmt *q = rp_database_prepare(&d, "SELECT project FROM unsettled_volumes", err);
    int row = q ? 1 : -1;
    while (row > 0 && (row = rp_database_step(&d, q, err)) > 0)
        each(ctx, (const char *)sqlite3_column_text(q, 0));
    rp_database_close(&d);
    return row < 0 ? rp_error_prefix(err, "load the unsettled volumes") : 0;
}

/* ---- open and close ---- */

int rp_store_open(struct rp_loop *loop, const char *path, struct rp_store **ret, struct rp_error *err)
{
    struct rp_database writer, readers[READERS];
    if (rp_database_open(path, false, &writer, err) < 0)
        return -1;
    if (rp_database_migrate(&writer, rp_migrations, rp_migrations_count, err) < 0) {
        rp_database_close(&writer);
        return rp_error_prefix(err, "\"%s\"", path);
    }
    for (unsigned i = 0; i < READERS; i++) {
        if (rp_database_open(path, true, &readers[i], err) < 0) {
            while (i--)
                rp_database_close(&readers[i]);
            rp_database_close(&writer);
            return -1;
        }
    }
    struct rp_store *s = rp_calloc(1, sizeof *s);
    s->path = rp_strdup(path);
    s->writer = rp_lane_new(loop, &writer, 1, true);
    s->readers = rp_lane_new(loop, readers, READERS, false);
    *ret = s;
    return 0;
}

void rp_store_close(struct rp_store *s)
{
    if (!s)
        return;
    rp_lane_free(s->readers);
    rp_lane_free(s->writer); /* last: the last connection of all checkpoints the log and removes it */
    free(s->path);
    free(s);
}
