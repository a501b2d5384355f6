/*
 * routes.c: every route of the API, one row each. See routes.h.
 */
#include "api/routes.h"

const struct rp_route rp_routes[] = {
    /* service */
    {"GET", "/", rp_api_root, 0},
    {"GET", "/health", rp_api_health, 0},
    {"GET", "/ready", rp_api_ready, 0},
    {"GET", "/api/v1/health", rp_api_health_v1, 0},
    {"GET", "/api/v1/stacks", rp_api_stacks, 0},

    /* projects */
    {"GET", "/api/v1/projects", rp_api_projects_list, 0},
    {"POST", "/api/v1/projects", rp_api_projects_create, 0},
    {"GET", "/api/v1/projects/{id}", rp_api_project_get, RP_ROUTE_PROJECT},
    {"PATCH", "/api/v1/projects/{id}", rp_api_project_update, RP_ROUTE_PROJECT},
    {"DELETE", "/api/v1/projects/{id}", rp_api_project_delete, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/start", rp_api_project_start, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/stop", rp_api_project_stop, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/restart", rp_api_project_restart, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/status", rp_api_project_status, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/run", rp_api_project_run, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/run/stop", rp_api_project_run_stop, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/ports", rp_api_project_ports, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/stats", rp_api_project_stats, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/events", rp_api_project_events, RP_ROUTE_PROJECT | RP_ROUTE_WEBSOCKET},

    /* terminals, processes, logs */
    {"GET", "/api/v1/projects/{id}/logs", rp_api_project_logs, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/terminals", rp_api_terminals_list, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/terminals", rp_api_terminals_create, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/terminals/{tid}", rp_api_terminal,
     RP_ROUTE_PROJECT | RP_ROUTE_WEBSOCKET_TOO},
    {"DELETE", "/api/v1/projects/{id}/terminals/{tid}", rp_api_terminal_delete, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/processes", rp_api_processes_list, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/processes", rp_api_processes_create, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/processes/{pid}", rp_api_process,
     RP_ROUTE_PROJECT | RP_ROUTE_WEBSOCKET_TOO},
    {"DELETE", "/api/v1/projects/{id}/processes/{pid}", rp_api_process_delete, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/processes/{pid}/signal", rp_api_process_signal, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/processes/{pid}/output", rp_api_process_output, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/terminal/{id}", rp_api_alias_terminal, RP_ROUTE_PROJECT | RP_ROUTE_WEBSOCKET},

    /* files */
    {"GET", "/api/v1/projects/{id}/files", rp_api_files_list, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/files/content", rp_api_files_read, RP_ROUTE_PROJECT},
    {"PUT", "/api/v1/projects/{id}/files/content", rp_api_files_write, RP_ROUTE_PROJECT},
    {"DELETE", "/api/v1/projects/{id}/files/content", rp_api_files_delete, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/files/mkdir", rp_api_files_mkdir, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/files/move", rp_api_files_move, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/files/copy", rp_api_files_copy, RP_ROUTE_PROJECT},
    {"POST", "/api/v1/projects/{id}/files/search", rp_api_files_search, RP_ROUTE_PROJECT},
    {"GET", "/api/v1/projects/{id}/archive", rp_api_archive_read, RP_ROUTE_PROJECT},
    {"PUT", "/api/v1/projects/{id}/archive", rp_api_archive_write, RP_ROUTE_PROJECT},

    /* what the clients of the reference systems send */
    {"POST", "/api/v1/create", rp_api_alias_create, 0},
    {"POST", "/api/v1/run/{id}", rp_api_alias_run, RP_ROUTE_PROJECT},
};

const size_t rp_routes_count = RP_ARRAY_SIZE(rp_routes);
