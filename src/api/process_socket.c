/*
 * process_socket.c: WS …/processes/{pid}. Loop thread only.
 *
 * The first byte of a binary frame names the stream: 0 stdin (from the client), 1 stdout, 2 stderr. Text
 * frames are control: eof, signal and ack from the client; hello, gap, pause, resume and exit from the
 * server.
 */
#include "api/control_frame.h"
#include "api/processes.h"

enum {
    MESSAGE_MAX = 1024 * 1024,
    OUTPUT_MAX = 256 * 1024,
    CLOSE_BAD_REQUEST = 4400,
    CLOSE_NOT_FOUND = 4404,
    CLOSE_NOT_RUNNING = 4409,
    CLOSE_TOO_MUCH = 4413,
};

struct socket {
    struct rp_project *project; /* a reference */
    struct rp_websocket *ws;
    struct rp_process *process;
    struct rp_watcher *watcher; /* NULL after the end */
    bool writes, paused;
};

static void end(struct socket *s, int code, const char *reason)
{
    rp_watcher_free(s->watcher);
    s->watcher = NULL;
    rp_websocket_close(s->ws, code, reason);
}

static char stream_byte(uint8_t stream)
{
    return stream == RP_STREAM_STDERR ? 2 : 1; /* a PTY's output counts as stdout */
}

static enum rp_write on_output(void *ctx, uint8_t stream, uint64_t offset, struct rp_str bytes)
{
    struct socket *s = ctx;
    char first = stream_byte(stream);
    struct rp_str pieces[] = {{&first, 1}, bytes};
    return rp_websocket_send_binary(s->ws, pieces, 2);
}

static void on_gap(void *ctx, uint8_t stream, uint64_t offset)
{
    struct socket *s = ctx;
    struct rp_buf b;
    rp_buf_init(&b, 256);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "gap");
    rp_json_field_string(&w, "stream", stream_byte(stream) == 2 ? "stderr" : "stdout");
    rp_json_field_uint(&w, "offset", offset);
    rp_json_close_object(&w);
    (void)rp_websocket_send_text(s->ws, rp_buf_view(&b));
    rp_buf_done(&b);
}

static void on_size(void *ctx, uint16_t cols, uint16_t rows)
{
}

static void on_input(void *ctx, bool full)
{
    struct socket *s = ctx;
    if (full == s->paused)
        return;
    s->paused = full;
    rp_socket_send_type(s->ws, full ? "pause" : "resume");
}

static void on_exit_(void *ctx, const struct rp_exit *exit, bool lost)
{
    struct socket *s = ctx;
    rp_socket_send_exit(s->ws, exit, lost);
    end(s, lost ? CLOSE_NOT_RUNNING : 1000, lost ? "the project stopped" : "the program ended");
}

static void on_gone(void *ctx, bool server_stops)
{
    end(ctx, server_stops ? 1001 : CLOSE_NOT_FOUND,
        server_stops ? "the server restarts" : "the process was removed");
}

static void on_binary(void *ctx, struct rp_str bytes)
{
    struct socket *s = ctx;
    struct rp_error err = {0};
    if (!s->watcher)
        return;
    if (!s->writes || !bytes.n || bytes.p[0] != 0) {
        (void)rp_error_set(&err, s->writes ? RP_ERROR_INVALID : RP_ERROR_FORBIDDEN,
                           s->writes ? "a binary frame to a process begins with a byte 0, for its stdin"
                                     : "this socket only watches");
        rp_socket_send_error(s->ws, &err);
        return;
    }
    switch (rp_process_write(s->process, (struct rp_str){bytes.p + 1, bytes.n - 1})) {
    case RP_INPUT_FULL:
        on_input(s, true);
        break;
    case RP_INPUT_OVERFLOW:
        end(s, CLOSE_TOO_MUCH, "more was sent than the process takes; wait for \"resume\" after a \"pause\"");
        break;
    case RP_INPUT_CLOSED:
        (void)rp_error_set(&err, RP_ERROR_CONFLICT, "the process takes no input");
        rp_socket_send_error(s->ws, &err);
        break;
    default:
        break;
    }
}

