#include "orchestrator/orchestrator.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>

#include "base/log.h"
#include "base/str.h"
#include "orchestrator/backend.h"
#include "orchestrator/lifecycle.h"
#include "orchestrator/server.h"

enum {
    BACKEND_RETRY_MS = 2000,
    LOCKED_MS = 5000, /* how long what a killed predecessor left running may hold a lock */
    LOCKED_STEP_MS = 10,
};

struct orchestrator {
    const struct rp_settings *settings;
    struct rp_loop *loop;
    struct rp_server *server;
    struct rp_backend backend;
    struct rp_lifecycle *lifecycle;
    char *records;
    struct rp_timer *retry;
    struct rp_watch *signals;
    int signal_fd;
    bool tried;
    struct rp_error last; /* why the backend does not open: told once */
};

/* A predecessor that was killed may have been starting a program: the copy of it that this program is until
 * it executes holds its locks a moment longer. Only at first: later the gateway is waiting for answers. */
static int open_backend(struct orchestrator *o, struct rp_error *err)
{
    for (unsigned waited = 0;; waited += LOCKED_STEP_MS) {
        if (rp_backend_open(o->settings, &o->backend, err) == 0)
            return 0;
        if (o->tried || err->errno_value != EWOULDBLOCK || waited >= LOCKED_MS)
            break;
        nanosleep(&(struct timespec){.tv_nsec = LOCKED_STEP_MS * 1000000L}, NULL);
    }
    o->tried = true;
    return -1;
}

static int open_lifecycle(struct orchestrator *o, struct rp_error *err)
{
    if (open_backend(o, err) < 0)
        return -1;
    struct rp_lifecycle_options options = {.loop = o->loop,
                                           .driver = o->backend.driver,
                                           .volumes = o->backend.volumes,
                                           .records = o->records,
                                           .max_sandboxes = o->settings->max_sandboxes,
                                           .warm = o->settings->warm_sandboxes};
    o->lifecycle = rp_lifecycle_new(&options, &rp_server_events, o->server);
    rp_server_serve(o->server, o->lifecycle, o->backend.driver, NULL);
    if (rp_lifecycle_reconcile(o->lifecycle, err) == 0)
        return 0;
    rp_server_serve(o->server, NULL, NULL, err);
    rp_lifecycle_free(o->lifecycle);
    o->lifecycle = NULL;
    rp_backend_close(&o->backend);
    return -1;
}

/* A missing runtime, a full disk, a kernel without btrfs: the server runs and says so to whoever starts a
 * project, and goes on when it is put right. */
static void try_to_open(void *ctx)
{
    struct orchestrator *o = ctx;
    struct rp_error e;
    if (open_lifecycle(o, &e) == 0)
        return;
    if (rp_code_http_status(e.code) < 500)
        e.code = RP_ERROR_UNAVAILABLE; /* whoever starts a project has done nothing wrong */
    if (strcmp(e.message, o->last.message) != 0) {
        rp_log(RP_LOG_ERROR, "cannot make sandboxes", "error", e.message, NULL);
        rp_server_serve(o->server, NULL, NULL, &e);
        o->last = e;
    }
    rp_timer_start(o->retry, BACKEND_RETRY_MS, 0);
}

static void on_signal(void *ctx, unsigned events)
{
    struct orchestrator *o = ctx;
    struct signalfd_siginfo info;
    if (read(o->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        rp_loop_stop(o->loop);
}

int rp_orchestrator_main(const struct rp_settings *settings, int listener)
{
    struct orchestrator o = {.settings = settings};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    o.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (o.signal_fd < 0) {
        rp_log(RP_LOG_ERROR, "signalfd failed", NULL);
        return 1;
    }
    o.loop = rp_loop_new();
    o.signals = rp_watch_new(o.loop, o.signal_fd, on_signal, &o);
    rp_watch_set(o.signals, RP_WATCH_READ);
    o.records = rp_asprintf("%s/records", settings->runtime_dir);
    o.server = rp_server_new(o.loop, listener, settings->user_id);
    o.retry = rp_timer_new(o.loop, try_to_open, &o);
    try_to_open(&o);
    rp_loop_run(o.loop);

    rp_timer_free(o.retry);
    rp_lifecycle_free(o.lifecycle);
    rp_server_free(o.server);
    rp_backend_close(&o.backend);
    rp_watch_free(o.signals);
    rp_close_fd(&o.signal_fd);
    rp_loop_free(o.loop);
    free(o.records);
    return 0;
}
