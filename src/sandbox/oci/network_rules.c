#include "sandbox/oci/network_rules.h"

#include <inttypes.h>
#include <nftables/libnftables.h>
#include <string.h>

#include "base/buf.h"
#include "sandbox/oci/network.h"
#include "sandbox/oci/network_foreign.h"

enum { COMMANDS_MAX = 32 << 20, NAME_SIZE = 32 };

struct rp_network_rules {
    struct rp_network_rules_options options;
    struct rp_cidr *permitted; /* what options.permitted points to */
    struct nft_ctx *nft;
    char table[NAME_SIZE];
    char *loaded; /* the kernel's listing right after loading, without set elements */
};

/* Ranges that no sandbox may reach: this network, private, shared (CGNAT), loopback, link-local (metadata
 * services live there), IETF protocol assignments, benchmarking, multicast, reserved, and the one public
 * address that is a cloud's internal service. Documentation ranges (TEST-NET) route nowhere in earnest, and
 * laboratories use them: they stay open. */
static const char BLOCKED[] = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, "
                              "172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/4, "
                              "240.0.0.0/4, 168.63.129.16/32";

int rp_network_rules_new(const struct rp_network_rules_options *options, struct rp_network_rules **ret,
                         struct rp_error *err)
{
    struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (!nft)
        return rp_error_set(err, RP_ERROR_INTERNAL, "open nftables");
    nft_ctx_buffer_output(nft);
    nft_ctx_buffer_error(nft);
    struct rp_network_rules *r = rp_calloc(1, sizeof(*r));
    r->nft = nft;
    r->options = *options;
    r->permitted = rp_calloc(RP_MAX(options->permitted_count, 1u), sizeof(*r->permitted));
    if (options->permitted_count > 0)
        memcpy(r->permitted, options->permitted, options->permitted_count * sizeof(*r->permitted));
    r->options.permitted = r->permitted;
    snprintf(r->table, sizeof(r->table), "repld_%s", options->place->tag + 2);
    *ret = r;
    return 0;
}

void rp_network_rules_free(struct rp_network_rules *r)
{
    if (!r)
        return;
    nft_ctx_free(r->nft);
    free(r->permitted);
    free(r->loaded);
    free(r);
}

/* ---- text ---- */

struct text {
    struct rp_buf buf;
    bool failed;
};

static void text_done(struct text *t)
{
    rp_buf_done(&t->buf);
}

#define say(t, ...) ((t)->failed = !rp_buf_printf(&(t)->buf, __VA_ARGS__) || (t)->failed)

static void say_address(struct text *t, uint32_t a)
{
    say(t, "%u.%u.%u.%u", a >> 24, (a >> 16) & 255, (a >> 8) & 255, a & 255);
}

static void say_cidr(struct text *t, struct rp_cidr c)
{
    char s[RP_NETWORK_CIDR_SIZE];
    rp_network_cidr_format(c, s);
    say(t, "%s", s);
}

static int run(struct rp_network_rules *r, struct text *t, const char *what, struct rp_error *err)
{
    if (t->failed || !rp_buf_append(&t->buf, "", 1))
        return rp_error_set(err, RP_ERROR_INTERNAL, "%s: the commands are too long", what);
    if (nft_run_cmd_from_buffer(r->nft, rp_buf_view(&t->buf).p) == 0)
        return 0;
    const char *why = nft_ctx_get_error_buffer(r->nft);
    struct rp_str first = rp_str_cut(rp_str_of(why ? why : "no reason given"), '\n', &(struct rp_str){0});
    return rp_error_set(err, RP_ERROR_INTERNAL, "%s: nftables: %.*s", what, (int)RP_MIN(first.n, (size_t)250),
                        first.p);
}

