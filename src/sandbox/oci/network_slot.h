/*
 * network_slot.h: making and removing one slot: a network namespace, its veth pair, addresses and routes, all
 * by rtnetlink.
 *
 * Layout. The host's end is `<tag>v<index in hex>`; it has no address. The slot's end is eth0 with
 * address/32; its only neighbour is the gateway, an address that exists nowhere: both ends know each other's
 * MAC for good, so that no ARP is spoken. The host has a route address/32 to its end.
 *
 * rp_network_slot_make moves its thread into the new namespace and back: only the network's keeper thread
 * calls it. The others may be called by any thread.
 */
#ifndef RP_SANDBOX_OCI_NETWORK_SLOT_H
#define RP_SANDBOX_OCI_NETWORK_SLOT_H

#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "proto/orchestrator.h"
#include "sandbox/oci/network_netlink.h"

enum { RP_NETWORK_TAG_SIZE = 11 };

/* Where the slots of one server are; constant after rp_network_open. */
struct rp_network_place {
    char tag[RP_NETWORK_TAG_SIZE]; /* "rp" and 8 hexadecimal digits of the runtime directory */
    char directory[PATH_MAX - 64]; /* RUNTIME_DIR/netns */
    struct rp_cidr prefix;
    uint32_t gateway; /* also what DNS is asked at */
    bool resolver_on_loopback;
};

/* Address of a slot. */
uint32_t rp_network_slot_address(const struct rp_network_place *p, uint32_t index);
void rp_network_slot_interface(const struct rp_network_place *p, uint32_t index, char ret[static IFNAMSIZ]);
void rp_network_slot_path(const struct rp_network_place *p, uint32_t index, char ret[static PATH_MAX]);

/* Nothing is left behind by a failure. What a crash leaves vanishes with the thread, since the namespace is
 * bound to its path last. A stale interface of the same name is replaced. */
int rp_network_slot_make(const struct rp_network_place *p, uint32_t index, uint32_t mtu,
                         struct rp_error *err) RP_MUST_CHECK;

/* Lets go of the namespace. It ends, and its interface with it, when no process is left in it: the kernel
 * does that in batches shortly after, while removing an interface by name holds everybody up for tens of ms.
 */
int rp_network_slot_release(const struct rp_network_place *p, uint32_t index,
                            struct rp_error *err) RP_MUST_CHECK;

/* Removes the interface and the path, whichever is there, before it returns. */
int rp_network_slot_remove(const struct rp_network_place *p, uint32_t index,
                           struct rp_error *err) RP_MUST_CHECK;

/* 0, or the negative errno: -ENODEV when there is none of that name. */
int rp_network_link_delete(struct rp_netlink *n, const char *name) RP_MUST_CHECK;

/* True when namespace and interface are both there. */
bool rp_network_slot_whole(const struct rp_network_place *p, uint32_t index);

/* Bytes as the sandbox sees them. RP_ERROR_NOT_FOUND when the interface is gone. */
int rp_network_slot_stats(const struct rp_network_place *p, uint32_t index, uint64_t *ret_received,
                          uint64_t *ret_sent, struct rp_error *err) RP_MUST_CHECK;

#endif
