/*
 * environment.h: the built environments on this machine, as the OCI driver looks them up. Blocking; any
 * thread.
 *
 * ENVIRONMENTS_DIR/layers/HASH/ is a layer (a directory tree, owned as inside: uid 0 …, never changed once it
 * is there); ENVIRONMENTS_DIR/HASH.json says that it is complete and which layers are below it. The manifest
 * is written last, with fsync and rename, so a layer without one is a build that was interrupted. Built by
 * `repld stack build` (environment_build.h) while nothing else writes there.
 */
#ifndef RP_SANDBOX_OCI_ENVIRONMENT_H
#define RP_SANDBOX_OCI_ENVIRONMENT_H

#include <stdbool.h>

#include "base/error.h"
#include "base/settings.h"
#include "proto/orchestrator.h"

enum { RP_ENVIRONMENT_LAYERS_MAX = 8, RP_ENVIRONMENT_PATH_MAX = 512 };

struct rp_environment {
    size_t layer_count;
    /* Absolute paths of the read-only layers, the uppermost first, as overlayfs wants them in lowerdir=. */
    char layers[RP_ENVIRONMENT_LAYERS_MAX][RP_ENVIRONMENT_PATH_MAX];
    char name[64]; /* the stack that it was built for, for messages */
};

/*
 * RP_ERROR_ENVIRONMENT, with the command that builds it, when it is not built or not whole. hash: 64
 * lower-case hexadecimal digits, else RP_ERROR_INVALID (it comes from the gateway, which is not trusted).
 */
int rp_environment_find(const char *environments_dir, const char *hash, struct rp_environment *ret,
                        struct rp_error *err) RP_MUST_CHECK;

/*
 * Writes the host's layer, which goes above an environment's layers (first in lowerdir=): /etc/resolv.conf
 * with `resolver`, /etc/hosts, /etc/hostname, and where set the CA bundle (RP_SANDBOX_CA_BUNDLE) and the
 * mirror settings of pip, npm and git. Called by the driver when it opens; `dir` is made, and what is in it
 * is replaced file by file, atomically, so that sandboxes of an earlier server see whole files. Owned by uid
 * 0.
 */
int rp_environment_host_layer_write(const char *dir, const struct rp_settings *settings, const char *resolver,
                                    struct rp_error *err) RP_MUST_CHECK;

#endif
