#include "runner/received.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "proto/init.h"

#ifndef PIPEFS_MAGIC
#define PIPEFS_MAGIC 0x50495045
#endif

enum { PTMX_MAJOR = 5, PTMX_MINOR = 2 }; /* admin-guide/devices.txt in the kernel's documentation */

static int wrong(struct rp_error *err, const char *what)
{
    return rp_error_set(err, RP_ERROR_PROTOCOL, "a descriptor that is not %s", what);
}

static bool make_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    /* O_PATH descriptors answer F_GETFL but cannot be read; O_ASYNC would send us signals */
    return flags >= 0 && !(flags & (O_PATH | O_ASYNC | O_DIRECT)) &&
           fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

/* An anonymous pipe, not a FIFO that lies in a file system. */
static bool is_pipe(int fd, int access_mode)
{
    struct stat st;
    struct statfs fs;
    int flags = fcntl(fd, F_GETFL);
    return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && fstatfs(fd, &fs) == 0 &&
           fs.f_type == PIPEFS_MAGIC && flags >= 0 && (flags & O_ACCMODE) == access_mode &&
           make_nonblocking(fd);
}

static bool is_pty_master(int fd)
{
    struct stat st;
    unsigned number;
    int flags = fcntl(fd, F_GETFL);
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && major(st.st_rdev) == PTMX_MAJOR &&
           minor(st.st_rdev) == PTMX_MINOR && flags >= 0 && (flags & O_ACCMODE) == O_RDWR &&
           ioctl(fd, TIOCGPTN, &number) == 0 && make_nonblocking(fd);
}

static bool option_is(int fd, int option, int value)
{
    int got = -1;
    socklen_t length = sizeof(got);
    return getsockopt(fd, SOL_SOCKET, option, &got, &length) == 0 && got == value;
}

/* A socket that lingers would hold close(2). */
static bool make_harmless_socket(int fd)
{
    struct linger off = {0};
    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)) == 0 && make_nonblocking(fd);
}

int rp_received_probe(int fd, struct rp_error *err)
{
    char text[sizeof(RP_INIT_PROBE)];
    if (!is_pipe(fd, O_RDONLY) || read(fd, text, sizeof(text)) != (ssize_t)sizeof(RP_INIT_PROBE) - 1 ||
        memcmp(text, RP_INIT_PROBE, sizeof(RP_INIT_PROBE) - 1) != 0)
        return wrong(err, "the probe");
    return 0;
}

int rp_received_stream(int fd, uint8_t stream, struct rp_error *err)
{
    switch (stream) {
    case RP_STREAM_PTY:
        return is_pty_master(fd) ? 0 : wrong(err, "the master of a pseudoterminal");
    case RP_STREAM_STDIN:
        return is_pipe(fd, O_WRONLY) ? 0 : wrong(err, "the writing end of a pipe");
    case RP_STREAM_STDOUT:
    case RP_STREAM_STDERR:
        return is_pipe(fd, O_RDONLY) ? 0 : wrong(err, "the reading end of a pipe");
    default:
        return wrong(err, "a stream");
    }
}

int rp_received_connection(int fd, uint16_t port, struct rp_error *err)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer = {0};
    socklen_t length = sizeof(peer);
    if ((!option_is(fd, SO_DOMAIN, AF_INET) && !option_is(fd, SO_DOMAIN, AF_INET6)) ||
        !option_is(fd, SO_TYPE, SOCK_STREAM) || !option_is(fd, SO_PROTOCOL, IPPROTO_TCP) ||
        !make_harmless_socket(fd) || getpeername(fd, &peer.any, &length) < 0)
        return wrong(err, "a connected TCP socket");
    uint16_t got = ntohs(peer.any.sa_family == AF_INET ? peer.v4.sin_port : peer.v6.sin6_port);
    if (got != port)
        return wrong(err, "connected to the port that was asked for");
    return 0;
}

int rp_received_channel(int fd, struct rp_error *err)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);
    if (!option_is(fd, SO_DOMAIN, AF_UNIX) || !option_is(fd, SO_TYPE, SOCK_STREAM) ||
        !make_harmless_socket(fd) || getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
        return wrong(err, "one end of a socket pair");
    return 0;
}
