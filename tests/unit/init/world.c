#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "proto/seqpacket.h"

enum { PATIENCE_MS = 10000 };

static uint32_t last_tag;

/* ---- the sandbox ---- */

static void must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    _exit(99);
}

static void loopback_up(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    must(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &r) == 0, "lo");
    close(fd);
}

static void become_init(const struct world *w, int listener)
{
    const char *init = getenv("REPLD_INIT");
    must(init != NULL, "REPLD_INIT");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private");
    must(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0, "proc");
    int binary = open(init, O_PATH);
    must(binary >= 0, init);
    must(mount("tmpfs", "/home", "tmpfs", MS_NOSUID, "mode=755") == 0, "home");
    must(mkdir("/home/runner", 0755) == 0 && mkdir("/home/runner/app", 0755) == 0, "mkdir");
    must(chown("/home/runner", 1000, 1000) == 0, "chown");
    must(mount(w->app, "/home/runner/app", NULL, MS_BIND, NULL) == 0, "bind");
    loopback_up();
    fcntl(binary, F_SETFD, 0);
    /* something that must not reach the programs that init starts */
    int secret = open("/dev/null", O_RDONLY);
    must(dup2(secret, 77) == 77, "dup2");
    if (listener != RP_INIT_LISTENER_FD)
        must(dup2(listener, RP_INIT_LISTENER_FD) == RP_INIT_LISTENER_FD, "dup2");
    fcntl(RP_INIT_LISTENER_FD, F_SETFD, 0);
    static const char *const argv[] = {"repld-init", NULL}, *const env[] = {"ASAN_OPTIONS=detect_leaks=0",
                                                                            NULL};
    syscall(SYS_execveat, binary, "", argv, env, AT_EMPTY_PATH);
    must(0, init);
}

void world_start(struct world *w)
{
    snprintf(w->dir, sizeof(w->dir), "/tmp/repld-init-test-%d-XXXXXX", getpid());
    assert_non_null(mkdtemp(w->dir));
    assert_int_equal(chmod(w->dir, 0755), 0);
    snprintf(w->app, sizeof(w->app), "%s/app", w->dir);
    snprintf(w->socket, sizeof(w->socket), "%s/socket", w->dir);
    assert_int_equal(mkdir(w->app, 0755), 0);
    assert_int_equal(chown(w->app, 1000, 1000), 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, w->socket, strlen(w->socket) + 1);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(listener, 16), 0);
    fflush(NULL);
    unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD;
    w->init = (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (w->init == 0)
        become_init(w, listener);
    assert_true(w->init > 0);
    close(listener);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void clean(struct world *w)
{
    nftw(w->dir, remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    assert_int_equal(access(w->dir, F_OK), -1);
}

void world_stop(struct world *w)
{
    if (w->init > 0) {
        kill(w->init, SIGKILL);
        (void)world_wait(w);
    }
    clean(w);
}

int world_wait(struct world *w)
{
    int status = -1;
    for (int i = 0; i < PATIENCE_MS / 10; i++) {
        pid_t pid = waitpid(w->init, &status, WNOHANG);
        if (pid == w->init) {
            w->init = 0;
            return status;
        }
        usleep(10000);
    }
    fail_msg("init did not end");
    return -1;
}

int world_inside(struct world *w, uid_t uid, int (*fn)(void *ctx), void *ctx)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static const char *const kinds[] = {"pid", "net", "ipc", "mnt"};
        for (size_t i = 0; i < RP_ARRAY_SIZE(kinds); i++) {
            char path[64];
            snprintf(path, sizeof(path), "/proc/%d/ns/%s", w->init, kinds[i]);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            must(fd >= 0 && setns(fd, 0) == 0, path);
        }
        pid_t inner = fork();
        if (inner == 0) {
            must(syscall(SYS_setresgid, uid, uid, uid) == 0 && syscall(SYS_setresuid, uid, uid, uid) == 0,
                 "uid");
            _exit(fn(ctx));
        }
        int status = 0;
        waitpid(inner, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 98);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- init's messages ---- */

static void wait_readable(int fd, const char *what)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, PATIENCE_MS) != 1)
        fail_msg("nothing came: %s", what);
}

int world_dial(struct world *w)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, w->socket, strlen(w->socket) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

