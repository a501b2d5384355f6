/* http_request.c: looking into a parsed request (declared in http_server.h). */
#include "net/http_server.h"

struct rp_str rp_http_header(const struct rp_http_request *r, const char *name)
{
    for (size_t i = 0; i < r->header_count; i++)
        if (rp_str_is_nocase(r->headers[i].name, name))
            return r->headers[i].value;
    return (struct rp_str){NULL, 0};
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool decode(struct rp_str s, bool plus_is_space, char *dst, size_t cap, size_t *ret_length)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int high = i + 2 < s.n ? hex(s.p[i + 1]) : -1, low = i + 2 < s.n ? hex(s.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0' || n + 1 >= cap)
            return false;
        dst[n++] = c;
    }
    if (!cap)
        return false;
    dst[n] = '\0';
    *ret_length = n;
    return true;
}

bool rp_http_percent_decode(struct rp_str s, char *dst, size_t cap, size_t *ret_length)
{
    return decode(s, false, dst, cap, ret_length);
}

/* Compares a still encoded name; a malformed escape is no match. */
static bool name_is(struct rp_str encoded, const char *name)
{
    if (rp_str_is(encoded, name))
        return true;
    char text[64];
    size_t n;
    return encoded.n < 3 * sizeof(text) && decode(encoded, true, text, sizeof(text), &n) &&
           strcmp(text, name) == 0;
}

int rp_http_query(const struct rp_http_request *r, const char *name, char *dst, size_t cap,
                  size_t *ret_length)
{
    struct rp_str rest = r->query;
    while (rest.n) {
        struct rp_str pair = rp_str_cut(rest, '&', &rest), value;
        struct rp_str key = rp_str_cut(pair, '=', &value);
        if (name_is(key, name))
            return decode(value, true, dst, cap, ret_length) ? 1 : -1;
    }
    return 0;
}
