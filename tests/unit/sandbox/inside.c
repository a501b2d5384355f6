/*
 * What the driver's tests run in a sandbox: a static program, so that a layer with nothing else in it will
 * do. `inside WHAT…` prints lines "name value"; values are errno names ("ok" for none) or text.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWNS
#define CLONE_NEWNS 0x20000
#endif

static void tell(const char *name, long r)
{
    if (r >= 0)
        printf("%s ok\n", name);
    else
        printf("%s %s\n", name,
               errno == EPERM    ? "EPERM"
               : errno == EACCES ? "EACCES"
               : errno == ENOSYS ? "ENOSYS"
               : errno == EROFS  ? "EROFS"
               : errno == ENOSPC ? "ENOSPC"
               : errno == ENOENT ? "ENOENT"
               : errno == ESRCH  ? "ESRCH"
               : errno == EINVAL ? "EINVAL"
               : errno == EAGAIN ? "EAGAIN"
               : errno == EXDEV  ? "EXDEV"
               : errno == EDQUOT ? "EDQUOT"
                                 : strerror(errno));
}

static int try_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd >= 0)
        close(fd);
    return fd;
}

/* Each must be refused. */
static void confined(void)
{
    char buffer[4096];
    tell("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    tell("umount2", umount2("/proc", MNT_DETACH));
    tell("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    tell("move_mount", syscall(SYS_move_mount, -1, "", -1, "", 0));
    tell("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    tell("fsconfig", syscall(SYS_fsconfig, -1, 0, NULL, NULL, 0));
    tell("fsmount", syscall(SYS_fsmount, -1, 0, 0));
    tell("fspick", syscall(SYS_fspick, AT_FDCWD, "/", 0));
    tell("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, NULL, 0));
    tell("pivot_root", syscall(SYS_pivot_root, ".", "."));
    tell("chroot", chroot("/"));
    static const struct {
        const char *name;
        unsigned long flag;
    } namespaces[] = {{"user", 0x10000000}, {"mount", 0x20000},  {"pid", 0x20000000},   {"net", 0x40000000},
                      {"ipc", 0x08000000},  {"uts", 0x04000000}, {"cgroup", 0x02000000}};
    for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
        char name[32];
        snprintf(name, sizeof(name), "unshare-%s", namespaces[i].name);
        tell(name, syscall(SYS_unshare, namespaces[i].flag));
        snprintf(name, sizeof(name), "clone-%s", namespaces[i].name);
        long pid = syscall(SYS_clone, namespaces[i].flag | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
            _exit(0);
        tell(name, pid);
    }
    tell("clone3", syscall(SYS_clone3, NULL, 0));
    tell("setns", syscall(SYS_setns, 0, 0));
    tell("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
    tell("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    tell("request_key", syscall(SYS_request_key, "user", "x", NULL, 0));
    tell("io_uring_setup", syscall(SYS_io_uring_setup, 8, buffer));
    tell("io_uring_enter", syscall(SYS_io_uring_enter, 0, 0, 0, 0, NULL, 0));
    tell("io_uring_register", syscall(SYS_io_uring_register, 0, 0, NULL, 0));
    tell("bpf", syscall(SYS_bpf, 0, NULL, 0));
    tell("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
    tell("userfaultfd", syscall(SYS_userfaultfd, 0));
    tell("init_module", syscall(SYS_init_module, NULL, 0, ""));
    tell("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    tell("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, 0));
    tell("netlink-audit", socket(16, SOCK_RAW, 9));
    tell("sethostname", sethostname("x", 1));
    tell("settimeofday", syscall(SYS_settimeofday, NULL, NULL));
    tell("mknod", mknod("/tmp/disk", S_IFBLK | 0600, 0x700));
    tell("setuid", setuid(0));
    tell("ptrace-init", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
    tell("kill-init", kill(1, SIGKILL));
    tell("init-mem", try_open("/proc/1/mem", O_RDWR));
    tell("init-environ", try_open("/proc/1/environ", O_RDONLY));
    tell("init-root", try_open("/proc/1/root/", O_RDONLY));
    tell("init-fd", try_open("/proc/1/fd/3", O_RDONLY));
    tell("write-sysctl", try_open("/proc/sys/kernel/panic", O_WRONLY));
    tell("write-sysrq", try_open("/proc/sysrq-trigger", O_WRONLY));
    tell("write-userns-limit", try_open("/proc/sys/user/max_user_namespaces", O_WRONLY));
    tell("write-sysfs", try_open("/sys/kernel/uevent_seqnum", O_WRONLY));
    tell("write-root", try_open("/file", O_WRONLY | O_CREAT));
    tell("write-etc", try_open("/etc/hosts", O_WRONLY));
    tell("write-dev", try_open("/dev/file", O_WRONLY | O_CREAT));
    tell("old-root", try_open("/newroot", O_RDONLY));
    tell("cgroupfs", try_open("/sys/fs/cgroup/cgroup.procs", O_RDONLY));
}

static void *in_thread(void *arg)
{
    *(int *)arg = 1;
    return NULL;
}

/* Each must work. */
static void ordinary(void)
{
    char buffer[64];
    pthread_t t;
    int ran = 0, pair[2], status;
    tell("thread",
         pthread_create(&t, NULL, in_thread, &ran) == 0 && pthread_join(t, NULL) == 0 && ran ? 0 : -1);
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    tell("fork", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7 ? 0 : -1);
    tell("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    tell("tcp", socket(AF_INET, SOCK_STREAM, 0));
    tell("netlink", socket(16, SOCK_RAW, 0));
    tell("mmap",
         mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
    tell("memfd", (long)syscall(SYS_memfd_create, "x", 0));
    int ptmx = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    tell("ptmx", ptmx);
    tell("grantpt", ptmx < 0 ? -1 : unlockpt(ptmx));
    tell("write-app", try_open("/home/runner/app/new", O_WRONLY | O_CREAT));
    tell("write-home", try_open("/home/runner/new", O_WRONLY | O_CREAT));
    tell("write-tmp", try_open("/tmp/new", O_WRONLY | O_CREAT));
    tell("write-shm", try_open("/dev/shm/new", O_WRONLY | O_CREAT));
    tell("write-null", try_open("/dev/null", O_WRONLY));
    tell("random", try_open("/dev/urandom", O_RDONLY));
    tell("meminfo", try_open("/proc/meminfo", O_RDONLY));
    tell("sysfs-cpus", try_open("/sys/devices/system/cpu/online", O_RDONLY));
    tell("resolv.conf", try_open("/etc/resolv.conf", O_RDONLY));
    tell("rename-lower-directory", rename("/home/runner/lower", "/home/runner/renamed"));
    pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        _exit(0);
    }
    tell("debug-own", waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) ? 0 : -1);
    kill(pid, SIGKILL);
    printf("hostname %s\n", gethostname(buffer, sizeof(buffer)) == 0 ? buffer : "?");
    printf("uid %d\n", (int)getuid());
    printf("gid %d\n", (int)getgid());
    printf("cwd %s\n", getcwd(buffer, sizeof(buffer)) ? buffer : "?");
}

static void print_file(const char *path)
{
    char line[1024];
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        fputs(line, stdout);
    if (f)
        fclose(f);
}

static void eat(void)
{
    for (;;) {
        char *p = malloc(1 << 20);
        if (p)
            memset(p, 1, 1 << 20);
    }
}

static void fork_bomb(void)
{
    signal(SIGCHLD, SIG_IGN);
    for (;;)
        (void)!fork();
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "echo") == 0)
        puts(argc > 2 ? argv[2] : "");
    else if (strcmp(what, "confined") == 0)
        confined();
    else if (strcmp(what, "ordinary") == 0)
        ordinary();
    else if (strcmp(what, "status") == 0)
        print_file("/proc/self/status");
    else if (strcmp(what, "cat") == 0 && argc > 2)
        print_file(argv[2]);
    else if (strcmp(what, "eat") == 0)
        eat();
    else if (strcmp(what, "fork-bomb") == 0)
        fork_bomb();
    else if (strcmp(what, "sleep") == 0)
        pause();
    else if (strcmp(what, "put") == 0 && argc > 3) {
        FILE *f = fopen(argv[2], "w");
        tell("put", f && fputs(argv[3], f) >= 0 && fclose(f) == 0 ? 0 : -1);
    } else
        return 64;
    return fflush(stdout) ? 1 : 0;
}
