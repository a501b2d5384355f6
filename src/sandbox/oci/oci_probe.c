/*
 * Which runtime works here. A version says little: whether a sandbox starts depends on the kernel, the
 * cgroups and what surrounds this machine. So one is started and removed. The answer is kept with the
 * program's identity in the runtime directory, which does not outlive the machine's uptime, so that only the
 * first start of the server pays.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "sandbox/oci/config.h"
#include "sandbox/oci/oci_internal.h"
#include "sandbox/oci/record.h"
#include "sandbox/oci/seccomp.h"

#define ANSWER "runtime"

static int identity(const struct rp_oci *o, char ret[static 512], struct rp_error *err)
{
    struct stat st;
    if (stat(o->runtime.path, &st) < 0)
        return rp_error_errno(err, RP_ERROR_RUNTIME, errno, "\"%s\"", o->runtime.path);
    if (snprintf(ret, 512, "%s %" PRIu64 " %" PRId64 " %" PRId64 " %s %s\n", o->runtime.path,
                 (uint64_t)st.st_ino, (int64_t)st.st_mtime, (int64_t)st.st_size,
                 rp_cgroups_layout(o->cgroups), o->runtime.version) >= 512)
        return rp_error_set(err, RP_ERROR_RUNTIME, "\"%s\" is too long", o->runtime.path);
    return 0;
}

static int prepare_seccomp(struct rp_oci *o, struct rp_error *err)
{
    rp_buf_done(&o->seccomp);
    bool crun = o->runtime.kind == RP_RUNTIME_CRUN;
    rp_buf_init(&o->seccomp, crun ? 2 * RP_SECCOMP_BPF_MAX : RP_SECCOMP_JSON_MAX);
    return crun ? rp_seccomp_bpf_base64(&o->seccomp, err) : rp_seccomp_json(&o->seccomp, err);
}

static int try_sandbox(struct rp_oci *o, struct rp_error *err)
{
    char id[RP_ID_SIZE];
    rp_random_id(id);
    /* The last range: slots are given from the first on. */
    uint32_t uid_base = RP_OCI_UID_BASE + (RP_NETWORK_SLOTS - 1) * RP_OCI_UID_COUNT;
    int r = rp_oci_start(o, id, NULL, uid_base, err);
    struct rp_error ignored;
    if (rp_oci_remove(o, id, r < 0 ? &ignored : err) < 0)
        r = -1;
    return r;
}

static int use(struct rp_oci *o, const char *name, struct rp_error *err)
{
    char state[PATH_MAX], answer[512], before[512] = "";
    int dir = o->sandboxes_fd;
    if (snprintf(state, sizeof(state), "%s/oci", o->settings->runtime_dir) >= (int)sizeof(state))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is too long", o->settings->runtime_dir);
    if (rp_runtime_find(name, state, &o->runtime, err) < 0 || prepare_seccomp(o, err) < 0 ||
        identity(o, answer, err) < 0)
        return -1;
    if (rp_oci_file_read(dir, "." ANSWER, before, sizeof(before), NULL) == 0 && strcmp(before, answer) == 0)
        return 0;
    if (try_sandbox(o, err) < 0)
        return -1;
    return rp_oci_file_write(dir, "." ANSWER, answer, err);
}

int rp_oci_choose_runtime(struct rp_oci *o, struct rp_error *err)
{
    if (o->settings->oci_runtime && *o->settings->oci_runtime)
        return use(o, o->settings->oci_runtime, err);
    struct rp_error crun = {0}, runc = {0};
    if (use(o, "crun", &crun) == 0 || use(o, "runc", &runc) == 0)
        return 0;
    return rp_error_set(err, RP_ERROR_RUNTIME, "no OCI runtime works here (crun: %.160s; runc: %s)",
                        crun.message, runc.message);
}
