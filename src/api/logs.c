/*
 * logs.c: GET …/logs: what the run command and its installs print. Loop thread only.
 *
 * Without follow: text/plain, exactly the bytes, from `since`, or from where the newest run began; X-Offset
 * and X-Next-Offset say which. With follow=1 (or Accept: text/event-stream): server-sent events; an event's
 * id is the byte offset behind it, so that Last-Event-ID resumes without a lost or doubled byte. Carriage
 * returns, which end a line in that format, become line feeds there, and bytes that are no UTF-8 become
 * U+FFFD.
 */
#include <stdio.h>

#include "api/processes.h"
#include "api/routes.h"
#include "api/sse_text.h"

enum {
    HEARTBEAT_MS = 15000,
    EVENT_MAX = RP_SSE_TEXT_MAX,
    QUEUE_MAX = 2 * EVENT_MAX,
};

struct follower {
    struct rp_call *call;       /* a reference */
    struct rp_project *project; /* the call's */
    struct rp_reader *reader;
    struct rp_timer *heartbeat;
    struct rp_sse_text text;
};

static void follower_free(struct follower *f)
{
    rp_call_on_close(f->call, NULL, NULL);
    rp_timer_free(f->heartbeat);
    rp_reader_free(f->reader);
    rp_project_viewer(f->project, -1);
    rp_call_unref(f->call);
    free(f);
}

static enum rp_write send_event(struct follower *f, struct rp_buf *b)
{
    enum rp_write result = f->call->x ? rp_http_send(f->call->x, rp_buf_view(b)) : RP_WRITE_FAILED;
    rp_buf_done(b);
    return result;
}

static enum rp_write on_output(void *ctx, uint64_t offset, struct rp_str bytes)
{
    struct follower *f = ctx;
    struct rp_buf b;
    rp_buf_init(&b, EVENT_MAX);
    if (!rp_sse_text_event(&f->text, offset, bytes, &b)) {
        rp_buf_done(&b);
        return RP_WRITE_FAILED;
    }
    return send_event(f, &b);
}

static void on_gap(void *ctx, uint64_t offset)
{
    struct follower *f = ctx;
    struct rp_buf b;
    rp_buf_init(&b, 256);
    f->text.carried = 0;
    if (rp_buf_printf(&b, "event: gap\nid: %llu\ndata: %llu\n\n", (unsigned long long)offset,
                      (unsigned long long)offset))
        (void)send_event(f, &b);
}

/* The project is deleted, or the server stops. */
static void on_gone(void *ctx)
{
    struct follower *f = ctx;
    f->reader = NULL;
    if (f->call->x)
        rp_http_end(f->call->x);
    follower_free(f);
}

static void on_client_gone(void *ctx)
{
    follower_free(ctx);
}

static void on_drain(void *ctx)
{
    struct follower *f = ctx;
    rp_reader_drained(f->reader);
}

static void on_heartbeat(void *ctx)
{
    struct follower *f = ctx;
    if (f->call->x && rp_http_room(f->call->x) > QUEUE_MAX / 2)
        (void)rp_http_send(f->call->x, RP_STR(":\n\n"));
}

static void follow(struct rp_call *call, struct rp_output *log, uint64_t since)
{
    static const struct rp_reader_callbacks CALLBACKS = {on_output, on_gap, on_gone};
    struct follower *f = rp_calloc(1, sizeof(*f));
    f->call = rp_call_ref(call);
    f->project = call->project;
    rp_project_viewer(f->project, 1);
    rp_http_set_header_text(call->x, "Cache-Control", "no-store");
    rp_http_set_header_text(call->x, "X-Accel-Buffering", "no"); /* nginx in front must not collect it */
    rp_http_set_output_cap(call->x, QUEUE_MAX);
    f->heartbeat = rp_timer_new(call->gateway->loop, on_heartbeat, f);
    rp_timer_start(f->heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    rp_call_on_close(call, on_client_gone, f);
    rp_http_on_drain(call->x, on_drain, f);
    rp_http_begin(call->x, 200, "text/event-stream", -1);
    (void)rp_http_send(call->x, RP_STR("retry: 1000\n\n"));
    f->reader = rp_reader_new(log, 0, since, &CALLBACKS, f);
}

static void reply_text(struct rp_call *call, struct rp_output *log, uint64_t since)
{
    struct rp_ring *ring = rp_output_ring(log);
    uint64_t start = rp_ring_start(ring), end = rp_ring_end(ring);
    uint64_t offset = RP_MAX(since, start);
    offset = RP_MIN(offset, end);
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)offset);
    rp_http_set_header_text(call->x, "X-Offset", text);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)end);
    rp_http_set_header_text(call->x, "X-Next-Offset", text);
    rp_http_set_header_text(call->x, "Cache-Control", "no-store");
    struct rp_str bytes =
        end > offset ? rp_ring_view(ring, offset, (size_t)(end - offset)) : (struct rp_str){0};
    rp_http_reply(call->x, 200, "text/plain; charset=utf-8", bytes);
}

static bool wants_events(struct rp_call *call)
{
    char follow_text[8] = "0";
    size_t n;
    if (rp_http_query(call->request, "follow", follow_text, sizeof(follow_text), &n) > 0)
        return strcmp(follow_text, "1") == 0 || strcmp(follow_text, "true") == 0;
    struct rp_str accept = rp_http_header(call->request, "Accept");
    return accept.p && memmem(accept.p, accept.n, "text/event-stream", strlen("text/event-stream"));
}

void rp_api_project_logs(struct rp_call *call)
{
    struct rp_error err = {0};
    struct rp_process_set *set = rp_call_processes(call);
    struct rp_output *log = rp_process_set_log(set);
    if (!log) {
        (void)rp_error_set(&err, RP_ERROR_UNAVAILABLE, "the log of the project cannot be opened");
        rp_api_reply_error(call, &err);
        return;
    }
    uint64_t since = rp_process_set_log_start(set);
    struct rp_str last = rp_http_header(call->request, "Last-Event-ID");
    if (rp_api_query_u64(call, "since", INT64_MAX, &since, &err) < 0 ||
        (last.p && last.n && !rp_str_to_u64(last, INT64_MAX, &since) &&
         rp_error_set(&err, RP_ERROR_INVALID, "Last-Event-ID is a byte offset") < 0)) {
        rp_api_reply_error(call, &err);
        return;
    }
    if (wants_events(call) && rp_str_is(call->request->method, "GET"))
        follow(call, log, since);
    else
        reply_text(call, log, since);
}