int world_connect(struct world *w)
{
    int fd = world_dial(w);
    static struct message m;
    char probe[16] = "";
    struct rp_wire_writer q = request_begin(RP_INIT_HELLO);
    rp_wire_put_u32(&q, RP_INIT_VERSION_MIN);
    rp_wire_put_u32(&q, RP_INIT_VERSION);
    request_send(fd, &q, -1);
    message_expect(fd, &m, RP_INIT_HELLO);
    assert_int_equal(rp_wire_get_u32(&m.body), RP_INIT_VERSION);
    assert_int_equal(rp_wire_get_u32(&m.body), 0);
    assert_true(rp_wire_finished(&m.body));
    assert_int_equal(read(m.fd, probe, sizeof(probe)), 8);
    assert_memory_equal(probe, RP_INIT_PROBE, 8);
    assert_int_equal(read(m.fd, probe, sizeof(probe)), 0);
    close(m.fd);
    return fd;
}

struct rp_wire_writer request_begin(uint16_t type)
{
    static uint8_t bytes[RP_WIRE_MESSAGE_MAX];
    return rp_wire_begin(bytes, sizeof(bytes), type, 0, ++last_tag);
}

uint32_t request_send(int fd, struct rp_wire_writer *w, int with_fd)
{
    assert_false(w->overflow);
    assert_int_equal(rp_seqpacket_send(fd, w->data, w->length, with_fd), 0);
    return last_tag;
}

void message_next(int fd, struct message *m)
{
    wait_readable(fd, "a message of init");
    ssize_t n = rp_seqpacket_receive(fd, m->bytes, sizeof(m->bytes), &m->fd);
    if (n <= 0)
        fail_msg("receive: %zd", n);
    m->body = (struct rp_wire_reader){.data = m->bytes, .length = (size_t)n};
    struct rp_wire_header h = rp_wire_get_header(&m->body);
    assert_int_equal(h.flags, 0);
    m->type = h.type;
    m->tag = h.tag;
}

void message_expect(int fd, struct message *m, uint16_t type)
{
    for (;;) {
        message_next(fd, m);
        if (m->type == type)
            break;
        if (m->tag != 0) {
            uint32_t errnum = m->type == RP_INIT_ERROR ? rp_wire_get_u32(&m->body) : 0;
            fail_msg("type %u came instead of %u (errno %u)", m->type, type, errnum);
        }
    }
    if (m->tag)
        assert_int_equal(m->tag, last_tag);
}

void expect_error(int fd, int errnum)
{
    static struct message m;
    message_expect(fd, &m, RP_INIT_ERROR);
    assert_int_equal(rp_wire_get_u32(&m.body), errnum);
    struct rp_str text = rp_wire_get_str(&m.body, 4096);
    assert_true(text.n > 0 && rp_wire_finished(&m.body));
}

void expect_ok(int fd)
{
    static struct message m;
    message_expect(fd, &m, RP_INIT_OK);
    assert_true(rp_wire_finished(&m.body));
}

void expect_closed(int fd)
{
    static struct message m;
    for (;;) {
        wait_readable(fd, "the end of the connection");
        ssize_t n = rp_seqpacket_receive(fd, m.bytes, sizeof(m.bytes), &m.fd);
        if (n == 0 || n == -ECONNRESET)
            return;
        assert_true(n > 0);
        if (m.fd >= 0)
            close(m.fd);
    }
}

void spawn_send(int fd, uint64_t id, uint32_t flags, const char *cwd, const char *const *argv)
{
    static const char *const env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/runner",
                                      "TERM=xterm-256color"};
    struct rp_wire_writer q = request_begin(RP_INIT_SPAWN);
    uint32_t argc = 0;
    while (argv[argc])
        argc++;
    rp_wire_put_u64(&q, id);
    rp_wire_put_u32(&q, flags);
    rp_wire_put_u16(&q, 100);
    rp_wire_put_u16(&q, 30);
    rp_wire_put_u32(&q, 0);
    rp_wire_put_str(&q, rp_str_of(cwd ? cwd : RP_INIT_APP));
    rp_wire_put_u32(&q, argc);
    for (uint32_t i = 0; i < argc; i++)
        rp_wire_put_str(&q, rp_str_of(argv[i]));
    rp_wire_put_u32(&q, RP_ARRAY_SIZE(env));
    for (size_t i = 0; i < RP_ARRAY_SIZE(env); i++)
        rp_wire_put_str(&q, rp_str_of(env[i]));
    rp_wire_put_str(&q, RP_STR("label of the test"));
    request_send(fd, &q, -1);
}

