/* stack.json → struct rp_stack. Everything is validated here, so that nothing later has to doubt a stack. */
#include "domain/stack_internal.h"

#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "domain/dependencies.h"

enum { ARGUMENTS_MAX = 64, ARGUMENT_BYTES_MAX = 1024, ITEMS_MAX = 64 };

/* What the parsing of one description carries about. */
struct parse {
    struct rp_stacks *set;
    struct rp_arena *arena;
    const char *name;
    int dirfd;
    const char *shown; /* "stacks/python", for errors */
};

int rp_stack_get_string(struct rp_arena *a, json_t *object, const char *pointer, const char *key, size_t max,
                        const char **ret, struct rp_error *err)
{
    struct rp_str s;
    int r = rp_json_get_str(object, pointer, key, max, &s, err);
    if (r < 0)
        return -1;
    char at[128];
    rp_json_pointer(at, sizeof(at), pointer, key);
    if (r == 0 || s.n == 0)
        return rp_error_field(err, at, "\"%s\" must be given", key);
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
            return rp_error_field(err, at, "\"%s\" must not have control characters", key);
    *ret = rp_arena_str(a, s);
    return 0;
}

int rp_stack_get_strings(struct rp_arena *a, json_t *object, const char *pointer, const char *key,
                         size_t max_items, size_t max_bytes, const char *const **ret, struct rp_error *err)
{
    json_t *array = NULL;
    if (rp_json_get_array(object, pointer, key, &array, err) < 0)
        return -1;
    size_t count = json_array_size(array);
    char at[128];
    rp_json_pointer(at, sizeof(at), pointer, key);
    if (count > max_items)
        return rp_error_field(err, at, "\"%s\" has more than %zu items", key, max_items);
    const char **list = rp_arena_alloc(a, (count + 1) * sizeof(*list));
    for (size_t i = 0; i < count; i++) {
        json_t *v = json_array_get(array, i);
        const char *text = json_string_value(v);
        size_t n = json_string_length(v);
        if (!text || n == 0 || n > max_bytes || strlen(text) != n)
            return rp_error_field(err, at, "item %zu of \"%s\" must be a string of 1 to %zu bytes", i, key,
                                  max_bytes);
        list[i] = rp_arena_str(a, (struct rp_str){text, n});
    }
    *ret = list;
    return 0;
}

/* As bash would read it back: single quotes where a character needs them. */
static const char *command_line(struct rp_arena *a, const char *const *argv)
{
    struct rp_buf out;
    rp_buf_init(&out, (size_t)ARGUMENTS_MAX * ARGUMENT_BYTES_MAX * 5);
    bool ok = true;
    for (size_t i = 0; argv[i]; i++) {
        const char *s = argv[i];
        bool plain = true;
        for (const char *c = s; *c; c++)
            plain = plain && (isalnum((unsigned char)*c) || strchr("_-./:=@%+,", *c));
        ok = ok && (i == 0 || rp_buf_append(&out, " ", 1)) && (plain || rp_buf_append(&out, "'", 1));
        for (const char *c = s; *c; c++)
            ok = ok && (*c == '\'' ? rp_buf_append(&out, "'\\''", 4) : rp_buf_append(&out, c, 1));
        ok = ok && (plain || rp_buf_append(&out, "'", 1));
    }
    const char *line = ok ? rp_arena_str(a, rp_buf_view(&out)) : "";
    rp_buf_done(&out);
    return line;
}

static int get_argv(struct parse *p, json_t *object, const char *pointer, const char *key,
                    const char *const **ret, struct rp_error *err)
{
    if (rp_stack_get_strings(p->arena, object, pointer, key, ARGUMENTS_MAX, ARGUMENT_BYTES_MAX, ret, err) < 0)
        return -1;
    char at[128];
    rp_json_pointer(at, sizeof(at), pointer, key);
    if (!(*ret)[0])
        return rp_error_field(err, at, "\"%s\" must be a list of a program and its arguments", key);
    return 0;
}

