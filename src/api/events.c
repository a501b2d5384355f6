#include "api/events.h"

#include <stdlib.h>

#include "api/files_watch.h"
#include "api/project_reply.h"
#include "api/routes.h"
#include "domain/projects.h"

enum { MESSAGE_MAX = 4096, OUTPUT_MAX = 1024 * 1024, STATS_MS = 2000 };

/* A project's sockets; there while there are any. */
struct room {
    struct rp_gateway *g;
    struct rp_project *p; /* a reference is held by each socket */
    struct socket *first;
    unsigned count;
    struct rp_timer *stats;
    bool collecting;
};

struct socket {
    struct room *room;
    struct socket *next, **link;
    struct rp_websocket *ws;
    struct rp_listener *listener;
};

static void send_text(struct socket *s, struct rp_str json)
{
    /* a queue that is full cuts the connection: a client that misses events would show what is not so */
    (void)rp_websocket_send_text(s->ws, json);
}

/* ---- stats ---- */

static void stats_collected(void *ctx, struct rp_str json, const struct rp_error *err)
{
    struct rp_project *p = ctx;
    struct room *room = rp_project_data(p, RP_OBSERVER_EVENTS);
    if (room)
        room->collecting = false;
    if (room && !err) {
        struct rp_buf b;
        rp_buf_init(&b, 16384);
        struct rp_json_writer w = rp_json_writer(&b);
        rp_json_open_object(&w);
        rp_json_field_string(&w, "type", "stats");
        rp_json_key(&w, "stats");
        rp_json_raw(&w, json);
        rp_json_close_object(&w);
        if (!w.failed)
            rp_project_emit(p, rp_buf_view(&b));
        rp_buf_done(&b);
    }
    rp_project_unref(p);
}

static void on_stats(void *ctx)
{
    struct room *room = ctx;
    if (room->collecting || !*rp_project_sandbox_id(room->p))
        return;
    room->collecting = true;
    rp_api_collect_stats(room->g, room->p, stats_collected, rp_project_ref(room->p));
}

/* ---- who is there ---- */

static void emit_presence(struct room *room)
{
    struct rp_buf b;
    rp_buf_init(&b, 256);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "presence");
    rp_json_field_uint(&w, "count", room->count);
    rp_json_close_object(&w);
    for (struct socket *s = room->first, *next; s; s = next) {
        next = s->next;
        send_text(s, rp_buf_view(&b));
    }
    rp_buf_done(&b);
}

static struct room *room_of(struct rp_gateway *g, struct rp_project *p)
{
    struct room *room = rp_project_data(p, RP_OBSERVER_EVENTS);
    if (room)
        return room;
    room = rp_calloc(1, sizeof *room);
    room->g = g;
    room->p = p;
    room->stats = rp_timer_new(g->loop, on_stats, room);
    rp_timer_start(room->stats, STATS_MS, STATS_MS);
    rp_project_set_data(p, RP_OBSERVER_EVENTS, room);
    rp_files_watch_begin(g, p);
    return room;
}

static void on_close(void *ctx, int code)
{
    struct socket *s = ctx;
    struct room *room = s->room;
    struct rp_project *p = room->p;
    rp_listener_free(s->listener);
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    free(s);
    room->count--;
    rp_project_viewer(p, -1);
    if (room->first) {
        emit_presence(room);
    } else {
        rp_files_watch_end(p);
        rp_timer_free(room->stats);
        rp_project_set_data(p, RP_OBSERVER_EVENTS, NULL);
        free(room);
    }
    rp_project_unref(p);
}

/* ---- one socket ---- */

static void on_event(void *ctx, struct rp_str json)
{
    send_text(ctx, json);
}

static void on_deleted(void *ctx)
{
    struct socket *s = ctx;
    s->listener = NULL;
    rp_websocket_close(s->ws, 4404, "the project was deleted");
}

static void send_first(struct socket *s)
{
    struct rp_buf b;
    rp_buf_init(&b, 1024 * 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "state");
    rp_json_key(&w, "status");
    rp_project_write_status(&w, s->room->p);
    rp_json_close_object(&w);
    if (!w.failed)
        send_text(s, rp_buf_view(&b));
    rp_buf_done(&b);
    w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "ports");
    rp_json_key(&w, "items");
    rp_project_write_ports(&w, s->room->p);
    rp_json_close_object(&w);
    if (!w.failed)
        send_text(s, rp_buf_view(&b));
    rp_buf_done(&b);
}

/* What a client says here means nothing; it is read so that its pongs and its close are seen. */
static void on_message(void *ctx, struct rp_str message)
{
}

static void on_drain(void *ctx)
{
}

void rp_api_project_events(struct rp_call *call)
{
    static const struct rp_websocket_callbacks callbacks = {
        .on_binary = on_message, .on_text = on_message, .on_drain = on_drain, .on_close = on_close};
    struct rp_websocket_options options = {.message_max = MESSAGE_MAX, .output_cap = OUTPUT_MAX};
    struct rp_gateway *g = call->gateway;
    struct rp_project *p = rp_project_ref(call->project);
    struct socket *s = rp_calloc(1, sizeof *s);
    s->ws = rp_websocket_accept(call->x, &options, &callbacks, s);
    if (!s->ws) {
        free(s);
        rp_project_unref(p);
        return;
    }
    struct room *room = room_of(g, p);
    s->room = room;
    s->next = room->first;
    s->link = &room->first;
    if (s->next)
        s->next->link = &s->next;
    room->first = s;
    room->count++;
    rp_project_viewer(p, 1);
    send_first(s);
    s->listener = rp_project_listen(p, on_event, on_deleted, s);
    emit_presence(room);
}

static void on_closing(void *ctx, struct rp_project *p)
{
    struct room *room = rp_project_data(p, RP_OBSERVER_EVENTS);
    for (struct socket *s = room ? room->first : NULL, *next; s; s = next) {
        next = s->next;
        rp_websocket_close(s->ws, 1001, "the server restarts");
    }
}

void rp_events_observe(struct rp_gateway *g)
{
    static const struct rp_project_observer observer = {.closing = on_closing};
    rp_projects_observe(g->projects, RP_OBSERVER_EVENTS, &observer, g);
}
