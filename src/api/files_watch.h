/*
 * files_watch.h: changes of a project's files as events, {"type":"files","events":[{"type","path","to"?}]},
 * while someone listens. Loop thread only.
 */
#ifndef RP_API_FILES_WATCH_H
#define RP_API_FILES_WATCH_H

#include "api/api.h"

/* Registers as observer RP_OBSERVER_FILES; before projects are loaded. */
void rp_files_watch_observe(struct rp_gateway *g);
/* The project's first listener came, or its last one left. */
void rp_files_watch_begin(struct rp_gateway *g, struct rp_project *p);
void rp_files_watch_end(struct rp_project *p);

#endif
