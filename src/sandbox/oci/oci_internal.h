/* oci_internal.h: what the files of the driver share. */
#ifndef RP_SANDBOX_OCI_OCI_INTERNAL_H
#define RP_SANDBOX_OCI_OCI_INTERNAL_H

#include "base/buf.h"
#include "base/settings.h"
#include "sandbox/driver.h"
#include "sandbox/oci/burst.h"
#include "sandbox/oci/cgroup.h"
#include "sandbox/oci/network.h"
#include "sandbox/oci/runtime.h"

struct rp_oci {
    struct rp_driver driver; /* first: the driver's pointer is ours */
    const struct rp_settings *settings;
    struct rp_network *network;
    struct rp_cgroups *cgroups;
    struct rp_bursts *bursts;
    struct rp_runtime runtime;
    struct rp_buf seccomp; /* base64 of BPF for crun, JSON for others; constant after open */
    char *tiny_root;       /* RUNTIME_DIR/root */
    char *host_layer;      /* RUNTIME_DIR/host-layer */
    char *sandboxes;       /* RUNTIME_DIR/sandboxes */
    int sandboxes_fd;
    int sysfs;
    uint64_t files_max;
};

/* The sandbox's directory, close-on-exec. RP_ERROR_NOT_FOUND when there is none. */
int rp_oci_open_dir(struct rp_oci *o, const char *id, struct rp_error *err) RP_MUST_CHECK;

/* oci_start.c: everything of an empty sandbox but its network, which `netns` names (NULL: an empty one).
 * Leaves what it made when it fails; rp_oci_remove takes it away. */
int rp_oci_start(struct rp_oci *o, const char *id, const char *netns, uint32_t uid_base,
                 struct rp_error *err) RP_MUST_CHECK;

/* oci_remove.c: all traces but the network. Succeeds when there are none. */
int rp_oci_remove(struct rp_oci *o, const char *id, struct rp_error *err) RP_MUST_CHECK;

/* oci_probe.c: chooses the runtime: one in which a sandbox really starts. */
int rp_oci_choose_runtime(struct rp_oci *o, struct rp_error *err) RP_MUST_CHECK;

/* oci_init.c. `dir` is the sandbox's directory; waits end after 10 s. */
int rp_oci_connect(int dir, const char *id, struct rp_error *err) RP_MUST_CHECK;
/* That init has exec'd and answers: a runtime returns before, and the tiny root must stay until then. */
int rp_oci_await_init(int dir, const char *id, struct rp_error *err) RP_MUST_CHECK;
/* Over a connection on which HELLO was said. */
int rp_oci_give_cgroup(struct rp_oci *o, const char *id, uint32_t step, int connection,
                       struct rp_error *err) RP_MUST_CHECK;

#endif
