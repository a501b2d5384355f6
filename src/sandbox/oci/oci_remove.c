/* Takes a sandbox away, whole or half made: whatever step of its making was the last. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "sandbox/oci/oci_internal.h"
#include "sandbox/oci/record.h"

enum { END_TIMEOUT_MS = 10000 };

/* Its files are ours alone and flat: users never reach this directory. */
static int remove_dir(struct rp_oci *o, const char *id, int dir_fd, struct rp_error *err)
{
    int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "read the directory of the sandbox %s", id);
    struct dirent *e;
    while ((e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlinkat(dir_fd, e->d_name, 0) < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "remove \"%s\" of the sandbox %s", e->d_name,
                                  id);
    if (unlinkat(o->sandboxes_fd, id, AT_REMOVEDIR) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "remove the directory of the sandbox %s", id);
    return 0;
}

/* The end of its init ends everything in its pid namespace. */
static int end_init(struct rp_oci *o, const char *id, int dir, struct rp_error *err)
{
    struct rp_error why = {0};
    _cleanup_close_ int pidfd = rp_oci_init_open(dir, id, o->cgroups, NULL, &why);
    if (pidfd < 0) {
        if (why.code == RP_ERROR_NOT_RUNNING)
            return 0;
        if (err)
            *err = why;
        return -1;
    }
    (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int n;
    do
        n = poll(&p, 1, END_TIMEOUT_MS);
    while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : rp_error_set(err, RP_ERROR_TIMEOUT, "the sandbox %s does not end after SIGKILL", id);
}

int rp_oci_remove(struct rp_oci *o, const char *id, struct rp_error *err)
{
    struct rp_error why = {0};
    _cleanup_close_ int dir = rp_oci_open_dir(o, id, &why);
    if (dir < 0 && why.code != RP_ERROR_NOT_FOUND) {
        if (err)
            *err = why;
        return -1;
    }
    rp_bursts_forget(o->bursts, id, -1);
    if (dir >= 0 && end_init(o, id, dir, err) < 0)
        return -1;
    /* Before the runtime's own `delete`: what has ended already costs it no waiting. */
    if (rp_cgroup_kill(o->cgroups, id, RP_CGROUP_WHOLE, err) < 0 ||
        rp_runtime_delete(&o->runtime, id, err) < 0 ||
        rp_cgroup_remove(o->cgroups, id, RP_CGROUP_WHOLE, err) < 0)
        return -1;
    return dir >= 0 ? remove_dir(o, id, dir, err) : 0;
}
