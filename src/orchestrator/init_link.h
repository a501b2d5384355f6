/*
 * init_link.h: what the orchestrator itself says to a sandbox's init (proto/init.h), on a connection that
 * lives for one job: init sends its events to every connection that said HELLO, and nobody would read them.
 * Blocking, with a deadline; worker threads only. init may have been taken over: answers are checked, a
 * descriptor that comes along is closed.
 */
#ifndef RP_ORCHESTRATOR_INIT_LINK_H
#define RP_ORCHESTRATOR_INIT_LINK_H

#include <stdint.h>

#include "base/error.h"

enum { RP_INIT_LINK_TIMEOUT_MS = 5000 };

/* HELLO on a fresh connection. */
int rp_init_link_hello(int connection, struct rp_error *err) RP_MUST_CHECK;

/* CGROUP_DROP: init forgets the step. A step that it does not know is fine. */
int rp_init_link_drop_step(int connection, uint32_t step, struct rp_error *err) RP_MUST_CHECK;

/* SHUTDOWN is sent; the connection ends when init has. */
int rp_init_link_shutdown(int connection, uint32_t grace_ms, struct rp_error *err) RP_MUST_CHECK;

#endif
