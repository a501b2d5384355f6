/*
 * stack_internal.h: what the files of the stack module share. Nobody else includes it.
 */
#ifndef RP_DOMAIN_STACK_INTERNAL_H
#define RP_DOMAIN_STACK_INTERNAL_H

#include "base/arena.h"
#include "base/json.h"
#include "domain/stack.h"

enum {
    RP_STACKS_MAX = 64,
    RP_STACK_DESCRIPTION_MAX = 256 * 1024,
    RP_STACK_TREE_FILES_MAX = 256,
    RP_STACK_TREE_BYTES_MAX = 4 * 1024 * 1024,
};

struct rp_stacks {
    struct rp_arena arena;
    struct rp_stack stacks[RP_STACKS_MAX]; /* sorted by name */
    size_t count;
    const struct rp_recipe *bases[RP_STACKS_MAX];
    size_t base_count;
};

/* ---- stack_tree.c: files on disk ---- */

/* The whole of a regular file below dirfd, at most max bytes; `shown` is its name for errors. */
int rp_stack_read_file(struct rp_arena *a, int dirfd, const char *name, const char *shown, size_t max,
                       struct rp_str *ret, struct rp_error *err) RP_MUST_CHECK;

/*
 * Every regular file below the folder `path` of dirfd, sorted by path. Symbolic links and special files are
 * refused. *ret_count is 0 when the folder does not exist and `optional`.
 */
int rp_stack_read_tree(struct rp_arena *a, int dirfd, const char *path, const char *shown, bool optional,
                       const struct rp_recipe_file **ret, size_t *ret_count,
                       struct rp_error *err) RP_MUST_CHECK;

/* Relative, no empty, "." or ".." component, no control characters, at most 255 bytes. */
bool rp_stack_path_valid(struct rp_str path);

/* ---- stack_environment.c: recipes ---- */

/* The object at `pointer`: {provider, suite | base, packages, exclude}, and the files of `tree`. */
int rp_stack_read_recipe(struct rp_stacks *s, const char *name, json_t *object, const char *pointer,
                         const struct rp_recipe_file *files, size_t file_count, struct rp_recipe **ret,
                         struct rp_error *err) RP_MUST_CHECK;

/* ---- stack_parse.c: the description ---- */

int rp_stack_parse(struct rp_stacks *s, const char *name, int dirfd, struct rp_str text, const char *shown,
                   struct rp_stack *ret, struct rp_error *err) RP_MUST_CHECK;

/* A JSON array of strings as a NULL-terminated array; absent: empty. 1 to max bytes each. */
int rp_stack_get_strings(struct rp_arena *a, json_t *object, const char *pointer, const char *key,
                         size_t max_items, size_t max_bytes, const char *const **ret,
                         struct rp_error *err) RP_MUST_CHECK;
/* A required string of 1 to max bytes. */
int rp_stack_get_string(struct rp_arena *a, json_t *object, const char *pointer, const char *key, size_t max,
                        const char **ret, struct rp_error *err) RP_MUST_CHECK;

#endif
