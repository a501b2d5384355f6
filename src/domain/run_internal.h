/*
 * run_internal.h: between run.c and install.c. Loop thread only.
 */
#ifndef RP_DOMAIN_RUN_INTERNAL_H
#define RP_DOMAIN_RUN_INTERNAL_H

#include "domain/project_internal.h"

/* An asynchronous answer for one attempt to run. */
struct run_call {
    struct rp_project *p;
    unsigned attempt;
};
struct run_call *run_call_new(struct rp_project *p);
bool run_call_current(const struct run_call *c);
void run_call_free(struct run_call *c);

struct rp_process_set *run_processes(struct rp_project *p);
void run_set_state(struct rp_project *p, enum rp_run_state state);
void run_fail(struct rp_project *p, const struct rp_error *why);
void run_start_command(struct rp_project *p);

/* Begins with the first step; p->run.watched is read. Ends in run_start_command or run_fail. */
void run_install(struct rp_project *p);
void run_install_ended(struct rp_project *p, const struct rp_exit *exit);
/* A step that a former server began goes on. */
void run_install_adopted(struct rp_project *p, struct rp_process *process);

#endif
