/* repld-init as PID 1 of namespaces of its own: processes, terminals, signals, connections, ports, the end.
 */
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct world world;
static struct message m;

static int set_up(void **state)
{
    world_start(&world);
    return 0;
}

static int tear_down(void **state)
{
    world_stop(&world);
    return 0;
}

static void id_request(int c, uint16_t type, uint64_t id)
{
    struct rp_wire_writer q = request_begin(type);
    rp_wire_put_u64(&q, id);
    request_send(c, &q, -1);
}

static void signal_request(int c, uint64_t id, uint32_t number, uint8_t target)
{
    struct rp_wire_writer q = request_begin(RP_INIT_SIGNAL);
    rp_wire_put_u64(&q, id);
    rp_wire_put_u32(&q, number);
    rp_wire_put_u8(&q, target);
    request_send(c, &q, -1);
}

static void terminal_is_the_users(void **state)
{
    int c = world_connect(&world);
    struct spawned s =
        spawn(c, 1, RP_SPAWN_PTY,
              SHELL("id -u; id -G; pwd; stty size; tty; stat -c %U:%a $(tty) >/dev/null && stty -a | "
                    "grep -o ' iutf8'; echo $$ $(ps -o sid= -p $$) $(ps -o tpgid= -p $$); exit 7"));
    assert_true(fcntl(s.streams[RP_STREAM_PTY], F_GETFL) & O_NONBLOCK);
    struct ended e = expect_exited(c, 1);
    assert_int_equal(e.code, 7);
    assert_int_equal(e.signal, 0);
    assert_true(e.peak_rss > 100000);
    const char *out = read_until(s.streams[RP_STREAM_PTY], "\n\n\n");
    assert_non_null(strstr(out, "1000\r\n1000\r\n/home/runner/app\r\n30 100\r\n/dev/pts/"));
    assert_non_null(strstr(out, " iutf8"));
    char line[64];
    snprintf(line, sizeof(line), "\n%u %u %u\r\n", s.pid, s.pid, s.pid);
    assert_non_null(strstr(out, line));
    close(s.streams[RP_STREAM_PTY]);
    close(c);
}

static void user_has_no_privilege(void **state)
{
    int c = world_connect(&world);
    struct spawned s = spawn(
        c, 1, RP_SPAWN_MERGE,
        SHELL(
            "grep -E '^(CapEff|CapPrm|NoNewPrivs|SigBlk|SigIgn|Groups)' /proc/self/status; umask; ulimit -c;"
            "ls /proc/self/fd; cat /proc/self/oom_score_adj; kill -9 1 2>&1; cat /proc/1/environ 2>&1; ls "
            "/proc/1/fd "
            "2>&1; echo end"));
    char out[4096];
    snprintf(out, sizeof(out), "%s", read_until(s.streams[RP_STREAM_STDOUT], "end\n"));
    assert_non_null(strstr(out, "CapPrm:\t0000000000000000"));
    assert_non_null(strstr(out, "CapEff:\t0000000000000000"));
    assert_non_null(strstr(out, "NoNewPrivs:\t1"));
    assert_non_null(strstr(out, "SigBlk:\t0000000000000000"));
    assert_non_null(strstr(out, "SigIgn:\t0000000000000000"));
    assert_non_null(strstr(out, "Groups:\t \n"));
    assert_non_null(strstr(out, "\n0022\n0\n"));
    assert_non_null(strstr(out, "\n0\n1\n2\n3\n500\n")); /* 3 is ls's own */
    assert_non_null(strstr(out, "Operation not permitted"));
    assert_non_null(strstr(out, "/proc/1/environ: Permission denied"));
    assert_non_null(strstr(out, "'/proc/1/fd': Permission denied"));
    expect_exited(c, 1);
    close(s.streams[RP_STREAM_STDOUT]);
    close(c);
}

