#include "orchestrator/codec.h"

#include <string.h>

#include "proto/wire.h"

enum field {
    END,
    SANDBOX,
    PROJECT,
    OTHER,
    ENVIRONMENT,
    LIMITS,
    NETWORK,
    STEP,
    STEP_NOT_USER,
    GRACE,
    USED,
    QUOTA,
    STARTED_AT,
    WARM,
    STATS,
    VERSION,
    DRIVER,
    CAPABILITIES,
    MEMORY,
    CPUS,
    CODE,
    ERRNO,
    TEXT,
};

static const char *const field_names[] = {
    [SANDBOX] = "sandbox",
    [PROJECT] = "project",
    [OTHER] = "other project",
    [ENVIRONMENT] = "environment",
    [LIMITS] = "limits",
    [NETWORK] = "network",
    [STEP] = "step",
    [STEP_NOT_USER] = "step",
    [GRACE] = "grace",
    [USED] = "used",
    [QUOTA] = "quota",
    [STARTED_AT] = "started at",
    [WARM] = "warm",
    [STATS] = "statistics",
    [VERSION] = "version",
    [DRIVER] = "driver",
    [CAPABILITIES] = "capabilities",
    [MEMORY] = "memory",
    [CPUS] = "cpus",
    [CODE] = "code",
    [ERRNO] = "errno",
    [TEXT] = "text",
};

enum { FIELDS_MAX = 6 };

static const struct shape {
    uint8_t type;
    uint8_t direction;
    uint8_t fields[FIELDS_MAX];
} shapes[] = {
    {RP_ORCH_HELLO, RP_TO_ORCHESTRATOR, {VERSION}},
    {RP_ORCH_VOLUME_CREATE, RP_TO_ORCHESTRATOR, {PROJECT, QUOTA}},
    {RP_ORCH_VOLUME_DELETE, RP_TO_ORCHESTRATOR, {PROJECT}},
    {RP_ORCH_VOLUME_QUOTA, RP_TO_ORCHESTRATOR, {PROJECT, QUOTA}},
    {RP_ORCH_VOLUME_USAGE, RP_TO_ORCHESTRATOR, {PROJECT}},
    {RP_ORCH_VOLUME_LIST, RP_TO_ORCHESTRATOR, {END}},
    {RP_ORCH_VOLUME_CLONE, RP_TO_ORCHESTRATOR, {PROJECT, OTHER}},
    {RP_ORCH_START, RP_TO_ORCHESTRATOR, {SANDBOX, PROJECT, ENVIRONMENT, LIMITS, NETWORK}},
    {RP_ORCH_STOP, RP_TO_ORCHESTRATOR, {SANDBOX, GRACE}},
    {RP_ORCH_ATTACH, RP_TO_ORCHESTRATOR, {SANDBOX}},
    {RP_ORCH_LIST, RP_TO_ORCHESTRATOR, {END}},
    {RP_ORCH_LIMITS, RP_TO_ORCHESTRATOR, {SANDBOX, STEP, LIMITS}},
    {RP_ORCH_STEP_DROP, RP_TO_ORCHESTRATOR, {SANDBOX, STEP_NOT_USER}},
    {RP_ORCH_STATS, RP_TO_ORCHESTRATOR, {SANDBOX}},
    {RP_ORCH_READY, RP_TO_ORCHESTRATOR, {END}},

    {RP_ORCH_HELLO, RP_TO_GATEWAY, {VERSION, DRIVER, CAPABILITIES, MEMORY, CPUS}},
    {RP_ORCH_OK, RP_TO_GATEWAY, {END}},
    {RP_ORCH_ERROR, RP_TO_GATEWAY, {CODE, ERRNO, TEXT}},
    {RP_ORCH_VOLUME_USED, RP_TO_GATEWAY, {USED, QUOTA}},
    {RP_ORCH_VOLUME, RP_TO_GATEWAY, {PROJECT}},
    {RP_ORCH_PROGRESS, RP_TO_GATEWAY, {TEXT}},
    {RP_ORCH_ATTACHED, RP_TO_GATEWAY, {SANDBOX, STARTED_AT, WARM}},
    {RP_ORCH_SANDBOX, RP_TO_GATEWAY, {SANDBOX, PROJECT, ENVIRONMENT, STARTED_AT}},
    {RP_ORCH_STATISTICS, RP_TO_GATEWAY, {STATS}},
    {RP_ORCH_GONE, RP_TO_GATEWAY, {SANDBOX, CODE, TEXT}},
    {RP_ORCH_OOM, RP_TO_GATEWAY, {SANDBOX, STEP}},
};

