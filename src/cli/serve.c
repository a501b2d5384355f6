/* serve.c: `repld serve`: the settings, and which of the server's three processes this one is. */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "api/gateway.h"
#include "base/log.h"
#include "base/settings.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/jail.h"
#include "cli/prepare.h"
#include "cli/supervisor.h"
#include "domain/stack.h"
#include "orchestrator/orchestrator.h"

static int fail(const struct rp_error *e)
{
    fprintf(stderr, "repld: %s\n", e->message);
    return 1;
}

static enum rp_log_level log_level(const char *name)
{
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    for (unsigned i = 0; i < RP_ARRAY_SIZE(levels); i++)
        if (strcmp(name, levels[i]) == 0)
            return (enum rp_log_level)i;
    return RP_LOG_INFO;
}

/* Connections, terminals and pipes of many sandboxes: more than the usual 1,024. */
static void raise_descriptor_limit(void)
{
    static const rlim_t wanted[] = {262144, 65536};
    for (size_t i = 0; i < RP_ARRAY_SIZE(wanted); i++) {
        struct rlimit l = {.rlim_cur = wanted[i], .rlim_max = wanted[i]};
        if (setrlimit(RLIMIT_NOFILE, &l) == 0)
            return;
    }
}

/* What the supervisor left open for this child goes no further. */
static void keep_to_oneself(int first, int count)
{
    for (int fd = first; fd < first + count; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void block_ending_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int run_orchestrator(struct rp_settings *s)
{
    prctl(PR_SET_NAME, "repld-orchestr");
    keep_to_oneself(RP_CHILD_LOCK, 2);
    return rp_orchestrator_main(s, RP_CHILD_ORCHESTRATOR_LISTENER);
}

static int run_gateway(struct rp_settings *s, unsigned listeners)
{
    prctl(PR_SET_NAME, "repld-gateway");
    keep_to_oneself(RP_CHILD_LOCK, (int)(2 + listeners));
    struct rp_gateway_start start = {.listener_count = listeners,
                                     .orchestrator_socket = "/run/orchestrator.sock",
                                     .ready = RP_CHILD_READY};
    for (unsigned i = 0; i < listeners; i++)
        start.listeners[i] = RP_CHILD_TCP + (int)i;
    struct rp_error e;
    pid_t parent = getppid();
    if (rp_stacks_load(s->stacks_dir, &start.stacks, &e) < 0 || rp_jail_enter(s, &e) < 0 ||
        rp_drop_privileges(s->user_id, s->group_id, &e) < 0)
        return fail(&e);
    /* A change of identity forgets it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
        return 1;
    return rp_gateway_main(s, &start);
}

static int run_child(int argc, char **argv)
{
    bool gateway = strcmp(argv[1], RP_ROLE_GATEWAY) == 0;
    uint64_t listeners;
    if (argc < 3 || strncmp(argv[2], "--listeners=", 12) != 0 ||
        !rp_str_to_u64(rp_str_of(argv[2] + 12), RP_LISTENERS_MAX, &listeners)) {
        fprintf(stderr, "repld: %s is for the server's own use\n", argv[1]);
        return 2;
    }
    struct rp_settings s;
    struct rp_error e;
    if (rp_settings_parse(argc - 3, argv + 3, &s, &e) < 0)
        return fail(&e);
    rp_log_open(gateway ? "gateway" : "orchestrator", log_level(s.log_level), s.log_json);
    block_ending_signals();
    mallopt(M_ARENA_MAX, 2); /* a heap for each worker thread would only hold on to memory */
    int status = gateway ? run_gateway(&s, (unsigned)listeners) : run_orchestrator(&s);
    rp_settings_done(&s);
    return status;
}

/* Descriptors 0, 1 and 2 are open, and standard input says nothing. */
static int standard_descriptors(struct rp_error *err)
{
    int fd;
    do
        if ((fd = open("/dev/null", O_RDWR)) < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"/dev/null\"");
    while (fd <= STDERR_FILENO);
    if (dup2(fd, STDIN_FILENO) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "dup2");
    close(fd);
    return 0;
}

static int run_supervisor(int argc, char **argv)
{
    struct rp_settings s;
    struct rp_error e;
    if (rp_settings_parse(argc - 1, argv + 1, &s, &e) < 0) {
        fprintf(stderr, "repld: %s; see repld serve --help\n", e.message);
        return 2;
    }
    int status = 1;
    struct rp_prepared prepared;
    rp_log_open("supervisor", log_level(s.log_level), s.log_json);
    umask(022);
    if (geteuid() != 0)
        rp_error_set(
            &e, RP_ERROR_FORBIDDEN,
            "must be started as root: it makes namespaces, mounts and cgroups, and gives up root where "
            "requests are served");
    else if (standard_descriptors(&e) == 0 && rp_prepare(&s, &prepared, &e) == 0)
        status = 0;
    if (status) {
        fail(&e);
    } else {
        raise_descriptor_limit();
        rp_log(RP_LOG_INFO, "listening on loopback only, since there are no accounts yet", "listen", s.listen,
               "data", s.data_dir, NULL);
        status = rp_supervisor_run(&s, &prepared);
        rp_prepared_done(&prepared);
    }
    rp_settings_done(&s);
    return status;
}

int rp_cli_serve(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "--help-markdown") == 0) {
        rp_settings_print_markdown(stdout);
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            printf("repld serve: serve projects over HTTP\n\nSettings, as a flag or a variable:\n");
            rp_settings_print_help(stdout);
            return 0;
        }
    }
    if (argc >= 2 && (strcmp(argv[1], RP_ROLE_GATEWAY) == 0 || strcmp(argv[1], RP_ROLE_ORCHESTRATOR) == 0))
        return run_child(argc, argv);
    return run_supervisor(argc, argv);
}
