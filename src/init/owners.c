/*
 * Which process listens on a port: the sockets in /proc/PID/fd, read by a short-lived helper with the user's
 * file rights inside the user's cgroup (its time is theirs). init ends it after half a second.
 */
#include <ctype.h>
#include <fcntl.h>

#include "init/init.h"

struct owner {
    uint32_t pid;
    char command[64];
};

/* The command line with its NULs as spaces, else the name. */
static void read_command(int process, char ret[static 64])
{
    static const char *const files[] = {"cmdline", "comm"};
    for (size_t f = 0; f < RP_ARRAY_SIZE(files); f++) {
        _cleanup_close_ int fd = openat(process, files[f], O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, ret, 63);
        if (n <= 0)
            continue;
        while (n > 0 && (ret[n - 1] == '\0' || ret[n - 1] == '\n'))
            n--;
        for (ssize_t i = 0; i < n; i++)
            if (iscntrl((unsigned char)ret[i]))
                ret[i] = ' ';
        ret[n] = '\0';
        if (n)
            return;
    }
}

static void look_into(int process, uint32_t pid, const struct rp_init_listener *list, uint32_t count,
                      struct owner *owners)
{
    int fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return;
    struct dirent *e;
    while ((e = readdir(dir))) {
        char target[64];
        ssize_t n = readlinkat(fd, e->d_name, target, sizeof(target) - 1);
        if (n < 9 || memcmp(target, "socket:[", 8) != 0)
            continue;
        target[n] = '\0';
        unsigned long inode = strtoul(target + 8, NULL, 10);
        for (uint32_t i = 0; i < count; i++) {
            if (list[i].inode != inode || owners[i].pid)
                continue;
            owners[i].pid = pid;
            read_command(process, owners[i].command);
        }
    }
}

void rp_init_owners_scan(const struct rp_init_listener *list, uint32_t count, int out)
{
    struct owner owners[RP_INIT_PORTS_MAX] = {0};
    _cleanup_dir_ DIR *proc = opendir("/proc");
    struct dirent *e;
    while (proc && (e = readdir(proc))) {
        char *end;
        unsigned long pid = strtoul(e->d_name, &end, 10);
        if (*end || end == e->d_name || pid < 2)
            continue;
        _cleanup_close_ int process = openat(dirfd(proc), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (process >= 0)
            look_into(process, (uint32_t)pid, list, count, owners);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t item[4 + 64];
        memcpy(item, &owners[i].pid, 4);
        memcpy(item + 4, owners[i].command, 64);
        if (write(out, item, sizeof(item)) != sizeof(item))
            return;
    }
}
