#include "sandbox/oci/record.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

int rp_oci_file_write(int dir, const char *name, const char *text, struct rp_error *err)
{
    char temporary[64];
    snprintf(temporary, sizeof(temporary), ".%s", name);
    _cleanup_close_ int fd =
        openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    size_t n = strlen(text);
    if (fd < 0 || write(fd, text, n) != (ssize_t)n || renameat(dir, temporary, dir, name) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "write the sandbox's \"%s\"", name);
    return 0;
}

int rp_oci_file_read(int dir, const char *name, char *ret, size_t cap, struct rp_error *err)
{
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return rp_error_errno(err, errno == ENOENT ? RP_ERROR_NOT_FOUND : RP_ERROR_INTERNAL, errno,
                              "open the sandbox's \"%s\"", name);
    ssize_t n = read(fd, ret, cap - 1);
    if (n < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "read the sandbox's \"%s\"", name);
    ret[n] = '\0';
    return 0;
}

/* State and start time of a process; -1 when there is none. */
static int read_stat(pid_t pid, char *ret_state, uint64_t *ret_started)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    char *at = strrchr(text, ')'); /* the name before it may hold anything */
    if (!at || at[1] != ' ')
        return -1;
    at += 2;
    *ret_state = *at;
    for (int field = 3; field < 22; field++) {
        at = strchr(at, ' ');
        if (!at++)
            return -1;
    }
    *ret_started = strtoull(at, NULL, 10);
    return 0;
}

int rp_oci_init_record(int dir, const char *pid_file, struct rp_oci_init *ret, struct rp_error *err)
{
    char text[64], state;
    struct rp_oci_init init;
    if (rp_oci_file_read(dir, pid_file, text, sizeof(text), err) < 0)
        return -1;
    long pid = strtol(text, NULL, 10);
    if (pid <= 1 || pid > INT32_MAX)
        return rp_error_set(err, RP_ERROR_RUNTIME, "the OCI runtime gave no process id");
    init.pid = (pid_t)pid;
    if (read_stat(init.pid, &state, &init.started) < 0 || state == 'Z' || state == 'X')
        return rp_error_set(err, RP_ERROR_SANDBOX, "the sandbox's init ended at once");
    snprintf(text, sizeof(text), "%ld %" PRIu64 "\n", pid, init.started);
    if (rp_oci_file_write(dir, "init", text, err) < 0)
        return -1;
    *ret = init;
    return 0;
}

int rp_oci_init_open(int dir, const char *id, struct rp_cgroups *cgroups, struct rp_oci_init *ret,
                     struct rp_error *err)
{
    struct rp_oci_init init;
    char text[64], *rest, state;
    uint64_t started;
    struct rp_error why = {0};
    if (rp_oci_file_read(dir, "init", text, sizeof(text), &why) < 0) {
        if (err)
            *err = why;
        if (why.code == RP_ERROR_NOT_FOUND)
            return rp_error_set(err, RP_ERROR_NOT_RUNNING, "the sandbox %s has not started", id);
        return -1;
    }
    init.pid = (pid_t)strtol(text, &rest, 10);
    init.started = strtoull(rest, NULL, 10);
    if (init.pid <= 1)
        return rp_error_set(err, RP_ERROR_INTERNAL, "the record of the sandbox %s is damaged", id);

    /* First the descriptor, then the questions: what they tell is about the process that it names. */
    _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, init.pid, 0);
    if (fd < 0 && errno != ESRCH)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "pidfd of process %d", (int)init.pid);
    if (fd < 0 || read_stat(init.pid, &state, &started) < 0 || started != init.started || state == 'Z' ||
        state == 'X' || !rp_cgroup_holds(cgroups, id, init.pid))
        return rp_error_set(err, RP_ERROR_NOT_RUNNING, "the sandbox %s has ended", id);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 0) != 0)
        return rp_error_set(err, RP_ERROR_NOT_RUNNING, "the sandbox %s has ended", id);
    if (ret)
        *ret = init;
    return RP_STEAL_FD(fd);
}