static void pipes_and_end_of_input(void **state)
{
    int c = world_connect(&world);
    struct spawned s = spawn(c, 5, RP_SPAWN_STDIN, SHELL("echo out; echo err >&2; cat; kill -9 $$"));
    assert_string_equal(read_until(s.streams[RP_STREAM_STDERR], "\n"), "err\n");
    assert_string_equal(read_until(s.streams[RP_STREAM_STDOUT], "\n"), "out\n");
    assert_int_equal(write(s.streams[RP_STREAM_STDIN], "hello\n", 6), 6);
    assert_string_equal(read_until(s.streams[RP_STREAM_STDOUT], "hello\n"), "hello\n");
    close(s.streams[RP_STREAM_STDIN]);
    id_request(c, RP_INIT_CLOSE_STDIN, 5);
    expect_ok(c);
    struct ended e = expect_exited(c, 5);
    assert_int_equal(e.code, -1);
    assert_int_equal(e.signal, SIGKILL);
    close(s.streams[RP_STREAM_STDOUT]);
    close(s.streams[RP_STREAM_STDERR]);
    /* without RP_SPAWN_STDIN there is nothing to read */
    s = spawn(c, 6, RP_SPAWN_MERGE, SHELL("cat; echo done >&2"));
    assert_string_equal(read_until(s.streams[RP_STREAM_STDOUT], "\n"), "done\n");
    assert_int_equal(expect_exited(c, 6).code, 0);
    close(s.streams[RP_STREAM_STDOUT]);
    close(c);
}

static void failures_leave_nothing(void **state)
{
    int c = world_connect(&world);
    spawn_send(c, 1, 0, NULL, (const char *const[]){"no-such-program", NULL});
    expect_error(c, ENOENT);
    spawn_send(c, 1, RP_SPAWN_PTY, NULL, (const char *const[]){"/etc/passwd", NULL});
    expect_error(c, EACCES);
    spawn_send(c, 1, 0, "/nowhere", SHELL("true"));
    expect_error(c, ENOENT);
    spawn_send(c, 1, 0, "/root/none", SHELL("true"));
    expect_error(c, EACCES);
    spawn_send(c, 1, 0, NULL, (const char *const[]){"/etc", NULL});
    expect_error(c, EACCES);
    struct rp_wire_writer q = request_begin(RP_INIT_LIST);
    request_send(c, &q, -1);
    expect_ok(c); /* no PROCESS before it */
    struct spawned s = spawn(c, 1, RP_SPAWN_MERGE, SHELL("sleep 60"));
    spawn_send(c, 1, 0, NULL, SHELL("true"));
    expect_error(c, EEXIST);
    id_request(c, RP_INIT_FORGET, 1);
    expect_error(c, EBUSY);
    id_request(c, RP_INIT_FORGET, 2);
    expect_error(c, ESRCH);
    signal_request(c, 1, SIGTERM, RP_SIGNAL_PROCESS);
    expect_ok(c);
    assert_int_equal(expect_exited(c, 1).signal, SIGTERM);
    signal_request(c, 1, SIGTERM, RP_SIGNAL_PROCESS);
    expect_error(c, ESRCH);
    id_request(c, RP_INIT_FORGET, 1);
    expect_ok(c);
    id_request(c, RP_INIT_REOPEN, 1);
    expect_error(c, ESRCH);
    close(s.streams[RP_STREAM_STDOUT]);
    close(c);
}

static void signals_reach_the_foreground(void **state)
{
    int c = world_connect(&world);
    struct spawned s = spawn(c, 1, RP_SPAWN_PTY, (const char *const[]){"bash", "--norc", "-i", NULL});
    int pty = s.streams[RP_STREAM_PTY];
    assert_true(write(pty, "trap 'echo shell' INT; sleep 100; echo code $?\n", 47) > 0);
    (void)read_until(pty, "code $?\r\n");
    for (int i = 0; i < 100; i++) { /* until sleep is in the foreground */
        pid_t group = 0;
        assert_int_equal(ioctl(pty, TIOCGPGRP, &group), 0);
        if (group != (pid_t)s.pid && group > 1)
            break;
        usleep(20000);
    }
    usleep(50000);
    signal_request(c, 1, SIGTERM, RP_SIGNAL_FOREGROUND);
    expect_ok(c);
    assert_non_null(strstr(read_until(pty, "code 143"), "code 143"));
    /* resize, seen by the program */
    struct rp_wire_writer q = request_begin(RP_INIT_RESIZE);
    rp_wire_put_u64(&q, 1);
    rp_wire_put_u16(&q, 132);
    rp_wire_put_u16(&q, 43);
    request_send(c, &q, -1);
    expect_ok(c);
    assert_true(write(pty, "stty size\n", 10) > 0);
    assert_non_null(strstr(read_until(pty, "43 132"), "43 132"));
    /* Ctrl-C by the line discipline */
    assert_true(write(pty, "sleep 100; echo again $?\n", 25) > 0);
    (void)read_until(pty, "again $?\r\n");
    usleep(300000);
    assert_int_equal(write(pty, "\x03", 1), 1);
    (void)read_until(pty, "^C");
    signal_request(c, 1, SIGHUP, RP_SIGNAL_GROUP);
    expect_ok(c);
    assert_int_equal(expect_exited(c, 1).signal, SIGHUP);
    close(pty);
    close(c);
}

