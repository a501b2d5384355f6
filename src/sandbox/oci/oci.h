/*
 * oci.h: the driver for one machine: an OCI runtime (crun, runc, or one by name), overlayfs, cgroups, and a
 * slot of the network. Implements driver.h; its calls block and run on the orchestrator's worker threads.
 *
 * What is true about a sandbox is in RUNTIME_DIR/sandboxes/ID and in the kernel, never in memory alone: a new
 * driver over the same runtime directory adopts what an earlier one made. docs/internals/oci-driver.md.
 */
#ifndef RP_SANDBOX_OCI_OCI_H
#define RP_SANDBOX_OCI_OCI_H

#include "base/settings.h"
#include "sandbox/driver.h"

struct rp_network;

/*
 * Finds a runtime that works here, opens the cgroups, writes the tiny root and the host's layer, finishes the
 * burst of sandboxes that live on. Uses of `settings`: runtime_dir (exists, on tmpfs), environments_dir,
 * oci_runtime, init_path, cgroup_root, cgroup_layout, and what the host's layer wants; they outlive the
 * driver. `network` stays the caller's and outlives the driver too. RP_ERROR_RUNTIME without a runtime,
 * RP_ERROR_NOT_SUPPORTED on a kernel below 5.19 or without cgroups for memory, cpu and pids.
 */
int rp_oci_driver_open(const struct rp_settings *settings, struct rp_network *network, struct rp_driver **ret,
                       struct rp_error *err) RP_MUST_CHECK;

#endif
