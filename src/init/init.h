/*
 * init.h: repld-init from the inside: one thread, one epoll loop, all state in one struct rp_init.
 *
 * PID 1 of a sandbox, uid 0 of its user namespace with SETUID, SETGID and KILL only. Nothing here blocks on
 * what a user's process can hold up: children report exec through a pipe, files are served by forked helpers,
 * sends never wait. A failure of one request answers that request; a malformed message costs its connection.
 */
#ifndef RP_INIT_INIT_H
#define RP_INIT_INIT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "init/message.h"

struct rp_init;

/* Something in the epoll set. Embedded first in its owner; the loop takes one event a turn, so an owner may
 * be freed by any callback. */
struct rp_init_source {
    void (*ready)(struct rp_init *init, struct rp_init_source *source, uint32_t events);
};

enum {
    RP_INIT_HIERARCHIES_MAX = 16,     /* descriptors a step: cgroup v1 has one a hierarchy */
    RP_INIT_QUEUE_MAX = 1024 * 1024,  /* bytes that wait for a slow peer before it is dropped */
    RP_INIT_QUEUED_FD_COST = 4096,    /* what a waiting descriptor counts in it */
    RP_INIT_SPAWN_TIMEOUT_MS = 30000, /* from fork to exec */
};

struct rp_init_step {
    int count;
    int fds[RP_INIT_HIERARCHIES_MAX];
};

struct rp_init_pending {
    struct rp_init_pending *next;
    int fd; /* owned, or -1 */
    size_t length;
    uint8_t bytes[];
};

struct rp_init_connection {
    struct rp_init_source source;
    int fd;
    uint32_t serial; /* never 0, never used twice: asynchronous answers look their connection up by it */
    bool hello;
    bool dead; /* closed at the end of the turn */
    bool wants_write;
    uint32_t shutdown_tag; /* 0: did not ask for a shutdown */
    struct rp_init_pending *first, *last;
    size_t queued;
};

struct rp_init_process {
    struct rp_init_source source; /* of `report` */
    uint64_t id;
    pid_t pid;
    uint32_t flags;
    int report;      /* the pipe by which the child tells that exec failed; -1 once it has run */
    uint32_t serial; /* who asked */
    uint32_t tag;
    uint64_t deadline_ms; /* of the exec */
    bool exited;
    int code, signal;
    uint64_t user_us, system_us, peak_rss, started_ns;
    int streams[4]; /* [RP_STREAM_*] our ends, or -1 */
    size_t label_length;
    char label[];
};

struct rp_init_connecting {
    struct rp_init_source source;
    int fd;
    uint32_t serial, tag;
    uint64_t deadline_ms;
};

struct rp_init_listener {
    uint8_t family;
    uint8_t address[16];
    uint16_t port;
    uint32_t inode;
    uint32_t pid;
    char command[64];
};

struct rp_init_ports {
    struct rp_init_source source; /* of `scanner` */
    uint32_t interval_ms;         /* 0: nobody watches */
    uint64_t next_ms;
    bool force; /* tell the list even when it has not changed */
    uint32_t count;
    struct rp_init_listener list[RP_INIT_PORTS_MAX];
    int scanner; /* pipe from the process that looks for the owners, or -1 */
    pid_t scanner_pid;
    uint64_t scanner_deadline_ms;
    size_t result_length;
    uint8_t result[RP_INIT_PORTS_MAX * 72];
};

struct rp_init {
    int epoll;
    bool check_peer;     /* PID 1 of its own namespace: a peer must be outside of it */
    struct rlimit files; /* as we got it: for children */
    struct rp_init_source listener_source, signal_source;
    int listener, signals;
    uint32_t next_serial;
    struct rp_init_connection *connections[RP_INIT_CONNECTIONS_MAX];
    struct rp_init_process *processes[RP_INIT_PROCESSES_MAX];
    struct rp_init_step steps[RP_INIT_STEPS_MAX];
    struct rp_init_connecting *connecting[RP_INIT_CONNECTS_MAX];
    pid_t helpers[RP_INIT_FILE_CHANNELS_MAX];
    struct rp_init_ports ports;
    bool stopping;
    bool stopped; /* no child is left: the loop ends */
    uint64_t kill_at_ms;
    struct rp_init_request request; /* too large for the stack */
};

/* main.c */
uint64_t rp_init_now_ms(void);
int rp_init_add(struct rp_init *init, int fd, uint32_t events, struct rp_init_source *source);
void rp_init_modify(struct rp_init *init, int fd, uint32_t events, struct rp_init_source *source);
void rp_init_close(struct rp_init *init, int *fd); /* removes it from the set first */

