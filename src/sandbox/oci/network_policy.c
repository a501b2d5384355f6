/* Policies and CIDRs as values: checking, normal form, text. */
#include <arpa/inet.h>

#include "sandbox/oci/network_rules.h"

static uint32_t mask_of(uint8_t prefix)
{
    return prefix == 0 ? 0 : ~UINT32_C(0) << (32 - prefix);
}

static bool contains(struct rp_cidr outer, struct rp_cidr inner)
{
    return outer.prefix <= inner.prefix && (inner.address & mask_of(outer.prefix)) == outer.address;
}

bool rp_network_cidr_parse(struct rp_str s, struct rp_cidr *ret)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr address;
    uint64_t prefix = 32;
    struct rp_str length, host = rp_str_cut(s, '/', &length);
    bool has_length = host.n < s.n;
    if (!rp_str_copy(text, sizeof(text), host) || inet_pton(AF_INET, text, &address) != 1)
        return false;
    if (has_length && !rp_str_to_u64(length, 32, &prefix))
        return false;
    *ret = (struct rp_cidr){ntohl(address.s_addr) & mask_of((uint8_t)prefix), (uint8_t)prefix};
    return true;
}

void rp_network_cidr_format(struct rp_cidr c, char ret[static RP_NETWORK_CIDR_SIZE])
{
    snprintf(ret, RP_NETWORK_CIDR_SIZE, "%u.%u.%u.%u/%u", c.address >> 24, (c.address >> 16) & 255,
             (c.address >> 8) & 255, c.address & 255, RP_MIN(c.prefix, (uint8_t)32));
}

int rp_network_policy_normalise(const struct rp_network_policy *policy, struct rp_network_policy *ret,
                                struct rp_error *err)
{
    struct rp_network_policy out = {.mode = policy->mode};
    if (policy->mode != RP_NETWORK_NONE && policy->mode != RP_NETWORK_INTERNET &&
        policy->mode != RP_NETWORK_ALLOW)
        return rp_error_set(err, RP_ERROR_INVALID, "network policy %u is unknown", policy->mode);
    uint32_t count = policy->mode == RP_NETWORK_ALLOW ? policy->count : 0;
    if (count > RP_ALLOWED_CIDRS_MAX)
        return rp_error_set(err, RP_ERROR_INVALID, "a network policy allows at most %d ranges",
                            RP_ALLOWED_CIDRS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct rp_cidr c = policy->allow[i];
        if (c.prefix > 32)
            return rp_error_set(err, RP_ERROR_INVALID, "a network range's prefix length is %u, above 32",
                                c.prefix);
        c.address &= mask_of(c.prefix);
        bool covered = false;
        uint32_t kept = 0;
        for (uint32_t j = 0; j < out.count; j++) {
            covered = covered || contains(out.allow[j], c);
            if (covered || !contains(c, out.allow[j]))
                out.allow[kept++] = out.allow[j];
        }
        out.count = kept;
        if (!covered)
            out.allow[out.count++] = c;
    }
    *ret = out;
    return 0;
}
