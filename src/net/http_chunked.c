#include "net/http_chunked.h"

enum {
    SIZE_FIRST,
    SIZE,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START,
    TRAILER,
    TRAILER_LF,
    LAST_LF,
    DONE
};
enum { LINE_MAX_BYTES = 1024, TRAILER_MAX = 8192, DIGITS_MAX = 15 };

void rp_http_chunked_init(struct rp_http_chunked *d)
{
    *d = (struct rp_http_chunked){.state = SIZE_FIRST};
}

bool rp_http_chunked_done(const struct rp_http_chunked *d)
{
    return d->state == DONE;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool printable(char c)
{
    unsigned char u = (unsigned char)c;
    return c == '\t' || (u >= 0x20 && u != 0x7f);
}

/* One byte of framing. False when it is malformed. */
static bool step(struct rp_http_chunked *d, char c)
{
    int digit;
    switch (d->state) {
    case SIZE_FIRST:
        if ((digit = hex_digit(c)) < 0)
            return false;
        d->left = (uint64_t)digit;
        d->line = 1;
        d->state = SIZE;
        return true;
    case SIZE:
        if ((digit = hex_digit(c)) >= 0) {
            d->left = d->left << 4 | (uint64_t)digit;
            return ++d->line <= DIGITS_MAX;
        }
        if (c == '\r')
            d->state = SIZE_LF;
        else if (c == ';' || c == ' ' || c == '\t')
            d->state = EXTENSION;
        else
            return false;
        return true;
    case EXTENSION:
        if (c == '\r')
            d->state = SIZE_LF;
        else if (!printable(c) || ++d->line > LINE_MAX_BYTES)
            return false;
        return true;
    case SIZE_LF:
        d->state = d->left ? DATA : TRAILER_START;
        d->line = 0;
        return c == '\n';
    case DATA_CR:
        d->state = DATA_LF;
        return c == '\r';
    case DATA_LF:
        d->state = SIZE_FIRST;
        return c == '\n';
    case TRAILER_START:
        if (c == '\r') {
            d->state = LAST_LF;
            return true;
        }
        d->state = TRAILER;
        return printable(c) && c != ' ' && c != '\t' && ++d->line <= TRAILER_MAX;
    case TRAILER:
        if (c == '\r') {
            d->state = TRAILER_LF;
            return true;
        }
        return printable(c) && ++d->line <= TRAILER_MAX;
    case TRAILER_LF:
        d->state = TRAILER_START;
        return c == '\n';
    case LAST_LF:
        d->state = DONE;
        return c == '\n';
    default:
        return false;
    }
}

ssize_t rp_http_chunked_next(struct rp_http_chunked *d, struct rp_str bytes, struct rp_str *ret_data)
{
    *ret_data = (struct rp_str){bytes.p, 0};
    size_t at = 0;
    while (at < bytes.n && d->state != DONE) {
        if (d->state == DATA) {
            size_t n = d->left < bytes.n - at ? (size_t)d->left : bytes.n - at;
            *ret_data = (struct rp_str){bytes.p + at, n};
            d->left -= n;
            if (!d->left)
                d->state = DATA_CR;
            at += n;
            /* what frames the end of the data goes with it, so that the last call sees the end of the body */
            while (at < bytes.n && d->state != DATA && d->state != DONE)
                if (!step(d, bytes.p[at++]))
                    return -1;
            return (ssize_t)at;
        }
        if (!step(d, bytes.p[at++]))
            return -1;
    }
    return (ssize_t)at;
}