static const struct shape *shape_of(uint16_t type, enum rp_orchestrator_direction direction)
{
    for (size_t i = 0; i < RP_ARRAY_SIZE(shapes); i++)
        if (shapes[i].type == type && shapes[i].direction == direction)
            return &shapes[i];
    return NULL;
}

/* ---- what must hold ---- */

bool rp_limits_valid(const struct rp_limits *l)
{
    return l->memory >= UINT64_C(16) << 20 && l->memory <= UINT64_C(1) << 40 && l->cpu >= 10 &&
           l->cpu <= 1024000 && l->processes >= 8 && l->processes <= 65536 &&
           (l->burst_cpu == 0 || (l->burst_cpu >= l->cpu && l->burst_cpu <= 1024000)) &&
           l->burst_ms <= RP_ORCH_BURST_MAX_MS;
}

bool rp_network_policy_valid(const struct rp_network_policy *n)
{
    if (n->mode > RP_NETWORK_ALLOW || n->count > RP_ALLOWED_CIDRS_MAX ||
        (n->count && n->mode != RP_NETWORK_ALLOW))
        return false;
    for (uint32_t i = 0; i < n->count; i++) {
        uint8_t prefix = n->allow[i].prefix;
        if (prefix > 32 || (prefix < 32 && (n->allow[i].address & (UINT32_MAX >> prefix))))
            return false;
    }
    return true;
}

static bool environment_valid(const char *s)
{
    size_t n = strspn(s, "0123456789abcdef");
    return n == RP_ENVIRONMENT_LENGTH && s[n] == '\0';
}

static bool field_valid(const struct rp_orchestrator_message *m, enum field f)
{
    switch (f) {
    case SANDBOX:
        return rp_id_valid(m->sandbox, strnlen(m->sandbox, sizeof(m->sandbox)));
    case PROJECT:
        return rp_id_valid(m->project, strnlen(m->project, sizeof(m->project)));
    case OTHER:
        return rp_id_valid(m->other, strnlen(m->other, sizeof(m->other)));
    case ENVIRONMENT:
        return environment_valid(m->environment);
    case LIMITS:
        return rp_limits_valid(&m->limits);
    case NETWORK:
        return rp_network_policy_valid(&m->network);
    case STEP_NOT_USER:
        return m->step > 0 && m->step <= RP_ORCH_STEP_MAX;
    case STEP:
        return m->step <= RP_ORCH_STEP_MAX;
    case GRACE:
        return m->grace_ms <= RP_ORCH_GRACE_MAX_MS;
    case QUOTA:
        return m->quota <= UINT64_C(1) << 50;
    default:
        return true;
    }
}

/* ---- bytes ---- */

