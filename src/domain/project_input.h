/*
 * project_input.h: what a user may say about a project, checked. Pure; any thread.
 *
 * Limits: name 1 to 100 characters without control characters; 256 variables (names as in POSIX, 128 bytes;
 * values 32 KiB; 128 KiB together); 64 metadata of 64 and 1,024 bytes; 1,000 files, 16 MiB together; run
 * command 4 KiB.
 */
#ifndef RP_DOMAIN_PROJECT_INPUT_H
#define RP_DOMAIN_PROJECT_INPUT_H

#include "base/json.h"
#include "domain/dependencies.h"
#include "domain/network.h"
#include "domain/stack.h"
#include "store/store.h"

enum {
    RP_PROJECT_NAME_MAX = 100, /* characters */
    RP_PROJECT_RUN_COMMAND_MAX = 4096,
    RP_PROJECT_ENV_MAX = 256,
    RP_PROJECT_ENV_VALUE_MAX = 32768,
    RP_PROJECT_ENV_BYTES_MAX = 131072,
    RP_PROJECT_METADATA_MAX = 64,
    RP_PROJECT_FILES_MAX = 1000,
    RP_PROJECT_FILES_BYTES_MAX = 16 * 1024 * 1024,
};

struct rp_project_input_file {
    char *path;
    char *content;
    size_t size;
};

/* A field that was not given is not in `has`. */
enum {
    RP_INPUT_NAME = 1,
    RP_INPUT_RUN_COMMAND = 2, /* run_command NULL: back to the stack's */
    RP_INPUT_MEMORY = 4,
    RP_INPUT_CPU = 8,
    RP_INPUT_PROCESSES = 16,
    RP_INPUT_DISK = 32,
    RP_INPUT_NETWORK = 64,
    RP_INPUT_IDLE_TIMEOUT = 128,
    RP_INPUT_ALWAYS_ON = 256,
    RP_INPUT_ENV = 512,
    RP_INPUT_METADATA = 1024,
    RP_INPUT_DEPENDENCIES = 2048, /* set by the dependencies' own routes, not by a PATCH */
};

struct rp_project_input {
    unsigned has;
    const struct rp_stack *stack; /* creation only */
    char *name, *run_command;
    char *env, *metadata;    /* JSON. For an update: a merge patch (RFC 7396) */
    char *dependencies_json; /* RP_INPUT_DEPENDENCIES */
    char *network;           /* JSON, as in the record */
    uint64_t memory, disk;   /* 0: the default */
    uint32_t cpu, processes;
    uint32_t idle_timeout;
    bool always_on;
    struct rp_dependencies dependencies; /* creation only */
    struct rp_project_input_file *files; /* creation only */
    size_t file_count;
};

void rp_project_input_done(struct rp_project_input *in);

/* Body of a creation. default_stack NULL: the stack must be named. */
int rp_project_input_create(json_t *body, const struct rp_stacks *stacks, const char *default_stack,
                            struct rp_project_input *ret, struct rp_error *err) RP_MUST_CHECK;
/* Body of a PATCH: JSON merge patch (RFC 7396). */
int rp_project_input_update(json_t *body, struct rp_project_input *ret, struct rp_error *err) RP_MUST_CHECK;

/* Applies what the input has to a record; RP_ERROR_INVALID when a merged map passes its limits. */
int rp_project_input_apply(const struct rp_project_input *in, struct rp_project_record *r,
                           struct rp_error *err) RP_MUST_CHECK;

/*
 * A command line as an argv without a shell when it needs none (words, quotes and backslashes), else
 * ["bash", "-c", line]. NULL-terminated, freed with rp_argv_free. RP_ERROR_INVALID when it is empty or a
 * quote is left open.
 */
int rp_command_split(const char *line, char ***ret, struct rp_error *err) RP_MUST_CHECK;
void rp_argv_free(char **argv);

/* True for a path of a file inside a project: relative, no empty, "." or ".." segment, no NUL. */
bool rp_project_path_valid(struct rp_str path);

#endif
