/*
 * orchestrator.h: the messages between the gateway (unprivileged) and the orchestrator (root).
 * SOCK_SEQPACKET; wire.h for the coding. Ids, numbers, no path; the orchestrator derives every path itself.
 *
 * The gateway is not trusted: each field is checked against the limits here. A malformed message closes the
 * connection, nothing else. Ids are RP_ID_LENGTH characters of [a-z0-9]; an environment is 64 hexadecimal
 * digits. Every request is answered once with its answer, OK or ERROR and the same tag; events have tag 0.
 */
#ifndef RP_PROTO_ORCHESTRATOR_H
#define RP_PROTO_ORCHESTRATOR_H

#include <stdint.h>

enum {
    RP_ORCHESTRATOR_VERSION = 1,
    RP_ENVIRONMENT_LENGTH = 64,
    RP_ALLOWED_CIDRS_MAX = 64,
};

enum rp_orchestrator_type {
    RP_ORCH_HELLO =
        1, /* → u32 version. ← u32 version, str driver, u32 capabilities, u64 memory bytes, u32 cpus */
    RP_ORCH_OK = 2,
    RP_ORCH_ERROR = 3, /* ← u32 rp_code, u32 errno, str message */

    RP_ORCH_VOLUME_CREATE = 10, /* → id project, u64 quota bytes. ← OK. Idempotent. */
    RP_ORCH_VOLUME_DELETE = 11, /* → id project. ← OK. Idempotent. 409 while a sandbox uses it. */
    RP_ORCH_VOLUME_QUOTA = 12,  /* → id project, u64 quota bytes. ← OK */
    RP_ORCH_VOLUME_USAGE = 13,  /* → id project. ← VOLUME_USED u64 used bytes, u64 quota bytes */
    RP_ORCH_VOLUME_USED = 14,
    RP_ORCH_VOLUME_LIST = 15, /* ← VOLUME id project for each, then OK */
    RP_ORCH_VOLUME = 16,
    RP_ORCH_VOLUME_CLONE = 17, /* → id from, id to. ← OK. A writable snapshot (fork). */

    /* → id sandbox, id project, str environment, limits, network. ← PROGRESS × n, then ATTACHED with the
     * connected descriptor of init's socket (HELLO not yet said on it), or ERROR. Nothing is left behind by
     * an ERROR. */
    RP_ORCH_START = 20,
    RP_ORCH_PROGRESS = 21, /* ← (tag) str step: "volume", "network", "sandbox", "files" … */
    RP_ORCH_ATTACHED = 22, /* ← id sandbox, u64 started_at µs, u8 warm; descriptor */
    RP_ORCH_STOP = 23,     /* → id sandbox, u32 grace ms. ← OK when every trace is gone. Idempotent. */
    RP_ORCH_ATTACH = 24,   /* → id sandbox. ← ATTACHED, or 404 */
    RP_ORCH_LIST =
        25, /* ← SANDBOX id sandbox, id project, str environment, u64 started_at µs; for each; then OK */
    RP_ORCH_SANDBOX = 26,
    RP_ORCH_LIMITS =
        27, /* → id sandbox, u32 step, limits. Makes the step when it is new and tells init. ← OK */
    RP_ORCH_STEP_DROP =
        28, /* → id sandbox, u32 step (not 0). Its processes must be gone, else they are killed. ← OK */
    RP_ORCH_STATS = 29, /* → id sandbox. ← STATISTICS */
    /* ← u64 cpu µs, u64 memory bytes, u64 memory limit, u32 processes, u32 processes limit, u32 cpu limit
     * (thousandths of a CPU), u64 oom kills, u64 received bytes, u64 sent bytes, u64 throttled µs */
    RP_ORCH_STATISTICS = 30,
    RP_ORCH_READY = 31, /* asks that the driver really answers. ← OK or ERROR */

    /* events */
    RP_ORCH_GONE = 40, /* id sandbox, u32 rp_code, str why: the sandbox ended by itself and was cleaned up */
    RP_ORCH_OOM = 41,  /* id sandbox, u32 step: the kernel killed a process of it for memory */
};

/* limits are coded: u64 memory bytes, u32 cpu thousandths, u32 processes, u32 burst cpu thousandths, u32
 * burst ms */
struct rp_limits {
    uint64_t memory;    /* bytes; 16 MiB to 1 TiB */
    uint32_t cpu;       /* thousandths of a CPU; 10 to 1024000 */
    uint32_t processes; /* 8 to 65536 */
    uint32_t burst_cpu; /* for the first burst_ms of the sandbox, when more than cpu; else 0 */
    uint32_t burst_ms;
};

/* network is coded: u8 RP_NETWORK_*, u32 count (allow-list only), each u32 IPv4 address (host order), u8
 * prefix length */
enum {
    RP_NETWORK_NONE = 0,
    RP_NETWORK_INTERNET = 1,
    RP_NETWORK_ALLOW = 2,
};

struct rp_cidr {
    uint32_t address; /* host order */
    uint8_t prefix;
};

struct rp_network_policy {
    uint8_t mode;
    uint32_t count;
    struct rp_cidr allow[RP_ALLOWED_CIDRS_MAX];
};

#endif
