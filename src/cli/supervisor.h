/*
 * supervisor.h: the parent of the server's two processes. Single-threaded, root, and does almost nothing, so
 * that it has little to fail with.
 *
 * It starts the orchestrator and the gateway (this program again, with --role and every setting as a flag),
 * starts again what ends by itself (at once the first time, then with a back-off up to 5 s), and prints
 * "repld: ready on URL" on standard output when the gateway first says so. The listening sockets are its own:
 * while a child starts again, connections queue. SIGTERM or SIGINT: the gateway drains, then the orchestrator
 * ends; a second one makes it short. Sandboxes go on. When the supervisor is killed its children die with it
 * (PR_SET_PDEATHSIG).
 */
#ifndef RP_CLI_SUPERVISOR_H
#define RP_CLI_SUPERVISOR_H

#include "base/settings.h"
#include "cli/prepare.h"

/* What a child finds open. */
enum {
    RP_CHILD_LOCK = 3,
    RP_CHILD_ORCHESTRATOR_LISTENER = 4, /* of the orchestrator */
    RP_CHILD_READY = 4,                 /* of the gateway */
    RP_CHILD_TCP = 5,                   /* and the following */
};

#define RP_ROLE_GATEWAY      "--role=gateway"
#define RP_ROLE_ORCHESTRATOR "--role=orchestrator"

/* Until the end; returns the exit status. */
int rp_supervisor_run(struct rp_settings *settings, struct rp_prepared *prepared);

#endif
