/*
 * cli/prepare, cli/supervisor, cli/jail: the parent of the server's processes, with this program in the place
 * of both children (the supervisor starts /proc/self/exe). What a child does is said by the name of its
 * cgroup root, the one setting that these modules hand on without looking at it.
 */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/jail.h"
#include "cli/prepare.h"
#include "cli/supervisor.h"

/* ---- the children ---- */

static volatile sig_atomic_t asked_to_end;

static void on_term(int number)
{
    asked_to_end = 1;
}

static void note(const char *folder, const char *name)
{
    _cleanup_free_ char *path = rp_asprintf("%s/%s.%d", folder, name, getpid());
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static int child(int argc, char **argv)
{
    struct rp_settings s;
    struct rp_error e;
    if (rp_settings_parse(argc - 4, argv + 4, &s, &e) < 0)
        return 1;
    bool gateway = strcmp(argv[2], RP_ROLE_GATEWAY) == 0;
    signal(SIGTERM, on_term);
    if (strcmp(s.cgroup_root, "fails") == 0)
        return 3;
    note(s.data_dir, gateway ? "gateway-began" : "orchestrator-began");
    if (gateway && strcmp(s.cgroup_root, "deaf") == 0)
        signal(SIGTERM, SIG_IGN);
    if (gateway) {
        /* answers each connection with its pid */
        if (write(RP_CHILD_READY, "\n", 1) != 1)
            return 4;
        close(RP_CHILD_READY);
        while (!asked_to_end) {
            struct pollfd p = {.fd = RP_CHILD_TCP, .events = POLLIN};
            if (poll(&p, 1, 20) <= 0)
                continue;
            int c = accept(RP_CHILD_TCP, NULL, NULL);
            dprintf(c, "%d\n", getpid());
            close(c);
        }
    } else {
        while (!asked_to_end)
            poll(NULL, 0, 20);
    }
    note(s.data_dir, gateway ? "gateway-ended" : "orchestrator-ended");
    return 0;
}

/* ---- the fixture ---- */

struct fixture {
    char data[64], runtime[64];
    struct rp_settings settings;
    pid_t supervisor;
    int output; /* its standard output */
    uint16_t port;
};

static void parse(struct fixture *f, const char *behaviour)
{
    struct rp_error e;
    char *argv[] = {rp_asprintf("--data-dir=%s", f->data), rp_asprintf("--runtime-dir=%s", f->runtime),
                    rp_asprintf("--environments-dir=%s/environments", f->data),
                    (char *)"--listen=127.0.0.1:0", rp_asprintf("--cgroup-root=%s", behaviour)};
    if (rp_settings_parse(5, argv, &f->settings, &e) < 0)
        fail_msg("%s", e.message);
    free(argv[0]);
    free(argv[1]);
    free(argv[2]);
    free(argv[4]);
}

static int setup(void **state)
{
    struct fixture *f = rp_calloc(1, sizeof(*f));
    snprintf(f->data, sizeof(f->data), "/tmp/repld-supervisor-%d-data", getpid());
    snprintf(f->runtime, sizeof(f->runtime), "/tmp/repld-supervisor-%d-run", getpid());
    f->output = -1;
    *state = f;
    return 0;
}

static void remove_tree(const char *path)
{
    _cleanup_dir_ DIR *d = opendir(path);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        _cleanup_free_ char *below = rp_asprintf("%s/%s", path, e->d_name);
        if (e->d_type == DT_DIR)
            remove_tree(below);
        else
            unlink(below);
    }
    rmdir(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->supervisor > 0) {
        kill(f->supervisor, SIGKILL);
        waitpid(f->supervisor, NULL, 0);
    }
    rp_close_fd(&f->output);
    umount2(f->runtime, MNT_DETACH);
    remove_tree(f->runtime);
    remove_tree(f->data);
    rp_settings_done(&f->settings);
    free(f);
    return 0;
}

