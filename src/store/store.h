/*
 * store.h: the metadata that must survive: projects, their terminals and settings. SQLite behind it
 * (store/sqlite.c).
 *
 * Asynchronous: each call copies what it is given, runs on the store's own threads (one writer that groups
 * what is queued into one transaction with synchronous=FULL and a savepoint a job; several readers) and
 * answers once on the loop thread, after commit. Answers arrive in order for one project's writes. Loop
 * thread only. The queue is bounded (RP_ERROR_UNAVAILABLE).
 */
#ifndef RP_STORE_STORE_H
#define RP_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "base/str.h"
#include "net/loop.h"
#include "proto/orchestrator.h"

struct rp_store;

/* One row. Strings are owned by the record (rp_project_record_done). JSON texts are our own and valid. */
struct rp_project_record {
    char id[RP_ID_SIZE];
    char *name; /* 1 to 100 characters */
    char *stack;
    char *run_command;     /* NULL: the stack's */
    char *dependencies;    /* JSON object name → version as given */
    char *env;             /* JSON object */
    char *metadata;        /* JSON object of strings */
    char *network;         /* JSON: {"mode":"internet"|"none"|"allow","allow":[cidr]} */
    uint64_t memory;       /* bytes; 0: the stack's */
    uint32_t cpu;          /* thousandths; 0: the stack's */
    uint32_t processes;    /* 0: the stack's */
    uint64_t disk;         /* bytes; 0: the server's default */
    uint32_t idle_timeout; /* seconds */
    bool always_on;
    /* what the lifecycle keeps (rp_store_project_state); it does not count as a change of the project */
    bool wanted;              /* it ought to be running (always_on projects start again after a reboot) */
    bool run_wanted;          /* its run command ought to be running */
    char sandbox[RP_ID_SIZE]; /* the sandbox it runs in, or "" */
    char boot_id[40];         /* of the machine when that sandbox began */
    char *reason;             /* why it is failed or was stopped, or NULL */
    char *installed;          /* fingerprint of manifest + environment that is installed, or NULL */
    uint64_t version;         /* +1 with every rp_store_project_update: the ETag */
    int64_t created_at, updated_at; /* µs */
};

void rp_project_record_done(struct rp_project_record *r);
void rp_project_record_copy(struct rp_project_record *dst, const struct rp_project_record *src);

/* Opens or makes the database and applies the migrations (store/migrations/NNNN_name.sql, embedded). Blocks.
 */
int rp_store_open(struct rp_loop *loop, const char *path, struct rp_store **ret,
                  struct rp_error *err) RP_MUST_CHECK;
/* Finishes what is queued, then closes. */
void rp_store_close(struct rp_store *s);

typedef void rp_store_done_fn(void *ctx, const struct rp_error *err); /* err NULL: committed */

/*
 * The answer to a request that carried an Idempotency-Key, kept for 24 hours. request is a hash of what was
 * asked.
 */
struct rp_idempotent_answer {
    const char *key, *request, *location, *body;
    int status;
};

/* Inserts the row (version as it is in r), settles its volume and, when `answer` is not NULL, keeps the
 * answer, all in one transaction.
 * RP_ERROR_EXISTS when the id or the key is taken. */
void rp_store_project_insert(struct rp_store *s, const struct rp_project_record *r,
                             const struct rp_idempotent_answer *answer, rp_store_done_fn *fn, void *ctx);
/* Replaces what a user may edit (not what the lifecycle keeps, nor `installed`); the new version is
 * r->version + 1. RP_ERROR_PRECONDITION when the row has another version. */
void rp_store_project_update(struct rp_store *s, const struct rp_project_record *r, rp_store_done_fn *fn,
                             void *ctx);
/* Replaces what the lifecycle keeps: wanted, run_wanted, sandbox, boot_id, reason, installed. */
void rp_store_project_state(struct rp_store *s, const struct rp_project_record *r, rp_store_done_fn *fn,
                            void *ctx);
/* The answer that was kept for the key, or NULL; it lives during the call. */
typedef void rp_store_answer_fn(void *ctx, const struct rp_idempotent_answer *answer,
                                const struct rp_error *err);
void rp_store_idempotent_answer(struct rp_store *s, const char *key, rp_store_answer_fn *fn, void *ctx);
/* And notes that its volume is to be deleted. */
void rp_store_project_delete(struct rp_store *s, const char *id, rp_store_done_fn *fn, void *ctx);

/*
 * Volumes that are to be deleted at the next start unless they are settled first: noted before a volume is
 * made, so that a server that dies in between leaves none behind.
 */
void rp_store_volume_unsettled(struct rp_store *s, const char *project, rp_store_done_fn *fn, void *ctx);
void rp_store_volume_settled(struct rp_store *s, const char *project, rp_store_done_fn *fn, void *ctx);
/* Those that are left, at start-up; blocks. */
int rp_store_unsettled_load(struct rp_store *s, void (*each)(void *ctx, const char *project), void *ctx,
                            struct rp_error *err) RP_MUST_CHECK;
/* All projects at start-up; blocks; each(ctx, record) gets a record it must not keep. */
int rp_store_projects_load(struct rp_store *s, void (*each)(void *ctx, const struct rp_project_record *r),
                           void *ctx, struct rp_error *err) RP_MUST_CHECK;
/* Really asks the database. */
void rp_store_ready(struct rp_store *s, rp_store_done_fn *fn, void *ctx);

#endif
