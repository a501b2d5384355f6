#include "sandbox/oci/seccomp.h"

#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/json.h"

#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif

#define NETLINK_FAMILY 16
#define NETLINK_AUDIT  9
#define LAST_FAMILY    16 /* that is open to sandboxes */
#define REQUEST_MASK   UINT64_C(0xffffffff) /* an ioctl's number has 32 bits; the kernel drops the rest */

static const char *const allowed[] = {
#define ALLOW(name) name,
#define REFUSE(name)
#include "sandbox/oci/seccomp_profile.inc"
#undef ALLOW
#undef REFUSE
};

static const char *const refused[] = {
#define ALLOW(name)
#define REFUSE(name) name,
#include "sandbox/oci/seccomp_profile.inc"
#undef ALLOW
#undef REFUSE
};

/* The flags are the first argument on every architecture that we build for (s390 swaps the first two). */
static const uint64_t namespace_flags[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                           CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};

enum { RULE_ALLOW = -1 };

/*
 * Rules that look at arguments: the profile's own for personality, ours for clone and sockets.
 *
 * Of the address families only those are open that a network namespace holds: AF_VSOCK is not in one, and leads to the
 * hypervisor and to every other sandbox whatever the network policy says; the others (AF_ALG, AF_TIPC, AF_CAN, …) make the
 * host load modules that nobody needs here.
 */
static const struct rule {
    const char *name;
    int errno_value; /* or RULE_ALLOW */
    unsigned arg_count;
    struct {
        unsigned index;
        enum scmp_compare op;
        uint64_t a, b;
    } args[2];
} rules[] = {
    {"personality", RULE_ALLOW, 1, {{0, SCMP_CMP_EQ, 0, 0}}},
    {"personality", RULE_ALLOW, 1, {{0, SCMP_CMP_EQ, 0x8, 0}}},
    {"personality", RULE_ALLOW, 1, {{0, SCMP_CMP_EQ, 0x20000, 0}}},
    {"personality", RULE_ALLOW, 1, {{0, SCMP_CMP_EQ, 0x20008, 0}}},
    {"personality", RULE_ALLOW, 1, {{0, SCMP_CMP_EQ, 0xffffffff, 0}}},
    {"socket", EINVAL, 2, {{0, SCMP_CMP_EQ, NETLINK_FAMILY, 0}, {2, SCMP_CMP_EQ, NETLINK_AUDIT, 0}}},
    {"socket", RULE_ALLOW, 2, {{0, SCMP_CMP_EQ, NETLINK_FAMILY, 0}, {2, SCMP_CMP_NE, NETLINK_AUDIT, 0}}},
    {"socket", RULE_ALLOW, 1, {{0, SCMP_CMP_EQ, AF_UNIX, 0}}},
    {"socket", RULE_ALLOW, 1, {{0, SCMP_CMP_EQ, AF_INET, 0}}},
    {"socket", RULE_ALLOW, 1, {{0, SCMP_CMP_EQ, AF_INET6, 0}}},
    {"socket", EAFNOSUPPORT, 1, {{0, SCMP_CMP_GT, LAST_FAMILY, 0}}},
    {"socketpair", RULE_ALLOW, 1, {{0, SCMP_CMP_EQ, AF_UNIX, 0}}},
    {"socketpair", EAFNOSUPPORT, 1, {{0, SCMP_CMP_NE, AF_UNIX, 0}}},
    {"ioctl", RULE_ALLOW, 1, {{1, SCMP_CMP_MASKED_EQ, REQUEST_MASK, FICLONE}}},
    {"ioctl", RULE_ALLOW, 1, {{1, SCMP_CMP_MASKED_EQ, REQUEST_MASK, FICLONERANGE}}},
    {"ioctl", RULE_ALLOW, 1, {{1, SCMP_CMP_MASKED_EQ, REQUEST_MASK, FIDEDUPERANGE}}},
};

/*
 * ioctl: everything but the btrfs family (but for the three requests in it that became every file system's): a subvolume
 * needs no privilege, is not charged to the project where the kernel has qgroups, and a sync of all projects' data is free
 * for one of them. "The family is another one" is: one of its eight bits is.
 */
static struct rule ioctl_rule(unsigned bit)
{
    uint64_t mask = UINT64_C(1) << (_IOC_TYPESHIFT + bit);
    uint64_t btrfs = (uint64_t)BTRFS_IOCTL_MAGIC << _IOC_TYPESHIFT;
    return (struct rule){"ioctl", RULE_ALLOW, 1, {{1, SCMP_CMP_MASKED_EQ, mask, ~btrfs & mask}}};
}

