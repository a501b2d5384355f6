#include "net/websocket.h"

#include "net/websocket_internal.h"

enum { INPUT_CAP = 64 * 1024, PIECES_MAX = 62, CONTROL_ROOM = 512 };

/* ---- sending ---- */

static enum rp_write send_frame(struct rp_websocket *ws, unsigned char opcode, const struct rp_str *pieces,
                                size_t count)
{
    unsigned char header[10];
    struct rp_str some[PIECES_MAX + 1], *all = some;
    _cleanup_free_ struct rp_str *many = NULL;
    if (count > PIECES_MAX)
        all = many = rp_alloc((count + 1) * sizeof(*all));
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        all[i + 1] = pieces[i];
        total += pieces[i].n;
    }
    all[0] = (struct rp_str){(char *)header, rp_ws_write_header(header, opcode, total)};
    return rp_stream_write(ws->stream, all, count + 1);
}

/* Pings and pongs are left out rather than let a peer that does not read fill its queue with them. */
static void send_control(struct rp_websocket *ws, unsigned char opcode, struct rp_str payload)
{
    if (rp_stream_queued(ws->stream) <= rp_stream_output_cap(ws->stream) / 2)
        send_frame(ws, opcode, &payload, 1);
}

enum rp_write rp_websocket_send_binary(struct rp_websocket *ws, const struct rp_str *pieces, size_t count)
{
    return ws->state == WS_OPEN ? send_frame(ws, RP_WS_BINARY, pieces, count) : RP_WRITE_FAILED;
}

enum rp_write rp_websocket_send_text(struct rp_websocket *ws, struct rp_str text)
{
    return ws->state == WS_OPEN ? send_frame(ws, RP_WS_TEXT, &text, 1) : RP_WRITE_FAILED;
}

size_t rp_websocket_queued(const struct rp_websocket *ws)
{
    return rp_stream_queued(ws->stream);
}

void ws_ping(struct rp_websocket *ws)
{
    send_control(ws, RP_WS_PING, RP_STR(""));
}

/* ---- the end ---- */

static void ws_free(struct rp_websocket *ws)
{
    ws_hub_remove(ws);
    rp_stream_free(ws->stream);
    rp_buf_done(&ws->message);
    free(ws);
}

static void tell_closed(struct rp_websocket *ws, int code)
{
    if (ws->state == WS_LINGERING)
        return;
    ws->state = WS_LINGERING;
    rp_buf_done(&ws->message);
    ws->callbacks->on_close(ws->ctx, code);
}

void ws_cut(struct rp_websocket *ws, int code)
{
    tell_closed(ws, code);
    ws_free(ws);
}

static void send_close(struct rp_websocket *ws, int code, struct rp_str reason)
{
    char payload[RP_WS_CONTROL_MAX] = {(char)(code >> 8), (char)code};
    size_t n = 0;
    if (code) {
        n = RP_MIN(reason.n, sizeof(payload) - 2);
        while (n < reason.n && n && ((unsigned char)reason.p[n] & 0xc0) == 0x80)
            n--; /* not in the middle of a character */
        if (n)
            memcpy(payload + 2, reason.p, n);
        n += 2;
    }
    /* the close frame has room kept for it beyond the cap that messages are held to */
    rp_stream_set_caps(ws->stream, INPUT_CAP, rp_stream_output_cap(ws->stream) + CONTROL_ROOM);
    struct rp_str piece = {payload, n};
    send_frame(ws, RP_WS_CLOSE, &piece, 1);
}

/* Nothing is owed to either side any more: end the connection once our last bytes are out, and let the peer
 * close first for a while, since closing over its unread bytes would take ours from it. */
static void linger(struct rp_websocket *ws)
{
    rp_stream_end(ws->stream);
    if (ws->paused)
        rp_stream_resume(ws->stream);
    ws_hub_closing(ws);
}

