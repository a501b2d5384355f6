/*
 * service.c: is the server there, and which one. Loop thread only.
 */
#include "api/routes.h"
#include "base/clock.h"
#include "domain/projects.h"
#include "domain/stack.h"

static void reply_health(struct rp_call *call)
{
    struct rp_buf b;
    rp_buf_init(&b, 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    char now[RP_CLOCK_RFC3339_SIZE];
    rp_clock_format_rfc3339(rp_clock_wall_us(), now);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "status", "ok");
    rp_json_field_string(&w, "name", "repld");
    rp_json_field_string(&w, "version", REPLD_VERSION);
    rp_json_field_string(&w, "time", now);
    rp_json_close_object(&w);
    rp_api_reply_json(call, 200, &w);
}

void rp_api_health(struct rp_call *call)
{
    reply_health(call);
}

void rp_api_health_v1(struct rp_call *call)
{
    reply_health(call);
}

static const char page[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>repld</title>"
    "<meta name=\"viewport\" content=\"width=device-width\">"
    "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}</style>"
    "</head><body><h1>repld " REPLD_VERSION "</h1>"
    "<p>The server runs. It is spoken to through its API under <code>/api/v1</code>.</p>"
    "<ul><li><a href=\"/api/v1/health\">health</a></li><li><a href=\"/api/v1/stacks\">stacks</a></li>"
    "<li><a href=\"/api/v1/projects\">projects</a></li></ul></body></html>\n";

void rp_api_root(struct rp_call *call)
{
    struct rp_str accept = rp_http_header(call->request, "Accept");
    bool html = false;
    for (struct rp_str rest = accept; rest.n && !html;) {
        struct rp_str parameters,
            type = rp_str_trim(rp_str_cut(rp_str_cut(rest, ',', &rest), ';', &parameters));
        html = rp_str_is_nocase(type, "text/html");
    }
    rp_http_set_header_text(call->x, "Vary", "Accept");
    if (!html) {
        reply_health(call);
        return;
    }
    rp_http_set_header_text(call->x, "Content-Security-Policy",
                            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    rp_http_reply(call->x, 200, "text/html; charset=utf-8", rp_str_of(page));
}

static void driver_checked(void *ctx, const struct rp_error *err)
{
    struct rp_call *call = ctx;
    if (err) {
        /* whatever it is, to who asks it means: not now */
        struct rp_error why = *err;
        if (rp_code_http_status(why.code) != 503)
            why.code = RP_ERROR_UNAVAILABLE;
        rp_api_reply_error(call, &why);
    } else {
        struct rp_buf b;
        rp_buf_init(&b, 1024);
        struct rp_json_writer w = rp_json_writer(&b);
        rp_json_open_object(&w);
        rp_json_field_string(&w, "status", "ready");
        rp_json_close_object(&w);
        rp_api_reply_json(call, 200, &w);
    }
    rp_call_unref(call);
}

static void store_checked(void *ctx, const struct rp_error *err)
{
    struct rp_call *call = ctx;
    if (err)
        driver_checked(call, err);
    else
        rp_orchestrator_ready(rp_projects_orchestrator(call->gateway->projects), driver_checked, call);
}

void rp_api_ready(struct rp_call *call)
{
    rp_store_ready(call->gateway->store, store_checked, rp_call_ref(call));
}

static const char *manager_name(enum rp_manager m)
{
    switch (m) {
    case RP_MANAGER_PIP:
        return "pip";
    case RP_MANAGER_NPM:
        return "npm";
    case RP_MANAGER_NONE:
        break;
    }
    return NULL;
}

static void write_stack(struct rp_json_writer *w, const struct rp_stack *s)
{
    rp_json_open_object(w);
    rp_json_field_string(w, "name", s->name);
    rp_json_field_string(w, "title", s->title);
    rp_json_field_string(w, "icon", s->icon);
    rp_json_field_string(w, "summary", s->summary);
    rp_json_key(w, "versions");
    rp_json_open_array(w);
    for (const char *const *v = s->versions; v && *v; v++)
        rp_json_string(w, rp_str_of(*v));
    rp_json_close_array(w);
    rp_json_field_string(w, "run_command", s->run_command);
    rp_json_field_string(w, "entry", s->entry);
    rp_json_field_uint(w, "port", s->port);
    rp_json_field_string(w, "manager", manager_name(s->manager));
    rp_json_field_string(w, "manifest", s->manifest);
    rp_json_key(w, "limits");
    rp_json_open_object(w);
    rp_json_field_uint(w, "memory", s->limits.memory);
    rp_json_key(w, "cpu");
    rp_json_double(w, s->limits.cpu / 1000.0);
    rp_json_field_uint(w, "processes", s->limits.processes);
    rp_json_close_object(w);
    rp_json_key(w, "languages");
    rp_json_open_object(w);
    for (size_t i = 0; i < s->association_count; i++)
        rp_json_field_string(w, s->associations[i].extension, s->associations[i].language);
    rp_json_close_object(w);
    rp_json_close_object(w);
}

void rp_api_stacks(struct rp_call *call)
{
    const struct rp_stacks *stacks = call->gateway->stacks;
    struct rp_buf b;
    rp_buf_init(&b, 1024 * 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_key(&w, "items");
    rp_json_open_array(&w);
    for (size_t i = 0; i < rp_stacks_count(stacks); i++)
        write_stack(&w, rp_stacks_at(stacks, i));
    rp_json_close_array(&w);
    rp_json_field_string(&w, "next_cursor", NULL);
    rp_json_close_object(&w);
    rp_api_reply_json(call, 200, &w);
}
