/*
 * prepare.h: what must be there before the server's processes start: directories, the lock that keeps a
 * second server off the same data, the listening sockets. Supervisor only, as root; blocks for at most
 * RP_PREPARE_DYING_MS.
 *
 * DATA/lock            held by the supervisor and, through inheritance, by both children, so that it is free
 *                      only when all of them are gone
 * DATA/gateway/        the gateway's user, 0700
 * RUNTIME/             a tmpfs of its own, 0711, so that output of terminals cannot fill /run
 * RUNTIME/rings/       the gateway's user, 0700
 * RUNTIME/records/     the orchestrator's record of sandboxes, root, 0700
 * RUNTIME/jail/        mount point of the gateway's root, root, 0700
 * RUNTIME/orchestrator.sock  the gateway's user, 0600
 */
#ifndef RP_CLI_PREPARE_H
#define RP_CLI_PREPARE_H

#include <stddef.h>
#include <stdint.h>

#include "api/gateway.h"
#include "base/error.h"
#include "base/settings.h"

enum { RP_PREPARE_LOCK_MS = 5000, RP_PREPARE_DYING_MS = 30000, RP_PREPARE_ORPHANS_MS = 1500 };

struct rp_prepared {
    int lock;
    int orchestrator; /* listening SOCK_SEQPACKET socket */
    size_t listener_count;
    int listeners[RP_LISTENERS_MAX];
    uint16_t port; /* the real one where port 0 was asked for */
};

/* All descriptors are close-on-exec. */
int rp_prepare(const struct rp_settings *s, struct rp_prepared *ret, struct rp_error *err) RP_MUST_CHECK;
void rp_prepared_done(struct rp_prepared *p);

#endif
