#include "orchestrator/init_link.h"

#include <poll.h>

#include "base/clock.h"
#include "proto/init.h"
#include "proto/seqpacket.h"
#include "proto/wire.h"

/* Sends one message; waits while the queue is full. */
static int send_message(int connection, struct rp_wire_writer *w, uint64_t deadline_ns, struct rp_error *err)
{
    for (;;) {
        int r = rp_seqpacket_send(connection, w->data, w->length, -1);
        if (r == 0)
            return 0;
        if (r != -EAGAIN)
            return rp_error_errno(err, RP_ERROR_SANDBOX, -r, "send to init");
        uint64_t now = rp_clock_monotonic_ns();
        struct pollfd p = {.fd = connection, .events = POLLOUT};
        if (now >= deadline_ns || poll(&p, 1, (int)((deadline_ns - now) / 1000000) + 1) == 0)
            return rp_error_set(err, RP_ERROR_SANDBOX, "init does not read");
    }
}

/* Waits for the answer with `tag` and skips events. Returns its type, with the rest of it in *ret. */
static int receive_answer(int connection, uint32_t tag, uint64_t deadline_ns, uint8_t *buffer,
                          struct rp_wire_reader *ret, struct rp_error *err)
{
    for (;;) {
        int fd;
        ssize_t n = rp_seqpacket_receive(connection, buffer, RP_WIRE_MESSAGE_MAX, &fd);
        rp_close_fd(&fd);
        if (n == 0)
            return rp_error_set(err, RP_ERROR_SANDBOX, "init closed the connection");
        if (n < 0 && n != -EAGAIN)
            return rp_error_errno(err, RP_ERROR_SANDBOX, (int)-n, "receive from init");
        if (n > 0) {
            struct rp_wire_reader r = {.data = buffer, .length = (size_t)n};
            struct rp_wire_header h = rp_wire_get_header(&r);
            if (r.bad)
                return rp_error_set(err, RP_ERROR_SANDBOX, "init sent a malformed message");
            if (h.tag == 0)
                continue;
            if (h.tag != tag)
                return rp_error_set(err, RP_ERROR_SANDBOX, "init answered what was not asked");
            *ret = r;
            return h.type;
        }
        uint64_t now = rp_clock_monotonic_ns();
        struct pollfd p = {.fd = connection, .events = POLLIN};
        if (now >= deadline_ns || poll(&p, 1, (int)((deadline_ns - now) / 1000000) + 1) == 0)
            return rp_error_set(err, RP_ERROR_SANDBOX, "init does not answer");
    }
}

static int ask(int connection, struct rp_wire_writer *w, uint32_t tag, uint8_t *buffer,
               struct rp_wire_reader *ret, struct rp_error *err)
{
    uint64_t deadline = rp_clock_monotonic_ns() + RP_INIT_LINK_TIMEOUT_MS * UINT64_C(1000000);
    if (send_message(connection, w, deadline, err) < 0)
        return -1;
    return receive_answer(connection, tag, deadline, buffer, ret, err);
}

int rp_init_link_hello(int connection, struct rp_error *err)
{
    uint8_t message[32];
    _cleanup_free_ uint8_t *buffer = rp_alloc(RP_WIRE_MESSAGE_MAX);
    struct rp_wire_reader r;
    struct rp_wire_writer w = rp_wire_begin(message, sizeof(message), RP_INIT_HELLO, 0, 1);
    rp_wire_put_u32(&w, RP_INIT_VERSION_MIN);
    rp_wire_put_u32(&w, RP_INIT_VERSION);
    int type = ask(connection, &w, 1, buffer, &r, err);
    if (type < 0)
        return -1;
    uint32_t version = rp_wire_get_u32(&r);
    if (type != RP_INIT_HELLO || r.bad || version < RP_INIT_VERSION_MIN || version > RP_INIT_VERSION)
        return rp_error_set(err, RP_ERROR_SANDBOX, "init speaks another version of the protocol");
    return 0;
}

int rp_init_link_drop_step(int connection, uint32_t step, struct rp_error *err)
{
    uint8_t message[32];
    _cleanup_free_ uint8_t *buffer = rp_alloc(RP_WIRE_MESSAGE_MAX);
    struct rp_wire_reader r;
    struct rp_wire_writer w = rp_wire_begin(message, sizeof(message), RP_INIT_CGROUP_DROP, 0, 2);
    rp_wire_put_u32(&w, step);
    return ask(connection, &w, 2, buffer, &r, err) < 0 ? -1 : 0;
}

int rp_init_link_shutdown(int connection, uint32_t grace_ms, struct rp_error *err)
{
    uint8_t message[32];
    struct rp_wire_writer w = rp_wire_begin(message, sizeof(message), RP_INIT_SHUTDOWN, 0, 3);
    rp_wire_put_u32(&w, grace_ms);
    return send_message(connection, &w, rp_clock_monotonic_ns() + RP_INIT_LINK_TIMEOUT_MS * UINT64_C(1000000),
                        err);
}