static void put_field(struct rp_wire_writer *w, const struct rp_orchestrator_message *m, enum field f)
{
    switch (f) {
    case END:
        break;
    case SANDBOX:
        rp_wire_put(w, m->sandbox, RP_ID_LENGTH);
        break;
    case PROJECT:
        rp_wire_put(w, m->project, RP_ID_LENGTH);
        break;
    case OTHER:
        rp_wire_put(w, m->other, RP_ID_LENGTH);
        break;
    case ENVIRONMENT:
        rp_wire_put_str(w, rp_str_of(m->environment));
        break;
    case LIMITS:
        rp_wire_put_u64(w, m->limits.memory);
        rp_wire_put_u32(w, m->limits.cpu);
        rp_wire_put_u32(w, m->limits.processes);
        rp_wire_put_u32(w, m->limits.burst_cpu);
        rp_wire_put_u32(w, m->limits.burst_ms);
        break;
    case NETWORK:
        rp_wire_put_u8(w, m->network.mode);
        rp_wire_put_u32(w, m->network.count);
        for (uint32_t i = 0; i < m->network.count; i++) {
            rp_wire_put_u32(w, m->network.allow[i].address);
            rp_wire_put_u8(w, m->network.allow[i].prefix);
        }
        break;
    case STEP:
    case STEP_NOT_USER:
        rp_wire_put_u32(w, m->step);
        break;
    case GRACE:
        rp_wire_put_u32(w, m->grace_ms);
        break;
    case USED:
        rp_wire_put_u64(w, m->used);
        break;
    case QUOTA:
        rp_wire_put_u64(w, m->quota);
        break;
    case STARTED_AT:
        rp_wire_put_u64(w, (uint64_t)m->started_at);
        break;
    case WARM:
        rp_wire_put_u8(w, m->warm);
        break;
    case STATS:
        rp_wire_put_u64(w, m->stats.cpu_us);
        rp_wire_put_u64(w, m->stats.memory);
        rp_wire_put_u64(w, m->stats.memory_limit);
        rp_wire_put_u32(w, m->stats.processes);
        rp_wire_put_u32(w, m->stats.processes_limit);
        rp_wire_put_u32(w, m->stats.cpu_limit);
        rp_wire_put_u64(w, m->stats.oom_kills);
        rp_wire_put_u64(w, m->stats.received);
        rp_wire_put_u64(w, m->stats.sent);
        rp_wire_put_u64(w, m->stats.throttled_us);
        break;
    case VERSION:
        rp_wire_put_u32(w, m->version);
        break;
    case DRIVER:
        rp_wire_put_str(w, rp_str_of(m->driver));
        break;
    case CAPABILITIES:
        rp_wire_put_u32(w, m->capabilities);
        break;
    case MEMORY:
        rp_wire_put_u64(w, m->memory);
        break;
    case CPUS:
        rp_wire_put_u32(w, m->cpus);
        break;
    case CODE:
        rp_wire_put_u32(w, m->code);
        break;
    case ERRNO:
        rp_wire_put_u32(w, m->errno_value);
        break;
    case TEXT:
        rp_wire_put_str(w, rp_str_of(m->text));
        break;
    }
}

static void get_id(struct rp_wire_reader *r, char *dst)
{
    const uint8_t *p = rp_wire_take(r, RP_ID_LENGTH);
    if (p && rp_id_valid((const char *)p, RP_ID_LENGTH))
        memcpy(dst, p, RP_ID_LENGTH);
    else
        r->bad = true;
}

static void get_text(struct rp_wire_reader *r, char *dst, size_t cap)
{
    struct rp_str s = rp_wire_get_str(r, cap - 1);
    if (!rp_utf8_valid(s.p, s.n) || !rp_str_copy(dst, cap, s))
        r->bad = true;
}

