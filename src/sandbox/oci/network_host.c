#include "sandbox/oci/network_host.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox/oci/network_netlink.h"

static uint32_t address_in(const struct nlattr *a)
{
    uint32_t wire = 0;
    if (a && rp_netlink_size(a) == sizeof(wire))
        memcpy(&wire, rp_netlink_data(a), sizeof(wire));
    return ntohl(wire);
}

static uint32_t number_in(const struct nlattr *a, uint32_t otherwise)
{
    uint32_t v = otherwise;
    if (a && rp_netlink_size(a) == sizeof(v))
        memcpy(&v, rp_netlink_data(a), sizeof(v));
    return v;
}

/* A dump that the kernel says was interrupted by a change is asked for again. */
static int dump(uint16_t type, const void *header, size_t header_size,
                void (*each)(void *ctx, const struct nlmsghdr *h), void *ctx, struct rp_error *err)
{
    _cleanup_(rp_netlink_close) struct rp_netlink host = {.fd = -1};
    if (rp_netlink_open(NETLINK_ROUTE, &host, err) < 0)
        return -1;
    int r = -EAGAIN;
    for (int i = 0; i < 10 && r == -EAGAIN; i++) {
        struct rp_netlink_message m;
        rp_netlink_begin(&m, type, NLM_F_DUMP, header, header_size);
        r = rp_netlink_query(&host, &m, each, ctx);
    }
    if (r < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "ask the kernel for the host's network");
    return 0;
}

struct uplink {
    uint32_t link, metric;
};

static void keep_uplink(void *ctx, const struct nlmsghdr *h)
{
    struct uplink *u = ctx;
    const struct rtmsg *route = NLMSG_DATA(h);
    const struct nlattr *a[RTA_TABLE + 1];
    rp_netlink_attributes(h, sizeof(*route), a, RTA_TABLE);
    if (route->rtm_dst_len != 0 || route->rtm_type != RTN_UNICAST ||
        number_in(a[RTA_TABLE], route->rtm_table) != RT_TABLE_MAIN || !a[RTA_OIF])
        return;
    uint32_t metric = number_in(a[RTA_PRIORITY], 0);
    if (u->link == 0 || metric < u->metric) {
        u->link = number_in(a[RTA_OIF], 0);
        u->metric = metric;
    }
}

static void keep_mtu(void *ctx, const struct nlmsghdr *h)
{
    const struct nlattr *a[IFLA_MTU + 1];
    rp_netlink_attributes(h, sizeof(struct ifinfomsg), a, IFLA_MTU);
    *(uint32_t *)ctx = number_in(a[IFLA_MTU], *(uint32_t *)ctx);
}

int rp_network_uplink_mtu(uint32_t *ret, struct rp_error *err)
{
    struct uplink u = {0};
    struct rtmsg route = {.rtm_family = AF_INET};
    if (dump(RTM_GETROUTE, &route, sizeof(route), keep_uplink, &u, err) < 0)
        return -1;
    uint32_t mtu = 1500;
    if (u.link) {
        _cleanup_(rp_netlink_close) struct rp_netlink host = {.fd = -1};
        struct rp_netlink_message m;
        struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_index = (int)u.link};
        if (rp_netlink_open(NETLINK_ROUTE, &host, err) < 0)
            return -1;
        rp_netlink_begin(&m, RTM_GETLINK, 0, &info, sizeof(info));
        int r = rp_netlink_query(&host, &m, keep_mtu, &mtu);
        if (r < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "read the MTU of the uplink");
    }
    /* A loopback-sized MTU on the way out would only make large packets that are then fragmented. */
    *ret = mtu < 576 ? 576 : mtu > 9000 ? 9000 : mtu;
    return 0;
}

static uint32_t mask_of(uint8_t prefix_length)
{
    return prefix_length == 0 ? 0 : ~UINT32_C(0) << (32 - prefix_length);
}

struct clash {
    const struct rp_network_place *place;
    bool found;
    char interface[IFNAMSIZ];
    struct rp_cidr other;
};

static bool is_ours(const struct clash *c, const char *interface)
{
    size_t n = strlen(c->place->tag);
    return strncmp(interface, c->place->tag, n) == 0 && interface[n] == 'v';
}

static void keep_clash(struct clash *c, uint32_t link, uint32_t address, uint8_t length)
{
    char name[IFNAMSIZ] = "?";
    if (!if_indextoname(link, name))
        return; /* gone meanwhile */
    if (is_ours(c, name))
        return;
    c->found = true;
    memcpy(c->interface, name, sizeof(name));
    c->other = (struct rp_cidr){address, length};
}

static void look_at_address(void *ctx, const struct nlmsghdr *h)
{
    struct clash *c = ctx;
    const struct ifaddrmsg *info = NLMSG_DATA(h);
    const struct nlattr *a[IFA_LOCAL + 1];
    if (info->ifa_family != AF_INET)
        return;
    rp_netlink_attributes(h, sizeof(*info), a, IFA_LOCAL);
    uint32_t address = address_in(a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS]);
    uint32_t mask = mask_of(RP_MIN(info->ifa_prefixlen, c->place->prefix.prefix));
    if ((address & mask) == (c->place->prefix.address & mask))
        keep_clash(c, info->ifa_index, address, info->ifa_prefixlen);
}

