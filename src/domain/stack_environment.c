#include "domain/stack_internal.h"

#include <ctype.h>

#include "base/sha256.h"

/* Debian policy 5.6.7: lower-case letters, digits, plus, minus and period; at least two characters. */
static bool package_valid(const char *s)
{
    size_t n = strlen(s);
    if (n < 2 || n > 100 || !(islower((unsigned char)s[0]) || isdigit((unsigned char)s[0])))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!islower((unsigned char)s[i]) && !isdigit((unsigned char)s[i]) && !strchr("+-.", s[i]))
            return false;
    return true;
}

/* An absolute pattern for dpkg: no character that would end its line of configuration. */
static bool exclude_valid(const char *s)
{
    if (s[0] != '/')
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("/._+-*?[]@", *s))
            return false;
    return true;
}

static bool word_valid(const char *s)
{
    if (!islower((unsigned char)*s))
        return false;
    for (; *s; s++)
        if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && *s != '-')
            return false;
    return true;
}

static void add_strings(struct rp_sha256 *h, const char *const *list)
{
    for (; *list; list++)
        rp_sha256_add_field(h, rp_str_of(*list));
    rp_sha256_add_field(h, (struct rp_str){0});
}

/* Every field that changes what is built; and the machine's architecture, since packages differ by it. */
static void hash_recipe(struct rp_recipe *r)
{
    struct rp_sha256 h;
    rp_sha256_init(&h);
    rp_sha256_add_field(&h, RP_STR("repld environment " RP_RECIPE_BUILDER));
#ifdef __x86_64__
    rp_sha256_add_field(&h, RP_STR("amd64"));
#elif defined(__aarch64__)
    rp_sha256_add_field(&h, RP_STR("arm64"));
#else
#error "say here what Debian calls this architecture"
#endif
    rp_sha256_add_field(&h, rp_str_of(r->provider));
    rp_sha256_add_field(&h, rp_str_of(r->suite));
    rp_sha256_add_field(&h, rp_str_of(r->base ? r->base->hash : NULL));
    add_strings(&h, r->packages);
    add_strings(&h, r->exclude);
    for (size_t i = 0; i < r->file_count; i++) {
        rp_sha256_add_field(&h, rp_str_of(r->files[i].path));
        rp_sha256_add_field(&h, r->files[i].content);
        rp_sha256_add_field(&h, r->files[i].executable ? RP_STR("x") : RP_STR("-"));
    }
    rp_sha256_hex(&h, r->hash);
}

int rp_stack_read_recipe(struct rp_stacks *s, const char *name, json_t *object, const char *pointer,
                         const struct rp_recipe_file *files, size_t file_count, struct rp_recipe **ret,
                         struct rp_error *err)
{
    static const char *const base_keys[] = {"provider", "suite", "packages", "exclude", NULL};
    static const char *const stack_keys[] = {"provider", "base", "packages", "exclude", NULL};
    bool is_base = name[0] == '_';
    struct rp_arena *a = &s->arena;
    struct rp_recipe *r = rp_arena_alloc(a, sizeof(*r));
    char at[128];
    r->name = rp_arena_str(a, rp_str_of(name));
    if (rp_json_only_keys(object, pointer, is_base ? base_keys : stack_keys, err) < 0 ||
        rp_stack_get_string(a, object, pointer, "provider", 32, &r->provider, err) < 0 ||
        rp_stack_get_strings(a, object, pointer, "packages", 256, 100, &r->packages, err) < 0 ||
        rp_stack_get_strings(a, object, pointer, "exclude", 256, 255, &r->exclude, err) < 0)
        return -1;
    rp_json_pointer(at, sizeof(at), pointer, "provider");
    if (strcmp(r->provider, "debian") != 0)
        return rp_error_field(err, at, "unknown provider \"%.40s\"; there is: debian", r->provider);
    for (const char *const *p = r->packages; *p; p++)
        if (!package_valid(*p)) {
            rp_json_pointer(at, sizeof(at), pointer, "packages");
            return rp_error_field(err, at, "\"%.100s\" is not the name of a Debian package", *p);
        }
    for (const char *const *p = r->exclude; *p; p++)
        if (!exclude_valid(*p)) {
            rp_json_pointer(at, sizeof(at), pointer, "exclude");
            return rp_error_field(err, at, "\"%.100s\" is not an absolute path or pattern", *p);
        }
    const char *below;
    if (rp_stack_get_string(a, object, pointer, is_base ? "suite" : "base", 32, &below, err) < 0)
        return -1;
    if (is_base) {
        rp_json_pointer(at, sizeof(at), pointer, "suite");
        if (!word_valid(below))
            return rp_error_field(err, at, "\"%.40s\" is not the name of a Debian suite", below);
        r->suite = below;
    } else {
        for (size_t i = 0; i < s->base_count && !r->base; i++)
            if (strcmp(s->bases[i]->name, below) == 0)
                r->base = s->bases[i];
        rp_json_pointer(at, sizeof(at), pointer, "base");
        if (!r->base)
            return rp_error_field(err, at, "there is no base environment \"%.40s\"", below);
        r->suite = r->base->suite;
    }
    r->files = files;
    r->file_count = file_count;
    hash_recipe(r);
    *ret = r;
    return 0;
}
