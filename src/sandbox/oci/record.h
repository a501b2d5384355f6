/*
 * record.h: what is written down about a sandbox, and whether its init lives. Any thread; a sandbox by one
 * thread at a time.
 *
 * RUNTIME_DIR/sandboxes/ID/ (0700, tmpfs) exists from before anything of the sandbox does until after
 * everything of it is gone, so that a crash at any point leaves something to clean up from. In it: `init`
 * (pid and start time, written when the sandbox runs), `init.sock`, `log`, `burst-N`, and while it starts the
 * OCI bundle.
 */
#ifndef RP_SANDBOX_OCI_RECORD_H
#define RP_SANDBOX_OCI_RECORD_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/random.h"
#include "sandbox/oci/cgroup.h"

struct rp_oci_init {
    pid_t pid;
    uint64_t
        started; /* clock ticks since boot, field 22 of /proc/PID/stat: a pid alone may be another's by now */
};

/* Small files of a sandbox's directory: written whole or not at all. */
int rp_oci_file_write(int dir, const char *name, const char *text, struct rp_error *err) RP_MUST_CHECK;
/* RP_ERROR_NOT_FOUND when there is none. NUL-terminated. */
int rp_oci_file_read(int dir, const char *name, char *ret, size_t cap, struct rp_error *err) RP_MUST_CHECK;

/* Reads the pid that the runtime wrote to `pid_file`, finds its start time, and writes `init`. */
int rp_oci_init_record(int dir, const char *pid_file, struct rp_oci_init *ret,
                       struct rp_error *err) RP_MUST_CHECK;

/*
 * A pidfd (close-on-exec) of the sandbox's init, which is verified: recorded pid, start time and cgroup.
 * RP_ERROR_NOT_RUNNING when it has ended or never was recorded.
 */
int rp_oci_init_open(int dir, const char *id, struct rp_cgroups *cgroups, struct rp_oci_init *ret,
                     struct rp_error *err) RP_MUST_CHECK;

#endif
