/* orchestrator/codec: each message survives the way there and back; what is out of range, cut, longer or
 * unknown is refused on both ends. */
#include "../cmocka_all.h"

#include "orchestrator/codec.h"
#include "proto/wire.h"

#define ID1         "abcdefghij012345"
#define ID2         "0000000000000000"
#define ID3         "zzzzzzzzzzzzzzz9"
#define ENVIRONMENT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct rp_orchestrator_message full(uint16_t type)
{
    struct rp_orchestrator_message m = {
        .type = type,
        .tag = 7,
        .sandbox = ID1,
        .project = ID2,
        .other = ID3,
        .environment = ENVIRONMENT,
        .limits = {256u << 20, 500, 100, 2000, 10000},
        .network = {RP_NETWORK_ALLOW, 2, {{0x0a000000, 8}, {0x01020304, 32}}},
        .step = 3,
        .grace_ms = 5000,
        .used = 12345678901234,
        .quota = UINT64_C(1) << 40,
        .started_at = INT64_C(1767323045678000),
        .warm = true,
        .stats = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
        .version = 1,
        .capabilities = 15,
        .cpus = 2,
        .memory = UINT64_C(1) << 35,
        .driver = "oci",
        .code = RP_ERROR_DISK_FULL,
        .errno_value = ENOSPC,
        .text = "no space left, caf\xc3\xa9",
    };
    return m;
}

static const uint16_t requests[] = {
    RP_ORCH_HELLO,        RP_ORCH_VOLUME_CREATE, RP_ORCH_VOLUME_DELETE, RP_ORCH_VOLUME_QUOTA,
    RP_ORCH_VOLUME_USAGE, RP_ORCH_VOLUME_LIST,   RP_ORCH_VOLUME_CLONE,  RP_ORCH_START,
    RP_ORCH_STOP,         RP_ORCH_ATTACH,        RP_ORCH_LIST,          RP_ORCH_LIMITS,
    RP_ORCH_STEP_DROP,    RP_ORCH_STATS,         RP_ORCH_READY,
};
static const uint16_t answers[] = {
    RP_ORCH_HELLO,      RP_ORCH_OK,       RP_ORCH_ERROR,    RP_ORCH_VOLUME_USED,
    RP_ORCH_VOLUME,     RP_ORCH_PROGRESS, RP_ORCH_ATTACHED, RP_ORCH_SANDBOX,
    RP_ORCH_STATISTICS, RP_ORCH_GONE,     RP_ORCH_OOM,
};

/* Encodes, decodes, encodes again: the same bytes; every shorter or longer message is refused. */
static void round_trip(uint16_t type, enum rp_orchestrator_direction direction)
{
    struct rp_orchestrator_message m = full(type), back;
    uint8_t a[RP_ORCH_MESSAGE_SIZE_MAX], b[RP_ORCH_MESSAGE_SIZE_MAX];
    struct rp_error e = {0};
    int n = rp_orchestrator_encode(&m, direction, a, sizeof(a));
    assert_true(n >= RP_WIRE_HEADER_SIZE);
    if (rp_orchestrator_decode(a, (size_t)n, direction, &back, &e) < 0)
        fail_msg("type %u: %s", type, e.message);
    assert_int_equal(rp_orchestrator_encode(&back, direction, b, sizeof(b)), n);
    assert_memory_equal(a, b, (size_t)n);
    for (int cut = 0; cut < n; cut++) {
        uint8_t *exact = rp_alloc((size_t)cut + 1);
        memcpy(exact, a, (size_t)cut);
        assert_int_equal(rp_orchestrator_decode(exact, (size_t)cut, direction, &back, &e), -1);
        assert_int_equal(e.code, RP_ERROR_PROTOCOL);
        free(exact);
        assert_int_equal(rp_orchestrator_encode(&m, direction, b, (size_t)cut), -1);
    }
    a[n] = 0;
    assert_int_equal(rp_orchestrator_decode(a, (size_t)n + 1, direction, &back, &e), -1);
    a[2] = 1; /* a flag */
    assert_int_equal(rp_orchestrator_decode(a, (size_t)n, direction, &back, &e), -1);
}

static void every_message_round_trips(void **state)
{
    for (size_t i = 0; i < RP_ARRAY_SIZE(requests); i++)
        round_trip(requests[i], RP_TO_ORCHESTRATOR);
    for (size_t i = 0; i < RP_ARRAY_SIZE(answers); i++)
        round_trip(answers[i], RP_TO_GATEWAY);
}

