/*
 * routes.h: the one table of routes, its handlers, and how a path finds its row. Loop thread only; the
 * matching itself is pure.
 *
 * To add a route: write its handler in the file of its resource, declare it below, add its row in routes.c,
 * and describe it in docs/openapi.yaml (a test holds the table to it).
 */
#ifndef RP_API_ROUTES_H
#define RP_API_ROUTES_H

#include "api/api.h"

extern const struct rp_route rp_routes[];
extern const size_t rp_routes_count;

enum rp_route_result {
    RP_ROUTE_FOUND = 1,
    RP_ROUTE_UNKNOWN = 0,      /* no row has this path */
    RP_ROUTE_BAD_PATH = -1,    /* a malformed escape, or a parameter that is too long or not UTF-8 */
    RP_ROUTE_OTHER_METHOD = -2 /* rows have this path, but not this method; `allow` names theirs */
};

struct rp_route_match {
    const struct rp_route *route;
    unsigned count; /* parameters */
    size_t length[RP_CALL_PARAMETERS_MAX];
    char storage[RP_CALL_PARAMETERS_MAX][RP_CALL_PARAMETER_MAX + 1];
    char allow[128]; /* "GET, HEAD, PUT", for RP_ROUTE_OTHER_METHOD and OPTIONS */
};

/* path is still percent-encoded and begins with "/". The first row that fits wins, so a row with a fixed
 * segment stands before its cousin with a parameter. */
enum rp_route_result rp_route_find(const struct rp_route *table, size_t count, struct rp_str method,
                                   struct rp_str path, struct rp_route_match *ret);

/* True when a request with this Origin field (p NULL: none) for this Host may change something. */
bool rp_origin_allowed(struct rp_str origin, struct rp_str host);

/*
 * What a page of another origin may have a browser send here: `commands` (it would change something) nothing, as Origin or
 * Sec-Fetch-Site tells; else only a navigation, such as a link. Its <script>, <img> and the like get no file of a project,
 * nor start what a file is served from; previews are of other origins, but of the same site.
 */
bool rp_fetch_allowed(const struct rp_http_request *r, bool commands);

/* service.c */
rp_route_fn rp_api_root, rp_api_health, rp_api_ready, rp_api_health_v1, rp_api_stacks;

/* projects.c */
rp_route_fn rp_api_projects_create, rp_api_projects_list;
rp_route_fn rp_api_project_get, rp_api_project_update, rp_api_project_delete;

/* bring.c */
rp_route_fn rp_api_project_start, rp_api_project_stop, rp_api_project_restart, rp_api_project_status;
rp_route_fn rp_api_project_run, rp_api_project_run_stop;

/* ports.c, stats.c, events.c */
rp_route_fn rp_api_project_ports, rp_api_project_stats, rp_api_project_events;

/* processes.c, process_output.c, logs.c */
rp_route_fn rp_api_terminals_list, rp_api_terminals_create, rp_api_terminal, rp_api_terminal_delete;
rp_route_fn rp_api_processes_list, rp_api_processes_create, rp_api_process, rp_api_process_delete;
rp_route_fn rp_api_process_signal, rp_api_process_output, rp_api_project_logs;

/* terminal_socket.c */
rp_route_fn rp_api_alias_terminal;

/* files_list.c, files_content.c, files_upload.c, files_change.c */
rp_route_fn rp_api_files_list, rp_api_files_search, rp_api_files_read, rp_api_files_write;
rp_route_fn rp_api_files_delete, rp_api_files_mkdir, rp_api_files_move, rp_api_files_copy;

/* archive_out.c, archive_in.c */
rp_route_fn rp_api_archive_read, rp_api_archive_write;

/* aliases.c */
rp_route_fn rp_api_alias_create, rp_api_alias_run;

#endif
