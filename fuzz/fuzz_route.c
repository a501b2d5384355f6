/*
 * A path against the table of routes, and its query. The input is METHOD, space, path, "?", query.
 *
 * What must hold: parameters are UTF-8 without NUL and within their limit, and a query's iteration ends.
 */
#include <stdint.h>
#include <stdlib.h>

#include "api/query.h"
#include "api/routes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rp_str rest, query, method = rp_str_cut((struct rp_str){(const char *)data, size}, ' ', &rest);
    struct rp_str path = rp_str_cut(rest, '?', &query);
    struct rp_route_match m;
    if (rp_route_find(rp_routes, rp_routes_count, method, path, &m) == RP_ROUTE_FOUND) {
        if (!m.route || m.count > RP_CALL_PARAMETERS_MAX)
            abort();
        for (unsigned i = 0; i < m.count; i++)
            if (m.length[i] == 0 || m.length[i] > RP_CALL_PARAMETER_MAX ||
                strlen(m.storage[i]) != m.length[i] || !rp_utf8_valid(m.storage[i], m.length[i]))
                abort();
    }
    struct rp_query q = {.rest = query};
    for (size_t n = 0; rp_query_next(&q) > 0; n++)
        if (n > size || strlen(q.name) != q.name_length || strlen(q.value) != q.value_length)
            abort();
    (void)rp_origin_allowed(method, path);
    return 0;
}
