#include "base/arena.h"

#include <stdarg.h>

static void keep(struct rp_arena *a, void *p)
{
    if (a->count == a->allocated) {
        a->allocated = RP_MAX((size_t)64, a->allocated * 2);
        a->blocks = rp_realloc(a->blocks, a->allocated * sizeof(*a->blocks));
    }
    a->blocks[a->count++] = p;
}

void *rp_arena_alloc(struct rp_arena *a, size_t size)
{
    void *p = rp_calloc(1, size);
    keep(a, p);
    return p;
}

char *rp_arena_str(struct rp_arena *a, struct rp_str s)
{
    char *p = rp_str_dup(s);
    keep(a, p);
    return p;
}

char *rp_arena_printf(struct rp_arena *a, const char *format, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&s, format, ap);
    va_end(ap);
    if (n < 0)
        abort();
    keep(a, s);
    return s;
}

void rp_arena_done(struct rp_arena *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->blocks[i]);
    free(a->blocks);
    *a = (struct rp_arena){0};
}
