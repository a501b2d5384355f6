/*
 * repld-init: PID 1 of a sandbox. `repld-init` takes the listening socket at descriptor 3;
 * `repld-init --socket PATH` binds one itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#include "init/init.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

static void die(const char *what)
{
    fprintf(stderr, "repld-init: %s: %s\n", what, strerror(errno));
    exit(70);
}

uint64_t rp_init_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int rp_init_add(struct rp_init *init, int fd, uint32_t events, struct rp_init_source *source)
{
    struct epoll_event e = {.events = events, .data.ptr = source};
    return epoll_ctl(init->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? errno : 0;
}

void rp_init_modify(struct rp_init *init, int fd, uint32_t events, struct rp_init_source *source)
{
    struct epoll_event e = {.events = events, .data.ptr = source};
    (void)epoll_ctl(init->epoll, EPOLL_CTL_MOD, fd, &e);
}

void rp_init_close(struct rp_init *init, int *fd)
{
    if (*fd < 0)
        return;
    /* A duplicate may live on elsewhere, and the set follows the open file, not the number. */
    (void)epoll_ctl(init->epoll, EPOLL_CTL_DEL, *fd, NULL);
    close(*fd);
    *fd = -1;
}

/* Listens at path, for drivers that cannot hand a socket down. The directory guards it, its mode as well. */
static int listen_at(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n >= sizeof(a.sun_path)) {
        errno = ENAMETOOLONG;
        die(path);
    }
    memcpy(a.sun_path, path, n + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        die("socket");
    (void)unlink(path);
    mode_t old = umask(0177);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, RP_INIT_CONNECTIONS_MAX) < 0)
        die(path);
    umask(old);
    return fd;
}

static int inherited_listener(void)
{
    int type = 0, listening = 0;
    socklen_t n = sizeof(type);
    if (getsockopt(RP_INIT_LISTENER_FD, SOL_SOCKET, SO_TYPE, &type, &n) < 0)
        die("descriptor 3 is no socket, and --socket PATH was not given");
    n = sizeof(listening);
    if (type != SOCK_SEQPACKET ||
        getsockopt(RP_INIT_LISTENER_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0 || !listening) {
        errno = EINVAL;
        die("descriptor 3 is not a listening SOCK_SEQPACKET socket");
    }
    /* Away from its number, so that closing what else was inherited is one call. */
    int flags = fcntl(RP_INIT_LISTENER_FD, F_GETFL);
    if (flags < 0 || fcntl(RP_INIT_LISTENER_FD, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(RP_INIT_LISTENER_FD, F_SETFD, FD_CLOEXEC) < 0)
        die("descriptor 3");
    return RP_INIT_LISTENER_FD;
}

static void close_the_rest(void)
{
    if (syscall(SYS_close_range, RP_INIT_LISTENER_FD + 1, ~0U, 0) < 0)
        for (int fd = RP_INIT_LISTENER_FD + 1; fd < 4096; fd++)
            close(fd);
}

/* Last of all: errors before it reach the driver's log. */
static void silence(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Without a /dev/null (a root that is not ready) 0, 1 and 2 stay what the driver gave. */
    if (null < 0)
        return;
    for (int fd = 0; fd < 3; fd++)
        if (null != fd && dup2(null, fd) < 0)
            die("dup2");
    if (null > 2)
        close(null);
}

static void raise_file_limit(struct rp_init *init)
{
    if (getrlimit(RLIMIT_NOFILE, &init->files) < 0)
        die("getrlimit");
    struct rlimit own = init->files;
    rlim_t want = RP_INIT_PROCESSES_MAX * 3 + RP_INIT_CONNECTS_MAX + 512;
    if (own.rlim_cur < want)
        own.rlim_cur = own.rlim_max < want ? own.rlim_max : want;
    (void)setrlimit(RLIMIT_NOFILE, &own);
}

static void on_signal(struct rp_init *init, struct rp_init_source *source, uint32_t events)
{
    struct signalfd_siginfo info;
    while (read(init->signals, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD)
            rp_init_reap(init);
        else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            rp_init_shutdown(init, 5000); /* an engine's own stop, e.g. `docker stop` */
    }
}

static void set_up_signals(struct rp_init *init)
{
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, SIGSEGV);
    sigdelset(&set, SIGBUS);
    sigdelset(&set, SIGILL);
    sigdelset(&set, SIGFPE);
    sigdelset(&set, SIGABRT);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    init->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (init->signals < 0)
        die("signalfd");
    init->signal_source.ready = on_signal;
    if (rp_init_add(init, init->signals, EPOLLIN, &init->signal_source))
        die("epoll_ctl");
}

static void run(struct rp_init *init)
{
    while (!init->stopped) {
        uint64_t now = rp_init_now_ms(), next = UINT64_MAX;
        rp_init_processes_tick(init, now, &next);
        rp_init_connecting_tick(init, now, &next);
        rp_init_ports_tick(init, now, &next);
        rp_init_shutdown_tick(init, now, &next);
        rp_init_connections_sweep(init);
        if (init->stopped)
            break;
        int timeout = -1;
        if (next != UINT64_MAX)
            timeout = next <= now ? 0 : (int)RP_MIN(next - now, (uint64_t)60000);
        struct epoll_event e;
        int n = epoll_wait(init->epoll, &e, 1, timeout);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        if (n == 1) {
            struct rp_init_source *source = e.data.ptr;
            source->ready(init, source, e.events);
        }
        rp_init_connections_sweep(init);
    }
}

int main(int argc, char **argv)
{
    struct rp_init *init = calloc(1, sizeof(*init));
    if (!init)
        die("memory");
    init->ports.scanner = -1;
    init->check_peer = getpid() == 1;
    init->epoll = -1;

    if (argc == 3 && strcmp(argv[1], "--socket") == 0) {
        init->listener = listen_at(argv[2]);
        if (init->listener != RP_INIT_LISTENER_FD) {
            if (dup3(init->listener, RP_INIT_LISTENER_FD, O_CLOEXEC) < 0)
                die("dup3");
            close(init->listener);
            init->listener = RP_INIT_LISTENER_FD;
        }
    } else if (argc == 1) {
        init->listener = inherited_listener();
    } else {
        fprintf(stderr, "usage: repld-init [--socket PATH]\n");
        return 64;
    }

    close_the_rest();
    if (chdir("/") < 0)
        die("chdir /");
    umask(022);
    (void)prctl(PR_SET_NAME, "repld-init");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        die("prctl");
    errno = rp_init_drop_capabilities(1ULL << CAP_SETUID | 1ULL << CAP_SETGID | 1ULL << CAP_KILL);
    if (errno)
        die("capset");
    raise_file_limit(init);
    init->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (init->epoll < 0)
        die("epoll_create1");
    init->listener_source.ready = rp_init_accept;
    if (rp_init_add(init, init->listener, EPOLLIN, &init->listener_source))
        die("epoll_ctl");
    set_up_signals(init);
    silence();
    run(init);
    return 0;
}
