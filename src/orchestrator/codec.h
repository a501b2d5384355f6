/*
 * codec.h: the messages of proto/orchestrator.h as bytes, for both ends. Pure functions, any thread.
 *
 * Which fields a message has is one table; encoding and decoding both walk it. Decoding checks every field
 * against its limits, refuses unknown types, flags, and bytes that are left over, and never allocates.
 */
#ifndef RP_ORCHESTRATOR_CODEC_H
#define RP_ORCHESTRATOR_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "proto/orchestrator.h"
#include "sandbox/driver.h"

enum rp_orchestrator_direction {
    RP_TO_ORCHESTRATOR, /* requests: the tag is not 0 */
    RP_TO_GATEWAY,      /* answers, and events with tag 0 */
};

enum {
    RP_ORCH_GRACE_MAX_MS = 60000,
    RP_ORCH_STEP_MAX = 15,
    RP_ORCH_BURST_MAX_MS = 600000,
    RP_ORCH_MESSAGE_SIZE_MAX = 2048, /* no message is longer */
};

/* Any message; which members count depends on its type. Strings are NUL-terminated and hold no NUL. */
struct rp_orchestrator_message {
    uint16_t type;
    uint32_t tag;
    char sandbox[RP_ID_SIZE];
    char project[RP_ID_SIZE];
    char other[RP_ID_SIZE]; /* the clone's */
    char environment[RP_ENVIRONMENT_LENGTH + 1];
    struct rp_limits limits;
    struct rp_network_policy network;
    uint32_t step;
    uint32_t grace_ms;
    uint64_t used, quota;
    int64_t started_at; /* µs */
    bool warm;
    struct rp_sandbox_stats stats;
    uint32_t version, capabilities, cpus;
    uint64_t memory;
    char driver[32];
    uint32_t code, errno_value; /* enum rp_code */
    char text[384];             /* of an error, a reason, or the name of a step of progress */
};

/* The length, or -1 when the message is not one of that direction or its fields break the limits. */
int rp_orchestrator_encode(const struct rp_orchestrator_message *m, enum rp_orchestrator_direction direction,
                           uint8_t *data, size_t cap) RP_MUST_CHECK;

/* 0, or RP_ERROR_PROTOCOL that names the field. A code from a newer peer becomes RP_ERROR_INTERNAL. */
int rp_orchestrator_decode(const uint8_t *data, size_t n, enum rp_orchestrator_direction direction,
                           struct rp_orchestrator_message *ret, struct rp_error *err) RP_MUST_CHECK;

/* What the fields of a request must be; also for the client, before it sends. False with the name of what is
 * wrong. */
bool rp_limits_valid(const struct rp_limits *l);
bool rp_network_policy_valid(const struct rp_network_policy *n);

#endif