static void a_start_keeps_its_fields(void **state)
{
    struct rp_orchestrator_message m = full(RP_ORCH_START), back;
    uint8_t data[RP_ORCH_MESSAGE_SIZE_MAX];
    int n = rp_orchestrator_encode(&m, RP_TO_ORCHESTRATOR, data, sizeof(data));
    assert_int_equal(rp_orchestrator_decode(data, (size_t)n, RP_TO_ORCHESTRATOR, &back, NULL), 0);
    assert_int_equal(back.tag, 7);
    assert_string_equal(back.sandbox, ID1);
    assert_string_equal(back.project, ID2);
    assert_string_equal(back.environment, ENVIRONMENT);
    assert_memory_equal(&back.limits, &m.limits, sizeof(m.limits));
    assert_int_equal(back.network.count, 2);
    assert_int_equal(back.network.allow[1].address, 0x01020304);
}

static void directions_are_not_mixed(void **state)
{
    struct rp_orchestrator_message m = full(RP_ORCH_START), back;
    uint8_t data[RP_ORCH_MESSAGE_SIZE_MAX];
    assert_int_equal(rp_orchestrator_encode(&m, RP_TO_GATEWAY, data, sizeof(data)), -1);
    int n = rp_orchestrator_encode(&m, RP_TO_ORCHESTRATOR, data, sizeof(data));
    assert_int_equal(rp_orchestrator_decode(data, (size_t)n, RP_TO_GATEWAY, &back, NULL), -1);
    m.tag = 0;
    assert_int_equal(rp_orchestrator_encode(&m, RP_TO_ORCHESTRATOR, data, sizeof(data)), -1);
    memset(data + 4, 0, 4);
    assert_int_equal(rp_orchestrator_decode(data, (size_t)n, RP_TO_ORCHESTRATOR, &back, NULL), -1);
}

/* A change to a good message that makes it bad; also put on the wire past the encoder. */
struct bad {
    uint16_t type;
    const char *what;
    void (*spoil)(struct rp_orchestrator_message *m);
};

static void spoil_id(struct rp_orchestrator_message *m)
{
    memcpy(m->sandbox, "../../etc/passwd", 16);
}
static void spoil_short_id(struct rp_orchestrator_message *m)
{
    m->project[5] = '\0';
}
static void spoil_clone(struct rp_orchestrator_message *m)
{
    m->other[0] = 'A';
}
static void spoil_environment(struct rp_orchestrator_message *m)
{
    m->environment[10] = 'G';
}
static void spoil_short_environment(struct rp_orchestrator_message *m)
{
    m->environment[63] = '\0';
}
static void spoil_memory(struct rp_orchestrator_message *m)
{
    m->limits.memory = (16u << 20) - 1;
}
static void spoil_huge_memory(struct rp_orchestrator_message *m)
{
    m->limits.memory = (UINT64_C(1) << 40) + 1;
}
static void spoil_cpu(struct rp_orchestrator_message *m)
{
    m->limits.cpu = 9;
}
static void spoil_processes(struct rp_orchestrator_message *m)
{
    m->limits.processes = 65537;
}
static void spoil_burst(struct rp_orchestrator_message *m)
{
    m->limits.burst_cpu = m->limits.cpu - 1;
}
static void spoil_mode(struct rp_orchestrator_message *m)
{
    m->network.mode = 3;
}
static void spoil_list_mode(struct rp_orchestrator_message *m)
{
    m->network.mode = RP_NETWORK_INTERNET;
}
static void spoil_host_bits(struct rp_orchestrator_message *m)
{
    m->network.allow[0].address |= 1;
}
static void spoil_prefix(struct rp_orchestrator_message *m)
{
    m->network.allow[1].prefix = 33;
}
static void spoil_grace(struct rp_orchestrator_message *m)
{
    m->grace_ms = 60001;
}
static void spoil_step(struct rp_orchestrator_message *m)
{
    m->step = 16;
}
static void spoil_user_step(struct rp_orchestrator_message *m)
{
    m->step = 0;
}
static void spoil_quota(struct rp_orchestrator_message *m)
{
    m->quota = UINT64_MAX;
}