/* "256M": bytes with an optional K, M, G or T. */
static int get_size(json_t *object, const char *pointer, const char *key, uint64_t min, uint64_t max,
                    uint64_t *ret, struct rp_error *err)
{
    struct rp_str s;
    int r = rp_json_get_str(object, pointer, key, 32, &s, err);
    if (r < 0)
        return -1;
    char at[128];
    rp_json_pointer(at, sizeof(at), pointer, key);
    static const char units[] = "KMGT";
    const char *unit = r > 0 && s.n ? strchr(units, s.p[s.n - 1]) : NULL;
    uint64_t value, factor = unit ? 1024ull << (10 * (unit - units)) : 1;
    if (unit)
        s.n--;
    if (r == 0 || !rp_str_to_u64(s, UINT64_MAX / factor, &value) || value * factor < min ||
        value * factor > max)
        return rp_error_field(err, at, "\"%s\" must be a size such as \"256M\"", key);
    *ret = value * factor;
    return 0;
}

static int get_limits(json_t *object, const char *pointer, const char *key, struct rp_limits *ret,
                      struct rp_error *err)
{
    static const char *const keys[] = {"memory", "cpu", "processes", "burst_cpu", "burst_seconds", NULL};
    json_t *limits = NULL;
    char at[128];
    rp_json_pointer(at, sizeof(at), pointer, key);
    int r = rp_json_get_object(object, pointer, key, &limits, err);
    if (r < 0)
        return -1;
    if (r == 0)
        return rp_error_field(err, at, "\"%s\" must be given", key);
    double cpu = 0, burst = 0, seconds = 0;
    int64_t processes = 0;
    if (rp_json_only_keys(limits, at, keys, err) < 0 ||
        get_size(limits, at, "memory", 16ull << 20, 1ull << 40, &ret->memory, err) < 0 ||
        rp_json_get_double(limits, at, "cpu", 0.01, 1024, &cpu, err) < 0 ||
        rp_json_get_int(limits, at, "processes", 8, 65536, &processes, err) < 0 ||
        rp_json_get_double(limits, at, "burst_cpu", 0.01, 1024, &burst, err) < 0 ||
        rp_json_get_double(limits, at, "burst_seconds", 0, 3600, &seconds, err) < 0)
        return -1;
    if (cpu == 0 || processes == 0)
        return rp_error_field(err, at, "\"%s\" must have memory, cpu and processes", key);
    ret->cpu = (uint32_t)(cpu * 1000 + 0.5);
    ret->processes = (uint32_t)processes;
    ret->burst_cpu = (uint32_t)(burst * 1000 + 0.5);
    ret->burst_ms = (uint32_t)(seconds * 1000 + 0.5);
    if (ret->burst_cpu <= ret->cpu || ret->burst_ms == 0)
        ret->burst_cpu = ret->burst_ms = 0;
    return 0;
}

static int get_path(struct parse *p, json_t *object, const char *pointer, const char *key, const char **ret,
                    struct rp_error *err)
{
    if (rp_stack_get_string(p->arena, object, pointer, key, 255, ret, err) < 0)
        return -1;
    char at[128];
    rp_json_pointer(at, sizeof(at), pointer, key);
    if (!rp_stack_path_valid(rp_str_of(*ret)))
        return rp_error_field(err, at, "\"%s\" must be a path inside the project", key);
    return 0;
}

static int get_manager(struct parse *p, json_t *root, struct rp_stack *s, struct rp_error *err)
{
    static const char *const keys[] = {"kind", "manifest", "base", NULL};
    json_t *manager = NULL, *base = NULL;
    int r = rp_json_get_object(root, "", "manager", &manager, err);
    if (r <= 0)
        return r;
    const char *kind = "";
    if (rp_json_only_keys(manager, "/manager", keys, err) < 0 ||
        rp_stack_get_string(p->arena, manager, "/manager", "kind", 32, &kind, err) < 0 ||
        get_path(p, manager, "/manager", "manifest", &s->manifest, err) < 0 ||
        rp_json_get_object(manager, "/manager", "base", &base, err) < 0)
        return -1;
    if (strcmp(kind, "pip") == 0)
        s->manager = RP_MANAGER_PIP;
    else if (strcmp(kind, "npm") == 0)
        s->manager = RP_MANAGER_NPM;
    else
        return rp_error_field(err, "/manager/kind", "unknown manager \"%.40s\"; there are: pip, npm", kind);
    if (base && s->manager != RP_MANAGER_NPM)
        return rp_error_field(err, "/manager/base", "\"base\" is for npm only");
    if (base) {
        _cleanup_free_ char *text = json_dumps(base, JSON_COMPACT);
        s->manifest_base = rp_arena_str(p->arena, rp_str_of(text));
    }
    return 0;
}

