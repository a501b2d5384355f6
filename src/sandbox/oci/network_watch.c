#include "sandbox/oci/network_watch.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <sys/socket.h>

int rp_network_watch_open(struct rp_error *err)
{
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
    int group = NFNLGRP_NFTABLES;
    struct sockaddr_nl self = {.nl_family = AF_NETLINK};
    if (fd < 0 || bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0 ||
        setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "watch nftables");
    return RP_STEAL_FD(fd);
}

static bool of_interest(uint16_t type)
{
    if (NFNL_SUBSYS_ID(type) != NFNL_SUBSYS_NFTABLES)
        return false;
    switch (NFNL_MSG_TYPE(type)) {
    case NFT_MSG_NEWTABLE:
    case NFT_MSG_DELTABLE:
    case NFT_MSG_NEWCHAIN:
    case NFT_MSG_DELCHAIN:
    case NFT_MSG_DELRULE:
    case NFT_MSG_DELSET:
        return true;
    default:
        return false;
    }
}

bool rp_network_watch_read(int fd)
{
    _Alignas(8) char buffer[16 * 1024];
    bool found = false;
    for (;;) {
        ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == ENOBUFS) {
            found = true; /* notices were lost */
            continue;
        }
        if (n <= 0)
            return found;
        unsigned left = (unsigned)n; /* as NLMSG_OK compares it */
        for (const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)buffer; NLMSG_OK(h, left);
             h = NLMSG_NEXT(h, left))
            found = found || of_interest(h->nlmsg_type);
    }
}
