/*
 * The server's end of a sandbox, fed by an init that says anything: messages with descriptors of several
 * kinds, while requests of every kind wait. Each input must end in a broken sandbox with every request
 * answered once, and no descriptor left open.
 *
 * Input: records of u8 descriptor kind, u8 length (times 4 over 200), and that many bytes of message. A first
 * byte of the tag between 1 and 8 hits a waiting request.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/seqpacket.h"
#include "proto/wire.h"
#include "runner/sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct rp_loop *loop;
    unsigned waiting;
    bool over;
};

static void on_exited(void *ctx, uint64_t id, const struct rp_exit *exit)
{
    if (id == 0 || (exit->signal == 0 && (exit->code < 0 || exit->code > 255)))
        abort();
}

static void on_ports(void *ctx, const struct rp_port *ports, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!ports[i].port || strlen(ports[i].command) >= sizeof(ports[i].command))
            abort();
}

static void on_broken(void *ctx, const struct rp_error *why)
{
    struct world *w = ctx;
    w->over = true;
    rp_loop_stop(w->loop);
}

static void answered(struct world *w)
{
    if (!w->waiting--)
        abort(); /* twice */
}

static void on_ready(void *ctx, const struct rp_error *err)
{
    if (err)
        on_broken(ctx, err);
}

static void on_streams(void *ctx, const int fds[4], uint32_t pid, const struct rp_error *err)
{
    answered(ctx);
    for (int i = 0; !err && i < 4; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static void on_fd(void *ctx, int fd, const struct rp_error *err)
{
    answered(ctx);
    if (!err)
        close(fd);
}

static void on_done(void *ctx, const struct rp_error *err)
{
    answered(ctx);
}

static void on_listed(void *ctx, const struct rp_sandbox_process_info *info)
{
    if (!info->id || info->label.n > RP_INIT_LABEL_MAX)
        abort();
}

static void request_everything(struct world *w, struct rp_sandbox *s)
{
    static const char *const ARGV[] = {"true", NULL}, *const ENV[] = {NULL};
    struct rp_spawn pty = {.id = 1, .flags = RP_SPAWN_PTY, .cwd = "/", .argv = ARGV, .env = ENV};
    struct rp_spawn pipes = {.id = 2, .flags = RP_SPAWN_STDIN, .cwd = "/", .argv = ARGV, .env = ENV};
    w->waiting = 7;
    rp_sandbox_spawn(s, &pty, on_streams, w);
    rp_sandbox_spawn(s, &pipes, on_streams, w);
    rp_sandbox_reopen(s, 3, on_streams, w);
    rp_sandbox_list(s, on_listed, on_done, w);
    rp_sandbox_signal(s, 1, 15, RP_SIGNAL_GROUP, on_done, w);
    rp_sandbox_connect(s, 80, 1000, on_fd, w);
    rp_sandbox_file_channel(s, on_fd, w);
}

static int descriptor(uint8_t kind)
{
    int fds[2];
    switch (kind % 6) {
    case 1:
        return posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    case 2:
    case 3:
        if (pipe2(fds, O_CLOEXEC) < 0)
            return -1;
        if (kind % 6 == 2 && write(fds[1], RP_INIT_PROBE, 8) != 8)
            abort();
        close(fds[kind % 6 == 2]);
        return fds[kind % 6 == 3];
    case 4:
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
            return -1;
        close(fds[1]);
        return fds[0];
    case 5:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    default:
        return -1;
    }
}

static int next_free(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct rp_sandbox_events EVENTS = {on_exited, on_ports, on_broken};
    int before = next_free();
    struct world w = {.loop = rp_loop_new()};
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        abort();
    struct rp_sandbox *s = rp_sandbox_new(w.loop, "abcdefgh01234567", fds[0], &EVENTS, &w, on_ready);
    request_everything(&w, s);
    while (size >= 2) {
        size_t n = data[1] <= 200 ? data[1] : (size_t)(data[1] - 150) * 4;
        uint8_t kind = data[0];
        data += 2;
        size -= 2;
        n = RP_MIN(n, size);
        int fd = descriptor(kind);
        int rc = rp_seqpacket_send(fds[1], data, n, fd);
        if (fd >= 0)
            close(fd);
        if (rc < 0)
            break;
        data += n;
        size -= n;
    }
    close(fds[1]); /* so that it always ends */
    while (!w.over)
        rp_loop_run(w.loop);
    if (w.waiting)
        abort();
    rp_sandbox_free(s);
    rp_loop_free(w.loop);
    if (next_free() != before)
        abort();
    return 0;
}
