/*
 * sandbox_requests.c: the messages that the server sends to init.
 */
#include "runner/sandbox_internal.h"

enum {
    SPAWN_TIMEOUT_MS = 120 * 1000, /* exec happens under the user's CPU and disk limits */
    CONNECT_TIMEOUT_MAX_MS = 60 * 1000,
};

static unsigned streams_of(uint32_t flags)
{
    if (flags & RP_SPAWN_PTY)
        return 1u << RP_STREAM_PTY;
    return 1u << RP_STREAM_STDOUT | (flags & RP_SPAWN_STDIN ? 1u << RP_STREAM_STDIN : 0) |
           (flags & RP_SPAWN_MERGE ? 0 : 1u << RP_STREAM_STDERR);
}

static uint32_t count_strings(const char *const *list)
{
    uint32_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

void rp_sandbox_spawn(struct rp_sandbox *s, const struct rp_spawn *spawn, rp_streams_fn *fn, void *ctx)
{
    struct pending *p = rp_sandbox_request(RP_INIT_SPAWN, ctx);
    p->fn.streams = fn;
    p->id = spawn->id;
    p->flags = spawn->flags;
    p->wanted = streams_of(spawn->flags);
    uint32_t argc = count_strings(spawn->argv), envc = count_strings(spawn->env);
    struct rp_error err;
    if (argc == 0 || argc > RP_INIT_ARGV_MAX || envc > RP_INIT_ENV_MAX ||
        spawn->label.n > RP_INIT_LABEL_MAX) {
        rp_error_set(&err, RP_ERROR_INVALID, "a command has 1 to %d arguments and at most %d variables",
                     RP_INIT_ARGV_MAX, RP_INIT_ENV_MAX);
        rp_sandbox_refuse(s, p, &err);
        return;
    }
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_wire_put_u64(&w, spawn->id);
    rp_wire_put_u32(&w, spawn->flags);
    rp_wire_put_u16(&w, spawn->cols);
    rp_wire_put_u16(&w, spawn->rows);
    rp_wire_put_u32(&w, spawn->step);
    rp_wire_put_str(&w, rp_str_of(spawn->cwd));
    rp_wire_put_u32(&w, argc);
    for (uint32_t i = 0; i < argc; i++)
        rp_wire_put_str(&w, rp_str_of(spawn->argv[i]));
    rp_wire_put_u32(&w, envc);
    for (uint32_t i = 0; i < envc; i++)
        rp_wire_put_str(&w, rp_str_of(spawn->env[i]));
    rp_wire_put_str(&w, spawn->label);
    rp_sandbox_submit(s, p, &w, SPAWN_TIMEOUT_MS);
}

void rp_sandbox_reopen(struct rp_sandbox *s, uint64_t id, rp_streams_fn *fn, void *ctx)
{
    struct pending *p = rp_sandbox_request(RP_INIT_REOPEN, ctx);
    p->fn.streams = fn;
    p->id = id;
    p->wanted = 0xf;
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_wire_put_u64(&w, id);
    rp_sandbox_submit(s, p, &w, RP_SANDBOX_REQUEST_TIMEOUT_MS);
}

void rp_sandbox_list(struct rp_sandbox *s,
                     void (*each)(void *ctx, const struct rp_sandbox_process_info *info), rp_done_fn *done,
                     void *ctx)
{
    struct pending *p = rp_sandbox_request(RP_INIT_LIST, ctx);
    p->fn.done = done;
    p->each = each;
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_sandbox_submit(s, p, &w, RP_SANDBOX_REQUEST_TIMEOUT_MS);
}

void rp_sandbox_signal(struct rp_sandbox *s, uint64_t id, int signal, uint8_t target, rp_done_fn *fn,
                       void *ctx)
{
    struct pending *p = rp_sandbox_request(RP_INIT_SIGNAL, ctx);
    p->fn.done = fn;
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_wire_put_u64(&w, id);
    rp_wire_put_u32(&w, (uint32_t)signal);
    rp_wire_put_u8(&w, target);
    rp_sandbox_submit(s, p, &w, RP_SANDBOX_REQUEST_TIMEOUT_MS);
}

void rp_sandbox_resize(struct rp_sandbox *s, uint64_t id, uint16_t cols, uint16_t rows)
{
    struct pending *p = rp_sandbox_request(RP_INIT_RESIZE, NULL);
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_wire_put_u64(&w, id);
    rp_wire_put_u16(&w, cols);
    rp_wire_put_u16(&w, rows);
    rp_sandbox_submit(s, p, &w, RP_SANDBOX_REQUEST_TIMEOUT_MS);
}

static void simple(struct rp_sandbox *s, uint16_t type, uint64_t id)
{
    struct pending *p = rp_sandbox_request(type, NULL);
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_wire_put_u64(&w, id);
    rp_sandbox_submit(s, p, &w, RP_SANDBOX_REQUEST_TIMEOUT_MS);
}

void rp_sandbox_close_stdin(struct rp_sandbox *s, uint64_t id)
{
    simple(s, RP_INIT_CLOSE_STDIN, id);
}

void rp_sandbox_forget(struct rp_sandbox *s, uint64_t id)
{
    simple(s, RP_INIT_FORGET, id);
}

/* Where a connection to that port has to go: what is listened on, loopback first. */
static void choose_address(const struct rp_sandbox *s, uint16_t port, uint8_t *ret_family,
                           uint8_t ret_address[16])
{
    static const uint8_t LOOPBACK4[4] = {127, 0, 0, 1}, ANY[16] = {0};
    static const uint8_t LOOPBACK6[16] = {[15] = 1};
    const struct rp_port *best = NULL;
    int best_rank = 0;
    for (size_t i = 0; i < s->port_count; i++) {
        const struct rp_port *p = &s->ports[i];
        if (p->port != port)
            continue;
        bool any = memcmp(p->address, ANY, p->family == 4 ? 4 : 16) == 0;
        bool loopback = p->family == 4 ? p->address[0] == 127 : memcmp(p->address, LOOPBACK6, 16) == 0;
        int rank = p->family == 4 ? (any || loopback ? 4 : 2) : (any || loopback ? 3 : 1);
        if (rank > best_rank) {
            best_rank = rank;
            best = p;
        }
    }
    memset(ret_address, 0, 16);
    *ret_family = best ? best->family : 4;
    if (*ret_family == 4)
        memcpy(ret_address, best && memcmp(best->address, ANY, 4) != 0 ? best->address : LOOPBACK4, 4);
    else
        memcpy(ret_address, memcmp(best->address, ANY, 16) != 0 ? best->address : LOOPBACK6, 16);
}

void rp_sandbox_connect(struct rp_sandbox *s, uint16_t port, uint32_t timeout_ms, rp_fd_fn *fn, void *ctx)
{
    struct pending *p = rp_sandbox_request(RP_INIT_CONNECT, ctx);
    p->fn.fd = fn;
    p->port = port;
    uint8_t family, address[16];
    choose_address(s, port, &family, address);
    timeout_ms = RP_MIN(timeout_ms, (uint32_t)CONNECT_TIMEOUT_MAX_MS);
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_wire_put_u8(&w, family);
    rp_wire_put(&w, address, sizeof(address));
    rp_wire_put_u16(&w, port);
    rp_wire_put_u32(&w, timeout_ms);
    rp_sandbox_submit(s, p, &w, timeout_ms + RP_SANDBOX_REQUEST_TIMEOUT_MS);
}

void rp_sandbox_watch_ports(struct rp_sandbox *s, uint32_t interval_ms)
{
    struct pending *p = rp_sandbox_request(RP_INIT_PORTS_WATCH, NULL);
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_wire_put_u32(&w, interval_ms);
    rp_sandbox_submit(s, p, &w, RP_SANDBOX_REQUEST_TIMEOUT_MS);
}

const struct rp_port *rp_sandbox_ports(struct rp_sandbox *s, size_t *ret_count)
{
    *ret_count = s->port_count;
    return s->ports;
}

void rp_sandbox_file_channel(struct rp_sandbox *s, rp_fd_fn *fn, void *ctx)
{
    struct pending *p = rp_sandbox_request(RP_INIT_FILES, ctx);
    p->fn.fd = fn;
    struct rp_wire_writer w = rp_sandbox_begin(s, p);
    rp_sandbox_submit(s, p, &w, RP_SANDBOX_REQUEST_TIMEOUT_MS);
}
