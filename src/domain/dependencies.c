#include "domain/dependencies.h"

#include "domain/dependencies_grammar.h"

void rp_dependencies_done(struct rp_dependencies *d)
{
    for (size_t i = 0; i < d->count; i++) {
        free(d->items[i].name);
        free(d->items[i].version);
        free(d->items[i].spec);
    }
    free(d->items);
    *d = (struct rp_dependencies){0};
}

static const char *manager_title(enum rp_manager manager)
{
    return manager == RP_MANAGER_PIP ? "Python" : "npm";
}

int rp_dependency_check_name(enum rp_manager manager, struct rp_str name, const char *pointer,
                             struct rp_error *err)
{
    if (name.n > RP_DEPENDENCY_NAME_MAX)
        return rp_error_field(err, pointer, "the name of a package is at most %d bytes",
                              RP_DEPENDENCY_NAME_MAX);
    bool ok = manager == RP_MANAGER_PIP   ? rp_grammar_pip_name(name)
              : manager == RP_MANAGER_NPM ? rp_grammar_npm_name(name)
                                          : false;
    if (!ok && manager == RP_MANAGER_NONE)
        return rp_error_field(err, pointer, "this stack has no package manager");
    if (!ok)
        return rp_error_field(err, pointer, "is not the name of an %s package", manager_title(manager));
    return 0;
}

/* "", "*" and "latest". */
static bool unpinned(struct rp_str version)
{
    return version.n == 0 || rp_str_is(version, "*") || rp_str_is(version, "latest");
}

static bool only_spaces_and_graphic(struct rp_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || (unsigned char)s.p[i] > '~')
            return false;
    return true;
}

/* How the manifest has it, or NULL when it is not right. The caller frees it. */
static char *spec_of(enum rp_manager manager, struct rp_str version)
{
    version = only_spaces_and_graphic(version) ? rp_str_trim(version) : version;
    if (manager == RP_MANAGER_NPM) {
        if (unpinned(version))
            return rp_strdup("*");
        return rp_grammar_npm_range(version) || rp_grammar_npm_tag(version) ? rp_str_dup(version) : NULL;
    }
    if (unpinned(version))
        return rp_strdup("");
    /* A caret is npm's; the reference system takes it away and pins. */
    struct rp_str plain = version.p[0] == '^' ? (struct rp_str){version.p + 1, version.n - 1} : version;
    if (rp_grammar_pip_version(plain))
        return rp_asprintf("==%.*s", (int)plain.n, plain.p);
    return rp_grammar_pip_specifiers(version) ? rp_str_dup(version) : NULL;
}

int rp_dependency_check_version(enum rp_manager manager, struct rp_str version, const char *pointer,
                                struct rp_error *err)
{
    if (version.n > RP_DEPENDENCY_VERSION_MAX)
        return rp_error_field(err, pointer, "a version is at most %d bytes", RP_DEPENDENCY_VERSION_MAX);
    _cleanup_free_ char *spec = spec_of(manager, version);
    /* what the manifest will say has the same limit, so that it can be read back */
    if (spec && strlen(spec) > RP_DEPENDENCY_VERSION_MAX)
        return rp_error_field(err, pointer, "a version is at most %d bytes", RP_DEPENDENCY_VERSION_MAX);
    if (!spec)
        return rp_error_field(err, pointer,
                              manager == RP_MANAGER_PIP
                                  ? "is neither a Python version nor a specifier such as \">=1.2,<2\""
                                  : "is neither a semver range such as \"^4.18.2\" nor a tag");
    return 0;
}

/* PEP 503, without extras: lower case, runs of "-_." as one "-". Returns the next character, 0 at the end. */
static int next_normal(struct rp_str *s)
{
    if (s->n == 0 || s->p[0] == '[')
        return 0;
    char c = s->p[0];
    s->p++, s->n--;
    if (c == '-' || c == '_' || c == '.') {
        while (s->n && (s->p[0] == '-' || s->p[0] == '_' || s->p[0] == '.'))
            s->p++, s->n--;
        return '-';
    }
    return c >= 'A' && c <= 'Z' ? c + 32 : (unsigned char)c;
}

