#include "proto/seqpacket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for a few more descriptors than are allowed, so that a peer that sends too many is noticed, not only
 * cut. */
enum { MAX_RECEIVED = 8 };

int rp_seqpacket_send(int socket, const void *message, size_t n, int fd)
{
    struct iovec iov = {.iov_base = (void *)message, .iov_len = n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        m.msg_control = &control;
        m.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    for (;;) {
        ssize_t sent = sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0)
            return (size_t)sent == n ? 0 : -EPROTO;
        if (errno != EINTR)
            return -errno;
    }
}

ssize_t rp_seqpacket_receive(int socket, void *message, size_t cap, int *ret_fd)
{
    struct iovec iov = {.iov_base = message, .iov_len = cap};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MAX_RECEIVED * sizeof(int))];
    } control;
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.bytes)};
    *ret_fd = -1;
    ssize_t got;
    do
        got = recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;

    int count = 0, fds[MAX_RECEIVED];
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t have = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < have && count < MAX_RECEIVED; i++)
            memcpy(&fds[count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
    }
    if (got == 0 && count == 0)
        return 0;
    if (got == 0 || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || count > 1) {
        for (int i = 0; i < count; i++)
            close(fds[i]);
        return -EPROTO;
    }
    if (count == 1)
        *ret_fd = fds[0];
    return got;
}
