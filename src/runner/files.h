/*
 * files.h: the files of a sandbox's project, through the file helper that init forks (proto/files.h). Loop
 * thread only.
 *
 * One `struct rp_files` for a loop. It keeps up to four idle channels for each sandbox (closed after 30 s),
 * uses at most twelve at a time and lets 256 requests wait. Everything received is hostile: a malformed frame
 * ends the request with RP_ERROR_PROTOCOL and its channel. A request that makes no progress (30 s; 300 s for
 * what works through a tree or makes a write durable) ends with RP_ERROR_TIMEOUT; time while it is paused
 * does not count.
 *
 * Paths are relative to the project, "" being the project; any bytes but NUL. They are copied.
 */
#ifndef RP_RUNNER_FILES_H
#define RP_RUNNER_FILES_H

#include "base/error.h"
#include "net/stream.h"
#include "proto/files.h"
#include "runner/sandbox.h"

struct rp_files;

struct rp_files *rp_files_new(struct rp_loop *loop);
/* Requests under way are answered with an error first. NULL-safe. */
void rp_files_free(struct rp_files *f);
/* The sandbox is going away: its requests are answered with RP_ERROR_SANDBOX, its channels closed. Must be
 * called before rp_sandbox_free by whoever frees the sandbox. */
void rp_files_drop(struct rp_files *f, struct rp_sandbox *s);

/* ---- whole files, for small ones ---- */

/* err NULL: written durably; etag lives during the call. */
typedef void rp_files_written_fn(void *ctx, struct rp_str etag, const struct rp_error *err);
/* Creates or replaces, makes missing directories. mode 0: 0644, or what the file has. The content is copied.
 */
void rp_files_write_all(struct rp_files *f, struct rp_sandbox *s, struct rp_str path, uint32_t mode,
                        struct rp_str content, rp_files_written_fn *fn, void *ctx);

/* The content lives during the call. RP_ERROR_NOT_FOUND when it is not there, RP_ERROR_TOO_LARGE over max. */
typedef void rp_files_content_fn(void *ctx, struct rp_str content, const struct rp_error *err);
void rp_files_read_all(struct rp_files *f, struct rp_sandbox *s, struct rp_str path, size_t max,
                       rp_files_content_fn *fn, void *ctx);

/* ---- requests that stream ---- */

struct rp_file_entry {
    struct rp_str path; /* relative to the request's path */
    uint8_t kind;       /* RP_FILE_* */
    uint32_t mode;
    uint64_t size;
    int64_t mtime_ns;
    struct rp_str target; /* of a symlink */
    struct rp_str etag;   /* of a regular file, without quotes */
};

struct rp_file_match {
    struct rp_str path;
    uint32_t line, column; /* from 1; line 0: the name matches */
    struct rp_str text;    /* any bytes, at most 512 */
};

struct rp_file_event {
    uint8_t type; /* RP_FILES_EVENT_* */
    struct rp_str path, to;
};

/* One request under way. It is gone after on_done, or after rp_file_cancel. */
struct rp_file_request;

/* NULL for what a request does not send. Views live during the call. Never called from inside the function
 * that makes the request. */
struct rp_file_callbacks {
    void (*on_entry)(void *ctx, const struct rp_file_entry *entry);
    void (*on_data)(void *ctx, struct rp_str bytes); /* what was read; any cut */
    void (*on_match)(void *ctx, const struct rp_file_match *match);
    void (*on_event)(void *ctx, const struct rp_file_event *event);
    void (*on_ready)(void *ctx); /* WRITE and IMPORT: send now. WATCH: it watches */
    void (*on_drain)(void *ctx); /* after RP_WRITE_FULL: send more */
    /* Last, once. etag is that of what was written, or empty. */
    void (*on_done)(void *ctx, struct rp_str etag, bool truncated, const struct rp_error *err);
};

