/*
 * server.h: the orchestrator's end of the connection to the gateway (proto/orchestrator.h). Loop thread only.
 *
 * One gateway at a time: a new connection of the right user replaces the old one. A malformed message closes
 * the connection, nothing else. HELLO is answered once the lifecycle is ready. While answers pile up (the
 * gateway does not read) no more requests are read; past RP_SERVER_QUEUE_MAX the connection is closed.
 */
#ifndef RP_ORCHESTRATOR_SERVER_H
#define RP_ORCHESTRATOR_SERVER_H

#include <sys/types.h>

#include "net/loop.h"
#include "orchestrator/lifecycle.h"

enum { RP_SERVER_QUEUE_MAX = 70000 }; /* more than one list of everything */

struct rp_server;

/* listener: listening SOCK_SEQPACKET socket, not owned; user: whose connections are taken. */
struct rp_server *rp_server_new(struct rp_loop *loop, int listener, uid_t user);
/*
 * What requests go to: either the lifecycle with the driver's name and capabilities, or (NULL) nothing, and
 * they fail with `why`. A change of it closes the connection, so that the gateway says HELLO again.
 */
void rp_server_serve(struct rp_server *s, struct rp_lifecycle *lifecycle, const struct rp_driver *driver,
                     const struct rp_error *why);
/* For the lifecycle; ctx is the server. */
extern const struct rp_lifecycle_events rp_server_events;
/* The lifecycle, if any, was freed before. NULL-safe. */
void rp_server_free(struct rp_server *s);

#endif