/* The jobs of an interactive shell are in groups of their own, but in its session; others are not. */
static void a_session_is_reached_whole(void **state)
{
    int c = world_connect(&world);
    struct spawned other = spawn(c, 2, RP_SPAWN_MERGE, SHELL("sleep 100"));
    struct spawned s = spawn(c, 1, RP_SPAWN_PTY, (const char *const[]){"bash", "--norc", "-i", NULL});
    int pty = s.streams[RP_STREAM_PTY];
    static const char line[] = "(trap '' HUP; sleep 101) & sleep 102 & jobs -p | wc -l | sed s/^/jobs:/\n";
    assert_true(write(pty, line, sizeof(line) - 1) > 0);
    (void)read_until(pty, "jobs:2");
    signal_request(c, 1, SIGKILL, RP_SIGNAL_SESSION);
    expect_ok(c);
    assert_int_equal(expect_exited(c, 1).signal, SIGKILL);
    struct spawned look = spawn(c, 3, RP_SPAWN_MERGE, SHELL("sleep 0.1; pgrep -a sleep; echo end"));
    const char *left = read_until(look.streams[RP_STREAM_STDOUT], "end");
    assert_non_null(strstr(left, "sleep 100\n"));
    assert_null(strstr(left, "sleep 101"));
    assert_null(strstr(left, "sleep 102"));
    close(look.streams[RP_STREAM_STDOUT]);
    close(other.streams[RP_STREAM_STDOUT]);
    close(pty);
    close(c);
}

static void processes_outlive_connections(void **state)
{
    int c = world_connect(&world);
    struct spawned s = spawn(c, 9, RP_SPAWN_PTY, SHELL("read a; echo got $a; sleep 60"));
    close(s.streams[RP_STREAM_PTY]);
    close(c);
    c = world_connect(&world);
    struct rp_wire_writer q = request_begin(RP_INIT_LIST);
    request_send(c, &q, -1);
    message_expect(c, &m, RP_INIT_PROCESS);
    assert_int_equal(rp_wire_get_u64(&m.body), 9);
    assert_int_equal(rp_wire_get_u32(&m.body), s.pid);
    assert_int_equal(rp_wire_get_u32(&m.body), RP_SPAWN_PTY);
    assert_int_equal(rp_wire_get_u8(&m.body), 0);
    (void)rp_wire_take(&m.body, 4 + 4 + 24);
    assert_true(rp_wire_get_u64(&m.body) > 0);
    assert_true(rp_str_is(rp_wire_get_str(&m.body, 1024), "label of the test"));
    assert_true(rp_wire_finished(&m.body));
    expect_ok(c);
    id_request(c, RP_INIT_REOPEN, 9);
    message_expect(c, &m, RP_INIT_STREAM);
    assert_int_equal(rp_wire_get_u64(&m.body), 9);
    assert_int_equal(rp_wire_get_u8(&m.body), RP_STREAM_PTY);
    int pty = m.fd;
    expect_ok(c);
    assert_int_equal(write(pty, "again\n", 6), 6);
    assert_non_null(strstr(read_until(pty, "got again"), "got again"));
    signal_request(c, 9, SIGKILL, RP_SIGNAL_PROCESS);
    expect_ok(c);
    assert_int_equal(expect_exited(c, 9).signal, SIGKILL);
    close(pty);
    close(c);
}

/* A daemon that double-forks and keeps the terminal open delays neither the exit message nor the shutdown. */
static void daemons_do_not_hide_the_end(void **state)
{
    int c = world_connect(&world);
    struct spawned s =
        spawn(c, 1, RP_SPAWN_PTY,
              SHELL("(setsid sh -c 'trap \"\" HUP TERM; echo daemon; sleep 100' &) ; sleep 0.2; exit 4"));
    assert_int_equal(expect_exited(c, 1).code, 4);
    assert_non_null(strstr(read_until(s.streams[RP_STREAM_PTY], "daemon"), "daemon"));
    struct rp_wire_writer q = request_begin(RP_INIT_SHUTDOWN);
    rp_wire_put_u32(&q, 200);
    request_send(c, &q, -1);
    expect_ok(c);
    assert_int_equal(world_wait(&world), 0);
    expect_closed(c);
    close(s.streams[RP_STREAM_PTY]);
    close(c);
}

