/*
 * service.c: is the server there, and which one. Loop thread only.
 */
#include "api/routes.h"
#include "base/clock.h"

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

static void ready_checked(void *ctx, const struct rp_error *err)
{
    struct rp_call *call = ctx;
    if (err) {
        rp_api_reply_error(call, err);
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

void rp_api_ready(struct rp_call *call)
{
    rp_store_ready(call->gateway->store, ready_checked, rp_call_ref(call));
}
