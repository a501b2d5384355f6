/*
 * record.h: what the orchestrator knows of a sandbox beyond its own life: RUNTIME/records/<sandbox>, one
 * small text file, written whole (temporary file, rename). RUNTIME is a tmpfs: sandboxes do not outlive the
 * machine's boot either. Any thread; calls for one sandbox are made by one thread at a time.
 *
 * A record is written before the first trace of a sandbox is made, as `starting`; again as `running` when it
 * is whole; and removed when every trace is gone. So whatever is found without a record, or with one that
 * says `starting`, was cut off by a crash and is undone.
 */
#ifndef RP_ORCHESTRATOR_RECORD_H
#define RP_ORCHESTRATOR_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "proto/orchestrator.h"

struct rp_record {
    char sandbox[RP_ID_SIZE];  /* the gateway's name for it */
    char instance[RP_ID_SIZE]; /* the driver's: another one when it was made ahead */
    char project[RP_ID_SIZE];
    char environment[RP_ENVIRONMENT_LENGTH + 1];
    int64_t started_at; /* µs */
    bool running;       /* else starting */
    bool warm;          /* it was claimed from the pool */
};

int rp_record_write(const char *dir, const struct rp_record *r, struct rp_error *err) RP_MUST_CHECK;

/* Succeeds when there is none. */
int rp_record_remove(const char *dir, const char *sandbox, struct rp_error *err) RP_MUST_CHECK;

/* Each record. What cannot be read as one (a crash of the machine, a stranger) is removed. */
int rp_record_load_all(const char *dir, void (*each)(void *ctx, const struct rp_record *r), void *ctx,
                       struct rp_error *err) RP_MUST_CHECK;

#endif
