/*
 * project_files.h: the few files that the domain itself touches: a new project's first ones, and those whose
 * state decides what is to be installed. Through the file helper of the project's sandbox (runner/files.h),
 * as everything else. Loop thread only.
 */
#ifndef RP_DOMAIN_PROJECT_FILES_H
#define RP_DOMAIN_PROJECT_FILES_H

#include "domain/project.h"

struct rp_first_files;
struct rp_first_files *rp_first_files_new(void);
void rp_first_files_free(struct rp_first_files *f);
/* Copies. A path that is added twice is written twice: the last one stays. */
void rp_first_files_add(struct rp_first_files *f, const char *path, struct rp_str content, bool executable);
/* Writes them in one stream, takes f over; the project's sandbox must answer. */
void rp_first_files_write(struct rp_first_files *f, struct rp_project *p, rp_project_fn *fn, void *ctx);

#endif
