/*
 * dependencies.h: which package names and versions are right, and manifests. Any thread; no I/O.
 *
 * A dependency is refused unless its name and version match the grammar of its manager: nothing that a
 * manager would take for an option, a URL, a path, a repository or a second line gets through. Names: PEP 508
 * with optional extras, or npm's rules with scopes. Versions: PEP 440 specifiers (pip: "X" and "^X" mean
 * "==X"), or semver ranges and dist-tags (npm, as given); "", "*" and "latest" mean unpinned. Limits: 500
 * dependencies, 214 bytes a name, 128 bytes a version.
 */
#ifndef RP_DOMAIN_DEPENDENCIES_H
#define RP_DOMAIN_DEPENDENCIES_H

#include "base/buf.h"
#include "base/json.h"
#include "domain/stack.h"

enum { RP_DEPENDENCIES_MAX = 500, RP_DEPENDENCY_NAME_MAX = 214, RP_DEPENDENCY_VERSION_MAX = 128 };

struct rp_dependency {
    char *name;    /* as given: "uvicorn[standard]" */
    char *version; /* as given: "^4.18.2"; "" when unpinned */
    char *spec;    /* as the manifest has it: "==0.110.0", "^4.18.2", "" (pip) or "*" (npm) */
};

struct rp_dependencies {
    struct rp_dependency *items;
    size_t count;
};

void rp_dependencies_done(struct rp_dependencies *d);
#define _cleanup_dependencies_ _cleanup_(rp_dependencies_done)

/*
 * From {"name": "version", …}. The error points to "/dependencies/NAME". NULL object: none. Two names that
 * are one package to the manager (Flask, flask) are refused.
 */
int rp_dependencies_parse(const struct rp_stack *stack, json_t *object, struct rp_dependencies *ret,
                          struct rp_error *err) RP_MUST_CHECK;
/* The same from JSON text, as the project's record keeps it. NULL or "": none. */
int rp_dependencies_parse_text(const struct rp_stack *stack, const char *json, struct rp_dependencies *ret,
                               struct rp_error *err) RP_MUST_CHECK;
/* As the JSON object of names and given versions, for the record and the API. */
void rp_dependencies_write_json(const struct rp_dependencies *d, struct rp_json_writer *w);

/* One name, or one name and version; the error points to `pointer`. */
int rp_dependency_check_name(enum rp_manager manager, struct rp_str name, const char *pointer,
                             struct rp_error *err) RP_MUST_CHECK;
int rp_dependency_check_version(enum rp_manager manager, struct rp_str version, const char *pointer,
                                struct rp_error *err) RP_MUST_CHECK;
/* Whether both name the same package: PEP 503 normalisation without extras, or equality for npm. */
bool rp_dependency_same(enum rp_manager manager, struct rp_str a, struct rp_str b);

/* The template for a new project with these dependencies. Never NULL. */
const struct rp_stack_template *rp_stack_template_for(const struct rp_stack *stack,
                                                      const struct rp_dependencies *d);

/* The manifest of a new project (also without dependencies), appended to out. Nothing without a manager. */
int rp_manifest_write(const struct rp_stack *stack, const struct rp_dependencies *d, const char *project_id,
                      struct rp_buf *out, struct rp_error *err) RP_MUST_CHECK;

/*
 * Edits a manifest that the user may have changed since: sets `set`, removes the names in `remove`
 * (NULL-terminated, may be NULL), keeps everything else as it is. RP_ERROR_CONFLICT when the file cannot be
 * understood. A package.json keeps the order of its keys.
 */
int rp_manifest_edit(const struct rp_stack *stack, struct rp_str manifest, const struct rp_dependencies *set,
                     const char *const *remove, struct rp_buf *out, struct rp_error *err) RP_MUST_CHECK;

/*
 * The dependencies that a manifest names, leniently: what is not a plain name and version (options, URLs,
 * markers) is left out, since it stays the user's own business.
 */
int rp_manifest_read(const struct rp_stack *stack, struct rp_str manifest, struct rp_dependencies *ret,
                     struct rp_error *err) RP_MUST_CHECK;

#endif
