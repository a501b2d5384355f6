#include "harness.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/init.h"

static void must(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

static struct sockaddr_un address_of(const struct rp_harness *h, socklen_t *ret_length)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path + 1, h->socket_name, strlen(h->socket_name)); /* abstract: nothing to clean up */
    *ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(h->socket_name));
    return a;
}

static void loopback_up(void)
{
    struct ifreq r = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(r.ifr_name, "lo", 3);
    must(ioctl(fd, SIOCGIFFLAGS, &r) == 0, "lo");
    r.ifr_flags |= IFF_UP;
    must(ioctl(fd, SIOCSIFFLAGS, &r) == 0, "lo up");
    close(fd);
}

static void make_root(void)
{
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mount private");
    must(mount("proc", "/proc", "proc", 0, NULL) == 0, "mount /proc");
    must(mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620") == 0,
         "mount /dev/pts");
    must(mount("/dev/pts/ptmx", "/dev/ptmx", NULL, MS_BIND, NULL) == 0, "bind /dev/ptmx");
    must(mount("tmpfs", "/home", "tmpfs", 0, "size=64m") == 0, "mount /home");
    must(mount("tmpfs", "/tmp", "tmpfs", 0, "size=64m,mode=1777") == 0, "mount /tmp");
    must(mkdir(RP_INIT_HOME, 0755) == 0 && mkdir(RP_INIT_APP, 0755) == 0, RP_INIT_APP);
    must(chown(RP_INIT_HOME, RP_INIT_USER_UID, RP_INIT_USER_UID) == 0, "chown");
    must(chown(RP_INIT_APP, RP_INIT_USER_UID, RP_INIT_USER_UID) == 0, "chown");
    loopback_up();
}

void rp_harness_start(struct rp_harness *h)
{
    static unsigned count;
    const char *program = getenv("REPLD_INIT");
    must(program != NULL, "REPLD_INIT");
    snprintf(h->socket_name, sizeof(h->socket_name), "repld-test-runner-%d-%u", getpid(), count++);
    int program_fd = open(program, O_PATH | O_CLOEXEC); /* /tmp and /home are about to be covered */
    must(program_fd >= 0, program);
    int low = program_fd; /* 3 is the listener's */
    program_fd = fcntl(low, F_DUPFD_CLOEXEC, 10);
    close(low);
    socklen_t length;
    struct sockaddr_un a = address_of(h, &length);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    must(bind(listener, (struct sockaddr *)&a, length) == 0 && listen(listener, 8) == 0, "listen");

    int report[2];
    must(pipe2(report, O_CLOEXEC) == 0, "pipe");
    pid_t middle = fork();
    must(middle >= 0, "fork");
    if (middle == 0) {
        must(unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0,
             "unshare");
        pid_t init = fork();
        if (init) {
            must(write(report[1], &init, sizeof(init)) == sizeof(init), "report");
            _exit(0);
        }
        prctl(PR_SET_PDEATHSIG, 0);
        make_root();
        must(dup2(listener, RP_INIT_LISTENER_FD) == RP_INIT_LISTENER_FD, "dup2");
        fcntl(RP_INIT_LISTENER_FD, F_SETFD, 0); /* also where it was that number before */
        char name[] = "repld-init", *const argv[] = {name, NULL}, *const env[] = {NULL};
        fexecve(program_fd, argv, env);
        must(0, "exec");
    }
    must(read(report[0], &h->init, sizeof(h->init)) == sizeof(h->init), "start");
    waitpid(middle, NULL, 0);
    close(report[0]);
    close(report[1]);
    close(listener);
    close(program_fd);
}

int rp_harness_connect(const struct rp_harness *h)
{
    socklen_t length;
    struct sockaddr_un a = address_of(h, &length);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    must(connect(fd, (struct sockaddr *)&a, length) == 0, "connect");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

void rp_harness_stop(struct rp_harness *h)
{
    if (h->init > 0)
        kill(h->init, SIGKILL);
    for (int i = 0; i < 500 && kill(h->init, 0) == 0; i++)
        usleep(10000);
    h->init = 0;
}
