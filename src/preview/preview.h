/*
 * preview.h: previews: http://PORT-PROJECT.PREVIEW_DOMAIN/ reaches that port of that project's sandbox. Loop
 * thread only. See docs/internals/preview.md.
 */
#ifndef RP_PREVIEW_PREVIEW_H
#define RP_PREVIEW_PREVIEW_H

#include "base/settings.h"
#include "domain/project.h"
#include "net/http_server.h"

struct rp_preview;

/* Registers as an observer of the projects: before they are loaded. */
struct rp_preview *rp_preview_new(struct rp_loop *loop, const struct rp_settings *settings,
                                  struct rp_projects *projects);
/* After the projects are closed; NULL-safe. */
void rp_preview_free(struct rp_preview *p);

/*
 * Every request comes here first. True: it is a preview's, or its Host is none of ours (421 unknown_host),
 * and it is taken care of. False: it is for the control plane.
 */
bool rp_preview_handle(struct rp_preview *p, struct rp_http_exchange *x);

#endif
