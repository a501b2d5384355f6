/*
 * gateway.c: the gateway process: makes its parts, wires them, serves, and drains.
 */
#include "api/gateway.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "api/api.h"
#include "api/events.h"
#include "api/files_watch.h"
#include "base/log.h"
#include "domain/project_processes.h"
#include "domain/projects.h"
#include "domain/stack.h"
#include "preview/preview.h"
#include "runner/files.h"

enum { DRAIN_MS = 5000, DRAIN_LOOK_MS = 10, ARCHIVE_THREADS = 2, ARCHIVE_QUEUE = 64 };

struct server {
    struct rp_gateway g;
    const struct rp_gateway_start *start;
    struct rp_http_server *http[RP_LISTENERS_MAX];
    size_t http_count;
    int signals; /* signalfd */
    struct rp_watch *signal_watch;
    struct rp_timer *drain;
    unsigned drained_ms;
};

/* ---- serving ---- */

static void handle(void *ctx, struct rp_http_exchange *x)
{
    struct server *s = ctx;
    if (!rp_preview_handle(s->g.preview, x))
        rp_api_handle(&s->g, x);
}

/* Sandboxes of before are adopted by now, so the first request already finds them. */
static void settled(void *ctx)
{
    struct server *s = ctx;
    if (s->drain)
        return; /* told to end while it began */
    for (size_t i = 0; i < s->start->listener_count; i++)
        s->http[s->http_count++] = rp_http_server_new(s->g.loop, s->start->listeners[i], handle, s);
    rp_log(RP_LOG_INFO, "serving", "listen", s->g.settings->listen, NULL);
    if (s->start->ready >= 0) {
        if (write(s->start->ready, "r", 1) != 1)
            rp_log(RP_LOG_WARNING, "nobody waits for the server to be ready", NULL);
        close(s->start->ready);
    }
}

/* ---- draining ---- */

static void drain_look(void *ctx)
{
    struct server *s = ctx;
    unsigned open = 0;
    s->drained_ms += DRAIN_LOOK_MS;
    for (size_t i = 0; i < s->http_count; i++)
        open += rp_http_server_connections(s->http[i]);
    if (open == 0 || s->drained_ms >= DRAIN_MS)
        rp_loop_stop(s->g.loop);
}

static void on_signal(void *ctx, unsigned events)
{
    struct server *s = ctx;
    struct signalfd_siginfo info;
    if (read(s->signals, &info, sizeof info) != sizeof info)
        return;
    if (s->drain) {
        rp_loop_stop(s->g.loop); /* a second one: at once */
        return;
    }
    rp_log(RP_LOG_INFO, "draining", NULL);
    for (size_t i = 0; i < s->http_count; i++)
        rp_http_server_drain(s->http[i]);
    rp_projects_close(s->g.projects);
    s->drain = rp_timer_new(s->g.loop, drain_look, s);
    rp_timer_start(s->drain, 1, DRAIN_LOOK_MS);
}

static int watch_signals(struct server *s, struct rp_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signals < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "signalfd");
    s->signal_watch = rp_watch_new(s->g.loop, s->signals, on_signal, s);
    rp_watch_set(s->signal_watch, RP_WATCH_READ);
    return 0;
}

/* ---- wiring ---- */

static int open_parts(struct server *s, struct rp_error *err)
{
    struct rp_gateway *g = &s->g;
    char database[4096];
    if (snprintf(database, sizeof database, "%s/gateway/repld.db", g->settings->data_dir) >=
        (int)sizeof database)
        return rp_error_set(err, RP_ERROR_INVALID, "the data directory's path is too long");
    g->loop = rp_loop_new();
    g->stacks = s->start->stacks;
    if (watch_signals(s, err) < 0 || rp_store_open(g->loop, database, &g->store, err) < 0 ||
        rp_processes_new(g->loop, g->settings->runtime_dir, g->settings->ring_size, &g->processes, err) < 0)
        return -1;
    g->files = rp_files_new(g->loop);
    g->archives = rp_pool_new(g->loop, ARCHIVE_THREADS, ARCHIVE_QUEUE);
    struct rp_projects_parts parts = {
        .loop = g->loop,
        .settings = g->settings,
        .store = g->store,
        .stacks = g->stacks,
        .processes = g->processes,
        .files = g->files,
    };
    g->projects = rp_projects_new(&parts);
    g->preview = rp_preview_new(g->loop, g->settings, g->projects);
    rp_project_processes_observe(g->projects, g->processes);
    rp_events_observe(g);
    rp_files_watch_observe(g);
    return rp_projects_load(g->projects, err);
}

/* In the order in which the parts use each other; answers that still wait find nobody. */
static void close_parts(struct server *s)
{
    struct rp_gateway *g = &s->g;
    for (size_t i = 0; i < s->http_count; i++)
        rp_http_server_free(s->http[i]);
    rp_pool_free(g->archives); /* what it worked on holds projects */
    rp_store_close(g->store);
    rp_projects_free(g->projects);
    rp_preview_free(g->preview);
    rp_files_free(g->files);
    rp_processes_free(g->processes);
    rp_stacks_free(g->stacks);
    rp_timer_free(s->drain);
    rp_watch_free(s->signal_watch);
    rp_close_fd(&s->signals);
    rp_loop_free(g->loop);
}

/* 8,192 connections, each perhaps with one into a sandbox, want more than the usual 1,024. */
static void raise_descriptor_limit(void)
{
    enum { WANTED = 65536 };
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= WANTED)
        return;
    files.rlim_cur = files.rlim_max < WANTED ? files.rlim_max : WANTED;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        rp_log(RP_LOG_WARNING, "the limit of descriptors stays low", NULL);
}

int rp_gateway_main(const struct rp_settings *settings, const struct rp_gateway_start *start)
{
    struct server s = {.g = {.settings = settings}, .start = start, .signals = -1};
    struct rp_error err = {0};
    raise_descriptor_limit();
    if (open_parts(&s, &err) < 0) {
        rp_log(RP_LOG_ERROR, "the gateway cannot start", "why", err.message, NULL);
        return 1;
    }
    rp_projects_connect(s.g.projects, start->orchestrator_socket, settled, &s);
    rp_loop_run(s.g.loop);
    close_parts(&s);
    rp_log(RP_LOG_INFO, "drained", NULL);
    return 0;
}
