/*
 * burst.h: the CPU that a sandbox may use above its share while it starts, and the end of it. Any thread.
 *
 * One thread sleeps until the next burst is over. What is due is also a file of the sandbox, `burst-N`, so
 * that the next server ends what this one began. The file stays when the burst is over: ending it again
 * changes nothing.
 */
#ifndef RP_SANDBOX_OCI_BURST_H
#define RP_SANDBOX_OCI_BURST_H

#include "base/error.h"
#include "sandbox/oci/cgroup.h"

struct rp_bursts;

int rp_bursts_open(struct rp_cgroups *cgroups, struct rp_bursts **ret, struct rp_error *err) RP_MUST_CHECK;
void rp_bursts_close(struct rp_bursts *b); /* NULL-safe; those under way stay in their files */

/*
 * Sets the limits of a step; with limits->burst_ms and more burst_cpu than cpu, the burst begins now.
 * Replaces the step's earlier burst. `dir`: the sandbox's directory.
 */
int rp_bursts_limit(struct rp_bursts *b, int dir, const char *id, uint32_t step,
                    const struct rp_limits *limits, struct rp_error *err) RP_MUST_CHECK;

/* Takes up what the sandbox's directory says is under way. */
void rp_bursts_adopt(struct rp_bursts *b, int dir, const char *id);

/* The sandbox (or one step of it, when not negative) goes away. */
void rp_bursts_forget(struct rp_bursts *b, const char *id, int step);

#endif