bool rp_dependency_same(enum rp_manager manager, struct rp_str a, struct rp_str b)
{
    if (manager != RP_MANAGER_PIP)
        return rp_str_equal(a, b);
    int x, y;
    do {
        x = next_normal(&a);
        y = next_normal(&b);
    } while (x && x == y);
    return x == y;
}

static int add(const struct rp_stack *stack, const char *key, json_t *value, struct rp_dependencies *d,
               struct rp_error *err)
{
    struct rp_str name = rp_str_of(key);
    /* A name that is too long for a pointer is refused all the same; the pointer is then cut. */
    char at[128];
    rp_json_pointer(at, sizeof(at), "/dependencies", key);
    if (rp_dependency_check_name(stack->manager, name, at, err) < 0)
        return -1;
    if (!json_is_string(value))
        return rp_error_field(err, at, "a version must be a string");
    struct rp_str version = {json_string_value(value), json_string_length(value)};
    if (rp_dependency_check_version(stack->manager, version, at, err) < 0)
        return -1;
    for (size_t i = 0; i < d->count; i++)
        if (rp_dependency_same(stack->manager, name, rp_str_of(d->items[i].name)))
            return rp_error_field(err, at, "is the same package as \"%.100s\"", d->items[i].name);
    d->items[d->count++] = (struct rp_dependency){
        .name = rp_str_dup(name),
        .version = rp_str_dup(version),
        .spec = spec_of(stack->manager, version),
    };
    return 0;
}

int rp_dependencies_parse(const struct rp_stack *stack, json_t *object, struct rp_dependencies *ret,
                          struct rp_error *err)
{
    *ret = (struct rp_dependencies){0};
    if (!object)
        return 0;
    if (!json_is_object(object))
        return rp_error_field(err, "/dependencies", "must be an object of names and versions");
    size_t count = json_object_size(object);
    if (count > RP_DEPENDENCIES_MAX)
        return rp_error_field(err, "/dependencies", "more than %d dependencies", RP_DEPENDENCIES_MAX);
    struct rp_dependencies d = {.items = rp_calloc(count, sizeof(*d.items))};
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (add(stack, key, value, &d, err) < 0) {
            rp_dependencies_done(&d);
            return -1;
        }
    }
    *ret = d;
    return 0;
}

int rp_dependencies_parse_text(const struct rp_stack *stack, const char *json, struct rp_dependencies *ret,
                               struct rp_error *err)
{
    *ret = (struct rp_dependencies){0};
    if (!json || !*json)
        return 0;
    _cleanup_json_ json_t *object = NULL;
    if (rp_json_parse_object(rp_str_of(json), &object, err) < 0)
        return -1;
    return rp_dependencies_parse(stack, object, ret, err);
}

void rp_dependencies_write_json(const struct rp_dependencies *d, struct rp_json_writer *w)
{
    rp_json_open_object(w);
    for (size_t i = 0; i < d->count; i++)
        rp_json_field_string(w, d->items[i].name, d->items[i].version);
    rp_json_close_object(w);
}

const struct rp_stack_template *rp_stack_template_for(const struct rp_stack *stack,
                                                      const struct rp_dependencies *d)
{
    for (size_t t = 0; t < stack->template_count; t++) {
        bool all = true;
        for (const char *const *w = stack->templates[t].when; *w && all; w++) {
            bool found = false;
            for (size_t i = 0; i < d->count && !found; i++)
                found = rp_dependency_same(stack->manager, rp_str_of(*w), rp_str_of(d->items[i].name));
            all = found;
        }
        if (all)
            return &stack->templates[t];
    }
    return &stack->templates[stack->template_count - 1];
}
