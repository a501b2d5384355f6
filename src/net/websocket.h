/*
 * websocket.h: server side of WebSocket (RFC 6455), version 13, without extensions. Loop thread only.
 *
 * Protocol errors close with 1002, invalid UTF-8 in text with 1007, a message over the limit with 1009.
 * Control frames that are fragmented or over 125 bytes, unmasked frames, reserved bits, lengths of 2^63 and
 * more: 1002. A ping goes out every 30 s and a peer that answers nothing for 75 s is cut.
 */
#ifndef RP_NET_WEBSOCKET_H
#define RP_NET_WEBSOCKET_H

#include "net/http_server.h"

struct rp_websocket;

struct rp_websocket_callbacks {
    /* A whole message (fragments joined). The view lives during the call. */
    void (*on_binary)(void *ctx, struct rp_str bytes);
    void (*on_text)(void *ctx, struct rp_str text); /* valid UTF-8 */
    /* The output queue fell to half its cap after RP_WRITE_FULL. */
    void (*on_drain)(void *ctx);
    /* Over, whoever ended it; the last callback. code 1006 when there was no close frame. The socket frees
     * itself after it. */
    void (*on_close)(void *ctx, int code);
};

struct rp_websocket_options {
    size_t message_max;   /* bytes of one incoming message */
    size_t output_cap;    /* bytes queued towards the client */
    const char *protocol; /* chosen subprotocol, or NULL */
};

/* True when the request asks for a WebSocket (GET, Upgrade: websocket, version 13, a key). */
bool rp_websocket_requested(const struct rp_http_request *r);

/* Answers 101 and takes the connection over; NULL (and 400 or 426 answered) when the handshake is wrong. */
struct rp_websocket *rp_websocket_accept(struct rp_http_exchange *x,
                                         const struct rp_websocket_options *options,
                                         const struct rp_websocket_callbacks *callbacks, void *ctx);
/* Answers 101, and closes at once with a code such as 4404: for errors that a browser could not see
 * otherwise. */
void rp_websocket_reject(struct rp_http_exchange *x, int code, const char *reason);

/* The pieces are one message. Results as rp_stream_write. */
enum rp_write rp_websocket_send_binary(struct rp_websocket *ws, const struct rp_str *pieces, size_t count);
enum rp_write rp_websocket_send_text(struct rp_websocket *ws, struct rp_str text);
size_t rp_websocket_queued(const struct rp_websocket *ws);
/* Sends a close frame; on_close follows, after the peer's answer or 2 s. No message comes after this call. A
 * code of 0 sends none. The reason is cut at 123 bytes. */
void rp_websocket_close(struct rp_websocket *ws, int code, const char *reason);
/* Stops and resumes reading; messages that arrived before come no sooner. */
void rp_websocket_pause(struct rp_websocket *ws);
void rp_websocket_resume(struct rp_websocket *ws);

/* rp_websocket_close for every socket of the loop: 1001 before a restart. */
void rp_websocket_close_all(struct rp_loop *loop, int code, const char *reason);

/* For all sockets of the loop, present and future: the ping period, after how long a silent peer is cut, and
 * how long a close may take. Milliseconds; the defaults are 30000, 75000 and 2000. */
void rp_websocket_set_timing(struct rp_loop *loop, uint32_t ping_ms, uint32_t cut_ms, uint32_t close_ms);

#endif
