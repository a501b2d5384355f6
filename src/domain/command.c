/*
 * command.c: a command line as an argv. What needs a shell is given to bash inside the sandbox, as the
 * sandbox's user; nothing is ever given to a shell of the host.
 */
#include <stdlib.h>
#include <string.h>

#include "domain/project_input.h"

void rp_argv_free(char **argv)
{
    for (char **a = argv; a && *a; a++)
        free(*a);
    free(argv);
}

/* An assignment before the command ("PORT=80 node x.js") is the shell's business. */
static bool begins_with_assignment(const char *line)
{
    const char *p = line + strspn(line, " \t");
    size_t name = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
    return name > 0 && p[name] == '=';
}

static bool needs_shell(const char *line)
{
    bool single = false;
    if (begins_with_assignment(line))
        return true;
    for (const char *p = line; *p; p++) {
        if (single) {
            single = *p != '\'';
            continue;
        }
        if (*p == '\'')
            single = true;
        else if (*p == '\\' && p[1] && p[1] != '\n')
            p++;
        else if (strchr("|&;<>()$`*?[]#~{}!\n\\", *p))
            return true;
    }
    return false;
}

static char **shell(const char *line)
{
    char **argv = rp_calloc(4, sizeof *argv);
    argv[0] = rp_strdup("bash");
    argv[1] = rp_strdup("-c");
    argv[2] = rp_strdup(line);
    return argv;
}

/* One word at *p, unquoted; *p behind it. NULL when a quote is left open. */
static char *word(const char **p)
{
    char *out = rp_alloc(strlen(*p) + 1);
    size_t n = 0;
    char quote = 0;
    const char *c = *p;
    for (; *c && (quote || (*c != ' ' && *c != '\t')); c++) {
        if (quote && *c == quote)
            quote = 0;
        else if (!quote && (*c == '\'' || *c == '"'))
            quote = *c;
        else if (*c == '\\' && quote != '\'' && c[1] && (!quote || c[1] == '"' || c[1] == '\\'))
            out[n++] = *++c;
        else
            out[n++] = *c;
    }
    if (quote) {
        free(out);
        return NULL;
    }
    out[n] = '\0';
    *p = c;
    return out;
}

int rp_command_split(const char *line, char ***ret, struct rp_error *err)
{
    if (line[strspn(line, " \t\r\n")] == '\0')
        return rp_error_set(err, RP_ERROR_INVALID, "the command is empty");
    if (needs_shell(line)) {
        *ret = shell(line);
        return 0;
    }
    char **argv = NULL;
    size_t count = 0;
    for (const char *p = line;;) {
        p += strspn(p, " \t");
        argv = rp_realloc(argv, (count + 2) * sizeof *argv);
        argv[count] = NULL;
        if (!*p)
            break;
        argv[count] = word(&p);
        if (!argv[count]) {
            rp_argv_free(argv);
            return rp_error_set(err, RP_ERROR_INVALID, "the command has a quote that is not closed");
        }
        argv[++count] = NULL;
    }
    if (argv[0][0] == '\0') {
        rp_argv_free(argv);
        return rp_error_set(err, RP_ERROR_INVALID, "the command's first word is empty");
    }
    *ret = argv;
    return 0;
}
