/*
 * message.h: what init understands of proto/init.h: bytes into a checked request. Pure, no system call, no
 * allocation; views point into the message. Fuzzed as fuzz/fuzz_init_message.c.
 */
#ifndef RP_INIT_MESSAGE_H
#define RP_INIT_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "proto/init.h"
#include "proto/wire.h"

enum { RP_INIT_CWD_MAX = 4095 };

struct rp_init_request {
    uint16_t type;
    uint32_t tag;
    union {
        struct {
            uint32_t low, high;
        } hello;
        uint32_t step; /* CGROUP, CGROUP_DROP */
        struct {
            uint64_t id;
            uint32_t flags, step;
            uint16_t cols, rows;
            struct rp_str cwd, label;
            uint32_t argc, envc;
            struct rp_str argv[RP_INIT_ARGV_MAX];
            struct rp_str env[RP_INIT_ENV_MAX];
        } spawn;
        struct {
            uint64_t id;
            uint32_t signal;
            uint8_t target;
        } signal;
        struct {
            uint64_t id;
            uint16_t cols, rows;
        } resize;
        uint64_t id; /* CLOSE_STDIN, REOPEN, FORGET */
        struct {
            uint8_t family;
            uint8_t address[16];
            uint16_t port;
            uint32_t timeout_ms;
        } connect;
        uint32_t interval_ms; /* PORTS_WATCH */
        uint32_t grace_ms;    /* SHUTDOWN */
    };
};

/*
 * 0 when the message is well formed; a positive errno when it is well formed but asks for what cannot be (the
 * answer is ERROR; type and tag are filled); -1 when it is malformed: the connection is closed.
 */
int rp_init_decode(const uint8_t *message, size_t n, bool has_fd, struct rp_init_request *ret);

#endif