/* In a process of its own: prepare, then supervise. Its standard output is f->output. */
static void launch(struct fixture *f, const char *behaviour)
{
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    f->supervisor = fork();
    if (f->supervisor == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], STDOUT_FILENO);
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);
        struct rp_prepared p;
        struct rp_error e;
        parse(f, behaviour);
        if (rp_prepare(&f->settings, &p, &e) < 0) {
            dprintf(STDOUT_FILENO, "%s\n", e.message);
            _exit(9);
        }
        _exit(rp_supervisor_run(&f->settings, &p));
    }
    close(out[1]);
    rp_close_fd(&f->output);
    f->output = out[0];
}

static void read_line(struct fixture *f, char *line, size_t cap)
{
    size_t n = 0;
    while (n + 1 < cap) {
        struct pollfd p = {.fd = f->output, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 10000), 1);
        if (read(f->output, line + n, 1) != 1 || line[n] == '\n')
            break;
        n++;
    }
    line[n] = '\0';
}

static void wait_ready(struct fixture *f)
{
    char line[200];
    read_line(f, line, sizeof(line));
    unsigned port;
    if (sscanf(line, "repld: ready on http://localhost:%u", &port) != 1)
        fail_msg("\"%s\" instead of the ready line", line);
    f->port = (uint16_t)port;
}

/* The pid of the gateway that answers; 0 after ten seconds. */
static pid_t ask(struct fixture *f)
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(f->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char text[32] = "";
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        recv(fd, text, sizeof(text) - 1, MSG_WAITALL) < 0)
        return 0;
    return (pid_t)strtol(text, NULL, 10);
}

static unsigned notes(struct fixture *f, const char *prefix)
{
    unsigned count = 0;
    _cleanup_dir_ DIR *d = opendir(f->data);
    struct dirent *e;
    while (d && (e = readdir(d)))
        count += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    return count;
}

static bool wait_gone(pid_t pid)
{
    for (int i = 0; i < 500; i++) {
        if (kill(pid, 0) < 0)
            return true;
        /* its new parent may be slow to collect it: a zombie is gone too */
        _cleanup_free_ char *path = rp_asprintf("/proc/%d/stat", pid);
        _cleanup_file_ FILE *file = fopen(path, "re");
        char status = 0;
        if (file && fscanf(file, "%*d (%*[^)]) %c", &status) == 1 && (status == 'Z' || status == 'X'))
            return true;
        poll(NULL, 0, 10);
    }
    return false;
}

