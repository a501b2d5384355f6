#include "network_world.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

extern char **environ;

int run_program(const char *const argv[])
{
    pid_t pid;
    int status;
    if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(void *)argv, environ) != 0 ||
        waitpid(pid, &status, 0) < 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static struct sockaddr_in at(const char *address, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &a.sin_addr);
    return a;
}

static bool enter(const char *netns)
{
    if (!netns)
        return true;
    _cleanup_close_ int fd = open(netns, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && setns(fd, CLONE_NEWNET) == 0;
}

void child_keeps(int a, int b)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int fd = 3; fd < 256; fd++)
        if (fd != a && fd != b)
            close(fd);
}

int call_in(const char *netns, int (*fn)(void *ctx), void *ctx)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        child_keeps(-1, -1);
        _exit(enter(netns) ? fn(ctx) : 126);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct probe {
    const char *source, *address;
    uint16_t port;
    int milliseconds, type;
};

/* 0 when an answer came. */
static int probe(void *ctx)
{
    const struct probe *p = ctx;
    struct sockaddr_in to = at(p->address, p->port);
    char answer[64];
    int fd = socket(AF_INET, p->type | SOCK_NONBLOCK, 0), one = 1;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (p->source) {
        struct sockaddr_in from = at(p->source, 0);
        setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
        if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
            return 2;
    }
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
        return 1;
    if (p->type == SOCK_DGRAM && send(fd, "q", 1, 0) != 1)
        return 1;
    if (poll(&ready, 1, p->milliseconds) != 1)
        return 1;
    return recv(fd, answer, sizeof(answer), 0) > 0 ? 0 : 1;
}

bool reaches_tcp(const char *netns, const char *address, uint16_t port, int milliseconds)
{
    struct probe p = {NULL, address, port, milliseconds, SOCK_STREAM};
    return call_in(netns, probe, &p) == 0;
}

bool reaches_udp(const char *netns, const char *source, const char *address, uint16_t port, int milliseconds)
{
    struct probe p = {source, address, port, milliseconds, SOCK_DGRAM};
    return call_in(netns, probe, &p) == 0;
}

static int tcp_listener(const char *address, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in a = at(address, port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 64) < 0)
        _exit(1);
    return fd;
}

static int udp_socket(const char *address, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in a = at(address, port);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        _exit(1);
    return fd;
}

static void echo_udp(int fd)
{
    char b[2048];
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    ssize_t n = recvfrom(fd, b, sizeof(b), 0, (struct sockaddr *)&from, &size);
    if (n >= 0)
        sendto(fd, "answer", 6, 0, (struct sockaddr *)&from, size);
}

