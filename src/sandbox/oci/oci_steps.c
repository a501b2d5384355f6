/* Tells init the cgroup of a step: the orchestrator's only words with it. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "proto/init.h"
#include "proto/seqpacket.h"
#include "proto/wire.h"
#include "sandbox/oci/oci_internal.h"

enum { ANSWER_TIMEOUT_MS = 5000 };

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

static int send_group(int socket, uint32_t step, uint32_t tag, int fd, uint64_t until, struct rp_error *err)
{
    uint8_t bytes[64];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_CGROUP, 0, tag);
    rp_wire_put_u32(&w, step);
    for (;;) {
        int r = rp_seqpacket_send(socket, w.data, w.length, fd);
        if (r == 0)
            return 0;
        if (r != -EAGAIN)
            return rp_error_errno(err, RP_ERROR_SANDBOX, -r, "give init a cgroup");
        if (wait_for(socket, POLLOUT, until, err) < 0)
            return -1;
    }
}

/* Its OK. Events, and answers to what others asked on this connection before, are passed over. */
static int await_ok(int socket, uint32_t tag, uint8_t *bytes, uint64_t until, struct rp_error *err)
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
        if (h.type == RP_INIT_OK)
            return 0;
        uint32_t errnum = rp_wire_get_u32(&r);
        return rp_error_errno(err, RP_ERROR_SANDBOX, h.type == RP_INIT_ERROR && errnum < 4096 ? (int)errnum : EPROTO,
                              "init refused the cgroup");
    }
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
        r = await_ok(connection, tag + (uint32_t)i, bytes, until, err);
    for (int i = 0; i < count; i++)
        rp_close_fd(&fds[i]);
    return r;
}
