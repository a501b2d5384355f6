/*
 * The TCP ports that the sandbox listens on, while someone watches. sock_diag(7) gives the listening sockets
 * alone; where it is not there (gVisor), /proc/net/tcp does. Who owns them is looked up by a forked helper
 * (owners.c) with the user's rights, since reading another process can be made to hang.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <signal.h>
#include <sys/socket.h>

#include "init/init.h"

enum {
    TCP_LISTEN_STATE = 10,
    ENTRIES_MAX = 4096, /* looked at in one scan: a program may open any number */
    SCAN_TIMEOUT_MS = 500,
};

/* Random ports on loopback are how language servers, test runners and debuggers talk to themselves; Docker's
 * resolver is the engine's. Neither is something to preview. */
static bool internal(const struct rp_init_listener *l)
{
    static const uint8_t v6[16] = {[15] = 1}, docker[4] = {127, 0, 0, 11};
    bool loopback = l->family == 4 ? l->address[0] == 127 : memcmp(l->address, v6, 16) == 0;
    if (l->family == 4 && memcmp(l->address, docker, 4) == 0)
        return true;
    return loopback && l->port >= 32768 && l->port <= 60999;
}

static uint32_t add(struct rp_init_listener *ret, uint32_t count, uint32_t max,
                    const struct rp_init_listener *l)
{
    if (count == max || !l->port || internal(l))
        return count;
    for (uint32_t i = 0; i < count; i++) /* SO_REUSEPORT */
        if (ret[i].family == l->family && ret[i].port == l->port && !memcmp(ret[i].address, l->address, 16))
            return count;
    ret[count] = *l;
    return count + 1;
}

/* ---- sock_diag ---- */