static int wait_exit(struct fixture *f)
{
    int status;
    assert_int_equal(waitpid(f->supervisor, &status, 0), f->supervisor);
    f->supervisor = 0;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- tests ---- */

static void a_server_comes_up_and_ends_in_order(void **state)
{
    struct fixture *f = *state;
    launch(f, "plain");
    wait_ready(f);
    /* ready is the gateway's word: on a busy machine the other child may not even have its signal handler */
    for (int i = 0; i < 1000 && !notes(f, "orchestrator-began"); i++)
        poll(NULL, 0, 10);
    assert_true(ask(f) > 0);
    kill(f->supervisor, SIGTERM);
    assert_int_equal(wait_exit(f), 0);
    assert_int_equal(notes(f, "gateway-ended"), 1);
    assert_int_equal(notes(f, "orchestrator-ended"), 1);
}

static void folders_have_their_owners(void **state)
{
    struct fixture *f = *state;
    launch(f, "plain");
    wait_ready(f);
    static const struct {
        bool runtime;
        const char *name;
        mode_t mode;
        uid_t uid;
    } list[] = {
        {false, "", S_IFDIR | 0700, 0},        {false, "/gateway", S_IFDIR | 0700, 64207},
        {true, "", S_IFDIR | 0711, 0},         {true, "/rings", S_IFDIR | 0700, 64207},
        {true, "/records", S_IFDIR | 0700, 0}, {true, "/orchestrator.sock", S_IFSOCK | 0600, 64207},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(list); i++) {
        _cleanup_free_ char *path = rp_asprintf("%s%s", list[i].runtime ? f->runtime : f->data, list[i].name);
        struct stat st;
        assert_int_equal(lstat(path, &st), 0);
        if (st.st_mode != list[i].mode || st.st_uid != list[i].uid)
            fail_msg("%s has mode %o and owner %u", path, st.st_mode, st.st_uid);
    }
}

static void a_killed_child_starts_again_and_connections_queue(void **state)
{
    struct fixture *f = *state;
    launch(f, "plain");
    wait_ready(f);
    pid_t first = ask(f);
    assert_true(first > 0);
    kill(first, SIGKILL);
    pid_t second = ask(f); /* never refused */
    while (second == first)
        second = ask(f);
    assert_true(second > 0);
    /* the second failure in a row waits a little, and still nothing is refused */
    kill(second, SIGKILL);
    assert_true(wait_gone(second));
    pid_t third = ask(f);
    assert_true(third > 0 && third != second);
}

static void the_children_die_with_the_supervisor_and_it_can_start_again(void **state)
{
    struct fixture *f = *state;
    launch(f, "plain");
    wait_ready(f);
    pid_t gateway = ask(f);
    kill(f->supervisor, SIGKILL);
    waitpid(f->supervisor, NULL, 0);
    launch(f, "plain"); /* at once: it waits for the lock that the dying children still hold */
    wait_ready(f);
    assert_true(wait_gone(gateway));
    assert_true(ask(f) > 0);
}

static void a_deaf_child_is_killed_by_the_second_signal(void **state)
{
    struct fixture *f = *state;
    launch(f, "deaf");
    wait_ready(f);
    kill(f->supervisor, SIGTERM);
    poll(NULL, 0, 100);
    for (int i = 0; i < 1000 && !notes(f, "orchestrator-began"); i++)
        poll(NULL, 0, 10);
    kill(f->supervisor, SIGINT);
    assert_int_equal(wait_exit(f), 0);
    assert_int_equal(notes(f, "gateway-ended"), 0);
    assert_int_equal(notes(f, "orchestrator-ended"), 1);
}

static void a_server_that_never_comes_up_gives_up(void **state)
{
    struct fixture *f = *state;
    launch(f, "fails");
    assert_int_equal(wait_exit(f), 1);
}

static void two_servers_cannot_share_a_data_directory(void **state)
{
    struct fixture *f = *state;
    launch(f, "plain");
    wait_ready(f);
    struct rp_prepared p;
    struct rp_error e = {0};
    parse(f, "plain");
    uint64_t began = rp_clock_monotonic_ns();
    assert_int_equal(rp_prepare(&f->settings, &p, &e), -1);
    assert_true(rp_clock_monotonic_ns() - began >= RP_PREPARE_LOCK_MS * UINT64_C(1000000));
    assert_int_equal(e.code, RP_ERROR_CONFLICT);
    _cleanup_free_ char *pid = rp_asprintf("(process %d)", f->supervisor);
    assert_non_null(strstr(e.message, pid));
}

static void what_is_unsafe_or_impossible_is_refused(void **state)
{
    struct fixture *f = *state;
    struct rp_prepared p;
    struct rp_error e = {0};
    parse(f, "plain");
    const char *good = f->settings.listen;
    f->settings.listen = "0.0.0.0:0";
    assert_int_equal(rp_prepare(&f->settings, &p, &e), -1);
    assert_non_null(strstr(e.message, "loopback addresses only, until there are accounts"));
    f->settings.listen = good;

    chmod(f->data, 0777);
    assert_int_equal(rp_prepare(&f->settings, &p, &e), -1);
    assert_non_null(strstr(e.message, "may be written by others"));
    chmod(f->data, 0700);

    _cleanup_free_ char *file = rp_asprintf("%s/file", f->data);
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    const char *data = f->settings.data_dir;
    f->settings.data_dir = file;
    assert_int_equal(rp_prepare(&f->settings, &p, &e), -1);
    assert_non_null(strstr(e.message, "is not a directory"));
    f->settings.data_dir = data;

    /* a port that is taken */
    struct rp_prepared first;
    assert_int_equal(rp_prepare(&f->settings, &first, &e), 0);
    char listen_text[32];
    snprintf(listen_text, sizeof(listen_text), "127.0.0.1:%u", first.port);
    rp_close_fd(&first.lock);
    f->settings.listen = listen_text;
    assert_int_equal(rp_prepare(&f->settings, &p, &e), -1);
    assert_non_null(strstr(e.message, "Address already in use"));
    rp_prepared_done(&first);

    char longer[120];
    memset(longer, 'x', sizeof(longer));
    memcpy(longer, f->runtime, strlen(f->runtime));
    longer[strlen(f->runtime)] = '/';
    longer[sizeof(longer) - 1] = '\0';
    const char *runtime = f->settings.runtime_dir;
    f->settings.runtime_dir = longer;
    f->settings.listen = good;
    assert_int_equal(rp_prepare(&f->settings, &p, &e), -1);
    assert_non_null(strstr(e.message, "too long for a socket"));
    umount2(longer, MNT_DETACH);
    f->settings.runtime_dir = runtime;
}

static void a_new_user_gets_what_the_old_one_left(void **state)
{
    struct fixture *f = *state;
    struct rp_prepared p;
    struct rp_error e = {0};
    parse(f, "plain");
    assert_int_equal(rp_prepare(&f->settings, &p, &e), 0);
    rp_prepared_done(&p);
    _cleanup_free_ char *file = rp_asprintf("%s/gateway/repld.db", f->data);
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(chown(file, 64207, 64207), 0);
    f->settings.user_id = f->settings.group_id = 64300;
    assert_int_equal(rp_prepare(&f->settings, &p, &e), 0);
    rp_prepared_done(&p);
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_uid, 64300);
}

