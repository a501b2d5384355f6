#include "init/message.h"

#include <errno.h>
#include <signal.h>

static bool has_nul(struct rp_str s)
{
    return s.n && memchr(s.p, '\0', s.n);
}

/* Fills an array of count strings without NUL. False when there are too many or one is malformed. */
static bool get_strings(struct rp_wire_reader *r, uint32_t *ret_count, struct rp_str *ret, uint32_t max)
{
    uint32_t count = rp_wire_get_u32(r);
    if (r->bad || count > max)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        ret[i] = rp_wire_get_str(r, RP_WIRE_MESSAGE_MAX);
        if (r->bad || has_nul(ret[i]))
            return false;
    }
    *ret_count = count;
    return true;
}

static int decode_spawn(struct rp_wire_reader *r, struct rp_init_request *q)
{
    q->spawn.id = rp_wire_get_u64(r);
    q->spawn.flags = rp_wire_get_u32(r);
    q->spawn.cols = rp_wire_get_u16(r);
    q->spawn.rows = rp_wire_get_u16(r);
    q->spawn.step = rp_wire_get_u32(r);
    q->spawn.cwd = rp_wire_get_str(r, RP_INIT_CWD_MAX);
    if (!get_strings(r, &q->spawn.argc, q->spawn.argv, RP_INIT_ARGV_MAX) ||
        !get_strings(r, &q->spawn.envc, q->spawn.env, RP_INIT_ENV_MAX))
        return -1;
    q->spawn.label = rp_wire_get_str(r, RP_INIT_LABEL_MAX);
    if (!rp_wire_finished(r) || has_nul(q->spawn.cwd))
        return -1;
    if (q->spawn.flags & ~(uint32_t)(RP_SPAWN_PTY | RP_SPAWN_STDIN | RP_SPAWN_MERGE))
        return EINVAL;
    if ((q->spawn.flags & RP_SPAWN_PTY) && (q->spawn.flags & (RP_SPAWN_STDIN | RP_SPAWN_MERGE)))
        return EINVAL;
    if (!q->spawn.id || !q->spawn.argc || !q->spawn.argv[0].n || q->spawn.step >= RP_INIT_STEPS_MAX)
        return EINVAL;
    if (!q->spawn.cwd.n || q->spawn.cwd.p[0] != '/')
        return EINVAL;
    for (uint32_t i = 0; i < q->spawn.envc; i++)
        if (!q->spawn.env[i].n || q->spawn.env[i].p[0] == '=' ||
            !memchr(q->spawn.env[i].p, '=', q->spawn.env[i].n))
            return EINVAL;
    return 0;
}

static int decode_body(struct rp_wire_reader *r, struct rp_init_request *q)
{
    int refused = 0;
    switch (q->type) {
    case RP_INIT_HELLO:
        q->hello.low = rp_wire_get_u32(r);
        q->hello.high = rp_wire_get_u32(r);
        break;
    case RP_INIT_CGROUP:
    case RP_INIT_CGROUP_DROP:
        q->step = rp_wire_get_u32(r);
        refused = q->step >= RP_INIT_STEPS_MAX ? EINVAL : 0;
        break;
    case RP_INIT_SPAWN:
        return decode_spawn(r, q);
    case RP_INIT_SIGNAL:
        q->signal.id = rp_wire_get_u64(r);
        q->signal.signal = rp_wire_get_u32(r);
        q->signal.target = rp_wire_get_u8(r);
        refused = q->signal.signal < 1 || q->signal.signal > 64 || q->signal.target > RP_SIGNAL_SESSION
                      ? EINVAL
                      : 0;
        break;
    case RP_INIT_RESIZE:
        q->resize.id = rp_wire_get_u64(r);
        q->resize.cols = rp_wire_get_u16(r);
        q->resize.rows = rp_wire_get_u16(r);
        break;
    case RP_INIT_CLOSE_STDIN:
    case RP_INIT_REOPEN:
    case RP_INIT_FORGET:
        q->id = rp_wire_get_u64(r);
        break;
    case RP_INIT_LIST:
    case RP_INIT_FILES:
        break;
    case RP_INIT_CONNECT: {
        q->connect.family = rp_wire_get_u8(r);
        const uint8_t *address = rp_wire_take(r, sizeof(q->connect.address));
        if (address)
            memcpy(q->connect.address, address, sizeof(q->connect.address));
        q->connect.port = rp_wire_get_u16(r);
        q->connect.timeout_ms = rp_wire_get_u32(r);
        refused = (q->connect.family != 4 && q->connect.family != 6) || !q->connect.port ? EINVAL : 0;
        break;
    }
    case RP_INIT_PORTS_WATCH:
        q->interval_ms = rp_wire_get_u32(r);
        refused = q->interval_ms && q->interval_ms < 50 ? EINVAL : 0;
        break;
    case RP_INIT_SHUTDOWN:
        q->grace_ms = rp_wire_get_u32(r);
        break;
    default:
        return -1;
    }
    return rp_wire_finished(r) ? refused : -1;
}

int rp_init_decode(const uint8_t *message, size_t n, bool has_fd, struct rp_init_request *ret)
{
    struct rp_wire_reader r = {.data = message, .length = n};
    struct rp_wire_header h = rp_wire_get_header(&r);
    if (r.bad || h.flags || !h.tag)
        return -1;
    ret->type = h.type;
    ret->tag = h.tag;
    /* A descriptor belongs to CGROUP and to nothing else. */
    if (has_fd != (h.type == RP_INIT_CGROUP))
        return -1;
    return decode_body(&r, ret);
}
