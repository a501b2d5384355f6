/* requirements.txt and package.json: writing, editing and reading them. */
#include "domain/dependencies.h"

enum { MANIFEST_MAX = 1024 * 1024 };

static int full(struct rp_error *err)
{
    return rp_error_set(err, RP_ERROR_TOO_LARGE, "the manifest is too large");
}

/* ---- requirements.txt ---- */

/*
 * The package that a logical line asks for; empty when the line is an option, a URL, a path, a comment or
 * nothing. A logical line is one that pip joins: it may have a backslash and newline inside.
 */
static struct rp_str line_name(struct rp_str line)
{
    line = rp_str_trim(line);
    size_t n = 0;
    while (n < line.n && line.p[n] != '\0' && !strchr(" \t\r\n;=<>!~#@,\\[", line.p[n]))
        n++;
    if (n < line.n && line.p[n] == '[') {
        const char *close = memchr(line.p + n, ']', line.n - n);
        n = close ? (size_t)(close - line.p) + 1 : 0;
    }
    struct rp_str name = {line.p, n};
    return rp_dependency_check_name(RP_MANAGER_PIP, name, "", NULL) == 0 ? name : (struct rp_str){line.p, 0};
}

/* Splits off the next logical line with its newlines. */
static struct rp_str next_line(struct rp_str *text)
{
    size_t n = 0;
    for (;;) {
        const char *newline = n < text->n ? memchr(text->p + n, '\n', text->n - n) : NULL;
        if (!newline) {
            n = text->n;
            break;
        }
        n = (size_t)(newline - text->p) + 1;
        size_t before = n >= 2 && text->p[n - 2] == '\r' ? 3 : 2;
        if (n < before || text->p[n - before] != '\\')
            break;
    }
    struct rp_str line = {text->p, n};
    *text = (struct rp_str){text->p + n, text->n - n};
    return line;
}

static bool write_requirement(const struct rp_dependency *d, struct rp_buf *out)
{
    return rp_buf_append_str(out, rp_str_of(d->name)) && rp_buf_append_str(out, rp_str_of(d->spec)) &&
           rp_buf_append(out, "\n", 1);
}

static int edit_requirements(struct rp_str text, const struct rp_dependencies *set, const char *const *remove,
                             struct rp_buf *out, struct rp_error *err)
{
    _cleanup_free_ bool *written = rp_calloc(set->count, sizeof(*written));
    bool ok = true, newline = true;
    while (text.n && ok) {
        struct rp_str line = next_line(&text), name = line_name(line);
        bool drop = false;
        for (const char *const *r = remove; name.n && r && *r && !drop; r++)
            drop = rp_dependency_same(RP_MANAGER_PIP, name, rp_str_of(*r));
        for (size_t i = 0; name.n && i < set->count && !drop; i++) {
            if (!rp_dependency_same(RP_MANAGER_PIP, name, rp_str_of(set->items[i].name)))
                continue;
            /* a package that is named twice is named once from now on */
            drop = true;
            if (!written[i])
                ok = write_requirement(&set->items[i], out);
            written[i] = newline = true;
        }
        if (!drop) {
            ok = ok && rp_buf_append_str(out, line);
            newline = line.p[line.n - 1] == '\n';
        }
    }
    if (!newline)
        ok = ok && rp_buf_append(out, "\n", 1);
    /* a file that ends in the middle of a line must not swallow the one that is added */
    struct rp_str all = rp_buf_view(out);
    if (rp_str_ends(all, "\\\n") || rp_str_ends(all, "\\\r\n"))
        ok = ok && rp_buf_append(out, "\n", 1);
    for (size_t i = 0; i < set->count && ok; i++)
        if (!written[i])
            ok = write_requirement(&set->items[i], out);
    return ok ? 0 : full(err);
}

static void append(struct rp_dependencies *d, struct rp_str name, const char *version, const char *spec)
{
    d->items = rp_realloc(d->items, (d->count + 1) * sizeof(*d->items));
    d->items[d->count++] = (struct rp_dependency){
        .name = rp_str_dup(name), .version = rp_strdup(version), .spec = rp_strdup(spec)};
}

static bool listed(enum rp_manager manager, const struct rp_dependencies *d, struct rp_str name)
{
    for (size_t i = 0; i < d->count; i++)
        if (rp_dependency_same(manager, name, rp_str_of(d->items[i].name)))
            return true;
    return false;
}

static void read_requirements(struct rp_str text, struct rp_dependencies *ret)
{
    while (text.n && ret->count < RP_DEPENDENCIES_MAX) {
        struct rp_str line = rp_str_trim(next_line(&text)), name = line_name(line);
        if (name.n == 0 || listed(RP_MANAGER_PIP, ret, name))
            continue;
        size_t used = (size_t)(name.p + name.n - line.p);
        struct rp_str rest = {line.p + used, line.n - used};
        const char *comment = rest.n ? memchr(rest.p, '#', rest.n) : NULL;
        if (comment)
            rest.n = (size_t)(comment - rest.p);
        while (rest.n && (rest.p[rest.n - 1] == '\n' || rest.p[rest.n - 1] == '\r'))
            rest.n--;
        rest = rp_str_trim(rest);
        if (rp_dependency_check_version(RP_MANAGER_PIP, rest, "", NULL) < 0)
            continue;
        _cleanup_free_ char *version = rp_str_dup(rest);
        append(ret, name, version, version);
    }
}

