/*
 * sandbox.h: the server's end of one sandbox: the connection to its init. Loop thread only.
 *
 * Owned by the project's lifecycle (domain/lifecycle). Everything received is hostile: types and ranges are
 * checked, descriptors are close-on-exec and checked to be of the kind that was asked for; a violation breaks
 * the sandbox (on_broken), which the owner answers by stopping it. Requests that wait when it breaks are
 * answered with RP_ERROR_SANDBOX.
 */
#ifndef RP_RUNNER_SANDBOX_H
#define RP_RUNNER_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "base/str.h"
#include "net/loop.h"
#include "proto/init.h"

struct rp_sandbox;

struct rp_port {
    uint8_t family; /* 4 or 6 */
    uint8_t address[16];
    uint16_t port;
    uint32_t pid;     /* inside the sandbox, 0 when unknown */
    char command[64]; /* "" when unknown */
};

/* How a process ended and what it used. */
struct rp_exit {
    int code;   /* -1 when a signal ended it */
    int signal; /* 0 unless signalled */
    uint64_t user_us, system_us, peak_rss;
};

struct rp_sandbox_process_info {
    uint64_t id;
    uint32_t pid, flags; /* RP_SPAWN_* */
    bool exited;
    struct rp_exit exit;
    uint64_t started_ns;
    struct rp_str label; /* lives during the callback */
};

struct rp_sandbox_events {
    void (*on_exited)(void *ctx, uint64_t process, const struct rp_exit *exit);
    void (*on_ports)(void *ctx, const struct rp_port *ports,
                     size_t count);                           /* whole list, after each change */
    void (*on_broken)(void *ctx, const struct rp_error *why); /* last callback */
};

/*
 * Takes ownership of `connection` and says HELLO. ready(ctx, err) is called once: err NULL when the sandbox
 * may be used.
 */
struct rp_sandbox *rp_sandbox_new(struct rp_loop *loop, const char *id, int connection,
                                  const struct rp_sandbox_events *events, void *ctx,
                                  void (*ready)(void *ctx, const struct rp_error *err));
/* Waiting requests are answered with an error first. NULL-safe. */
void rp_sandbox_free(struct rp_sandbox *s);
struct rp_loop *rp_sandbox_loop(struct rp_sandbox *s);
/* Declares it broken, e.g. because one of its descriptors misbehaves. on_broken follows from the loop. */
void rp_sandbox_break(struct rp_sandbox *s, const struct rp_error *why);

/* ---- requests; each callback is called exactly once, never from inside the request ---- */

struct rp_spawn {
    uint64_t id;    /* not 0; random, so that it is unique over restarts of the server */
    uint32_t flags; /* RP_SPAWN_* */
    uint16_t cols, rows;
    uint32_t step;
    const char *cwd;
    const char *const *argv; /* NULL-terminated */
    const char *const *env;  /* NULL-terminated, "NAME=value" */
    struct rp_str label;
};

/* fds: [RP_STREAM_*] or -1; owned by the callee when err is NULL. */
typedef void rp_streams_fn(void *ctx, const int fds[4], uint32_t pid, const struct rp_error *err);
typedef void rp_done_fn(void *ctx, const struct rp_error *err); /* err NULL: done */
typedef void rp_fd_fn(void *ctx, int fd, const struct rp_error *err);

void rp_sandbox_spawn(struct rp_sandbox *s, const struct rp_spawn *spawn, rp_streams_fn *fn, void *ctx);
void rp_sandbox_reopen(struct rp_sandbox *s, uint64_t id, rp_streams_fn *fn, void *ctx);
/* each(ctx, info) for every process, then done. */
void rp_sandbox_list(struct rp_sandbox *s,
                     void (*each)(void *ctx, const struct rp_sandbox_process_info *info), rp_done_fn *done,
                     void *ctx);
void rp_sandbox_signal(struct rp_sandbox *s, uint64_t id, int signal, uint8_t target, rp_done_fn *fn,
                       void *ctx);
void rp_sandbox_resize(struct rp_sandbox *s, uint64_t id, uint16_t cols, uint16_t rows);
void rp_sandbox_close_stdin(struct rp_sandbox *s, uint64_t id);
void rp_sandbox_forget(struct rp_sandbox *s, uint64_t id);
/* A connected TCP socket to a port of the sandbox: 127.0.0.1, or ::1, or the address that is listened on. */
void rp_sandbox_connect(struct rp_sandbox *s, uint16_t port, uint32_t timeout_ms, rp_fd_fn *fn, void *ctx);
/* Starts the ports events. */
void rp_sandbox_watch_ports(struct rp_sandbox *s, uint32_t interval_ms);
/* The last known list. */
const struct rp_port *rp_sandbox_ports(struct rp_sandbox *s, size_t *ret_count);
/* A file channel (proto/files.h). */
void rp_sandbox_file_channel(struct rp_sandbox *s, rp_fd_fn *fn, void *ctx);

#endif
