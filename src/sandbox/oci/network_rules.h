/*
 * network_rules.h: the firewall of the slots: one nftables table with sets, loaded through libnftables.
 *
 * The table is replaced as a whole, in one transaction, from what the caller says the slots' policies are;
 * single changes are transactions of set elements. So nothing is ever half applied, and a table that someone
 * else flushed comes back by loading it again. docs/internals/network.md says what each chain is for.
 *
 * One thread at a time (the network's mutex); libnftables contexts are not to be shared.
 */
#ifndef RP_SANDBOX_OCI_NETWORK_RULES_H
#define RP_SANDBOX_OCI_NETWORK_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "sandbox/oci/network_slot.h"

struct rp_network_rules;

struct rp_network_rules_options {
    const struct rp_network_place *place; /* must outlive the rules */
    uint32_t resolver;                    /* the real one */
    bool resolver_is_local;               /* it is an address of this host */
    const struct rp_cidr *permitted;      /* blocked ranges that stay reachable; copied */
    uint32_t permitted_count;
};

/* What one slot may do. */
struct rp_network_rules_slot {
    uint32_t index;
    const struct rp_network_policy *policy; /* NULL: RP_NETWORK_NONE */
};

int rp_network_rules_new(const struct rp_network_rules_options *options, struct rp_network_rules **ret,
                         struct rp_error *err) RP_MUST_CHECK;
/* The kernel keeps what was loaded. NULL-safe. */
void rp_network_rules_free(struct rp_network_rules *r);

/* Replaces the table, then makes other firewalls that would drop forwarded packets let ours decide. */
int rp_network_rules_load(struct rp_network_rules *r, const struct rp_network_rules_slot *slots,
                          uint32_t count, struct rp_error *err) RP_MUST_CHECK;

/* False when the table is not as rp_network_rules_load left it, set elements aside, or when another firewall
 * has lost or gained what needs our accept rules. */
bool rp_network_rules_intact(struct rp_network_rules *r);

/* Lets packets of the slot's interface with its address in. */
int rp_network_rules_slot_add(struct rp_network_rules *r, uint32_t index, struct rp_error *err) RP_MUST_CHECK;
/* policy: what it has now. */
int rp_network_rules_slot_drop(struct rp_network_rules *r, uint32_t index,
                               const struct rp_network_policy *policy, struct rp_error *err) RP_MUST_CHECK;
/* From one policy to another; NULL: RP_NETWORK_NONE. */
int rp_network_rules_slot_policy(struct rp_network_rules *r, uint32_t index,
                                 const struct rp_network_policy *from, const struct rp_network_policy *to,
                                 struct rp_error *err) RP_MUST_CHECK;

/* Removes the table and the accept rules in other firewalls' chains. */
int rp_network_rules_remove(struct rp_network_rules *r, struct rp_error *err) RP_MUST_CHECK;

/*
 * Brings a policy into the form that the rules want: host bits cleared, entries that another contains left
 * out. RP_ERROR_INVALID for an unknown mode, a prefix length above 32 or too many entries.
 */
int rp_network_policy_normalise(const struct rp_network_policy *policy, struct rp_network_policy *ret,
                                struct rp_error *err) RP_MUST_CHECK;

/* "A.B.C.D/N" or "A.B.C.D". False on anything else. Host bits are cleared. */
bool rp_network_cidr_parse(struct rp_str s, struct rp_cidr *ret);

enum { RP_NETWORK_CIDR_SIZE = 19 }; /* "255.255.255.255/32" */
void rp_network_cidr_format(struct rp_cidr c, char ret[static RP_NETWORK_CIDR_SIZE]);

#endif
