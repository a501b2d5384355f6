/*
 * listen.h: the text of --listen as socket addresses. Any thread; no name is looked up.
 */
#ifndef RP_BASE_LISTEN_H
#define RP_BASE_LISTEN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"

struct rp_listen {
    unsigned count; /* 2 for localhost: 127.0.0.1 and ::1 */
    struct sockaddr_storage addresses[2];
    socklen_t lengths[2];
    uint16_t port;
    bool loopback; /* all of them are loopback addresses */
};

/* HOST:PORT; HOST is an IPv4 address, [an IPv6 address] or localhost; PORT 0 lets the kernel choose. */
int rp_listen_parse(const char *text, struct rp_listen *ret, struct rp_error *err) RP_MUST_CHECK;

#endif