static void say_sets(struct text *t, const struct rp_network_rules *r)
{
    say(t,
        " set slots { type ifname . ipv4_addr; }\n"
        " set internet { type ipv4_addr; }\n"
        " set listed { type ipv4_addr; }\n"
        " set allowed { type ipv4_addr . ipv4_addr; flags interval; }\n"
        " set connections { type ipv4_addr; size 65535; flags dynamic; }\n"
        " set blocked { type ipv4_addr; flags interval; auto-merge; elements = { %s, ",
        BLOCKED);
    say_cidr(t, r->options.place->prefix);
    say(t, " }; }\n set permitted { type ipv4_addr; flags interval; auto-merge;");
    for (uint32_t i = 0; i < r->options.permitted_count; i++) {
        say(t, "%s", i == 0 ? " elements = { " : ", ");
        say_cidr(t, r->permitted[i]);
    }
    say(t, "%s }\n set permitted_here { type ipv4_addr;", r->options.permitted_count ? " };" : "");
    uint32_t here = 0;
    for (uint32_t i = 0; i < r->options.permitted_count; i++) {
        if (r->permitted[i].prefix != 32)
            continue;
        say(t, "%s", here++ == 0 ? " elements = { " : ", ");
        say_address(t, r->permitted[i].address);
    }
    say(t, "%s }\n", here ? " };" : "");
}

static void say_chains(struct text *t, const struct rp_network_rules *r)
{
    const char *tag = r->options.place->tag;
    char gateway[RP_NETWORK_CIDR_SIZE], resolver[RP_NETWORK_CIDR_SIZE], prefix[RP_NETWORK_CIDR_SIZE];
    rp_network_cidr_format((struct rp_cidr){r->options.place->gateway, 32}, gateway);
    rp_network_cidr_format((struct rp_cidr){r->options.resolver, 32}, resolver);
    rp_network_cidr_format(r->options.place->prefix, prefix);
    *strchr(gateway, '/') = '\0';
    *strchr(resolver, '/') = '\0';

    /* Everything a slot sends: only from its own address, never to the host. It is before connection tracking
     * and before anyone's DNAT, which could turn an address of the host into another. */
    say(t,
        " chain guard { type filter hook prerouting priority raw; policy accept;"
        " iifname \"%sv*\" goto guarded; }\n"
        " chain guarded {\n"
        "  iifname . ip saddr != @slots drop\n"
        "  ip daddr %s meta l4proto { tcp, udp } th dport 53 accept\n"
        "  ip daddr %s drop\n"
        "  ip daddr @permitted_here accept\n"
        "  fib daddr type { local, broadcast, anycast, multicast } drop\n }\n",
        tag, gateway, gateway);
    say(t,
        " chain resolve { type nat hook prerouting priority dstnat; policy accept;\n"
        "  iifname \"%sv*\" ip daddr %s meta l4proto { tcp, udp } th dport 53 dnat to %s\n }\n",
        tag, gateway, resolver);
    say(t,
        " chain forward { type filter hook forward priority filter; policy accept;\n"
        "  iifname \"%sv*\" goto outbound\n"
        "  oifname \"%sv*\" goto inbound\n }\n"
        " chain refused { reject with icmp type admin-prohibited; }\n"
        " chain outbound {\n"
        "  ip saddr != @internet ip saddr != @listed goto refused\n"
        "  oifname \"%sv*\" drop\n"
        "  ct state invalid drop\n"
        "  ct state new add @connections { ip saddr ct count over %d } drop\n"
        "  tcp flags syn tcp option maxseg size set rt mtu\n"
        "  ip daddr %s ct original ip daddr %s accept\n"
        "  ip saddr @listed goto outbound_listed\n"
        "  goto outbound_open\n }\n"
        " chain outbound_listed { ip saddr . ip daddr @allowed goto outbound_open; goto refused; }\n"
        " chain outbound_open {\n"
        "  ip daddr @permitted accept\n"
        "  ip daddr @blocked goto refused\n"
        "  accept\n }\n",
        tag, tag, tag, RP_NETWORK_CONNECTIONS, resolver, gateway);
    say(t, " chain inbound {\n"
           "  ct state established,related ip daddr @internet accept\n"
           "  ct state established,related ip daddr @listed accept\n"
           "  drop\n }\n");
    /* The host itself: answers DNS when the resolver is here, and starts no connection into a sandbox. */
    say(t,
        " chain input { type filter hook input priority filter; policy accept;"
        " iifname \"%sv*\" goto input_slot; }\n"
        " chain input_slot {\n"
        "  ip saddr != @internet ip saddr != @listed goto refused\n"
        "  ct original ip daddr %s meta l4proto { tcp, udp } th dport 53 accept\n"
        "  ip saddr @internet ip daddr @permitted_here accept\n"
        "  ip saddr . ip daddr @allowed ip daddr @permitted_here accept\n"
        "  drop\n }\n"
        " chain output { type filter hook output priority filter; policy accept;"
        " oifname \"%sv*\" goto output_slot; }\n"
        " chain output_slot { ct state established,related accept; icmp type destination-unreachable accept; "
        "drop; }\n"
        " chain translate { type nat hook postrouting priority srcnat; policy accept;\n"
        "  ip saddr %s oifname != \"%sv*\" masquerade\n }\n",
        tag, gateway, tag, prefix, tag);
}

