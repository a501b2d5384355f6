/*
 * backend.h: what the orchestrator works with: the volumes, the network and the driver, opened in this order.
 * Blocks (the first start on a machine makes the volumes' image). Opened and closed by the orchestrator's
 * main thread.
 */
#ifndef RP_ORCHESTRATOR_BACKEND_H
#define RP_ORCHESTRATOR_BACKEND_H

#include "base/settings.h"
#include "orchestrator/volume.h"
#include "sandbox/driver.h"

struct rp_network;

struct rp_backend {
    struct rp_volumes *volumes;
    struct rp_network *network;
    struct rp_driver *driver;
};

/* On failure nothing stays open. */
int rp_backend_open(const struct rp_settings *s, struct rp_backend *ret, struct rp_error *err) RP_MUST_CHECK;
/* Sandboxes, mounts and firewall stay. */
void rp_backend_close(struct rp_backend *b);

#endif