static int ask(int fd, uint8_t family)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } m = {.header = {.nlmsg_len = sizeof(m),
                      .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                      .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
           .request = {
               .sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = 1 << TCP_LISTEN_STATE}};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    return sendto(fd, &m, sizeof(m), 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0 ? -errno : 0;
}

static int read_family(uint8_t family, struct rp_init_listener *ret, uint32_t *count, uint32_t max)
{
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
    if (fd < 0)
        return -errno;
    int r = ask(fd, family);
    if (r < 0)
        return r;
    for (unsigned seen = 0; seen < ENTRIES_MAX;) {
        _Alignas(struct nlmsghdr) uint8_t bytes[16384];
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        struct nlmsghdr *h = (struct nlmsghdr *)bytes;
        for (size_t left = (size_t)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (h->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *e = NLMSG_DATA(h);
                return e->error ?: -EPROTO;
            }
            if (h->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
                return -EPROTO;
            const struct inet_diag_msg *d = NLMSG_DATA(h);
            struct rp_init_listener l = {.family = family == AF_INET ? 4 : 6,
                                         .port = ntohs(d->id.idiag_sport),
                                         .inode = d->idiag_inode};
            memcpy(l.address, d->id.idiag_src, l.family == 4 ? 4 : 16);
            *count = add(ret, *count, max, &l);
            seen++;
        }
    }
    return 0;
}

/* ---- /proc/net/tcp, tcp6 ---- */

/* "sl local_address remote_address st tx:rx tr:when retrnsmt uid timeout inode": addresses are words of host
 * order in hexadecimal. */
static bool parse_line(const char *line, uint8_t family, struct rp_init_listener *ret)
{
    char address[40];
    unsigned port, state;
    unsigned long inode;
    if (sscanf(line, " %*u: %39[0-9A-F]:%x %*[0-9A-F]:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %lu", address, &port,
               &state, &inode) != 4 ||
        state != TCP_LISTEN_STATE || port > 65535 || strlen(address) != (family == 4 ? 8u : 32u))
        return false;
    *ret = (struct rp_init_listener){.family = family, .port = (uint16_t)port, .inode = (uint32_t)inode};
    for (unsigned w = 0; w < (family == 4 ? 1u : 4u); w++) {
        char word[9] = {0};
        memcpy(word, address + w * 8, 8);
        uint32_t v = (uint32_t)strtoul(word, NULL, 16);
        memcpy(ret->address + w * 4, &v, 4);
    }
    return true;
}

static int read_proc(const char *path, uint8_t family, struct rp_init_listener *ret, uint32_t *count,
                     uint32_t max)
{
    _cleanup_file_ FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    char line[512];
    for (unsigned seen = 0; seen < ENTRIES_MAX && fgets(line, sizeof(line), f); seen++) {
        struct rp_init_listener l;
        if (parse_line(line, family, &l))
            *count = add(ret, *count, max, &l);
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct rp_init_listener *x = a, *y = b;
    if (x->port != y->port)
        return x->port < y->port ? -1 : 1;
    if (x->family != y->family)
        return x->family < y->family ? -1 : 1;
    return memcmp(x->address, y->address, 16);
}

int rp_init_ports_read(struct rp_init_listener *ret, uint32_t max)
{
    uint32_t count = 0;
    int r = read_family(AF_INET, ret, &count, max);
    if (r < 0) {
        count = 0;
        r = read_proc("/proc/net/tcp", 4, ret, &count, max);
        (void)read_proc("/proc/net/tcp6", 6, ret, &count, max); /* IPv6 may be off */
        if (r < 0)
            return r;
    } else {
        (void)read_family(AF_INET6, ret, &count, max);
    }
    qsort(ret, count, sizeof(*ret), compare);
    return (int)count;
}

/* ---- watching ---- */

static void tell(struct rp_init *init)
{
    enum { ENTRY_SIZE = 1 + 16 + 2 + 4 + 4 + 63 };
    uint8_t bytes[RP_WIRE_HEADER_SIZE + 4 + RP_INIT_PORTS_MAX * ENTRY_SIZE];
    _Static_assert(sizeof(bytes) <= RP_WIRE_MESSAGE_MAX, "one message");
    struct rp_init_ports *p = &init->ports;
    struct rp_wire_writer w = rp_wire_begin(bytes, sizeof(bytes), RP_INIT_PORTS, 0, 0);
    rp_wire_put_u32(&w, p->count);
    for (uint32_t i = 0; i < p->count; i++) {
        const struct rp_init_listener *l = &p->list[i];
        rp_wire_put_u8(&w, l->family);
        rp_wire_put(&w, l->address, 16);
        rp_wire_put_u16(&w, l->port);
        rp_wire_put_u32(&w, l->pid);
        rp_wire_put_str(&w, rp_str_of(l->command));
    }
    rp_init_broadcast(init, &w);
}

static void stop_scanner(struct rp_init *init)
{
    rp_init_close(init, &init->ports.scanner);
    if (init->ports.scanner_pid > 0)
        (void)kill(init->ports.scanner_pid, SIGKILL);
}

/* What the scanner wrote: for each listener in order u32 pid and 64 bytes of command. */
static void scanned(struct rp_init *init)
{
    struct rp_init_ports *p = &init->ports;
    enum { ITEM = 4 + 64 };
    for (uint32_t i = 0; i < p->count && (i + 1) * ITEM <= p->result_length; i++) {
        memcpy(&p->list[i].pid, p->result + i * ITEM, 4);
        memcpy(p->list[i].command, p->result + i * ITEM + 4, 63);
        p->list[i].command[63] = '\0';
    }
    stop_scanner(init);
    tell(init);
}

static void on_scanner(struct rp_init *init, struct rp_init_source *source, uint32_t events)
{
    struct rp_init_ports *p = &init->ports;
    ssize_t n = read(p->scanner, p->result + p->result_length, sizeof(p->result) - p->result_length);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0)
        p->result_length += (size_t)n;
    else
        scanned(init);
}

/* Starts the lookup of the owners; false when the list goes out without them. */
static bool scan_owners(struct rp_init *init, uint64_t now)
{
    struct rp_init_ports *p = &init->ports;
    int pipe[2];
    stop_scanner(init);
    if (!p->count || pipe2(pipe, O_CLOEXEC) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        if (rp_init_become_helper(init, &pipe[1], "repld-ports") == 0)
            rp_init_owners_scan(p->list, p->count, pipe[1]);
        _exit(0);
    }
    close(pipe[1]);
    p->source.ready = on_scanner;
    if (pid < 0 || fcntl(pipe[0], F_SETFL, O_NONBLOCK) < 0 ||
        rp_init_add(init, pipe[0], EPOLLIN, &p->source)) {
        close(pipe[0]);
        return false;
    }
    p->scanner = pipe[0];
    p->scanner_pid = pid;
    p->scanner_deadline_ms = now + SCAN_TIMEOUT_MS;
    p->result_length = 0;
    return true;
}

static void look(struct rp_init *init, uint64_t now)
{
    struct rp_init_ports *p = &init->ports;
    struct rp_init_listener found[RP_INIT_PORTS_MAX];
    memset(found, 0, sizeof(found));
    int count = rp_init_ports_read(found, RP_INIT_PORTS_MAX);
    if (count < 0)
        count = 0;
    bool same = (uint32_t)count == p->count;
    for (int i = 0; same && i < count; i++)
        same = compare(&found[i], &p->list[i]) == 0 && found[i].inode == p->list[i].inode;
    if (same && !p->force)
        return;
    p->force = false;
    p->count = (uint32_t)count;
    memcpy(p->list, found, sizeof(found[0]) * (size_t)count);
    if (!scan_owners(init, now))
        tell(init);
}

void rp_init_ports_watch(struct rp_init *init, uint32_t interval_ms)
{
    struct rp_init_ports *p = &init->ports;
    p->interval_ms = interval_ms;
    p->next_ms = 0;
    p->force = interval_ms > 0;
    if (!interval_ms)
        stop_scanner(init);
}

void rp_init_ports_tick(struct rp_init *init, uint64_t now, uint64_t *next)
{
    struct rp_init_ports *p = &init->ports;
    if (p->scanner >= 0) {
        if (p->scanner_deadline_ms <= now)
            scanned(init);
        else
            *next = RP_MIN(*next, p->scanner_deadline_ms);
    }
    /* With no connection there is no one to tell; who comes back asks again. */
    if (!p->interval_ms || !rp_init_anyone(init))
        return;
    if (p->scanner < 0 && p->next_ms <= now) {
        look(init, now);
        p->next_ms = now + p->interval_ms;
    }
    if (p->scanner < 0)
        *next = RP_MIN(*next, p->next_ms);
    else
        *next = RP_MIN(*next, p->scanner_deadline_ms);
}
