/*
 * ports.c: GET …/ports: what the sandbox listens on, with preview URLs. Loop thread only.
 */
#include "api/routes.h"
#include "domain/projects.h"

void rp_api_project_ports(struct rp_call *call)
{
    struct rp_buf b;
    rp_buf_init(&b, 512 * 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_key(&w, "items");
    rp_project_write_ports(&w, call->project);
    rp_json_field_string(&w, "next_cursor", NULL);
    rp_json_close_object(&w);
    rp_api_reply_json(call, 200, &w);
}
