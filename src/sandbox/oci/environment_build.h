/*
 * environment_build.h: builds the layers of an environment from their recipes. For `repld stack build`, as
 * root, from a process with one thread (it forks).
 *
 * The debian provider: a base layer by mmdebstrap; a layer above it by apt in an overlay, of which the upper
 * directory is kept. All in a mount namespace of its own, so that nothing stays mounted whatever happens. A
 * layer is built as layers/HASH.part and renamed when whole, then HASH.json is written: a build that was
 * interrupted starts that layer again and keeps the finished ones. One build at a time (a lock file; the next
 * one waits).
 */
#ifndef RP_SANDBOX_OCI_ENVIRONMENT_BUILD_H
#define RP_SANDBOX_OCI_ENVIRONMENT_BUILD_H

#include <stdint.h>

#include "base/error.h"
#include "base/recipe.h"

struct rp_environment_build {
    const char *environments_dir; /* made when it does not exist */
    const char *debian_mirror;    /* or NULL: the host's own sources */
    /* Called when the step changes and about once a second; from a forked process. NULL: quiet. */
    void (*progress)(const char *layer, const char *step, unsigned percent, unsigned elapsed_s);
    /* Called when another build holds the lock. NULL: wait quietly. */
    void (*waiting)(void);
};

/* Whether the layer and those below it are built and whole. */
bool rp_environment_built(const char *environments_dir, const struct rp_recipe *recipe);

/*
 * Builds the recipe's layer and those below that are missing. 1 when something was built, 0 when all was
 * there. On failure the error has the last lines of the tool's output; the whole of it is in
 * ENVIRONMENTS_DIR/log/NAME.log.
 */
int rp_environment_build(const struct rp_environment_build *b, const struct rp_recipe *recipe,
                         struct rp_error *err) RP_MUST_CHECK;

#endif
