#include "sandbox/oci/network_netlink.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { RECEIVE_SIZE = 64 * 1024, ANSWER_SECONDS = 10 };

int rp_netlink_open(int protocol, struct rp_netlink *ret, struct rp_error *err)
{
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open a netlink socket");
    /* The kernel always answers; a deadline only keeps a bug from becoming a hang. */
    struct timeval deadline = {.tv_sec = ANSWER_SECONDS};
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "set a netlink socket's deadline");
    /* Acknowledgements without a copy of the request, and filters that the kernel takes seriously. Both only
     * save work: an old kernel without them is fine. */
    (void)!setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
    (void)!setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
    ret->fd = RP_STEAL_FD(fd);
    ret->sequence = 0;
    return 0;
}

void rp_netlink_close(struct rp_netlink *n)
{
    rp_close_fd(&n->fd);
}

static struct nlmsghdr *header_of(struct rp_netlink_message *m)
{
    return (struct nlmsghdr *)(void *)m->bytes;
}

static void append(struct rp_netlink_message *m, const void *p, size_t n)
{
    struct nlmsghdr *h = header_of(m);
    size_t at = NLMSG_ALIGN(h->nlmsg_len);
    if (at + NLMSG_ALIGN(n) > sizeof(m->bytes))
        abort();
    if (n > 0)
        memcpy(m->bytes + at, p, n);
    memset(m->bytes + at + n, 0, NLMSG_ALIGN(n) - n);
    h->nlmsg_len = (uint32_t)(at + n);
}

void rp_netlink_begin(struct rp_netlink_message *m, uint16_t type, uint16_t flags, const void *header,
                      size_t header_size)
{
    struct nlmsghdr *h = header_of(m);
    *h = (struct nlmsghdr){
        .nlmsg_len = NLMSG_HDRLEN, .nlmsg_type = type, .nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST)};
    append(m, header, header_size);
}

void rp_netlink_put(struct rp_netlink_message *m, uint16_t type, const void *p, size_t n)
{
    struct nlattr a = {.nla_len = (uint16_t)(NLA_HDRLEN + n), .nla_type = type};
    append(m, &a, sizeof(a));
    append(m, p, n);
}

void rp_netlink_put_u32(struct rp_netlink_message *m, uint16_t type, uint32_t value)
{
    rp_netlink_put(m, type, &value, sizeof(value));
}

void rp_netlink_put_string(struct rp_netlink_message *m, uint16_t type, const char *s)
{
    rp_netlink_put(m, type, s, strlen(s) + 1);
}

size_t rp_netlink_nest(struct rp_netlink_message *m, uint16_t type)
{
    size_t at = NLMSG_ALIGN(header_of(m)->nlmsg_len);
    struct nlattr a = {.nla_len = NLA_HDRLEN, .nla_type = (uint16_t)(type | NLA_F_NESTED)};
    append(m, &a, sizeof(a));
    return at;
}

void rp_netlink_put_raw(struct rp_netlink_message *m, const void *p, size_t n)
{
    append(m, p, n);
}

void rp_netlink_nest_end(struct rp_netlink_message *m, size_t nest)
{
    struct nlattr *a = (struct nlattr *)(void *)(m->bytes + nest);
    a->nla_len = (uint16_t)(header_of(m)->nlmsg_len - nest);
}

static int send_message(struct rp_netlink *n, struct rp_netlink_message *m)
{
    struct nlmsghdr *h = header_of(m);
    h->nlmsg_seq = ++n->sequence;
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t sent;
    do
        sent = sendto(n->fd, m->bytes, h->nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel));
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Reads until the answer to the last request is complete. */
static int receive_answer(struct rp_netlink *n, void (*each)(void *, const struct nlmsghdr *), void *ctx)
{
    _cleanup_free_ char *buffer = malloc(RECEIVE_SIZE);
    if (!buffer)
        return -ENOMEM;
    int interrupted = 0;
    for (;;) {
        ssize_t got = recv(n->fd, buffer, RECEIVE_SIZE, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        unsigned left = (unsigned)got; /* as NLMSG_OK compares it */
        for (struct nlmsghdr *h = (struct nlmsghdr *)(void *)buffer; NLMSG_OK(h, left);
             h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_seq != n->sequence)
                continue; /* the rest of an answer that an error cut short */
            if (h->nlmsg_flags & NLM_F_DUMP_INTR)
                interrupted = 1;
            if (h->nlmsg_type == NLMSG_ERROR)
                return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
            if (h->nlmsg_type == NLMSG_DONE)
                return interrupted ? -EAGAIN : 0;
            if (h->nlmsg_type >= NLMSG_MIN_TYPE && each)
                each(ctx, h);
        }
    }
}

int rp_netlink_request(struct rp_netlink *n, struct rp_netlink_message *m)
{
    header_of(m)->nlmsg_flags |= NLM_F_ACK;
    int r = send_message(n, m);
    return r < 0 ? r : receive_answer(n, NULL, NULL);
}

int rp_netlink_query(struct rp_netlink *n, struct rp_netlink_message *m,
                     void (*each)(void *ctx, const struct nlmsghdr *h), void *ctx)
{
    /* With an acknowledgement a single object's answer ends just as a dump's does. */
    if (!(header_of(m)->nlmsg_flags & NLM_F_DUMP))
        header_of(m)->nlmsg_flags |= NLM_F_ACK;
    int r = send_message(n, m);
    return r < 0 ? r : receive_answer(n, each, ctx);
}

void rp_netlink_attributes(const struct nlmsghdr *h, size_t header_size, const struct nlattr **ret,
                           uint16_t max)
{
    for (uint16_t i = 0; i <= max; i++)
        ret[i] = NULL;
    size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(header_size);
    while (at + NLA_HDRLEN <= h->nlmsg_len) {
        const struct nlattr *a = (const struct nlattr *)(const void *)((const char *)h + at);
        if (a->nla_len < NLA_HDRLEN || at + a->nla_len > h->nlmsg_len)
            return;
        uint16_t type = a->nla_type & NLA_TYPE_MASK;
        if (type <= max)
            ret[type] = a;
        at += NLA_ALIGN(a->nla_len);
    }
}
