/*
 * process_output.c: GET …/processes/{pid}/output?stream=&since=&wait=: bytes of one stream, by offset. Loop
 * thread only.
 *
 * X-Offset is the offset of the first byte of the body, X-Next-Offset where to go on, X-Ended whether nothing
 * will follow. With wait=N and nothing new yet, the answer comes with the next output, with the end, or after
 * N seconds.
 */
#include <stdio.h>

#include "api/processes.h"
#include "api/routes.h"

enum { WAIT_MAX = 60 };

struct wait {
    struct rp_call *call; /* a reference */
    struct rp_process *process;
    struct rp_watcher *watcher;
    struct rp_timer *timer;
    uint8_t stream;
    uint64_t since;
};

static int choose_stream(struct rp_call *call, struct rp_process *p, uint8_t *ret, struct rp_error *err)
{
    char name[16] = "stdout";
    size_t n;
    if (rp_http_query(call->request, "stream", name, sizeof(name), &n) < 0 ||
        (strcmp(name, "stdout") != 0 && strcmp(name, "stderr") != 0))
        return rp_error_set(err, RP_ERROR_INVALID, "the query's \"stream\" is \"stdout\" or \"stderr\"");
    if (strcmp(name, "stderr") == 0)
        *ret = RP_STREAM_STDERR;
    else
        *ret = rp_process_flags(p) & RP_PROCESS_PTY ? RP_STREAM_PTY : RP_STREAM_STDOUT;
    return 0;
}

static void set_number(struct rp_call *call, const char *name, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    rp_http_set_header_text(call->x, name, text);
}

static void reply(struct rp_call *call, struct rp_process *p, uint8_t stream, uint64_t since)
{
    if (!call->x)
        return;
    struct rp_str bytes = {0};
    uint64_t begin, end;
    rp_process_range(p, stream, &begin, &end);
    uint64_t offset = RP_MAX(since, begin);
    offset = RP_MIN(offset, end);
    if (offset < end)
        bytes = rp_ring_view(rp_output_ring(rp_process_output(p, stream)), offset, (size_t)(end - offset));
    set_number(call, "X-Offset", offset);
    set_number(call, "X-Next-Offset", offset + bytes.n);
    rp_http_set_header_text(call->x, "X-Ended", rp_process_exit(p) ? "true" : "false");
    rp_http_set_header_text(call->x, "Cache-Control", "no-store");
    rp_http_reply(call->x, 200, "application/octet-stream", bytes);
}

/* ---- long poll ---- */

static void finish(struct wait *w, bool answer)
{
    struct rp_call *call = w->call;
    rp_call_on_close(call, NULL, NULL);
    rp_timer_free(w->timer);
    rp_watcher_free(w->watcher);
    if (answer)
        reply(call, w->process, w->stream, w->since);
    rp_call_unref(call);
    free(w);
}

static enum rp_write on_output(void *ctx, uint8_t stream, uint64_t offset, struct rp_str bytes)
{
    struct wait *w = ctx;
    if (stream != w->stream)
        return RP_WRITE_OK;
    finish(w, true);
    return RP_WRITE_FAILED;
}

static void on_gap(void *ctx, uint8_t stream, uint64_t offset)
{
}

static void on_size(void *ctx, uint16_t cols, uint16_t rows)
{
}

static void on_input(void *ctx, bool full)
{
}

static void on_exit_(void *ctx, const struct rp_exit *exit, bool lost)
{
    finish(ctx, true);
}

static void on_gone(void *ctx, bool server_stops)
{
    struct wait *w = ctx;
    struct rp_error err = {0};
    if (server_stops)
        (void)rp_error_set(&err, RP_ERROR_UNAVAILABLE, "the server restarts; try again");
    else
        (void)rp_error_set(&err, RP_ERROR_NOT_FOUND, "the process was removed");
    rp_api_reply_error(w->call, &err);
    finish(w, false);
}

static void on_time(void *ctx)
{
    finish(ctx, true);
}

static void on_client_gone(void *ctx)
{
    finish(ctx, false);
}

static void wait_for_output(struct rp_call *call, struct rp_process *p, uint8_t stream, uint64_t since,
                            uint64_t seconds)
{
    static const struct rp_watcher_callbacks CALLBACKS = {on_output, on_gap,   on_size,
                                                          on_input,  on_exit_, on_gone};
    struct wait *w = rp_calloc(1, sizeof(*w));
    w->call = rp_call_ref(call);
    w->process = p;
    w->stream = stream;
    w->since = since;
    const uint64_t from[4] = {since, since, since, since};
    w->watcher = rp_watcher_new(p, 0, from, &CALLBACKS, w);
    w->timer = rp_timer_new(call->gateway->loop, on_time, w);
    rp_timer_start(w->timer, seconds * 1000, 0);
    rp_call_on_close(call, on_client_gone, w);
}

void rp_api_process_output(struct rp_call *call)
{
    struct rp_process *p = rp_call_process(call, false);
    struct rp_error err = {0};
    uint64_t since = 0, seconds = 0;
    uint8_t stream = RP_STREAM_STDOUT;
    if (!p)
        return;
    if (choose_stream(call, p, &stream, &err) < 0 ||
        rp_api_query_u64(call, "since", INT64_MAX, &since, &err) < 0 ||
        rp_api_query_u64(call, "wait", WAIT_MAX, &seconds, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    uint64_t begin, end;
    rp_process_range(p, stream, &begin, &end);
    if (seconds && since >= end && !rp_process_exit(p) && rp_process_output(p, stream))
        wait_for_output(call, p, stream, end, seconds);
    else
        reply(call, p, stream, since);
}
