/*
 * config.h: the OCI configuration (runtime-spec config.json) of a sandbox. Any thread.
 *
 * It describes the tiny root, in which there is nothing but init: the project's file system comes later, by
 * rootfs.h. So it is the same for all sandboxes but for names, ids and paths.
 */
#ifndef RP_SANDBOX_OCI_CONFIG_H
#define RP_SANDBOX_OCI_CONFIG_H

#include "base/buf.h"
#include "base/error.h"

enum {
    RP_OCI_CONFIG_MAX = 256 * 1024,
    RP_OCI_UID_BASE = 0x70000000, /* above what login services give out, below 2^31 */
    RP_OCI_UID_COUNT = 65536,     /* each slot's range: 4096 of them end at 0x7fffffff */
};

struct rp_oci_config {
    const char *root; /* the tiny root */
    const char *hostname;
    const char *cgroup_path;    /* linux.cgroupsPath; NULL: whoever starts the runtime joins the cgroups */
    const char *netns;          /* path of the network namespace; NULL: a new, empty one */
    uint32_t uid_base;          /* the host's id of uid and gid 0 inside */
    uint64_t files_max;         /* RLIMIT_NOFILE */
    struct rp_str seccomp_json; /* linux.seccomp; empty: none */
    struct rp_str seccomp_bpf_base64; /* crun's annotation; empty: none */
};

/* Appends the JSON to out, whose cap is RP_OCI_CONFIG_MAX. */
int rp_oci_config_write(const struct rp_oci_config *config, struct rp_buf *out,
                        struct rp_error *err) RP_MUST_CHECK;

#endif
