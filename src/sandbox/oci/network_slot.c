#include "sandbox/oci/network_slot.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <linux/neighbour.h>
#include <linux/veth.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

enum { FIRST_SLOT = 0x1000 }; /* addresses of the prefix below it are the server's own: the gateway */
enum { LINK_WAIT_MS = 2000, LINK_OPERATIONAL = 6 /* IF_OPER_UP of linux/if.h (RFC 2863) */ };

/* IPV4_DEVCONF_* of linux/ip.h, which cannot be included beside the C library's netinet/ip.h. */
enum { DEVCONF_FORWARDING = 1, DEVCONF_ARP_IGNORE = 19, DEVCONF_ROUTE_LOCALNET = 26 };

/* linux/if_link.h: RTM_NEWLINK's IFLA_AF_SPEC of IPv6. */
enum { ADDRESS_GENERATION_NONE = 1 };

uint32_t rp_network_slot_address(const struct rp_network_place *p, uint32_t index)
{
    return p->prefix.address + FIRST_SLOT + index;
}

void rp_network_slot_interface(const struct rp_network_place *p, uint32_t index, char ret[static IFNAMSIZ])
{
    snprintf(ret, IFNAMSIZ, "%sv%03x", p->tag, index & 0xfff);
}

void rp_network_slot_path(const struct rp_network_place *p, uint32_t index, char ret[static PATH_MAX])
{
    snprintf(ret, PATH_MAX, "%s/s%03x", p->directory, index & 0xfff);
}

/* Locally administered addresses that nobody else sees: a veth pair is a network of its own. */
static void mac_of(uint32_t index, bool host, uint8_t ret[6])
{
    uint8_t mac[6] = {0x02, 0x72, 0x70, host ? 1 : 0, (uint8_t)(index >> 8), (uint8_t)index};
    memcpy(ret, mac, sizeof(mac));
}

/* ---- requests ---- */

static void keep_index(void *ctx, const struct nlmsghdr *h)
{
    *(uint32_t *)ctx = (uint32_t)((const struct ifinfomsg *)NLMSG_DATA(h))->ifi_index;
}

/* if_nametoindex asks in the thread's namespace; this asks in the socket's. */
static int link_index(struct rp_netlink *n, const char *name, uint32_t *ret)
{
    struct rp_netlink_message m;
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
    rp_netlink_begin(&m, RTM_GETLINK, 0, &info, sizeof(info));
    rp_netlink_put_string(&m, IFLA_IFNAME, name);
    return rp_netlink_query(n, &m, keep_index, ret);
}

int rp_network_link_delete(struct rp_netlink *n, const char *name)
{
    struct rp_netlink_message m;
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
    rp_netlink_begin(&m, RTM_DELLINK, 0, &info, sizeof(info));
    rp_netlink_put_string(&m, IFLA_IFNAME, name);
    return rp_netlink_request(n, &m);
}

static void keep_operational(void *ctx, const struct nlmsghdr *h)
{
    const struct nlattr *a[IFLA_OPERSTATE + 1];
    rp_netlink_attributes(h, sizeof(struct ifinfomsg), a, IFLA_OPERSTATE);
    *(bool *)ctx =
        a[IFLA_OPERSTATE] && *(const uint8_t *)rp_netlink_data(a[IFLA_OPERSTATE]) == LINK_OPERATIONAL;
}

/* The kernel puts a link into operation a moment after it was set up, and drops packets until then. */
static int link_wait(struct rp_netlink *n, const char *name)
{
    for (int i = 0; i < LINK_WAIT_MS * 5; i++) {
        bool operational = false;
        struct rp_netlink_message m;
        struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
        rp_netlink_begin(&m, RTM_GETLINK, 0, &info, sizeof(info));
        rp_netlink_put_string(&m, IFLA_IFNAME, name);
        int r = rp_netlink_query(n, &m, keep_operational, &operational);
        if (r < 0 || operational)
            return r;
        usleep(200);
    }
    return -ETIMEDOUT;
}