static void get_field(struct rp_wire_reader *r, struct rp_orchestrator_message *m, enum field f)
{
    switch (f) {
    case END:
        break;
    case SANDBOX:
        get_id(r, m->sandbox);
        break;
    case PROJECT:
        get_id(r, m->project);
        break;
    case OTHER:
        get_id(r, m->other);
        break;
    case ENVIRONMENT:
        get_text(r, m->environment, sizeof(m->environment));
        break;
    case LIMITS:
        m->limits.memory = rp_wire_get_u64(r);
        m->limits.cpu = rp_wire_get_u32(r);
        m->limits.processes = rp_wire_get_u32(r);
        m->limits.burst_cpu = rp_wire_get_u32(r);
        m->limits.burst_ms = rp_wire_get_u32(r);
        break;
    case NETWORK:
        m->network.mode = rp_wire_get_u8(r);
        m->network.count = rp_wire_get_u32(r);
        if (m->network.count > RP_ALLOWED_CIDRS_MAX)
            r->bad = true;
        for (uint32_t i = 0; i < m->network.count && !r->bad; i++) {
            m->network.allow[i].address = rp_wire_get_u32(r);
            m->network.allow[i].prefix = rp_wire_get_u8(r);
        }
        break;
    case STEP:
    case STEP_NOT_USER:
        m->step = rp_wire_get_u32(r);
        break;
    case GRACE:
        m->grace_ms = rp_wire_get_u32(r);
        break;
    case USED:
        m->used = rp_wire_get_u64(r);
        break;
    case QUOTA:
        m->quota = rp_wire_get_u64(r);
        break;
    case STARTED_AT:
        m->started_at = (int64_t)rp_wire_get_u64(r);
        break;
    case WARM: {
        uint8_t warm = rp_wire_get_u8(r);
        if (warm > 1)
            r->bad = true;
        m->warm = warm == 1;
        break;
    }
    case STATS:
        m->stats.cpu_us = rp_wire_get_u64(r);
        m->stats.memory = rp_wire_get_u64(r);
        m->stats.memory_limit = rp_wire_get_u64(r);
        m->stats.processes = rp_wire_get_u32(r);
        m->stats.processes_limit = rp_wire_get_u32(r);
        m->stats.cpu_limit = rp_wire_get_u32(r);
        m->stats.oom_kills = rp_wire_get_u64(r);
        m->stats.received = rp_wire_get_u64(r);
        m->stats.sent = rp_wire_get_u64(r);
        m->stats.throttled_us = rp_wire_get_u64(r);
        break;
    case VERSION:
        m->version = rp_wire_get_u32(r);
        break;
    case DRIVER:
        get_text(r, m->driver, sizeof(m->driver));
        break;
    case CAPABILITIES:
        m->capabilities = rp_wire_get_u32(r);
        break;
    case MEMORY:
        m->memory = rp_wire_get_u64(r);
        break;
    case CPUS:
        m->cpus = rp_wire_get_u32(r);
        break;
    case CODE:
        m->code = rp_wire_get_u32(r);
        if (m->code == RP_ERROR_NONE || m->code >= RP_ERROR_CODE_MAX)
            m->code = RP_ERROR_INTERNAL;
        break;
    case ERRNO:
        m->errno_value = rp_wire_get_u32(r);
        break;
    case TEXT:
        get_text(r, m->text, sizeof(m->text));
        break;
    }
}

int rp_orchestrator_encode(const struct rp_orchestrator_message *m, enum rp_orchestrator_direction direction,
                           uint8_t *data, size_t cap)
{
    const struct shape *s = shape_of(m->type, direction);
    if (!s || (direction == RP_TO_ORCHESTRATOR && m->tag == 0))
        return -1;
    struct rp_wire_writer w = rp_wire_begin(data, cap, m->type, 0, m->tag);
    for (size_t i = 0; i < FIELDS_MAX && s->fields[i] != END; i++) {
        if (!field_valid(m, s->fields[i]))
            return -1;
        put_field(&w, m, s->fields[i]);
    }
    return w.overflow ? -1 : (int)w.length;
}

int rp_orchestrator_decode(const uint8_t *data, size_t n, enum rp_orchestrator_direction direction,
                           struct rp_orchestrator_message *ret, struct rp_error *err)
{
    struct rp_wire_reader r = {.data = data, .length = n};
    struct rp_wire_header h = rp_wire_get_header(&r);
    const struct shape *s = r.bad ? NULL : shape_of(h.type, direction);
    if (!s)
        return rp_error_set(err, RP_ERROR_PROTOCOL, "message of unknown type %u", h.type);
    if (h.flags)
        return rp_error_set(err, RP_ERROR_PROTOCOL, "message of type %u: unknown flags", h.type);
    if (direction == RP_TO_ORCHESTRATOR && h.tag == 0)
        return rp_error_set(err, RP_ERROR_PROTOCOL, "request of type %u without a tag", h.type);
    struct rp_orchestrator_message m = {.type = h.type, .tag = h.tag};
    for (size_t i = 0; i < FIELDS_MAX && s->fields[i] != END; i++) {
        get_field(&r, &m, s->fields[i]);
        if (r.bad || !field_valid(&m, s->fields[i]))
            return rp_error_set(err, RP_ERROR_PROTOCOL, "message of type %u: bad %s", h.type,
                                field_names[s->fields[i]]);
    }
    if (!rp_wire_finished(&r))
        return rp_error_set(err, RP_ERROR_PROTOCOL, "message of type %u: %zu bytes too many", h.type,
                            r.length - r.at);
    *ret = m;
    return 0;
}