/* "add element …" or "delete element …" of a slot's place in `slots`. */
static void say_slot(struct text *t, const struct rp_network_rules *r, const char *verb, uint32_t index)
{
    char name[IFNAMSIZ];
    rp_network_slot_interface(r->options.place, index, name);
    say(t, "%s element ip %s slots { \"%s\" . ", verb, r->table, name);
    say_address(t, rp_network_slot_address(r->options.place, index));
    say(t, " }\n");
}

static void say_mode(struct text *t, const struct rp_network_rules *r, const char *verb, uint32_t index,
                     uint8_t mode)
{
    if (mode == RP_NETWORK_NONE)
        return;
    say(t, "%s element ip %s %s { ", verb, r->table, mode == RP_NETWORK_INTERNET ? "internet" : "listed");
    say_address(t, rp_network_slot_address(r->options.place, index));
    say(t, " }\n");
}

static bool has_range(const struct rp_network_policy *p, struct rp_cidr c)
{
    for (uint32_t i = 0; p && i < p->count; i++)
        if (p->allow[i].address == c.address && p->allow[i].prefix == c.prefix)
            return true;
    return false;
}

/* The ranges of `policy` that are not in `except`. */
static void say_ranges(struct text *t, const struct rp_network_rules *r, const char *verb, uint32_t index,
                       const struct rp_network_policy *policy, const struct rp_network_policy *except)
{
    bool any = false;
    for (uint32_t i = 0; policy && i < policy->count; i++) {
        if (has_range(except, policy->allow[i]))
            continue;
        if (any)
            say(t, ", ");
        else
            say(t, "%s element ip %s allowed { ", verb, r->table);
        any = true;
        say_address(t, rp_network_slot_address(r->options.place, index));
        say(t, " . ");
        say_cidr(t, policy->allow[i]);
    }
    if (any)
        say(t, " }\n");
}

/* ---- the table ---- */

/* Something on the host itself is open to sandboxes: the resolver, or a permitted service. */
static bool needs_input(const struct rp_network_rules *r)
{
    bool needed = r->options.resolver_is_local;
    for (uint32_t i = 0; i < r->options.permitted_count; i++)
        needed = needed || r->permitted[i].prefix == 32;
    return needed;
}

/* The listing without handles, counters and set elements: equal text means that nobody touched it. */
static char *listing(struct rp_network_rules *r)
{
    _cleanup_(text_done) struct text t = {0};
    rp_buf_init(&t.buf, 256);
    say(&t, "list table ip %s", r->table);
    unsigned before = nft_ctx_output_get_flags(r->nft);
    nft_ctx_output_set_flags(r->nft, before | NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_TERSE);
    int failed = run(r, &t, "list", NULL);
    nft_ctx_output_set_flags(r->nft, before);
    const char *out = nft_ctx_get_output_buffer(r->nft);
    return failed < 0 || !out ? NULL : rp_strdup(out);
}

