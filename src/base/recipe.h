/*
 * recipe.h: what a layer of an environment is built from. Stacks (domain/stack.h) make recipes, the builder
 * (sandbox/oci/environment_build.h) follows them; neither includes the other. Constant data, any thread.
 */
#ifndef RP_BASE_RECIPE_H
#define RP_BASE_RECIPE_H

#include <stdbool.h>

#include "base/str.h"

/* Raised when the builder makes something else of the same recipe: every environment is then built again. */
#define RP_RECIPE_BUILDER "1"

enum { RP_RECIPE_HASH_SIZE = 65 };

struct rp_recipe_file {
    const char *path; /* relative: "etc/bash.bashrc" */
    struct rp_str content;
    bool executable;
};

struct rp_recipe {
    char hash[RP_RECIPE_HASH_SIZE];     /* SHA-256 of all that follows, in lower-case hexadecimal */
    const char *name;                   /* the folder below stacks/: "_bookworm", "python" */
    const char *provider;               /* "debian" */
    const char *suite;                  /* of the base: "bookworm" */
    const char *const *packages;        /* NULL-terminated */
    const char *const *exclude;         /* NULL-terminated patterns of dpkg's path-exclude */
    const struct rp_recipe_file *files; /* written last, owned by root, 0644 or 0755 */
    size_t file_count;
    const struct rp_recipe *base; /* the layer below, or NULL */
};

#endif
