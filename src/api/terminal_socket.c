/*
 * terminal_socket.c: WS …/terminals/{tid} and WS /api/v1/terminal/{project}. Loop thread only.
 *
 * The socket is accepted at once, since a browser cannot see the status of a refused one; what is wrong is
 * said by its close code. While the project starts, or is found again after a restart of the server, the
 * socket waits.
 */
#include <stdio.h>

#include "api/control_frame.h"
#include "api/process_input.h"
#include "api/processes.h"
#include "api/routes.h"
#include "domain/project_processes.h"

enum {
    MESSAGE_MAX = 1024 * 1024, /* a longer one is closed with 1009 */
    OUTPUT_MAX = 256 * 1024,
    CLOSE_BAD_REQUEST = 4400,
    CLOSE_NOT_FOUND = 4404,
    CLOSE_NOT_RUNNING = 4409,
    CLOSE_TOO_MUCH = 4413,
    CLOSE_RESTART = 1001,
    CLOSE_DONE = 1000,
    CLOSE_FAILED = 1011,
};

struct socket {
    struct rp_gateway *gateway;
    struct rp_project *project; /* a reference */
    struct rp_websocket *ws;    /* NULL once it is closed */
    struct rp_watcher *watcher; /* NULL until the terminal is known, and after its end */
    struct rp_process *process;
    unsigned references;                /* the WebSocket, and each answer that is waited for */
    char tid[RP_PROCESS_ID_LENGTH + 1]; /* "": the first, or a new one */
    bool first, writes, paused, ready_wait, refused_told;
    uint16_t cols, rows; /* 0: not said */
    uint64_t since;
};

static void leave(struct socket *s)
{
    if (--s->references)
        return;
    rp_project_unref(s->project);
    free(s);
}

static void end(struct socket *s, int code, const char *reason)
{
    rp_watcher_free(s->watcher);
    s->watcher = NULL;
    s->process = NULL;
    if (s->ws)
        rp_websocket_close(s->ws, code, reason);
}

/* ---- from the terminal ---- */

static enum rp_write on_output(void *ctx, uint8_t stream, uint64_t offset, struct rp_str bytes)
{
    struct socket *s = ctx;
    return rp_websocket_send_binary(s->ws, &bytes, 1);
}

static void send_numbers(struct socket *s, const char *type, const char *a, uint64_t a_value, const char *b,
                         uint64_t b_value)
{
    struct rp_buf buf;
    rp_buf_init(&buf, 256);
    struct rp_json_writer w = rp_json_writer(&buf);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", type);
    rp_json_field_uint(&w, a, a_value);
    if (b)
        rp_json_field_uint(&w, b, b_value);
    rp_json_close_object(&w);
    (void)rp_websocket_send_text(s->ws, rp_buf_view(&buf));
    rp_buf_done(&buf);
}

static void on_gap(void *ctx, uint8_t stream, uint64_t offset)
{
    send_numbers(ctx, "gap", "offset", offset, NULL, 0);
}

static void on_size(void *ctx, uint16_t cols, uint16_t rows)
{
    send_numbers(ctx, "size", "cols", cols, "rows", rows);
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
    end(s, lost ? CLOSE_NOT_RUNNING : CLOSE_DONE, lost ? "the project stopped" : "the program ended");
}

static void on_gone(void *ctx, bool server_stops)
{
    struct socket *s = ctx;
    end(s, server_stops ? CLOSE_RESTART : CLOSE_NOT_FOUND,
        server_stops ? "the server restarts" : "the terminal was removed");
}

static void send_hello(struct socket *s)
{
    struct rp_buf b;
    uint16_t cols, rows;
    rp_process_size(s->process, &cols, &rows);
    rp_buf_init(&b, 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "hello");
    rp_json_field_string(&w, "tid", rp_process_id_text(s->process));
    rp_json_field_uint(&w, "offset", rp_watcher_offset(s->watcher, RP_STREAM_PTY));
    rp_json_field_uint(&w, "cols", cols);
    rp_json_field_uint(&w, "rows", rows);
    rp_json_field_string(&w, "mode", s->writes ? "write" : "read");
    rp_json_field_bool(&w, "running", !rp_process_exit(s->process));
    rp_json_close_object(&w);
    (void)rp_websocket_send_text(s->ws, rp_buf_view(&b));
    rp_buf_done(&b);
}

