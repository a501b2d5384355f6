/* files_internal.h: what files.c (channels), files_request.c (the requests) and files_whole.c share. */
#ifndef RP_RUNNER_FILES_INTERNAL_H
#define RP_RUNNER_FILES_INTERNAL_H

#include "base/buf.h"
#include "proto/wire.h"
#include "runner/files.h"

struct rp_file_channel;
struct rp_file_pool;

struct rp_file_request {
    struct rp_file_request *next; /* while it waits for a channel */
    struct rp_file_pool *pool;    /* NULL once it has failed and only waits to say so */
    struct rp_file_channel *channel;
    const struct rp_file_callbacks *cb;
    void *ctx;
    struct rp_loop *loop;
    uint8_t type;         /* RP_FILES_* of the request */
    struct rp_buf first;  /* the encoded request, until it is sent */
    struct rp_buf path;   /* for messages */
    uint64_t timeout_ms;  /* without progress */
    uint64_t progress_ms; /* when there last was some */
    uint64_t progress;    /* what rp_stream_progress said then */
    size_t replaces_length;
    char replaces[RP_FILES_ETAG_MAX]; /* of a WRITE */
    struct rp_error err;  /* of one that failed before it began */
    bool paused : 1;
    bool ready : 1;     /* END to the request itself was seen (WRITE, IMPORT, WATCH) */
    bool sent_end : 1;  /* of an upload */
    bool truncated : 1; /* TRUNCATED was seen */
    bool deferred : 1;  /* its failure waits for the loop */
    bool cancelled : 1; /* and nobody wants to hear it */
};

/* Sends the request on a free channel, or lets it wait for one. */
void rp_file_request_start(struct rp_files *f, struct rp_sandbox *s, struct rp_file_request *r);
struct rp_stream *rp_file_request_stream(struct rp_file_request *r);
struct rp_loop *rp_files_loop(struct rp_files *f);

#endif
