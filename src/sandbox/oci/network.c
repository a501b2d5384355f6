#include "sandbox/oci/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "sandbox/oci/network_host.h"
#include "sandbox/oci/network_record.h"
#include "sandbox/oci/network_rules.h"
#include "sandbox/oci/network_slot.h"
#include "sandbox/oci/network_watch.h"

enum {
    TAKE_SECONDS = 15,          /* how long a sandbox waits for a slot to be made */
    RETRY_MS = 1000,            /* after a slot could not be made */
    CHECK_MS = 60 * 1000,       /* between looks at the ruleset, beside the kernel's own notices */
    RESOLV_CONF_MAX = 64 * 1024 /* bytes of it that are looked at */
};

enum slot_state {
    SLOT_FREE,   /* nothing exists */
    SLOT_MAKING, /* by the keeper */
    SLOT_READY,  /* made, in `ready`, let in by the firewall */
    SLOT_TAKEN,  /* has a record */
    SLOT_LEAVING /* cut off, being removed */
};

struct slot {
    enum slot_state state;
    struct rp_network_record *record; /* owned; set while TAKEN or LEAVING */
};

struct rp_network {
    struct rp_network_place place;
    int directory, lock_file, wake; /* descriptors; the lock ends with lock_file */
    uint32_t ready_target;
    pthread_t keeper;
    bool keeper_runs;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct rp_network_rules *rules;
    struct slot slots[RP_NETWORK_SLOTS];
    uint32_t ready[RP_NETWORK_SLOTS], ready_start, ready_count; /* a queue of indices */
    uint32_t next;    /* where the search for a free index goes on: addresses come back as late as possible */
    uint32_t waiting; /* calls of slot_take that wait */
    uint64_t failures; /* slots that could not be made so far, and why the last one */
    struct rp_error failure;
    bool stop;
};

static void unlock(pthread_mutex_t **m)
{
    pthread_mutex_unlock(*m);
}
#define HOLD_LOCK(n)                                                                                         \
    _cleanup_(unlock) pthread_mutex_t *held_ RP_UNUSED = &(n)->lock;                                         \
    pthread_mutex_lock(held_)

static void wake_keeper(struct rp_network *n)
{
    uint64_t one = 1;
    (void)!write(n->wake, &one, sizeof(one));
}

/* ---- settings ---- */

static int parse_prefix(const char *text, struct rp_network_place *p, struct rp_error *err)
{
    struct rp_cidr c;
    struct rp_str rest, host = rp_str_cut(rp_str_of(text), '/', &rest);
    struct in_addr address;
    char plain[INET_ADDRSTRLEN];
    if (!rp_network_cidr_parse(rp_str_of(text), &c) || c.prefix < 8 || c.prefix > 19)
        return rp_error_set(err, RP_ERROR_INVALID,
                            "the sandboxes' network must be A.B.C.D/N with N from 8 to 19, not \"%.40s\"",
                            text);
    if (!rp_str_copy(plain, sizeof(plain), host) || inet_pton(AF_INET, plain, &address) != 1 ||
        ntohl(address.s_addr) != c.address)
        return rp_error_set(err, RP_ERROR_INVALID, "the sandboxes' network \"%.40s\" has host bits set",
                            text);
    p->prefix = c;
    p->gateway = c.address + 1;
    return 0;
}

static int parse_permitted(const char *text, struct rp_cidr ret[RP_NETWORK_PERMITTED_MAX],
                           uint32_t *ret_count, struct rp_error *err)
{
    struct rp_str rest = rp_str_of(text ? text : "");
    *ret_count = 0;
    while (rest.n > 0) {
        struct rp_str word = rp_str_trim(rp_str_cut(rest, ',', &rest));
        if (*ret_count == RP_NETWORK_PERMITTED_MAX)
            return rp_error_set(err, RP_ERROR_INVALID, "more than %d ranges are allowed to sandboxes",
                                RP_NETWORK_PERMITTED_MAX);
        if (!rp_network_cidr_parse(word, &ret[(*ret_count)++]))
            return rp_error_set(err, RP_ERROR_INVALID, "\"%.*s\" is not an address range A.B.C.D/N",
                                (int)RP_MIN(word.n, (size_t)40), word.p);
    }
    return 0;
}