static void attach(struct socket *s, struct rp_process *p)
{
    static const struct rp_watcher_callbacks CALLBACKS = {on_output, on_gap,   on_size,
                                                          on_input,  on_exit_, on_gone};
    uint64_t since[4] = {s->since, s->since, s->since, s->since};
    s->process = p;
    s->watcher = rp_watcher_new(p, s->writes ? RP_WATCHER_WRITES : 0, since, &CALLBACKS, s);
    send_hello(s);
    if (s->writes && s->cols)
        rp_watcher_resize(s->watcher, s->cols, s->rows);
}

/* ---- until the terminal is known ---- */

static struct rp_process_set *processes(struct socket *s)
{
    return rp_project_processes(s->gateway->processes, s->project);
}

static void on_spawned(void *ctx, struct rp_process *p, const struct rp_error *err)
{
    struct socket *s = ctx;
    if (s->ws && err)
        end(s, err->code == RP_ERROR_NOT_RUNNING ? CLOSE_NOT_RUNNING : CLOSE_FAILED, err->message);
    else if (s->ws)
        attach(s, p);
    leave(s);
}

static void spawn_first(struct socket *s)
{
    struct rp_process_input in;
    struct rp_error err = {0};
    _cleanup_json_ json_t *nothing = json_object();
    if (rp_process_input_parse(nothing, s->project, true, &in, &err) < 0) {
        end(s, CLOSE_FAILED, err.message);
        return;
    }
    struct rp_process_spec spec = rp_process_input_spec(&in, true);
    if (s->cols) {
        spec.cols = s->cols;
        spec.rows = s->rows;
    }
    s->references++;
    rp_process_spawn(processes(s), &spec, on_spawned, s);
    rp_process_input_done(&in);
}

static struct rp_process *find(struct socket *s)
{
    struct rp_process_set *set = processes(s);
    if (!s->first) {
        struct rp_process *p = rp_process_find_text(set, rp_str_of(s->tid));
        return p && rp_process_kind_of(p) == RP_PROCESS_TERMINAL ? p : NULL;
    }
    for (struct rp_process *p = rp_process_next(set, NULL); p; p = rp_process_next(set, p))
        if (rp_process_kind_of(p) == RP_PROCESS_TERMINAL && !rp_process_exit(p))
            return p;
    return NULL;
}

static void on_set_ready(void *ctx)
{
    struct socket *s = ctx;
    s->ready_wait = false;
    struct rp_process *p = find(s);
    if (p)
        attach(s, p);
    else if (s->first)
        spawn_first(s);
    else if (rp_project_state_of(s->project) == RP_PROJECT_RUNNING)
        end(s, CLOSE_NOT_FOUND, "no such terminal");
    else
        end(s, CLOSE_NOT_RUNNING, "the project is not running");
}

static void on_started(void *ctx, struct rp_project *p, const struct rp_error *err)
{
    struct socket *s = ctx;
    if (s->ws && err) {
        end(s, CLOSE_NOT_RUNNING, err->message);
    } else if (s->ws && !s->ready_wait && !s->watcher) {
        s->ready_wait = true;
        rp_process_set_wait_ready(processes(s), on_set_ready, s);
    }
    leave(s);
}

static void locate(struct socket *s)
{
    enum rp_project_state state = rp_project_state_of(s->project);
    struct rp_process *p = rp_process_set_is_ready(processes(s)) ? find(s) : NULL;
    if (p) {
        attach(s, p);
    } else if (s->first || state == RP_PROJECT_STARTING || state == RP_PROJECT_QUEUED ||
               state == RP_PROJECT_RUNNING) {
        s->references++;
        rp_project_start(s->project, on_started, s); /* joins a start that is under way */
    } else {
        end(s, CLOSE_NOT_RUNNING, "the project is not running");
    }
}

/* ---- from the client ---- */

static void refuse_reader(struct socket *s)
{
    struct rp_error err = {0};
    if (s->refused_told)
        return;
    s->refused_told = true;
    (void)rp_error_set(&err, RP_ERROR_FORBIDDEN, "this socket only watches; open it with mode=write to type");
    rp_socket_send_error(s->ws, &err);
}

