/*
 * process_input.h: the body of POST …/terminals and POST …/processes, decoded and checked. Loop thread.
 */
#ifndef RP_API_PROCESS_INPUT_H
#define RP_API_PROCESS_INPUT_H

#include "base/json.h"
#include "domain/project.h"
#include "runner/process.h"

enum {
    RP_PROCESS_BODY_MAX = 256 * 1024,
    RP_PROCESS_ARGUMENTS_MAX = 512,
    RP_PROCESS_VARIABLES_MAX = 128,
};

struct rp_process_input {
    char **argv; /* NULL-terminated */
    char **env;  /* of the project, with the body's own */
    char *cwd;   /* absolute */
    uint16_t cols, rows;
    bool stdin_pipe, merge;
};

/*
 * `command` is a list of arguments, or a text, which runs as `bash -c TEXT` inside the sandbox as its user:
 * nothing on this side of the sandbox ever interprets it. Without one: a login shell when `terminal`, else an
 * error. `cwd` is relative to the project unless it begins with "/".
 */
int rp_process_input_parse(json_t *body, const struct rp_project *p, bool terminal,
                           struct rp_process_input *ret, struct rp_error *err) RP_MUST_CHECK;
void rp_process_input_done(struct rp_process_input *in);
/* Points into `in`. */
struct rp_process_spec rp_process_input_spec(const struct rp_process_input *in, bool terminal);

#endif