/* The first IPv4 name server of a resolv.conf(5); 0 without one. */
static uint32_t resolver_in(const char *path)
{
    _cleanup_file_ FILE *f = fopen(path, "re");
    char line[512];
    size_t seen = 0;
    while (f && seen < RESOLV_CONF_MAX && fgets(line, sizeof(line), f)) {
        struct rp_cidr c;
        seen += strlen(line);
        line[strcspn(line, "\n#;")] = '\0';
        struct rp_str word = rp_str_trim(rp_str_of(line));
        if (!rp_str_starts(word, "nameserver"))
            continue;
        word = rp_str_trim((struct rp_str){word.p + 10, word.n - 10});
        if (rp_network_cidr_parse(word, &c) && c.prefix == 32)
            return c.address;
    }
    return 0;
}

/* systemd-resolved's stub answers only the host itself; behind it is another file that names the servers. */
static int find_resolver(const char *setting, uint32_t *ret, struct rp_error *err)
{
    struct in_addr address;
    if (setting && *setting) {
        if (inet_pton(AF_INET, setting, &address) != 1)
            return rp_error_set(err, RP_ERROR_INVALID, "the resolver \"%.40s\" is not an IPv4 address",
                                setting);
        *ret = ntohl(address.s_addr);
        return 0;
    }
    uint32_t found = resolver_in("/etc/resolv.conf");
    if (found >> 24 == 127) {
        uint32_t behind = resolver_in("/run/systemd/resolve/resolv.conf");
        found = behind ? behind : found;
    }
    if (!found)
        return rp_error_set(err, RP_ERROR_INVALID,
                            "/etc/resolv.conf names no IPv4 name server; name one with --resolver");
    *ret = found;
    return 0;
}

/* FNV-1a: only to tell the servers of one machine apart. */
static void tag_of(const char *runtime_dir, char ret[static RP_NETWORK_TAG_SIZE])
{
    uint32_t h = UINT32_C(2166136261);
    for (const char *p = runtime_dir; *p; p++)
        h = (h ^ (unsigned char)*p) * UINT32_C(16777619);
    snprintf(ret, RP_NETWORK_TAG_SIZE, "rp%08x", h);
}

/* ---- what exists ---- */

/* "s" and three hexadecimal digits: the path of a slot's namespace. */
static bool slot_name(const char *name, uint32_t *ret)
{
    if (name[0] != 's' || strlen(name) != 4 || strspn(name + 1, "0123456789abcdef") != 3)
        return false;
    *ret = (uint32_t)strtoul(name + 1, NULL, 16);
    return true;
}

static int adopt_records(struct rp_network *n, DIR *d, struct rp_error *err)
{
    struct dirent *e;
    while ((e = readdir(d))) {
        struct rp_network_record record;
        if (e->d_name[0] == '.' && rp_id_valid(e->d_name + 1, strlen(e->d_name + 1)))
            unlinkat(n->directory, e->d_name, 0); /* half written */
        if (!rp_id_valid(e->d_name, strlen(e->d_name)))
            continue;
        if (rp_network_record_read(n->directory, e->d_name, &record, err) < 0)
            return -1;
        struct slot *s = &n->slots[record.index];
        if (s->record)
            return rp_error_set(err, RP_ERROR_INTERNAL,
                                "sandboxes \"%s\" and \"%s\" both have network slot %u", record.sandbox,
                                s->record->sandbox, record.index);
        s->state = SLOT_TAKEN;
        s->record = rp_alloc(sizeof(record));
        *s->record = record;
        n->next = RP_MAX(n->next, record.index + 1);
    }
    return 0;
}

