#include "api/files_watch.h"

#include <stdlib.h>

#include "runner/files.h"

enum {
    PIECE = 64 * 1024, /* events in one message */
    EVENT_MAX = 6 * (2 * RP_FILES_PATH_MAX + 64),
    AGAIN_MS = 2000, /* after a watch ended by itself */
};

/* There while someone listens. */
struct watch {
    struct rp_gateway *g;
    struct rp_project *p; /* whoever listens holds a reference */
    struct rp_file_request *request;
    struct rp_timer *again;
    struct rp_timer *flush;
    struct rp_buf out;
    struct rp_json_writer w;
    bool open; /* the message has been begun */
};

static void begin(struct watch *w);

static void send_message(void *ctx)
{
    struct watch *w = ctx;
    if (!w->open)
        return;
    w->open = false;
    rp_timer_stop(w->flush);
    rp_json_close_array(&w->w);
    rp_json_close_object(&w->w);
    if (!w->w.failed && rp_project_has_listeners(w->p))
        rp_project_emit(w->p, rp_buf_view(&w->out));
    rp_buf_done(&w->out);
}

static void on_event(void *ctx, const struct rp_file_event *e)
{
    static const char *const names[] = {[RP_FILES_EVENT_CREATED] = "created",
                                        [RP_FILES_EVENT_CHANGED] = "changed",
                                        [RP_FILES_EVENT_DELETED] = "deleted",
                                        [RP_FILES_EVENT_MOVED] = "moved",
                                        [RP_FILES_EVENT_OVERFLOW] = "overflow"};
    struct watch *w = ctx;
    if (!w->open) {
        w->open = true;
        w->w = rp_json_writer(&w->out);
        rp_json_open_object(&w->w);
        rp_json_field_string(&w->w, "type", "files");
        rp_json_key(&w->w, "events");
        rp_json_open_array(&w->w);
        rp_timer_start(w->flush, 1, 0); /* what came with it goes with it */
    }
    rp_json_open_object(&w->w);
    rp_json_field_string(&w->w, "type", names[e->type]);
    rp_json_field_str(&w->w, "path", e->path);
    if (e->type == RP_FILES_EVENT_MOVED)
        rp_json_field_str(&w->w, "to", e->to);
    rp_json_close_object(&w->w);
    if (w->out.length >= PIECE)
        send_message(w);
}

static void on_done(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err)
{
    struct watch *w = ctx;
    w->request = NULL;
    rp_timer_start(w->again, AGAIN_MS, 0);
}

static void on_again(void *ctx)
{
    struct watch *w = ctx;
    /* What happened in between was missed. */
    struct rp_file_event lost = {.type = RP_FILES_EVENT_OVERFLOW, .path = {"", 0}};
    if (w->request || !rp_project_sandbox(w->p))
        return;
    on_event(w, &lost);
    begin(w);
}

/* Where there is a sandbox; else when there is one. */
static void begin(struct watch *w)
{
    static const struct rp_file_callbacks callbacks = {.on_event = on_event, .on_done = on_done};
    struct rp_sandbox *s = rp_project_sandbox(w->p);
    if (s && !w->request)
        w->request = rp_files_watch(w->g->files, s, (struct rp_str){"", 0}, &callbacks, w);
}

void rp_files_watch_begin(struct rp_gateway *g, struct rp_project *p)
{
    struct watch *w = rp_calloc(1, sizeof(*w));
    w->g = g;
    w->p = p;
    w->again = rp_timer_new(g->loop, on_again, w);
    w->flush = rp_timer_new(g->loop, send_message, w);
    rp_buf_init(&w->out, PIECE + EVENT_MAX + 64);
    rp_project_set_data(p, RP_OBSERVER_FILES, w);
    begin(w);
}

void rp_files_watch_end(struct rp_project *p)
{
    struct watch *w = rp_project_data(p, RP_OBSERVER_FILES);
    if (!w)
        return;
    rp_project_set_data(p, RP_OBSERVER_FILES, NULL);
    rp_file_cancel(w->request);
    rp_timer_free(w->again);
    rp_timer_free(w->flush);
    rp_buf_done(&w->out);
    free(w);
}

static void on_attached(void *ctx, struct rp_project *p, struct rp_sandbox *s, bool adopted)
{
    struct watch *w = rp_project_data(p, RP_OBSERVER_FILES);
    if (w)
        begin(w);
}

static void on_detached(void *ctx, struct rp_project *p)
{
    struct watch *w = rp_project_data(p, RP_OBSERVER_FILES);
    if (!w)
        return;
    rp_file_cancel(RP_STEAL_PTR(w->request));
    rp_timer_stop(w->again);
}

void rp_files_watch_observe(struct rp_gateway *g)
{
    static const struct rp_project_observer observer = {
        .attached = on_attached, .detached = on_detached, .closing = on_detached};
    rp_projects_observe(g->projects, RP_OBSERVER_FILES, &observer, g);
}
