/*
 * processes.h: what the files about terminals and processes share. Loop thread only.
 */
#ifndef RP_API_PROCESSES_H
#define RP_API_PROCESSES_H

#include "api/api.h"
#include "runner/process.h"

/* The project's processes. */
struct rp_process_set *rp_call_processes(struct rp_call *call);
/* The process that the route's second parameter names; 404 is answered when there is none (of that kind). */
struct rp_process *rp_call_process(struct rp_call *call, bool terminal);

/* The socket of one terminal (terminal_socket.c). tid NULL: the first that runs, made when there is none, in
 * a project that is started for it. */
void rp_terminal_socket_open(struct rp_call *call, const char *tid);
/* The socket of one process (process_socket.c). */
void rp_process_socket_open(struct rp_call *call, struct rp_process *p);

/* A text frame {"type": "error", "code", "detail"}: what the client sent made no sense, and the socket goes
 * on. */
void rp_socket_send_error(struct rp_websocket *ws, const struct rp_error *err);
/* {"type": "exit", "code": 0, "signal": null} */
void rp_socket_send_exit(struct rp_websocket *ws, const struct rp_exit *exit, bool lost);
void rp_socket_send_type(struct rp_websocket *ws, const char *type);

#endif