/* Namespaces without a record: ready ones, or what a crash left on the way. */
static int adopt_ready(struct rp_network *n, DIR *d, struct rp_error *err)
{
    struct dirent *e;
    rewinddir(d);
    while ((e = readdir(d))) {
        uint32_t index;
        if (!slot_name(e->d_name, &index) || n->slots[index].state != SLOT_FREE)
            continue;
        if (!rp_network_slot_whole(&n->place, index) || n->ready_count >= n->ready_target) {
            if (rp_network_slot_remove(&n->place, index, err) < 0)
                return -1;
            continue;
        }
        n->slots[index].state = SLOT_READY;
        n->ready[(n->ready_start + n->ready_count++) % RP_NETWORK_SLOTS] = index;
        n->next = RP_MAX(n->next, index + 1);
    }
    return 0;
}

static int adopt(struct rp_network *n, struct rp_error *err)
{
    _cleanup_dir_ DIR *d = opendir(n->place.directory);
    if (!d)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "list \"%s\"", n->place.directory);
    if (adopt_records(n, d, err) < 0)
        return -1;
    return adopt_ready(n, d, err);
}

/* Loads the whole ruleset from what is in memory. Lock held. */
static int load_rules(struct rp_network *n, struct rp_error *err)
{
    _cleanup_free_ struct rp_network_rules_slot *slots = rp_calloc(RP_NETWORK_SLOTS, sizeof(*slots));
    uint32_t count = 0;
    for (uint32_t i = 0; i < RP_NETWORK_SLOTS; i++) {
        const struct slot *s = &n->slots[i];
        if (s->state == SLOT_READY || s->state == SLOT_TAKEN)
            slots[count++] = (struct rp_network_rules_slot){i, s->record ? &s->record->policy : NULL};
    }
    return rp_network_rules_load(n->rules, slots, count, err);
}

static int turn_forwarding_on(struct rp_error *err)
{
    static const char path[] = "/proc/sys/net/ipv4/ip_forward";
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
    char now = 0;
    if (fd < 0 || read(fd, &now, 1) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "read \"%s\"", path);
    if (now == '1')
        return 0;
    if (pwrite(fd, "1", 1, 0) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "turn on \"%s\", which sandboxes need", path);
    return 0;
}

/* ---- the keeper: makes slots ahead, and the ruleset again when someone flushed it ---- */

/* An index that nothing uses; RP_NETWORK_SLOTS when there is none. Lock held. */
static uint32_t free_index(struct rp_network *n)
{
    for (uint32_t i = 0; i < RP_NETWORK_SLOTS; i++) {
        uint32_t index = (n->next + i) % RP_NETWORK_SLOTS;
        if (n->slots[index].state == SLOT_FREE) {
            n->next = (index + 1) % RP_NETWORK_SLOTS;
            return index;
        }
    }
    return RP_NETWORK_SLOTS;
}

/* Makes one slot if one is wanted. Returns 1 when it made one, 0 when none is wanted, -1 on failure. */
static int make_one(struct rp_network *n)
{
    struct rp_error err = {0};
    uint32_t index, mtu;
    {
        HOLD_LOCK(n);
        if (n->stop || n->ready_count >= n->ready_target + n->waiting)
            return 0;
        index = free_index(n);
        if (index == RP_NETWORK_SLOTS)
            return 0;
        n->slots[index].state = SLOT_MAKING;
    }
    int r = rp_network_uplink_mtu(&mtu, &err);
    if (r == 0)
        r = rp_network_slot_make(&n->place, index, mtu, &err);

    HOLD_LOCK(n);
    if (r == 0) {
        n->slots[index].state = SLOT_READY;
        /* Elements cannot be added to a table that someone flushed; loading it brings this one too. */
        r = rp_network_rules_slot_add(n->rules, index, &err);
        if (r < 0)
            r = load_rules(n, &err);
        if (r < 0)
            (void)!rp_network_slot_remove(&n->place, index, NULL);
    }
    if (r < 0) {
        n->slots[index].state = SLOT_FREE;
        n->failures++;
        n->failure = err;
    } else {
        n->ready[(n->ready_start + n->ready_count++) % RP_NETWORK_SLOTS] = index;
    }
    pthread_cond_broadcast(&n->changed);
    return r < 0 ? -1 : 1;
}

