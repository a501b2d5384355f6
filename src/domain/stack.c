#include "domain/stack.h"

#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/sha256.h"
#include "domain/stack_internal.h"

/* [a-z][a-z0-9-]{0,31}; a base environment has "_" before it. */
static bool folder_valid(const char *s)
{
    if (*s == '_')
        s++;
    if (!islower((unsigned char)*s) || strlen(s) > 32)
        return false;
    for (; *s; s++)
        if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && *s != '-')
            return false;
    return true;
}

/* The message gets the file and, where there is one, the pointer: it is read on a terminal. */
static int in_file(struct rp_error *err, const char *file)
{
    if (err && err->pointer[0])
        return rp_error_prefix(err, "%s: %s", file, err->pointer);
    return rp_error_prefix(err, "%s", file);
}

static int load_base(struct rp_stacks *s, const char *name, int dirfd, const char *shown,
                     struct rp_error *err)
{
    _cleanup_free_ char *file = rp_asprintf("%s/environment.json", shown);
    _cleanup_free_ char *tree = rp_asprintf("%s/files", shown);
    _cleanup_json_ json_t *root = NULL;
    struct rp_str text;
    const struct rp_recipe_file *files;
    size_t count;
    struct rp_recipe *recipe;
    if (rp_stack_read_file(&s->arena, dirfd, "environment.json", file, RP_STACK_DESCRIPTION_MAX, &text, err) <
            0 ||
        rp_stack_read_tree(&s->arena, dirfd, "files", tree, true, &files, &count, err) < 0)
        return -1;
    if (rp_json_parse_object(text, &root, err) < 0 ||
        rp_stack_read_recipe(s, name, root, "", files, count, &recipe, err) < 0)
        return in_file(err, file);
    s->bases[s->base_count++] = recipe;
    return 0;
}

static int load_stack(struct rp_stacks *s, const char *name, int dirfd, const char *shown,
                      struct rp_error *err)
{
    _cleanup_free_ char *file = rp_asprintf("%s/stack.json", shown);
    struct rp_str text;
    if (rp_stack_read_file(&s->arena, dirfd, "stack.json", file, RP_STACK_DESCRIPTION_MAX, &text, err) < 0)
        return -1;
    if (rp_stack_parse(s, name, dirfd, text, shown, &s->stacks[s->count], err) < 0)
        return in_file(err, file);
    s->count++;
    return 0;
}

static int load_folder(struct rp_stacks *s, const char *dir, const char *name, struct rp_error *err)
{
    _cleanup_free_ char *shown = rp_asprintf("%s/%s", dir, name);
    _cleanup_close_ int fd = open(shown, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INVALID, errno, "open \"%s\"", shown);
    return name[0] == '_' ? load_base(s, name, fd, shown, err) : load_stack(s, name, fd, shown, err);
}

static int only_folders(const struct dirent *e)
{
    return e->d_name[0] != '.' && (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN || e->d_type == DT_LNK);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Base environments first, since stacks refer to them; both in the order of their names. */
static int load_all(struct rp_stacks *s, const char *dir, struct dirent **names, int count,
                    struct rp_error *err)
{
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < count; i++) {
            const char *name = names[i]->d_name;
            if ((name[0] == '_') != (pass == 0))
                continue;
            if (!folder_valid(name))
                return rp_error_set(err, RP_ERROR_INVALID,
                                    "%s/%s: a stack's name is 1 to 32 of a-z, 0-9 and -", dir, name);
            if (s->count == RP_STACKS_MAX || s->base_count == RP_STACKS_MAX)
                return rp_error_set(err, RP_ERROR_INVALID, "%s: more than %d stacks", dir, RP_STACKS_MAX);
            if (load_folder(s, dir, name, err) < 0)
                return -1;
        }
    if (s->count == 0)
        return rp_error_set(err, RP_ERROR_INVALID, "%s: there is no stack", dir);
    return 0;
}

int rp_stacks_load(const char *dir, struct rp_stacks **ret, struct rp_error *err)
{
    struct dirent **names;
    int count = scandir(dir, &names, only_folders, by_name);
    if (count < 0)
        return rp_error_errno(err, RP_ERROR_INVALID, errno, "read the stacks in \"%s\"", dir);
    struct rp_stacks *s = rp_calloc(1, sizeof(*s));
    int r = load_all(s, dir, names, count, err);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    if (r < 0)
        rp_stacks_free(s);
    else
        *ret = s;
    return r;
}

void rp_stacks_free(struct rp_stacks *s)
{
    if (!s)
        return;
    rp_arena_done(&s->arena);
    free(s);
}

size_t rp_stacks_count(const struct rp_stacks *s)
{
    return s->count;
}

const struct rp_stack *rp_stacks_at(const struct rp_stacks *s, size_t i)
{
    return i < s->count ? &s->stacks[i] : NULL;
}

const struct rp_stack *rp_stacks_find(const struct rp_stacks *s, struct rp_str name)
{
    for (size_t i = 0; i < s->count; i++)
        if (rp_str_is(name, s->stacks[i].name))
            return &s->stacks[i];
    return NULL;
}

