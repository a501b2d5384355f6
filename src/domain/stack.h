/*
 * stack.h: stacks as data. A stack is a folder stacks/NAME/ with stack.json, template files and extra files
 * of its environment; a folder whose name begins with "_" is a base environment that stacks build on.
 *
 * rp_stacks_load reads everything into memory once, at start (blocking; before the gateway gives up root,
 * since the folder may be readable to root only); afterwards constant, any thread. Every string and array
 * belongs to the set and lives as long as it does. Unknown keys, wrong types, paths that leave the project,
 * and whatever else is not understood are refused with an error that names the file and the JSON pointer:
 * adding a language needs no C. Limits: 64 stacks, 256 KiB a description, 256 files and 4 MiB of templates a
 * stack.
 */
#ifndef RP_DOMAIN_STACK_H
#define RP_DOMAIN_STACK_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/recipe.h"
#include "base/settings.h"
#include "base/str.h"
#include "proto/orchestrator.h"

/* Who installs packages, and so how a manifest looks and which names and versions are right. */
enum rp_manager {
    RP_MANAGER_NONE,
    RP_MANAGER_PIP, /* requirements.txt */
    RP_MANAGER_NPM, /* package.json */
};

/*
 * What a new project gets. The first template whose `when` dependencies are all asked for is taken; the last
 * one asks for none.
 */
struct rp_stack_template {
    const char *name;
    const char *const *when; /* NULL-terminated package names, compared as the manager compares them */
    /* The run command when it is not the stack's, as a command line; else NULL. Stored in the project's
     * record (run_command), so that it does not change when the dependencies do. */
    const char *run_command;
    /* Paths relative to the project ("src/main.py"), contents with {{…}} not yet replaced. */
    const struct rp_recipe_file *files;
    size_t file_count;
};

/* One command of an installation; they run one after the other, in cgroup step RP_STEP_INSTALL, in
 * /home/runner/app; the first that fails ends it. */
struct rp_stack_step {
    const char *label;       /* for progress and logs: "Installing packages" */
    const char *const *argv; /* NULL-terminated; run without a shell */
    const char *if_exists;   /* run only when this path (relative to the project) exists, else NULL */
    const char *if_missing;  /* run only when this path does not exist, else NULL */
};

/* A path whose state decides what to install: its content, or only whether it is there. */
struct rp_stack_watched {
    const char *path;
    bool content;
};

struct rp_stack_association {
    const char *extension; /* ".py" */
    const char *language;  /* "python": what the editor highlights */
};

struct rp_stack {
    const char *name;            /* [a-z][a-z0-9-]{0,31} */
    const char *title;           /* "Python" */
    const char *icon;            /* a short text, e.g. an emoji */
    const char *summary;         /* one sentence */
    const char *const *versions; /* NULL-terminated, the first is the default: "3.11" */

    const char *environment; /* 64 hexadecimal digits: what START is given; = recipe->hash */
    const struct rp_recipe *recipe;

    const char *const *run;  /* NULL-terminated argv; run without a shell in /home/runner/app */
    const char *run_command; /* the same as a command line, for people and for the API's run_command */
    const char *entry;       /* the file that is opened first: "main.py" */
    uint16_t port;           /* the run command listens there by default; PORT */
    struct rp_limits limits; /* of `user`, with the burst of the first seconds */
    struct rp_limits install_limits; /* of RP_STEP_INSTALL */
    uint32_t install_timeout;        /* seconds, for all steps together */

    enum rp_manager manager;
    const char *manifest;      /* "requirements.txt", or NULL without a manager */
    const char *manifest_base; /* JSON object that a package.json starts from, or NULL */
    const struct rp_stack_step *steps;
    size_t step_count;
    const struct rp_stack_watched *watched;
    size_t watched_count;

    const char *const *env; /* NULL-terminated "NAME=value", PATH and PORT among them */
    const struct rp_stack_template *templates;
    size_t template_count; /* at least 1 */
    const struct rp_stack_association *associations;
    size_t association_count;
};

struct rp_stacks;

int rp_stacks_load(const char *dir, struct rp_stacks **ret, struct rp_error *err) RP_MUST_CHECK;
void rp_stacks_free(struct rp_stacks *s);

/* In the order of their names. */
size_t rp_stacks_count(const struct rp_stacks *s);
const struct rp_stack *rp_stacks_at(const struct rp_stacks *s, size_t i);
/* NULL when there is none of that name. */
const struct rp_stack *rp_stacks_find(const struct rp_stacks *s, struct rp_str name);
/* NULL when no stack has that environment. */
const struct rp_stack *rp_stacks_by_environment(const struct rp_stacks *s, const char *environment);

/* ---- creating a project ---- */

/* {{project_id}} and {{port}} anywhere, {{name}} in *.md only: in a program a name could be code. */
struct rp_stack_substitution {
    const char *project_id;
    const char *name;
};

/* The content with its placeholders replaced, appended to out. */
int rp_stack_render(const struct rp_stack *stack, const struct rp_recipe_file *file,
                    const struct rp_stack_substitution *with, struct rp_buf *out,
                    struct rp_error *err) RP_MUST_CHECK;

/* ---- is it installed? ---- */

/* What stack->watched[i] is at this moment. content is ignored where only existence counts. */
struct rp_stack_state {
    bool exists;
    struct rp_str content;
};

enum { RP_FINGERPRINT_SIZE = 65, RP_STACK_WATCHED_MAX = 16 };

/*
 * Hash of environment, install commands and the watched paths' states. Taken after a successful installation
 * and kept in the record's `installed`; when the fingerprint before a run is the same, nothing is installed.
 */
void rp_stack_fingerprint(const struct rp_stack *stack, const struct rp_stack_state *states,
                          char ret[static RP_FINGERPRINT_SIZE]);

/* Whether the step runs in this state (if_exists and if_missing are watched paths). */
bool rp_stack_step_applies(const struct rp_stack *stack, const struct rp_stack_step *step,
                           const struct rp_stack_state *states);

/* ---- variables ---- */

/*
 * The variables that hand the host's CA bundle and package mirrors to the programs that know them, for every
 * process of every project. Calls each(ctx, name, value) for each one; nothing when nothing is set.
 */
void rp_stack_host_env(const struct rp_settings *settings,
                       void (*each)(void *ctx, const char *name, const char *value), void *ctx);

#endif