static bool is_free(void *ctx, uint32_t index)
{
    struct rp_network *n = ctx;
    HOLD_LOCK(n);
    return index < RP_NETWORK_SLOTS && n->slots[index].state == SLOT_FREE;
}

static void repair_rules(struct rp_network *n)
{
    HOLD_LOCK(n);
    if (!rp_network_rules_intact(n->rules) && load_rules(n, &n->failure) < 0)
        n->failures++;
}

static void *keep(void *arg)
{
    struct rp_network *n = arg;
    struct rp_error err;
    _cleanup_close_ int watch = rp_network_watch_open(&err);
    uint64_t checked = rp_clock_monotonic_ns();
    for (;;) {
        int made = make_one(n);
        {
            HOLD_LOCK(n);
            if (n->stop)
                return NULL;
        }
        struct pollfd p[2] = {{.fd = n->wake, .events = POLLIN}, {.fd = watch, .events = POLLIN}};
        int ready = poll(p, 2, made > 0 ? 0 : made < 0 ? RETRY_MS : CHECK_MS);
        if (ready > 0 && p[0].revents)
            (void)!read(n->wake, &(uint64_t){0}, sizeof(uint64_t));
        bool flushed = ready > 0 && p[1].revents && rp_network_watch_read(watch);
        uint64_t now = rp_clock_monotonic_ns();
        bool due = now - checked >= (uint64_t)CHECK_MS * 1000000;
        if (flushed || due)
            repair_rules(n);
        if (due) {
            /* Interfaces that outlived their slot, because a process lingers in the namespace. This thread
             * is the only one that makes any, so none is taken for unused while it is being made. */
            (void)!rp_network_slots_sweep(&n->place, is_free, n, NULL);
            checked = now;
        }
    }
}

static int start_keeper(struct rp_network *n, struct rp_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&n->keeper, NULL, keep, n);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, r, "start the network's thread");
    n->keeper_runs = true;
    return 0;
}

/* ---- open and close ---- */

static void stop_keeper(struct rp_network *n)
{
    if (!n->keeper_runs)
        return;
    pthread_mutex_lock(&n->lock);
    n->stop = true;
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
    wake_keeper(n);
    pthread_join(n->keeper, NULL);
    n->keeper_runs = false;
}

