/*
 * gateway.h: the gateway process: everything that talks to the outside. Called once by its main thread
 * (cli/serve.c), unprivileged, with nothing of the file system but what `settings` names.
 */
#ifndef RP_API_GATEWAY_H
#define RP_API_GATEWAY_H

#include <stddef.h>

#include "base/settings.h"

struct rp_stacks;

enum { RP_LISTENERS_MAX = 4 };

/* What the supervisor hands over. The descriptors are close-on-exec and non-blocking, and belong to the
 * callee. */
struct rp_gateway_start {
    size_t listener_count;
    int listeners[RP_LISTENERS_MAX]; /* listening TCP sockets; they outlive this process in the supervisor */
    const char *orchestrator_socket; /* path, for rp_orchestrator_new */
    struct rp_stacks *stacks; /* loaded while this process was root: its files may be readable to it only */
    int ready;                /* a pipe: write one byte when requests are served, then close it */
};

/*
 * Serves until SIGTERM or SIGINT (blocked at the call; take them with signalfd or uv_signal): then it drains:
 * stops accepting, closes WebSockets with 1001, finishes exchanges for at most 5 s, closes the store.
 * Sandboxes go on. Database: settings->data_dir/gateway/repld.db; rings: settings->runtime_dir/rings/. Both
 * folders exist, belong to this process's user and to nobody else. Returns the exit status, 0 after a drain;
 * anything else makes the supervisor start it again.
 */
int rp_gateway_main(const struct rp_settings *settings, const struct rp_gateway_start *start);

#endif