/* In the jail: what can still be done. Each bit that is set is something that must not be possible. */
static int jailed(struct fixture *f)
{
    struct rp_error e;
    struct rp_prepared p;
    parse(f, "plain");
    if (rp_prepare(&f->settings, &p, &e) < 0 || rp_jail_enter(&f->settings, &e) < 0 ||
        rp_drop_privileges(f->settings.user_id, f->settings.group_id, &e) < 0) {
        dprintf(STDERR_FILENO, "%s\n", e.message);
        return 128;
    }
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/run/orchestrator.sock"};
    int fd = open("/data/gateway/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    int ring = open("/run/rings/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int failures = 0;
    failures |= fd < 0 || ring < 0 || connect(s, (struct sockaddr *)&a, sizeof(a)) < 0 ||
                        access("/etc/resolv.conf", R_OK) < 0 || access("/dev/urandom", R_OK) < 0 ||
                        access("/proc/self/status", R_OK) < 0
                    ? 1
                    : 0;
    failures |= access("/root", F_OK) == 0 || access("/home", F_OK) == 0 || access("/tmp", F_OK) == 0 ? 2 : 0;
    failures |=
        open("/x", O_CREAT | O_WRONLY, 0600) >= 0 || open("/etc/x", O_CREAT | O_WRONLY, 0600) >= 0 ? 4 : 0;
    failures |= setuid(0) == 0 || mount("x", "/data", "tmpfs", 0, NULL) == 0 || chroot("/data") == 0 ? 8 : 0;
    failures |= kill(1, 0) == 0 ? 16 : 0;
    failures |=
        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_CAPBSET_READ, 0, 0, 0, 0) != 0 ? 32 : 0;
    return failures;
}

static void the_jail_leaves_only_what_the_gateway_needs(void **state)
{
    struct fixture *f = *state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(jailed(f));
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    /* none of its mounts are seen here */
    _cleanup_free_ char *inside = rp_asprintf("%s/jail/usr", f->runtime);
    assert_int_equal(access(inside, F_OK), -1);
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "serve") == 0)
        return child(argc, argv);
    rp_log_open("test", RP_LOG_ERROR, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_server_comes_up_and_ends_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(folders_have_their_owners, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_child_starts_again_and_connections_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(the_children_die_with_the_supervisor_and_it_can_start_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_deaf_child_is_killed_by_the_second_signal, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_never_comes_up_gives_up, setup, teardown),
        cmocka_unit_test_setup_teardown(two_servers_cannot_share_a_data_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_unsafe_or_impossible_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_user_gets_what_the_old_one_left, setup, teardown),
        cmocka_unit_test_setup_teardown(the_jail_leaves_only_what_the_gateway_needs, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