struct spawned spawn(int fd, uint64_t id, uint32_t flags, const char *const *argv)
{
    static struct message m;
    struct spawned s = {.streams = {-1, -1, -1, -1}};
    spawn_send(fd, id, flags, NULL, argv);
    message_expect(fd, &m, RP_INIT_SPAWNED);
    assert_int_equal(rp_wire_get_u64(&m.body), id);
    s.pid = rp_wire_get_u32(&m.body);
    assert_true(s.pid > 1 && rp_wire_finished(&m.body));
    int count = flags & RP_SPAWN_PTY ? 1 : 1 + !!(flags & RP_SPAWN_STDIN) + !(flags & RP_SPAWN_MERGE);
    for (int i = 0; i < count; i++) {
        message_expect(fd, &m, RP_INIT_STREAM);
        assert_int_equal(rp_wire_get_u64(&m.body), id);
        uint8_t which = rp_wire_get_u8(&m.body);
        assert_true(rp_wire_finished(&m.body) && which < 4 && m.fd >= 0 && s.streams[which] < 0);
        s.streams[which] = m.fd;
    }
    return s;
}

struct ended expect_exited(int fd, uint64_t id)
{
    static struct message m;
    struct ended e;
    do
        message_expect(fd, &m, RP_INIT_EXITED);
    while (rp_wire_get_u64(&m.body) != id);
    assert_int_equal(m.tag, 0);
    e.code = (int32_t)rp_wire_get_u32(&m.body);
    e.signal = (int)rp_wire_get_u32(&m.body);
    e.user_us = rp_wire_get_u64(&m.body);
    e.system_us = rp_wire_get_u64(&m.body);
    e.peak_rss = rp_wire_get_u64(&m.body);
    assert_true(rp_wire_finished(&m.body));
    return e;
}

const char *read_until(int fd, const char *text)
{
    static char all[65536];
    size_t n = 0;
    all[0] = '\0';
    while (n < sizeof(all) - 1 && !strstr(all, text)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, PATIENCE_MS) != 1)
            fail_msg("\"%s\" did not come; there was: %s", text, all);
        ssize_t got = read(fd, all + n, sizeof(all) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
        all[n] = '\0';
    }
    return all;
}

/* ---- the file helper's frames ---- */

int files_open(int fd)
{
    static struct message m;
    struct rp_wire_writer q = request_begin(RP_INIT_FILES);
    request_send(fd, &q, -1);
    message_expect(fd, &m, RP_INIT_FILE_CHANNEL);
    assert_true(m.fd >= 0 && rp_wire_finished(&m.body));
    int flags = fcntl(m.fd, F_GETFL);
    assert_true(flags & O_NONBLOCK);
    assert_int_equal(fcntl(m.fd, F_SETFL, flags & ~O_NONBLOCK), 0);
    return m.fd;
}

struct rp_wire_writer frame_begin(uint8_t type)
{
    static uint8_t bytes[RP_FILES_HEADER_SIZE + RP_FILES_PAYLOAD_MAX];
    struct rp_wire_writer w = {.data = bytes, .cap = sizeof(bytes)};
    rp_wire_put_u32(&w, 0);
    rp_wire_put_u8(&w, type);
    rp_wire_put_u8(&w, 0);
    rp_wire_put_u16(&w, 0);
    return w;
}