static int find_watched(const struct rp_stack *s, const char *path)
{
    for (size_t i = 0; i < s->watched_count; i++)
        if (strcmp(s->watched[i].path, path) == 0)
            return (int)i;
    return -1;
}

static int get_step(struct parse *p, json_t *step, const char *pointer, const struct rp_stack *s,
                    struct rp_stack_step *ret, struct rp_error *err)
{
    static const char *const keys[] = {"label", "run", "if_exists", "if_missing", NULL};
    if (rp_json_only_keys(step, pointer, keys, err) < 0 ||
        rp_stack_get_string(p->arena, step, pointer, "label", 100, &ret->label, err) < 0 ||
        get_argv(p, step, pointer, "run", &ret->argv, err) < 0)
        return -1;
    const char **conditions[] = {&ret->if_exists, &ret->if_missing};
    for (size_t i = 0; i < RP_ARRAY_SIZE(conditions); i++) {
        const char *key = keys[2 + i];
        if (!json_object_get(step, key))
            continue;
        if (get_path(p, step, pointer, key, conditions[i], err) < 0)
            return -1;
        char at[128];
        rp_json_pointer(at, sizeof(at), pointer, key);
        if (find_watched(s, *conditions[i]) < 0)
            return rp_error_field(err, at, "\"%.100s\" must be one of install.watched", *conditions[i]);
    }
    return 0;
}

static int get_watched(struct parse *p, json_t *install, struct rp_stack *s, struct rp_error *err)
{
    static const char *const keys[] = {"path", "content", NULL};
    json_t *array = NULL, *item;
    if (rp_json_get_array(install, "/install", "watched", &array, err) < 0)
        return -1;
    if (json_array_size(array) > RP_STACK_WATCHED_MAX)
        return rp_error_field(err, "/install/watched", "more than %d paths", RP_STACK_WATCHED_MAX);
    struct rp_stack_watched *list = rp_arena_alloc(p->arena, RP_STACK_WATCHED_MAX * sizeof(*list));
    s->watched = list;
    size_t i;
    json_array_foreach(array, i, item)
    {
        char at[64];
        snprintf(at, sizeof(at), "/install/watched/%zu", i);
        if (!json_is_object(item))
            return rp_error_field(err, at, "must be an object");
        if (rp_json_only_keys(item, at, keys, err) < 0 ||
            get_path(p, item, at, "path", &list[i].path, err) < 0 ||
            rp_json_get_bool(item, at, "content", &list[i].content, err) < 0)
            return -1;
        s->watched_count++;
    }
    if (s->manifest && find_watched(s, s->manifest) < 0)
        return rp_error_field(err, "/install/watched", "must name the manifest \"%.100s\"", s->manifest);
    return 0;
}

static int get_install(struct parse *p, json_t *root, struct rp_stack *s, struct rp_error *err)
{
    static const char *const keys[] = {"limits", "timeout", "steps", "watched", NULL};
    json_t *install = NULL, *steps = NULL, *item;
    int r = rp_json_get_object(root, "", "install", &install, err);
    if (r < 0)
        return -1;
    s->install_limits = s->limits;
    if (r == 0) {
        if (s->manager != RP_MANAGER_NONE)
            return rp_error_field(err, "/install", "a stack with a manager must say how to install");
        return 0;
    }
    int64_t timeout = 900;
    if (rp_json_only_keys(install, "/install", keys, err) < 0 ||
        get_limits(install, "/install", "limits", &s->install_limits, err) < 0 ||
        rp_json_get_int(install, "/install", "timeout", 1, 86400, &timeout, err) < 0 ||
        get_watched(p, install, s, err) < 0 ||
        rp_json_get_array(install, "/install", "steps", &steps, err) < 0)
        return -1;
    s->install_timeout = (uint32_t)timeout;
    if (json_array_size(steps) > ITEMS_MAX)
        return rp_error_field(err, "/install/steps", "more than %d steps", ITEMS_MAX);
    struct rp_stack_step *list = rp_arena_alloc(p->arena, (json_array_size(steps) + 1) * sizeof(*list));
    s->steps = list;
    size_t i;
    json_array_foreach(steps, i, item)
    {
        char at[64];
        snprintf(at, sizeof(at), "/install/steps/%zu", i);
        if (!json_is_object(item))
            return rp_error_field(err, at, "must be an object");
        if (get_step(p, item, at, s, &list[i], err) < 0)
            return -1;
        s->step_count++;
    }
    return 0;
}

