/*
 * socket_frames.c: text frames that the sockets of terminals and processes have in common. Loop thread only.
 */
#include "api/processes.h"

static void send_frame(struct rp_websocket *ws, struct rp_json_writer *w)
{
    if (!w->failed)
        (void)rp_websocket_send_text(ws, rp_buf_view(w->out));
    rp_buf_done(w->out);
}

void rp_socket_send_type(struct rp_websocket *ws, const char *type)
{
    struct rp_buf b;
    rp_buf_init(&b, 256);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", type);
    rp_json_close_object(&w);
    send_frame(ws, &w);
}

void rp_socket_send_error(struct rp_websocket *ws, const struct rp_error *err)
{
    struct rp_buf b;
    rp_buf_init(&b, 4096);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "error");
    rp_json_field_string(&w, "code", rp_code_name(err->code));
    rp_json_field_string(&w, "detail", err->message);
    if (err->pointer[0])
        rp_json_field_string(&w, "pointer", err->pointer);
    rp_json_close_object(&w);
    send_frame(ws, &w);
}

void rp_socket_send_exit(struct rp_websocket *ws, const struct rp_exit *exit, bool lost)
{
    struct rp_buf b;
    rp_buf_init(&b, 256);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", "exit");
    rp_json_key(&w, "code");
    if (exit->signal)
        rp_json_null(&w);
    else
        rp_json_int(&w, exit->code);
    rp_json_key(&w, "signal");
    if (exit->signal)
        rp_json_int(&w, exit->signal);
    else
        rp_json_null(&w);
    if (lost)
        rp_json_field_bool(&w, "lost", true);
    rp_json_close_object(&w);
    send_frame(ws, &w);
}
