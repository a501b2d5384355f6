/*
 * dependencies_grammar.h: the grammars of package names and versions. Pure functions over bytes from outside;
 * any thread. Fuzzed (fuzz/fuzz_dependencies.c).
 */
#ifndef RP_DOMAIN_DEPENDENCIES_GRAMMAR_H
#define RP_DOMAIN_DEPENDENCIES_GRAMMAR_H

#include <stdbool.h>

#include "base/str.h"

/* PEP 508: a name, and extras in brackets without spaces: "uvicorn[standard]". */
bool rp_grammar_pip_name(struct rp_str s);
/* PEP 440 "Version specifiers": clauses joined by commas, each with its operator. */
bool rp_grammar_pip_specifiers(struct rp_str s);
/* PEP 440 "Version scheme", with its normalisations, or with a trailing ".*". */
bool rp_grammar_pip_version(struct rp_str s);

/* npm's rules for names in a registry (validate-npm-package-name), with the upper case of old packages. */
bool rp_grammar_npm_name(struct rp_str s);
/* node-semver's range grammar. */
bool rp_grammar_npm_range(struct rp_str s);
/* A dist-tag such as "next": never something that npm takes for a file, a URL or a repository. */
bool rp_grammar_npm_tag(struct rp_str s);

#endif
