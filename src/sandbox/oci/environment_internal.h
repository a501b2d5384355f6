/*
 * environment_internal.h: what the files of the environment builder share: one build's state, and its tools.
 * Nobody else includes it.
 */
#ifndef RP_SANDBOX_OCI_ENVIRONMENT_INTERNAL_H
#define RP_SANDBOX_OCI_ENVIRONMENT_INTERNAL_H

#include "base/buf.h"
#include "sandbox/oci/environment_build.h"

/* One layer that is being built. Lives in the forked process, inside its mount namespace. */
struct rp_environment_job {
    const struct rp_environment_build *options;
    const struct rp_recipe *recipe;
    char *part;   /* layers/HASH.part: the layer's content so far */
    char *work;   /* layers/HASH.work: overlay's work directory, and scratch files */
    char *merged; /* where the whole system is seen: part itself for a base, else the overlay */
    int log;      /* descriptor of log/NAME.log */
    uint64_t started_ns;
    char step[64];
    unsigned percent;
};

/* Tells the one who watches. step NULL: the same as before. */
void rp_environment_step(struct rp_environment_job *job, const char *step, unsigned percent);

/*
 * Runs argv (found in PATH; stdin empty; stdout and stderr go to the log) and waits. Each line of its output
 * is passed to on_line (may be NULL; without its newline), which returns false to keep it out of the log. The
 * error of a command that fails has the last lines that were logged.
 */
int rp_environment_command(struct rp_environment_job *job, const char *const *argv, const char *const *env,
                           bool (*on_line)(struct rp_environment_job *job, char *line),
                           struct rp_error *err) RP_MUST_CHECK;
/* The same, and what it prints to stdout is appended to out instead; not logged. */
int rp_environment_command_output(const char *const *argv, struct rp_buf *out,
                                  struct rp_error *err) RP_MUST_CHECK;

/* The debian provider. Fills job->part. */
int rp_environment_debian(struct rp_environment_job *job, struct rp_error *err) RP_MUST_CHECK;
/* Lines of sources.list for the suite: the mirror's, else the host's own, else Debian's. */
int rp_environment_debian_sources(const char *mirror, const char *suite, struct rp_buf *out,
                                  struct rp_error *err) RP_MUST_CHECK;

/* Removes the tree at path, without crossing mount points. Nothing there is success. */
int rp_environment_remove_tree(const char *path, struct rp_error *err) RP_MUST_CHECK;
/* Writes a file of the recipe below root, making folders; no symbolic link is followed out of root. */
int rp_environment_put(const char *root, const char *path, struct rp_str content, unsigned mode,
                       struct rp_error *err) RP_MUST_CHECK;

#endif
