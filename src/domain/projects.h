/*
 * projects.h: all projects of the server: making, finding, listing, changing and deleting them, and keeping
 * them true to what the orchestrator has. Loop thread only. What one project does is in project.h.
 *
 * Nothing is acknowledged before it is in the store. What a making or a deletion left half done when the
 * server died is finished by rp_projects_connect.
 */
#ifndef RP_DOMAIN_PROJECTS_H
#define RP_DOMAIN_PROJECTS_H

#include "base/settings.h"
#include "domain/project.h"
#include "domain/project_input.h"
#include "orchestrator/client.h"

struct rp_processes;
struct rp_files;
struct rp_stacks;

/* Everything outlives the projects. */
struct rp_projects_parts {
    struct rp_loop *loop;
    const struct rp_settings *settings;
    struct rp_store *store;
    struct rp_stacks *stacks;
    struct rp_processes *processes;
    struct rp_files *files;
};

/* Takes the hooks of `processes` (run commands and installs are the projects' own). */
struct rp_projects *rp_projects_new(const struct rp_projects_parts *parts);
/* The server ends: everybody who watches is told (1001), sandboxes live on. */
void rp_projects_close(struct rp_projects *all);
void rp_projects_free(struct rp_projects *all);

/* After all observers were registered. Blocks. */
int rp_projects_load(struct rp_projects *all, struct rp_error *err) RP_MUST_CHECK;
/*
 * Connects to the orchestrator and brings both sides together: sandboxes that records know are adopted,
 * others are stopped; always_on projects start again. settled(ctx) once, when the adopted ones answer or
 * after 3 s.
 */
void rp_projects_connect(struct rp_projects *all, const char *orchestrator_socket, void (*settled)(void *ctx),
                         void *ctx);
struct rp_orchestrator *rp_projects_orchestrator(struct rp_projects *all);
const struct rp_stacks *rp_projects_stacks(const struct rp_projects *all);
const struct rp_settings *rp_projects_settings(const struct rp_projects *all);

/* Newest first; `before` NULL begins. */
struct rp_project *rp_projects_older(struct rp_projects *all, const struct rp_project *before);
/* The newest one that is older than this place in the order (for a cursor whose project is gone). */
struct rp_project *rp_projects_older_than(struct rp_projects *all, int64_t created_at, struct rp_str id);
size_t rp_projects_count(const struct rp_projects *all);

/*
 * Makes a project from checked input: volume, template, manifest and the user's files, row. fn gets the
 * project, or NULL and why; then nothing is left behind. *input is taken over and left empty. `once` NULL, or
 * a key and a hash of the request: the answer (201, Location, rp_project_write_json) is kept under it in the
 * same transaction.
 */
struct rp_project_once {
    const char *key, *request;
};
void rp_projects_create(struct rp_projects *all, struct rp_project_input *input,
                        const struct rp_project_once *once, rp_project_fn *fn, void *ctx);

/*
 * Applies the fields that *input has; it is taken over and left empty. expected_version 0: whatever it is;
 * else RP_ERROR_PRECONDITION when it is another. Limits take effect at once where there is a sandbox.
 */
void rp_project_update(struct rp_project *p, struct rp_project_input *input, uint64_t expected_version,
                       rp_project_fn *fn, void *ctx);

/* Stops it and removes its row and its files. */
void rp_project_delete(struct rp_project *p, rp_project_fn *fn, void *ctx);

/* ---- its run command, and its sandbox ---- */

enum rp_run_state { RP_RUN_IDLE, RP_RUN_INSTALLING, RP_RUN_RUNNING, RP_RUN_EXITED, RP_RUN_FAILED };
enum rp_run_state rp_project_run_state(const struct rp_project *p);
bool rp_project_run_begins(const struct rp_project *p); /* asked for, and no process yet */
const char *rp_project_run_reason(const struct rp_project *p);
bool rp_project_run_wanted(const struct rp_project *p);
/* "" when there is none, or when it only serves files. */
const char *rp_project_sandbox_id(const struct rp_project *p);
struct rp_limits rp_project_limits(const struct rp_project *p);
uint64_t rp_project_disk(const struct rp_project *p); /* its quota */

/* ---- JSON as the API shows it ---- */

void rp_project_write_json(struct rp_json_writer *w, const struct rp_project *p);
void rp_project_write_status(struct rp_json_writer *w, const struct rp_project *p);
void rp_project_write_ports(struct rp_json_writer *w, struct rp_project *p);

/* ---- events ---- */

struct rp_listener;
typedef void rp_listener_fn(void *ctx, struct rp_str json);
/* fn for every event of the project. deleted(ctx): the project is gone; the listener with it. */
struct rp_listener *rp_project_listen(struct rp_project *p, rp_listener_fn *fn, void (*deleted)(void *ctx),
                                      void *ctx);
void rp_listener_free(struct rp_listener *l);
unsigned rp_project_listeners(const struct rp_project *p);

#endif