static int link_up(struct rp_netlink *n, uint32_t index)
{
    struct rp_netlink_message m;
    struct ifinfomsg info = {
        .ifi_family = AF_UNSPEC, .ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    rp_netlink_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
    return rp_netlink_request(n, &m);
}

static void put_no_ipv6_address(struct rp_netlink_message *m)
{
    size_t v6 = rp_netlink_nest(m, AF_INET6);
    uint8_t none = ADDRESS_GENERATION_NONE;
    rp_netlink_put(m, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
    rp_netlink_nest_end(m, v6);
}

static int veth_make(struct rp_netlink *host, const struct rp_network_place *p, uint32_t index, uint32_t mtu,
                     int netns)
{
    char name[IFNAMSIZ];
    uint8_t mac[6];
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
    struct rp_netlink_message m;
    rp_network_slot_interface(p, index, name);

    rp_netlink_begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
    rp_netlink_put_string(&m, IFLA_IFNAME, name);
    rp_netlink_put_u32(&m, IFLA_MTU, mtu);
    mac_of(index, true, mac);
    rp_netlink_put(&m, IFLA_ADDRESS, mac, sizeof(mac));
    size_t link = rp_netlink_nest(&m, IFLA_LINKINFO);
    rp_netlink_put_string(&m, IFLA_INFO_KIND, "veth");
    size_t data = rp_netlink_nest(&m, IFLA_INFO_DATA);
    size_t peer = rp_netlink_nest(&m, VETH_INFO_PEER);
    rp_netlink_put_raw(&m, &info, sizeof(info));
    rp_netlink_put_string(&m, IFLA_IFNAME, "eth0");
    rp_netlink_put_u32(&m, IFLA_MTU, mtu);
    mac_of(index, false, mac);
    rp_netlink_put(&m, IFLA_ADDRESS, mac, sizeof(mac));
    rp_netlink_put_u32(&m, IFLA_NET_NS_FD, (uint32_t)netns);
    rp_netlink_nest_end(&m, peer);
    rp_netlink_nest_end(&m, data);
    rp_netlink_nest_end(&m, link);
    return rp_netlink_request(host, &m);
}

/*
 * The host's end: forwards, answers no ARP for the host's addresses, has no IPv6 address. The loopback
 * network is reachable over it only when the resolver is there; the firewall lets through nothing but DNS.
 */
static int host_end_settings(struct rp_netlink *host, const struct rp_network_place *p, uint32_t index)
{
    struct rp_netlink_message m;
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_index = (int)index};
    rp_netlink_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
    size_t families = rp_netlink_nest(&m, IFLA_AF_SPEC);
    size_t v4 = rp_netlink_nest(&m, AF_INET);
    size_t conf = rp_netlink_nest(&m, IFLA_INET_CONF);
    rp_netlink_put_u32(&m, DEVCONF_FORWARDING, 1);
    rp_netlink_put_u32(&m, DEVCONF_ARP_IGNORE, 8);
    rp_netlink_put_u32(&m, DEVCONF_ROUTE_LOCALNET, p->resolver_on_loopback ? 1 : 0);
    rp_netlink_nest_end(&m, conf);
    rp_netlink_nest_end(&m, v4);
    rp_netlink_nest_end(&m, families);
    int r = rp_netlink_request(host, &m);
    if (r < 0)
        return r;

    rp_netlink_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
    families = rp_netlink_nest(&m, IFLA_AF_SPEC);
    put_no_ipv6_address(&m);
    rp_netlink_nest_end(&m, families);
    r = rp_netlink_request(host, &m);
    /* A kernel started without IPv6 does not know the family, which is as good. */
    return r == -EAFNOSUPPORT || r == -EOPNOTSUPP || r == -EINVAL ? 0 : r;
}

static int address_add(struct rp_netlink *n, uint32_t link, uint32_t address)
{
    struct rp_netlink_message m;
    struct ifaddrmsg info = {
        .ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_scope = RT_SCOPE_UNIVERSE, .ifa_index = link};
    uint32_t wire = htonl(address);
    rp_netlink_begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
    rp_netlink_put(&m, IFA_LOCAL, &wire, sizeof(wire));
    rp_netlink_put(&m, IFA_ADDRESS, &wire, sizeof(wire));
    return rp_netlink_request(n, &m);
}

/* prefix_length 0: the default route. gateway 0: reached directly. */
static int route_add(struct rp_netlink *n, uint32_t link, uint32_t destination, uint8_t prefix_length,
                     uint32_t gateway)
{
    struct rp_netlink_message m;
    struct rtmsg info = {.rtm_family = AF_INET,
                         .rtm_dst_len = prefix_length,
                         .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_STATIC,
                         .rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
                         .rtm_type = RTN_UNICAST};
    uint32_t wire = htonl(destination), wire_gateway = htonl(gateway);
    rp_netlink_begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
    if (prefix_length > 0)
        rp_netlink_put(&m, RTA_DST, &wire, sizeof(wire));
    if (gateway)
        rp_netlink_put(&m, RTA_GATEWAY, &wire_gateway, sizeof(wire_gateway));
    rp_netlink_put_u32(&m, RTA_OIF, link);
    return rp_netlink_request(n, &m);
}

static int neighbour_add(struct rp_netlink *n, uint32_t link, uint32_t address, const uint8_t mac[6])
{
    struct rp_netlink_message m;
    struct ndmsg info = {
        .ndm_family = AF_INET, .ndm_ifindex = (int)link, .ndm_state = NUD_PERMANENT, .ndm_type = RTN_UNICAST};
    uint32_t wire = htonl(address);
    rp_netlink_begin(&m, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof(info));
    rp_netlink_put(&m, NDA_DST, &wire, sizeof(wire));
    rp_netlink_put(&m, NDA_LLADDR, mac, 6);
    return rp_netlink_request(n, &m);
}

/* ---- the namespace ---- */

/* A setting below /proc/sys/net of the calling thread's network namespace. One that the kernel does not have
 * (IPv6 is off) is fine: optional. */
static int write_setting(const char *path, const char *value, bool optional, struct rp_error *err)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && optional && errno == ENOENT)
        return 0;
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "write \"%s\"", path);
    return 0;
}

