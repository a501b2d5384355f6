/*
 * world.h: a sandbox as a test makes it: namespaces of its own (pid, mount, network, ipc, uts), a project
 * directory, and the real repld-init (environment variable REPLD_INIT) as PID 1 with its inherited listener.
 * Everything waits at most 10 s and fails the test otherwise.
 */
#ifndef RP_TESTS_INIT_WORLD_H
#define RP_TESTS_INIT_WORLD_H

#include "../cmocka_all.h"

#include <sys/types.h>

#include "proto/files.h"
#include "proto/init.h"
#include "proto/wire.h"

struct world {
    pid_t init; /* its pid outside */
    char dir[64];
    char app[80]; /* the project, seen from outside */
    char socket[80];
};

void world_start(struct world *w);
void world_stop(struct world *w); /* SIGKILL, and nothing is left */
/* Waits until init has ended by itself; returns its wait status. */
int world_wait(struct world *w);
/* Runs fn(ctx) in a child inside the sandbox's namespaces, as uid; returns its exit status. */
int world_inside(struct world *w, uid_t uid, int (*fn)(void *ctx), void *ctx);

/* ---- init's messages ---- */

struct message {
    uint16_t type;
    uint32_t tag;
    int fd; /* or -1; the test closes it */
    struct rp_wire_reader body;
    uint8_t bytes[RP_WIRE_MESSAGE_MAX];
};

int world_dial(struct world *w);                                      /* connected, HELLO not said */
int world_connect(struct world *w);                                   /* HELLO said */
struct rp_wire_writer request_begin(uint16_t type);                   /* a static buffer and a new tag */
uint32_t request_send(int fd, struct rp_wire_writer *w, int with_fd); /* the tag */
void message_next(int fd, struct message *m);
/* The next message of the type; others but events are a failure. */
void message_expect(int fd, struct message *m, uint16_t type);
/* The answer is ERROR with this errno. */
void expect_error(int fd, int errnum);
void expect_ok(int fd);
void expect_closed(int fd);

struct spawned {
    uint32_t pid;
    int streams[4];
};
/* Flags RP_SPAWN_*; argv NULL-terminated; cwd NULL: the project. Sends only. */
void spawn_send(int fd, uint64_t id, uint32_t flags, const char *cwd, const char *const *argv);
/* Sends and takes SPAWNED and the streams. */
struct spawned spawn(int fd, uint64_t id, uint32_t flags, const char *const *argv);
#define SHELL(text) ((const char *const[]){"sh", "-c", text, NULL})

struct ended {
    int code, signal;
    uint64_t user_us, system_us, peak_rss;
};
struct ended expect_exited(int fd, uint64_t id);
/* Reads until `text` was seen or the stream ended; everything read, NUL-terminated, in a static buffer. */
const char *read_until(int fd, const char *text);

/* ---- the file helper's frames ---- */

struct frame {
    uint8_t type;
    struct rp_wire_reader body;
    uint8_t bytes[RP_FILES_PAYLOAD_MAX];
};
int files_open(int fd); /* a channel; blocking */
struct rp_wire_writer frame_begin(uint8_t type);
void frame_send(int channel, struct rp_wire_writer *w);
void frame_next(int channel, struct frame *f);
void frame_expect(int channel, struct frame *f, uint8_t type);
void frame_expect_error(int channel, int errnum);
/* WRITE of a whole file; 0 or the errno of the answer. */
int files_write(int channel, const char *path, uint8_t flags, const char *etag, const void *content,
                size_t n);
/* READ of a whole file into a static buffer; 0 or the errno. */
int files_read(int channel, const char *path, struct rp_str *ret, char ret_etag[RP_FILES_ETAG_MAX]);

#endif
