/* runner/sandbox against an init that lies: whatever it sends, the sandbox breaks and each request is
 * answered once. */
#include "../cmocka_all.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/seqpacket.h"
#include "proto/wire.h"
#include "runner/sandbox.h"

struct peer {
    struct rp_loop *loop;
    struct rp_sandbox *sandbox;
    int socket; /* init's end */
    unsigned ready, ready_errors, broken, exits, answers, errors;
    int fds[4];
    int fd;
    struct rp_error why;
    struct rp_timer *limit;
    unsigned listed;
    size_t ports;
};

static void on_limit(void *ctx)
{
    fail_msg("nothing happened for too long");
}

static void on_exited(void *ctx, uint64_t id, const struct rp_exit *exit)
{
    struct peer *p = ctx;
    p->exits++;
    rp_loop_stop(p->loop);
}

static void on_ports(void *ctx, const struct rp_port *ports, size_t count)
{
    struct peer *p = ctx;
    p->ports = count;
    rp_loop_stop(p->loop);
}

static void on_broken(void *ctx, const struct rp_error *why)
{
    struct peer *p = ctx;
    p->broken++;
    p->why = *why;
    rp_loop_stop(p->loop);
}

static void on_ready(void *ctx, const struct rp_error *err)
{
    struct peer *p = ctx;
    p->ready++;
    if (err) {
        p->ready_errors++;
        p->why = *err;
    }
    rp_loop_stop(p->loop);
}

static void on_streams(void *ctx, const int fds[4], uint32_t pid, const struct rp_error *err)
{
    struct peer *p = ctx;
    p->answers++;
    p->errors += err != NULL;
    if (err)
        p->why = *err;
    else
        memcpy(p->fds, fds, sizeof(p->fds));
    rp_loop_stop(p->loop);
}

static void on_fd(void *ctx, int fd, const struct rp_error *err)
{
    struct peer *p = ctx;
    p->answers++;
    p->errors += err != NULL;
    if (err)
        p->why = *err;
    p->fd = fd;
    rp_loop_stop(p->loop);
}

static void on_done(void *ctx, const struct rp_error *err)
{
    struct peer *p = ctx;
    p->answers++;
    p->errors += err != NULL;
    rp_loop_stop(p->loop);
}

static void on_listed(void *ctx, const struct rp_sandbox_process_info *info)
{
    struct peer *p = ctx;
    p->listed++;
}

static void run(struct peer *p)
{
    rp_loop_run(p->loop);
}

/* The tag of the next message from the server, which must be of that type. */
static uint32_t expect(struct peer *p, uint16_t type)
{
    static uint8_t message[RP_WIRE_MESSAGE_MAX];
    int fd;
    ssize_t n = rp_seqpacket_receive(p->socket, message, sizeof(message), &fd);
    assert_true(n >= RP_WIRE_HEADER_SIZE);
    assert_int_equal(fd, -1);
    struct rp_wire_reader r = {.data = message, .length = (size_t)n};
    struct rp_wire_header h = rp_wire_get_header(&r);
    assert_int_equal(h.type, type);
    return h.tag;
}

static void send_raw(struct peer *p, const struct rp_wire_writer *w, int fd)
{
    assert_int_equal(rp_seqpacket_send(p->socket, w->data, w->length, fd), 0);
    if (fd >= 0)
        close(fd);
}

static int probe(const char *text)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), (ssize_t)strlen(text));
    close(fds[1]);
    return fds[0];
}

static void say_hello(struct peer *p, uint32_t version, int fd)
{
    uint8_t data[64];
    uint32_t tag = expect(p, RP_INIT_HELLO);
    struct rp_wire_writer w = rp_wire_begin(data, sizeof(data), RP_INIT_HELLO, 0, tag);
    rp_wire_put_u32(&w, version);
    rp_wire_put_u32(&w, 0);
    send_raw(p, &w, fd);
}

