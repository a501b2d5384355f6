/*
 * doctor.c: `repld doctor [--FLAG VALUE …]`: looks at the machine and says what is missing and what to do. It
 * changes nothing. Each check is one function of one table; the exit status is 1 when something that is
 * needed is missing.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/settings.h"
#include "base/str.h"
#include "cli/cli.h"
#include "domain/stack.h"
#include "sandbox/oci/environment_build.h"

enum result { GOOD, DOUBTFUL, BAD };

struct report {
    const struct rp_settings *settings;
    char text[1024]; /* what was found, or what to do */
};

static enum result say(struct report *r, enum result result, const char *format, ...) RP_PRINTF(3, 4);
static enum result say(struct report *r, enum result result, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(r->text, sizeof(r->text), format, ap);
    va_end(ap);
    return result;
}

#define BLANK " \t\n"

/* True when a line of the file has the word; with `path` gone: false. */
static bool file_has_word(const char *path, const char *word)
{
    char line[1024];
    _cleanup_file_ FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        for (const char *w = line + strspn(line, BLANK); *w; w += strspn(w, BLANK)) {
            size_t n = strcspn(w, BLANK);
            if (n == strlen(word) && memcmp(w, word, n) == 0)
                return true;
            w += n;
        }
    }
    return false;
}

/* The path of a program, looked up in PATH and in the folders of administrators' programs. */
static bool find_program(const char *name, char *ret, size_t cap)
{
    if (strchr(name, '/'))
        return rp_str_copy(ret, cap, rp_str_of(name)) && access(name, X_OK) == 0;
    const char *path = getenv("PATH");
    _cleanup_free_ char *all =
        rp_asprintf("%s:/usr/sbin:/sbin:/usr/local/sbin", path ? path : "/usr/bin:/bin");
    struct rp_str rest = rp_str_of(all);
    while (rest.n) {
        struct rp_str folder = rp_str_cut(rest, ':', &rest);
        snprintf(ret, cap, "%.*s/%s", (int)folder.n, folder.p, name);
        if (folder.n && access(ret, X_OK) == 0)
            return true;
    }
    return false;
}

static enum result check_root(struct report *r)
{
    if (geteuid() != 0)
        return say(r, DOUBTFUL, "run as uid %u; repld serve must be started as root, and some checks need it",
                   geteuid());
    return say(r, GOOD, "yes");
}

static enum result check_kernel(struct report *r)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    uname(&u);
    if (sscanf(u.release, "%u.%u", &major, &minor) != 2 || major < 5 || (major == 5 && minor < 19))
        return say(r, BAD, "%s: 5.19 or newer is needed, for idmapped mounts below an overlay", u.release);
    return say(r, GOOD, "%s", u.release);
}

static enum result check_file_systems(struct report *r)
{
    static const char *const names[] = {"overlay", "btrfs", "tmpfs"};
    char missing[64] = "";
    for (size_t i = 0; i < RP_ARRAY_SIZE(names); i++) {
        size_t n = strlen(missing);
        if (!file_has_word("/proc/filesystems", names[i]))
            snprintf(missing + n, sizeof(missing) - n, " %s", names[i]);
    }
    if (*missing)
        return say(r, DOUBTFUL,
                   "not loaded:%s; the kernel loads them when they are first mounted, if it has them",
                   missing);
    if (access("/dev/loop-control", F_OK) < 0)
        return say(r, BAD, "no /dev/loop-control: the volumes' image needs loop devices (modprobe loop)");
    return say(r, GOOD, "overlay, btrfs, tmpfs, loop devices");
}

static enum result check_namespaces(struct report *r)
{
    static const char *const names[] = {"mnt", "pid", "net", "uts", "ipc", "user", "cgroup"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(names); i++) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
        if (access(path, F_OK) < 0)
            return say(r, BAD, "the kernel has no %s namespaces", names[i]);
    }
    char text[32] = "";
    _cleanup_file_ FILE *f = fopen("/proc/sys/user/max_user_namespaces", "re");
    if (f && fgets(text, sizeof(text), f) && strtol(text, NULL, 10) == 0)
        return say(r, BAD, "user namespaces are turned off (sysctl user.max_user_namespaces)");
    if (!file_has_word("/proc/self/status", "Seccomp:"))
        return say(r, BAD, "the kernel has no seccomp");
    return say(r, GOOD, "all kinds, and seccomp");
}

static enum result check_cgroups(struct report *r)
{
    static const char *const controllers[] = {"memory", "cpu", "pids"};
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    for (size_t i = 0; i < RP_ARRAY_SIZE(controllers); i++) {
        char path[64];
        snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", controllers[i]);
        bool there = v2 ? file_has_word("/sys/fs/cgroup/cgroup.controllers", controllers[i])
                        : access(path, F_OK) == 0 ||
                              file_has_word("/sys/fs/cgroup/unified/cgroup.controllers", controllers[i]);
        if (!there)
            return say(r, BAD, "no controller \"%s\" below /sys/fs/cgroup", controllers[i]);
    }
    bool unified = access("/sys/fs/cgroup/unified/cgroup.controllers", F_OK) == 0;
    return say(r, GOOD, "memory, cpu, pids (%s)", v2 ? "v2" : unified ? "hybrid" : "v1");
}

