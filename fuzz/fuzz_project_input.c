/*
 * What a user may say about a project. The first byte chooses: the body of a creation, of a PATCH (applied to
 * a record), a command line, or a package manager's output.
 *
 * What must hold: an accepted path stays inside the project, an accepted map is JSON that parses again, a
 * network policy survives writing and parsing, and a command without shell syntax never becomes a shell's.
 */
#include <stdint.h>
#include <stdlib.h>

#include "domain/install_reason.h"
#include "domain/project_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool what)
{
    if (!what)
        abort();
}

static void check_json(const char *text)
{
    _cleanup_json_ json_t *j = NULL;
    struct rp_error err;
    must(rp_json_parse_object(rp_str_of(text), &j, &err) == 0);
}

static void check_input(const struct rp_project_input *in)
{
    struct rp_error err;
    struct rp_network_policy policy;
    for (size_t i = 0; i < in->file_count; i++)
        must(in->files[i].path[0] != '/' && !strstr(in->files[i].path, "//") &&
             strcmp(in->files[i].path, "..") != 0 && strncmp(in->files[i].path, "../", 3) != 0 &&
             !strstr(in->files[i].path, "/../"));
    if (in->env)
        check_json(in->env);
    if (in->metadata)
        check_json(in->metadata);
    if (in->network)
        must(rp_network_parse(in->network, &policy, &err) == 0);
    struct rp_project_record r = {.env = rp_strdup("{\"A\":\"1\"}"), .metadata = rp_strdup("{}")};
    if (rp_project_input_apply(in, &r, &err) == 0) {
        check_json(r.env);
        check_json(r.metadata);
    }
    rp_project_record_done(&r);
}

static void body(struct rp_str text, bool create)
{
    static struct rp_stacks *stacks;
    struct rp_error err = {0};
    _cleanup_json_ json_t *j = NULL;
    struct rp_project_input in;
    if (!stacks)
        must(rp_stacks_load(REPLD_SOURCE_ROOT "/stacks", &stacks, &err) == 0);
    if (rp_json_parse_object(text, &j, &err) < 0)
        return;
    if (create ? rp_project_input_create(j, stacks, NULL, &in, &err) < 0
               : rp_project_input_update(j, &in, &err) < 0)
        return;
    check_input(&in);
    rp_project_input_done(&in);
}

static void command(const char *line)
{
    struct rp_error err;
    char **argv = NULL;
    if (rp_command_split(line, &argv, &err) < 0)
        return;
    must(argv && argv[0] && argv[0][0]);
    bool plain = !line[strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789./- ")];
    must(!plain || strcmp(argv[0], "bash") != 0 || strncmp(line + strspn(line, " "), "bash", 4) == 0);
    rp_argv_free(argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct rp_str rest = {(const char *)data + 1, size - 1};
    _cleanup_free_ char *text = rp_str_dup(rest);
    char why[256];
    switch (data[0]) {
    case 'c':
        body(rest, true);
        break;
    case 'u':
        body(rest, false);
        break;
    case 'l':
        command(text);
        break;
    default:
        if (rp_install_reason(data[0] & 1 ? RP_MANAGER_PIP : RP_MANAGER_NPM, rest, why, sizeof why))
            must(strlen(why) < sizeof why);
        break;
    }
    return 0;
}
