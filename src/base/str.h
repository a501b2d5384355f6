/*
 * str.h: views of bytes that carry their length. A view owns nothing and need not end in NUL. Any thread.
 */
#ifndef RP_BASE_STR_H
#define RP_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"

struct rp_str {
    const char *p;
    size_t n;
};

#define RP_STR(literal) ((struct rp_str){"" literal, sizeof(literal) - 1})

static inline struct rp_str rp_str_of(const char *s)
{
    return (struct rp_str){s, s ? strlen(s) : 0};
}

static inline bool rp_str_equal(struct rp_str a, struct rp_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool rp_str_is(struct rp_str a, const char *s)
{
    return rp_str_equal(a, rp_str_of(s));
}

/* ASCII case-insensitive, as HTTP field names are compared (RFC 9110 section 5.1). */
bool rp_str_is_nocase(struct rp_str a, const char *s);
bool rp_str_starts(struct rp_str a, const char *prefix);
bool rp_str_ends(struct rp_str a, const char *suffix);

/* Without leading and trailing space and tab. */
struct rp_str rp_str_trim(struct rp_str a);

/* Splits off what stands before the first `separator`; *rest is what follows it, or empty. */
struct rp_str rp_str_cut(struct rp_str a, char separator, struct rp_str *ret_rest);

/* Decimal digits only, no sign, no space; false on anything else, on overflow, or above max. */
bool rp_str_to_u64(struct rp_str a, uint64_t max, uint64_t *ret);

/* True when the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above
 * U+10FFFF). */
bool rp_utf8_valid(const void *p, size_t n);

/* A NUL-terminated copy; aborts when memory is exhausted. The caller frees it. */
char *rp_str_dup(struct rp_str a);

/* Copies with NUL into dst; false, with dst empty, when it does not fit or holds a NUL. */
bool rp_str_copy(char *dst, size_t cap, struct rp_str a);

/* malloc, calloc, realloc, strdup that abort on exhaustion: for small sizes of our own choosing only. */
void *rp_alloc(size_t n);
void *rp_calloc(size_t count, size_t size);
void *rp_realloc(void *p, size_t n);
char *rp_strdup(const char *s);
char *rp_asprintf(const char *format, ...) RP_PRINTF(1, 2);

#endif
