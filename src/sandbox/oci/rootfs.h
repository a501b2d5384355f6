/*
 * rootfs.h: what a sandbox sees as its file system. Any thread; blocks. docs/internals/rootfs.md.
 *
 * A sandbox starts on the tiny root, which all share and in which there is nothing but init. `attach` builds
 * the project's overlay inside the sandbox's mount namespace, from idmapped copies of the layers, and pivots
 * the sandbox onto it; init notices nothing. All of it is done from outside, with rights that the sandbox
 * never has.
 */
#ifndef RP_SANDBOX_OCI_ROOTFS_H
#define RP_SANDBOX_OCI_ROOTFS_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

enum { RP_ROOTFS_LAYERS_MAX = 16 };

/* Makes the tiny root at `dir` (replaces an older init in it) with a copy of `init_path`. What runs keeps its
 * own. */
int rp_rootfs_make_tiny(const char *dir, const char *init_path, struct rp_error *err) RP_MUST_CHECK;

/*
 * A sysfs that all sandboxes share, as a detached read-only mount: of an empty network namespace, so that it
 * tells nothing about the host's interfaces. The caller closes it.
 */
int rp_rootfs_open_sysfs(struct rp_error *err) RP_MUST_CHECK;

/* Removes all that is in dir/name, whatever strangers put there; a link in its place is left alone. */
int rp_rootfs_empty(const char *dir, const char *name, struct rp_error *err) RP_MUST_CHECK;

struct rp_rootfs_spec {
    const char *layers[RP_ROOTFS_LAYERS_MAX]; /* read-only, the uppermost first; ids as inside */
    size_t layer_count;
    const char *upper, *work; /* ids as inside; one file system */
    const char *files;        /* appears at /home/runner/app */
    uint32_t uid_base;
    int sysfs; /* of rp_rootfs_open_sysfs */
};

/* `pid` is the sandbox's init, alive and still on the tiny root. After a failure the sandbox is of no use. */
int rp_rootfs_attach(pid_t pid, const struct rp_rootfs_spec *spec, struct rp_error *err) RP_MUST_CHECK;

#endif