static void shutdown_asks_first(void **state)
{
    int c = world_connect(&world);
    struct spawned polite = spawn(
        c, 1, RP_SPAWN_MERGE, SHELL("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"));
    struct spawned stopped =
        spawn(c, 2, RP_SPAWN_MERGE, SHELL("trap 'exit 5' TERM; kill -STOP $$; sleep 100"));
    (void)read_until(polite.streams[RP_STREAM_STDOUT], "up\n");
    int files = files_open(c);
    struct rp_wire_writer q = request_begin(RP_INIT_SHUTDOWN);
    rp_wire_put_u32(&q, 8000);
    uint32_t tag = request_send(c, &q, -1);
    assert_non_null(strstr(read_until(polite.streams[RP_STREAM_STDOUT], "bye\n"), "bye\n"));
    spawn_send(c, 3, 0, NULL, SHELL("true"));
    int exits = 0;
    for (bool done = false; !done;) {
        message_next(c, &m);
        exits += m.type == RP_INIT_EXITED;
        if (m.type == RP_INIT_ERROR)
            assert_int_equal(rp_wire_get_u32(&m.body), ESHUTDOWN);
        done = m.type == RP_INIT_OK && m.tag == tag;
    }
    assert_int_equal(exits, 2);
    assert_int_equal(world_wait(&world), 0);
    close(files);
    close(polite.streams[RP_STREAM_STDOUT]);
    close(stopped.streams[RP_STREAM_STDOUT]);
    close(c);
}

static void sigterm_from_outside_ends_it(void **state)
{
    int c = world_connect(&world);
    struct spawned s = spawn(c, 1, RP_SPAWN_MERGE, SHELL("sleep 100"));
    assert_int_equal(kill(world.init, SIGTERM), 0);
    assert_int_equal(expect_exited(c, 1).signal, SIGTERM);
    assert_int_equal(world_wait(&world), 0);
    close(s.streams[RP_STREAM_STDOUT]);
    close(c);
}

/* ---- connections and ports ---- */

static void send_connect(int c, uint8_t family, const char *address, uint16_t port, uint32_t timeout)
{
    struct rp_wire_writer q = request_begin(RP_INIT_CONNECT);
    uint8_t bytes[16] = {0};
    assert_int_equal(inet_pton(family == 4 ? AF_INET : AF_INET6, address, bytes), 1);
    rp_wire_put_u8(&q, family);
    rp_wire_put(&q, bytes, sizeof(bytes));
    rp_wire_put_u16(&q, port);
    rp_wire_put_u32(&q, timeout);
    request_send(c, &q, -1);
}

static const char listen_script[] = "import socket,sys,time\n"
                                    "a=socket.create_server(('127.0.0.1',8123)); "
                                    "b=socket.create_server(('::1',8124),family=socket.AF_INET6)\n"
                                    "c=socket.create_server(('127.0.0.1',40000)); print('up',flush=True)\n"
                                    "s,_=a.accept(); s.sendall(b'from the inside'); time.sleep(60)\n";

static uint32_t expect_ports(int c, uint16_t *ret, uint32_t *ret_pid, char command[64])
{
    message_expect(c, &m, RP_INIT_PORTS);
    uint32_t count = rp_wire_get_u32(&m.body);
    for (uint32_t i = 0; i < count && i < 8; i++) {
        (void)rp_wire_get_u8(&m.body);
        (void)rp_wire_take(&m.body, 16);
        ret[i] = rp_wire_get_u16(&m.body);
        *ret_pid = rp_wire_get_u32(&m.body);
        assert_true(rp_str_copy(command, 64, rp_wire_get_str(&m.body, 63)));
    }
    assert_true(rp_wire_finished(&m.body));
    return count;
}

