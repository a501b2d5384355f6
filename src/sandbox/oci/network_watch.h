/*
 * network_watch.h: the kernel's notices that someone changed nftables tables, chains or deleted rules
 * (`nft flush ruleset`, a firewall's restart): the moment to look whether ours is still whole. Changes of set
 * elements, which are ours and frequent, are left out. One thread.
 */
#ifndef RP_SANDBOX_OCI_NETWORK_WATCH_H
#define RP_SANDBOX_OCI_NETWORK_WATCH_H

#include <stdbool.h>

#include "base/error.h"

/* A non-blocking netlink socket, readable when there are notices; the caller closes it. -1 when the kernel
 * has none to give: the caller then looks by itself now and then. */
int rp_network_watch_open(struct rp_error *err);

/* Empties the socket; true when something of interest, or more than was kept, was among it. */
bool rp_network_watch_read(int fd);

#endif
