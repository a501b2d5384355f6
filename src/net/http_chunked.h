/*
 * http_chunked.h: decoder of the chunked transfer coding (RFC 9112 section 7.1). Pure: no allocation, no
 * copy. Any thread.
 *
 * Limits: a size of 15 hexadecimal digits, 1 KiB of a chunk's size line with its extensions (ignored), 8 KiB
 * of trailer fields (dropped). Lines end in CRLF and nothing else.
 */
#ifndef RP_NET_HTTP_CHUNKED_H
#define RP_NET_HTTP_CHUNKED_H

#include <sys/types.h>

#include "base/str.h"

struct rp_http_chunked {
    uint64_t left; /* of the chunk */
    unsigned line; /* bytes of the size line, or of all trailer fields */
    unsigned char state;
};

void rp_http_chunked_init(struct rp_http_chunked *d);
/*
 * Consumes bytes up to the end of one run of data: returns how many (all of them unless a run ended or the
 * body is over), *ret_data the data among them, which may be empty. -1 when the coding is malformed.
 */
ssize_t rp_http_chunked_next(struct rp_http_chunked *d, struct rp_str bytes, struct rp_str *ret_data);
bool rp_http_chunked_done(const struct rp_http_chunked *d);

#endif