/* ---- package.json ---- */

static int write_json(json_t *root, struct rp_buf *out, struct rp_error *err)
{
    _cleanup_free_ char *text = json_dumps(root, JSON_INDENT(2));
    if (!text || !rp_buf_append_str(out, rp_str_of(text)) || !rp_buf_append(out, "\n", 1))
        return full(err);
    return 0;
}

static int write_package(const struct rp_stack *stack, const struct rp_dependencies *d,
                         const char *project_id, struct rp_buf *out, struct rp_error *err)
{
    _cleanup_json_ json_t *root = json_object(), *base = NULL;
    if (json_object_set_new(root, "name", json_string(project_id)) < 0)
        abort();
    if (stack->manifest_base) {
        if (rp_json_parse_object(rp_str_of(stack->manifest_base), &base, err) < 0)
            return -1;
        json_object_update(root, base);
    }
    json_t *table = json_object();
    for (size_t i = 0; i < d->count; i++)
        json_object_set_new(table, d->items[i].name, json_string(d->items[i].spec));
    if (json_object_set_new(root, "dependencies", table) < 0)
        abort();
    return write_json(root, out, err);
}

static int parse_package(const struct rp_stack *stack, struct rp_str text, json_t **ret, struct rp_error *err)
{
    struct rp_error why;
    if (rp_json_parse_object(text, ret, &why) == 0)
        return 0;
    return rp_error_set(err, RP_ERROR_CONFLICT, "%s cannot be understood: %.200s", stack->manifest,
                        why.message);
}

static int edit_package(const struct rp_stack *stack, struct rp_str text, const struct rp_dependencies *set,
                        const char *const *remove, struct rp_buf *out, struct rp_error *err)
{
    static const char *const tables[] = {"dependencies", "devDependencies", "optionalDependencies"};
    _cleanup_json_ json_t *root = NULL;
    if (parse_package(stack, text, &root, err) < 0)
        return -1;
    for (size_t t = 0; t < RP_ARRAY_SIZE(tables); t++) {
        json_t *table = json_object_get(root, tables[t]);
        if (table && !json_is_object(table))
            return rp_error_set(err, RP_ERROR_CONFLICT, "\"%s\" in %s is not an object", tables[t],
                                stack->manifest);
        for (const char *const *r = remove; table && r && *r; r++)
            json_object_del(table, *r);
        /* what is set belongs to "dependencies" alone */
        for (size_t i = 0; t > 0 && table && i < set->count; i++)
            json_object_del(table, set->items[i].name);
    }
    json_t *table = json_object_get(root, "dependencies");
    if (!table && set->count) {
        table = json_object();
        json_object_set_new(root, "dependencies", table);
    }
    for (size_t i = 0; i < set->count; i++)
        json_object_set_new(table, set->items[i].name, json_string(set->items[i].spec));
    return write_json(root, out, err);
}

static int read_package(const struct rp_stack *stack, struct rp_str text, struct rp_dependencies *ret,
                        struct rp_error *err)
{
    _cleanup_json_ json_t *root = NULL;
    if (parse_package(stack, text, &root, err) < 0)
        return -1;
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(root, "dependencies"), key, value)
    {
        if (ret->count == RP_DEPENDENCIES_MAX)
            break;
        if (json_is_string(value) &&
            rp_dependency_check_name(RP_MANAGER_NPM, rp_str_of(key), "", NULL) == 0 &&
            rp_dependency_check_version(RP_MANAGER_NPM, rp_str_of(json_string_value(value)), "", NULL) == 0)
            append(ret, rp_str_of(key), json_string_value(value), json_string_value(value));
    }
    return 0;
}

/* ---- for every manager ---- */

int rp_manifest_write(const struct rp_stack *stack, const struct rp_dependencies *d, const char *project_id,
                      struct rp_buf *out, struct rp_error *err)
{
    if (stack->manager == RP_MANAGER_NPM)
        return write_package(stack, d, project_id, out, err);
    if (stack->manager == RP_MANAGER_PIP)
        for (size_t i = 0; i < d->count; i++)
            if (!write_requirement(&d->items[i], out))
                return full(err);
    return 0;
}

int rp_manifest_edit(const struct rp_stack *stack, struct rp_str manifest, const struct rp_dependencies *set,
                     const char *const *remove, struct rp_buf *out, struct rp_error *err)
{
    if (manifest.n > MANIFEST_MAX)
        return full(err);
    if (stack->manager == RP_MANAGER_PIP)
        return edit_requirements(manifest, set, remove, out, err);
    if (stack->manager == RP_MANAGER_NPM)
        return edit_package(stack, manifest, set, remove, out, err);
    return rp_error_set(err, RP_ERROR_NOT_SUPPORTED, "the stack %s has no package manager", stack->name);
}

int rp_manifest_read(const struct rp_stack *stack, struct rp_str manifest, struct rp_dependencies *ret,
                     struct rp_error *err)
{
    *ret = (struct rp_dependencies){0};
    if (manifest.n > MANIFEST_MAX)
        return full(err);
    if (stack->manager == RP_MANAGER_PIP)
        read_requirements(manifest, ret);
    else if (stack->manager == RP_MANAGER_NPM)
        return read_package(stack, manifest, ret, err);
    return 0;
}
