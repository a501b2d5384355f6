#include "sandbox/oci/config.h"

#include "base/json.h"

enum { PENDING_SIGNALS = 4096 };

/* All sandboxes have 3,072 together (kernel.pty.max less kernel.pty.reserve). */
#define PTYS "max=128"

static void strings(struct rp_json_writer *w, const char *key, const char *const *values, size_t count)
{
    rp_json_key(w, key);
    rp_json_open_array(w);
    for (size_t i = 0; i < count; i++)
        rp_json_string(w, rp_str_of(values[i]));
    rp_json_close_array(w);
}

static void rlimit(struct rp_json_writer *w, const char *type, uint64_t value)
{
    rp_json_open_object(w);
    rp_json_field_string(w, "type", type);
    rp_json_field_uint(w, "soft", value);
    rp_json_field_uint(w, "hard", value);
    rp_json_close_object(w);
}

static void process(struct rp_json_writer *w, const struct rp_oci_config *c)
{
    static const char *const args[] = {"/repld-init"};
    static const char *const env[] = {"PATH=/usr/local/bin:/usr/bin:/bin"};
    static const char *const capabilities[] = {"CAP_KILL", "CAP_SETGID", "CAP_SETUID"};
    static const char *const sets[] = {"bounding", "effective", "permitted"};
    rp_json_key(w, "process");
    rp_json_open_object(w);
    rp_json_field_bool(w, "terminal", false);
    rp_json_key(w, "user");
    rp_json_open_object(w);
    rp_json_field_int(w, "uid", 0);
    rp_json_field_int(w, "gid", 0);
    rp_json_close_object(w);
    strings(w, "args", args, RP_ARRAY_SIZE(args));
    strings(w, "env", env, RP_ARRAY_SIZE(env));
    rp_json_field_string(w, "cwd", "/");
    rp_json_field_bool(w, "noNewPrivileges", true);
    rp_json_key(w, "capabilities");
    rp_json_open_object(w);
    for (size_t i = 0; i < RP_ARRAY_SIZE(sets); i++)
        strings(w, sets[i], capabilities, RP_ARRAY_SIZE(capabilities));
    rp_json_close_object(w);
    rp_json_key(w, "rlimits");
    rp_json_open_array(w);
    rlimit(w, "RLIMIT_NOFILE", c->files_max);
    rlimit(w, "RLIMIT_CORE", 0);
    /* counted against the host's root as well, whose own limit is some 3,000 a GiB of memory */
    rlimit(w, "RLIMIT_SIGPENDING", PENDING_SIGNALS);
    rp_json_close_array(w);
    rp_json_close_object(w);
}

/* No sysfs: the network namespace belongs to the host's user namespace, so that the sandbox's may not mount
 * it. */
static void mounts(struct rp_json_writer *w)
{
    static const struct {
        const char *destination, *type;
        const char *options[7];
    } all[] = {
        {"/proc", "proc", {"nosuid", "noexec", "nodev"}},
        {"/dev", "tmpfs", {"nosuid", "noexec", "mode=755", "size=64k"}},
        {"/dev/pts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", PTYS}},
        {"/dev/shm", "tmpfs", {"nosuid", "noexec", "nodev", "mode=1777", "size=64m"}},
    };
    rp_json_key(w, "mounts");
    rp_json_open_array(w);
    for (size_t i = 0; i < RP_ARRAY_SIZE(all); i++) {
        rp_json_open_object(w);
        rp_json_field_string(w, "destination", all[i].destination);
        rp_json_field_string(w, "type", all[i].type);
        rp_json_field_string(w, "source", all[i].type);
        size_t n = 0;
        while (n < RP_ARRAY_SIZE(all[i].options) && all[i].options[n])
            n++;
        strings(w, "options", all[i].options, n);
        rp_json_close_object(w);
    }
    rp_json_close_array(w);
}

static void mapping(struct rp_json_writer *w, const char *key, uint32_t base)
{
    rp_json_key(w, key);
    rp_json_open_array(w);
    rp_json_open_object(w);
    rp_json_field_uint(w, "containerID", 0);
    rp_json_field_uint(w, "hostID", base);
    rp_json_field_uint(w, "size", RP_OCI_UID_COUNT);
    rp_json_close_object(w);
    rp_json_close_array(w);
}

static void namespaces(struct rp_json_writer *w, const char *netns)
{
    static const char *const types[] = {"user", "pid", "mount", "ipc", "uts", "cgroup", "network"};
    rp_json_key(w, "namespaces");
    rp_json_open_array(w);
    for (size_t i = 0; i < RP_ARRAY_SIZE(types); i++) {
        rp_json_open_object(w);
        rp_json_field_string(w, "type", types[i]);
        if (netns && strcmp(types[i], "network") == 0)
            rp_json_field_string(w, "path", netns);
        rp_json_close_object(w);
    }
    rp_json_close_array(w);
}

/* What Docker and Podman mask and write-protect below /proc; /sys is not there yet. */
static void protected_paths(struct rp_json_writer *w)
{
    static const char *const masked[] = {
        "/proc/acpi",       "/proc/asound",        "/proc/interrupts",  "/proc/kcore",
        "/proc/keys",       "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
        "/proc/timer_list", "/proc/timer_stats",
    };
    static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                            "/proc/sysrq-trigger"};
    strings(w, "maskedPaths", masked, RP_ARRAY_SIZE(masked));
    strings(w, "readonlyPaths", read_only, RP_ARRAY_SIZE(read_only));
}

int rp_oci_config_write(const struct rp_oci_config *c, struct rp_buf *out, struct rp_error *err)
{
    struct rp_json_writer writer = rp_json_writer(out), *w = &writer;
    rp_json_open_object(w);
    rp_json_field_string(w, "ociVersion", "1.0.2");
    process(w, c);
    rp_json_key(w, "root");
    rp_json_open_object(w);
    rp_json_field_string(w, "path", c->root);
    rp_json_field_bool(w, "readonly", true);
    rp_json_close_object(w);
    rp_json_field_string(w, "hostname", c->hostname);
    mounts(w);
    if (c->seccomp_bpf_base64.n) {
        rp_json_key(w, "annotations");
        rp_json_open_object(w);
        rp_json_field_str(w, "run.oci.seccomp_bpf_data", c->seccomp_bpf_base64);
        rp_json_close_object(w);
    }
    rp_json_key(w, "linux");
    rp_json_open_object(w);
    mapping(w, "uidMappings", c->uid_base);
    mapping(w, "gidMappings", c->uid_base);
    if (c->cgroup_path)
        rp_json_field_string(w, "cgroupsPath", c->cgroup_path);
    namespaces(w, c->netns);
    protected_paths(w);
    if (c->seccomp_json.n) {
        rp_json_key(w, "seccomp");
        rp_json_raw(w, c->seccomp_json);
    }
    rp_json_close_object(w);
    rp_json_close_object(w);
    return writer.failed ? rp_error_set(err, RP_ERROR_INTERNAL, "the OCI configuration is too long") : 0;
}
