/*
 * project_env.c: the environment of a project's processes. What comes later wins: the sandbox's defaults, the
 * host's CA and mirrors, the stack's, the project's own, the caller's.
 */
#include <stdlib.h>
#include <string.h>

#include "domain/project_internal.h"
#include "proto/init.h"

struct env {
    char **items; /* NULL-terminated */
    size_t count;
};

static void env_set(struct env *e, const char *name, size_t name_length, const char *value)
{
    char *item = rp_asprintf("%.*s=%s", (int)name_length, name, value);
    for (size_t i = 0; i < e->count; i++) {
        if (strncmp(e->items[i], item, name_length + 1) == 0) {
            free(e->items[i]);
            e->items[i] = item;
            return;
        }
    }
    if (e->count >= RP_INIT_ENV_MAX) {
        free(item);
        return;
    }
    e->items = rp_realloc(e->items, (e->count + 2) * sizeof *e->items);
    e->items[e->count++] = item;
    e->items[e->count] = NULL;
}

static void env_set_pair(void *ctx, const char *name, const char *value)
{
    env_set(ctx, name, strlen(name), value);
}

static void env_set_item(struct env *e, const char *item)
{
    const char *equals = strchr(item, '=');
    if (equals)
        env_set(e, item, (size_t)(equals - item), equals + 1);
}

static void env_set_json(struct env *e, const char *text)
{
    _cleanup_json_ json_t *object = NULL;
    struct rp_error ignored;
    const char *name;
    json_t *value;
    /* our own text: it was checked when it came in */
    if (!text || rp_json_parse_object(rp_str_of(text), &object, &ignored) < 0)
        return;
    json_object_foreach(object, name, value) if (json_is_string(value))
        env_set(e, name, strlen(name), json_string_value(value));
}

char **rp_project_env(const struct rp_project *p, const char *const *extra)
{
    static const char *const defaults[] = {
        "PATH=/home/runner/.local/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME=" RP_INIT_HOME,
        "USER=runner",
        "LOGNAME=runner",
        "SHELL=/bin/bash",
        "LANG=C.UTF-8",
        "TERM=xterm-256color",
        "COLORTERM=truecolor",
        NULL,
    };
    struct env e = {0};
    for (const char *const *d = defaults; *d; d++)
        env_set_item(&e, *d);
    env_set(&e, "REPLD_PROJECT", strlen("REPLD_PROJECT"), p->record.id);
    rp_stack_host_env(p->all->parts.settings, env_set_pair, &e);
    for (const char *const *s = p->stack ? p->stack->env : NULL; s && *s; s++)
        env_set_item(&e, *s);
    env_set_json(&e, p->record.env);
    for (const char *const *x = extra; x && *x; x++)
        env_set_item(&e, *x);
    return e.items;
}

void rp_env_free(char **env)
{
    for (char **e = env; e && *e; e++)
        free(*e);
    free(env);
}
