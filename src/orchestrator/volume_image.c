#include "orchestrator/volume_image.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/str.h"
#include "orchestrator/volume.h"
#include "orchestrator/volume_btrfs.h"

enum {
    LOOP_MAJOR_NUMBER = 7,
    LOOP_ATTEMPTS = 32,      /* others take free loop devices too */
    BLOCK_SIZE_WANTED = 4096 /* what btrfs uses; direct I/O then never needs a smaller read */
};

/* ---- making the file ---- */

static int wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* sbin is not in everyone's PATH. */
static const char *find_mkfs(void)
{
    static const char *const paths[] = {"/usr/sbin/mkfs.btrfs", "/sbin/mkfs.btrfs", "/usr/bin/mkfs.btrfs",
                                        "/usr/local/sbin/mkfs.btrfs"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(paths); i++)
        if (access(paths[i], X_OK) == 0)
            return paths[i];
    return NULL;
}

/*
 * One copy of metadata: a second one on the same file protects from little and doubles what every fsync
 * writes. Nothing to discard in a new sparse file.
 */
static int make_file_system(const char *path, struct rp_error *err)
{
    const char *program = find_mkfs();
    if (!program)
        return rp_error_set(err, RP_ERROR_NOT_SUPPORTED,
                            "mkfs.btrfs is not installed (package btrfs-progs), which volumes need");
    const char *const argv[] = {program,  "-q", "-K",    "-m", "single", "-d",
                                "single", "-L", "repld", path, NULL};
    static const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    char said[256] = "";
    _cleanup_close_ int output = memfd_create("mkfs", MFD_CLOEXEC);
    if (output < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make a memory file");

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int r = posix_spawn(&pid, program, &actions, &attributes, (char *const *)(void *)argv,
                        (char *const *)(void *)environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (r != 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, r, "run \"%s\"", program);
    if (wait_for(pid) == 0)
        return 0;
    ssize_t n = pread(output, said, sizeof(said) - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    for (char *p = said; *p; p++)
        *p = *p == '\n' ? ' ' : *p;
    return rp_error_set(err, RP_ERROR_INTERNAL, "\"%s\" failed on \"%s\": %s", program, path, said);
}

static int disk_free(const char *path, uint64_t *ret, struct rp_error *err)
{
    struct statfs fs;
    if (statfs(path, &fs) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "ask for the free space at \"%s\"", path);
    *ret = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    return 0;
}

int rp_volume_disk_full(const char *path, uint64_t host_free, uint64_t reserve, struct rp_error *err)
{
    return rp_error_set(
        err, RP_ERROR_DISK_FULL,
        "the disk that holds \"%s\" has %llu MiB free, and %llu MiB of it are kept in reserve: "
        "free some space there, or lower --volume-reserve",
        path, (unsigned long long)(host_free >> 20), (unsigned long long)(reserve >> 20));
}

static int sync_directory_of(const char *path, struct rp_error *err)
{
    char directory[PATH_MAX];
    snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path), path);
    _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "sync \"%s\"", directory);
    return 0;
}

/* Under another name until it is whole. */
static int make_image(const char *path, uint64_t size, uint64_t reserve, struct rp_error *err)
{
    char unfinished[PATH_MAX], directory[PATH_MAX];
    uint64_t free_space;
    snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path), path);
    if ((size_t)snprintf(unfinished, sizeof(unfinished), "%s.new", path) >= sizeof(unfinished))
        return rp_error_set(err, RP_ERROR_INVALID, "the path \"%.100s…\" is too long", path);
    if (disk_free(directory, &free_space, err) < 0)
        return -1;
    uint64_t room = free_space > reserve ? free_space - reserve : 0;
    size = RP_MIN(size, room) & ~(uint64_t)(BLOCK_SIZE_WANTED - 1);
    if (size < RP_VOLUMES_SIZE_MIN)
        return rp_volume_disk_full(path, free_space, reserve, err);

    _cleanup_close_ int fd = open(unfinished, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", unfinished);
    if (make_file_system(unfinished, err) < 0) {
        unlink(unfinished);
        return -1;
    }
    if (fsync(fd) < 0 || rename(unfinished, path) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "finish \"%s\"", path);
    return sync_directory_of(path, err);
}

