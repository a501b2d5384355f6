/*
 * http_server.h: HTTP/1.1 (RFC 9112) for the gateway: connections, exchanges, bodies, upgrades. Loop thread
 * only.
 *
 * The server owns connections and exchanges. An exchange lives from its request's head until its response is
 * complete and its body is read or the connection is gone; on_close tells the handler in both cases, exactly
 * once, and is the last use of it.
 *
 * Limits (defaults): 32 KiB of head, 100 fields, 8 KiB of target, 30 s for a head, 60 s without progress in a
 * body or in a response, 75 s idle keep-alive, 8,192 connections (1,024 an address). What breaks them is
 * answered with problem+json and a code of docs/errors.md. Both Content-Length and Transfer-Encoding,
 * obs-fold, a bare LF, a bad chunk: 400 and close.
 */
#ifndef RP_NET_HTTP_SERVER_H
#define RP_NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "net/loop.h"
#include "net/stream.h"

enum { RP_HTTP_HEADERS_MAX = 100, RP_HTTP_HEAD_MAX = 32768, RP_HTTP_TARGET_MAX = 8192 };

struct rp_http_field {
    struct rp_str name, value; /* value without surrounding white space */
};

/* A parsed request head; views point into the connection's buffer and live as long as the exchange. */
struct rp_http_request {
    struct rp_str method; /* case-sensitive token */
    struct rp_str target; /* as sent */
    struct rp_str path;   /* of the target, still percent-encoded, begins with "/" */
    struct rp_str query;  /* after "?", still encoded, may be empty */
    struct rp_str host;   /* Host field (or authority of an absolute target), with port */
    int minor_version;    /* HTTP/1.minor */
    bool keep_alive;
    bool upgrade;           /* Connection: upgrade */
    bool expect_continue;   /* answered by itself when the body is first asked for */
    bool chunked;           /* the body's length is not known ahead */
    int64_t content_length; /* 0 without body, -1 when chunked */
    size_t header_count;
    struct rp_http_field headers[RP_HTTP_HEADERS_MAX];
};

/* First value of a field, name compared without case; p is NULL when it is absent. */
struct rp_str rp_http_header(const struct rp_http_request *r, const char *name);
/* Value of a query parameter, percent-decoded ("+" is a space) into dst. 1 found, 0 absent, -1 malformed or
 * too long. */
int rp_http_query(const struct rp_http_request *r, const char *name, char *dst, size_t cap,
                  size_t *ret_length);
/* Percent-decodes; false on a malformed escape, NUL, or when it does not fit. dst is NUL-terminated. */
bool rp_http_percent_decode(struct rp_str s, char *dst, size_t cap, size_t *ret_length);

struct rp_http_server;
struct rp_http_exchange;

typedef void rp_http_handler(void *ctx, struct rp_http_exchange *x);

/* What a client may take of the server. Times in milliseconds. */
struct rp_http_limits {
    uint32_t head_ms;     /* from the first byte of a head (or the connection's begin) to its end */
    uint32_t idle_ms;     /* between requests */
    uint32_t progress_ms; /* a body or a response that stands still; seen between this and half more */
    uint32_t linger_ms;   /* for the client to close after the last response */
    uint32_t connections; /* WebSockets and tunnels that were taken over count */
    uint32_t connections_per_address;
    bool limit_loopback; /* per address; else loopback only has the limit of all (a proxy may stand there) */
    size_t drain_max;    /* rest of a body that is read to keep a connection after its response */
};
extern const struct rp_http_limits rp_http_limits_default;

/* Serves on an already listening descriptor (not owned). Each request goes to `handler`. At the limit of
 * connections the longest silent one makes room. */
struct rp_http_server *rp_http_server_new(struct rp_loop *loop, int listener, rp_http_handler *handler,
                                          void *ctx);
struct rp_http_server *rp_http_server_new_limited(struct rp_loop *loop, int listener,
                                                  rp_http_handler *handler, void *ctx,
                                                  const struct rp_http_limits *limits);
/* Stops accepting; idle connections close at once, the others after their exchange. */
void rp_http_server_drain(struct rp_http_server *s);
/* Cuts what is left (on_close is called for each exchange). NULL-safe. */
void rp_http_server_free(struct rp_http_server *s);
/* With those that were taken over and are still open. */
unsigned rp_http_server_connections(const struct rp_http_server *s);

struct rp_loop *rp_http_loop(struct rp_http_exchange *x);
const struct rp_http_request *rp_http_request_of(const struct rp_http_exchange *x);
/* 16 characters; the client's X-Request-Id where it sent a sane one (≤ 64 of [A-Za-z0-9._-]). */
const char *rp_http_request_id(const struct rp_http_exchange *x);
/* The peer's address as text, without port; and whether it is a loopback address. */
const char *rp_http_peer(const struct rp_http_exchange *x);
bool rp_http_peer_is_loopback(const struct rp_http_exchange *x);

