#include "api/query.h"

#include "net/http_server.h"

/* "+" is a space in a query, unlike in a path. */
static bool decode(struct rp_str s, char *dst, size_t cap, size_t *ret)
{
    char plain[RP_QUERY_VALUE_MAX * 3 + 1];
    if (s.n >= sizeof plain)
        return false;
    for (size_t i = 0; i < s.n; i++)
        plain[i] = s.p[i] == '+' ? ' ' : s.p[i];
    return rp_http_percent_decode((struct rp_str){plain, s.n}, dst, cap, ret) && rp_utf8_valid(dst, *ret);
}

int rp_query_next(struct rp_query *q)
{
    struct rp_str one = {0}, value;
    while (one.n == 0) {
        if (q->rest.n == 0)
            return 0;
        one = rp_str_cut(q->rest, '&', &q->rest);
    }
    struct rp_str name = rp_str_cut(one, '=', &value);
    if (!decode(name, q->name, sizeof q->name, &q->name_length) ||
        !decode(value, q->value, sizeof q->value, &q->value_length))
        return -1;
    return 1;
}