/* ---- loop devices ---- */

/* The node is there where devtmpfs is; in a container it may have to be made. */
static int loop_node(unsigned number)
{
    char path[32];
    snprintf(path, sizeof(path), "/dev/loop%u", number);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && mknod(path, S_IFBLK | 0600, makedev(LOOP_MAJOR_NUMBER, number)) == 0)
        fd = open(path, O_RDWR | O_CLOEXEC);
    return fd;
}

static bool is_backed_by(int loop, const struct stat *file)
{
    struct loop_info64 info;
    if (ioctl(loop, LOOP_GET_STATUS64, &info) < 0)
        return false;
    /* The kernel's own encoding of device numbers. */
    uint64_t device = (minor(file->st_dev) & 0xff) | ((uint64_t)major(file->st_dev) << 8) |
                      ((uint64_t)(minor(file->st_dev) & ~0xffu) << 12);
    return info.lo_device == device && info.lo_inode == file->st_ino;
}

/* A device that has the file already: -1 when there is none. Two devices on one file would ruin it. */
static int find_loop(const struct stat *file)
{
    _cleanup_dir_ DIR *d = opendir("/sys/block");
    struct dirent *e;
    while (d && (e = readdir(d))) {
        uint64_t number;
        char path[64];
        if (strncmp(e->d_name, "loop", 4) != 0 || !rp_str_to_u64(rp_str_of(e->d_name + 4), 1 << 20, &number))
            continue;
        snprintf(path, sizeof(path), "/sys/block/loop%u/loop", (unsigned)number);
        if (access(path, F_OK) < 0)
            continue; /* not in use */
        _cleanup_close_ int fd = loop_node((unsigned)number);
        if (fd >= 0 && is_backed_by(fd, file))
            return RP_STEAL_FD(fd);
    }
    return -1;
}

static int attach(int file, const char *path, struct rp_error *err)
{
    _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return rp_error_errno(err, RP_ERROR_NOT_SUPPORTED, errno,
                              "open \"/dev/loop-control\", which volumes need");
    uint32_t flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    for (int i = 0; i < LOOP_ATTEMPTS; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return rp_error_errno(err, RP_ERROR_NOT_SUPPORTED, errno, "find a free loop device");
        _cleanup_close_ int fd = loop_node((unsigned)number);
        if (fd < 0)
            return rp_error_errno(err, RP_ERROR_NOT_SUPPORTED, errno, "open \"/dev/loop%d\"", number);
        struct loop_config config = {
            .fd = (uint32_t)file, .block_size = BLOCK_SIZE_WANTED, .info = {.lo_flags = flags}};
        snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", path);
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
            return RP_STEAL_FD(fd);
        if (errno == EINVAL && (flags & LO_FLAGS_DIRECT_IO))
            flags &= ~(uint32_t)LO_FLAGS_DIRECT_IO; /* the disk below cannot: tmpfs, or larger blocks */
        else if (errno != EBUSY)
            return rp_error_errno(err, RP_ERROR_NOT_SUPPORTED, errno, "attach \"%s\" to a loop device", path);
    }
    return rp_error_set(err, RP_ERROR_UNAVAILABLE, "no loop device stays free for \"%s\"", path);
}

/* ---- mounting ---- */

static bool is_mounted(const char *path)
{
    char parent[PATH_MAX];
    struct stat here, above;
    struct statfs fs;
    snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
    return stat(path, &here) == 0 && stat(parent, &above) == 0 && here.st_dev != above.st_dev &&
           statfs(path, &fs) == 0 && fs.f_type == BTRFS_SUPER_MAGIC;
}

