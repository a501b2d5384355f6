#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

enum { KEEP_WHEN_EMPTY = 64 * 1024 };

void rp_buf_init(struct rp_buf *b, size_t cap)
{
    *b = (struct rp_buf){.cap = cap};
}

void rp_buf_done(struct rp_buf *b)
{
    if (!b)
        return;
    free(b->data);
    *b = (struct rp_buf){.cap = b->cap};
}

char *rp_buf_reserve(struct rp_buf *b, size_t n)
{
    if (n > b->cap || b->length > b->cap - n)
        return NULL;
    if (b->start + b->length + n > b->allocated) {
        if (b->start) {
            memmove(b->data, b->data + b->start, b->length);
            b->start = 0;
        }
        if (b->length + n > b->allocated) {
            size_t want = RP_MAX((size_t)256, b->allocated * 2);
            want = RP_MAX(want, b->length + n);
            want = RP_MIN(want, b->cap);
            b->data = rp_realloc(b->data, want);
            b->allocated = want;
        }
    }
    return b->data ? b->data + b->start + b->length : (b->data = rp_alloc(1));
}

void rp_buf_commit(struct rp_buf *b, size_t n)
{
    b->length += n;
}

bool rp_buf_append(struct rp_buf *b, const void *p, size_t n)
{
    char *at = rp_buf_reserve(b, n);
    if (!at)
        return false;
    if (n)
        memcpy(at, p, n);
    b->length += n;
    return true;
}

bool rp_buf_append_str(struct rp_buf *b, struct rp_str s)
{
    return rp_buf_append(b, s.p, s.n);
}

bool rp_buf_printf(struct rp_buf *b, const char *format, ...)
{
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    bool ok = false;
    char *at = n < 0 ? NULL : rp_buf_reserve(b, (size_t)n + 1);
    if (at) {
        vsnprintf(at, (size_t)n + 1, format, again);
        b->length += (size_t)n;
        ok = true;
    }
    va_end(again);
    return ok;
}

void rp_buf_consume(struct rp_buf *b, size_t n)
{
    n = RP_MIN(n, b->length);
    b->start += n;
    b->length -= n;
    if (b->length == 0) {
        b->start = 0;
        if (b->allocated > KEEP_WHEN_EMPTY)
            rp_buf_done(b);
    }
}
