/* Frames over the channel, blocking; small ones are gathered into one write. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "init/files/helper.h"

void rp_helper_undo_begin(struct rp_helper *h, int dir, const char *name)
{
    h->undo_dir = dir;
    memcpy(h->undo_name, name, strlen(name) + 1);
}

void rp_helper_undo_end(struct rp_helper *h)
{
    h->undo_dir = -1;
}

void rp_helper_leave(struct rp_helper *h, int status)
{
    if (h->undo_dir >= 0) {
        int dir = h->undo_dir;
        h->undo_dir = -1;
        h->channel = -1; /* nobody wants it any more, but it must be finished */
        (void)rp_tree_remove(h, dir, h->undo_name);
    }
    _exit(status);
}

void rp_helper_malformed(struct rp_helper *h)
{
    rp_helper_leave(h, 3);
}

static void read_all(struct rp_helper *h, void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t got = read(h->channel, (char *)p + at, n - at);
        if (got == 0)
            rp_helper_leave(h, 0);
        if (got < 0 && errno != EINTR)
            rp_helper_leave(h, 1);
        if (got > 0)
            at += (size_t)got;
    }
}

static void write_all(struct rp_helper *h, struct iovec *iov, int count)
{
    while (count) {
        ssize_t n = writev(h->channel, iov, count);
        if (n < 0 && errno != EINTR)
            rp_helper_leave(h, 1);
        for (; n > 0;) {
            size_t took = RP_MIN((size_t)n, iov->iov_len);
            iov->iov_base = (char *)iov->iov_base + took;
            iov->iov_len -= took;
            n -= (ssize_t)took;
            if (!iov->iov_len)
                iov++, count--;
        }
        while (count && !iov->iov_len)
            iov++, count--;
    }
}

uint8_t rp_helper_receive(struct rp_helper *h, struct rp_wire_reader *ret_payload)
{
    rp_helper_flush(h);
    uint8_t head[RP_FILES_HEADER_SIZE];
    read_all(h, head, sizeof(head));
    struct rp_wire_reader r = {.data = head, .length = sizeof(head)};
    uint32_t length = rp_wire_get_u32(&r);
    uint8_t type = rp_wire_get_u8(&r);
    uint8_t flags = rp_wire_get_u8(&r);
    uint16_t reserved = rp_wire_get_u16(&r);
    if (length > RP_FILES_PAYLOAD_MAX || flags || reserved)
        rp_helper_malformed(h);
    read_all(h, h->in, length);
    *ret_payload = (struct rp_wire_reader){.data = h->in, .length = length};
    return type;
}

struct rp_wire_writer rp_helper_begin(struct rp_helper *h, uint8_t type)
{
    if (h->out_length + RP_HELPER_FRAME_SMALL > sizeof(h->out))
        rp_helper_flush(h);
    struct rp_wire_writer w = {.data = h->out + h->out_length, .cap = RP_HELPER_FRAME_SMALL};
    rp_wire_put_u32(&w, 0);
    rp_wire_put_u8(&w, type);
    rp_wire_put_u8(&w, 0);
    rp_wire_put_u16(&w, 0);
    return w;
}

void rp_helper_commit(struct rp_helper *h, const struct rp_wire_writer *w)
{
    if (w->overflow)
        rp_helper_leave(h, 4); /* our own limits forbid it */
    struct rp_wire_writer length = {.data = w->data, .cap = 4};
    rp_wire_put_u32(&length, (uint32_t)(w->length - RP_FILES_HEADER_SIZE));
    h->out_length += w->length;
}

void rp_helper_flush(struct rp_helper *h)
{
    struct iovec iov = {h->out, h->out_length};
    h->out_length = 0;
    write_all(h, &iov, iov.iov_len ? 1 : 0);
}

void rp_helper_send_data(struct rp_helper *h, const void *p, size_t n)
{
    if (n <= RP_HELPER_FRAME_SMALL / 2) {
        struct rp_wire_writer w = rp_helper_begin(h, RP_FILES_DATA);
        rp_wire_put(&w, p, n);
        rp_helper_commit(h, &w);
        return;
    }
    uint8_t bytes[RP_FILES_HEADER_SIZE] = {0};
    struct rp_wire_writer w = {.data = bytes, .cap = sizeof(bytes)};
    rp_wire_put_u32(&w, (uint32_t)n);
    rp_wire_put_u8(&w, RP_FILES_DATA);
    struct iovec iov[3] = {{h->out, h->out_length}, {bytes, sizeof(bytes)}, {(void *)p, n}};
    h->out_length = 0;
    write_all(h, iov, 3);
}

void rp_helper_end(struct rp_helper *h, const char *etag)
{
    struct rp_wire_writer w = rp_helper_begin(h, RP_FILES_END);
    rp_wire_put_str(&w, rp_str_of(etag));
    rp_helper_commit(h, &w);
}

void rp_helper_truncated(struct rp_helper *h)
{
    struct rp_wire_writer w = rp_helper_begin(h, RP_FILES_TRUNCATED);
    rp_helper_commit(h, &w);
}

void rp_helper_error(struct rp_helper *h, int errnum)
{
    char message[512];
    int n =
        snprintf(message, sizeof(message), "%s%s%s", h->detail, h->detail[0] ? ": " : "", strerror(errnum));
    struct rp_wire_writer w = rp_helper_begin(h, RP_FILES_ERROR);
    rp_wire_put_u32(&w, (uint32_t)errnum);
    rp_wire_put_str(&w, (struct rp_str){message, (size_t)RP_MIN(n, (int)sizeof(message) - 1)});
    rp_helper_commit(h, &w);
}

void rp_helper_still_wanted(struct rp_helper *h)
{
    if (++h->steps % 64 || h->channel < 0)
        return;
    struct pollfd p = {.fd = h->channel, .events = POLLRDHUP};
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP | POLLERR)))
        rp_helper_leave(h, 0);
}
