/*
 * network.h: the network of sandboxes in the OCI driver: slots and the firewall.
 *
 * A slot is a network namespace (owned by the host's user namespace, so that nothing inside can change it)
 * with `lo`, and `eth0` that is one end of a veth pair; the other end stays on the host, which routes. Slots
 * are made ahead by a thread of this module; taking one costs a pop and a small file. One nftables ruleset
 * with sets says what a slot may reach. What is true is written below RUNTIME_DIR/netns (the namespaces as
 * bind mounts, a record for each taken slot); kernel state is derived from it, at every open and whenever
 * someone else flushed it. docs/internals/network.md has the picture.
 *
 * Any thread; an internal mutex. One rp_network per runtime directory (a lock file holds that); several
 * servers with different runtime directories and prefixes live on one machine.
 */
#ifndef RP_SANDBOX_OCI_NETWORK_H
#define RP_SANDBOX_OCI_NETWORK_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "proto/orchestrator.h"

enum {
    RP_NETWORK_SLOTS = 4096,
    RP_NETWORK_READY_DEFAULT = 4, /* slots kept ready */
    RP_NETWORK_READY_MAX = 256,
    RP_NETWORK_CONNECTIONS = 4096,  /* concurrent connections of one slot; a scanner must not fill the host's
                                       table of them */
    RP_NETWORK_PERMITTED_MAX = 256, /* entries of allow_hosts */
};

struct rp_network;

struct rp_network_options {
    const char *runtime_dir; /* absolute, on tmpfs, exists; names of interfaces and tables derive from it */
    const char *prefix;      /* "100.88.0.0/16"; /8 to /19, no host bits */
    const char *resolver;    /* IPv4 address that DNS of sandboxes goes to; NULL or "": the host's own */
    const char *allow_hosts; /* "CIDR[,CIDR…]": otherwise blocked ranges that stay reachable; a /32 may be an
                                address of the host itself. NULL or "": none */
    uint32_t ready;          /* slots to keep ready; 0: RP_NETWORK_READY_DEFAULT */
};

struct rp_network_slot {
    uint32_t index;       /* 0 to RP_NETWORK_SLOTS - 1; the sandbox's for as long as it lives */
    uint32_t address;     /* IPv4, host order */
    char netns[PATH_MAX]; /* bind-mounted network namespace: linux.namespaces[].path of the OCI config */
};

/*
 * Checks the settings, takes the lock, adopts the slots and records that exist, loads the ruleset, turns
 * net.ipv4.ip_forward on when it is off, and starts the maker thread. Idempotent: existing sandboxes notice
 * nothing. RP_ERROR_INVALID for a malformed setting, RP_ERROR_CONFLICT when the prefix is used by another
 * interface or the runtime directory by another process.
 */
int rp_network_open(const struct rp_network_options *options, struct rp_network **ret,
                    struct rp_error *err) RP_MUST_CHECK;

/* Stops the thread and frees memory; slots, firewall and records stay. NULL-safe. */
void rp_network_close(struct rp_network *n);

/* Removes every slot (used ones too) and the ruleset, then closes: for tests and for uninstalling. */
int rp_network_destroy_all(struct rp_network *n, struct rp_error *err);

/* The name server that a sandbox's /etc/resolv.conf must name; IPv4, host order. It is an address of the
 * slots' own network, translated to the real resolver. */
uint32_t rp_network_resolver(const struct rp_network *n);

/*
 * Gives the sandbox a slot, with policy RP_NETWORK_NONE. Idempotent: a sandbox that has one gets the same
 * again, its policy kept. Under 1 ms when one is ready, else waits for one to be made (some ms).
 * RP_ERROR_UNAVAILABLE when all are taken.
 */
int rp_network_slot_take(struct rp_network *n, const char *sandbox, struct rp_network_slot *ret,
                         struct rp_error *err) RP_MUST_CHECK;

/* The slot that the sandbox has; RP_ERROR_NOT_FOUND without one. */
int rp_network_slot_find(struct rp_network *n, const char *sandbox, struct rp_network_slot *ret,
                         struct rp_error *err) RP_MUST_CHECK;

/* Cuts the sandbox's traffic at once and lets go of the slot: the kernel removes it when its last process is
 * gone. Idempotent; succeeds when it has none. A namespace is never used twice. */
int rp_network_slot_give(struct rp_network *n, const char *sandbox, struct rp_error *err) RP_MUST_CHECK;

/*
 * What the sandbox may reach from now on; open connections that the new policy forbids stop too. `allow`
 * opens only what the list names, minus what is blocked for everyone, and DNS. RP_ERROR_INVALID for an
 * unknown mode or a bad prefix length; host bits of a CIDR are ignored.
 */
int rp_network_policy_set(struct rp_network *n, const char *sandbox, const struct rp_network_policy *policy,
                          struct rp_error *err) RP_MUST_CHECK;

/* Bytes received and sent by the sandbox since the slot was made. */
int rp_network_stats(struct rp_network *n, const char *sandbox, uint64_t *ret_received, uint64_t *ret_sent,
                     struct rp_error *err) RP_MUST_CHECK;

/* Every sandbox id that has a slot, half given back or whole. `each` must not call back into this module. */
int rp_network_list(struct rp_network *n, void (*each)(void *ctx, const char *sandbox), void *ctx,
                    struct rp_error *err) RP_MUST_CHECK;

/* Gives back the slots of sandboxes for which alive(ctx, sandbox) says false; returns how many, or -1. */
int rp_network_reap(struct rp_network *n, bool (*alive)(void *ctx, const char *sandbox), void *ctx,
                    struct rp_error *err) RP_MUST_CHECK;

/* Asks the kernel whether ruleset, forwarding and the ready slots are in place. */
int rp_network_check(struct rp_network *n, struct rp_error *err) RP_MUST_CHECK;

#endif
