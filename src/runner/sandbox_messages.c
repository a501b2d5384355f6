/*
 * sandbox_messages.c: what init sends, each field of it checked. Init runs inside the sandbox: whoever took
 * it over speaks here.
 */
#include "runner/received.h"
#include "runner/sandbox_internal.h"

static bool signal_valid(int32_t code, uint32_t signal)
{
    return signal == 0 ? code >= 0 && code <= 255 : code == -1 && signal <= 64;
}

static bool read_exit(struct rp_wire_reader *r, struct rp_exit *ret)
{
    int32_t code = (int32_t)rp_wire_get_u32(r);
    uint32_t signal = rp_wire_get_u32(r);
    ret->user_us = rp_wire_get_u64(r);
    ret->system_us = rp_wire_get_u64(r);
    ret->peak_rss = rp_wire_get_u64(r);
    ret->code = code;
    ret->signal = (int)signal;
    return !r->bad && signal_valid(code, signal);
}

static void on_exited(struct rp_sandbox *s, struct rp_wire_reader *r)
{
    struct rp_exit exit;
    uint64_t id = rp_wire_get_u64(r);
    if (!read_exit(r, &exit) || !rp_wire_finished(r) || id == 0) {
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a malformed exit event");
        return;
    }
    s->events.on_exited(s->ctx, id, &exit);
}