/* The other families up to the last one that is open; a comparison each, since a rule has one an argument. */
static const unsigned char closed_families[] = {0, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15};

static struct rule family_rule(size_t i)
{
    return (struct rule){"socket", EAFNOSUPPORT, 1, {{0, SCMP_CMP_EQ, closed_families[i], 0}}};
}

static uint64_t all_namespace_flags(void)
{
    uint64_t all = 0;
    for (size_t i = 0; i < RP_ARRAY_SIZE(namespace_flags); i++)
        all |= namespace_flags[i];
    return all;
}

/* clone: refused with any of the flags, allowed with none. */
static struct rule clone_rule(size_t i)
{
    if (i == RP_ARRAY_SIZE(namespace_flags))
        return (struct rule){"clone", RULE_ALLOW, 1, {{0, SCMP_CMP_MASKED_EQ, all_namespace_flags(), 0}}};
    uint64_t flag = namespace_flags[i];
    return (struct rule){"clone", EPERM, 1, {{0, SCMP_CMP_MASKED_EQ, flag, flag}}};
}

static const char *operator_name(enum scmp_compare op)
{
    return op == SCMP_CMP_EQ   ? "SCMP_CMP_EQ"
           : op == SCMP_CMP_NE ? "SCMP_CMP_NE"
           : op == SCMP_CMP_GT ? "SCMP_CMP_GT"
                               : "SCMP_CMP_MASKED_EQ";
}

static void open_rule(struct rp_json_writer *w, int errno_value)
{
    rp_json_open_object(w);
    rp_json_field_string(w, "action", errno_value == RULE_ALLOW ? "SCMP_ACT_ALLOW" : "SCMP_ACT_ERRNO");
    if (errno_value != RULE_ALLOW)
        rp_json_field_int(w, "errnoRet", errno_value);
    rp_json_key(w, "names");
    rp_json_open_array(w);
}

static void write_names(struct rp_json_writer *w, const char *const *names, size_t count, int errno_value)
{
    open_rule(w, errno_value);
    for (size_t i = 0; i < count; i++)
        rp_json_string(w, rp_str_of(names[i]));
    rp_json_close_array(w);
    rp_json_close_object(w);
}

static void write_rule(struct rp_json_writer *w, const struct rule *r)
{
    open_rule(w, r->errno_value);
    rp_json_string(w, rp_str_of(r->name));
    rp_json_close_array(w);
    rp_json_key(w, "args");
    rp_json_open_array(w);
    for (unsigned i = 0; i < r->arg_count; i++) {
        rp_json_open_object(w);
        rp_json_field_uint(w, "index", r->args[i].index);
        rp_json_field_uint(w, "value", r->args[i].a);
        rp_json_field_uint(w, "valueTwo", r->args[i].b);
        rp_json_field_string(w, "op", operator_name(r->args[i].op));
        rp_json_close_object(w);
    }
    rp_json_close_array(w);
    rp_json_close_object(w);
}

int rp_seccomp_json(struct rp_buf *out, struct rp_error *err)
{
    struct rp_json_writer w = rp_json_writer(out);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "defaultAction", "SCMP_ACT_ERRNO");
    rp_json_field_int(&w, "defaultErrnoRet", ENOSYS);
    rp_json_key(&w, "architectures");
    rp_json_open_array(&w);
#if defined(__x86_64__)
    rp_json_string(&w, RP_STR("SCMP_ARCH_X86_64"));
#elif defined(__aarch64__)
    rp_json_string(&w, RP_STR("SCMP_ARCH_AARCH64"));
#else
#error "seccomp: name this architecture, and check where clone has its flags"
#endif
    rp_json_close_array(&w);
    rp_json_key(&w, "syscalls");
    rp_json_open_array(&w);
    write_names(&w, refused, RP_ARRAY_SIZE(refused), EPERM);
    write_names(&w, allowed, RP_ARRAY_SIZE(allowed), RULE_ALLOW);
    for (size_t i = 0; i < RP_ARRAY_SIZE(rules); i++)
        write_rule(&w, &rules[i]);
    for (size_t i = 0; i < RP_ARRAY_SIZE(closed_families); i++) {
        struct rule r = family_rule(i);
        write_rule(&w, &r);
    }
    for (unsigned bit = 0; bit < 8; bit++) {
        struct rule r = ioctl_rule(bit);
        write_rule(&w, &r);
    }
    for (size_t i = 0; i <= RP_ARRAY_SIZE(namespace_flags); i++) {
        struct rule r = clone_rule(i);
        write_rule(&w, &r);
    }
    rp_json_close_array(&w);
    rp_json_close_object(&w);
    return w.failed ? rp_error_set(err, RP_ERROR_INTERNAL, "the seccomp profile is too long") : 0;
}

