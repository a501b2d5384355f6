#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>

static unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

bool rp_str_is_nocase(struct rp_str a, const char *s)
{
    size_t n = strlen(s);
    if (a.n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (lower((unsigned char)a.p[i]) != lower((unsigned char)s[i]))
            return false;
    return true;
}

bool rp_str_starts(struct rp_str a, const char *prefix)
{
    size_t n = strlen(prefix);
    return a.n >= n && memcmp(a.p, prefix, n) == 0;
}

bool rp_str_ends(struct rp_str a, const char *suffix)
{
    size_t n = strlen(suffix);
    return a.n >= n && memcmp(a.p + a.n - n, suffix, n) == 0;
}

struct rp_str rp_str_trim(struct rp_str a)
{
    while (a.n && (a.p[0] == ' ' || a.p[0] == '\t'))
        a.p++, a.n--;
    while (a.n && (a.p[a.n - 1] == ' ' || a.p[a.n - 1] == '\t'))
        a.n--;
    return a;
}

struct rp_str rp_str_cut(struct rp_str a, char separator, struct rp_str *ret_rest)
{
    const char *at = a.n ? memchr(a.p, separator, a.n) : NULL;
    if (!at) {
        *ret_rest = (struct rp_str){a.n ? a.p + a.n : a.p, 0};
        return a;
    }
    size_t head = (size_t)(at - a.p);
    *ret_rest = (struct rp_str){at + 1, a.n - head - 1};
    return (struct rp_str){a.p, head};
}

bool rp_str_to_u64(struct rp_str a, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    if (a.n == 0 || a.n > 20)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        if (a.p[i] < '0' || a.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(a.p[i] - '0'), &v))
            return false;
    }
    if (v > max)
        return false;
    *ret = v;
    return true;
}

bool rp_utf8_valid(const void *data, size_t n)
{
    const unsigned char *p = data, *end = p + n;
    while (p < end) {
        if (end - p >= 8) {
            uint64_t chunk;
            memcpy(&chunk, p, 8);
            if (!(chunk & 0x8080808080808080ull)) {
                p += 8;
                continue;
            }
        }
        unsigned c = *p++;
        if (c < 0x80)
            continue;
        unsigned more, min;
        if (c >= 0xc2 && c <= 0xdf)
            more = 1, min = 0x80, c &= 0x1f;
        else if (c >= 0xe0 && c <= 0xef)
            more = 2, min = 0x800, c &= 0x0f;
        else if (c >= 0xf0 && c <= 0xf4)
            more = 3, min = 0x10000, c &= 0x07;
        else
            return false;
        if ((size_t)(end - p) < more)
            return false;
        for (unsigned i = 0; i < more; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return false;
            c = c << 6 | (p[i] & 0x3f);
        }
        p += more;
        if (c < min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return false;
    }
    return true;
}

void *rp_alloc(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (!p)
        abort();
    return p;
}

void *rp_calloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        abort();
    return p;
}

void *rp_realloc(void *old, size_t n)
{
    void *p = realloc(old, n ? n : 1);
    if (!p)
        abort();
    return p;
}

char *rp_strdup(const char *s)
{
    return rp_str_dup(rp_str_of(s));
}

char *rp_str_dup(struct rp_str a)
{
    char *s = rp_alloc(a.n + 1);
    if (a.n)
        memcpy(s, a.p, a.n);
    s[a.n] = '\0';
    return s;
}

bool rp_str_copy(char *dst, size_t cap, struct rp_str a)
{
    if (a.n >= cap || (a.n && memchr(a.p, '\0', a.n))) {
        if (cap)
            dst[0] = '\0';
        return false;
    }
    if (a.n)
        memcpy(dst, a.p, a.n);
    dst[a.n] = '\0';
    return true;
}

char *rp_asprintf(const char *format, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&s, format, ap);
    va_end(ap);
    if (n < 0)
        abort();
    return s;
}
