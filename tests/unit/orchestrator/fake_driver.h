/*
 * fake_driver.h: a driver whose sandboxes are folders and whose inits are small processes that speak
 * proto/init.h: what the orchestrator needs to be tested without a runtime. As with the real one, the truth
 * is in the file system and in the kernel, so that it survives the orchestrator's death. Steps can be made
 * slow or made to fail.
 *
 * ROOT/sandboxes/ID/   made first; cgroup, network, mounts: files that stand for the traces; pid; socket
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "base/str.h"
#include "proto/init.h"
#include "proto/seqpacket.h"
#include "proto/wire.h"
#include "sandbox/driver.h"

enum fake_step { FAKE_NONE, FAKE_CREATE, FAKE_CLAIM, FAKE_CONNECT, FAKE_WATCH, FAKE_LIMITS, FAKE_DESTROY };

struct fake_driver {
    struct rp_driver driver;
    struct rp_driver_operations operations;
    char root[96];
    atomic_int fails;   /* enum fake_step: this call fails, `times` times */
    atomic_int times;   /* -1: always */
    atomic_int slow_ms; /* each trace takes so long to make or to remove */
    atomic_int claims, creates, limit_calls, drops;
    atomic_ulong oom_kills;
    bool deaf; /* inits ignore SHUTDOWN */
};

static struct fake_driver *fake_of(struct rp_driver *d)
{
    return (struct fake_driver *)d;
}

static void fake_sleep(struct fake_driver *f)
{
    int ms = atomic_load(&f->slow_ms);
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

static int fake_fails(struct fake_driver *f, enum fake_step step, struct rp_error *err)
{
    if (atomic_load(&f->fails) != (int)step || atomic_load(&f->times) == 0)
        return 0;
    if (atomic_load(&f->times) > 0)
        atomic_fetch_sub(&f->times, 1);
    return rp_error_set(err, RP_ERROR_RUNTIME, "step %d fails", step);
}

static char *fake_path(struct fake_driver *f, const char *id, const char *name)
{
    return rp_asprintf("%s/sandboxes/%s/%s", f->root, id, name);
}

static int fake_touch(struct fake_driver *f, const char *id, const char *name, struct rp_error *err)
{
    _cleanup_free_ char *path = fake_path(f, id, name);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    fake_sleep(f);
    return fd < 0 ? rp_error_errno(err, RP_ERROR_INTERNAL, errno, "touch %s", path) : 0;
}

/* ---- init ---- */

static void fake_init_answer(int connection, uint16_t type, uint32_t tag)
{
    uint8_t data[64];
    struct rp_wire_writer w = rp_wire_begin(data, sizeof(data), type, 0, tag);
    if (type == RP_INIT_HELLO) {
        rp_wire_put_u32(&w, RP_INIT_VERSION);
        rp_wire_put_u32(&w, 0);
    }
    (void)!rp_seqpacket_send(connection, data, w.length, -1);
}

/* The process that stands for init: no threads, no allocation. */
static _Noreturn void fake_init(int listener, bool deaf)
{
    struct pollfd p[9] = {{.fd = listener, .events = POLLIN}};
    unsigned count = 1;
    uint8_t data[256];
    for (;;) {
        poll(p, count, -1);
        for (unsigned i = 1; i < count; i++) {
            int fd;
            if (!p[i].revents)
                continue;
            ssize_t n = rp_seqpacket_receive(p[i].fd, data, sizeof(data), &fd);
            rp_close_fd(&fd);
            struct rp_wire_reader r = {.data = data, .length = n > 0 ? (size_t)n : 0};
            struct rp_wire_header h = rp_wire_get_header(&r);
            if (n <= 0) {
                close(p[i].fd);
                p[i--] = p[--count];
            } else if (h.type == RP_INIT_SHUTDOWN && !deaf) {
                _exit(0);
            } else if (h.type == RP_INIT_SHUTDOWN) {
                continue;
            } else {
                /* an event first: nobody asked for it, everybody must cope */
                fake_init_answer(p[i].fd, RP_INIT_OK, 0);
                fake_init_answer(p[i].fd, h.type == RP_INIT_HELLO ? RP_INIT_HELLO : RP_INIT_OK, h.tag);
            }
        }
        if (p[0].revents && count < RP_ARRAY_SIZE(p)) {
            int c = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (c >= 0)
                p[count++] = (struct pollfd){.fd = c, .events = POLLIN};
        }
    }
}

static pid_t fake_pid(struct fake_driver *f, const char *id)
{
    _cleanup_free_ char *path = fake_path(f, id, "pid");
    _cleanup_file_ FILE *file = fopen(path, "re");
    int pid = 0;
    return file && fscanf(file, "%d", &pid) == 1 ? pid : 0;
}

static int fake_start_init(struct fake_driver *f, const char *id, struct rp_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    _cleanup_free_ char *path = fake_path(f, id, "socket");
    _cleanup_free_ char *pid_path = fake_path(f, id, "pid");
    _cleanup_close_ int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (!rp_str_copy(a.sun_path, sizeof(a.sun_path), rp_str_of(path)) ||
        bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 8) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "listen at %s", path);
    _cleanup_close_ int pid_fd = open(pid_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    /* Twice, so that nobody has to wait for it; the pid is written before the orchestrator goes on. */
    pid_t middle = fork();
    if (middle == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            prctl(PR_SET_NAME, "fake-init");
            for (int fd = 0; fd < 256; fd++)
                if (fd != listener)
                    close(fd);
            fake_init(listener, f->deaf);
        }
        char text[16];
        int n = snprintf(text, sizeof(text), "%d", pid);
        _exit(write(pid_fd, text, (size_t)n) == n ? 0 : 1);
    }
    int status = -1;
    while (waitpid(middle, &status, 0) < 0 && errno == EINTR)
        ;
    return status == 0 ? 0 : rp_error_set(err, RP_ERROR_INTERNAL, "no init");
}