int rp_network_rules_load(struct rp_network_rules *r, const struct rp_network_rules_slot *slots,
                          uint32_t count, struct rp_error *err)
{
    _cleanup_(text_done) struct text t = {0};
    rp_buf_init(&t.buf, COMMANDS_MAX);
    /* Added first so that deleting it cannot fail; all of it is one transaction. */
    say(&t, "add table ip %s\ndelete table ip %s\ntable ip %s {\n", r->table, r->table, r->table);
    say_sets(&t, r);
    say_chains(&t, r);
    say(&t, "}\n");
    for (uint32_t i = 0; i < count; i++) {
        say_slot(&t, r, "add", slots[i].index);
        if (slots[i].policy) {
            say_mode(&t, r, "add", slots[i].index, slots[i].policy->mode);
            say_ranges(&t, r, "add", slots[i].index, slots[i].policy, NULL);
        }
    }
    if (run(r, &t, "load the firewall of the sandboxes", err) < 0)
        return -1;
    free(r->loaded);
    r->loaded = listing(r);
    if (!r->loaded)
        return rp_error_set(err, RP_ERROR_INTERNAL, "read the firewall of the sandboxes back");
    return rp_network_foreign_accept(r->nft, r->options.place->tag, needs_input(r), err);
}

bool rp_network_rules_intact(struct rp_network_rules *r)
{
    _cleanup_free_ char *now = listing(r);
    return now && r->loaded && strcmp(now, r->loaded) == 0 &&
           rp_network_foreign_accepted(r->nft, r->options.place->tag, needs_input(r));
}

int rp_network_rules_slot_add(struct rp_network_rules *r, uint32_t index, struct rp_error *err)
{
    _cleanup_(text_done) struct text t = {0};
    rp_buf_init(&t.buf, 1024);
    say_slot(&t, r, "add", index);
    return run(r, &t, "let a sandbox's network slot in", err);
}

int rp_network_rules_slot_drop(struct rp_network_rules *r, uint32_t index,
                               const struct rp_network_policy *policy, struct rp_error *err)
{
    _cleanup_(text_done) struct text t = {0};
    rp_buf_init(&t.buf, 64 * 1024);
    say_slot(&t, r, "delete", index);
    if (policy) {
        say_mode(&t, r, "delete", index, policy->mode);
        say_ranges(&t, r, "delete", index, policy, NULL);
    }
    return run(r, &t, "take a sandbox's network slot out", err);
}

int rp_network_rules_slot_policy(struct rp_network_rules *r, uint32_t index,
                                 const struct rp_network_policy *from, const struct rp_network_policy *to,
                                 struct rp_error *err)
{
    _cleanup_(text_done) struct text t = {0};
    uint8_t before = from ? from->mode : RP_NETWORK_NONE, after = to ? to->mode : RP_NETWORK_NONE;
    rp_buf_init(&t.buf, 64 * 1024);
    say_ranges(&t, r, "delete", index, from, to);
    if (before != after)
        say_mode(&t, r, "delete", index, before);
    say_ranges(&t, r, "add", index, to, from);
    if (before != after)
        say_mode(&t, r, "add", index, after);
    if (t.buf.length == 0 && !t.failed)
        return 0;
    return run(r, &t, "set a sandbox's network policy", err);
}

int rp_network_rules_remove(struct rp_network_rules *r, struct rp_error *err)
{
    _cleanup_(text_done) struct text t = {0};
    rp_buf_init(&t.buf, 256);
    say(&t, "add table ip %s\ndelete table ip %s\n", r->table, r->table);
    if (run(r, &t, "remove the firewall of the sandboxes", err) < 0)
        return -1;
    return rp_network_foreign_forget(r->nft, r->options.place->tag, err);
}
