/* The file helper: forked by init for a channel; takes one request after the other until the channel is
 * closed. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "init/files/helper.h"
#include "init/init.h"

enum { CHANNEL_BUFFER = 512 * 1024 };

void rp_helper_detail(struct rp_helper *h, const char *operation, const char *path)
{
    snprintf(h->detail, sizeof(h->detail), "%s \"%.256s\"", operation, path);
}

static int serve_one(struct rp_helper *h, uint8_t type, struct rp_wire_reader *r)
{
    switch (type) {
    case RP_FILES_STAT:
        return rp_helper_stat(h, r);
    case RP_FILES_LIST:
        return rp_helper_list(h, r);
    case RP_FILES_READ:
        return rp_helper_read(h, r);
    case RP_FILES_WRITE:
        return rp_helper_write(h, r);
    case RP_FILES_MKDIR:
        return rp_helper_mkdir(h, r);
    case RP_FILES_MOVE:
        return rp_helper_move(h, r);
    case RP_FILES_COPY:
        return rp_helper_copy(h, r);
    case RP_FILES_DELETE:
        return rp_helper_delete(h, r);
    case RP_FILES_SEARCH:
        return rp_helper_search(h, r);
    case RP_FILES_EXPORT:
        return rp_helper_export(h, r);
    case RP_FILES_IMPORT:
        return rp_helper_import(h, r);
    case RP_FILES_WATCH:
        return rp_helper_watch(h, r);
    default:
        rp_helper_malformed(h);
    }
}

void rp_helper_serve(int channel, const char *root_path)
{
    struct rp_helper *h = calloc(1, sizeof(*h));
    if (!h)
        _exit(1);
    h->channel = channel;
    h->root_path = root_path;
    h->root = h->undo_dir = -1;
    for (;;) {
        struct rp_wire_reader r;
        uint8_t type = rp_helper_receive(h, &r);
        h->detail[0] = '\0';
        /* Anew each time: the root may have been pivoted since. */
        h->root = open(h->root_path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int errnum = h->root < 0 ? errno : serve_one(h, type, &r);
        rp_close_fd(&h->root);
        if (errnum) {
            rp_helper_error(h, errnum);
            rp_helper_flush(h);
        }
    }
}

static void send_channel(struct rp_init *init, struct rp_init_connection *c, uint32_t tag, int fd)
{
    uint8_t bytes[RP_WIRE_HEADER_SIZE];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_FILE_CHANNEL, 0, tag);
    rp_init_send(init, c, &w, fd);
}

void rp_init_files_open(struct rp_init *init, struct rp_init_connection *c, uint32_t tag)
{
    pid_t *place = NULL;
    for (int i = 0; i < RP_INIT_FILE_CHANNELS_MAX && !place; i++)
        if (!init->helpers[i])
            place = &init->helpers[i];
    int ends[2] = {-1, -1};
    int errnum = init->stopping ? ESHUTDOWN : !place ? EAGAIN : 0;
    if (!errnum && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        errnum = errno;
    pid_t pid = 0;
    if (!errnum) {
        int size = CHANNEL_BUFFER; /* the kernel cuts it to its limit */
        for (int i = 0; i < 2; i++)
            (void)setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 || (pid = fork()) < 0)
            errnum = errno;
    }
    if (!errnum && pid == 0) {
        if (rp_init_become_helper(init, &ends[1], "repld-files") == 0)
            rp_helper_serve(ends[1], RP_INIT_APP);
        _exit(1);
    }
    if (errnum) {
        rp_init_answer_error(init, c, tag, errnum, "file helper");
    } else {
        *place = pid;
        send_channel(init, c, tag, ends[0]);
    }
    rp_close_fd(&ends[0]);
    rp_close_fd(&ends[1]);
}