static void on_binary(void *ctx, struct rp_str bytes)
{
    struct socket *s = ctx;
    if (!s->watcher)
        return; /* not there yet, or over */
    if (!s->writes) {
        refuse_reader(s);
        return;
    }
    switch (rp_process_write(s->process, bytes)) {
    case RP_INPUT_FULL:
        on_input(s, true);
        break;
    case RP_INPUT_OVERFLOW:
        end(s, CLOSE_TOO_MUCH,
            "more was typed than the terminal takes; wait for \"resume\" after a \"pause\"");
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
    if (rp_control_parse(text, &c, &err) < 0) {
        rp_socket_send_error(s->ws, &err);
        return;
    }
    if (c.type == RP_CONTROL_PING) {
        rp_socket_send_type(s->ws, "pong");
        return;
    }
    if (c.type == RP_CONTROL_RESIZE) {
        s->cols = c.cols;
        s->rows = c.rows;
    }
    if (!s->watcher)
        return;
    switch (c.type) {
    case RP_CONTROL_ACK:
        rp_watcher_ack(s->watcher, RP_STREAM_PTY, c.offset);
        break;
    case RP_CONTROL_RESIZE:
        if (s->writes)
            rp_watcher_resize(s->watcher, c.cols, c.rows);
        break;
    case RP_CONTROL_SIGNAL:
        if (s->writes)
            rp_process_signal(s->process, c.signal, NULL, NULL);
        else
            refuse_reader(s);
        break;
    case RP_CONTROL_EOF:
        if (s->writes)
            rp_process_end_input(s->process);
        else
            refuse_reader(s);
        break;
    case RP_CONTROL_PING:
        break;
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
    s->ws = NULL;
    if (s->ready_wait)
        rp_process_set_wait_cancel(processes(s), on_set_ready, s);
    s->ready_wait = false;
    rp_watcher_free(s->watcher);
    s->watcher = NULL;
    leave(s);
}

/* ---- opening ---- */

static int parse_query(struct rp_call *call, struct socket *s, struct rp_error *err)
{
    char mode[16] = "write";
    uint64_t cols = 0, rows = 0;
    size_t n;
    s->since = UINT64_MAX;
    if (rp_api_query_u64(call, "since", INT64_MAX, &s->since, err) < 0 ||
        rp_api_query_u64(call, "cols", RP_CONTROL_SIZE_MAX, &cols, err) < 0 ||
        rp_api_query_u64(call, "rows", RP_CONTROL_SIZE_MAX, &rows, err) < 0)
        return -1;
    if (rp_http_query(call->request, "mode", mode, sizeof(mode), &n) < 0 ||
        (strcmp(mode, "write") != 0 && strcmp(mode, "read") != 0))
        return rp_error_set(err, RP_ERROR_INVALID, "the query's \"mode\" is \"read\" or \"write\"");
    s->writes = strcmp(mode, "write") == 0;
    if (cols && rows) {
        s->cols = (uint16_t)cols;
        s->rows = (uint16_t)rows;
    }
    return 0;
}

void rp_terminal_socket_open(struct rp_call *call, const char *tid)
{
    static const struct rp_websocket_callbacks CALLBACKS = {on_binary, on_text, on_drain, on_close};
    static const struct rp_websocket_options OPTIONS = {.message_max = MESSAGE_MAX, .output_cap = OUTPUT_MAX};
    struct rp_error err = {0};
    struct socket *s = rp_calloc(1, sizeof(*s));
    if (parse_query(call, s, &err) < 0) {
        free(s);
        rp_websocket_reject(call->x, CLOSE_BAD_REQUEST, err.message);
        return;
    }
    s->gateway = call->gateway;
    s->first = !tid;
    if (tid && !rp_str_copy(s->tid, sizeof(s->tid), rp_str_of(tid)))
        s->tid[0] = '\0'; /* longer than an id: it will not be found */
    s->project = rp_project_ref(call->project);
    s->references = 1;
    s->ws = rp_websocket_accept(call->x, &OPTIONS, &CALLBACKS, s);
    if (!s->ws) {
        leave(s);
        return;
    }
    locate(s);
}

void rp_api_alias_terminal(struct rp_call *call)
{
    rp_terminal_socket_open(call, NULL);
}
