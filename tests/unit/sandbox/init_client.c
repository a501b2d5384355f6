#include "../cmocka_all.h"

#include "init_client.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "proto/init.h"
#include "proto/seqpacket.h"
#include "proto/wire.h"

enum { WAIT_MS = 10000 };

static uint8_t message[RP_WIRE_MESSAGE_MAX];

static struct rp_wire_header receive(int connection, struct rp_wire_reader *r, int *fd)
{
    struct pollfd p = {.fd = connection, .events = POLLIN};
    ssize_t n;
    while ((n = rp_seqpacket_receive(connection, message, sizeof(message), fd)) == -EAGAIN)
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_true(n > 0);
    *r = (struct rp_wire_reader){.data = message, .length = (size_t)n};
    return rp_wire_get_header(r);
}

static void send_writer(int connection, const struct rp_wire_writer *w)
{
    assert_false(w->overflow);
    assert_int_equal(rp_seqpacket_send(connection, w->data, w->length, -1), 0);
}

void init_client_hello(int connection)
{
    uint8_t bytes[64];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_HELLO, 0, 1);
    rp_wire_put_u32(&w, RP_INIT_VERSION_MIN);
    rp_wire_put_u32(&w, RP_INIT_VERSION);
    send_writer(connection, &w);
    struct rp_wire_reader r;
    int fd;
    struct rp_wire_header h = receive(connection, &r, &fd);
    assert_int_equal(h.type, RP_INIT_HELLO);
    assert_true(fd >= 0);
    close(fd);
}

static int spawn(int connection, uint64_t id, uint32_t step, const char *const *argv, int *ret_errno)
{
    static uint8_t bytes[8192];
    uint32_t argc = 0, tag = (uint32_t)id;
    while (argv[argc])
        argc++;
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_SPAWN, 0, tag);
    rp_wire_put_u64(&w, id);
    rp_wire_put_u32(&w, RP_SPAWN_MERGE);
    rp_wire_put_u16(&w, 80);
    rp_wire_put_u16(&w, 24);
    rp_wire_put_u32(&w, step);
    rp_wire_put_str(&w, RP_STR("/home/runner/app"));
    rp_wire_put_u32(&w, argc);
    for (uint32_t i = 0; i < argc; i++)
        rp_wire_put_str(&w, rp_str_of(argv[i]));
    rp_wire_put_u32(&w, 1);
    rp_wire_put_str(&w, RP_STR("PATH=/usr/bin:/bin"));
    rp_wire_put_str(&w, RP_STR(""));
    send_writer(connection, &w);
    for (;;) {
        struct rp_wire_reader r;
        int fd;
        struct rp_wire_header h = receive(connection, &r, &fd);
        if (h.tag != tag) {
            rp_close_fd(&fd);
            continue;
        }
        if (h.type == RP_INIT_ERROR) {
            *ret_errno = (int)rp_wire_get_u32(&r);
            return -1;
        }
        if (h.type == RP_INIT_STREAM)
            return fd;
        assert_int_equal(h.type, RP_INIT_SPAWNED);
    }
}

int init_client_spawn(int connection, uint64_t id, uint32_t step, const char *const *argv)
{
    int errnum = 0, fd = spawn(connection, id, step, argv, &errnum);
    if (fd < 0)
        fail_msg("spawn %s: %s", argv[0], strerror(errnum));
    return fd;
}

static void forget(int connection, uint64_t id)
{
    uint8_t bytes[64];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_FORGET, 0, 2);
    rp_wire_put_u64(&w, id);
    send_writer(connection, &w);
}

void init_client_run(int connection, uint32_t step, const char *const *argv, struct ended *ret)
{
    static uint64_t next = 1000;
    uint64_t id = next++;
    int fd = init_client_spawn(connection, id, step, argv);
    size_t n = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (;;) {
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        ssize_t got = read(fd, ret->output + n, sizeof(ret->output) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    ret->output[n] = '\0';
    close(fd);
    for (;;) {
        struct rp_wire_reader r;
        int other;
        struct rp_wire_header h = receive(connection, &r, &other);
        rp_close_fd(&other);
        if (h.type != RP_INIT_EXITED || rp_wire_get_u64(&r) != id)
            continue;
        ret->code = (int32_t)rp_wire_get_u32(&r);
        ret->signal = (int)rp_wire_get_u32(&r);
        break;
    }
    forget(connection, id);
}
