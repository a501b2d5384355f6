/*
 * http_parser.h: strict parsing of HTTP/1.1 heads (RFC 9112) for the server and for the proxy's upstream
 * side.
 *
 * Pure functions: no allocation, no state; the views that they fill in point into the bytes they were given.
 * Heads are parsed again from their beginning when more bytes came, which the caller limits to once a line
 * end. Any thread.
 *
 * What two parsers could read differently is refused: bare LF or CR, obs-fold, white space before a colon,
 * NUL and other controls, both Content-Length and Transfer-Encoding, either of them twice, any coding but
 * "chunked", no or several Host fields.
 */
#ifndef RP_NET_HTTP_PARSER_H
#define RP_NET_HTTP_PARSER_H

#include <sys/types.h>

#include "net/http_server.h"

enum {
    RP_HTTP_PARSE_MORE = 0,
    RP_HTTP_PARSE_BAD = -1,       /* 400 */
    RP_HTTP_PARSE_TOO_LARGE = -2, /* 431: the head, one of its parts, or the number of fields */
    RP_HTTP_PARSE_UNSUPPORTED =
        -3, /* 501: a transfer coding or HTTP version that is well-formed but not ours */
};

/*
 * Returns the length of the head (through its empty line) when it is whole, or one of the above; then
 * *ret_why is a static sentence for the error's detail.
 */
ssize_t rp_http_parse_request(struct rp_str bytes, struct rp_http_request *ret, const char **ret_why);

struct rp_http_response {
    int minor_version;
    int status; /* 100 to 599 */
    struct rp_str reason;
    bool keep_alive;
    bool upgrade; /* Connection: upgrade */
    bool chunked;
    int64_t content_length; /* -1 when it is not given */
    size_t header_count;
    struct rp_http_field headers[RP_HTTP_HEADERS_MAX];
};

ssize_t rp_http_parse_response(struct rp_str bytes, struct rp_http_response *ret, const char **ret_why);

/* RFC 9110 section 5.6.2. */
bool rp_http_is_token(struct rp_str s);
/* True when the comma-separated list holds the token, compared without case. */
bool rp_http_list_has(struct rp_str list, const char *token);

#endif