static void start(struct peer *p, bool greet)
{
    static const struct rp_sandbox_events EVENTS = {on_exited, on_ports, on_broken};
    int fds[2];
    memset(p, 0, sizeof(*p));
    p->fd = -1;
    for (int i = 0; i < 4; i++)
        p->fds[i] = -1;
    p->loop = rp_loop_new();
    p->limit = rp_timer_new(p->loop, on_limit, p);
    rp_timer_start(p->limit, 10000, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    p->socket = fds[1];
    p->sandbox = rp_sandbox_new(p->loop, "abcdefgh01234567", fds[0], &EVENTS, p, on_ready);
    if (!greet)
        return;
    say_hello(p, RP_INIT_VERSION, probe(RP_INIT_PROBE));
    run(p);
    assert_int_equal(p->ready, 1);
    assert_int_equal(p->ready_errors, 0);
}

static void stop(struct peer *p)
{
    rp_sandbox_free(p->sandbox);
    rp_close_fd(&p->socket);
    rp_close_fd(&p->fd);
    for (int i = 0; i < 4; i++)
        rp_close_fd(&p->fds[i]);
    rp_timer_free(p->limit);
    rp_loop_free(p->loop);
}

static const char *const ARGV[] = {"true", NULL}, *const ENV[] = {NULL};

static void spawn(struct peer *p, uint64_t id, uint32_t flags)
{
    struct rp_spawn s = {.id = id, .flags = flags, .cwd = "/", .argv = ARGV, .env = ENV};
    rp_sandbox_spawn(p->sandbox, &s, on_streams, p);
}

static void say_spawned(struct peer *p, uint32_t tag, uint64_t id, uint32_t pid)
{
    uint8_t data[64];
    struct rp_wire_writer w = rp_wire_begin(data, sizeof(data), RP_INIT_SPAWNED, 0, tag);
    rp_wire_put_u64(&w, id);
    rp_wire_put_u32(&w, pid);
    send_raw(p, &w, -1);
}

static void say_stream(struct peer *p, uint32_t tag, uint64_t id, uint8_t stream, int fd)
{
    uint8_t data[64];
    struct rp_wire_writer w = rp_wire_begin(data, sizeof(data), RP_INIT_STREAM, 0, tag);
    rp_wire_put_u64(&w, id);
    rp_wire_put_u8(&w, stream);
    send_raw(p, &w, fd);
}

static void say_simple(struct peer *p, uint16_t type, uint32_t tag, const void *body, size_t n, int fd)
{
    uint8_t data[512];
    struct rp_wire_writer w = rp_wire_begin(data, sizeof(data), type, 0, tag);
    rp_wire_put(&w, body, n);
    send_raw(p, &w, fd);
}

static int pty_master(void)
{
    int master, slave;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    close(slave);
    return master;
}

/* The peer broke the rules: the waiting spawn is answered with an error, then on_broken. */
static void must_break(struct peer *p, unsigned answers)
{
    while (!p->broken)
        run(p);
    assert_int_equal(p->answers, answers);
    assert_int_equal(p->errors, answers);
    assert_int_equal(p->broken, 1);
    for (int i = 0; i < 4; i++)
        assert_int_equal(p->fds[i], -1);
    stop(p);
}

/* ---- tests ---- */

static void a_good_spawn(void **state)
{
    struct peer p;
    start(&p, true);
    spawn(&p, 7, RP_SPAWN_PTY);
    uint32_t tag = expect(&p, RP_INIT_SPAWN);
    say_spawned(&p, tag, 7, 42);
    say_stream(&p, tag, 7, RP_STREAM_PTY, pty_master());
    run(&p);
    assert_int_equal(p.answers, 1);
    assert_int_equal(p.errors, 0);
    assert_true(p.fds[RP_STREAM_PTY] >= 0);
    assert_true(fcntl(p.fds[RP_STREAM_PTY], F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(p.fds[RP_STREAM_PTY], F_GETFL) & O_NONBLOCK);
    stop(&p);
}

static void hello_is_checked(void **state)
{
    struct {
        uint32_t version;
        int fd;
    } bad[] = {
        {RP_INIT_VERSION + 1, probe(RP_INIT_PROBE)},
        {0, probe(RP_INIT_PROBE)},
        {RP_INIT_VERSION, probe("wrong")},
        {RP_INIT_VERSION, probe("")},
        {RP_INIT_VERSION, -1},
        {RP_INIT_VERSION, open("/dev/null", O_RDONLY | O_CLOEXEC)},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++) {
        struct peer p;
        start(&p, false);
        say_hello(&p, bad[i].version, bad[i].fd);
        run(&p);
        assert_int_equal(p.ready_errors, 1);
        assert_int_equal(p.broken, 0); /* it never was whole */
        stop(&p);
    }
    struct peer p;
    start(&p, false);
    rp_close_fd(&p.socket);
    run(&p);
    assert_int_equal(p.ready_errors, 1);
    stop(&p);
}

static int wrong_descriptor(int kind)
{
    int fds[2];
    switch (kind) {
    case 0:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 1:
        return open("/dev/tty0", O_PATH | O_CLOEXEC);
    case 2:
        return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    case 3:
        return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    case 4: { /* the other end of the pseudoterminal */
        int master, slave;
        assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
        close(master);
        return slave;
    }
    case 5: /* a pipe's wrong end, where a pipe is asked for */
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        close(fds[0]);
        return fds[1];
    case 6: { /* a FIFO of a file system */
        char path[64];
        snprintf(path, sizeof(path), "/tmp/rp-fifo-%d", getpid());
        assert_int_equal(mkfifo(path, 0600), 0);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        unlink(path);
        return fd;
    }
    default:
        return -1;
    }
}

static void descriptors_of_the_wrong_kind_break_it(void **state)
{
    for (int kind = 0; kind <= 6; kind++) {
        for (int pty = 0; pty < 2; pty++) {
            struct peer p;
            int fd = wrong_descriptor(kind);
            if (fd < 0)
                continue; /* this machine has no such device */
            start(&p, true);
            spawn(&p, 7, pty ? RP_SPAWN_PTY : RP_SPAWN_MERGE);
            uint32_t tag = expect(&p, RP_INIT_SPAWN);
            say_spawned(&p, tag, 7, 42);
            say_stream(&p, tag, 7, pty ? RP_STREAM_PTY : RP_STREAM_STDOUT, fd);
            must_break(&p, 1);
        }
    }
}

static void answers_that_do_not_fit_break_it(void **state)
{
    for (int kind = 0; kind <= 12; kind++) {
        struct peer p;
        start(&p, true);
        spawn(&p, 7, RP_SPAWN_PTY);
        uint32_t tag = expect(&p, RP_INIT_SPAWN);
        switch (kind) {
        case 0: /* a stream before SPAWNED */
            say_stream(&p, tag, 7, RP_STREAM_PTY, pty_master());
            break;
        case 1: /* of another process */
            say_spawned(&p, tag, 8, 42);
            break;
        case 2: /* pid 1 is init's own */
            say_spawned(&p, tag, 7, 1);
            break;
        case 3: /* a stream that was not asked for */
            say_spawned(&p, tag, 7, 42);
            say_stream(&p, tag, 7, RP_STREAM_STDOUT, probe(""));
            break;
        case 4:
            say_stream(&p, tag, 7, 200, pty_master());
            break;
        case 5: /* an unknown tag */
            say_simple(&p, RP_INIT_OK, tag + 1, "", 0, -1);
            break;
        case 6: /* OK is no answer to a spawn */
            say_simple(&p, RP_INIT_OK, tag, "", 0, -1);
            break;
        case 7: /* a descriptor too many */
            say_simple(&p, RP_INIT_ERROR, tag, "\1\0\0\0\0\0\0\0", 8, probe(""));
            break;
        case 8: /* one too few */
            say_simple(&p, RP_INIT_STREAM, tag, "\7\0\0\0\0\0\0\0\3", 9, -1);
            break;
        case 9: /* cut */
            say_simple(&p, RP_INIT_ERROR, tag, "\1\0", 2, -1);
            break;
        case 10: /* an error that is none */
            say_simple(&p, RP_INIT_ERROR, tag, "\0\0\0\0\0\0\0\0", 8, -1);
            break;
        case 11: /* bytes behind the message */
            say_simple(&p, RP_INIT_SPAWNED, tag, "\7\0\0\0\0\0\0\0\2\0\0\0x", 13, -1);
            break;
        case 12: /* a type that does not exist */
            say_simple(&p, 999, tag, "", 0, -1);
            break;
        }
        must_break(&p, 1);
    }
}

static void events_that_do_not_fit_break_it(void **state)
{
    static const struct {
        uint16_t type;
        const char *body;
        size_t n;
    } BAD[] = {
        {RP_INIT_OK, "", 0},
        {RP_INIT_EXITED, "\7\0\0\0\0\0\0\0", 8},
        /* id 0 */
        {RP_INIT_EXITED, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
         40},
        /* signal 200 */
        {RP_INIT_EXITED,
         "\1\0\0\0\0\0\0\0\377\377\377\377\310\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 40},
        /* exit code 1000 */
        {RP_INIT_EXITED, "\1\0\0\0\0\0\0\0\350\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
         40},
        {RP_INIT_PORTS, "\377\377\377\377", 4},
        {RP_INIT_PORTS, "\1\0\0\0\5", 5},
        {RP_INIT_PORTS, "\1\0\0\0\4aaaaaaaaaaaaaaaa\0\0\1\0\0\0\0\0\0\0", 31}, /* port 0 */
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(BAD); i++) {
        struct peer p;
        start(&p, true);
        say_simple(&p, BAD[i].type, 0, BAD[i].body, BAD[i].n, -1);
        must_break(&p, 0);
    }
}

static void an_empty_message_and_two_descriptors_break_it(void **state)
{
    struct peer p;
    start(&p, true);
    assert_int_equal(send(p.socket, "", 0, MSG_NOSIGNAL), 0);
    must_break(&p, 0);

    start(&p, true);
    int two[2];
    assert_int_equal(pipe2(two, O_CLOEXEC), 0);
    char bytes[] = "12345678";
    struct iovec iov = {bytes, 8};
    char control[CMSG_SPACE(sizeof(two))] = {0};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(two));
    memcpy(CMSG_DATA(c), two, sizeof(two));
    assert_int_equal(sendmsg(p.socket, &m, MSG_NOSIGNAL), 8);
    close(two[0]);
    close(two[1]);
    must_break(&p, 0);
}

static int tcp_to(uint16_t *ret_port, int *ret_listener)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &n), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, n), 0);
    *ret_listener = listener;
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static void connections_are_checked(void **state)
{
    for (int kind = 0; kind < 5; kind++) {
        struct peer p;
        uint16_t port;
        _cleanup_close_ int listener = -1;
        int fd = tcp_to(&port, &listener), pair[2];
        start(&p, true);
        rp_sandbox_connect(p.sandbox, kind == 1 ? (uint16_t)(port ^ 1) : port, 1000, on_fd, &p);
        uint32_t tag = expect(&p, RP_INIT_CONNECT);
        if (kind == 2) { /* not connected */
            close(fd);
            fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        } else if (kind == 3) {
            close(fd);
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
            fd = pair[0];
            close(pair[1]);
        } else if (kind == 4) {
            close(fd);
            fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        } else {
            struct linger long_one = {1, 1000};
            assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &long_one, sizeof(long_one)), 0);
        }
        say_simple(&p, RP_INIT_CONNECTED, tag, "", 0, fd);
        if (kind) {
            must_break(&p, 1);
            continue;
        }
        run(&p);
        struct linger now = {1, 1};
        socklen_t n = sizeof(now);
        assert_true(p.fd >= 0);
        assert_int_equal(getsockopt(p.fd, SOL_SOCKET, SO_LINGER, &now, &n), 0);
        assert_int_equal(now.l_onoff, 0);
        stop(&p);
    }
}