static void bad_fields_are_refused(void **state)
{
    static const struct bad list[] = {
        {RP_ORCH_START, "sandbox", spoil_id},
        {RP_ORCH_START, "project", spoil_short_id},
        {RP_ORCH_VOLUME_CLONE, "other project", spoil_clone},
        {RP_ORCH_START, "environment", spoil_environment},
        {RP_ORCH_START, "environment", spoil_short_environment},
        {RP_ORCH_START, "limits", spoil_memory},
        {RP_ORCH_START, "limits", spoil_huge_memory},
        {RP_ORCH_LIMITS, "limits", spoil_cpu},
        {RP_ORCH_LIMITS, "limits", spoil_processes},
        {RP_ORCH_LIMITS, "limits", spoil_burst},
        {RP_ORCH_START, "network", spoil_mode},
        {RP_ORCH_START, "network", spoil_list_mode},
        {RP_ORCH_START, "network", spoil_host_bits},
        {RP_ORCH_START, "network", spoil_prefix},
        {RP_ORCH_STOP, "grace", spoil_grace},
        {RP_ORCH_LIMITS, "step", spoil_step},
        {RP_ORCH_STEP_DROP, "step", spoil_user_step},
        {RP_ORCH_VOLUME_CREATE, "quota", spoil_quota},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(list); i++) {
        struct rp_orchestrator_message good = full(list[i].type), bad = good;
        list[i].spoil(&bad);
        uint8_t data[RP_ORCH_MESSAGE_SIZE_MAX];
        assert_int_equal(rp_orchestrator_encode(&bad, RP_TO_ORCHESTRATOR, data, sizeof(data)), -1);
    }
}

/* The same on the receiving side: bytes of a good message, one field overwritten. */
static void bad_bytes_are_refused(void **state)
{
    enum {
        SANDBOX = 8,
        PROJECT = 24,
        ENV_LENGTH = 40,
        ENV = 44,
        MEMORY = 108,
        CPU = 116,
        PROCESSES = 120,
        BURST = 124,
        MODE = 132,
        COUNT = 133,
        PREFIX = 141
    };
    static const struct {
        size_t at, n;
        const char *bytes, *message;
    } list[] = {
        {SANDBOX, 1, "/", "message of type 20: bad sandbox"},
        {SANDBOX, 1, "\0", "message of type 20: bad sandbox"},
        {PROJECT + 15, 1, "A", "message of type 20: bad project"},
        {ENV_LENGTH, 4, "\xff\xff\xff\xff", "message of type 20: bad environment"},
        {ENV, 1, "/", "message of type 20: bad environment"},
        {ENV, 1, "\0", "message of type 20: bad environment"},
        {MEMORY, 8, "\xff\xff\xff\xff\xff\xff\xff\xff", "message of type 20: bad limits"},
        {CPU, 4, "\0\0\0\0", "message of type 20: bad limits"},
        {PROCESSES, 4, "\xff\xff\xff\xff", "message of type 20: bad limits"},
        {BURST, 4, "\1\0\0\0", "message of type 20: bad limits"},
        {MODE, 1, "\1", "message of type 20: bad network"},
        {COUNT, 4, "\xff\xff\xff\xff", "message of type 20: bad network"},
        {PREFIX, 1, "\x21", "message of type 20: bad network"},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(list); i++) {
        struct rp_orchestrator_message m = full(RP_ORCH_START), back;
        uint8_t data[RP_ORCH_MESSAGE_SIZE_MAX];
        struct rp_error e = {0};
        int n = rp_orchestrator_encode(&m, RP_TO_ORCHESTRATOR, data, sizeof(data));
        memcpy(data + list[i].at, list[i].bytes, list[i].n);
        assert_int_equal(rp_orchestrator_decode(data, (size_t)n, RP_TO_ORCHESTRATOR, &back, &e), -1);
        assert_string_equal(e.message, list[i].message);
    }
}

static void a_newer_peers_code_is_internal(void **state)
{
    struct rp_orchestrator_message m = full(RP_ORCH_ERROR), back;
    uint8_t data[RP_ORCH_MESSAGE_SIZE_MAX];
    m.code = 9999;
    int n = rp_orchestrator_encode(&m, RP_TO_GATEWAY, data, sizeof(data));
    assert_int_equal(rp_orchestrator_decode(data, (size_t)n, RP_TO_GATEWAY, &back, NULL), 0);
    assert_int_equal(back.code, RP_ERROR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_round_trips), cmocka_unit_test(a_start_keeps_its_fields),
        cmocka_unit_test(directions_are_not_mixed),  cmocka_unit_test(bad_fields_are_refused),
        cmocka_unit_test(bad_bytes_are_refused),     cmocka_unit_test(a_newer_peers_code_is_internal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
