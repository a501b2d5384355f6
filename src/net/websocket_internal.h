/*
 * websocket_internal.h: what the files of the WebSocket server share. Loop thread only.
 *
 * websocket_handshake.c  the HTTP side: what is asked for, the 101
 * websocket.c            messages and the close handshake
 * websocket_hub.c        pings and time-outs of all sockets of a loop, on one timer
 * websocket_frame.c      the wire format
 */
#ifndef RP_NET_WEBSOCKET_INTERNAL_H
#define RP_NET_WEBSOCKET_INTERNAL_H

#include "net/http_internal.h"
#include "net/websocket.h"
#include "net/websocket_frame.h"

enum ws_state {
    WS_OPEN,
    WS_CLOSING,   /* our close frame is sent: only the peer's is awaited */
    WS_LINGERING, /* both are done, or the peer broke the rules: on_close was called, bytes are dropped */
};

struct ws_hub;

struct rp_websocket {
    struct rp_loop *loop;
    struct rp_stream *stream;
    struct ws_hub *hub;
    const struct rp_websocket_callbacks *callbacks;
    void *ctx;
    struct link link; /* in the hub, in order of `due` */
    uint64_t due;
    uint64_t heard; /* when the last byte came */
    struct rp_buf message;
    struct rp_ws_frame frame; /* the data frame that is being read, while frame_left or in_frame */
    uint64_t frame_left;
    struct rp_utf8 utf8;
    unsigned char state;
    unsigned char opcode; /* of the message that is being read; 0: none */
    bool in_frame : 1;
    bool paused : 1;
    bool odd_turn : 1; /* every second look sends a ping */
};

/* Makes a socket of a stream on which the 101 was sent. */
struct rp_websocket *ws_new(struct rp_loop *loop, struct rp_stream *stream,
                            const struct rp_websocket_options *options,
                            const struct rp_websocket_callbacks *callbacks, void *ctx);
void ws_ping(struct rp_websocket *ws);
/* Ends it without ceremony; on_close is called unless it was. */
void ws_cut(struct rp_websocket *ws, int code);

void ws_hub_add(struct rp_websocket *ws);
void ws_hub_closing(struct rp_websocket *ws); /* its time runs from now */
void ws_hub_remove(struct rp_websocket *ws);

#endif