static void on_text(void *ctx, struct rp_str text)
{
    struct socket *s = ctx;
    struct rp_control c;
    struct rp_error err = {0};
    if (!s->watcher)
        return;
    if (rp_control_parse(text, &c, &err) < 0) {
        rp_socket_send_error(s->ws, &err);
        return;
    }
    if (c.type == RP_CONTROL_PING) {
        rp_socket_send_type(s->ws, "pong");
    } else if (c.type == RP_CONTROL_ACK) {
        bool pty = rp_process_flags(s->process) & RP_PROCESS_PTY;
        rp_watcher_ack(s->watcher, pty ? RP_STREAM_PTY : c.stream, c.offset);
    } else if (!s->writes) {
        (void)rp_error_set(&err, RP_ERROR_FORBIDDEN, "this socket only watches");
        rp_socket_send_error(s->ws, &err);
    } else if (c.type == RP_CONTROL_SIGNAL) {
        rp_process_signal(s->process, c.signal, NULL, NULL);
    } else if (c.type == RP_CONTROL_EOF) {
        rp_process_end_input(s->process);
    }
}

static void on_drain(void *ctx)
{
    struct socket *s = ctx;
    if (s->watcher)
        rp_watcher_drained(s->watcher);
}

static void on_close(void *ctx, int code)
{
    struct socket *s = ctx;
    rp_watcher_free(s->watcher);
    rp_project_unref(s->project);
    free(s);
}

static void send_hello(struct socket *s)
{
    struct rp_buf b;
    rp_buf_init(&b, 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    bool pty = rp_process_flags(s->process) & RP_PROCESS_PTY;
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "hello");
    rp_json_field_string(&w, "pid", rp_process_id_text(s->process));
    rp_json_field_uint(&w, "stdout", rp_watcher_offset(s->watcher, pty ? RP_STREAM_PTY : RP_STREAM_STDOUT));
    rp_json_field_uint(&w, "stderr", rp_watcher_offset(s->watcher, RP_STREAM_STDERR));
    rp_json_field_bool(&w, "running", !rp_process_exit(s->process));
    rp_json_close_object(&w);
    (void)rp_websocket_send_text(s->ws, rp_buf_view(&b));
    rp_buf_done(&b);
}

void rp_process_socket_open(struct rp_call *call, struct rp_process *p)
{
    static const struct rp_websocket_callbacks CALLBACKS = {on_binary, on_text, on_drain, on_close};
    static const struct rp_websocket_options OPTIONS = {.message_max = MESSAGE_MAX, .output_cap = OUTPUT_MAX};
    static const struct rp_watcher_callbacks WATCHER = {on_output, on_gap,   on_size,
                                                        on_input,  on_exit_, on_gone};
    struct rp_error err = {0};
    uint64_t out = UINT64_MAX, error = UINT64_MAX;
    char mode[16] = "write";
    size_t n;
    if (rp_api_query_u64(call, "since", INT64_MAX, &out, &err) < 0 ||
        rp_api_query_u64(call, "since_stderr", INT64_MAX, &error, &err) < 0 ||
        rp_http_query(call->request, "mode", mode, sizeof(mode), &n) < 0 ||
        (strcmp(mode, "write") != 0 && strcmp(mode, "read") != 0)) {
        rp_websocket_reject(call->x, CLOSE_BAD_REQUEST,
                            err.message[0] ? err.message : "\"mode\" is read or write");
        return;
    }
    struct socket *s = rp_calloc(1, sizeof(*s));
    s->project = rp_project_ref(call->project);
    s->process = p;
    s->writes = strcmp(mode, "write") == 0;
    s->ws = rp_websocket_accept(call->x, &OPTIONS, &CALLBACKS, s);
    if (!s->ws) {
        rp_project_unref(s->project);
        free(s);
        return;
    }
    const uint64_t since[4] = {0, out, error, out};
    s->watcher = rp_watcher_new(p, s->writes ? RP_WATCHER_WRITES : 0, since, &WATCHER, s);
    send_hello(s);
}
