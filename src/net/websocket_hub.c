/*
 * websocket_hub.c: one timer for all sockets of a loop, so that an idle socket costs no timer of its own.
 * Both lists are in order of `due`, since all entries of a list wait equally long.
 */
#include "net/loop_internal.h"
#include "net/websocket_internal.h"

struct ws_hub {
    struct rp_loop *loop;
    struct rp_timer *timer;
    struct link open, closing;
    uint32_t ping_ms, cut_ms, close_ms;
};

static void stop_when_empty(struct ws_hub *h)
{
    if (link_empty(&h->open) && link_empty(&h->closing))
        rp_timer_stop(h->timer);
}

static uint32_t look_ms(const struct ws_hub *h)
{
    return h->ping_ms / 2;
}

static void look(struct ws_hub *h, struct rp_websocket *ws, uint64_t now)
{
    link_remove(&ws->link);
    ws->due = now + look_ms(h);
    link_append(&h->open, &ws->link);
    if (ws->paused)
        ws->heard = now; /* we are the ones who do not listen */
    if (now - ws->heard >= h->cut_ms) {
        ws_cut(ws, 1006);
        return;
    }
    ws->odd_turn = !ws->odd_turn;
    if (!ws->odd_turn)
        ws_ping(ws);
}

static void on_timer(void *ctx)
{
    struct ws_hub *h = ctx;
    uint64_t now = rp_loop_now_ms(h->loop);
    while (!link_empty(&h->open)) {
        struct rp_websocket *ws = RP_CONTAINER_OF(h->open.next, struct rp_websocket, link);
        if (ws->due > now)
            break;
        look(h, ws, now);
    }
    while (!link_empty(&h->closing)) {
        struct rp_websocket *ws = RP_CONTAINER_OF(h->closing.next, struct rp_websocket, link);
        if (ws->due > now)
            break;
        ws_cut(ws, 1006);
    }
    stop_when_empty(h);
}

static void release(void *value)
{
    struct ws_hub *h = value;
    rp_timer_free(h->timer);
    free(h);
}

static struct ws_hub *hub_of(struct rp_loop *loop)
{
    struct ws_hub *h = rp_loop_slot_get(loop, RP_LOOP_SLOT_WEBSOCKET);
    if (h)
        return h;
    h = rp_calloc(1, sizeof(*h));
    *h = (struct ws_hub){.loop = loop, .ping_ms = 30000, .cut_ms = 75000, .close_ms = 2000};
    h->timer = rp_timer_new(loop, on_timer, h);
    link_init(&h->open);
    link_init(&h->closing);
    rp_loop_slot_set(loop, RP_LOOP_SLOT_WEBSOCKET, h, release);
    return h;
}

static void start_timer(struct ws_hub *h)
{
    if (rp_timer_active(h->timer))
        return;
    uint32_t period = RP_MIN(look_ms(h), h->close_ms) / 4;
    period = RP_MIN(period, (uint32_t)1000);
    period = RP_MAX(period, (uint32_t)5);
    rp_timer_start(h->timer, period, period);
}

void ws_hub_add(struct rp_websocket *ws)
{
    struct ws_hub *h = ws->hub = hub_of(ws->loop);
    ws->heard = rp_loop_now_ms(h->loop);
    ws->due = ws->heard + look_ms(h);
    link_append(&h->open, &ws->link);
    start_timer(h);
}

void ws_hub_closing(struct rp_websocket *ws)
{
    link_remove(&ws->link);
    ws->due = rp_loop_now_ms(ws->hub->loop) + ws->hub->close_ms;
    link_append(&ws->hub->closing, &ws->link);
}

void ws_hub_remove(struct rp_websocket *ws)
{
    link_remove(&ws->link);
}

void rp_websocket_close_all(struct rp_loop *loop, int code, const char *reason)
{
    struct ws_hub *h = hub_of(loop);
    /* each moves to the other list */
    while (!link_empty(&h->open))
        rp_websocket_close(RP_CONTAINER_OF(h->open.next, struct rp_websocket, link), code, reason);
}

void rp_websocket_set_timing(struct rp_loop *loop, uint32_t ping_ms, uint32_t cut_ms, uint32_t close_ms)
{
    struct ws_hub *h = hub_of(loop);
    h->ping_ms = ping_ms;
    h->cut_ms = cut_ms;
    h->close_ms = close_ms;
    /* the lists stay in order when all of each wait anew */
    uint64_t now = rp_loop_now_ms(loop);
    for (struct link *l = h->open.next; l != &h->open; l = l->next)
        RP_CONTAINER_OF(l, struct rp_websocket, link)->due = now + look_ms(h);
    for (struct link *l = h->closing.next; l != &h->closing; l = l->next)
        RP_CONTAINER_OF(l, struct rp_websocket, link)->due = now + close_ms;
    if (rp_timer_active(h->timer)) {
        rp_timer_stop(h->timer);
        start_timer(h);
    }
}
