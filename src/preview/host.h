/*
 * host.h: what a request's Host asks for: the control plane, a port of a project, or a name that is not ours.
 * Pure; any thread.
 *
 * A name that is not ours is refused (421), since a page of a stranger could have its own name resolve to
 * 127.0.0.1 (DNS rebinding) and would then be of the same origin as our answers. The port in Host is not
 * compared: a forwarded port differs from the listening one, and no page can choose the name with it.
 */
#ifndef RP_PREVIEW_HOST_H
#define RP_PREVIEW_HOST_H

#include "base/random.h"
#include "base/str.h"

enum rp_host_kind { RP_HOST_UNKNOWN, RP_HOST_CONTROL, RP_HOST_PREVIEW };

struct rp_host {
    enum rp_host_kind kind;
    uint16_t port; /* of the sandbox; RP_HOST_PREVIEW only, like what follows */
    char project[RP_ID_SIZE];
    struct rp_str suffix; /* what follows the project: ".localhost:8000"; a view into the Host field */
};

/*
 * Control: localhost, 127.0.0.1, [::1] and `listen`'s host (HOST or HOST:PORT). Preview: PORT-PROJECT.domain.
 * Each with or without a port; names compare without case.
 */
struct rp_host rp_host_parse(struct rp_str host, const char *domain, const char *listen);

#endif