/* Only routes inside the prefix: a wider one (a VPN's 100.64.0.0/10, say) is less specific than ours. */
static void look_at_route(void *ctx, const struct nlmsghdr *h)
{
    struct clash *c = ctx;
    const struct rtmsg *route = NLMSG_DATA(h);
    const struct nlattr *a[RTA_OIF + 1];
    rp_netlink_attributes(h, sizeof(*route), a, RTA_OIF);
    if (route->rtm_family != AF_INET || !a[RTA_DST] || !a[RTA_OIF] ||
        route->rtm_dst_len < c->place->prefix.prefix)
        return;
    uint32_t destination = address_in(a[RTA_DST]);
    if ((destination & mask_of(c->place->prefix.prefix)) == c->place->prefix.address)
        keep_clash(c, number_in(a[RTA_OIF], 0), destination, route->rtm_dst_len);
}

int rp_network_prefix_free(const struct rp_network_place *p, struct rp_error *err)
{
    struct clash c = {.place = p};
    struct ifaddrmsg addresses = {.ifa_family = AF_INET};
    struct rtmsg routes = {.rtm_family = AF_INET};
    if (dump(RTM_GETADDR, &addresses, sizeof(addresses), look_at_address, &c, err) < 0 ||
        dump(RTM_GETROUTE, &routes, sizeof(routes), look_at_route, &c, err) < 0)
        return -1;
    if (!c.found)
        return 0;
    char ours[INET_ADDRSTRLEN], theirs[INET_ADDRSTRLEN];
    struct in_addr a = {htonl(p->prefix.address)}, b = {htonl(c.other.address)};
    inet_ntop(AF_INET, &a, ours, sizeof(ours));
    inet_ntop(AF_INET, &b, theirs, sizeof(theirs));
    return rp_error_set(
        err, RP_ERROR_CONFLICT,
        "the sandboxes' network %s/%u overlaps %s/%u of interface \"%s\"; choose another with "
        "--sandbox-network",
        ours, p->prefix.prefix, theirs, c.other.prefix, c.interface);
}

struct is_local {
    uint32_t address;
    bool found;
};

static void look_for_local(void *ctx, const struct nlmsghdr *h)
{
    struct is_local *l = ctx;
    const struct ifaddrmsg *info = NLMSG_DATA(h);
    const struct nlattr *a[IFA_LOCAL + 1];
    rp_netlink_attributes(h, sizeof(*info), a, IFA_LOCAL);
    if (info->ifa_family == AF_INET && address_in(a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS]) == l->address)
        l->found = true;
}

int rp_network_is_local(uint32_t address, bool *ret, struct rp_error *err)
{
    struct is_local l = {.address = address, .found = address >> 24 == 127};
    struct ifaddrmsg addresses = {.ifa_family = AF_INET};
    if (dump(RTM_GETADDR, &addresses, sizeof(addresses), look_for_local, &l, err) < 0)
        return -1;
    *ret = l.found;
    return 0;
}

struct sweep {
    const struct rp_network_place *place;
    bool (*unused)(void *ctx, uint32_t index);
    void *ctx;
    uint32_t found;
    char names[64][IFNAMSIZ]; /* a round's worth */
};

static void keep_unused_links(void *ctx, const struct nlmsghdr *h)
{
    struct sweep *s = ctx;
    const struct nlattr *a[IFLA_IFNAME + 1];
    struct clash c = {.place = s->place};
    rp_netlink_attributes(h, sizeof(struct ifinfomsg), a, IFLA_IFNAME);
    if (!a[IFLA_IFNAME] || s->found == RP_ARRAY_SIZE(s->names))
        return;
    const char *name = rp_netlink_data(a[IFLA_IFNAME]);
    if (!is_ours(&c, name))
        return;
    uint32_t index = (uint32_t)strtoul(name + strlen(s->place->tag) + 1, NULL, 16);
    if (!s->unused || s->unused(s->ctx, index))
        snprintf(s->names[s->found++], IFNAMSIZ, "%s", name);
}

int rp_network_slots_sweep(const struct rp_network_place *p, bool (*unused)(void *ctx, uint32_t index),
                           void *ctx, struct rp_error *err)
{
    for (;;) {
        struct sweep s = {.place = p, .unused = unused, .ctx = ctx};
        struct ifinfomsg links = {.ifi_family = AF_UNSPEC};
        _cleanup_(rp_netlink_close) struct rp_netlink host = {.fd = -1};
        if (dump(RTM_GETLINK, &links, sizeof(links), keep_unused_links, &s, err) < 0 ||
            rp_netlink_open(NETLINK_ROUTE, &host, err) < 0)
            return -1;
        if (s.found == 0)
            return 0;
        for (uint32_t i = 0; i < s.found; i++) {
            int r = rp_network_link_delete(&host, s.names[i]);
            if (r < 0 && r != -ENODEV)
                return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "remove network interface \"%s\"",
                                      s.names[i]);
        }
    }
}
