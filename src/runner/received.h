/*
 * received.h: is a descriptor that came out of a sandbox what was asked for? Any thread.
 *
 * Whoever sent it wants to block or confuse the loop. Each check also makes the descriptor harmless to use:
 * non-blocking, close-on-exec (seqpacket.h), no lingering close. 0, or -1 with RP_ERROR_PROTOCOL; the caller
 * keeps the descriptor and closes it. What is left over (somebody clears O_NONBLOCK on the description that
 * he shares) is the watchdog's (watchdog.h).
 */
#ifndef RP_RUNNER_RECEIVED_H
#define RP_RUNNER_RECEIVED_H

#include <stdint.h>

#include "base/error.h"

/* The probe of hello: an anonymous pipe that holds RP_INIT_PROBE. */
int rp_received_probe(int fd, struct rp_error *err) RP_MUST_CHECK;
/* RP_STREAM_PTY: the master of a pseudoterminal; the others: an anonymous pipe's right end. */
int rp_received_stream(int fd, uint8_t stream, struct rp_error *err) RP_MUST_CHECK;
/* A connected TCP socket whose peer has that port. */
int rp_received_connection(int fd, uint16_t port, struct rp_error *err) RP_MUST_CHECK;
/* One end of a connected AF_UNIX SOCK_STREAM pair. */
int rp_received_channel(int fd, struct rp_error *err) RP_MUST_CHECK;

#endif