/* POSIX 8.1: letters, digits and underscore, no digit first. */
static bool variable_valid(const char *s)
{
    if (!isalpha((unsigned char)*s) && *s != '_')
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_')
            return false;
    return true;
}

static int get_env(struct parse *p, json_t *root, struct rp_stack *s, struct rp_error *err)
{
    json_t *env = NULL, *v;
    const char *key;
    if (rp_json_get_object(root, "", "env", &env, err) < 0)
        return -1;
    if (json_object_size(env) > ITEMS_MAX)
        return rp_error_field(err, "/env", "more than %d variables", ITEMS_MAX);
    const char **list = rp_arena_alloc(p->arena, (json_object_size(env) + 2) * sizeof(*list));
    size_t n = 0;
    json_object_foreach(env, key, v)
    {
        char at[128];
        rp_json_pointer(at, sizeof(at), "/env", key);
        if (!variable_valid(key) || strcmp(key, "PORT") == 0)
            return rp_error_field(err, at, "\"%.60s\" is not the name of a variable that a stack may set",
                                  key);
        const char *value = "";
        if (rp_stack_get_string(p->arena, env, "/env", key, 4096, &value, err) < 0)
            return -1;
        list[n++] = rp_arena_printf(p->arena, "%s=%s", key, value);
    }
    list[n] = rp_arena_printf(p->arena, "PORT=%u", s->port);
    s->env = list;
    return 0;
}

static int get_template(struct parse *p, json_t *item, const char *pointer, const struct rp_stack *s,
                        struct rp_stack_template *ret, struct rp_error *err)
{
    static const char *const keys[] = {"name", "when", "run", NULL};
    char at[128];
    if (rp_json_only_keys(item, pointer, keys, err) < 0 ||
        rp_stack_get_string(p->arena, item, pointer, "name", 32, &ret->name, err) < 0 ||
        rp_stack_get_strings(p->arena, item, pointer, "when", ITEMS_MAX, RP_DEPENDENCY_NAME_MAX, &ret->when,
                             err) < 0)
        return -1;
    rp_json_pointer(at, sizeof(at), pointer, "name");
    if (!rp_stack_path_valid(rp_str_of(ret->name)) || strchr(ret->name, '/'))
        return rp_error_field(err, at, "must be the name of a folder in template/");
    rp_json_pointer(at, sizeof(at), pointer, "when");
    for (const char *const *w = ret->when; *w; w++)
        if (s->manager == RP_MANAGER_NONE || rp_dependency_check_name(s->manager, rp_str_of(*w), at, err) < 0)
            return rp_error_field(err, at, "\"%.100s\" is not the name of a package", *w);
    if (json_object_get(item, "run")) {
        const char *const *argv;
        if (get_argv(p, item, pointer, "run", &argv, err) < 0)
            return -1;
        ret->run_command = command_line(p->arena, argv);
    }
    char folder[300], shown[512];
    snprintf(folder, sizeof(folder), "template/%s", ret->name);
    snprintf(shown, sizeof(shown), "%s/%s", p->shown, folder);
    if (rp_stack_read_tree(p->arena, p->dirfd, folder, shown, false, &ret->files, &ret->file_count, err) < 0)
        return -1;
    for (size_t i = 0; i < ret->file_count; i++)
        if (s->manifest && strcmp(ret->files[i].path, s->manifest) == 0)
            return rp_error_set(err, RP_ERROR_INVALID,
                                "\"%s/%s\": the manifest is written from the dependencies", shown,
                                s->manifest);
    return 0;
}

static int get_templates(struct parse *p, json_t *root, struct rp_stack *s, struct rp_error *err)
{
    json_t *array = NULL, *item;
    if (rp_json_get_array(root, "", "templates", &array, err) < 0)
        return -1;
    size_t count = json_array_size(array);
    if (count == 0 || count > ITEMS_MAX)
        return rp_error_field(err, "/templates", "1 to %d templates must be given", ITEMS_MAX);
    struct rp_stack_template *list = rp_arena_alloc(p->arena, count * sizeof(*list));
    size_t i;
    json_array_foreach(array, i, item)
    {
        char at[64];
        snprintf(at, sizeof(at), "/templates/%zu", i);
        if (!json_is_object(item))
            return rp_error_field(err, at, "must be an object");
        if (get_template(p, item, at, s, &list[i], err) < 0)
            return -1;
        if (!list[i].when[0] != (i + 1 == count))
            return rp_error_field(err, at, "the last template, and no other, is the one without \"when\"");
    }
    s->templates = list;
    s->template_count = count;
    return 0;
}

