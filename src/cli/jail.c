#include "cli/jail.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/str.h"

/* ---- mounts ---- */

/* Makes ROOT/to (a directory, or a file when `from` is none) and binds `from` there. */
static int bind_path(const char *from, const char *root, const char *to, unsigned long flags,
                     struct rp_error *err)
{
    _cleanup_free_ char *target = rp_asprintf("%s%s", root, to);
    struct stat st;
    if (stat(from, &st) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "\"%s\"", from);
    for (char *p = target + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(target, 0755); /* what is wrong with it shows at the mount */
        *p = '/';
    }
    if (S_ISDIR(st.st_mode)) {
        mkdir(target, 0755);
    } else {
        int fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        rp_close_fd(&fd);
    }
    if (mount(from, target, NULL, MS_BIND, NULL) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "bind \"%s\" at %s", from, to);
    if (mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | flags, NULL) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "restrict %s", to);
    return 0;
}

/* Libraries, the resolver's and the time zone's configuration, certificates: what libc loads late. */
static int bind_system(const char *root, struct rp_error *err)
{
    static const char *const folders[] = {"/usr", "/lib", "/lib64", "/etc"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(folders); i++) {
        char link[256];
        ssize_t n = readlink(folders[i], link, sizeof(link) - 1);
        if (n > 0) {
            link[n] = '\0';
            _cleanup_free_ char *target = rp_asprintf("%s%s", root, folders[i]);
            if (symlink(link, target) < 0)
                return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "link \"%s\"", target);
        } else if (access(folders[i], F_OK) == 0 &&
                   bind_path(folders[i], root, folders[i], MS_RDONLY | MS_NODEV, err) < 0) {
            return -1;
        }
    }
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(devices); i++)
        if (bind_path(devices[i], root, devices[i], MS_NOEXEC, err) < 0)
            return -1;
    return 0;
}

static int bind_own(const struct rp_settings *s, const char *root, struct rp_error *err)
{
    enum { DATA = MS_NODEV | MS_NOEXEC };
    _cleanup_free_ char *data = rp_asprintf("%s/gateway", s->data_dir);
    _cleanup_free_ char *rings = rp_asprintf("%s/rings", s->runtime_dir);
    _cleanup_free_ char *socket = rp_asprintf("%s/orchestrator.sock", s->runtime_dir);
    if (bind_path(data, root, "/data/gateway", DATA, err) < 0 ||
        bind_path(rings, root, "/run/rings", DATA, err) < 0 ||
        bind_path(socket, root, "/run/orchestrator.sock", DATA, err) < 0 ||
        bind_path(s->environments_dir, root, "/environments", DATA | MS_RDONLY, err) < 0 ||
        bind_path("/proc", root, "/proc", DATA | MS_RDONLY, err) < 0)
        return -1;
    return 0;
}

int rp_jail_enter(struct rp_settings *s, struct rp_error *err)
{
    _cleanup_free_ char *root = rp_asprintf("%s/jail", s->runtime_dir);
    /* Private before anything else, so that none of this is seen outside. */
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make a mount namespace");
    if (mount("repld", root, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=64k") < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "mount \"%s\"", root);
    if (bind_system(root, err) < 0 || bind_own(s, root, err) < 0)
        return -1;
    if (mount(NULL, root, NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k") < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "restrict \"%s\"", root);
    /* pivot_root(2): with new root and put_old the same directory, the old root lies on top and is taken off.
     */
    if (chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/data/gateway") < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "change the root");
    s->data_dir = "/data";
    s->runtime_dir = "/run";
    s->environments_dir = "/environments";
    return 0;
}

/* ---- identity ---- */

int rp_drop_privileges(uint32_t uid, uint32_t gid, struct rp_error *err)
{
    for (int capability = 0; capability <= 63; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EINVAL)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "drop capability %d", capability);
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "become %u:%u", uid, gid);
    /* setresuid(2) emptied permitted and effective; the inheritable set is ours to empty. */
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "give up capabilities");
    if (setuid(0) == 0 || getuid() != uid || geteuid() != uid || getgid() != gid)
        return rp_error_set(err, RP_ERROR_INTERNAL, "could not give up root");
    return 0;
}
