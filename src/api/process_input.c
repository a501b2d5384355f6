#include "api/process_input.h"

#include <ctype.h>
#include <stdio.h>

#include "api/control_frame.h"

enum { ARGUMENT_MAX = 60 * 1024, PATH_MAX_BYTES = 4000, NAME_MAX_BYTES = 256 };

static void strings_free(char **list)
{
    for (char **s = list; s && *s; s++)
        free(*s);
    free(list);
}

void rp_process_input_done(struct rp_process_input *in)
{
    strings_free(in->argv);
    rp_env_free(in->env);
    free(in->cwd);
    *in = (struct rp_process_input){0};
}

static int parse_arguments(json_t *list, char ***ret, struct rp_error *err)
{
    size_t n = json_array_size(list);
    if (n == 0 || n > RP_PROCESS_ARGUMENTS_MAX)
        return rp_error_field(err, "/command", "\"command\" has 1 to %d arguments", RP_PROCESS_ARGUMENTS_MAX);
    char **argv = rp_calloc(n + 1, sizeof(*argv));
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(list, i);
        if (!json_is_string(v) || json_string_length(v) > ARGUMENT_MAX ||
            (i == 0 && !json_string_length(v))) {
            char pointer[32];
            snprintf(pointer, sizeof(pointer), "/command/%zu", i);
            strings_free(argv);
            return rp_error_field(err, pointer, "an argument is a text of at most %d bytes%s", ARGUMENT_MAX,
                                  i ? "" : ", and the program's name is not empty");
        }
        argv[i] = rp_strdup(json_string_value(v));
    }
    *ret = argv;
    return 0;
}

static char **three(const char *a, const char *b, const char *c)
{
    char **argv = rp_calloc(4, sizeof(*argv));
    argv[0] = rp_strdup(a);
    argv[1] = rp_strdup(b);
    argv[2] = c ? rp_strdup(c) : NULL;
    return argv;
}

static int parse_command(json_t *body, bool terminal, char ***ret, struct rp_error *err)
{
    json_t *command = json_object_get(body, "command");
    if (json_is_array(command))
        return parse_arguments(command, ret, err);
    if (json_is_string(command)) {
        if (!json_string_length(command) || json_string_length(command) > ARGUMENT_MAX)
            return rp_error_field(err, "/command", "\"command\" is empty or longer than %d bytes",
                                  ARGUMENT_MAX);
        *ret = three("bash", "-c", json_string_value(command));
        return 0;
    }
    if (command && !json_is_null(command))
        return rp_error_field(err, "/command", "\"command\" must be a list of arguments, or a text");
    if (!terminal)
        return rp_error_field(err, "/command", "\"command\" is missing");
    *ret = three("bash", "-l", NULL);
    return 0;
}

static bool name_valid(const char *name)
{
    size_t n = strlen(name);
    if (!n || n > NAME_MAX_BYTES || isdigit((unsigned char)name[0]))
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && *name != '_')
            return false;
    return true;
}

static int parse_env(json_t *body, const struct rp_project *p, char ***ret, struct rp_error *err)
{
    json_t *object = NULL;
    const char *name;
    json_t *value;
    if (rp_json_get_object(body, "", "env", &object, err) < 0)
        return -1;
    if (json_object_size(object) > RP_PROCESS_VARIABLES_MAX)
        return rp_error_field(err, "/env", "at most %d variables", RP_PROCESS_VARIABLES_MAX);
    char **extra = rp_calloc(RP_PROCESS_VARIABLES_MAX + 1, sizeof(*extra));
    size_t n = 0;
    json_object_foreach(object, name, value)
    {
        char pointer[128];
        rp_json_pointer(pointer, sizeof(pointer), "/env", name);
        if (!name_valid(name) || !json_is_string(value) || json_string_length(value) > ARGUMENT_MAX) {
            strings_free(extra);
            return rp_error_field(err, pointer,
                                  "a variable is named with letters, digits and _, and is a text of at "
                                  "most %d bytes",
                                  ARGUMENT_MAX);
        }
        extra[n++] = rp_asprintf("%s=%s", name, json_string_value(value));
    }
    *ret = rp_project_env(p, (const char *const *)extra);
    strings_free(extra);
    return 0;
}

static int parse_cwd(json_t *body, char **ret, struct rp_error *err)
{
    struct rp_str cwd = RP_STR("");
    if (rp_json_get_str(body, "", "cwd", PATH_MAX_BYTES, &cwd, err) < 0)
        return -1;
    if (cwd.n && cwd.p[0] == '/')
        *ret = rp_str_dup(cwd);
    else
        *ret = rp_asprintf("%s/%.*s", RP_INIT_APP, (int)cwd.n, cwd.p);
    return 0;
}

static int parse_size(json_t *body, struct rp_process_input *ret, struct rp_error *err)
{
    int64_t cols = 80, rows = 24;
    if (rp_json_get_int(body, "", "cols", 1, RP_CONTROL_SIZE_MAX, &cols, err) < 0 ||
        rp_json_get_int(body, "", "rows", 1, RP_CONTROL_SIZE_MAX, &rows, err) < 0)
        return -1;
    ret->cols = (uint16_t)cols;
    ret->rows = (uint16_t)rows;
    return 0;
}

int rp_process_input_parse(json_t *body, const struct rp_project *p, bool terminal,
                           struct rp_process_input *ret, struct rp_error *err)
{
    static const char *const TERMINAL_KEYS[] = {"command", "cwd", "env", "cols", "rows", NULL};
    static const char *const PROCESS_KEYS[] = {"command", "cwd", "env", "stdin", "merge", NULL};
    struct rp_process_input in = {0};
    if (rp_json_only_keys(body, "", terminal ? TERMINAL_KEYS : PROCESS_KEYS, err) < 0 ||
        (terminal && parse_size(body, &in, err) < 0) ||
        (!terminal && (rp_json_get_bool(body, "", "stdin", &in.stdin_pipe, err) < 0 ||
                       rp_json_get_bool(body, "", "merge", &in.merge, err) < 0)) ||
        parse_command(body, terminal, &in.argv, err) < 0 || parse_env(body, p, &in.env, err) < 0 ||
        parse_cwd(body, &in.cwd, err) < 0) {
        rp_process_input_done(&in);
        return -1;
    }
    *ret = in;
    return 0;
}

struct rp_process_spec rp_process_input_spec(const struct rp_process_input *in, bool terminal)
{
    return (struct rp_process_spec){
        .kind = terminal ? RP_PROCESS_TERMINAL : RP_PROCESS_COMMAND,
        .flags = (in->stdin_pipe ? RP_PROCESS_STDIN : 0) | (in->merge ? RP_PROCESS_MERGE : 0),
        .cols = in->cols,
        .rows = in->rows,
        .step = RP_STEP_USER,
        .cwd = in->cwd,
        .argv = (const char *const *)in->argv,
        .env = (const char *const *)in->env,
    };
}
