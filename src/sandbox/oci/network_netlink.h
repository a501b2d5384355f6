/*
 * network_netlink.h: requests to the kernel over rtnetlink (rtnetlink(7), netlink(7)): build a message, send
 * it, wait for the answer.
 *
 * A socket belongs to the network namespace in which it was opened, whatever its thread does later; that is
 * how one thread configures both ends of a veth pair. One thread at a time. Messages are built in a fixed
 * buffer: overflow is a bug and aborts.
 */
#ifndef RP_SANDBOX_OCI_NETWORK_NETLINK_H
#define RP_SANDBOX_OCI_NETWORK_NETLINK_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct rp_netlink {
    int fd; /* owned */
    uint32_t sequence;
};

/* A request while it is built. */
struct rp_netlink_message {
    _Alignas(8) char bytes[2048];
};

/* In the calling thread's network namespace. */
int rp_netlink_open(int protocol, struct rp_netlink *ret, struct rp_error *err) RP_MUST_CHECK;
void rp_netlink_close(struct rp_netlink *n);

/* Begins a request whose fixed header (struct ifinfomsg, rtmsg …) is `header`. */
void rp_netlink_begin(struct rp_netlink_message *m, uint16_t type, uint16_t flags, const void *header,
                      size_t header_size);
void rp_netlink_put(struct rp_netlink_message *m, uint16_t type, const void *p, size_t n);
void rp_netlink_put_u32(struct rp_netlink_message *m, uint16_t type, uint32_t value);
void rp_netlink_put_string(struct rp_netlink_message *m, uint16_t type, const char *s);
/* Returns where the nest begins, for rp_netlink_nest_end. */
size_t rp_netlink_nest(struct rp_netlink_message *m, uint16_t type);
/* A fixed header inside a nest (the peer's ifinfomsg in VETH_INFO_PEER). */
void rp_netlink_put_raw(struct rp_netlink_message *m, const void *p, size_t n);
void rp_netlink_nest_end(struct rp_netlink_message *m, size_t nest);

/* Sends and waits for the acknowledgement. 0, or the negative errno that the kernel answered (what to make of
 * it is the caller's business). */
int rp_netlink_request(struct rp_netlink *n, struct rp_netlink_message *m) RP_MUST_CHECK;

/* Sends and calls each(ctx, answer) for every message of the answer (a dump, or one object).
 * 0 or a negative errno. */
int rp_netlink_query(struct rp_netlink *n, struct rp_netlink_message *m,
                     void (*each)(void *ctx, const struct nlmsghdr *h), void *ctx) RP_MUST_CHECK;

/* Finds attributes behind a fixed header: ret[type] for type <= max, the rest NULL. */
void rp_netlink_attributes(const struct nlmsghdr *h, size_t header_size, const struct nlattr **ret,
                           uint16_t max);

static inline const void *rp_netlink_data(const struct nlattr *a)
{
    return (const char *)a + NLA_HDRLEN;
}
static inline size_t rp_netlink_size(const struct nlattr *a)
{
    return a->nla_len - NLA_HDRLEN;
}

#endif