/* ---- the operations ---- */

static int fake_create(struct rp_driver *d, const char *id, struct rp_error *err)
{
    struct fake_driver *f = fake_of(d);
    atomic_fetch_add(&f->creates, 1);
    _cleanup_free_ char *path = rp_asprintf("%s/sandboxes/%s", f->root, id);
    if (mkdir(path, 0700) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "mkdir %s", path);
    if (fake_touch(f, id, "network", err) < 0 || fake_fails(f, FAKE_CREATE, err) < 0 ||
        fake_touch(f, id, "cgroup", err) < 0)
        return -1;
    return fake_start_init(f, id, err);
}

static int fake_claim(struct rp_driver *d, const struct rp_sandbox_spec *spec, struct rp_error *err)
{
    struct fake_driver *f = fake_of(d);
    atomic_fetch_add(&f->claims, 1);
    if (fake_touch(f, spec->id, "mounts", err) < 0)
        return -1;
    return fake_fails(f, FAKE_CLAIM, err);
}

static int fake_destroy(struct rp_driver *d, const char *id, struct rp_error *err)
{
    struct fake_driver *f = fake_of(d);
    if (fake_fails(f, FAKE_DESTROY, err) < 0)
        return -1;
    pid_t pid = fake_pid(f, id);
    if (pid)
        kill(pid, SIGKILL);
    static const char *const traces[] = {"mounts", "cgroup", "network", "socket", "pid"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(traces); i++) {
        _cleanup_free_ char *path = fake_path(f, id, traces[i]);
        fake_sleep(f);
        if (unlink(path) < 0 && errno != ENOENT)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "unlink %s", path);
    }
    _cleanup_free_ char *path = rp_asprintf("%s/sandboxes/%s", f->root, id);
    return rmdir(path) < 0 && errno != ENOENT
               ? rp_error_errno(err, RP_ERROR_INTERNAL, errno, "rmdir %s", path)
               : 0;
}

static int fake_connect(struct rp_driver *d, const char *id, struct rp_error *err)
{
    struct fake_driver *f = fake_of(d);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    _cleanup_free_ char *path = fake_path(f, id, "socket");
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fake_fails(f, FAKE_CONNECT, err) < 0)
        return -1;
    if (!rp_str_copy(a.sun_path, sizeof(a.sun_path), rp_str_of(path)) ||
        connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return rp_error_errno(err, RP_ERROR_SANDBOX, errno, "connect to %s", path);
    return RP_STEAL_FD(fd);
}