static int get_associations(struct parse *p, json_t *root, struct rp_stack *s, struct rp_error *err)
{
    json_t *object = NULL, *v;
    const char *key;
    if (rp_json_get_object(root, "", "associations", &object, err) < 0)
        return -1;
    if (json_object_size(object) > ITEMS_MAX)
        return rp_error_field(err, "/associations", "more than %d extensions", ITEMS_MAX);
    struct rp_stack_association *list =
        rp_arena_alloc(p->arena, (json_object_size(object) + 1) * sizeof(*list));
    json_object_foreach(object, key, v)
    {
        struct rp_stack_association *a = &list[s->association_count++];
        char at[128];
        rp_json_pointer(at, sizeof(at), "/associations", key);
        if (key[0] != '.' || strlen(key) > 32 || strchr(key, '/'))
            return rp_error_field(err, at, "\"%.40s\" is not an extension such as \".py\"", key);
        if (rp_stack_get_string(p->arena, object, "/associations", key, 32, &a->language, err) < 0)
            return -1;
        a->extension = rp_arena_str(p->arena, rp_str_of(key));
    }
    s->associations = list;
    return 0;
}

static int get_environment(struct parse *p, json_t *root, struct rp_stack *s, struct rp_error *err)
{
    json_t *environment = NULL;
    int r = rp_json_get_object(root, "", "environment", &environment, err);
    if (r < 0)
        return -1;
    if (r == 0)
        return rp_error_field(err, "/environment", "\"environment\" must be given");
    char shown[512];
    snprintf(shown, sizeof(shown), "%s/files", p->shown);
    const struct rp_recipe_file *files;
    size_t count;
    struct rp_recipe *recipe;
    if (rp_stack_read_tree(p->arena, p->dirfd, "files", shown, true, &files, &count, err) < 0 ||
        rp_stack_read_recipe(p->set, p->name, environment, "/environment", files, count, &recipe, err) < 0)
        return -1;
    s->recipe = recipe;
    s->environment = recipe->hash;
    return 0;
}

static int parse_root(struct parse *p, json_t *root, struct rp_stack *s, struct rp_error *err)
{
    static const char *const keys[] = {"title",   "icon", "summary",   "versions",     "environment",
                                       "entry",   "port", "run",       "limits",       "manager",
                                       "install", "env",  "templates", "associations", NULL};
    int64_t port = 8000;
    s->name = rp_arena_str(p->arena, rp_str_of(p->name));
    if (rp_json_only_keys(root, "", keys, err) < 0 ||
        rp_stack_get_string(p->arena, root, "", "title", 60, &s->title, err) < 0 ||
        rp_stack_get_string(p->arena, root, "", "icon", 16, &s->icon, err) < 0 ||
        rp_stack_get_string(p->arena, root, "", "summary", 300, &s->summary, err) < 0 ||
        rp_stack_get_strings(p->arena, root, "", "versions", 32, 32, &s->versions, err) < 0 ||
        get_path(p, root, "", "entry", &s->entry, err) < 0 ||
        rp_json_get_int(root, "", "port", 1, 65535, &port, err) < 0 ||
        get_argv(p, root, "", "run", &s->run, err) < 0 || get_limits(root, "", "limits", &s->limits, err) < 0)
        return -1;
    if (!s->versions[0])
        return rp_error_field(err, "/versions", "a version must be given");
    s->port = (uint16_t)port;
    s->run_command = command_line(p->arena, s->run);
    if (get_environment(p, root, s, err) < 0 || get_manager(p, root, s, err) < 0 ||
        get_install(p, root, s, err) < 0 || get_env(p, root, s, err) < 0 ||
        get_templates(p, root, s, err) < 0 || get_associations(p, root, s, err) < 0)
        return -1;
    return 0;
}

int rp_stack_parse(struct rp_stacks *set, const char *name, int dirfd, struct rp_str text, const char *shown,
                   struct rp_stack *ret, struct rp_error *err)
{
    struct parse p = {.set = set, .arena = &set->arena, .name = name, .dirfd = dirfd, .shown = shown};
    _cleanup_json_ json_t *root = NULL;
    *ret = (struct rp_stack){0};
    if (rp_json_parse_object(text, &root, err) < 0)
        return -1;
    return parse_root(&p, root, ret, err);
}