static void ports_come_and_go(void **state)
{
    int c = world_connect(&world);
    uint16_t ports[8] = {0};
    uint32_t pid = 0;
    char command[64] = "";
    struct rp_wire_writer q = request_begin(RP_INIT_PORTS_WATCH);
    rp_wire_put_u32(&q, 50);
    request_send(c, &q, -1);
    expect_ok(c);
    assert_int_equal(expect_ports(c, ports, &pid, command), 0);
    struct spawned s =
        spawn(c, 1, RP_SPAWN_MERGE, (const char *const[]){"python3", "-c", listen_script, NULL});
    uint32_t count = expect_ports(c, ports, &pid, command);
    if (count == 1) /* seen between the two */
        count = expect_ports(c, ports, &pid, command);
    /* the random port on loopback is a program's own business */
    assert_int_equal(count, 2);
    assert_int_equal(ports[0], 8123);
    assert_int_equal(ports[1], 8124);
    assert_int_equal(pid, s.pid);
    assert_int_equal(strncmp(command, "python3 -c", 10), 0);

    send_connect(c, 4, "127.0.0.1", 8123, 1000);
    message_expect(c, &m, RP_INIT_CONNECTED);
    assert_true(m.fd >= 0 && (fcntl(m.fd, F_GETFL) & O_NONBLOCK));
    assert_string_equal(read_until(m.fd, "inside"), "from the inside");
    close(m.fd);
    send_connect(c, 6, "::1", 8124, 1000);
    message_expect(c, &m, RP_INIT_CONNECTED);
    close(m.fd);
    send_connect(c, 4, "127.0.0.1", 8125, 1000);
    expect_error(c, ECONNREFUSED);
    send_connect(c, 4, "203.0.113.1", 80, 1000);
    expect_error(c, ENETUNREACH);

    signal_request(c, 1, SIGKILL, RP_SIGNAL_GROUP);
    expect_ok(c);
    assert_int_equal(expect_ports(c, ports, &pid, command), 0);
    q = request_begin(RP_INIT_PORTS_WATCH);
    rp_wire_put_u32(&q, 49);
    request_send(c, &q, -1);
    expect_error(c, EINVAL);
    close(s.streams[RP_STREAM_STDOUT]);
    close(c);
}

/* A listener whose queue is full does not answer the handshake: the time-out is ours. */
static void connect_times_out(void **state)
{
    int c = world_connect(&world);
    struct spawned s =
        spawn(c, 1, RP_SPAWN_MERGE,
              (const char *const[]){"python3", "-c",
                                    "import socket,time\ns=socket.socket(); s.bind(('127.0.0.1',8200)); "
                                    "s.listen(0); print('up',flush=True); time.sleep(60)",
                                    NULL});
    (void)read_until(s.streams[RP_STREAM_STDOUT], "up");
    int taken[8], count = 0;
    bool timed_out = false;
    for (int i = 0; i < 8 && !timed_out; i++) {
        send_connect(c, 4, "127.0.0.1", 8200, 150);
        message_next(c, &m);
        timed_out = m.type == RP_INIT_ERROR;
        if (timed_out)
            assert_int_equal(rp_wire_get_u32(&m.body), ETIMEDOUT);
        else
            taken[count++] = m.fd;
    }
    assert_true(timed_out);
    while (count)
        close(taken[--count]);
    close(s.streams[RP_STREAM_STDOUT]);
    close(c);
}

/* ---- cgroups ---- */