/* Inside the new namespace, before eth0 arrives. */
static int namespace_settings(struct rp_error *err)
{
    if (write_setting("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1", true, err) < 0 ||
        write_setting("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1", true, err) < 0)
        return -1;
    /* but for ::1: programs bind "localhost" to it, and one that listens on :: is reached there, whether it takes
     * IPv4 as well or not */
    if (write_setting("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0", true, err) < 0)
        return -1;
    /* A program may listen on port 80, and ping, without a capability. */
    if (write_setting("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0", false, err) < 0)
        return -1;
    return write_setting("/proc/sys/net/ipv4/ping_group_range", "0 2147483647", false, err);
}

/* Leaves the thread where it was, with the new namespace and a netlink socket in it returned. */
static int namespace_make(int *ret_netns, struct rp_netlink *ret_inside, struct rp_error *err)
{
    _cleanup_close_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"/proc/thread-self/ns/net\"");
    if (unshare(CLONE_NEWNET) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make a network namespace");
    struct rp_netlink inside = {.fd = -1};
    _cleanup_close_ int netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    int r = 0;
    if (netns < 0)
        r = rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open the new network namespace");
    if (r == 0)
        r = namespace_settings(err);
    if (r == 0)
        r = rp_netlink_open(NETLINK_ROUTE, &inside, err);
    /* A thread that stayed inside would make all later slots in the wrong place. */
    if (setns(home, CLONE_NEWNET) < 0)
        abort();
    if (r < 0) {
        rp_netlink_close(&inside);
        return r;
    }
    *ret_netns = RP_STEAL_FD(netns);
    *ret_inside = inside;
    return 0;
}

static int configure_inside(struct rp_netlink *inside, const struct rp_network_place *p, uint32_t index)
{
    uint32_t lo, eth0;
    uint8_t mac[6];
    int r;
    mac_of(index, true, mac);
    if ((r = link_index(inside, "lo", &lo)) < 0 || (r = link_up(inside, lo)) < 0 ||
        (r = link_index(inside, "eth0", &eth0)) < 0 ||
        (r = address_add(inside, eth0, rp_network_slot_address(p, index))) < 0 ||
        (r = link_up(inside, eth0)) < 0 || (r = neighbour_add(inside, eth0, p->gateway, mac)) < 0 ||
        (r = route_add(inside, eth0, p->gateway, 32, 0)) < 0 ||
        (r = route_add(inside, eth0, 0, 0, p->gateway)) < 0)
        return r;
    return 0;
}

static int configure_host(struct rp_netlink *host, const struct rp_network_place *p, uint32_t index,
                          const char *name, struct rp_error *err)
{
    char path[128];
    uint32_t link;
    uint8_t mac[6];
    int r;
    mac_of(index, false, mac);
    snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    if (write_setting(path, "1", true, err) < 0)
        return -1;
    if ((r = link_index(host, name, &link)) < 0 || (r = host_end_settings(host, p, link)) < 0 ||
        (r = link_up(host, link)) < 0 ||
        (r = route_add(host, link, rp_network_slot_address(p, index), 32, 0)) < 0 ||
        (r = neighbour_add(host, link, rp_network_slot_address(p, index), mac)) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "set up network interface \"%s\"", name);
    return 0;
}

static int bind_namespace(int netns, const char *path, struct rp_error *err)
{
    char source[64];
    snprintf(source, sizeof(source), "/proc/self/fd/%d", netns);
    _cleanup_close_ int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", path);
    if (mount(source, path, NULL, MS_BIND, NULL) < 0) {
        rp_error_errno(err, RP_ERROR_INTERNAL, errno, "bind a network namespace to \"%s\"", path);
        unlink(path);
        return -1;
    }
    return 0;
}