static void file_channels_are_checked(void **state)
{
    for (int kind = 0; kind < 3; kind++) {
        struct peer p;
        int pair[2];
        start(&p, true);
        rp_sandbox_file_channel(p.sandbox, on_fd, &p);
        uint32_t tag = expect(&p, RP_INIT_FILES);
        assert_int_equal(
            socketpair(AF_UNIX, (kind == 1 ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0, pair), 0);
        if (kind == 2) {
            close(pair[0]);
            pair[0] = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
        }
        say_simple(&p, RP_INIT_FILE_CHANNEL, tag, "", 0, pair[0]);
        if (kind) {
            must_break(&p, 1);
        } else {
            run(&p);
            assert_int_equal(p.errors, 0);
            assert_true(p.fd >= 0);
            stop(&p);
        }
        close(pair[1]);
    }
}

static void errors_have_codes(void **state)
{
    struct peer p;
    start(&p, true);
    spawn(&p, 7, RP_SPAWN_PTY);
    uint32_t tag = expect(&p, RP_INIT_SPAWN);
    say_simple(&p, RP_INIT_ERROR, tag, "\2\0\0\0\4\0\0\0exec", 12, -1);
    run(&p);
    assert_int_equal(p.errors, 1);
    assert_int_equal(p.why.code, RP_ERROR_INVALID);
    assert_string_equal(p.why.message, "exec");
    rp_sandbox_connect(p.sandbox, 80, 1000, on_fd, &p);
    tag = expect(&p, RP_INIT_CONNECT);
    say_simple(&p, RP_INIT_ERROR, tag, "\x6f\0\0\0\0\0\0\0", 8, -1);
    run(&p);
    assert_int_equal(p.why.code, RP_ERROR_PORT_CLOSED);
    assert_int_equal(p.broken, 0);
    stop(&p);
}

static void an_init_that_reads_nothing_breaks_it(void **state)
{
    struct peer p;
    start(&p, true);
    static char huge[30000];
    memset(huge, 'h', sizeof(huge) - 1);
    const char *argv[] = {"echo", huge, NULL};
    struct rp_spawn s = {.id = 7, .flags = RP_SPAWN_PTY, .cwd = "/", .argv = argv, .env = ENV};
    for (unsigned i = 0; i < 200; i++)
        rp_sandbox_spawn(p.sandbox, &s, on_streams, &p);
    while (p.answers < 200 || !p.broken)
        run(&p);
    assert_int_equal(p.errors, 200);
    stop(&p);
}

static void freeing_answers_what_waits(void **state)
{
    struct peer p;
    start(&p, true);
    spawn(&p, 7, RP_SPAWN_PTY);
    rp_sandbox_list(p.sandbox, on_listed, on_done, &p);
    rp_sandbox_signal(p.sandbox, 7, 15, RP_SIGNAL_GROUP, on_done, &p);
    assert_int_equal(p.answers, 0);
    rp_sandbox_free(p.sandbox);
    p.sandbox = NULL;
    assert_int_equal(p.answers, 3);
    assert_int_equal(p.errors, 3);
    assert_int_equal(p.broken, 0);
    stop(&p);
}

static void ports_are_kept(void **state)
{
    struct peer p;
    start(&p, true);
    say_simple(&p, RP_INIT_PORTS, 0,
               "\1\0\0\0\4\177\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\120\0\5\0\0\0\4\0\0\0a\nb\0", 35, -1);
    run(&p);
    size_t n;
    const struct rp_port *ports = rp_sandbox_ports(p.sandbox, &n);
    assert_int_equal(n, 1);
    assert_int_equal(ports[0].port, 80);
    assert_int_equal(ports[0].pid, 5);
    assert_string_equal(ports[0].command, "a?b?"); /* nothing that a screen would obey */
    stop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_spawn),
        cmocka_unit_test(hello_is_checked),
        cmocka_unit_test(descriptors_of_the_wrong_kind_break_it),
        cmocka_unit_test(answers_that_do_not_fit_break_it),
        cmocka_unit_test(events_that_do_not_fit_break_it),
        cmocka_unit_test(an_empty_message_and_two_descriptors_break_it),
        cmocka_unit_test(connections_are_checked),
        cmocka_unit_test(file_channels_are_checked),
        cmocka_unit_test(errors_have_codes),
        cmocka_unit_test(an_init_that_reads_nothing_breaks_it),
        cmocka_unit_test(freeing_answers_what_waits),
        cmocka_unit_test(ports_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
