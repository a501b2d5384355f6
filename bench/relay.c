/*
 * relay.c: the smallest honest WebSocket terminal server, the peer of the terminal measures: libuv, one PTY a
 * connection, what the PTY gives goes out as binary frames, what arrives is typed. As ttyd does it, but
 * without its copies: a read is sent from the buffer that it was read into. No scrollback, no flow control
 * but a full socket, nothing to resume.
 *
 * relay PORT COMMAND…: listens on 127.0.0.1:PORT and runs the command for each connection; ${PATH_ARG} of the
 * environment is the request's path. Masked frames of the client are taken, control frames ignored; the
 * handshake's key is not looked at.
 */
#include <errno.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { READ_SIZE = 65536, QUEUE_MAX = 262144 };

static uv_loop_t *loop;
static char **command;

struct connection {
    uv_tcp_t tcp;
    uv_poll_t pty;
    int master;
    pid_t pid;
    int upgraded, paused, closing;
    unsigned open; /* handles */
    char in[131072];
    size_t in_length;
};

struct message {
    uv_write_t request;
    struct connection *c;
    uint8_t header[10];
    char *data;
};

static void on_closed(uv_handle_t *h)
{
    struct connection *c = h->data;
    if (h == (uv_handle_t *)&c->pty)
        close(c->master);
    if (--c->open == 0)
        free(c);
}

static void end(struct connection *c)
{
    if (c->closing)
        return;
    c->closing = 1;
    if (c->pid > 0)
        kill(-c->pid, SIGKILL);
    uv_close((uv_handle_t *)&c->tcp, on_closed);
    if (c->upgraded)
        uv_close((uv_handle_t *)&c->pty, on_closed);
}

static void on_shut(uv_shutdown_t *r, int status)
{
    end(r->data);
    free(r);
}

/* The program ended: what is queued still goes out. */
static void finish(struct connection *c)
{
    uv_shutdown_t *r = malloc(sizeof(*r));
    r->data = c;
    uv_poll_stop(&c->pty);
    if (uv_shutdown(r, (uv_stream_t *)&c->tcp, on_shut) < 0) {
        free(r);
        end(c);
    }
}

static void on_pty(uv_poll_t *poll, int status, int events);

static void on_written(uv_write_t *r, int status)
{
    struct message *m = (struct message *)r;
    struct connection *c = m->c;
    free(m->data);
    free(m);
    if (status < 0) {
        end(c);
    } else if (c->paused && !c->closing &&
               uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) < QUEUE_MAX / 2) {
        c->paused = 0;
        uv_poll_start(&c->pty, UV_READABLE, on_pty);
    }
}

static void on_pty(uv_poll_t *poll, int status, int events)
{
    struct connection *c = poll->data;
    char *data = malloc(READ_SIZE);
    ssize_t n = read(c->master, data, READ_SIZE);
    if (n <= 0) {
        free(data);
        if (n == 0 || errno != EAGAIN)
            finish(c);
        return;
    }
    struct message *m = malloc(sizeof(*m));
    m->c = c;
    m->data = data;
    size_t h = 2;
    m->header[0] = 0x82;
    if (n < 126) {
        m->header[1] = (uint8_t)n;
    } else if (n < 65536) {
        m->header[1] = 126;
        m->header[2] = (uint8_t)(n >> 8);
        m->header[3] = (uint8_t)n;
        h = 4;
    } else {
        m->header[1] = 127;
        for (int i = 0; i < 8; i++)
            m->header[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
        h = 10;
    }
    uv_buf_t out[2] = {uv_buf_init((char *)m->header, (unsigned)h), uv_buf_init(m->data, (unsigned)n)};
    uv_write(&m->request, (uv_stream_t *)&c->tcp, out, 2, on_written);
    if (uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) > QUEUE_MAX) {
        c->paused = 1;
        uv_poll_stop(&c->pty);
    }
}

static void start(struct connection *c, const char *path)
{
    int master;
    struct winsize size = {.ws_col = 80, .ws_row = 24};
    c->pid = forkpty(&master, NULL, NULL, &size);
    if (c->pid == 0) {
        setenv("PATH_ARG", path, 1);
        setenv("TERM", "xterm-256color", 1);
        execvp(command[0], command);
        _exit(127);
    }
    c->master = master;
    uv_poll_init(loop, &c->pty, master);
    c->pty.data = c;
    c->open++;
    uv_poll_start(&c->pty, UV_READABLE, on_pty);
}

static void type(struct connection *c, const char *data, size_t n)
{
    if (write(c->master, data, n) < 0)
        end(c);
}

/* Takes whole frames off the front. */
static void take_frames(struct connection *c)
{
    size_t at = 0;
    while (c->in_length - at >= 2) {
        const uint8_t *p = (const uint8_t *)c->in + at;
        size_t n = p[1] & 0x7f, h = 2;
        if (n == 126) {
            if (c->in_length - at < 4)
                break;
            n = (size_t)p[2] << 8 | p[3];
            h = 4;
        } else if (n == 127) {
            end(c); /* nobody types that much at once here */
            return;
        }
        if (c->in_length - at < h + 4 + n)
            break;
        const uint8_t *mask = p + h;
        char *data = c->in + at + h + 4;
        for (size_t i = 0; i < n; i++)
            data[i] ^= (char)mask[i & 3];
        if ((p[0] & 0x0f) == 2)
            type(c, data, n);
        at += h + 4 + n;
    }
    memmove(c->in, c->in + at, c->in_length - at);
    c->in_length -= at;
}

static void on_hello(uv_write_t *r, int status)
{
    free(r);
}

static void upgrade(struct connection *c)
{
    char *head_end = memmem(c->in, c->in_length, "\r\n\r\n", 4);
    if (!head_end)
        return;
    char path[256] = "/";
    sscanf(c->in, "GET %255s", path);
    size_t head = (size_t)(head_end - c->in) + 4;
    memmove(c->in, c->in + head, c->in_length - head);
    c->in_length -= head;
    static char answer[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    uv_buf_t out = uv_buf_init(answer, sizeof(answer) - 1);
    uv_write(malloc(sizeof(uv_write_t)), (uv_stream_t *)&c->tcp, &out, 1, on_hello);
    c->upgraded = 1;
    start(c, path);
}

static void on_alloc_in(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
    struct connection *c = h->data;
    *buf = uv_buf_init(c->in + c->in_length, (unsigned)(sizeof(c->in) - c->in_length));
}

static void on_tcp(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct connection *c = s->data;
    if (n < 0) {
        end(c);
        return;
    }
    c->in_length += (size_t)n;
    if (!c->upgraded)
        upgrade(c);
    if (c->upgraded)
        take_frames(c);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct connection *c = calloc(1, sizeof(*c));
    uv_tcp_init(loop, &c->tcp);
    c->tcp.data = c;
    c->open = 1;
    uv_accept(server, (uv_stream_t *)&c->tcp);
    uv_tcp_nodelay(&c->tcp, 1);
    uv_read_start((uv_stream_t *)&c->tcp, on_alloc_in, on_tcp);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 64;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    command = argv + 2;
    loop = uv_default_loop();
    uv_tcp_t server;
    struct sockaddr_in a;
    uv_ip4_addr("127.0.0.1", atoi(argv[1]), &a);
    uv_tcp_init(loop, &server);
    if (uv_tcp_bind(&server, (struct sockaddr *)&a, 0) ||
        uv_listen((uv_stream_t *)&server, 128, on_connection))
        return 1;
    return uv_run(loop, UV_RUN_DEFAULT);
}