int rp_network_slot_make(const struct rp_network_place *p, uint32_t index, uint32_t mtu, struct rp_error *err)
{
    char name[IFNAMSIZ], path[PATH_MAX];
    _cleanup_close_ int netns = -1;
    _cleanup_(rp_netlink_close) struct rp_netlink host = {.fd = -1}, inside = {.fd = -1};
    rp_network_slot_interface(p, index, name);
    rp_network_slot_path(p, index, path);

    if (rp_netlink_open(NETLINK_ROUTE, &host, err) < 0 || namespace_make(&netns, &inside, err) < 0)
        return -1;
    int r = veth_make(&host, p, index, mtu, netns);
    if (r == -EEXIST) {
        r = rp_network_link_delete(&host, name);
        if (r == 0 || r == -ENODEV)
            r = veth_make(&host, p, index, mtu, netns);
    }
    if (r < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "make network interface \"%s\"", name);

    if (configure_host(&host, p, index, name, err) == 0) {
        r = configure_inside(&inside, p, index);
        if (r == 0)
            r = link_wait(&inside, "eth0");
        if (r == 0)
            r = link_wait(&host, name);
        if (r == 0 && bind_namespace(netns, path, err) == 0)
            return 0;
        if (r < 0)
            rp_error_errno(err, RP_ERROR_INTERNAL, -r, "set up the inside of network interface \"%s\"", name);
    }
    (void)!rp_network_link_delete(&host, name);
    return -1;
}

int rp_network_slot_release(const struct rp_network_place *p, uint32_t index, struct rp_error *err)
{
    char path[PATH_MAX];
    rp_network_slot_path(p, index, path);
    /* More than one mount may lie on it after a crash in between. */
    while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        ;
    if (unlink(path) < 0 && errno != ENOENT)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "remove \"%s\"", path);
    return 0;
}

int rp_network_slot_remove(const struct rp_network_place *p, uint32_t index, struct rp_error *err)
{
    char name[IFNAMSIZ];
    _cleanup_(rp_netlink_close) struct rp_netlink host = {.fd = -1};
    rp_network_slot_interface(p, index, name);
    if (rp_network_slot_release(p, index, err) < 0)
        return -1;
    if (rp_netlink_open(NETLINK_ROUTE, &host, err) < 0)
        return -1;
    int r = rp_network_link_delete(&host, name);
    if (r < 0 && r != -ENODEV)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "remove network interface \"%s\"", name);
    return 0;
}

bool rp_network_slot_whole(const struct rp_network_place *p, uint32_t index)
{
    char name[IFNAMSIZ], path[PATH_MAX];
    struct statfs fs;
    rp_network_slot_interface(p, index, name);
    rp_network_slot_path(p, index, path);
    return statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC && if_nametoindex(name) != 0;
}

static void keep_stats(void *ctx, const struct nlmsghdr *h)
{
    const struct nlattr *a[IFLA_STATS64 + 1];
    rp_netlink_attributes(h, sizeof(struct ifinfomsg), a, IFLA_STATS64);
    if (a[IFLA_STATS64] && rp_netlink_size(a[IFLA_STATS64]) >= offsetof(struct rtnl_link_stats64, rx_errors))
        memcpy(ctx, rp_netlink_data(a[IFLA_STATS64]), offsetof(struct rtnl_link_stats64, rx_errors));
}

int rp_network_slot_stats(const struct rp_network_place *p, uint32_t index, uint64_t *ret_received,
                          uint64_t *ret_sent, struct rp_error *err)
{
    char name[IFNAMSIZ];
    struct rtnl_link_stats64 stats = {0};
    struct rp_netlink_message m;
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
    _cleanup_(rp_netlink_close) struct rp_netlink host = {.fd = -1};
    rp_network_slot_interface(p, index, name);
    if (rp_netlink_open(NETLINK_ROUTE, &host, err) < 0)
        return -1;
    rp_netlink_begin(&m, RTM_GETLINK, 0, &info, sizeof(info));
    rp_netlink_put_string(&m, IFLA_IFNAME, name);
    int r = rp_netlink_query(&host, &m, keep_stats, &stats);
    if (r < 0)
        return rp_error_errno(err, r == -ENODEV ? RP_ERROR_NOT_FOUND : RP_ERROR_INTERNAL, -r,
                              "read the counters of network interface \"%s\"", name);
    /* What the host's end received is what the sandbox sent. */
    *ret_received = stats.tx_bytes;
    *ret_sent = stats.rx_bytes;
    return 0;
}