const struct rp_stack *rp_stacks_by_environment(const struct rp_stacks *s, const char *environment)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->stacks[i].environment, environment) == 0)
            return &s->stacks[i];
    return NULL;
}

/* ---- templates ---- */

/* A name in a text file: one line, no control characters. */
static bool append_name(struct rp_buf *out, const char *name)
{
    bool ok = true;
    for (; *name; name++)
        if ((unsigned char)*name >= ' ' && *name != 0x7f)
            ok = ok && rp_buf_append(out, name, 1);
    return ok;
}

int rp_stack_render(const struct rp_stack *stack, const struct rp_recipe_file *file,
                    const struct rp_stack_substitution *with, struct rp_buf *out, struct rp_error *err)
{
    bool text = rp_str_ends(rp_str_of(file->path), ".md"), ok = true;
    const char *p = file->content.p, *end = p + file->content.n;
    while (p < end && ok) {
        const char *open = memmem(p, (size_t)(end - p), "{{", 2);
        if (!open) {
            ok = rp_buf_append(out, p, (size_t)(end - p));
            break;
        }
        ok = rp_buf_append(out, p, (size_t)(open - p));
        struct rp_str rest = {open, (size_t)(end - open)};
        size_t used = 2;
        if (rp_str_starts(rest, "{{project_id}}")) {
            used = strlen("{{project_id}}");
            ok = ok && rp_buf_append_str(out, rp_str_of(with->project_id));
        } else if (rp_str_starts(rest, "{{port}}")) {
            char port[8];
            snprintf(port, sizeof(port), "%u", stack->port);
            used = strlen("{{port}}");
            ok = ok && rp_buf_append_str(out, rp_str_of(port));
        } else if (text && rp_str_starts(rest, "{{name}}")) {
            used = strlen("{{name}}");
            ok = ok && append_name(out, with->name ? with->name : "");
        } else {
            ok = ok && rp_buf_append(out, open, 2);
        }
        p = open + used;
    }
    if (!ok)
        return rp_error_set(err, RP_ERROR_TOO_LARGE, "the template file \"%s\" is too large", file->path);
    return 0;
}

/* ---- installation ---- */

void rp_stack_fingerprint(const struct rp_stack *stack, const struct rp_stack_state *states,
                          char ret[static RP_FINGERPRINT_SIZE])
{
    struct rp_sha256 h;
    rp_sha256_init(&h);
    rp_sha256_add_field(&h, RP_STR("repld installed 1"));
    rp_sha256_add_field(&h, rp_str_of(stack->environment));
    for (size_t i = 0; i < stack->step_count; i++) {
        for (const char *const *a = stack->steps[i].argv; *a; a++)
            rp_sha256_add_field(&h, rp_str_of(*a));
        rp_sha256_add_field(&h, (struct rp_str){0});
    }
    for (size_t i = 0; i < stack->watched_count; i++) {
        rp_sha256_add_field(&h, rp_str_of(stack->watched[i].path));
        rp_sha256_add_field(&h, states[i].exists ? RP_STR("there") : RP_STR("missing"));
        if (states[i].exists && stack->watched[i].content)
            rp_sha256_add_field(
                &h, (struct rp_str){states[i].content.p ? states[i].content.p : "", states[i].content.n});
    }
    rp_sha256_hex(&h, ret);
}

static bool exists(const struct rp_stack *stack, const char *path, const struct rp_stack_state *states)
{
    for (size_t i = 0; i < stack->watched_count; i++)
        if (strcmp(stack->watched[i].path, path) == 0)
            return states[i].exists;
    return false;
}

bool rp_stack_step_applies(const struct rp_stack *stack, const struct rp_stack_step *step,
                           const struct rp_stack_state *states)
{
    return (!step->if_exists || exists(stack, step->if_exists, states)) &&
           (!step->if_missing || !exists(stack, step->if_missing, states));
}

/* ---- variables ---- */

void rp_stack_host_env(const struct rp_settings *settings,
                       void (*each)(void *ctx, const char *name, const char *value), void *ctx)
{
    /* Every one of these replaces the program's own list, but Node's, which adds to it. */
    static const char *const bundle[] = {"SSL_CERT_FILE",     "REQUESTS_CA_BUNDLE", "PIP_CERT",
                                         "CURL_CA_BUNDLE",    "GIT_SSL_CAINFO",     "NODE_EXTRA_CA_CERTS",
                                         "npm_config_cafile", "CARGO_HTTP_CAINFO",  "AWS_CA_BUNDLE"};
    if (settings->ca_bundle && *settings->ca_bundle)
        for (size_t i = 0; i < RP_ARRAY_SIZE(bundle); i++)
            each(ctx, bundle[i], RP_SANDBOX_CA_BUNDLE);
    if (settings->pip_index_url && *settings->pip_index_url) {
        each(ctx, "PIP_INDEX_URL", settings->pip_index_url);
        each(ctx, "UV_DEFAULT_INDEX", settings->pip_index_url);
    }
    if (settings->npm_registry && *settings->npm_registry)
        each(ctx, "npm_config_registry", settings->npm_registry);
}