static void steps_are_joined(void **state)
{
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"};
    char group[128] = "", procs[160];
    for (size_t i = 0; i < RP_ARRAY_SIZE(roots) && !group[0]; i++) {
        snprintf(procs, sizeof(procs), "%s/cgroup.procs",
                 roots[i]); /* on a v1 host the first is a plain tmpfs */
        snprintf(group, sizeof(group), "%s/repld-init-test-%d", roots[i], getpid());
        if (access(procs, F_OK) < 0)
            group[0] = '\0';
        else if (mkdir(group, 0755) < 0)
            group[0] = '\0';
    }
    assert_true(group[0]);
    snprintf(procs, sizeof(procs), "%s/cgroup.procs", group);
    int c = world_connect(&world);
    for (int again = 0; again < 2; again++) { /* the second time replaces the first, as after an adoption */
        int fd = open(procs, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        struct rp_wire_writer q = request_begin(RP_INIT_CGROUP);
        rp_wire_put_u32(&q, 0);
        request_send(c, &q, fd);
        expect_ok(c);
        close(fd);
    }
    struct spawned s = spawn(c, 1, RP_SPAWN_MERGE, SHELL("cat /proc/self/cgroup; echo end; sleep 60"));
    char name[64];
    snprintf(name, sizeof(name), "/repld-init-test-%d\n", getpid());
    assert_non_null(strstr(read_until(s.streams[RP_STREAM_STDOUT], "end"), name));
    int files = files_open(c);
    assert_int_equal(files_write(files, "x", 0, "", "y", 1), 0);
    char pids[256] = "";
    int fd = open(procs, O_RDONLY);
    assert_true(read(fd, pids, sizeof(pids) - 1) > 0);
    close(fd);
    int lines = 0;
    for (char *p = pids; *p; p++)
        lines += *p == '\n';
    assert_true(lines >= 2); /* the shell, its sleep and the file helper */
    /* a step that nobody gave */
    struct rp_wire_writer q = request_begin(RP_INIT_SPAWN);
    rp_wire_put_u64(&q, 2);
    rp_wire_put_u32(&q, 0);
    rp_wire_put_u32(&q, 0);
    rp_wire_put_u32(&q, 3);
    rp_wire_put_str(&q, RP_STR("/"));
    rp_wire_put_u32(&q, 1);
    rp_wire_put_str(&q, RP_STR("true"));
    rp_wire_put_u32(&q, 0);
    rp_wire_put_str(&q, RP_STR(""));
    request_send(c, &q, -1);
    expect_error(c, ENOENT);
    /* what is no cgroup.procs file: a directory, and one open for reading */
    fd = open("/", O_RDONLY | O_DIRECTORY);
    q = request_begin(RP_INIT_CGROUP);
    rp_wire_put_u32(&q, 1);
    request_send(c, &q, fd);
    expect_error(c, EINVAL);
    close(fd);
    q = request_begin(RP_INIT_CGROUP_DROP);
    rp_wire_put_u32(&q, 0);
    request_send(c, &q, -1);
    expect_ok(c);
    close(files);
    close(s.streams[RP_STREAM_STDOUT]);
    close(c);
    kill(world.init, SIGKILL);
    (void)world_wait(&world);
    assert_int_equal(rmdir(group), 0);
}

/* ---- limits and hostile peers ---- */

static int dial_from_inside(void *ctx)
{
    /* The socket's file is visible here since the test's root is the host's; its directory would not be. */
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, world.socket, strlen(world.socket) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return errno == EACCES ? 1 : 2;
    char byte;
    return recv(fd, &byte, 1, 0) == 0 ? 3 : 4; /* 3: init closed it unheard */
}

static void peers_inside_are_refused(void **state)
{
    assert_int_equal(chmod(world.socket, 0777), 0);
    assert_int_equal(world_inside(&world, 1000, dial_from_inside, NULL), 3);
    assert_int_equal(world_inside(&world, 0, dial_from_inside, NULL), 3);
    int c = world_connect(&world);
    close(c);
}

static void silent_connections_make_room(void **state)
{
    int silent[3 * RP_INIT_CONNECTIONS_MAX];
    for (size_t i = 0; i < RP_ARRAY_SIZE(silent); i++)
        silent[i] = world_dial(&world);
    int c = world_connect(&world);
    int held[RP_INIT_CONNECTIONS_MAX - 1];
    for (size_t i = 0; i < RP_ARRAY_SIZE(held); i++)
        held[i] = world_connect(&world);
    /* all have said HELLO: one more is refused, and the others live */
    int refused = world_dial(&world);
    expect_closed(refused);
    struct rp_wire_writer q = request_begin(RP_INIT_LIST);
    request_send(c, &q, -1);
    expect_ok(c);
    close(refused);
    for (size_t i = 0; i < RP_ARRAY_SIZE(silent); i++)
        close(silent[i]);
    for (size_t i = 0; i < RP_ARRAY_SIZE(held); i++)
        close(held[i]);
    close(c);
}

static void version_must_be_common(void **state)
{
    int c = world_dial(&world);
    struct rp_wire_writer q = request_begin(RP_INIT_HELLO);
    rp_wire_put_u32(&q, RP_INIT_VERSION + 1);
    rp_wire_put_u32(&q, RP_INIT_VERSION + 9);
    request_send(c, &q, -1);
    expect_error(c, EPROTONOSUPPORT);
    expect_closed(c);
    close(c);
}

/* A peer that asks and never reads is cut off; it costs init nothing else. */
static void peers_that_do_not_read_are_dropped(void **state)
{
    int c = world_connect(&world), deaf = world_connect(&world);
    static const char *const script[] = {"sh", "-c", "sleep 60", NULL};
    for (uint64_t i = 1; i <= 32; i++) {
        struct spawned s = spawn(c, i, RP_SPAWN_MERGE, script);
        close(s.streams[RP_STREAM_STDOUT]);
    }
    bool dropped = false;
    for (int i = 0; i < 20000 && !dropped; i++) {
        uint8_t list[RP_WIRE_HEADER_SIZE];
        (void)rp_wire_begin(list, sizeof(list), RP_INIT_LIST, 0, 1);
        ssize_t n = send(deaf, list, sizeof(list), MSG_NOSIGNAL | MSG_DONTWAIT);
        dropped = n < 0 && errno == EPIPE;
        if (n < 0 && errno == EAGAIN)
            usleep(1000);
    }
    assert_true(dropped);
    struct rp_wire_writer q = request_begin(RP_INIT_LIST);
    request_send(c, &q, -1);
    for (int i = 0; i < 32; i++)
        message_expect(c, &m, RP_INIT_PROCESS);
    expect_ok(c);
    close(deaf);
    close(c);
}

static void processes_have_a_limit(void **state)
{
    int c = world_connect(&world);
    static const char *const argv[] = {"true", NULL};
    for (uint64_t i = 1; i <= RP_INIT_PROCESSES_MAX; i++) {
        struct spawned s = spawn(c, i, RP_SPAWN_MERGE, argv);
        close(s.streams[RP_STREAM_STDOUT]);
    }
    spawn_send(c, 9999, 0, NULL, argv);
    expect_error(c, EAGAIN);
    for (uint64_t i = 1; i <= RP_INIT_PROCESSES_MAX; i++) { /* all have ended, or end now */
        for (int t = 0;; t++) {
            id_request(c, RP_INIT_FORGET, i);
            do
                message_next(c, &m);
            while (m.tag == 0);
            if (m.type == RP_INIT_OK)
                break;
            assert_int_equal(rp_wire_get_u32(&m.body), EBUSY);
            assert_true(t < 1000);
            usleep(2000);
        }
    }
    struct spawned s = spawn(c, 9999, RP_SPAWN_MERGE, argv);
    expect_exited(c, 9999);
    close(s.streams[RP_STREAM_STDOUT]);
    close(c);
}

static void channels_have_a_limit(void **state)
{
    int c = world_connect(&world), channels[RP_INIT_FILE_CHANNELS_MAX];
    for (int i = 0; i < RP_INIT_FILE_CHANNELS_MAX; i++)
        channels[i] = files_open(c);
    struct rp_wire_writer q = request_begin(RP_INIT_FILES);
    request_send(c, &q, -1);
    expect_error(c, EAGAIN);
    for (int i = 0; i < RP_INIT_FILE_CHANNELS_MAX; i++)
        close(channels[i]);
    for (int t = 0;; t++) { /* closing a channel ends its helper */
        q = request_begin(RP_INIT_FILES);
        request_send(c, &q, -1);
        message_next(c, &m);
        if (m.type == RP_INIT_FILE_CHANNEL)
            break;
        assert_true(t < 1000);
        usleep(2000);
    }
    close(m.fd);
    close(c);
}

/* Bytes that no peer of ours sends: each costs its connection and nothing else. */
static void malformed_messages_cost_their_connection(void **state)
{
    int witness = world_connect(&world);
    struct spawned s = spawn(witness, 1, RP_SPAWN_MERGE, SHELL("sleep 60"));
    for (uint16_t type = 0; type < 70; type++) {
        for (int kind = 0; kind < 7; kind++) {
            uint8_t bytes[256];
            struct rp_wire_writer w =
                rp_wire_begin(bytes, sizeof(bytes), type, kind == 1 ? 1 : 0, kind == 2 ? 0 : 77);
            int fd = -1;
            memset(bytes + w.length, 0xff, sizeof(bytes) - w.length);
            size_t n = kind == 0 ? 3 : kind == 3 ? sizeof(bytes) : kind == 4 ? w.length + 5 : w.length + 60;
            if (kind == 5) /* a descriptor where none belongs, none where one does */
                fd = type == RP_INIT_CGROUP ? -1 : 0;
            if (kind == 6)
                memset(bytes + w.length, 0, sizeof(bytes) - w.length);
            int c = world_connect(&world);
            struct iovec iov = {bytes, n};
            struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
            char control[CMSG_SPACE(sizeof(int))];
            if (fd >= 0) {
                memset(control, 0, sizeof(control));
                h.msg_control = control;
                h.msg_controllen = sizeof(control);
                struct cmsghdr *cm = CMSG_FIRSTHDR(&h);
                cm->cmsg_level = SOL_SOCKET;
                cm->cmsg_type = SCM_RIGHTS;
                cm->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(cm), &fd, sizeof(int));
            }
            assert_int_equal(sendmsg(c, &h, MSG_NOSIGNAL), (ssize_t)n);
            expect_closed(c);
            close(c);
        }
    }
    struct rp_wire_writer q = request_begin(RP_INIT_LIST);
    request_send(witness, &q, -1);
    message_expect(witness, &m, RP_INIT_PROCESS);
    expect_ok(witness);
    close(s.streams[RP_STREAM_STDOUT]);
    close(witness);
}

