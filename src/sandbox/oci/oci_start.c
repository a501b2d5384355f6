/* Makes an empty sandbox: directory, cgroups, socket, configuration, and the runtime's `run`. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "proto/init.h"
#include "sandbox/oci/config.h"
#include "sandbox/oci/oci_internal.h"
#include "sandbox/oci/record.h"

#define HOSTNAME "repld"

int rp_oci_open_dir(struct rp_oci *o, const char *id, struct rp_error *err)
{
    int fd = openat(o->sandboxes_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return rp_error_errno(err, errno == ENOENT ? RP_ERROR_NOT_FOUND : RP_ERROR_INTERNAL, errno,
                              "open the directory of the sandbox %s", id);
    return fd;
}

/* Bound by way of the directory's descriptor: a socket's name has room for 107 bytes only. */
static int listen_in(int dir, struct rp_error *err)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/init.sock", dir);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, RP_INIT_CONNECTIONS_MAX) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "listen on the sandbox's socket");
    return RP_STEAL_FD(fd);
}

static int write_config(struct rp_oci *o, int dir, const char *id, const char *netns, uint32_t uid_base,
                        struct rp_error *err)
{
    char cgroup[256];
    bool crun = o->runtime.kind == RP_RUNTIME_CRUN;
    rp_cgroup_oci_path(o->cgroups, id, cgroup, sizeof(cgroup));
    struct rp_oci_config config = {.root = o->tiny_root,
                                   .hostname = HOSTNAME,
                                   .cgroup_path = crun ? NULL : cgroup,
                                   .netns = netns,
                                   .uid_base = uid_base,
                                   .files_max = o->files_max};
    if (crun)
        config.seccomp_bpf_base64 = rp_buf_view(&o->seccomp);
    else
        config.seccomp_json = rp_buf_view(&o->seccomp);
    _cleanup_(rp_buf_done) struct rp_buf json;
    rp_buf_init(&json, RP_OCI_CONFIG_MAX);
    if (rp_oci_config_write(&config, &json, err) < 0 || !rp_buf_append(&json, "", 1))
        return -1;
    return rp_oci_file_write(dir, "config.json", rp_buf_view(&json).p, err);
}

static void close_all(int *fds, int count)
{
    for (int i = 0; i < count; i++)
        rp_close_fd(&fds[i]);
}

static int run(struct rp_oci *o, int dir, const char *id, int listener, struct rp_error *err)
{
    char bundle[PATH_MAX], pid_file[PATH_MAX], log[PATH_MAX];
    snprintf(bundle, sizeof(bundle), "%s/%s", o->sandboxes, id);
    if (snprintf(pid_file, sizeof(pid_file), "%s/%s/pid", o->sandboxes, id) >= (int)sizeof(pid_file) ||
        snprintf(log, sizeof(log), "%s/%s/log", o->sandboxes, id) >= (int)sizeof(log))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is too long", o->sandboxes);
    int procs[RP_CGROUP_HIERARCHIES_MAX];
    _cleanup_close_ int directory = -1;
    int count = rp_cgroup_open_start(o->cgroups, id, RP_CGROUP_INIT, procs, &directory, err);
    if (count < 0)
        return -1;
    struct rp_runtime_run r = {.id = id,
                               .bundle = bundle,
                               .pid_file = pid_file,
                               .log = log,
                               .listener = listener,
                               .cgroup_procs = procs,
                               .cgroup_count = count,
                               .cgroup_directory = directory};
    int result = rp_runtime_run(&o->runtime, &r, err);
    close_all(procs, count);
    return result;
}

/* The last to be killed when the host has no memory left; what init starts puts itself back. */
static void protect(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, "-900", 4);
}

int rp_oci_start(struct rp_oci *o, const char *id, const char *netns, uint32_t uid_base, struct rp_error *err)
{
    if (mkdirat(o->sandboxes_fd, id, 0700) < 0)
        return rp_error_errno(err, errno == EEXIST ? RP_ERROR_EXISTS : RP_ERROR_INTERNAL, errno,
                              "make the directory of the sandbox %s", id);
    _cleanup_close_ int dir = rp_oci_open_dir(o, id, err);
    if (dir < 0)
        return -1;
    _cleanup_close_ int listener = listen_in(dir, err);
    if (listener < 0 || rp_cgroup_create(o->cgroups, id, err) < 0 ||
        write_config(o, dir, id, netns, uid_base, err) < 0 || run(o, dir, id, listener, err) < 0)
        return -1;
    struct rp_oci_init init;
    if (rp_oci_init_record(dir, "pid", &init, err) < 0)
        return -1;
    protect(init.pid);
    rp_close_fd(
        &listener); /* init's is the only one now: should it end, connecting fails and does not wait */
    struct rp_error why = {0};
    if (rp_oci_await_init(dir, id, &why) < 0) {
        char said[256] = "";
        (void)!rp_oci_file_read(dir, "log", said, sizeof(said), NULL);
        said[strcspn(said, "\n")] = '\0';
        return rp_error_set(err, RP_ERROR_SANDBOX, "the sandbox's init does not answer (%s)%s%s", why.message,
                            *said ? "; it said: " : "", said);
    }
    /* Memory of the host, for as long as the sandbox lives: the runtime has its own copy of what it needs. */
    (void)unlinkat(dir, "config.json", 0);
    (void)unlinkat(dir, "pid", 0);
    return 0;
}
