/*
 * seccomp.h: the system calls that a sandbox may make. Built once when the driver opens; constant afterwards,
 * any thread.
 *
 * The list is Debian's containers profile (seccomp_profile.inc) without mounting, namespaces, keyrings,
 * io_uring, bpf and perf: those answer EPERM. clone with a namespace flag answers EPERM, and clone3, whose
 * flags a filter cannot see, ENOSYS, upon which C libraries use clone. What the profile does not know answers
 * ENOSYS.
 */
#ifndef RP_SANDBOX_OCI_SECCOMP_H
#define RP_SANDBOX_OCI_SECCOMP_H

#include "base/buf.h"
#include "base/error.h"

enum { RP_SECCOMP_JSON_MAX = 64 * 1024, RP_SECCOMP_BPF_MAX = 128 * 1024 };

/* The value of an OCI config's linux.seccomp, for runtimes that compile it at each start. */
int rp_seccomp_json(struct rp_buf *out, struct rp_error *err) RP_MUST_CHECK;

/*
 * The same filter compiled, in base64: the value of the annotation run.oci.seccomp_bpf_data, by which crun
 * saves half of a start.
 */
int rp_seccomp_bpf_base64(struct rp_buf *out, struct rp_error *err) RP_MUST_CHECK;

#endif
