/*
 * network_foreign.h: accept rules in other firewalls' chains.
 *
 * nftables runs every base chain of a hook, and one drop is final: an accept of ours does not help a packet
 * that Docker's or ufw's FORWARD policy drops. So in each foreign base chain of the forward hook that is
 * iptables' FORWARD or has policy drop, two rules at the top accept what goes to and comes from slots; what
 * that may be is still decided by our own table, whose drops are final as well. The same for the input hook
 * when something on the host is open to slots. They are written as iptables-nft writes them itself
 * (interface, counter, verdict), so that `iptables -L` can still read them.
 *
 * Out of reach: rules further up that drop, and tables with an owner (firewalld 2).
 * Same thread rules as the nftables context that is passed in, with its output buffered.
 */
#ifndef RP_SANDBOX_OCI_NETWORK_FOREIGN_H
#define RP_SANDBOX_OCI_NETWORK_FOREIGN_H

#include <nftables/libnftables.h>
#include <stdbool.h>

#include "base/error.h"

/* Puts the rules where they are missing; input: in the input hook's chains too. */
int rp_network_foreign_accept(struct nft_ctx *nft, const char *tag, bool input,
                              struct rp_error *err) RP_MUST_CHECK;
/* True when none is missing. */
bool rp_network_foreign_accepted(struct nft_ctx *nft, const char *tag, bool input);
/* Removes them wherever they are. */
int rp_network_foreign_forget(struct nft_ctx *nft, const char *tag, struct rp_error *err) RP_MUST_CHECK;

#endif
