/* The chunked decoder: the same result however the bytes are cut. The first byte seeds the cuts. */
#include <stdlib.h>

#include "base/buf.h"
#include "net/http_chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

/* Decodes in pieces; returns 1 done, 0 not yet, -1 malformed, and how many bytes were consumed. */
static int decode(struct rp_str in, unsigned seed, struct rp_buf *out, size_t *ret_used)
{
    struct rp_http_chunked d;
    rp_http_chunked_init(&d);
    size_t at = 0;
    while (at < in.n && !rp_http_chunked_done(&d)) {
        seed = seed * 1103515245u + 12345u;
        size_t piece = seed == 12345u ? in.n - at : 1 + (seed >> 16) % 7;
        struct rp_str data, bytes = {in.p + at, RP_MIN(piece, in.n - at)};
        while (bytes.n && !rp_http_chunked_done(&d)) {
            ssize_t n = rp_http_chunked_next(&d, bytes, &data);
            if (n < 0)
                return -1;
            check(n > 0 && (size_t)n <= bytes.n);
            check(data.n == 0 || (data.p >= bytes.p && data.p + data.n <= bytes.p + n));
            check(rp_buf_append_str(out, data));
            bytes.p += n;
            bytes.n -= (size_t)n;
            at += (size_t)n;
        }
    }
    *ret_used = at;
    return rp_http_chunked_done(&d) ? 1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct rp_str in = {(const char *)data + 1, size - 1};
    struct rp_buf whole, cut;
    rp_buf_init(&whole, size);
    rp_buf_init(&cut, size);
    size_t used_whole = 0, used_cut = 0;
    int a = decode(in, 0, &whole, &used_whole), b = decode(in, data[0] + 1u, &cut, &used_cut);
    check(a == b);
    if (a >= 0) {
        check(used_whole == used_cut);
        check(rp_str_equal(rp_buf_view(&whole), rp_buf_view(&cut)));
    }
    rp_buf_done(&whole);
    rp_buf_done(&cut);
    return 0;
}