static void network_free(struct rp_network *n)
{
    stop_keeper(n);
    rp_network_rules_free(n->rules);
    for (uint32_t i = 0; i < RP_NETWORK_SLOTS; i++)
        free(n->slots[i].record);
    rp_close_fd(&n->wake);
    rp_close_fd(&n->directory);
    rp_close_fd(&n->lock_file);
    pthread_cond_destroy(&n->changed);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

static void network_done(struct rp_network **n)
{
    if (*n)
        network_free(*n);
    *n = NULL;
}

static int open_directory(struct rp_network *n, const char *runtime_dir, struct rp_error *err)
{
    int length = snprintf(n->place.directory, sizeof(n->place.directory), "%s/netns", runtime_dir);
    if (runtime_dir[0] != '/' || length < 0 || (size_t)length >= sizeof(n->place.directory))
        return rp_error_set(err, RP_ERROR_INVALID,
                            "the runtime directory \"%.100s\" is not a path from / or too long", runtime_dir);
    if (mkdir(n->place.directory, 0700) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", n->place.directory);
    n->directory = open(n->place.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (n->directory < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", n->place.directory);
    n->lock_file = openat(n->directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (n->lock_file < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s/lock\"", n->place.directory);
    if (flock(n->lock_file, LOCK_EX | LOCK_NB) < 0)
        return rp_error_errno(err, errno == EWOULDBLOCK ? RP_ERROR_CONFLICT : RP_ERROR_INTERNAL, errno,
                              "lock \"%s\": another server uses it", n->place.directory);
    return 0;
}

static int set_up(struct rp_network *n, const struct rp_network_options *o, struct rp_error *err)
{
    struct rp_cidr permitted[RP_NETWORK_PERMITTED_MAX];
    struct rp_network_rules_options rules = {.place = &n->place, .permitted = permitted};
    tag_of(o->runtime_dir, n->place.tag);
    if (parse_prefix(o->prefix, &n->place, err) < 0 || find_resolver(o->resolver, &rules.resolver, err) < 0 ||
        parse_permitted(o->allow_hosts, permitted, &rules.permitted_count, err) < 0)
        return -1;
    n->place.resolver_on_loopback = rules.resolver >> 24 == 127;
    if (open_directory(n, o->runtime_dir, err) < 0 || rp_network_prefix_free(&n->place, err) < 0 ||
        rp_network_is_local(rules.resolver, &rules.resolver_is_local, err) < 0)
        return -1;
    n->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->wake < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make an eventfd");
    if (rp_network_rules_new(&rules, &n->rules, err) < 0 || adopt(n, err) < 0 || load_rules(n, err) < 0 ||
        turn_forwarding_on(err) < 0)
        return -1;
    return start_keeper(n, err);
}

int rp_network_open(const struct rp_network_options *options, struct rp_network **ret, struct rp_error *err)
{
    if (options->ready > RP_NETWORK_READY_MAX)
        return rp_error_set(err, RP_ERROR_INVALID, "at most %d network slots are kept ready",
                            RP_NETWORK_READY_MAX);
    _cleanup_(network_done) struct rp_network *n = rp_calloc(1, sizeof(*n));
    n->directory = n->lock_file = n->wake = -1;
    n->ready_target = options->ready ? options->ready : RP_NETWORK_READY_DEFAULT;
    pthread_mutex_init(&n->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&n->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (set_up(n, options, err) < 0)
        return rp_error_prefix(err, "open the sandboxes' network");
    *ret = RP_STEAL_PTR(n);
    return 0;
}

void rp_network_close(struct rp_network *n)
{
    if (n)
        network_free(n);
}

int rp_network_destroy_all(struct rp_network *n, struct rp_error *err)
{
    struct rp_error first = {0};
    int result = 0;
    stop_keeper(n); /* first: it may be making one more */
    for (uint32_t i = 0; i < RP_NETWORK_SLOTS; i++) {
        struct slot *s = &n->slots[i];
        if (s->state == SLOT_FREE)
            continue;
        if (rp_network_slot_release(&n->place, i, result ? NULL : &first) < 0 ||
            (s->record &&
             rp_network_record_remove(n->directory, s->record->sandbox, result ? NULL : &first) < 0))
            result = -1;
    }
    if (rp_network_rules_remove(n->rules, result ? NULL : &first) < 0)
        result = -1;
    if (rp_network_slots_sweep(&n->place, NULL, NULL, result ? NULL : &first) < 0)
        result = -1;
    if (result < 0 && err)
        *err = first;
    network_free(n);
    return result;
}

uint32_t rp_network_resolver(const struct rp_network *n)
{
    return n->place.gateway;
}

/* ---- slots ---- */

/* Lock held. */
static struct slot *find(struct rp_network *n, const char *sandbox)
{
    for (uint32_t i = 0; i < RP_NETWORK_SLOTS; i++)
        if (n->slots[i].record && strcmp(n->slots[i].record->sandbox, sandbox) == 0)
            return &n->slots[i];
    return NULL;
}

static void describe(const struct rp_network *n, uint32_t index, struct rp_network_slot *ret)
{
    ret->index = index;
    ret->address = rp_network_slot_address(&n->place, index);
    rp_network_slot_path(&n->place, index, ret->netns);
}

static int check_id(const char *sandbox, struct rp_error *err)
{
    if (!rp_id_valid(sandbox, strlen(sandbox)))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%.40s\" is not a sandbox id", sandbox);
    return 0;
}

static int not_found(const char *sandbox, struct rp_error *err)
{
    return rp_error_set(err, RP_ERROR_NOT_FOUND, "sandbox \"%s\" has no network slot", sandbox);
}

/* Until a slot is ready. Lock held. */
static int wait_for_ready(struct rp_network *n, struct rp_error *err)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += TAKE_SECONDS;
    uint64_t failures = n->failures;
    int r = 0;
    n->waiting++;
    wake_keeper(n);
    while (n->ready_count == 0 && !n->stop && n->failures == failures && r == 0) {
        uint32_t used = 0;
        for (uint32_t i = 0; i < RP_NETWORK_SLOTS; i++)
            used += n->slots[i].state == SLOT_TAKEN;
        if (used == RP_NETWORK_SLOTS)
            break;
        r = pthread_cond_timedwait(&n->changed, &n->lock, &until);
    }
    n->waiting--;
    if (n->ready_count > 0)
        return 0;
    if (n->failures != failures) {
        if (err)
            *err = n->failure;
        return -1;
    }
    if (r == ETIMEDOUT)
        return rp_error_set(err, RP_ERROR_UNAVAILABLE, "no network slot was made in %d s", TAKE_SECONDS);
    return rp_error_set(err, RP_ERROR_UNAVAILABLE, "all %d network slots are taken", RP_NETWORK_SLOTS);
}

int rp_network_slot_take(struct rp_network *n, const char *sandbox, struct rp_network_slot *ret,
                         struct rp_error *err)
{
    if (check_id(sandbox, err) < 0)
        return -1;
    HOLD_LOCK(n);
    struct slot *s = find(n, sandbox);
    if (s && s->state == SLOT_LEAVING)
        return rp_error_set(err, RP_ERROR_CONFLICT, "the network slot of sandbox \"%s\" is being removed",
                            sandbox);
    if (!s) {
        if (n->ready_count == 0 && wait_for_ready(n, err) < 0)
            return -1;
        uint32_t index = n->ready[n->ready_start];
        _cleanup_free_ struct rp_network_record *record = rp_calloc(1, sizeof(*record));
        snprintf(record->sandbox, sizeof(record->sandbox), "%s", sandbox);
        record->index = index;
        if (rp_network_record_write(n->directory, record, err) < 0)
            return -1;
        n->ready_start = (n->ready_start + 1) % RP_NETWORK_SLOTS;
        n->ready_count--;
        s = &n->slots[index];
        s->state = SLOT_TAKEN;
        s->record = RP_STEAL_PTR(record);
        wake_keeper(n);
    }
    describe(n, s->record->index, ret);
    return 0;
}

int rp_network_slot_find(struct rp_network *n, const char *sandbox, struct rp_network_slot *ret,
                         struct rp_error *err)
{
    HOLD_LOCK(n);
    struct slot *s = find(n, sandbox);
    if (!s)
        return not_found(sandbox, err);
    describe(n, s->record->index, ret);
    return 0;
}

int rp_network_slot_give(struct rp_network *n, const char *sandbox, struct rp_error *err)
{
    uint32_t index;
    {
        HOLD_LOCK(n);
        struct slot *s = find(n, sandbox);
        if (!s)
            return 0;
        if (s->state == SLOT_LEAVING)
            return rp_error_set(err, RP_ERROR_CONFLICT, "the network slot of sandbox \"%s\" is being removed",
                                sandbox);
        index = s->record->index;
        s->state = SLOT_LEAVING;
        if (rp_network_rules_slot_drop(n->rules, index, &s->record->policy, err) < 0 &&
            load_rules(n, err) < 0) {
            s->state = SLOT_TAKEN;
            return -1;
        }
    }
    /* Without the lock. The record goes last: until then a crash leaves something to list. */
    int r = rp_network_slot_release(&n->place, index, err);
    if (r == 0)
        r = rp_network_record_remove(n->directory, sandbox, err);
    HOLD_LOCK(n);
    struct slot *s = &n->slots[index];
    if (r < 0) {
        s->state = SLOT_TAKEN;
        /* What comes next is another attempt, and it starts from a firewall that knows the slot. */
        s->record->policy = (struct rp_network_policy){.mode = RP_NETWORK_NONE};
        (void)!rp_network_rules_slot_add(n->rules, index, NULL);
        return -1;
    }
    free(s->record);
    *s = (struct slot){.state = SLOT_FREE};
    pthread_cond_broadcast(&n->changed);
    if (n->waiting > 0)
        wake_keeper(n);
    return 0;
}

int rp_network_policy_set(struct rp_network *n, const char *sandbox, const struct rp_network_policy *policy,
                          struct rp_error *err)
{
    struct rp_network_policy wanted, before;
    if (rp_network_policy_normalise(policy, &wanted, err) < 0)
        return -1;
    HOLD_LOCK(n);
    struct slot *s = find(n, sandbox);
    if (!s || s->state != SLOT_TAKEN)
        return not_found(sandbox, err);
    before = s->record->policy;
    /* The record first: if we die in between, the next open makes the kernel agree with it. */
    s->record->policy = wanted;
    int r = rp_network_record_write(n->directory, s->record, err);
    if (r == 0 && rp_network_rules_slot_policy(n->rules, s->record->index, &before, &wanted, err) < 0)
        r = load_rules(n, err);
    if (r < 0) {
        s->record->policy = before;
        (void)!rp_network_record_write(n->directory, s->record, NULL);
    }
    return r;
}

int rp_network_stats(struct rp_network *n, const char *sandbox, uint64_t *ret_received, uint64_t *ret_sent,
                     struct rp_error *err)
{
    struct rp_network_slot slot;
    if (rp_network_slot_find(n, sandbox, &slot, err) < 0)
        return -1;
    return rp_network_slot_stats(&n->place, slot.index, ret_received, ret_sent, err);
}

int rp_network_list(struct rp_network *n, void (*each)(void *ctx, const char *sandbox), void *ctx,
                    struct rp_error *err)
{
    (void)err;
    HOLD_LOCK(n);
    for (uint32_t i = 0; i < RP_NETWORK_SLOTS; i++)
        if (n->slots[i].record)
            each(ctx, n->slots[i].record->sandbox);
    return 0;
}

struct ids {
    uint32_t count;
    char (*ids)[RP_ID_SIZE];
};

static void keep_id(void *ctx, const char *sandbox)
{
    struct ids *ids = ctx;
    snprintf(ids->ids[ids->count++], RP_ID_SIZE, "%s", sandbox);
}

int rp_network_reap(struct rp_network *n, bool (*alive)(void *ctx, const char *sandbox), void *ctx,
                    struct rp_error *err)
{
    _cleanup_free_ void *memory = rp_calloc(RP_NETWORK_SLOTS, RP_ID_SIZE);
    struct ids ids = {.ids = memory};
    int reaped = 0;
    if (rp_network_list(n, keep_id, &ids, err) < 0)
        return -1;
    for (uint32_t i = 0; i < ids.count; i++) {
        if (alive(ctx, ids.ids[i]))
            continue;
        if (rp_network_slot_give(n, ids.ids[i], err) < 0)
            return -1;
        reaped++;
    }
    return reaped;
}

int rp_network_check(struct rp_network *n, struct rp_error *err)
{
    if (turn_forwarding_on(err) < 0)
        return -1;
    HOLD_LOCK(n);
    if (!rp_network_rules_intact(n->rules) && load_rules(n, err) < 0)
        return -1;
    if (n->ready_count == 0 && n->failures > 0) {
        if (err && n->failure.code != RP_ERROR_NONE)
            *err = n->failure;
        return -1;
    }
    return 0;
}
