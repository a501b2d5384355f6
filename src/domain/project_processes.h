/*
 * project_processes.h: wires a project to its processes (runner/process.h): the sandbox comes and goes,
 * events, idle accounting. Loop thread only.
 */
#ifndef RP_DOMAIN_PROJECT_PROCESSES_H
#define RP_DOMAIN_PROJECT_PROCESSES_H

#include "domain/project.h"
#include "runner/process.h"

/* Registers as observer RP_OBSERVER_PROCESSES; before projects are loaded. */
void rp_project_processes_observe(struct rp_projects *projects, struct rp_processes *all);
/* The project's set, made when it is first asked for. Its owner (rp_process_set_owner) is the project. */
struct rp_process_set *rp_project_processes(struct rp_processes *all, struct rp_project *p);

/* JSON of one process or terminal as the API shows it. */
void rp_process_write_json(struct rp_json_writer *w, struct rp_process *p);

#endif
