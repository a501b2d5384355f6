/*
 * fields.h: which header fields pass the proxy, and how they change. Pure but for the buffers they write to.
 * Any thread.
 *
 * Towards the program: hop-by-hop fields (RFC 9110 section 7.6.1) and what Connection names are dropped, and
 * so is what a client says about forwarding, which nobody here has reason to believe. Our own say it instead.
 * The control plane's cookie and API tokens never pass, in either direction.
 */
#ifndef RP_PREVIEW_FIELDS_H
#define RP_PREVIEW_FIELDS_H

#include "net/http_parser.h"

struct rp_forward {
    const char *peer; /* address of the client */
    const char *request_id;
    bool upgrade; /* pass Upgrade on */
};

/* The whole request head for the upstream; false when it does not fit into the buffer's cap. */
bool rp_fields_request(struct rp_buf *out, const struct rp_http_request *r,
                       const struct rp_forward *forward) RP_MUST_CHECK;

/*
 * Calls each(ctx, name, value) for the fields of a response that pass. A changed value is a view of `scratch`
 * and lives until the next call. Content-Length and Transfer-Encoding are left to the server's own framing.
 * `host` is the request's, without port: a cookie's Domain that is not exactly it is dropped, so that a
 * program cannot set cookies for its neighbours or for the control plane.
 */
void rp_fields_response(const struct rp_http_response *r, struct rp_str host, struct rp_buf *scratch,
                        void (*each)(void *ctx, struct rp_str name, struct rp_str value), void *ctx);

#endif