/* Called once when the exchange is over: complete, or broken because the client went away. The exchange is
 * gone after it. It comes from the loop, never from inside a call of the handler into this module (but for
 * rp_http_take_over). */
void rp_http_on_close(struct rp_http_exchange *x, void (*fn)(void *ctx), void *ctx);

/* A client that ends its direction after the request may still read, and gets its response; it is only cut
 * when that stands still. For a relay, whose program should learn at once that nobody waits: take it as gone.
 */
void rp_http_close_with_client(struct rp_http_exchange *x);

/* ---- request body: one of the two, at most once; without either the body is drained or the connection
 * closed. Once the response is complete the callbacks are not called any more. ---- */

/* The whole body, at most max bytes (more: 413 is answered and fn is not called). The view lives during the
 * call. After a 413 the connection is kept when the rest is cheap to read; it is closed when the client still
 * waits for "100 Continue", since whether the body follows then is anyone's guess. */
typedef void rp_http_body_fn(void *ctx, struct rp_http_exchange *x, struct rp_str body);
void rp_http_body_collect(struct rp_http_exchange *x, size_t max, rp_http_body_fn *fn, void *ctx);

/* Piece by piece, in order; ended by on_end. Between pause and resume on_data is not called and the socket is
 * not read. */
struct rp_http_body_callbacks {
    void (*on_data)(void *ctx, struct rp_str bytes);
    void (*on_end)(void *ctx);
};
void rp_http_body_stream(struct rp_http_exchange *x, const struct rp_http_body_callbacks *callbacks,
                         void *ctx);
void rp_http_body_pause(struct rp_http_exchange *x);
void rp_http_body_resume(struct rp_http_exchange *x);

/* ---- response ---- */

/*
 * Adds a field to the response that is not begun yet. Name and value are copied; a malformed name, a value
 * with CR, LF or NUL, and fields over 64 KiB in all are dropped. Content-Length, Transfer-Encoding,
 * Connection (but "upgrade") and Keep-Alive are the server's own and dropped; Date and X-Request-Id replace
 * the server's.
 */
void rp_http_set_header(struct rp_http_exchange *x, const char *name, struct rp_str value);
void rp_http_set_header_str(struct rp_http_exchange *x, struct rp_str name, struct rp_str value);
void rp_http_set_header_text(struct rp_http_exchange *x, const char *name, const char *value);

/* A whole response. content_type NULL and an empty body for 204 and 304. HEAD sends no body. */
void rp_http_reply(struct rp_http_exchange *x, int status, const char *content_type, struct rp_str body);
/* application/problem+json (RFC 9457) with type, title, status, detail, code, request_id and, for a pointer,
 * errors[]. */
void rp_http_reply_error(struct rp_http_exchange *x, const struct rp_error *err);

/* A streamed response: length -1 is chunked (close-delimited for HTTP/1.0). */
void rp_http_begin(struct rp_http_exchange *x, int status, const char *content_type, int64_t length);
/*
 * As rp_stream_write. After RP_WRITE_OK at least 64 KiB more are accepted; after RP_WRITE_FULL wait for
 * on_drain. Bytes over the announced length, or of a response that has no body, are dropped.
 */
enum rp_write rp_http_send(struct rp_http_exchange *x, struct rp_str bytes);
/* The pieces in one write and, with `last`, the end of the response as by rp_http_end. */
enum rp_write rp_http_send_pieces(struct rp_http_exchange *x, const struct rp_str *pieces, size_t count,
                                  bool last);
/* For relays: the queue's cap instead of the default (FULL over half of it), and how much it takes now. */
void rp_http_set_output_cap(struct rp_http_exchange *x, size_t cap);
size_t rp_http_room(const struct rp_http_exchange *x);
void rp_http_on_drain(struct rp_http_exchange *x, void (*fn)(void *ctx), void *ctx);
/* A response that is shorter than announced is cut. */
void rp_http_end(struct rp_http_exchange *x);
/* Cuts the connection, so that the client sees that the response is not whole. */
void rp_http_abort(struct rp_http_exchange *x);
bool rp_http_responded(const struct rp_http_exchange *x); /* begun or complete */

/*
 * Ends HTTP on this connection: sends `head` (a whole response head, e.g. a 101) when it is not empty and
 * gives the stream, with bytes that came after the request still in it, to the caller. The exchange is closed
 * (on_close is called) before it returns.
 */
struct rp_stream *rp_http_take_over(struct rp_http_exchange *x, struct rp_str head);

#endif