/* The peer broke the rules. */
static void refuse(struct rp_websocket *ws, int code, const char *reason)
{
    if (ws->state == WS_OPEN)
        send_close(ws, code, rp_str_of(reason));
    tell_closed(ws, code);
    linger(ws);
}

void rp_websocket_close(struct rp_websocket *ws, int code, const char *reason)
{
    if (ws->state != WS_OPEN)
        return;
    send_close(ws, code, rp_str_of(reason ? reason : ""));
    ws->state = WS_CLOSING;
    rp_buf_done(&ws->message);
    if (ws->paused) {
        ws->paused = false;
        rp_stream_resume(ws->stream);
    }
    ws_hub_closing(ws);
}

void rp_websocket_pause(struct rp_websocket *ws)
{
    if (ws->state != WS_OPEN || ws->paused)
        return;
    ws->paused = true;
    rp_stream_pause(ws->stream);
}

void rp_websocket_resume(struct rp_websocket *ws)
{
    if (!ws->paused)
        return;
    ws->paused = false;
    rp_stream_resume(ws->stream);
}

/* ---- receiving ---- */

static void on_close_frame(struct rp_websocket *ws, struct rp_str payload)
{
    int code = 1005;
    struct rp_str echoed = {payload.p, 0};
    if (payload.n) {
        code = payload.n >= 2 ? (unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1] : 0;
        if (!rp_ws_close_code_valid((unsigned)code)) {
            refuse(ws, 1002, "malformed close frame");
            return;
        }
        if (!rp_utf8_valid(payload.p + 2, payload.n - 2)) {
            refuse(ws, 1007, "the reason is not UTF-8");
            return;
        }
    }
    if (ws->state == WS_OPEN)
        send_close(ws, code == 1005 ? 0 : code, echoed);
    tell_closed(ws, code);
    linger(ws);
}

static void on_control(struct rp_websocket *ws, unsigned char opcode, struct rp_str payload)
{
    if (opcode == RP_WS_CLOSE)
        on_close_frame(ws, payload);
    else if (opcode == RP_WS_PING && ws->state == WS_OPEN)
        send_control(ws, RP_WS_PONG, payload);
}

static void deliver(struct rp_websocket *ws, struct rp_str message)
{
    unsigned char opcode = ws->opcode;
    ws->opcode = 0;
    if (opcode == RP_WS_TEXT)
        ws->callbacks->on_text(ws->ctx, message);
    else
        ws->callbacks->on_binary(ws->ctx, message);
}

/* Bytes of a data frame's payload, unmasked where they are: what the stream shows is its own buffer, and each
 * byte is looked at once. Returns how many were used. */
static size_t on_payload(struct rp_websocket *ws, struct rp_str bytes)
{
    size_t n = ws->frame_left < bytes.n ? (size_t)ws->frame_left : bytes.n;
    char *p = (char *)bytes.p;
    uint64_t offset = ws->frame.length - ws->frame_left;
    ws->frame_left -= n;
    bool frame_ends = ws->frame_left == 0, message_ends = frame_ends && ws->frame.fin;
    ws->in_frame = !frame_ends;
    if (ws->state != WS_OPEN) {
        if (message_ends)
            ws->opcode = 0;
        return n; /* after our close frame nothing but the peer's counts */
    }
    rp_ws_mask(p, n, ws->frame.mask, offset);
    struct rp_str piece = {p, n};
    if (ws->opcode == RP_WS_TEXT) {
        if (!rp_utf8_feed(&ws->utf8, piece) || (message_ends && !rp_utf8_whole(&ws->utf8))) {
            refuse(ws, 1007, "text that is not UTF-8");
            return n;
        }
    }
    if (message_ends && !ws->message.length) {
        deliver(ws, piece); /* the common case: nothing is copied */
        return n;
    }
    if (!rp_buf_append_str(&ws->message, piece)) {
        refuse(ws, 1009, "the message is too large");
        return n;
    }
    if (message_ends) {
        struct rp_buf whole = ws->message;
        rp_buf_init(&ws->message, whole.cap);
        deliver(ws, rp_buf_view(&whole));
        rp_buf_done(&whole);
    }
    return n;
}