/* connection.c */
void rp_init_accept(struct rp_init *init, struct rp_init_source *source, uint32_t events);
struct rp_init_connection *rp_init_connection_find(struct rp_init *init, uint32_t serial);
void rp_init_send(struct rp_init *init, struct rp_init_connection *c, const struct rp_wire_writer *w, int fd);
void rp_init_broadcast(struct rp_init *init, const struct rp_wire_writer *w);
bool rp_init_anyone(const struct rp_init *init); /* has someone said HELLO */
void rp_init_answer_ok(struct rp_init *init, struct rp_init_connection *c, uint32_t tag);
void rp_init_answer_error(struct rp_init *init, struct rp_init_connection *c, uint32_t tag, int errnum,
                          const char *what);
void rp_init_connections_sweep(struct rp_init *init); /* frees the dead ones; at the end of a turn */

/* request.c: one decoded request */
void rp_init_handle(struct rp_init *init, struct rp_init_connection *c, struct rp_init_request *q, int *fd);

/* cgroup.c */
int rp_init_step_add(struct rp_init *init, uint32_t step, int *fd); /* takes *fd; 0 or errno */
void rp_init_step_drop(struct rp_init *init, uint32_t step);
int rp_init_step_join(const struct rp_init *init, uint32_t step); /* in a child; 0 or errno */

/* process.c */
void rp_init_spawn(struct rp_init *init, struct rp_init_connection *c, const struct rp_init_request *q);
struct rp_init_process *rp_init_process_find(struct rp_init *init,
                                             uint64_t id); /* NULL: not there yet or no more */
void rp_init_process_streams(struct rp_init *init, struct rp_init_connection *c, uint32_t tag,
                             const struct rp_init_process *p);
void rp_init_process_tell(struct rp_init *init, struct rp_init_connection *c, uint32_t tag,
                          const struct rp_init_process *p);
int rp_init_process_signal(const struct rp_init_process *p, int signal, uint8_t target); /* 0 or errno */
void rp_init_process_forget(struct rp_init *init, struct rp_init_process *p);
void rp_init_reap(struct rp_init *init);
void rp_init_processes_tick(struct rp_init *init, uint64_t now, uint64_t *next);

/* child.c: between fork and exec, and for every helper that init forks */
enum rp_init_stage {
    RP_STAGE_CGROUP = 1,
    RP_STAGE_IDENTITY,
    RP_STAGE_TERMINAL,
    RP_STAGE_CHDIR,
    RP_STAGE_EXEC
};
struct rp_init_report {
    int32_t errnum;
    int32_t stage;
};
struct rp_init_plan {
    uint32_t step;
    bool pty;
    int fds[3]; /* become 0, 1, 2 */
    int report;
    const char *cwd;
    char **argv, **env;
};
void rp_init_child_run(const struct rp_init *init, const struct rp_init_plan *plan) __attribute__((noreturn));
/* In a forked helper: keeps only `fd` (moved to 3), joins step 0, file rights of the user, no capability,
 * real uid still 0 so that no user process can signal or trace it. 0 or errno. */
int rp_init_become_helper(const struct rp_init *init, int *fd, const char *name);
int rp_init_drop_capabilities(uint64_t keep); /* 0 or errno */

/* pty.c */
int rp_init_pty_open(uint16_t cols, uint16_t rows, int *ret_master, int *ret_slave); /* 0 or errno */
int rp_init_pty_resize(int master, uint16_t cols, uint16_t rows);

/* connect.c */
void rp_init_connect(struct rp_init *init, struct rp_init_connection *c, const struct rp_init_request *q);
void rp_init_connecting_tick(struct rp_init *init, uint64_t now, uint64_t *next);

/* ports.c, owners.c */
void rp_init_ports_watch(struct rp_init *init, uint32_t interval_ms);
void rp_init_ports_tick(struct rp_init *init, uint64_t now, uint64_t *next);
int rp_init_ports_read(struct rp_init_listener *ret, uint32_t max); /* count, or negative errno */
void rp_init_owners_scan(const struct rp_init_listener *list, uint32_t count, int out);

/* shutdown.c */
void rp_init_shutdown(struct rp_init *init, uint32_t grace_ms);
void rp_init_shutdown_tick(struct rp_init *init, uint64_t now, uint64_t *next);
void rp_init_no_child_left(struct rp_init *init);

/* files/helper.c */
void rp_init_files_open(struct rp_init *init, struct rp_init_connection *c, uint32_t tag);

#endif
