/*
 * warm.h: the warm pool: empty sandboxes (namespaces, cgroups, network, init on a tiny root) made ahead, so
 * that a start is only a claim. One pool for all stacks. A thread of its own keeps it full, and works only
 * while no start does. They have no record: after a crash of the orchestrator they are removed and made anew.
 *
 * rp_warm_take may be called by any thread; the rest by the loop thread.
 */
#ifndef RP_ORCHESTRATOR_WARM_H
#define RP_ORCHESTRATOR_WARM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"
#include "sandbox/driver.h"

enum { RP_WARM_MAX = 256 };

struct rp_warm;

/* count is how many to keep; 0, or a driver without RP_DRIVER_WARM, makes a pool that is always empty. */
struct rp_warm *rp_warm_new(struct rp_driver *driver, uint32_t count);
/* True with the instance's id in ret, which is the caller's from now on; false when there is none. ret is
 * untouched then. */
bool rp_warm_take(struct rp_warm *w, char ret[static RP_ID_SIZE]);
/* Removes what is in it. NULL-safe. */
void rp_warm_free(struct rp_warm *w);

#endif
