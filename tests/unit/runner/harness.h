/*
 * harness.h: a real repld-init in namespaces of its own, for the tests of runner/. Root only. The sandbox has
 * this machine's programs, a private /proc, /dev/pts, /home and /tmp, no network but its own loopback, and no
 * cgroups.
 */
#ifndef RP_TESTS_RUNNER_HARNESS_H
#define RP_TESTS_RUNNER_HARNESS_H

#include <sys/types.h>

struct rp_harness {
    pid_t init; /* seen from outside */
    char socket_name[64];
};

/* Path of the program under test: environment variable REPLD_INIT. Aborts when something is missing. */
void rp_harness_start(struct rp_harness *h);
/* A new connection to its init (SOCK_SEQPACKET, non-blocking). */
int rp_harness_connect(const struct rp_harness *h);
void rp_harness_stop(struct rp_harness *h);

#endif
