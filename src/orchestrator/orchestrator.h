/*
 * orchestrator.h: the process that is root: it makes and removes sandboxes and volumes for the gateway, over
 * the messages of proto/orchestrator.h, and has no network socket. Called once by its main thread
 * (cli/serve.c).
 */
#ifndef RP_ORCHESTRATOR_ORCHESTRATOR_H
#define RP_ORCHESTRATOR_ORCHESTRATOR_H

#include "base/settings.h"

/*
 * Serves `listener` (a listening SOCK_SEQPACKET socket, non-blocking, owned by the callee) until SIGTERM or
 * SIGINT (blocked at the call), then lets running jobs finish. Sandboxes go on. Returns the exit status.
 */
int rp_orchestrator_main(const struct rp_settings *settings, int listener);

#endif
