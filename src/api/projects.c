/*
 * projects.c: /api/v1/projects: making, listing, reading, changing and deleting. Loop thread only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/project_reply.h"
#include "api/query.h"
#include "api/routes.h"
#include "base/sha256.h"
#include "domain/projects.h"

enum {
    CREATE_BODY_MAX = 32 * 1024 * 1024, /* 16 MiB of files, escaped or in base64 */
    UPDATE_BODY_MAX = 1024 * 1024,
    LIST_DEFAULT = 50,
    LIST_MAX = 200,
    METADATA_FILTERS_MAX = 8,
    IDEMPOTENCY_KEY_MAX = 255,
    DELETE_MS = 45000,
};

/* ---- replies that other files use too ---- */

void rp_api_reply_project(struct rp_call *call, int status, struct rp_project *p)
{
    struct rp_buf b;
    rp_buf_init(&b, 1024 * 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_project_write_json(&w, p);
    if (call->x) {
        char text[64];
        snprintf(text, sizeof text, "\"%llu\"", (unsigned long long)rp_project_record_of(p)->version);
        rp_http_set_header_text(call->x, "ETag", text);
        if (status == 201) {
            snprintf(text, sizeof text, "/api/v1/projects/%s", rp_project_id(p));
            rp_http_set_header_text(call->x, "Location", text);
        }
    }
    rp_api_reply_json(call, status, &w);
}

void rp_api_reply_status(struct rp_call *call, int status, struct rp_project *p)
{
    struct rp_buf b;
    rp_buf_init(&b, 64 * 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_project_write_status(&w, p);
    rp_api_reply_json(call, status, &w);
}

/* ---- making ---- */

/* A creation under way with an Idempotency-Key: a second one with the same key has to wait for it. */
struct rp_creation {
    struct rp_creation *next;
    struct rp_call *call;
    struct rp_project_input input;
    void (*reply)(struct rp_call *call, struct rp_project *p);
    char *key; /* NULL: none was given */
    char request[RP_SHA256_HEX_SIZE];
};

static void creation_end(struct rp_creation *c)
{
    struct rp_creation **link = &c->call->gateway->creations;
    while (*link && *link != c)
        link = &(*link)->next;
    if (*link)
        *link = c->next;
    rp_project_input_done(&c->input);
    rp_call_unref(c->call);
    free(c->key);
    free(c);
}

static void created(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct rp_creation *c = ctx;
    if (err)
        rp_api_reply_error(c->call, err);
    else
        c->reply(c->call, p);
    creation_end(c);
}

static void creation_begin(struct rp_creation *c)
{
    struct rp_project_once once = {.key = c->key, .request = c->request};
    rp_projects_create(c->call->gateway->projects, &c->input, c->key ? &once : NULL, created, c);
}

static void creation_replay(struct rp_creation *c, const struct rp_idempotent_answer *a)
{
    struct rp_call *call = c->call;
    struct rp_error err = {0};
    if (strcmp(a->request, c->request) != 0) {
        (void)rp_error_set(&err, RP_ERROR_CONFLICT, "the Idempotency-Key was used for another request");
        rp_api_reply_error(call, &err);
        return;
    }
    if (!call->x)
        return;
    rp_http_set_header_text(call->x, "Location", a->location);
    rp_http_set_header_text(call->x, "Idempotent-Replayed", "true");
    struct rp_project *p =
        rp_projects_find(call->gateway->projects, rp_str_of(a->location + strlen("/api/v1/projects/")));
    if (p && c->reply != rp_api_reply_created)
        c->reply(call, p);
    else
        rp_http_reply(call->x, a->status, "application/json", rp_str_of(a->body));
}

static void answer_looked_up(void *ctx, const struct rp_idempotent_answer *a, const struct rp_error *err)
{
    struct rp_creation *c = ctx;
    if (!err && !a) {
        creation_begin(c);
        return;
    }
    if (err)
        rp_api_reply_error(c->call, err);
    else
        creation_replay(c, a);
    creation_end(c);
}

static int idempotency_key(struct rp_call *call, char **ret, struct rp_error *err)
{
    struct rp_str key = rp_http_header(call->request, "Idempotency-Key");
    *ret = NULL;
    if (!key.p)
        return 0;
    bool fine = key.n > 0 && key.n <= IDEMPOTENCY_KEY_MAX;
    for (size_t i = 0; i < key.n; i++)
        fine = fine && (unsigned char)key.p[i] > 0x20 && (unsigned char)key.p[i] < 0x7f;
    if (!fine)
        return rp_error_set(err, RP_ERROR_INVALID, "an Idempotency-Key has 1 to %d visible characters",
                            IDEMPOTENCY_KEY_MAX);
    *ret = rp_asprintf("local POST projects %.*s", (int)key.n, key.p);
    return 0;
}

static bool under_way(const struct rp_gateway *g, const char *key)
{
    for (const struct rp_creation *c = g->creations; c; c = c->next)
        if (c->key && strcmp(c->key, key) == 0)
            return true;
    return false;
}

void rp_api_create(struct rp_call *call, json_t *body, const char *default_stack,
                   void (*reply)(struct rp_call *call, struct rp_project *p))
{
    struct rp_gateway *g = call->gateway;
    struct rp_error err = {0};
    struct rp_creation *c = rp_calloc(1, sizeof *c);
    c->call = rp_call_ref(call);
    c->reply = reply;
    if (idempotency_key(call, &c->key, &err) < 0 ||
        rp_project_input_create(body, rp_projects_stacks(g->projects), default_stack, &c->input, &err) < 0) {
        rp_api_reply_error(call, &err);
        creation_end(c);
        return;
    }
    if (!c->key) {
        creation_begin(c);
        return;
    }
    if (under_way(g, c->key)) {
        (void)rp_error_set(&err, RP_ERROR_CONFLICT, "a request with this Idempotency-Key is under way");
        rp_http_set_header_text(call->x, "Retry-After", "1");
        rp_api_reply_error(call, &err);
        creation_end(c);
        return;
    }
    char *canonical = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    struct rp_sha256 hash;
    rp_sha256_init(&hash);
    rp_sha256_add_field(&hash, rp_str_of(canonical));
    rp_sha256_add_field(&hash, rp_str_of(default_stack));
    rp_sha256_hex(&hash, c->request);
    free(canonical);
    c->next = g->creations;
    g->creations = c;
    rp_store_idempotent_answer(g->store, c->key, answer_looked_up, c);
}

void rp_api_reply_created(struct rp_call *call, struct rp_project *p)
{
    rp_api_reply_project(call, 201, p);
}

static void create_body(struct rp_call *call, json_t *body)
{
    rp_api_create(call, body, NULL, rp_api_reply_created);
}

void rp_api_projects_create(struct rp_call *call)
{
    rp_api_read_json(call, CREATE_BODY_MAX, create_body);
}

/* ---- listing ---- */

struct filter {
    char q[RP_QUERY_VALUE_MAX + 1], state[16];
    unsigned metadata_count;
    char metadata_key[METADATA_FILTERS_MAX][RP_QUERY_NAME_MAX + 1];
    char metadata_value[METADATA_FILTERS_MAX][RP_QUERY_VALUE_MAX + 1];
    uint64_t limit;
    int64_t created_at; /* of the cursor; 0: from the newest */
    char id[RP_ID_SIZE];
};

static int parse_cursor(struct rp_str text, struct filter *f)
{
    struct rp_str id, time = rp_str_cut(text, '.', &id);
    uint64_t us;
    if (!rp_str_to_u64(time, INT64_MAX, &us) || us == 0 || !rp_id_valid(id.p, id.n) ||
        !rp_str_copy(f->id, sizeof f->id, id))
        return -1;
    f->created_at = (int64_t)us;
    return 0;
}

static int parse_filter(const struct rp_http_request *r, struct filter *f, struct rp_error *err)
{
    struct rp_query q = {.rest = r->query};
    int more;
    *f = (struct filter){.limit = LIST_DEFAULT};
    while ((more = rp_query_next(&q)) > 0) {
        struct rp_str value = {q.value, q.value_length};
        if (strcmp(q.name, "q") == 0) {
            memcpy(f->q, q.value, value.n + 1);
        } else if (strcmp(q.name, "state") == 0) {
            enum rp_project_state s = RP_PROJECT_STOPPED;
            while (s <= RP_PROJECT_FAILED && !rp_str_is(value, rp_project_state_name(s)))
                s++;
            if (s > RP_PROJECT_FAILED)
                return rp_error_set(err, RP_ERROR_INVALID, "\"state\" is not a state of a project");
            snprintf(f->state, sizeof f->state, "%s", rp_project_state_name(s));
        } else if (strcmp(q.name, "limit") == 0) {
            if (!rp_str_to_u64(value, LIST_MAX, &f->limit) || f->limit == 0)
                return rp_error_set(err, RP_ERROR_INVALID, "\"limit\" must be a number from 1 to %d",
                                    LIST_MAX);
        } else if (strcmp(q.name, "cursor") == 0) {
            if (parse_cursor(value, f) < 0)
                return rp_error_set(err, RP_ERROR_INVALID, "\"cursor\" is not one that this server gave");
        } else if (strncmp(q.name, "metadata.", 9) == 0) {
            if (f->metadata_count == METADATA_FILTERS_MAX)
                return rp_error_set(err, RP_ERROR_INVALID, "more than %d metadata filters",
                                    METADATA_FILTERS_MAX);
            memcpy(f->metadata_key[f->metadata_count], q.name + 9, q.name_length - 9 + 1);
            memcpy(f->metadata_value[f->metadata_count++], q.value, value.n + 1);
        } else {
            return rp_error_set(err, RP_ERROR_INVALID, "the query's \"%.64s\" is not known here", q.name);
        }
    }
    return more < 0 ? rp_error_set(err, RP_ERROR_INVALID, "the query is malformed or too long") : 0;
}

static bool metadata_matches(const struct filter *f, const struct rp_project_record *r)
{
    if (!f->metadata_count)
        return true;
    _cleanup_json_ json_t *metadata = NULL;
    struct rp_error ignored;
    if (rp_json_parse_object(rp_str_of(r->metadata), &metadata, &ignored) < 0)
        return false;
    for (unsigned i = 0; i < f->metadata_count; i++) {
        const char *value = json_string_value(json_object_get(metadata, f->metadata_key[i]));
        if (!value || strcmp(value, f->metadata_value[i]) != 0)
            return false;
    }
    return true;
}

static bool matches(const struct filter *f, const struct rp_project *p)
{
    const struct rp_project_record *r = rp_project_record_of(p);
    if (f->state[0] && strcmp(f->state, rp_project_state_name(rp_project_state_of(p))) != 0)
        return false;
    if (f->q[0] && !strcasestr(r->name, f->q) && !strcasestr(r->id, f->q))
        return false;
    return metadata_matches(f, r);
}

void rp_api_projects_list(struct rp_call *call)
{
    struct filter f;
    struct rp_error err = {0};
    if (parse_filter(call->request, &f, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    struct rp_projects *all = call->gateway->projects;
    struct rp_project *p = f.created_at ? rp_projects_older_than(all, f.created_at, rp_str_of(f.id))
                                        : rp_projects_older(all, NULL);
    struct rp_project *last = NULL;
    struct rp_buf b;
    rp_buf_init(&b, 64 * 1024 * 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_key(&w, "items");
    rp_json_open_array(&w);
    for (uint64_t n = 0; p; p = rp_projects_older(all, p)) {
        if (!matches(&f, p))
            continue;
        if (n++ == f.limit)
            break;
        rp_project_write_json(&w, p);
        last = p;
    }
    rp_json_close_array(&w);
    char cursor[64] = "";
    if (p && last)
        snprintf(cursor, sizeof cursor, "%lld.%s", (long long)rp_project_record_of(last)->created_at,
                 rp_project_id(last));
    rp_json_field_string(&w, "next_cursor", cursor[0] ? cursor : NULL);
    rp_json_close_object(&w);
    rp_api_reply_json(call, 200, &w);
}

/* ---- one project ---- */

void rp_api_project_get(struct rp_call *call)
{
    rp_api_reply_project(call, 200, call->project);
}

/* If-Match (RFC 9110 section 13.1.1): 0 there is none or "*", a version, or -1: none of its tags can match.
 */
static int if_match(struct rp_call *call, uint64_t *ret, struct rp_error *err)
{
    struct rp_str value = rp_http_header(call->request, "If-Match");
    *ret = 0;
    if (!value.p || rp_str_is(value, "*"))
        return 0;
    uint64_t now = rp_project_record_of(call->project)->version, version;
    for (struct rp_str rest = value; rest.n;) {
        struct rp_str tag = rp_str_trim(rp_str_cut(rest, ',', &rest));
        if (tag.n > 2 && tag.p[0] == '"' && tag.p[tag.n - 1] == '"' &&
            rp_str_to_u64((struct rp_str){tag.p + 1, tag.n - 2}, UINT64_MAX, &version) && version == now) {
            *ret = version;
            return 0;
        }
    }
    return rp_error_set(err, RP_ERROR_PRECONDITION, "the project is \"%llu\" by now",
                        (unsigned long long)now);
}

static void updated(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct rp_call *call = ctx;
    if (err)
        rp_api_reply_error(call, err);
    else
        rp_api_reply_project(call, 200, p);
    rp_call_unref(call);
}

static void update_body(struct rp_call *call, json_t *body)
{
    struct rp_project_input input;
    struct rp_error err = {0};
    uint64_t expected;
    if (if_match(call, &expected, &err) < 0 || rp_project_input_update(body, &input, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    rp_project_update(call->project, &input, expected, updated, rp_call_ref(call));
}

void rp_api_project_update(struct rp_call *call)
{
    rp_api_read_json(call, UPDATE_BODY_MAX, update_body);
}

/* A deletion waits for the sandbox to be gone; when the orchestrator cannot make it go, the client is told.
 */
struct deletion {
    struct rp_call *call;
    struct rp_timer *timer;
};

static void deletion_slow(void *ctx)
{
    struct deletion *d = ctx;
    struct rp_error err = {0};
    (void)rp_error_set(&err, RP_ERROR_UNAVAILABLE,
                       "the project's sandbox is not gone yet; its deletion goes on");
    rp_api_reply_error(d->call, &err);
}

static void deleted(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct deletion *d = ctx;
    if (err)
        rp_api_reply_error(d->call, err);
    else
        rp_api_reply_empty(d->call, 204);
    rp_timer_free(d->timer);
    rp_call_unref(d->call);
    free(d);
}

void rp_api_project_delete(struct rp_call *call)
{
    struct rp_error err = {0};
    uint64_t expected;
    if (if_match(call, &expected, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    struct deletion *d = rp_calloc(1, sizeof *d);
    d->call = rp_call_ref(call);
    d->timer = rp_timer_new(call->gateway->loop, deletion_slow, d);
    rp_timer_start(d->timer, DELETE_MS, 0);
    rp_project_delete(call->project, deleted, d);
}
