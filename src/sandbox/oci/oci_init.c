/* What the driver itself says to init: HELLO once, to know that it runs, and the cgroups of steps. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/clock.h"
#include "proto/init.h"
#include "proto/seqpacket.h"
#include "proto/wire.h"
#include "sandbox/oci/oci_internal.h"

enum { ANSWER_TIMEOUT_MS = 10000 };

static int wait_for(int socket, short events, uint64_t until, struct rp_error *err)
{
    struct pollfd p = {.fd = socket, .events = events};
    for (;;) {
        uint64_t now = rp_clock_monotonic_ns();
        int n = poll(&p, 1, now < until ? (int)((until - now) / 1000000) + 1 : 0);
        if (n > 0)
            return 0;
        if (n == 0)
            return rp_error_set(err, RP_ERROR_SANDBOX, "init did not answer in %d ms", ANSWER_TIMEOUT_MS);
        if (errno != EINTR)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "poll");
    }
}

static int send_message(int socket, const struct rp_wire_writer *w, int fd, uint64_t until,
                        struct rp_error *err)
{
    for (;;) {
        int r = rp_seqpacket_send(socket, w->data, w->length, fd);
        if (r == 0)
            return 0;
        if (r != -EAGAIN)
            return rp_error_errno(err, RP_ERROR_SANDBOX, -r, "write to init");
        if (wait_for(socket, POLLOUT, until, err) < 0)
            return -1;
    }
}

static int send_group(int socket, uint32_t step, uint32_t tag, int fd, uint64_t until, struct rp_error *err)
{
    uint8_t bytes[64];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_CGROUP, 0, tag);
    rp_wire_put_u32(&w, step);
    return send_message(socket, &w, fd, until, err);
}

/* Its answer of type `want`. Events, and answers to what others asked on this connection before, are passed
 * over. */
static int await(int socket, uint16_t want, uint32_t tag, uint8_t *bytes, uint64_t until,
                 struct rp_error *err)
{
    for (;;) {
        int fd;
        ssize_t n = rp_seqpacket_receive(socket, bytes, RP_WIRE_MESSAGE_MAX, &fd);
        rp_close_fd(&fd);
        if (n == -EAGAIN) {
            if (wait_for(socket, POLLIN, until, err) < 0)
                return -1;
            continue;
        }
        if (n <= 0)
            return rp_error_set(err, RP_ERROR_SANDBOX, "init closed the connection");
        struct rp_wire_reader r = {.data = bytes, .length = (size_t)n};
        struct rp_wire_header h = rp_wire_get_header(&r);
        if (r.bad || h.tag != tag)
            continue;
        if (h.type == want)
            return 0;
        uint32_t errnum = rp_wire_get_u32(&r);
        return rp_error_errno(err, RP_ERROR_SANDBOX,
                              h.type == RP_INIT_ERROR && errnum < 4096 ? (int)errnum : EPROTO,
                              "init refused");
    }
}

int rp_oci_connect(int dir, const char *id, struct rp_error *err)
{
    /* Blocking until it is connected: with a full backlog a non-blocking one would fail. */
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = ANSWER_TIMEOUT_MS / 1000};
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/init.sock", dir);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "socket");
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return rp_error_errno(
            err, errno == ENOENT || errno == ECONNREFUSED ? RP_ERROR_NOT_RUNNING : RP_ERROR_SANDBOX, errno,
            "connect to init of the sandbox %s", id);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "fcntl");
    return RP_STEAL_FD(fd);
}

int rp_oci_await_init(int dir, const char *id, struct rp_error *err)
{
    _cleanup_close_ int socket = rp_oci_connect(dir, id, err);
    if (socket < 0)
        return -1;
    uint8_t bytes[64];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_HELLO, 0, 1);
    rp_wire_put_u32(&w, RP_INIT_VERSION_MIN);
    rp_wire_put_u32(&w, RP_INIT_VERSION);
    _cleanup_free_ uint8_t *answer = rp_alloc(RP_WIRE_MESSAGE_MAX);
    uint64_t until = rp_clock_monotonic_ns() + ANSWER_TIMEOUT_MS * UINT64_C(1000000);
    if (send_message(socket, &w, -1, until, err) < 0)
        return -1;
    return await(socket, RP_INIT_HELLO, 1, answer, until, err);
}

int rp_oci_give_cgroup(struct rp_oci *o, const char *id, uint32_t step, int connection, struct rp_error *err)
{
    int fds[RP_CGROUP_HIERARCHIES_MAX];
    int count = rp_cgroup_open_procs(o->cgroups, id, (int)step, fds, err);
    if (count < 0)
        return -1;
    _cleanup_free_ uint8_t *bytes = rp_alloc(RP_WIRE_MESSAGE_MAX);
    uint64_t until = rp_clock_monotonic_ns() + ANSWER_TIMEOUT_MS * UINT64_C(1000000);
    /* Tags that the caller's own requests on this connection, which has none under way, do not have. */
    uint32_t tag = 0x63670000;
    int r = 0;
    for (int i = 0; i < count && r == 0; i++)
        r = send_group(connection, step, tag + (uint32_t)i, fds[i], until, err);
    for (int i = 0; i < count && r == 0; i++)
        r = await(connection, RP_INIT_OK, tag + (uint32_t)i, bytes, until, err);
    for (int i = 0; i < count; i++)
        rp_close_fd(&fds[i]);
    return r;
}
