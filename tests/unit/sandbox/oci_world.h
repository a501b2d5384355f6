/*
 * oci_world.h: what the driver needs around it, for one test program: everything below
 * /var/tmp/repld-test-oci-PID, a cgroup of that name, and a network that reaches nothing (the caller has
 * unshared its network namespace).
 */
#ifndef RP_TESTS_OCI_WORLD_H
#define RP_TESTS_OCI_WORLD_H

#include "sandbox/oci/network.h"
#include "sandbox/oci/oci.h"

/* One layer, in which there is only /bin/inside (inside.c). */
#define OCI_ENVIRONMENT "00000000000000000000000000000000000000000000000000000000000000aa"

extern char oci_base[64];
extern struct rp_settings oci_settings;
extern struct rp_network *oci_network;
extern struct rp_driver *oci_driver;
extern const char *oci_runtime_name; /* NULL: the driver's own choice */
extern const struct rp_limits OCI_LIMITS;

int oci_world_set_up(void **state);
int oci_world_tear_down(void **state);

void oci_must(int r, const struct rp_error *e);         /* fails the test with e's message */
void oci_path(char *ret, size_t cap, const char *path); /* below oci_base */
void oci_volume(const char *name);                      /* makes a project's three directories */
void oci_open_driver(void);
struct rp_sandbox_spec oci_spec(const char *id, const char *volume); /* four at a time are valid */

/* Made, claimed, connected, HELLO said, cgroup given; returns the connection. */
int oci_begin(const char *id, const char *volume);
void oci_destroy(const char *id);

#endif
