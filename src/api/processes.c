/*
 * processes.c: /api/v1/projects/{id}/processes and /terminals but for their sockets: list, make, read,
 * signal, end. Loop thread only.
 */
#include "api/processes.h"

#include <stdio.h>

#include "api/control_frame.h"
#include "api/process_input.h"
#include "api/routes.h"
#include "domain/project_processes.h"

enum { SIGNAL_BODY_MAX = 4096, LIST_MAX = 1024 * 1024, ONE_MAX = 16 * 1024 };

struct rp_process_set *rp_call_processes(struct rp_call *call)
{
    return rp_project_processes(call->gateway->processes, call->project);
}

static bool fits(struct rp_process *p, bool terminal)
{
    return (rp_process_kind_of(p) == RP_PROCESS_TERMINAL) == terminal;
}

struct rp_process *rp_call_process(struct rp_call *call, bool terminal)
{
    struct rp_process *p = rp_process_find_text(rp_call_processes(call), call->parameters[1]);
    if (p && fits(p, terminal))
        return p;
    struct rp_error err = {0};
    (void)rp_error_set(&err, RP_ERROR_NOT_FOUND, "no such %s", terminal ? "terminal" : "process");
    rp_api_reply_error(call, &err);
    return NULL;
}

/* ---- lists and single ones ---- */

static void list(struct rp_call *call, bool terminal)
{
    struct rp_process_set *set = rp_call_processes(call);
    struct rp_buf b;
    rp_buf_init(&b, LIST_MAX);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_key(&w, "items");
    rp_json_open_array(&w);
    for (struct rp_process *p = rp_process_next(set, NULL); p; p = rp_process_next(set, p))
        if (fits(p, terminal))
            rp_process_write_json(&w, p);
    rp_json_close_array(&w);
    rp_json_field_string(&w, "next_cursor", NULL); /* there are never more than one page's */
    rp_json_close_object(&w);
    rp_api_reply_json(call, 200, &w);
}

static void reply_one(struct rp_call *call, int status, struct rp_process *p)
{
    struct rp_buf b;
    rp_buf_init(&b, ONE_MAX);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_process_write_json(&w, p);
    rp_api_reply_json(call, status, &w);
}

/* ---- making ---- */

static void spawned(void *ctx, struct rp_process *p, const struct rp_error *err)
{
    struct rp_call *call = ctx;
    if (err) {
        struct rp_error why = *err;
        /* which of the two it was only init's words say */
        if (why.code == RP_ERROR_INVALID && !why.pointer[0])
            snprintf(why.pointer, sizeof(why.pointer), "%s",
                     strstr(why.message, "working directory") ? "/cwd" : "/command");
        rp_api_reply_error(call, &why);
    } else {
        bool terminal = rp_process_kind_of(p) == RP_PROCESS_TERMINAL;
        char location[128];
        snprintf(location, sizeof(location), "/api/v1/projects/%s/%s/%s", rp_project_id(call->project),
                 terminal ? "terminals" : "processes", rp_process_id_text(p));
        if (call->x)
            rp_http_set_header_text(call->x, "Location", location);
        reply_one(call, 201, p);
    }
    rp_call_unref(call);
}

static void create(struct rp_call *call, json_t *body, bool terminal)
{
    struct rp_process_input in;
    struct rp_error err = {0};
    if (rp_project_state_of(call->project) != RP_PROJECT_RUNNING) {
        (void)rp_error_set(&err, RP_ERROR_NOT_RUNNING, "the project is %s; start it first",
                           rp_project_state_name(rp_project_state_of(call->project)));
        rp_api_reply_error(call, &err);
        return;
    }
    if (rp_process_input_parse(body, call->project, terminal, &in, &err) < 0) {
        rp_api_reply_error(call, &err);
        return;
    }
    struct rp_process_spec spec = rp_process_input_spec(&in, terminal);
    rp_project_touch(call->project);
    rp_process_spawn(rp_call_processes(call), &spec, spawned, rp_call_ref(call));
    rp_process_input_done(&in);
}

static void create_terminal(struct rp_call *call, json_t *body)
{
    create(call, body, true);
}

static void create_process(struct rp_call *call, json_t *body)
{
    create(call, body, false);
}

/* ---- signals ---- */

static void signalled(void *ctx, const struct rp_error *err)
{
    struct rp_call *call = ctx;
    if (err)
        rp_api_reply_error(call, err);
    else
        rp_api_reply_empty(call, 204);
    rp_call_unref(call);
}

static void signal_body(struct rp_call *call, json_t *body)
{
    struct rp_error err = {0};
    struct rp_str name = RP_STR("TERM");
    struct rp_process *p = rp_call_process(call, false);
    if (!p)
        return;
    int has = rp_json_get_str(body, "", "name", 16, &name, &err);
    if (has == 0)
        has = rp_json_get_str(body, "", "signal", 16, &name, &err);
    int number = has < 0 ? 0 : rp_signal_by_name(name);
    if (has >= 0 && !number)
        (void)rp_error_field(&err, "/name", "\"name\" is no signal, such as \"INT\" or \"TERM\"");
    if (!number) {
        rp_api_reply_error(call, &err);
        return;
    }
    rp_process_signal(p, number, signalled, rp_call_ref(call));
}

/* ---- the routes ---- */

void rp_api_terminals_list(struct rp_call *call)
{
    list(call, true);
}

void rp_api_terminals_create(struct rp_call *call)
{
    rp_api_read_json(call, RP_PROCESS_BODY_MAX, create_terminal);
}

void rp_api_terminal(struct rp_call *call)
{
    if (rp_websocket_requested(call->request)) {
        rp_terminal_socket_open(call, call->storage[1]);
        return;
    }
    struct rp_process *p = rp_call_process(call, true);
    if (p)
        reply_one(call, 200, p);
}

static void remove_one(struct rp_call *call, bool terminal)
{
    struct rp_process *p = rp_call_process(call, terminal);
    if (!p)
        return;
    rp_process_remove(p);
    rp_api_reply_empty(call, 204);
}

void rp_api_terminal_delete(struct rp_call *call)
{
    remove_one(call, true);
}

void rp_api_processes_list(struct rp_call *call)
{
    list(call, false);
}

void rp_api_processes_create(struct rp_call *call)
{
    rp_api_read_json(call, RP_PROCESS_BODY_MAX, create_process);
}

void rp_api_process(struct rp_call *call)
{
    if (rp_websocket_requested(call->request)) {
        struct rp_process *p = rp_process_find_text(rp_call_processes(call), call->parameters[1]);
        if (p && fits(p, false))
            rp_process_socket_open(call, p);
        else
            rp_websocket_reject(call->x, 4404, "no such process");
        return;
    }
    struct rp_process *p = rp_call_process(call, false);
    if (p)
        reply_one(call, 200, p);
}

void rp_api_process_delete(struct rp_call *call)
{
    remove_one(call, false);
}

void rp_api_process_signal(struct rp_call *call)
{
    rp_api_read_json(call, SIGNAL_BODY_MAX, signal_body);
}