static void requests_before_hello_are_refused(void **state)
{
    int c = world_dial(&world);
    struct rp_wire_writer q = request_begin(RP_INIT_LIST);
    request_send(c, &q, -1);
    expect_closed(c);
    close(c);
}

/* A child that is stopped before exec holds up its own answer alone. */
static int stop_newcomers(void *ctx)
{
    for (int pid = 2; pid < 200; pid++)
        if (pid != getpid())
            (void)kill(pid, SIGSTOP);
    return 0;
}

static void a_stopped_child_holds_up_no_one(void **state)
{
    int c = world_connect(&world), files = files_open(c);
    for (int i = 0; i < 20; i++)
        assert_int_equal(world_inside(&world, 1000, stop_newcomers, NULL), 0);
    /* neither init nor the file helper was touched */
    assert_int_equal(files_write(files, "alive", 0, "", "1", 1), 0);
    struct spawned s = spawn(c, 1, RP_SPAWN_MERGE, SHELL("echo alive"));
    assert_string_equal(read_until(s.streams[RP_STREAM_STDOUT], "\n"), "alive\n");
    close(s.streams[RP_STREAM_STDOUT]);
    close(files);
    close(c);
}

/* For engines that hand no socket down: it binds one, for its own user alone. */
static void it_can_bind_its_own_socket(void **state)
{
    struct world own = {0};
    struct stat st;
    snprintf(own.socket, sizeof(own.socket), "%s/own", world.dir);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        execl(getenv("REPLD_INIT"), "repld-init", "--socket", own.socket, NULL);
        _exit(99);
    }
    for (int i = 0; i < 1000 && stat(own.socket, &st) < 0; i++)
        usleep(5000);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    usleep(20000); /* from bind to listen */
    int c = world_connect(&own);
    struct rp_wire_writer q = request_begin(RP_INIT_SHUTDOWN);
    rp_wire_put_u32(&q, 1000);
    request_send(c, &q, -1);
    expect_ok(c);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(c);
}