static int mount_it(int loop, const char *path, struct rp_error *err)
{
    char source[64];
    struct stat st;
    if (fstat(loop, &st) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "look at a loop device");
    snprintf(source, sizeof(source), "/dev/loop%u", minor(st.st_rdev));
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOATIME;
    if (mount(source, path, "btrfs", flags, "discard=async") == 0 ||
        (errno == EINVAL && mount(source, path, "btrfs", flags, NULL) == 0))
        return 0;
    if (errno == ENODEV)
        return rp_error_errno(err, RP_ERROR_NOT_SUPPORTED, errno,
                              "mount the volumes: the kernel has no btrfs");
    return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "mount \"%s\" on \"%s\"", source, path);
}

int rp_volume_image_open(const char *path, const char *mount, uint64_t first_size, uint64_t reserve,
                         struct rp_volume_image *ret, struct rp_error *err)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        if (errno != ENOENT)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "look at \"%s\"", path);
        if (make_image(path, first_size, reserve, err) < 0)
            return -1;
    }
    _cleanup_close_ int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0 || fstat(file, &st) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", path);
    _cleanup_close_ int loop = find_loop(&st);
    bool mounted = is_mounted(mount);
    if (mounted && loop < 0)
        return rp_error_set(err, RP_ERROR_CONFLICT, "something other than \"%s\" is mounted on \"%s\"", path,
                            mount);
    if (loop < 0)
        loop = attach(file, path, err);
    if (loop < 0 || (!mounted && mount_it(loop, mount, err) < 0))
        return -1;
    *ret = (struct rp_volume_image){.reserve = reserve};
    snprintf(ret->path, sizeof(ret->path), "%s", path);
    snprintf(ret->mount, sizeof(ret->mount), "%s", mount);
    ret->file = RP_STEAL_FD(file);
    ret->loop = RP_STEAL_FD(loop);
    return 0;
}

void rp_volume_image_close(struct rp_volume_image *i)
{
    rp_close_fd(&i->loop);
    rp_close_fd(&i->file);
}

int rp_volume_image_unmount(struct rp_volume_image *i, struct rp_error *err)
{
    if (umount2(i->mount, UMOUNT_NOFOLLOW) < 0)
        return rp_error_errno(err, errno == EBUSY ? RP_ERROR_CONFLICT : RP_ERROR_INTERNAL, errno,
                              "unmount \"%s\"", i->mount);
    return 0;
}

/* ---- space ---- */

int rp_volume_image_space(const struct rp_volume_image *i, struct rp_volume_space *ret, struct rp_error *err)
{
    struct stat st;
    struct rp_volume_space s = {0};
    if (fstat(i->file, &st) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "look at \"%s\"", i->path);
    if (disk_free(i->path, &s.host_free, err) < 0 || disk_free(i->mount, &s.inside_free, err) < 0)
        return -1;
    _cleanup_close_ int fd = open(i->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", i->mount);
    if (rp_btrfs_unallocated(fd, &s.unallocated, &s.chunk, err) < 0)
        return -1;
    s.size = (uint64_t)st.st_size;
    s.used = (uint64_t)st.st_blocks * 512;
    *ret = s;
    return 0;
}

uint64_t rp_volume_image_size_max(const struct rp_volume_space *s, uint64_t reserve)
{
    return s->used + (s->host_free > reserve ? s->host_free - reserve : 0);
}

static int set_length(struct rp_volume_image *i, uint64_t size, struct rp_error *err)
{
    if (ftruncate(i->file, (off_t)size) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "resize \"%s\"", i->path);
    if (ioctl(i->loop, LOOP_SET_CAPACITY, 0) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "resize the loop device of \"%s\"", i->path);
    return 0;
}

/* The file system is at no moment larger than what it lies on. */
int rp_volume_image_resize(struct rp_volume_image *i, uint64_t size, struct rp_error *err)
{
    struct stat st;
    size &= ~(uint64_t)(BLOCK_SIZE_WANTED - 1);
    _cleanup_close_ int fd = open(i->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(i->file, &st) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", i->mount);
    if (size > (uint64_t)st.st_size)
        return set_length(i, size, err) < 0 ? -1 : rp_btrfs_resize(fd, size, err);
    return rp_btrfs_resize(fd, size, err) < 0 ? -1 : set_length(i, size, err);
}
