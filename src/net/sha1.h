/*
 * sha1.h: SHA-1 (FIPS 180-4), for the WebSocket handshake only, where RFC 6455 asks for it and nothing
 * depends on its strength. Any thread.
 */
#ifndef RP_NET_SHA1_H
#define RP_NET_SHA1_H

#include "base/str.h"

/* Short inputs: at most 119 bytes (two blocks). */
void rp_sha1(struct rp_str in, unsigned char ret[static 20]);

#endif