/* Without a listener, or with something else in its place, it says why and ends. */
static void it_refuses_a_wrong_listener(void **state)
{
    for (int kind = 0; kind < 3; kind++) {
        pid_t pid = fork();
        if (pid == 0) {
            int silence = open("/dev/null", O_WRONLY);
            int fd = kind == 0 ? -1 : kind == 1 ? silence : socket(AF_UNIX, SOCK_STREAM, 0);
            dup2(silence, 2);
            if (fd >= 0 && fd != 3)
                dup2(fd, 3);
            if (fd < 0)
                close(3);
            fcntl(3, F_SETFD, 0);
            execl(getenv("REPLD_INIT"), "repld-init", NULL);
            _exit(99);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WEXITSTATUS(status), 70);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(terminal_is_the_users),
        T(user_has_no_privilege),
        T(pipes_and_end_of_input),
        T(failures_leave_nothing),
        T(signals_reach_the_foreground),
        T(a_session_is_reached_whole),
        T(processes_outlive_connections),
        T(daemons_do_not_hide_the_end),
        T(shutdown_asks_first),
        T(sigterm_from_outside_ends_it),
        T(ports_come_and_go),
        T(connect_times_out),
        T(steps_are_joined),
        T(peers_inside_are_refused),
        T(silent_connections_make_room),
        T(version_must_be_common),
        T(peers_that_do_not_read_are_dropped),
        T(processes_have_a_limit),
        T(channels_have_a_limit),
        T(malformed_messages_cost_their_connection),
        T(requests_before_hello_are_refused),
        T(a_stopped_child_holds_up_no_one),
        T(it_can_bind_its_own_socket),
        T(it_refuses_a_wrong_listener),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
