/*
 * control_frame.h: the JSON text frames that clients of terminals and processes send. Pure.
 *
 * {"type": "resize", "cols", "rows"}, {"type": "ack", "offset", "stream"?}, {"type": "signal", "name"},
 * {"type": "eof"},
 * {"type": "ping"}: answered with {"type": "pong"} when everything before it was looked at. A browser cannot
 * send the WebSocket's own pings; one that pastes asks now and then, so that it hears of a "pause" before it
 * has sent too much.
 */
#ifndef RP_API_CONTROL_FRAME_H
#define RP_API_CONTROL_FRAME_H

#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum {
    RP_CONTROL_MAX = 4096, /* bytes of a text frame */
    RP_CONTROL_SIZE_MAX = 2000,
};

enum rp_control_type {
    RP_CONTROL_RESIZE,
    RP_CONTROL_ACK,
    RP_CONTROL_SIGNAL,
    RP_CONTROL_EOF,
    RP_CONTROL_PING
};

struct rp_control {
    enum rp_control_type type;
    uint16_t cols, rows;
    uint64_t offset;
    uint8_t stream; /* of an ack: RP_STREAM_STDOUT unless it says "stderr" */
    int signal;
};

int rp_control_parse(struct rp_str text, struct rp_control *ret, struct rp_error *err) RP_MUST_CHECK;

/* "INT", "SIGINT", "9": the signal's number, or 0 when there is none of that name. */
int rp_signal_by_name(struct rp_str name);

#endif
