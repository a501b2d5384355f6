/*
 * terminal_client.c: the client of the terminal measures, in C so that it does not measure itself.
 *
 *   keys pty COUNT COMMAND…        one byte typed into a bare PTY → its echo, COUNT times; prints each in ns
 *   keys ws PORT PATH COUNT        the same over a WebSocket
 *   flood pty BYTES COMMAND…       prints the ns until BYTES were read
 *   flood ws PORT PATH BYTES ACK   the same; acknowledges each 64 KiB when ACK is 1
 *   drain PORT PATH…               reads all of them for ever
 *
 * The program behind it echoes each byte (keys), or waits for one byte and prints then (flood).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, ACK_EVERY = 65536 };

static char buffer[BUFFER];

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void put(int fd, const void *p, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t w = write(fd, (const char *)p + done, n - done);
        if (w < 0)
            die("write");
        done += (size_t)w;
    }
}

/* ---- a bare PTY ---- */

static int start(char **command)
{
    int master;
    struct winsize size = {.ws_col = 80, .ws_row = 24};
    pid_t pid = forkpty(&master, NULL, NULL, &size);
    if (pid < 0)
        die("forkpty");
    if (pid == 0) {
        execvp(command[0], command);
        _exit(127);
    }
    return master;
}

/* ---- a WebSocket ---- */

struct socket {
    int fd;
    uint64_t left;    /* of the frame's payload */
    uint8_t head[16]; /* of the next frame, so far */
    size_t have;
    int binary, closed;
};

static void frame(int fd, uint8_t opcode, const void *p, size_t n)
{
    uint8_t out[256] = {(uint8_t)(0x80 | opcode), (uint8_t)(0x80 | n)}; /* a mask of zeros */
    memcpy(out + 6, p, n);
    put(fd, out, 6 + n);
}

static void open_socket(struct socket *s, int port, const char *path)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    memset(s, 0, sizeof(*s));
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        die("connect");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    char head[1024];
    int n = snprintf(head, sizeof(head),
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     path, port);
    put(s->fd, head, (size_t)n);
    size_t got = 0;
    while (got < 4 || memcmp(buffer + got - 4, "\r\n\r\n", 4) != 0) {
        if (read(s->fd, buffer + got, 1) != 1 || ++got >= 4096)
            die("handshake");
    }
    if (strncmp(buffer, "HTTP/1.1 101", 12) != 0) {
        fprintf(stderr, "%.*s\n", (int)got, buffer);
        exit(1);
    }
}

/* Reads once; returns how many bytes of binary payload came, and the last of them in *ret_last. */
static uint64_t read_payload(struct socket *s, char *ret_last)
{
    ssize_t n = s->closed ? 0 : read(s->fd, buffer, sizeof(buffer));
    if (n <= 0)
        die("the server closed");
    uint64_t payload = 0;
    for (ssize_t at = 0; at < n;) {
        if (s->left) {
            uint64_t take = (uint64_t)(n - at) < s->left ? (uint64_t)(n - at) : s->left;
            if (s->binary) {
                payload += take;
                *ret_last = buffer[at + (ssize_t)take - 1];
            }
            s->left -= take;
            at += (ssize_t)take;
            continue;
        }
        s->head[s->have++] = (uint8_t)buffer[at++];
        size_t code = s->have >= 2 ? s->head[1] & 0x7f : 0;
        size_t need = s->have < 2 ? 2 : code == 126 ? 4 : code == 127 ? 10 : 2;
        if (s->have < need)
            continue;
        s->left = code;
        if (code >= 126) {
            s->left = 0;
            for (size_t i = 2; i < need; i++)
                s->left = s->left << 8 | s->head[i];
        }
        s->binary = (s->head[0] & 0x0f) == 2;
        if ((s->head[0] & 0x0f) == 8)
            s->closed = 1; /* what came before it in the same read counts */
        s->have = 0;
    }
    return payload;
}

/* ---- measures ---- */

static void keys_pty(int fd, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char c = (char)('a' + i % 26), got;
        uint64_t began = now();
        put(fd, &c, 1);
        do
            if (read(fd, &got, 1) != 1)
                die("read");
        while (got != c);
        printf("%llu\n", (unsigned long long)(now() - began));
        usleep(200 + (useconds_t)rand() % 300); /* nobody types in step with the scheduler */
    }
}

static void keys_ws(struct socket *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char c = (char)('a' + i % 26), last = 0;
        uint64_t began = now();
        frame(s->fd, 2, &c, 1);
        do
            read_payload(s, &last);
        while (last != c);
        printf("%llu\n", (unsigned long long)(now() - began));
        usleep(200 + (useconds_t)rand() % 300);
    }
}

static void flood_pty(int fd, uint64_t bytes)
{
    uint64_t got = 0, began = now();
    put(fd, "g", 1);
    while (got < bytes) {
        ssize_t n = read(fd, buffer, sizeof(buffer));
        if (n <= 0)
            die("read");
        got += (uint64_t)n;
    }
    printf("%llu\n", (unsigned long long)(now() - began));
}

static void flood_ws(struct socket *s, uint64_t bytes, int acknowledges, uint64_t offset)
{
    uint64_t got = 0, acked = 0, began = now();
    char last, text[64];
    frame(s->fd, 2, "g", 1);
    while (got < bytes) {
        got += read_payload(s, &last);
        if (acknowledges && got - acked >= ACK_EVERY) {
            acked = got;
            int n = snprintf(text, sizeof(text), "{\"type\":\"ack\",\"offset\":%llu}",
                             (unsigned long long)(offset + got));
            frame(s->fd, 1, text, (size_t)n);
        }
    }
    printf("%llu\n", (unsigned long long)(now() - began));
}

static void drain(int port, char **paths, unsigned count)
{
    struct socket *s = calloc(count, sizeof(*s));
    struct pollfd *p = calloc(count, sizeof(*p));
    char last;
    for (unsigned i = 0; i < count; i++) {
        open_socket(&s[i], port, paths[i]);
        p[i] = (struct pollfd){s[i].fd, POLLIN, 0};
    }
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        if (poll(p, count, -1) < 0)
            die("poll");
        for (unsigned i = 0; i < count; i++)
            if (p[i].revents)
                read_payload(&s[i], &last);
    }
}

/* The program says "R" when it is ready; what a shell printed before is read away. */
static void wait_ready_pty(int fd)
{
    char c = 0;
    while (c != 'R')
        if (read(fd, &c, 1) != 1)
            die("ready");
}

static void wait_ready_ws(struct socket *s)
{
    char c = 0;
    while (c != 'R')
        read_payload(s, &c);
}

int main(int argc, char **argv)
{
    struct socket s;
    int fd;
    setvbuf(stdout, malloc(1 << 20), _IOFBF, 1 << 20);
    if (argc < 4)
        return 64;
    if (strcmp(argv[1], "drain") == 0) {
        drain(atoi(argv[2]), argv + 3, (unsigned)argc - 3);
    } else if (strcmp(argv[2], "pty") == 0) {
        fd = start(argv + 4);
        wait_ready_pty(fd);
        if (strcmp(argv[1], "keys") == 0)
            keys_pty(fd, (unsigned)atoi(argv[3]));
        else
            flood_pty(fd, strtoull(argv[3], NULL, 10));
    } else {
        open_socket(&s, atoi(argv[3]), argv[4]);
        wait_ready_ws(&s);
        if (strcmp(argv[1], "keys") == 0)
            keys_ws(&s, (unsigned)atoi(argv[5]));
        else
            flood_ws(&s, strtoull(argv[5], NULL, 10), atoi(argv[6]), 1);
    }
    return 0;
}
