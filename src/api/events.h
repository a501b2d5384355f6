/*
 * events.h: WS …/events: one socket for all that changes in a project. Loop thread only.
 *
 * The client gets one JSON text message an event, {"type": …}: "state", "progress" and "run" with the whole
 * status; "ports"; "files" (the files' module); "process" and "terminal"; "stats" every 2 s while the project
 * runs; "presence" with the number of sockets; "project" after a change of its settings. At first it gets
 * state, ports and presence. A client that does not read is cut at 1 MiB.
 */
#ifndef RP_API_EVENTS_H
#define RP_API_EVENTS_H

#include "api/api.h"

/* Registers as observer RP_OBSERVER_EVENTS; before projects are loaded. */
void rp_events_observe(struct rp_gateway *g);

#endif