static bool begin_data_frame(struct rp_websocket *ws, const struct rp_ws_frame *f)
{
    if ((f->opcode == RP_WS_CONTINUATION) != (ws->opcode != 0)) {
        refuse(ws, 1002, ws->opcode ? "a message inside of a message" : "a continuation of nothing");
        return false;
    }
    if (f->opcode != RP_WS_CONTINUATION) {
        ws->opcode = f->opcode;
        ws->utf8 = (struct rp_utf8){0};
    }
    if (ws->state == WS_OPEN && f->length > ws->message.cap - ws->message.length) {
        refuse(ws, 1009, "the message is too large");
        return false;
    }
    ws->frame = *f;
    ws->frame_left = f->length;
    ws->in_frame = true;
    return true;
}

/* One step: bytes used, 0 when more are needed. */
static size_t step(struct rp_websocket *ws, struct rp_str bytes)
{
    if (ws->in_frame)
        return on_payload(ws, bytes);
    struct rp_ws_frame f;
    ssize_t header = rp_ws_parse_header(bytes, &f);
    if (header == 0)
        return 0;
    if (header < 0) {
        refuse(ws, 1002, "malformed frame");
        return bytes.n;
    }
    size_t n = (size_t)header;
    if (f.opcode & 8) {
        if (bytes.n - n < f.length)
            return 0;
        char payload[RP_WS_CONTROL_MAX];
        memcpy(payload, bytes.p + n, (size_t)f.length);
        rp_ws_mask(payload, (size_t)f.length, f.mask, 0);
        on_control(ws, f.opcode, (struct rp_str){payload, (size_t)f.length});
        return n + (size_t)f.length;
    }
    if (!begin_data_frame(ws, &f))
        return bytes.n;
    /* with its payload in one go, so that an empty frame needs no more bytes to be seen */
    return n + on_payload(ws, (struct rp_str){bytes.p + n, bytes.n - n});
}

/* No callback of the socket's owner frees it: it ends in linger(), from the stream's calls or from the hub.
 */
static size_t on_bytes(void *ctx, struct rp_str bytes)
{
    struct rp_websocket *ws = ctx;
    ws->heard = rp_loop_now_ms(ws->loop);
    size_t taken = 0;
    while (!ws->paused && taken < bytes.n) {
        struct rp_str rest = {bytes.p + taken, bytes.n - taken};
        size_t n = ws->state == WS_LINGERING ? rest.n : step(ws, rest);
        if (!n)
            break;
        taken += n;
    }
    return taken;
}

static void on_end(void *ctx)
{
    ws_cut(ctx, 1006);
}

static void on_drain(void *ctx)
{
    struct rp_websocket *ws = ctx;
    if (ws->state == WS_OPEN && ws->callbacks->on_drain)
        ws->callbacks->on_drain(ws->ctx);
}

static void on_error(void *ctx, int errnum)
{
    ws_cut(ctx, 1006);
}

static const struct rp_stream_callbacks stream_callbacks = {on_bytes, on_end, on_drain, on_error};

struct rp_websocket *ws_new(struct rp_loop *loop, struct rp_stream *stream,
                            const struct rp_websocket_options *options,
                            const struct rp_websocket_callbacks *callbacks, void *ctx)
{
    struct rp_websocket *ws = rp_calloc(1, sizeof(*ws));
    ws->loop = loop;
    ws->stream = stream;
    ws->callbacks = callbacks;
    ws->ctx = ctx;
    link_init(&ws->link);
    rp_buf_init(&ws->message, options->message_max);
    rp_stream_set_caps(stream, INPUT_CAP, options->output_cap);
    rp_stream_set_callbacks(stream, &stream_callbacks, ws);
    ws_hub_add(ws);
    return ws;
}