/* Greets; the connection stays open, and a byte that comes is sent back. */
static void serve(const int *tcp, int tcp_count, const int *udp, int udp_count, volatile uint32_t *seen)
{
    struct pollfd p[64];
    int listeners = tcp_count + udp_count, count = listeners;
    for (int i = 0; i < tcp_count; i++)
        p[i] = (struct pollfd){.fd = tcp[i], .events = POLLIN};
    for (int i = 0; i < udp_count; i++)
        p[tcp_count + i] = (struct pollfd){.fd = udp[i], .events = POLLIN};
    while (poll(p, (nfds_t)count, -1) > 0) {
        for (int i = 0; i < count; i++) {
            char byte;
            if (!p[i].revents)
                continue;
            if (i < tcp_count && count < (int)RP_ARRAY_SIZE(p)) {
                int fd = accept(p[i].fd, NULL, NULL);
                if (fd >= 0 && write(fd, "hello", 5) == 5)
                    p[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
            } else if (i >= tcp_count && i < listeners) {
                echo_udp(p[i].fd);
            } else if (i >= listeners && (read(p[i].fd, &byte, 1) <= 0 || write(p[i].fd, &byte, 1) != 1)) {
                close(p[i].fd);
                p[i--] = p[--count];
                continue;
            }
            if (i == 0 || i == tcp_count)
                ++*seen;
        }
    }
}

pid_t listen_in(const char *netns, uint16_t port, uid_t uid)
{
    int ready[2];
    char byte;
    if (pipe(ready) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        uint32_t seen = 0;
        child_keeps(ready[1], -1);
        if (!enter(netns) || (uid && (setgid(uid) < 0 || setuid(uid) < 0)))
            _exit(1);
        int fd = tcp_listener("0.0.0.0", port);
        if (write(ready[1], "r", 1) != 1)
            _exit(1);
        serve(&fd, 1, NULL, 0, &seen);
        _exit(0);
    }
    close(ready[1]);
    bool ok = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    if (ok)
        return pid;
    stop_child(pid);
    return -1;
}

void stop_child(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void world_server(volatile uint32_t *seen, int ready)
{
    child_keeps(ready, -1);
    static const char *const addresses[] = {WORLD_INTERNET "/24", WORLD_OTHER "/24", WORLD_RESOLVER "/32",
                                            WORLD_METADATA "/32", WORLD_PRIVATE "/32"};
    if (unshare(CLONE_NEWNET) < 0 || write(ready, "n", 1) != 1)
        _exit(1);
    /* The other end arrives when the test has moved it here. */
    for (int i = 0; i < 500 && access("/proc/sys/net/ipv4/conf/world0", F_OK) != 0; i++)
        usleep(10 * 1000);
    RUN("ip", "link", "set", "lo", "up");
    for (size_t i = 0; i < RP_ARRAY_SIZE(addresses); i++)
        if (RUN("ip", "addr", "add", addresses[i], "dev", "world0") != 0)
            _exit(1);
    if (RUN("ip", "link", "set", "world0", "up") != 0)
        _exit(1);
    int tcp[2] = {tcp_listener("0.0.0.0", WORLD_PORT), tcp_listener(WORLD_RESOLVER, 53)};
    /* An answer must come from the address that was asked: a socket for each. */
    int udp[4] = {udp_socket(WORLD_INTERNET, WORLD_PORT), udp_socket(WORLD_OTHER, WORLD_PORT),
                  udp_socket(WORLD_PRIVATE, WORLD_PORT), udp_socket(WORLD_RESOLVER, 53)};
    if (write(ready, "r", 1) != 1)
        _exit(1);
    serve(tcp, 2, udp, 4, seen);
    _exit(0);
}

static bool fails(const char *what)
{
    fprintf(stderr, "# the test's world cannot be made: %s: %s\n", what, strerror(errno));
    return false;
}

bool world_open(struct world *w)
{
    char pid[16], byte;
    int ready[2];
    *w = (struct world){.netns = -1};
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
        return fails("unshare (the tests need root)");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return fails("make mounts private");
    snprintf(w->runtime_dir, sizeof(w->runtime_dir), "/tmp/repld-test-%d", getpid());
    if (mkdir(w->runtime_dir, 0700) < 0 || mount("tmpfs", w->runtime_dir, "tmpfs", 0, "mode=0700") < 0)
        return fails("mount a tmpfs");
    w->seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (w->seen == MAP_FAILED || pipe(ready) < 0)
        return fails("mmap");
    w->server = fork();
    if (w->server == 0)
        world_server(w->seen, ready[1]);
    close(ready[1]);
    snprintf(pid, sizeof(pid), "%d", w->server);
    bool ok =
        read(ready[0], &byte, 1) == 1 && RUN("ip", "link", "set", "lo", "up") == 0 &&
        RUN("ip", "link", "add", "up0", "mtu", "1400", "type", "veth", "peer", "name", "world0", "mtu",
            "1400") == 0 &&
        RUN("ip", "addr", "add", WORLD_HOST "/24", "dev", "up0") == 0 &&
        RUN("ip", "link", "set", "up0", "up") == 0 && RUN("ip", "link", "set", "world0", "netns", pid) == 0 &&
        RUN("ip", "route", "add", "default", "via", WORLD_INTERNET) == 0 && read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    return ok ? true : fails("set up");
}

void world_close(struct world *w)
{
    stop_child(w->server);
    umount2(w->runtime_dir, MNT_DETACH);
    rmdir(w->runtime_dir);
}
