/*
 * network_host.h: the few questions that the network has to the host's own: its uplink, its addresses,
 * whether the chosen prefix is free, and which interfaces are ours. Any thread, in the host's network
 * namespace.
 */
#ifndef RP_SANDBOX_OCI_NETWORK_HOST_H
#define RP_SANDBOX_OCI_NETWORK_HOST_H

#include "sandbox/oci/network_slot.h"

/* MTU of the interface that the IPv4 default route leaves by; 1500 without one. */
int rp_network_uplink_mtu(uint32_t *ret, struct rp_error *err) RP_MUST_CHECK;

/* RP_ERROR_CONFLICT, naming the interface, when an address overlaps the prefix or someone else's route lies
 * in it. */
int rp_network_prefix_free(const struct rp_network_place *p, struct rp_error *err) RP_MUST_CHECK;

/* True when the address is one of the host's. */
int rp_network_is_local(uint32_t address, bool *ret, struct rp_error *err) RP_MUST_CHECK;

/* Removes every interface of this place for which unused(ctx, index) says true; NULL: all. */
int rp_network_slots_sweep(const struct rp_network_place *p, bool (*unused)(void *ctx, uint32_t index),
                           void *ctx, struct rp_error *err) RP_MUST_CHECK;

#endif
