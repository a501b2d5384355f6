/*
 * aliases.c: what the clients of the reference systems send. Loop thread only.
 */
#include <stdio.h>

#include "api/project_reply.h"
#include "api/routes.h"
#include "domain/projects.h"

enum { BODY_MAX = 1024 * 1024, RUN_WAIT = 300 };

static void reply_ids(struct rp_call *call, struct rp_project *p)
{
    struct rp_buf b;
    rp_buf_init(&b, 256);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "project_id", rp_project_id(p));
    rp_json_field_string(&w, "projectId", rp_project_id(p));
    rp_json_close_object(&w);
    if (call->x) {
        char location[64];
        snprintf(location, sizeof location, "/api/v1/projects/%s", rp_project_id(p));
        rp_http_set_header_text(call->x, "Location", location);
    }
    rp_api_reply_json(call, 201, &w);
}

static void create_body(struct rp_call *call, json_t *body)
{
    rp_api_create(call, body, "node", reply_ids);
}

void rp_api_alias_create(struct rp_call *call)
{
    rp_api_read_json(call, BODY_MAX, create_body);
}

static void reply_run(struct rp_call *call, bool met, const struct rp_error *err)
{
    if (err) {
        rp_api_reply_error(call, err);
        return;
    }
    struct rp_buf b;
    char name[32];
    rp_buf_init(&b, 1024);
    snprintf(name, sizeof name, "repl-%s", rp_project_id(call->project));
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "message", met ? "Project running" : "Project starting");
    rp_json_field_string(&w, "container", name);
    rp_json_field_string(&w, "containerName", name);
    rp_json_close_object(&w);
    rp_api_reply_json(call, met ? 200 : 202, &w);
}

void rp_api_alias_run(struct rp_call *call)
{
    rp_api_bring(call, RP_AIM_RUN, false, RUN_WAIT, reply_run);
}