/* A name for display, from inside: no control characters, and cut. */
static void copy_name(char *dst, size_t cap, struct rp_str name)
{
    size_t n = 0;
    for (size_t i = 0; i < name.n && n + 1 < cap; i++) {
        unsigned char c = (unsigned char)name.p[i];
        dst[n++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    dst[n] = '\0';
}

static void on_ports(struct rp_sandbox *s, struct rp_wire_reader *r)
{
    uint32_t count = rp_wire_get_u32(r);
    struct rp_port *ports = NULL;
    bool good = count <= RP_INIT_PORTS_MAX;
    if (good && count)
        ports = rp_calloc(count, sizeof(*ports));
    for (uint32_t i = 0; good && i < count; i++) {
        ports[i].family = rp_wire_get_u8(r);
        const uint8_t *address = rp_wire_take(r, sizeof(ports[i].address));
        if (address)
            memcpy(ports[i].address, address, sizeof(ports[i].address));
        ports[i].port = rp_wire_get_u16(r);
        ports[i].pid = rp_wire_get_u32(r);
        copy_name(ports[i].command, sizeof(ports[i].command), rp_wire_get_str(r, 4096));
        good = !r->bad && (ports[i].family == 4 || ports[i].family == 6) && ports[i].port != 0;
    }
    if (!good || !rp_wire_finished(r)) {
        free(ports);
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a malformed list of ports");
        return;
    }
    free(s->ports);
    s->ports = ports;
    s->port_count = count;
    s->events.on_ports(s->ctx, s->ports, s->port_count);
}

/* The version that init chose, and the probe, by which we see that descriptors arrive. */
static void on_hello(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r, int fd)
{
    uint32_t version = rp_wire_get_u32(r);
    uint32_t reserved = rp_wire_get_u32(r);
    struct rp_error err;
    if (!rp_wire_finished(r) || reserved != 0 || version < RP_INIT_VERSION_MIN || version > RP_INIT_VERSION) {
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a malformed hello");
        return;
    }
    if (rp_received_probe(fd, &err) < 0) {
        rp_error_prefix(&err, "sandbox %s", s->id);
        rp_sandbox_break(s, &err);
        return;
    }
    rp_sandbox_find(s, p->tag, true);
    free(p);
    s->greeted = true;
    void (*ready)(void *, const struct rp_error *) = s->ready;
    s->ready = NULL;
    ready(s->ctx, NULL);
}

static void on_error(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r)
{
    uint32_t errnum = rp_wire_get_u32(r);
    struct rp_str text = rp_wire_get_str(r, RP_WIRE_MESSAGE_MAX);
    if (!rp_wire_finished(r) || errnum == 0 || errnum > 4095) {
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a malformed error");
        return;
    }
    char message[256];
    copy_name(message, sizeof(message), text);
    struct rp_error err;
    enum rp_code code = RP_ERROR_SANDBOX;
    switch (p->type) {
    case RP_INIT_SPAWN:
        code =
            errnum == ENOENT || errnum == EACCES || errnum == ENOEXEC || errnum == ENOTDIR || errnum == E2BIG
                ? RP_ERROR_INVALID
            : errnum == EAGAIN ? RP_ERROR_QUOTA
            : errnum == EEXIST ? RP_ERROR_EXISTS
                               : RP_ERROR_SANDBOX;
        break;
    case RP_INIT_CONNECT:
        code = errnum == ETIMEDOUT ? RP_ERROR_TIMEOUT
               : errnum == EAGAIN  ? RP_ERROR_UNAVAILABLE
                                   : RP_ERROR_PORT_CLOSED;
        break;
    default:
        code = errnum == ESRCH || errnum == ENOENT ? RP_ERROR_NOT_FOUND
               : errnum == EAGAIN                  ? RP_ERROR_UNAVAILABLE
               : errnum == EBUSY                   ? RP_ERROR_CONFLICT
                                                   : RP_ERROR_SANDBOX;
    }
    rp_error_set(&err, code, "%s", message[0] ? message : strerrordesc_np((int)errnum) ?: "unknown error");
    err.errno_value = (int)errnum;
    if (p->type == RP_INIT_HELLO) {
        rp_error_prefix(&err, "sandbox %s refuses to talk", s->id);
        rp_sandbox_break(s, &err);
        return;
    }
    rp_sandbox_answer(rp_sandbox_find(s, p->tag, true), -1, &err);
}

/* One of the descriptors of a spawn or reopen. */
static void on_stream(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r, int *fd)
{
    uint64_t id = rp_wire_get_u64(r);
    uint8_t stream = rp_wire_get_u8(r);
    struct rp_error err;
    if (!rp_wire_finished(r) || id != p->id || stream > RP_STREAM_PTY || !(p->wanted & 1u << stream) ||
        p->fds[stream] >= 0 || (p->type == RP_INIT_SPAWN && !p->spawned)) {
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a stream that was not asked for");
        return;
    }
    if (rp_received_stream(*fd, stream, &err) < 0) {
        rp_error_prefix(&err, "sandbox %s", s->id);
        rp_sandbox_break(s, &err);
        return;
    }
    p->fds[stream] = RP_STEAL_FD(*fd);
    unsigned have = 0;
    for (unsigned i = 0; i < 4; i++)
        have |= p->fds[i] >= 0 ? 1u << i : 0;
    if (p->type == RP_INIT_SPAWN && have == p->wanted)
        rp_sandbox_answer(rp_sandbox_find(s, p->tag, true), -1, NULL);
}

static void on_spawned(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r)
{
    uint64_t id = rp_wire_get_u64(r);
    uint32_t pid = rp_wire_get_u32(r);
    if (!rp_wire_finished(r) || p->spawned || id != p->id || pid < 2 || pid > INT32_MAX) {
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a malformed answer to a spawn");
        return;
    }
    p->spawned = true;
    p->pid = pid;
}

static void on_process(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r)
{
    struct rp_sandbox_process_info info = {0};
    info.id = rp_wire_get_u64(r);
    info.pid = rp_wire_get_u32(r);
    info.flags = rp_wire_get_u32(r);
    uint8_t exited = rp_wire_get_u8(r);
    bool exit_valid = read_exit(r, &info.exit);
    info.exited = exited == 1;
    info.started_ns = rp_wire_get_u64(r);
    info.label = rp_wire_get_str(r, RP_INIT_LABEL_MAX);
    if (!rp_wire_finished(r) || info.id == 0 || exited > 1 || (info.exited && !exit_valid) ||
        (info.flags & ~(uint32_t)(RP_SPAWN_PTY | RP_SPAWN_STDIN | RP_SPAWN_MERGE)) ||
        ++p->listed > RP_INIT_PROCESSES_MAX) {
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a malformed entry in the list of processes");
        return;
    }
    p->each(p->ctx, &info);
}

static void on_connected(struct rp_sandbox *s, struct pending *p, struct rp_wire_reader *r, int *fd)
{
    struct rp_error err;
    int rc = p->type == RP_INIT_CONNECT ? rp_received_connection(*fd, p->port, &err)
                                        : rp_received_channel(*fd, &err);
    if (!rp_wire_finished(r)) {
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a malformed answer to a connect");
        return;
    }
    if (rc < 0) {
        rp_error_prefix(&err, "sandbox %s", s->id);
        rp_sandbox_break(s, &err);
        return;
    }
    rp_sandbox_answer(rp_sandbox_find(s, p->tag, true), RP_STEAL_FD(*fd), NULL);
}

/* Whether a message of this type may answer that request, and whether it carries a descriptor. */
static bool fits(uint16_t type, const struct pending *p, bool *ret_descriptor)
{
    *ret_descriptor = false;
    switch (type) {
    case RP_INIT_ERROR:
        return true;
    case RP_INIT_OK:
        switch (p->type) {
        case RP_INIT_SPAWN:
        case RP_INIT_HELLO:
        case RP_INIT_CONNECT:
        case RP_INIT_FILES:
            return false;
        default:
            return true;
        }
    case RP_INIT_HELLO:
        *ret_descriptor = true;
        return p->type == RP_INIT_HELLO;
    case RP_INIT_SPAWNED:
        return p->type == RP_INIT_SPAWN;
    case RP_INIT_STREAM:
        *ret_descriptor = true;
        return p->type == RP_INIT_SPAWN || p->type == RP_INIT_REOPEN;
    case RP_INIT_PROCESS:
        return p->type == RP_INIT_LIST;
    case RP_INIT_CONNECTED:
        *ret_descriptor = true;
        return p->type == RP_INIT_CONNECT;
    case RP_INIT_FILE_CHANNEL:
        *ret_descriptor = true;
        return p->type == RP_INIT_FILES;
    default:
        return false;
    }
}

void rp_sandbox_message(struct rp_sandbox *s, struct rp_str message, int received)
{
    _cleanup_close_ int fd = received;
    struct rp_wire_reader r = {.data = (const uint8_t *)message.p, .length = message.n};
    struct rp_wire_header h = rp_wire_get_header(&r);
    if (r.bad || h.flags != 0) {
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a malformed message");
        return;
    }
    if (h.tag == 0) {
        if (fd >= 0 || !s->greeted || (h.type != RP_INIT_EXITED && h.type != RP_INIT_PORTS))
            rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "an event that does not exist");
        else if (h.type == RP_INIT_EXITED)
            on_exited(s, &r);
        else
            on_ports(s, &r);
        return;
    }
    struct pending *p = rp_sandbox_find(s, h.tag, false);
    bool descriptor;
    if (!p || !fits(h.type, p, &descriptor) || descriptor != (fd >= 0)) {
        rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "an answer that nothing asked for, or without its descriptor");
        return;
    }
    switch (h.type) {
    case RP_INIT_ERROR:
        on_error(s, p, &r);
        break;
    case RP_INIT_OK:
        if (rp_wire_finished(&r))
            rp_sandbox_answer(rp_sandbox_find(s, h.tag, true), -1, NULL);
        else
            rp_sandbox_broke(s, RP_ERROR_PROTOCOL, "a malformed answer");
        break;
    case RP_INIT_HELLO:
        on_hello(s, p, &r, fd);
        break;
    case RP_INIT_SPAWNED:
        on_spawned(s, p, &r);
        break;
    case RP_INIT_STREAM:
        on_stream(s, p, &r, &fd);
        break;
    case RP_INIT_PROCESS:
        on_process(s, p, &r);
        break;
    default:
        on_connected(s, p, &r, &fd);
        break;
    }
}
