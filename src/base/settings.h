/*
 * settings.h: every setting of `repld serve`, from one table: a flag, an environment variable and a line of
 * --help.
 *
 * Read once at start by the supervisor and handed to the children; constant afterwards, any thread.
 */
#ifndef RP_BASE_SETTINGS_H
#define RP_BASE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Where the CA bundle of the host is inside a sandbox, when ca_bundle is set. */
#define RP_SANDBOX_CA_BUNDLE "/etc/ssl/certs/repld-ca.crt"

struct rp_settings {
    const char *listen;      /* --listen HOST:PORT, REPLD_LISTEN; default 127.0.0.1:8000; loopback only until
                                accounts exist */
    const char *data_dir;    /* --data-dir, REPLD_DATA_DIR; default ./data */
    const char *runtime_dir; /* --runtime-dir; default /run/repld-<8 hex of the data directory's path>; put on
                                tmpfs */
    const char *environments_dir; /* --environments-dir; default DATA_DIR/environments; built by `repld stack
                                     build` */
    const char *stacks_dir;       /* --stacks-dir; default: beside the binary's source or installation */
    const char *user; /* --user: whom the gateway runs as; default: uid and gid 64207, which need not exist */
    const char *oci_runtime;    /* --oci-runtime: name or path; default: crun where it runs, else runc */
    const char *init_path;      /* --init; default: repld-init beside the binary */
    const char *preview_domain; /* --preview-domain; default localhost */
    const char *cgroup_root;    /* --cgroup-root; default repld */
    const char *cgroup_layout;  /* --cgroup-layout auto|v2|v1|hybrid */
    const char *ca_bundle;      /* --ca-bundle FILE: handed into sandboxes; default none */
    const char *pip_index_url;  /* --pip-index-url */
    const char *npm_registry;   /* --npm-registry */
    const char *debian_mirror;  /* --debian-mirror: where environments are built from; default the host's own
                                   sources */
    const char *network_prefix; /* --sandbox-network A.B.0.0/16; default 100.88.0.0/16 */
    const char *resolver;       /* --resolver ADDRESS; default the first of /etc/resolv.conf */
    const char
        *allow_hosts; /* --sandbox-allow CIDR[,CIDR…]: private ranges that stay reachable, e.g. a mirror */
    const char *log_level; /* --log-level debug|info|warning|error */
    bool log_json;         /* --log-json */
    uint64_t
        volume_size; /* --volume-size: first size of the volume image, bytes with K, M, G, T; grown online */
    uint64_t
        volume_reserve;  /* --volume-reserve: free space of the host's disk that is never used; default 2G */
    uint64_t disk_quota; /* --disk-quota: of a project; default 2G */
    uint32_t idle_timeout;      /* --idle-timeout seconds; default 600; 0 never */
    uint32_t max_sandboxes;     /* --max-sandboxes; default 1000 */
    uint64_t ring_size;         /* --scrollback: bytes kept of each terminal or log; default 1M */
    uint32_t user_id, group_id; /* of `user`, resolved */
    const char *boot_id; /* --boot-id: the machine's, /proc/sys/kernel/random/boot_id; tests give another */
};

/* Paths are made absolute, so that they hold after a chdir. */

/* Fills ret from argv (without the program's and the command's name) and the environment (flag over variable
 * over default); strings live as long as the process. 0, or 1 when --help was printed, or -1. */
int rp_settings_parse(int argc, char **argv, struct rp_settings *ret, struct rp_error *err) RP_MUST_CHECK;

#endif
