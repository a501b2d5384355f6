/*
 * lane.h: threads that run the store's jobs, each with a connection of its own. Used inside store/ only.
 *
 * A lane of writing has one thread, which takes all that is queued (up to RP_LANE_GROUP) into one
 * transaction, a savepoint a job: one fsync for many writers. A lane of reading has several threads, a job
 * each. `done` is called on the loop thread in the order of submission (writing), after the commit. Jobs are
 * submitted on the loop thread.
 */
#ifndef RP_STORE_LANE_H
#define RP_STORE_LANE_H

#include "net/loop.h"
#include "store/database.h"

enum { RP_LANE_QUEUE_MAX = 8192, RP_LANE_GROUP = 256, RP_LANE_THREADS_MAX = 4 };

struct rp_job {
    /* On a lane's thread. May run twice (a group that failed is repeated job by job), so it starts from its
     * inputs each time. */
    int (*work)(struct rp_job *job, struct rp_database *d, struct rp_error *err);
    void (*done)(struct rp_job *job, const struct rp_error *err); /* loop thread; frees the job */
    struct rp_job *next;
    bool failed;
    struct rp_error err;
};

struct rp_lane;

/* Takes the connections over; writing lanes have one. */
struct rp_lane *rp_lane_new(struct rp_loop *loop, struct rp_database *databases, unsigned count,
                            bool writing);
/* Never fails: a job over the bound is answered with RP_ERROR_UNAVAILABLE, from the loop. */
void rp_lane_submit(struct rp_lane *l, struct rp_job *job);
/* Finishes what is queued, calls what is done, closes the connections. */
void rp_lane_free(struct rp_lane *l);

#endif
