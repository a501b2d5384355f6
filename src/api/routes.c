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
};

const size_t rp_routes_count = RP_ARRAY_SIZE(rp_routes);