static enum result check_runtime(struct report *r)
{
    char path[1024];
    const char *wanted = r->settings->oci_runtime;
    if (wanted)
        return find_program(wanted, path, sizeof(path))
                   ? say(r, GOOD, "%s", path)
                   : say(r, BAD, "\"%s\" is not there (--oci-runtime)", wanted);
    if (find_program("crun", path, sizeof(path)) || find_program("runc", path, sizeof(path)))
        return say(r, GOOD, "%s", path);
    return say(r, BAD, "neither crun nor runc: apt-get install crun runc");
}

static enum result check_programs(struct report *r)
{
    static const struct {
        const char *program, *package;
    } needed[] = {{"mkfs.btrfs", "btrfs-progs"}, {"mmdebstrap", "mmdebstrap"}};
    char path[1024], missing[128] = "";
    for (size_t i = 0; i < RP_ARRAY_SIZE(needed); i++) {
        size_t n = strlen(missing);
        if (!find_program(needed[i].program, path, sizeof(path)))
            snprintf(missing + n, sizeof(missing) - n, " %s", needed[i].package);
    }
    if (*missing)
        return say(r, BAD, "missing: apt-get install%s", missing);
    return say(r, GOOD, "mkfs.btrfs, mmdebstrap");
}

static enum result check_init(struct report *r)
{
    const char *path = r->settings->init_path;
    if (access(path, X_OK) < 0)
        return say(r, BAD, "\"%s\" is not there: make build", path);
    return say(r, GOOD, "%s", path);
}

static enum result check_stacks(struct report *r)
{
    struct rp_stacks *stacks;
    struct rp_error e;
    if (rp_stacks_load(r->settings->stacks_dir, &stacks, &e) < 0)
        return say(r, BAD, "%s", e.message);
    char missing[256] = "";
    size_t count = rp_stacks_count(stacks);
    for (size_t i = 0; i < count; i++) {
        const struct rp_stack *s = rp_stacks_at(stacks, i);
        size_t n = strlen(missing);
        if (!rp_environment_built(r->settings->environments_dir, s->recipe))
            snprintf(missing + n, sizeof(missing) - n, " %s", s->name);
    }
    rp_stacks_free(stacks);
    if (*missing)
        return say(r, DOUBTFUL, "not built: repld stack build%s", missing);
    return say(r, GOOD, "%zu, all built", count);
}

static enum result check_disk(struct report *r)
{
    /* the data directory may not be there yet: its nearest parent is */
    _cleanup_free_ char *path = rp_strdup(r->settings->data_dir);
    struct statvfs v;
    while (statvfs(path, &v) < 0) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            return say(r, BAD, "cannot look at \"%s\"", r->settings->data_dir);
        *slash = '\0';
    }
    unsigned long long mib = (unsigned long long)v.f_bavail * v.f_frsize >> 20;
    unsigned long long reserve = r->settings->volume_reserve >> 20;
    if (mib < reserve + 512)
        return say(r, BAD, "%llu MiB free for \"%s\"; %llu MiB are kept free (--volume-reserve)", mib, path,
                   reserve);
    return say(r, GOOD, "%llu MiB free for \"%s\"", mib, path);
}

static enum result check_forwarding(struct report *r)
{
    if (access("/proc/sys/net/ipv4/ip_forward", F_OK) < 0)
        return say(r, BAD, "the kernel has no IPv4 forwarding");
    if (access("/proc/sys/net/netfilter", F_OK) < 0)
        return say(r, DOUBTFUL,
                   "netfilter is not loaded; the kernel loads it when the firewall is made, if it has it");
    return say(r, GOOD, "IPv4 forwarding, netfilter");
}

static const struct {
    const char *name;
    enum result (*check)(struct report *r);
} checks[] = {
    {"root", check_root},
    {"kernel", check_kernel},
    {"file systems", check_file_systems},
    {"namespaces", check_namespaces},
    {"cgroups", check_cgroups},
    {"network", check_forwarding},
    {"OCI runtime", check_runtime},
    {"programs", check_programs},
    {"repld-init", check_init},
    {"stacks", check_stacks},
    {"disk", check_disk},
};

int rp_cli_doctor(int argc, char **argv)
{
    struct rp_settings settings;
    struct rp_error e;
    if (rp_settings_parse(argc - 1, argv + 1, &settings, &e) < 0) {
        fprintf(stderr, "repld: %s; see repld serve --help\n", e.message);
        return 2;
    }
    static const char *const words[] = {[GOOD] = "ok", [DOUBTFUL] = "note", [BAD] = "MISSING"};
    unsigned bad = 0;
    for (size_t i = 0; i < RP_ARRAY_SIZE(checks); i++) {
        struct report r = {.settings = &settings};
        enum result result = checks[i].check(&r);
        printf("%-13s %-8s %s\n", checks[i].name, words[result], r.text);
        bad += result == BAD;
    }
    rp_settings_done(&settings);
    return bad ? 1 : 0;
}
