/*
 * match.c: which row of a table a path belongs to. Pure; any thread.
 */
#include <stdio.h>
#include <string.h>

#include "api/routes.h"

static struct rp_str next_segment(struct rp_str *rest)
{
    /* *rest begins with "/": the segment behind it, and *rest is what follows */
    struct rp_str s = {rest->p + 1, rest->n - 1};
    const char *slash = memchr(s.p, '/', s.n);
    size_t n = slash ? (size_t)(slash - s.p) : s.n;
    *rest = (struct rp_str){s.p + n, s.n - n};
    return (struct rp_str){s.p, n};
}

static bool decode_parameter(struct rp_route_match *m, struct rp_str encoded)
{
    if (m->count >= RP_CALL_PARAMETERS_MAX)
        return false;
    char *dst = m->storage[m->count];
    size_t *n = &m->length[m->count];
    if (!rp_http_percent_decode(encoded, dst, sizeof m->storage[0], n) || *n == 0 || !rp_utf8_valid(dst, *n))
        return false;
    m->count++;
    return true;
}

/* 1 when the path fits, 0 when not, -1 when it fits but a parameter is malformed. */
static int pattern_fits(const char *pattern, struct rp_str path, struct rp_route_match *m)
{
    struct rp_str want = rp_str_of(pattern), have = path;
    struct rp_str raw[RP_CALL_PARAMETERS_MAX];
    unsigned count = 0;

    while (want.n && have.n) {
        struct rp_str a = next_segment(&want), b;
        if (a.n > 2 && a.p[0] == '{' && a.p[a.n - 2] == '*') {
            raw[count++] = (struct rp_str){have.p + 1, have.n - 1};
            have.n = 0;
            break;
        }
        b = next_segment(&have);
        if (a.n > 1 && a.p[0] == '{') {
            if (b.n == 0)
                return 0;
            raw[count++] = b;
        } else if (!rp_str_equal(a, b)) {
            return 0;
        }
    }
    if (want.n || have.n)
        return 0;
    m->count = 0;
    for (unsigned i = 0; i < count; i++)
        if (!decode_parameter(m, raw[i]))
            return -1;
    return 1;
}

static void add_allowed(struct rp_route_match *m, const char *method)
{
    size_t n = strlen(m->allow);
    /* a WebSocket's row and a plain one may share path and method */
    if (strstr(m->allow, method))
        return;
    snprintf(m->allow + n, sizeof m->allow - n, "%s%s%s", n ? ", " : "", method,
             strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

enum rp_route_result rp_route_find(const struct rp_route *table, size_t count, struct rp_str method,
                                   struct rp_str path, struct rp_route_match *ret)
{
    bool bad = false;
    ret->allow[0] = '\0';
    ret->count = 0;
    ret->route = NULL;
    if (path.n == 0 || path.p[0] != '/')
        return RP_ROUTE_BAD_PATH;
    for (size_t i = 0; i < count; i++) {
        int fits = pattern_fits(table[i].pattern, path, ret);
        if (fits == 0)
            continue;
        if (fits < 0) {
            bad = true;
            continue;
        }
        add_allowed(ret, table[i].method);
        if (rp_str_is(method, table[i].method) ||
            (rp_str_is(method, "HEAD") && strcmp(table[i].method, "GET") == 0)) {
            ret->route = &table[i];
            return RP_ROUTE_FOUND;
        }
    }
    if (ret->allow[0])
        return RP_ROUTE_OTHER_METHOD;
    return bad ? RP_ROUTE_BAD_PATH : RP_ROUTE_UNKNOWN;
}

bool rp_origin_allowed(struct rp_str origin, struct rp_str host)
{
    if (!origin.p)
        return true; /* not a browser, or a browser's same-origin GET */
    size_t skip = rp_str_starts(origin, "http://") ? 7 : rp_str_starts(origin, "https://") ? 8 : 0;
    if (!skip || origin.n == skip || origin.n - skip != host.n)
        return false;
    for (size_t i = 0; i < host.n; i++) {
        char a = origin.p[skip + i], b = host.p[i];
        if (a >= 'A' && a <= 'Z')
            a = (char)(a - 'A' + 'a');
        if (b >= 'A' && b <= 'Z')
            b = (char)(b - 'A' + 'a');
        if (a != b)
            return false;
    }
    return true;
}

bool rp_fetch_allowed(const struct rp_http_request *r, bool commands)
{
    /* Browsers say it of every request to a trustworthy address, as loopback is; a page cannot change it. */
    struct rp_str site = rp_http_header(r, "Sec-Fetch-Site");
    if (commands && !rp_origin_allowed(rp_http_header(r, "Origin"), r->host))
        return false;
    if (!site.p || rp_str_is(site, "same-origin") || rp_str_is(site, "none"))
        return true;
    return !commands && rp_str_is(rp_http_header(r, "Sec-Fetch-Mode"), "navigate");
}
