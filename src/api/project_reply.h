/*
 * project_reply.h: what several files of api/ answer about a project. Loop thread only.
 */
#ifndef RP_API_PROJECT_REPLY_H
#define RP_API_PROJECT_REPLY_H

#include "api/api.h"

/* The project with its ETag; with 201, its Location too. */
void rp_api_reply_project(struct rp_call *call, int status, struct rp_project *p);
void rp_api_reply_created(struct rp_call *call, struct rp_project *p);
void rp_api_reply_status(struct rp_call *call, int status, struct rp_project *p);

/* Makes a project from a body and answers by `reply`, or with an error. */
void rp_api_create(struct rp_call *call, json_t *body, const char *default_stack,
                   void (*reply)(struct rp_call *call, struct rp_project *p));

/*
 * Waits at most `seconds` until the project is (or cannot come) where `aim` says, then calls reply. met: it
 * is there. err: it cannot come there.
 */
enum rp_aim { RP_AIM_RUNNING, RP_AIM_STOPPED, RP_AIM_RUN, RP_AIM_RUN_STOPPED };
void rp_api_bring(struct rp_call *call, enum rp_aim aim, bool restart, uint64_t seconds,
                  void (*reply)(struct rp_call *call, bool met, const struct rp_error *err));

/* Usage and limits as one JSON object; json lives during the call. */
typedef void rp_stats_json_fn(void *ctx, struct rp_str json, const struct rp_error *err);
void rp_api_collect_stats(struct rp_gateway *g, struct rp_project *p, rp_stats_json_fn *fn, void *ctx);

#endif
