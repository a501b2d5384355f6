/*
 * jail.h: how the gateway stops being root. Called once, by its single thread, before anything is parsed that
 * came from outside.
 *
 * The process gets a mount namespace of its own whose root is an almost empty tmpfs: /data/gateway and
 * /run/rings (its own, writable), /run/orchestrator.sock, /environments, /proc, four devices, and
 * the system's libraries and /etc, read-only. So it needs no right to enter the folders above the data
 * directory (a clone in /root works), and has none to look around. Then: no supplementary groups, the
 * gateway's uid and gid, no capabilities, an empty bounding set, no_new_privs.
 */
#ifndef RP_CLI_JAIL_H
#define RP_CLI_JAIL_H

#include "base/error.h"
#include "base/settings.h"

/* Paths in *s become those inside. On failure the process must exit. */
int rp_jail_enter(struct rp_settings *s, struct rp_error *err) RP_MUST_CHECK;

/* Gives up root for good and checks that it is gone. */
int rp_drop_privileges(uint32_t uid, uint32_t gid, struct rp_error *err) RP_MUST_CHECK;

#endif