static void release(scmp_filter_ctx *filter)
{
    if (*filter)
        seccomp_release(*filter);
}

/* A name that libseccomp or an architecture does not know needs no rule: it answers ENOSYS anyway. */
static int add(scmp_filter_ctx filter, const char *name, int errno_value, unsigned count,
               const struct scmp_arg_cmp *args, struct rp_error *err)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR)
        return 0;
    uint32_t action = errno_value == RULE_ALLOW ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO((uint32_t)errno_value);
    int r = seccomp_rule_add_array(filter, action, number, count, args);
    return r < 0 && r != -EDOM ? rp_error_errno(err, RP_ERROR_INTERNAL, -r, "seccomp rule for %s", name) : 0;
}

static int add_rule(scmp_filter_ctx filter, const struct rule *r, struct rp_error *err)
{
    struct scmp_arg_cmp args[2];
    for (unsigned i = 0; i < r->arg_count; i++)
        args[i] = (struct scmp_arg_cmp){r->args[i].index, r->args[i].op, r->args[i].a, r->args[i].b};
    return add(filter, r->name, r->errno_value, r->arg_count, args, err);
}

static int build(scmp_filter_ctx filter, struct rp_error *err)
{
    /* The native architecture only: 32-bit calls pass by what looks at arguments (socketcall), lead through code of the
     * kernel that is seldom looked at, and an environment has no program that makes them. */
    int r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    if (r < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "seccomp architectures");
    /* A tree instead of 400 comparisons in a row. Older libraries do not know it. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < RP_ARRAY_SIZE(refused); i++)
        if (add(filter, refused[i], EPERM, 0, NULL, err) < 0)
            return -1;
    for (size_t i = 0; i < RP_ARRAY_SIZE(allowed); i++)
        if (add(filter, allowed[i], RULE_ALLOW, 0, NULL, err) < 0)
            return -1;
    for (size_t i = 0; i < RP_ARRAY_SIZE(rules); i++)
        if (add_rule(filter, &rules[i], err) < 0)
            return -1;
    for (size_t i = 0; i < RP_ARRAY_SIZE(closed_families); i++) {
        struct rule family = family_rule(i);
        if (add_rule(filter, &family, err) < 0)
            return -1;
    }
    for (unsigned bit = 0; bit < 8; bit++) {
        struct rule request = ioctl_rule(bit);
        if (add_rule(filter, &request, err) < 0)
            return -1;
    }
    for (size_t i = 0; i <= RP_ARRAY_SIZE(namespace_flags); i++) {
        struct rule clone = clone_rule(i);
        if (add_rule(filter, &clone, err) < 0)
            return -1;
    }
    return 0;
}

static bool base64(struct rp_buf *out, const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t have = RP_MIN(n - i, (size_t)3);
        uint32_t v =
            (uint32_t)p[i] << 16 | (have > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (have > 2 ? p[i + 2] : 0u);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], have > 1 ? digits[v >> 6 & 63] : '=',
                        have > 2 ? digits[v & 63] : '='};
        if (!rp_buf_append(out, four, 4))
            return false;
    }
    return true;
}

int rp_seccomp_bpf_base64(struct rp_buf *out, struct rp_error *err)
{
    _cleanup_(release) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (!filter)
        return rp_error_set(err, RP_ERROR_INTERNAL, "libseccomp does not work on this architecture");
    if (build(filter, err) < 0)
        return -1;
    _cleanup_close_ int fd = memfd_create("repld-seccomp", MFD_CLOEXEC);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "memfd");
    int r = seccomp_export_bpf(filter, fd);
    if (r < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "compile the seccomp filter");
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > RP_SECCOMP_BPF_MAX)
        return rp_error_set(err, RP_ERROR_INTERNAL, "the compiled seccomp filter is empty or too long");
    _cleanup_free_ unsigned char *bytes = rp_alloc((size_t)st.st_size);
    if (pread(fd, bytes, (size_t)st.st_size, 0) != st.st_size)
        return rp_error_set(err, RP_ERROR_INTERNAL, "read the compiled seccomp filter");
    if (!base64(out, bytes, (size_t)st.st_size))
        return rp_error_set(err, RP_ERROR_INTERNAL, "the compiled seccomp filter is too long");
    return 0;
}
