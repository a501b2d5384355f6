/*
 * sandbox_internal.h: what sandbox.c, sandbox_messages.c and sandbox_requests.c share. Nobody else includes
 * it.
 */
#ifndef RP_RUNNER_SANDBOX_INTERNAL_H
#define RP_RUNNER_SANDBOX_INTERNAL_H

#include "proto/wire.h"
#include "runner/sandbox.h"

enum { RP_SANDBOX_REQUEST_TIMEOUT_MS = 30 * 1000 /* an init that takes longer is frozen */ };
enum { PENDING_BUCKETS = 64 };

/* A request that waits for its answer. */
struct pending {
    struct pending *next; /* of the bucket, or of the list of answers to give */
    uint32_t tag;
    uint16_t type;
    uint64_t deadline_ms;
    void *ctx;
    union {
        rp_streams_fn *streams;
        rp_done_fn *done;
        rp_fd_fn *fd;
    } fn; /* any may be NULL */
    void (*each)(void *ctx, const struct rp_sandbox_process_info *info);
    uint64_t id;
    uint32_t flags, pid;
    unsigned wanted; /* bit per RP_STREAM_* that has to come */
    bool spawned;
    unsigned listed;
    int fds[4]; /* received so far */
    uint16_t port;
    struct rp_error error; /* for an answer that is given later */
};

struct queued {
    struct queued *next;
    size_t length;
    uint8_t bytes[];
};

struct rp_sandbox {
    struct rp_loop *loop;
    char id[RP_ID_SIZE];
    int socket;
    struct rp_watch *watch;
    struct rp_timer *tick;   /* looks for late answers while there are requests */
    struct rp_timer *answer; /* gives the answers in `refused` from the loop */
    struct rp_sandbox_events events;
    void *ctx;
    void (*ready)(void *ctx, const struct rp_error *err);
    struct pending *buckets[PENDING_BUCKETS];
    struct pending *refused, **refused_tail; /* requests made after it broke */
    unsigned pending_count;
    uint32_t next_tag;
    struct queued *queue, **queue_tail;
    size_t queue_bytes;
    struct rp_port *ports;
    size_t port_count;
    bool greeted, broken, told;
    unsigned busy; /* depth of callbacks that may free us; the last one to leave frees a dead one's memory */
    bool dead;
    struct rp_error why;
    uint8_t message[RP_WIRE_MESSAGE_MAX];
};

/* ---- sandbox.c ---- */

struct pending *rp_sandbox_request(uint16_t type, void *ctx);
/* Opens the request's message in s->message. */
struct rp_wire_writer rp_sandbox_begin(struct rp_sandbox *s, struct pending *p);
/* Sends what was begun. A request that cannot be sent is answered from the loop. */
void rp_sandbox_submit(struct rp_sandbox *s, struct pending *p, const struct rp_wire_writer *w,
                       uint64_t timeout_ms);
/* Answers it with err, from the loop. */
void rp_sandbox_refuse(struct rp_sandbox *s, struct pending *p, const struct rp_error *err);
struct pending *rp_sandbox_find(struct rp_sandbox *s, uint32_t tag, bool take);
/* Calls the request's function and frees it. fd is handed over, or closed. */
void rp_sandbox_answer(struct pending *p, int fd, const struct rp_error *err);
void rp_sandbox_broke(struct rp_sandbox *s, enum rp_code code, const char *what);

/* ---- sandbox_messages.c ---- */

/* One message from init, and its descriptor or -1, which is taken. May free s's requests, and s itself by way
 * of their callbacks (see `busy`). */
void rp_sandbox_message(struct rp_sandbox *s, struct rp_str message, int fd);

#endif