static int fake_list(struct rp_driver *d, void (*each)(void *ctx, const char *id), void *ctx,
                     struct rp_error *err)
{
    _cleanup_free_ char *path = rp_asprintf("%s/sandboxes", fake_of(d)->root);
    _cleanup_dir_ DIR *dir = opendir(path);
    struct dirent *e;
    while (dir && (e = readdir(dir)))
        if (e->d_name[0] != '.')
            each(ctx, e->d_name);
    return 0;
}

static int fake_watch(struct rp_driver *d, const char *id, struct rp_error *err)
{
    if (fake_fails(fake_of(d), FAKE_WATCH, err) < 0)
        return -1;
    pid_t pid = fake_pid(fake_of(d), id);
    int fd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    return fd < 0 ? rp_error_errno(err, RP_ERROR_SANDBOX, errno, "pidfd_open %d", pid) : fd;
}

static int fake_alive(struct rp_driver *d, const char *id, struct rp_sandbox_ended *ret, struct rp_error *err)
{
    _cleanup_close_ int fd = fake_watch(d, id, err);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ret->ended = fd < 0 || poll(&p, 1, 0) == 1;
    ret->oom = atomic_load(&fake_of(d)->oom_kills) > 0;
    return 0;
}

static int fake_limits(struct rp_driver *d, const char *id, uint32_t step, const struct rp_limits *limits,
                       int init_connection, struct rp_error *err)
{
    atomic_fetch_add(&fake_of(d)->limit_calls, 1);
    return fake_fails(fake_of(d), FAKE_LIMITS, err);
}

static int fake_step_drop(struct rp_driver *d, const char *id, uint32_t step, struct rp_error *err)
{
    atomic_fetch_add(&fake_of(d)->drops, 1);
    return 0;
}

static int fake_stats(struct rp_driver *d, const char *id, struct rp_sandbox_stats *ret, struct rp_error *err)
{
    *ret = (struct rp_sandbox_stats){.memory = 42, .oom_kills = atomic_load(&fake_of(d)->oom_kills)};
    return 0;
}

static int fake_ready(struct rp_driver *d, struct rp_error *err)
{
    return 0;
}

static void fake_free(struct rp_driver *d)
{
}

static void fake_driver_init(struct fake_driver *f, const char *root)
{
    *f =
        (struct fake_driver){.operations = {"fake", RP_DRIVER_WARM | RP_DRIVER_STEPS, fake_create, fake_claim,
                                            fake_destroy, fake_connect, fake_list, fake_alive, fake_watch,
                                            fake_limits, fake_step_drop, fake_stats, fake_ready, fake_free}};
    f->driver.ops = &f->operations;
    snprintf(f->root, sizeof(f->root), "%s", root);
    _cleanup_free_ char *path = rp_asprintf("%s/sandboxes", root);
    mkdir(root, 0700);
    mkdir(path, 0700);
}

/* How many sandboxes have any trace. */
static unsigned fake_count(struct fake_driver *f)
{
    unsigned count = 0;
    _cleanup_free_ char *path = rp_asprintf("%s/sandboxes", f->root);
    _cleanup_dir_ DIR *dir = opendir(path);
    struct dirent *e;
    while (dir && (e = readdir(dir)))
        count += e->d_name[0] != '.';
    return count;
}

/* Kills and removes everything: for the end of a test. */
static void fake_driver_done(struct fake_driver *f)
{
    _cleanup_free_ char *path = rp_asprintf("%s/sandboxes", f->root);
    _cleanup_dir_ DIR *dir = opendir(path);
    struct dirent *e;
    atomic_store(&f->fails, FAKE_NONE);
    atomic_store(&f->slow_ms, 0);
    while (dir && (e = readdir(dir)))
        if (e->d_name[0] != '.')
            fake_destroy(&f->driver, e->d_name, NULL);
    rmdir(path);
}
