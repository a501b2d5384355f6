/* The end of a sandbox: ask every process, then kill, then exit, which ends the namespace. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "init/init.h"

enum { KILL_AGAIN_MS = 20, GRACE_MAX_MS = 10 * 60 * 1000 };

/* An interactive shell ignores SIGTERM; it ends when its terminal hangs up, and tells its jobs. Only shells
 * are told: to a server that ends in good order on SIGTERM, SIGHUP would be a sudden death. */
static void hang_up(const struct rp_init *init)
{
    for (int i = 0; i < RP_INIT_PROCESSES_MAX; i++) {
        const struct rp_init_process *p = init->processes[i];
        if (p && !p->exited && (p->flags & RP_SPAWN_PTY))
            (void)kill(p->pid, SIGHUP);
    }
}

void rp_init_shutdown(struct rp_init *init, uint32_t grace_ms)
{
    uint64_t at = rp_init_now_ms() + RP_MIN(grace_ms, (uint32_t)GRACE_MAX_MS);
    if (init->stopping) {
        init->kill_at_ms = RP_MIN(init->kill_at_ms, at);
        return;
    }
    init->stopping = true;
    init->kill_at_ms = at;
    /* Our own helpers first: what they acknowledged is durable, what they did not is dropped cleanly. */
    for (int i = 0; i < RP_INIT_FILE_CHANNELS_MAX; i++)
        if (init->helpers[i] > 0)
            (void)kill(init->helpers[i], SIGKILL);
    if (init->ports.scanner_pid > 0)
        (void)kill(init->ports.scanner_pid, SIGKILL);
    rp_init_ports_watch(init, 0);
    if (getpid() == 1) {
        (void)kill(-1, SIGTERM);
        hang_up(init);
        (void)kill(-1, SIGCONT); /* a stopped program hears nothing until it goes on */
    }
    rp_init_reap(init);
}

void rp_init_shutdown_tick(struct rp_init *init, uint64_t now, uint64_t *next)
{
    if (!init->stopping || init->stopped)
        return;
    if (now >= init->kill_at_ms) {
        /* Again and again: a process may have been made between two kills. */
        if (getpid() == 1)
            (void)kill(-1, SIGKILL);
        init->kill_at_ms = now + KILL_AGAIN_MS;
    }
    *next = RP_MIN(*next, init->kill_at_ms);
}

void rp_init_no_child_left(struct rp_init *init)
{
    if (!init->stopping || init->stopped)
        return;
    init->stopped = true;
    for (int i = 0; i < RP_INIT_CONNECTIONS_MAX; i++) {
        struct rp_init_connection *c = init->connections[i];
        if (c && c->shutdown_tag && !c->dead)
            rp_init_answer_ok(init, c, c->shutdown_tag);
    }
}
