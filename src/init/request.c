/* One request of a peer, already decoded and in its limits: who answers it. */
#include <errno.h>
#include <fcntl.h>

#include "init/init.h"

static void hello(struct rp_init *init, struct rp_init_connection *c, const struct rp_init_request *q)
{
    if (q->hello.low > RP_INIT_VERSION || q->hello.high < RP_INIT_VERSION || q->hello.low > q->hello.high) {
        rp_init_answer_error(init, c, q->tag, EPROTONOSUPPORT, "no common version");
        c->dead = true;
        return;
    }
    /* The probe shows the server whether descriptors arrive at all. */
    int probe[2];
    if (pipe2(probe, O_CLOEXEC | O_NONBLOCK) < 0) {
        rp_init_answer_error(init, c, q->tag, errno, "pipe");
        return;
    }
    size_t length = sizeof(RP_INIT_PROBE) - 1;
    bool wrote = write(probe[1], RP_INIT_PROBE, length) == (ssize_t)length;
    close(probe[1]);
    uint8_t bytes[32];
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_HELLO, 0, q->tag);
    rp_wire_put_u32(&w, RP_INIT_VERSION);
    rp_wire_put_u32(&w, 0);
    if (wrote) {
        c->hello = true;
        rp_init_send(init, c, &w, probe[0]);
    } else {
        rp_init_answer_error(init, c, q->tag, EIO, "pipe");
    }
    close(probe[0]);
}

static void list(struct rp_init *init, struct rp_init_connection *c, uint32_t tag)
{
    for (int i = 0; i < RP_INIT_PROCESSES_MAX; i++) {
        const struct rp_init_process *p = init->processes[i];
        if (p && p->report < 0)
            rp_init_process_tell(init, c, tag, p);
    }
    rp_init_answer_ok(init, c, tag);
}

/* The requests about one process that is there. Returns 0 when OK is the answer, else an errno. */
static int about_process(struct rp_init *init, struct rp_init_connection *c, const struct rp_init_request *q,
                         struct rp_init_process *p)
{
    switch (q->type) {
    case RP_INIT_SIGNAL:
        return rp_init_process_signal(p, (int)q->signal.signal, q->signal.target);
    case RP_INIT_RESIZE:
        return p->streams[RP_STREAM_PTY] < 0
                   ? ENOTTY
                   : rp_init_pty_resize(p->streams[RP_STREAM_PTY], q->resize.cols, q->resize.rows);
    case RP_INIT_CLOSE_STDIN:
        rp_close_fd(&p->streams[RP_STREAM_STDIN]);
        return 0;
    case RP_INIT_REOPEN:
        rp_init_process_streams(init, c, q->tag, p);
        return 0;
    default: /* FORGET */
        if (!p->exited)
            return EBUSY;
        rp_init_process_forget(init, p);
        return 0;
    }
}

void rp_init_handle(struct rp_init *init, struct rp_init_connection *c, struct rp_init_request *q, int *fd)
{
    int errnum = 0;
    const char *what = "request";
    switch (q->type) {
    case RP_INIT_HELLO:
        hello(init, c, q);
        return;
    case RP_INIT_CGROUP:
        errnum = rp_init_step_add(init, q->step, fd);
        what = "cgroup";
        break;
    case RP_INIT_CGROUP_DROP:
        rp_init_step_drop(init, q->step);
        break;
    case RP_INIT_SPAWN:
        rp_init_spawn(init, c, q);
        return;
    case RP_INIT_SIGNAL:
    case RP_INIT_RESIZE:
    case RP_INIT_CLOSE_STDIN:
    case RP_INIT_REOPEN:
    case RP_INIT_FORGET: {
        uint64_t id = q->type == RP_INIT_SIGNAL   ? q->signal.id
                      : q->type == RP_INIT_RESIZE ? q->resize.id
                                                  : q->id;
        struct rp_init_process *p = rp_init_process_find(init, id);
        errnum = p ? about_process(init, c, q, p) : ESRCH;
        what = "process";
        break;
    }
    case RP_INIT_LIST:
        list(init, c, q->tag);
        return;
    case RP_INIT_CONNECT:
        rp_init_connect(init, c, q);
        return;
    case RP_INIT_PORTS_WATCH:
        /* OK first: the list that follows "at once" is an answer to it. */
        rp_init_answer_ok(init, c, q->tag);
        rp_init_ports_watch(init, q->interval_ms);
        return;
    case RP_INIT_FILES:
        rp_init_files_open(init, c, q->tag);
        return;
    case RP_INIT_SHUTDOWN:
        c->shutdown_tag = q->tag;
        rp_init_shutdown(init, q->grace_ms);
        return;
    default:
        c->dead = true;
        return;
    }
    if (errnum)
        rp_init_answer_error(init, c, q->tag, errnum, what);
    else
        rp_init_answer_ok(init, c, q->tag);
}
