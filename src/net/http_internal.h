/*
 * http_internal.h: what the files of the HTTP server share. Loop thread only.
 *
 * http_server.c      listener, limits, time-outs, what connections have in common
 * http_connection.c  one connection: bytes in, one exchange at a time, its end
 * http_body.c        the request's body
 * http_exchange.c    the response
 */
#ifndef RP_NET_HTTP_INTERNAL_H
#define RP_NET_HTTP_INTERNAL_H

#include "net/http_chunked.h"
#include "net/http_parser.h"
#include "net/http_server.h"

enum {
    RP_HTTP_OUTPUT_CAP = 160 * 1024, /* FULL over 80 KiB, so that a 64 KiB piece fits after OK */
    RP_HTTP_FIELDS_MAX = 64 * 1024,
    RP_HTTP_BODY_CAP = 64 * 1024, /* kept input while a body is read and its consumer pauses */
};

struct link {
    struct link *prev, *next;
};

static inline void link_init(struct link *l)
{
    l->prev = l->next = l;
}
static inline void link_remove(struct link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    link_init(l);
}
static inline void link_append(struct link *list, struct link *l)
{
    l->prev = list->prev;
    l->next = list;
    list->prev->next = l;
    list->prev = l;
}
static inline bool link_empty(const struct link *list)
{
    return list->next == list;
}

/* Each list holds connections in the order in which they expire, since each has one duration. */
enum http_timeout {
    HTTP_TIMEOUT_HEAD,
    HTTP_TIMEOUT_IDLE,
    HTTP_TIMEOUT_PROGRESS,
    HTTP_TIMEOUT_LINGER,
    HTTP_TIMEOUT_COUNT
};

/* An address with connections. */
struct http_address {
    struct http_address *next; /* in its hash chain */
    unsigned count;
    bool loopback;
    unsigned char bytes[16]; /* IPv4 is mapped into IPv6 */
    char text[46];
};

struct rp_http_server {
    struct rp_loop *loop;
    int listener;
    int reserve; /* a descriptor to close when there are no others */
    struct rp_watch *watch;
    struct rp_timer *tick;
    rp_http_handler *handler;
    void *ctx;
    struct rp_http_limits limits;
    struct link timeouts[HTTP_TIMEOUT_COUNT];
    struct link taken; /* struct http_taken */
    unsigned count;
    bool draining;
    struct http_address *addresses[256];
    struct rp_http_exchange *spare; /* exchanges to use again */
    unsigned spare_count;
    int64_t date_second;
    char date[32]; /* RFC 9110 section 5.6.7 */
    char id_prefix[8];
    uint64_t id_counter;
    uint64_t warned_ms;
};

enum http_state { HTTP_HEAD, HTTP_EXCHANGE, HTTP_LINGER };

struct http_connection {
    struct rp_http_server *server;
    struct rp_stream *stream;
    struct http_address *address;
    struct rp_http_exchange *exchange;
    struct link timeout;
    uint64_t expires;
    uint64_t progress_mark;
    unsigned char state;
    unsigned char strikes;
    uint32_t seen; /* bytes of an unfinished head that were looked at */
    size_t linger_left;
    unsigned processing; /* on the stack: the memory stays */
    bool kicked : 1;     /* a deferred call is under way */
    bool dead : 1;       /* the stream is gone */
    bool cut : 1;        /* to be closed without ceremony */
    bool ended : 1;      /* the client closed its direction */
    bool full : 1;       /* output waits for on_drain */
    bool close : 1;      /* after this exchange */
    bool head_begun : 1;
};

enum http_body { HTTP_BODY_WAITING, HTTP_BODY_COLLECT, HTTP_BODY_STREAM, HTTP_BODY_DRAIN };
enum http_phase { HTTP_NOT_BEGUN, HTTP_BEGUN, HTTP_ENDED };

struct rp_http_exchange {
    struct http_connection *c;
    struct rp_http_exchange *next_spare;
    struct rp_buf head; /* the request's, which `request` points into */
    char id[65];
    void (*on_close)(void *ctx);
    void *on_close_ctx;

    /* request body */
    unsigned char body;     /* http_body */
    bool body_complete : 1; /* all bytes arrived */
    bool body_told : 1;     /* and on_end or fn was called */
    bool body_paused : 1;
    bool continue_sent : 1;
    bool body_seen : 1; /* a byte of it arrived */
    uint64_t body_left; /* of a body with a length */
    struct rp_http_chunked chunked;
    uint64_t drained;
    struct rp_buf collected;
    rp_http_body_fn *collect_fn;
    struct rp_http_body_callbacks callbacks;
    void *body_ctx;

    /* response */
    unsigned char phase; /* http_phase */
    bool no_body : 1;
    bool chunked_out : 1;
    bool has_date : 1;
    bool has_id : 1;
    bool close_with_client : 1;
    int64_t left; /* of the announced length; -1 without one */
    struct rp_buf fields;
    struct rp_buf out; /* a head that waits for the first bytes of its body, to go out with them */
    void (*on_drain)(void *ctx);
    void *on_drain_ctx;

    struct rp_http_request request; /* last: what is before it is cleared for the next use */
};

/* http_server.c */
void http_timeout_set(struct http_connection *c, enum http_timeout t);
const char *http_date(struct rp_http_server *s);
struct rp_http_exchange *http_exchange_new(struct http_connection *c);
void http_exchange_free(struct rp_http_exchange *x);
void http_server_gone(struct http_connection *c); /* the connection's place is free */
/* The connection's place belongs to the stream from now on. */
void http_server_taken(struct http_connection *c, struct rp_stream *stream);

/* http_connection.c */
void http_make_id(struct rp_http_server *s, char ret[static 17]);
void http_connection_new(struct rp_http_server *s, int fd, struct http_address *address);
/* Goes on with the connection from the loop: finishes, tells ends, flushes heads. */
void http_connection_kick(struct http_connection *c);
void http_connection_expired(struct http_connection *c, enum http_timeout t);
void http_connection_linger(struct http_connection *c); /* closes it once its output is flushed */
void http_connection_free(struct http_connection *c);   /* cuts it; on_close is called */
void http_connection_forget(struct http_connection *c); /* its stream lives on elsewhere */

/* http_body.c */
void http_body_start(struct rp_http_exchange *x);
/* Consumes body bytes: how many (0: not now), or -1 when they are malformed. */
ssize_t http_body_feed(struct rp_http_exchange *x, struct rp_str bytes);
void http_body_tell(struct rp_http_exchange *x);         /* on_end or the collected body, when it is due */
bool http_body_wanted(const struct rp_http_exchange *x); /* bytes are awaited from the client */
/* What is left is not worth reading, or may never come. */
bool http_body_costly(const struct rp_http_exchange *x);

/* http_exchange.c */
void http_flush_head(struct rp_http_exchange *x);
/* rp_http_reply_error with another status than the code's own. */
void http_reply_problem(struct rp_http_exchange *x, const struct rp_error *err, int status);
/* Answers outside of an exchange, and closes. */
void http_refuse(struct http_connection *c, const struct rp_error *err, int status);

/* http_problem.c: the body of an error (RFC 9457). */
void http_problem_write(struct rp_buf *out, const struct rp_error *err, int status, const char *request_id);
const char *rp_http_reason(int status);

#endif