void frame_send(int channel, struct rp_wire_writer *w)
{
    assert_false(w->overflow);
    struct rp_wire_writer length = {.data = w->data, .cap = 4};
    rp_wire_put_u32(&length, (uint32_t)(w->length - RP_FILES_HEADER_SIZE));
    for (size_t at = 0; at < w->length;) {
        ssize_t n = send(channel, w->data + at, w->length - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

static void read_exactly(int fd, uint8_t *p, size_t n)
{
    while (n) {
        wait_readable(fd, "a frame");
        ssize_t got = read(fd, p, n);
        assert_true(got > 0);
        p += got;
        n -= (size_t)got;
    }
}

void frame_next(int channel, struct frame *f)
{
    uint8_t head[RP_FILES_HEADER_SIZE];
    read_exactly(channel, head, sizeof(head));
    struct rp_wire_reader r = {.data = head, .length = sizeof(head)};
    uint32_t length = rp_wire_get_u32(&r);
    f->type = rp_wire_get_u8(&r);
    assert_int_equal(rp_wire_get_u8(&r), 0);
    assert_int_equal(rp_wire_get_u16(&r), 0);
    assert_true(length <= RP_FILES_PAYLOAD_MAX);
    read_exactly(channel, f->bytes, length);
    f->body = (struct rp_wire_reader){.data = f->bytes, .length = length};
}

void frame_expect(int channel, struct frame *f, uint8_t type)
{
    frame_next(channel, f);
    if (f->type != type && f->type == RP_FILES_ERROR) {
        uint32_t errnum = rp_wire_get_u32(&f->body);
        struct rp_str text = rp_wire_get_str(&f->body, 4096);
        fail_msg("the helper answered errno %u: %.*s", errnum, (int)text.n, text.p);
    }
    assert_int_equal(f->type, type);
}

void frame_expect_error(int channel, int errnum)
{
    static struct frame f;
    frame_expect(channel, &f, RP_FILES_ERROR);
    assert_int_equal(rp_wire_get_u32(&f.body), errnum);
    assert_true(rp_wire_get_str(&f.body, 4096).n > 0);
    assert_true(rp_wire_finished(&f.body));
}

static int end_or_errno(int channel)
{
    static struct frame f;
    frame_next(channel, &f);
    if (f.type == RP_FILES_ERROR)
        return (int)rp_wire_get_u32(&f.body);
    assert_int_equal(f.type, RP_FILES_END);
    return 0;
}

int files_write(int channel, const char *path, uint8_t flags, const char *etag, const void *content, size_t n)
{
    struct rp_wire_writer w = frame_begin(RP_FILES_WRITE);
    rp_wire_put_str(&w, rp_str_of(path));
    rp_wire_put_u32(&w, 0);
    rp_wire_put_u8(&w, flags);
    rp_wire_put_str(&w, rp_str_of(etag));
    rp_wire_put_u64(&w, n);
    frame_send(channel, &w);
    int errnum = end_or_errno(channel);
    if (errnum)
        return errnum;
    for (size_t at = 0; at < n;) {
        size_t piece = RP_MIN(n - at, (size_t)RP_FILES_PAYLOAD_MAX);
        w = frame_begin(RP_FILES_DATA);
        rp_wire_put(&w, (const char *)content + at, piece);
        frame_send(channel, &w);
        at += piece;
    }
    w = frame_begin(RP_FILES_END);
    rp_wire_put_str(&w, RP_STR(""));
    frame_send(channel, &w);
    return end_or_errno(channel);
}

int files_read(int channel, const char *path, struct rp_str *ret, char ret_etag[RP_FILES_ETAG_MAX])
{
    static char all[1 << 20];
    static struct frame f;
    struct rp_wire_writer w = frame_begin(RP_FILES_READ);
    rp_wire_put_str(&w, rp_str_of(path));
    rp_wire_put_u64(&w, 0);
    rp_wire_put_u64(&w, UINT64_MAX);
    frame_send(channel, &w);
    frame_next(channel, &f);
    if (f.type == RP_FILES_ERROR)
        return (int)rp_wire_get_u32(&f.body);
    assert_int_equal(f.type, RP_FILES_ENTRY);
    (void)rp_wire_get_str(&f.body, 4096);
    assert_int_equal(rp_wire_get_u8(&f.body), RP_FILE_REGULAR);
    (void)rp_wire_get_u32(&f.body);
    uint64_t size = rp_wire_get_u64(&f.body);
    (void)rp_wire_get_u64(&f.body);
    (void)rp_wire_get_str(&f.body, 4096);
    struct rp_str etag = rp_wire_get_str(&f.body, RP_FILES_ETAG_MAX);
    assert_true(rp_wire_finished(&f.body));
    if (ret_etag)
        assert_true(rp_str_copy(ret_etag, RP_FILES_ETAG_MAX, etag));
    size_t n = 0;
    for (;;) {
        frame_next(channel, &f);
        if (f.type == RP_FILES_END)
            break;
        assert_int_equal(f.type, RP_FILES_DATA);
        assert_true(n + f.body.length <= sizeof(all));
        memcpy(all + n, f.bytes, f.body.length);
        n += f.body.length;
    }
    assert_int_equal(n, size);
    *ret = (struct rp_str){all, n};
    return 0;
}