struct rp_file_request *rp_files_stat(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                      const struct rp_file_callbacks *cb, void *ctx);
struct rp_file_request *rp_files_list(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                      uint32_t depth, uint32_t limit, const struct rp_file_callbacks *cb,
                                      void *ctx);
/* on_entry with its size and etag, then on_data. length UINT64_MAX: to the end. */
struct rp_file_request *rp_files_read(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                      uint64_t offset, uint64_t length, const struct rp_file_callbacks *cb,
                                      void *ctx);
/* flags: RP_FILES_WRITE_*. size UINT64_MAX: unknown. */
struct rp_file_request *rp_files_write(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                       uint32_t mode, uint8_t flags, struct rp_str etag, uint64_t size,
                                       const struct rp_file_callbacks *cb, void *ctx);
struct rp_file_request *rp_files_mkdir(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                       bool parents, const struct rp_file_callbacks *cb, void *ctx);
struct rp_file_request *rp_files_move(struct rp_files *f, struct rp_sandbox *s, struct rp_str from,
                                      struct rp_str to, bool overwrite, const struct rp_file_callbacks *cb,
                                      void *ctx);
struct rp_file_request *rp_files_copy(struct rp_files *f, struct rp_sandbox *s, struct rp_str from,
                                      struct rp_str to, bool overwrite, const struct rp_file_callbacks *cb,
                                      void *ctx);
struct rp_file_request *rp_files_delete(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                        bool recursive, const struct rp_file_callbacks *cb, void *ctx);
/* flags: RP_FILES_SEARCH_*. */
struct rp_file_request *rp_files_search(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                        struct rp_str query, uint32_t flags, uint32_t limit,
                                        struct rp_str glob, const struct rp_file_callbacks *cb, void *ctx);
/* on_entry and its on_data, for everything below path, parents first. */
struct rp_file_request *rp_files_export(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                        const struct rp_file_callbacks *cb, void *ctx);
struct rp_file_request *rp_files_import(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                        bool replace, const struct rp_file_callbacks *cb, void *ctx);
/* on_ready, then on_event until it is cancelled. */
struct rp_file_request *rp_files_watch(struct rp_files *f, struct rp_sandbox *s, struct rp_str path,
                                       const struct rp_file_callbacks *cb, void *ctx);

/* Backpressure: between pause and resume nothing is read from the sandbox and no callback but on_done (with
 * an error) comes. */
void rp_file_pause(struct rp_file_request *r);
void rp_file_resume(struct rp_file_request *r);

/* After on_ready of a WRITE: the etag of what it will replace, empty when there is nothing. */
struct rp_str rp_file_replaces(const struct rp_file_request *r);

/* What WRITE and IMPORT take after on_ready. RP_WRITE_FULL: accepted, wait for on_drain. */
enum rp_write rp_file_send(struct rp_file_request *r, struct rp_str bytes);
enum rp_write rp_file_send_entry(struct rp_file_request *r, const struct rp_file_entry *entry);
void rp_file_finish(struct rp_file_request *r); /* all was sent; on_done follows */

/* No callback comes any more. What was half written is undone by the helper. NULL-safe. */
void rp_file_cancel(struct rp_file_request *r);

/* ---- pure, for the fuzzer and the tests ---- */

struct rp_files_frame {
    uint8_t type;
    struct rp_str payload;
    union {
        struct rp_file_entry entry;
        struct rp_file_match match;
        struct rp_file_event event;
        struct rp_str etag; /* END */
        struct {
            uint32_t errnum;
            struct rp_str message;
        } error;
    };
};

/* Decodes the frame at the front of bytes. Its whole length; 0 when it is not all there; -1 when malformed.
 */
ssize_t rp_files_decode(struct rp_str bytes, struct rp_files_frame *ret);

/* What an errno of the helper is to a client of the API: code and a sentence about `path` a person
 * understands. */
int rp_files_explain(struct rp_error *err, int errnum, struct rp_str path);

#endif
