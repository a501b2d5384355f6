/*
 * host_limits.h: what the kernel counts against the host's root for all sandboxes together, because root made their user
 * namespaces: inotify. Each sandbox has a bound of its own (rootfs_attach.c), for its user and once more for init's file
 * helpers; the host's must hold as many as there may be sandboxes, or one of them takes the others' away.
 */
#ifndef RP_SANDBOX_OCI_HOST_LIMITS_H
#define RP_SANDBOX_OCI_HOST_LIMITS_H

#include <stdint.h>

#include "base/error.h"

#define RP_INOTIFY_INSTANCES 128   /* as many as the kernel gives a user by default */
#define RP_INOTIFY_WATCHES   32768 /* about 1 KiB each, which the sandbox's memory limit counts */

#define RP_TEXT_OF(x) #x
#define RP_TEXT(x)    RP_TEXT_OF(x)

/* Raises the host's limits to what max_sandboxes need; never lowers one. They stay raised. */
int rp_host_limits_raise(uint32_t max_sandboxes, struct rp_error *err) RP_MUST_CHECK;

#endif
