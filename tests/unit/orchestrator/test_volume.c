/*
 * orchestrator/volume: projects' volumes on a real btrfs image: the quota holds, a crash leaves nothing half,
 * the image grows, a full disk says so. Runs as root in a mount namespace of its own.
 */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/str.h"
#include "orchestrator/volume.h"
#include "orchestrator/volume_btrfs.h"
#include "orchestrator/volume_image.h"
#include "orchestrator/volume_space.h"

#define ONE "aaaaaaaaaaaaaaa1"
#define TWO "aaaaaaaaaaaaaaa2"
#define MIB (UINT64_C(1) << 20)

static char data[64];
static struct rp_volumes *volumes;

static void must(int r, const struct rp_error *e)
{
    if (r < 0)
        fail_msg("%s", e->message);
}

static struct rp_volumes *open_volumes(const char *directory, uint64_t size, uint64_t reserve)
{
    struct rp_error e = {0};
    struct rp_volumes *v = NULL;
    struct rp_volumes_options o = {.data_dir = directory, .size = size, .reserve = reserve};
    must(rp_volumes_open(&o, &v, &e), &e);
    return v;
}

static void clear(const char *directory)
{
    char path[PATH_MAX];
    static const char *const names[] = {"volumes.btrfs", "volumes.btrfs.new", "volumes.lock", "filler"};
    snprintf(path, sizeof(path), "%s/volumes", directory);
    while (umount2(path, MNT_DETACH) == 0)
        ;
    rmdir(path);
    for (size_t i = 0; i < RP_ARRAY_SIZE(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        unlink(path);
    }
}

static int set_up(void **state)
{
    volumes = open_volumes(data, 1024 * MIB, 0);
    return 0;
}

static int tear_down(void **state)
{
    rp_volumes_close(volumes);
    volumes = NULL;
    clear(data);
    return 0;
}

static struct rp_volume_paths create(const char *project, uint64_t quota)
{
    struct rp_error e = {0};
    struct rp_volume_paths paths;
    must(rp_volumes_create(volumes, project, quota, &e), &e);
    must(rp_volumes_paths(volumes, project, &paths, &e), &e);
    return paths;
}

/* Writes with the file rights of the directory's owner, so that no privilege gets round the quota. Returns
 * the bytes that went in; *ret_error is why it ended, 0 when all did. */
static uint64_t write_file(const char *directory, const char *name, uint64_t bytes, int *ret_error)
{
    _cleanup_free_ char *block = rp_alloc(MIB);
    /* The directories above are root's alone; a sandbox never sees them. */
    _cleanup_close_ int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    memset(block, 'x', MIB);
    *ret_error = 0;
    struct stat owner = {0};
    if (fstat(at, &owner) < 0)
        *ret_error = errno;
    setfsgid(owner.st_gid);
    setfsuid(owner.st_uid);
    _cleanup_close_ int fd = openat(at, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    setfsuid(0);
    setfsgid(0);
    uint64_t done = 0;
    if (fd < 0)
        *ret_error = errno;
    while (fd >= 0 && done < bytes) {
        ssize_t n = write(fd, block, RP_MIN(bytes - done, MIB));
        if (n < 0) {
            *ret_error = errno;
            break;
        }
        done += (uint64_t)n;
    }
    if (fd >= 0 && fsync(fd) < 0 && *ret_error == 0)
        *ret_error = errno;
    return done;
}

static bool is_full(int error)
{
    return error == EDQUOT || error == ENOSPC;
}

static void assert_can_write(const char *directory, const char *name, uint64_t bytes)
{
    int error;
    assert_int_equal(write_file(directory, name, bytes, &error), bytes);
    assert_int_equal(error, 0);
}

static struct rp_volume_usage usage(const char *project)
{
    struct rp_error e = {0};
    struct rp_volume_usage u;
    must(rp_volumes_usage(volumes, project, &u, &e), &e);
    return u;
}

struct seen {
    int count;
    bool one, two;
};

static void see(void *ctx, const char *project)
{
    struct seen *s = ctx;
    s->count++;
    s->one = s->one || strcmp(project, ONE) == 0;
    s->two = s->two || strcmp(project, TWO) == 0;
}

static struct seen list(void)
{
    struct rp_error e = {0};
    struct seen s = {0};
    must(rp_volumes_list(volumes, see, &s, &e), &e);
    return s;
}

/* ---- volumes ---- */

static void made_as_promised(void **state)
{
    struct rp_error e = {0};
    struct rp_volume_paths p = create(ONE, 64 * MIB), again = create(ONE, 32 * MIB);
    struct stat st;
    struct statvfs fs;
    assert_string_equal(p.files, again.files);
    assert_int_equal(stat(p.files, &st), 0);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(st.st_gid, 1000);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(stat(p.system, &st), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(stat(p.work, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(statvfs(p.files, &fs), 0);
    assert_true(fs.f_flag & ST_NOSUID && fs.f_flag & ST_NODEV);
    assert_int_equal(usage(ONE).quota, 32 * MIB);
    create(TWO, 32 * MIB);
    struct seen s = list();
    assert_int_equal(s.count, 2);
    assert_true(s.one && s.two);
    must(rp_volumes_check(volumes, &e), &e);
}

static void refuses_what_it_should(void **state)
{
    struct rp_error e = {0};
    struct rp_volume_paths p;
    struct rp_volume_usage u;
    static const char *const bad[] = {"",        "..", "../../etc", "aaaaaaaaaaaaaaaA", "aaaaaaaaaaaaaaa",
                                      ".ballast"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++) {
        assert_int_equal(rp_volumes_create(volumes, bad[i], 64 * MIB, &e), -1);
        assert_int_equal(e.code, RP_ERROR_INVALID);
        assert_int_equal(rp_volumes_remove(volumes, bad[i], &e), -1);
    }
    assert_int_equal(rp_volumes_create(volumes, ONE, 1, &e), -1);
    assert_int_equal(e.code, RP_ERROR_INVALID);
    assert_int_equal(rp_volumes_paths(volumes, ONE, &p, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
    assert_int_equal(rp_volumes_usage(volumes, ONE, &u, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
    assert_int_equal(rp_volumes_set_quota(volumes, ONE, 64 * MIB, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
    assert_int_equal(rp_volumes_clone(volumes, ONE, TWO, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
    must(rp_volumes_remove(volumes, ONE, &e), &e);
}

static void removed_at_once(void **state)
{
    struct rp_error e = {0};
    struct rp_volume_paths p = create(ONE, 64 * MIB);
    struct stat st;
    assert_can_write(p.files, "a", 10 * MIB);
    must(rp_volumes_remove(volumes, ONE, &e), &e);
    assert_int_equal(list().count, 0);
    assert_int_equal(stat(p.files, &st), -1);
    create(ONE, 64 * MIB);
    assert_true(usage(ONE).used < MIB);
}

/* ---- the quota ---- */

static void stops_endless_writing(void **state)
{
    struct rp_error e = {0};
    struct rp_volume_paths one = create(ONE, 20 * MIB), two = create(TWO, 64 * MIB);
    char path[PATH_MAX + 8];
    int error;
    uint64_t wrote = write_file(one.files, "a", 200 * MIB, &error);
    assert_true(is_full(error));
    assert_in_range(wrote, 15 * MIB, 20 * MIB);
    assert_in_range(usage(ONE).used, 15 * MIB, 20 * MIB);
    /* Neither the system nor temporary files are a way round. */
    wrote = write_file(one.system, "b", 50 * MIB, &error);
    assert_true(is_full(error) && wrote < 5 * MIB);
    assert_can_write(two.files, "a", 30 * MIB);
    /* What is full can be emptied again. */
    snprintf(path, sizeof(path), "%s/a", one.files);
    assert_int_equal(unlink(path), 0);
    must(rp_volumes_set_quota(volumes, ONE, 40 * MIB, &e), &e);
    assert_can_write(one.files, "c", 25 * MIB);
}

static void stops_endless_creation(void **state)
{
    struct rp_volume_paths one = create(ONE, 3 * MIB), two = create(TWO, 64 * MIB);
    char path[PATH_MAX + 32];
    int made = 0, error = 0;
    for (; made < 200000 && error == 0; made++) {
        snprintf(path, sizeof(path), "%s/%d", one.files, made);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            error = errno;
        else
            close(fd);
    }
    print_message("# %d empty files in 3 MiB\n", made);
    assert_true(is_full(error));
    assert_can_write(two.files, "a", 10 * MIB);
    snprintf(path, sizeof(path), "%s/0", one.files);
    assert_int_equal(unlink(path), 0);
}

static int make_nested(const char *directory, const char *name)
{
    struct btrfs_ioctl_vol_args_v2 args = {0};
    snprintf(args.name, sizeof(args.name), "%s", name);
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(directory, O_RDONLY | O_DIRECTORY);
        if (fd < 0 || setgid(RP_VOLUME_GID) < 0 || setuid(RP_VOLUME_UID) < 0)
            _exit(100);
        _exit(ioctl(fd, BTRFS_IOC_SUBVOL_CREATE_V2, &args) < 0 ? errno : 0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void subvolumes_of_the_user_count_too(void **state)
{
    struct rp_error e = {0};
    struct rp_volume_paths one = create(ONE, 20 * MIB);
    char nested[PATH_MAX + 16], deeper[PATH_MAX + 32];
    int error;
    assert_int_equal(make_nested(one.files, "nested"), 0);
    snprintf(nested, sizeof(nested), "%s/nested", one.files);
    assert_int_equal(make_nested(nested, "deeper"), 0);
    snprintf(deeper, sizeof(deeper), "%s/deeper", nested);
    uint64_t wrote = write_file(deeper, "a", 100 * MIB, &error);
    assert_true(is_full(error));
    assert_in_range(wrote, 10 * MIB, 20 * MIB);
    must(rp_volumes_remove(volumes, ONE, &e), &e);
    struct stat st;
    assert_int_equal(stat(deeper, &st), -1);
    /* And the background really gets rid of them. */
    char pattern[PATH_MAX];
    for (int i = 0; i < 500; i++) {
        bool left = false;
        snprintf(pattern, sizeof(pattern), "%s/volumes", data);
        DIR *d = opendir(pattern);
        for (struct dirent *entry; (entry = readdir(d));)
            left = left || strncmp(entry->d_name, ".gone-", 6) == 0;
        closedir(d);
        if (!left)
            return;
        usleep(10 * 1000);
    }
    fail_msg("a removed volume with subvolumes inside is still there after 5 s");
}

/* Writes below the limit that are not on disk yet count as well. */
static void usage_is_current(void **state)
{
    struct rp_volume_paths one = create(ONE, 64 * MIB);
    uint64_t before = usage(ONE).used;
    char path[PATH_MAX + 8];
    snprintf(path, sizeof(path), "%s/a", one.files);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    _cleanup_free_ char *block = rp_calloc(1, MIB);
    for (int i = 0; i < 8; i++)
        assert_int_equal(write(fd, block, MIB), MIB);
    assert_in_range(usage(ONE).used, before + 8 * MIB, before + 10 * MIB);
    uint64_t start = rp_clock_monotonic_ns();
    for (int i = 0; i < 100; i++)
        usage(ONE);
    uint64_t each = (rp_clock_monotonic_ns() - start) / 100;
    print_message("# usage: %.3f ms\n", (double)each / 1e6);
    assert_true(each < 5 * 1000 * 1000);
}

/* ---- clones ---- */

static void clones_are_quick_and_independent(void **state)
{
    struct rp_error e = {0};
    struct rp_volume_paths one = create(ONE, 100 * MIB), two;
    char path[PATH_MAX + 8];
    int error;
    assert_can_write(one.files, "a", 60 * MIB);
    uint64_t start = rp_clock_monotonic_ns();
    must(rp_volumes_clone(volumes, ONE, TWO, &e), &e);
    uint64_t took = rp_clock_monotonic_ns() - start;
    print_message("# clone of 60 MiB: %.1f ms\n", (double)took / 1e6);
    assert_true(took < UINT64_C(1000) * 1000 * 1000);
    must(rp_volumes_paths(volumes, TWO, &two, &e), &e);
    struct stat st;
    snprintf(path, sizeof(path), "%s/a", two.files);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 60 * MIB);
    assert_int_equal(usage(TWO).quota, 100 * MIB);
    assert_int_equal(rp_volumes_clone(volumes, ONE, TWO, &e), -1);
    assert_int_equal(e.code, RP_ERROR_EXISTS);
    /* The limit holds for the copy too, and the original neither notices nor goes with it. */
    write_file(two.files, "b", 300 * MIB, &error);
    assert_true(is_full(error));
    must(rp_volumes_remove(volumes, ONE, &e), &e);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(list().count, 1);
}

/* ---- restarts and crashes ---- */

static void a_restart_adopts_the_mount(void **state)
{
    struct rp_volume_paths one = create(ONE, 64 * MIB);
    struct stat before, after;
    char path[PATH_MAX + 8];
    assert_can_write(one.files, "a", MIB);
    snprintf(path, sizeof(path), "%s/b", one.files);
    _cleanup_close_ int held = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(stat(one.files, &before), 0);
    rp_volumes_close(volumes);
    assert_int_equal(write(held, "x", 1), 1);
    volumes = open_volumes(data, 1024 * MIB, 0);
    assert_int_equal(write(held, "x", 1), 1);
    assert_int_equal(stat(one.files, &after), 0);
    assert_int_equal(before.st_dev, after.st_dev);
    assert_int_equal(usage(ONE).quota, 64 * MIB);
}

static int loops_on_image(void)
{
    int count = 0;
    DIR *d = opendir("/sys/block");
    for (struct dirent *e; (e = readdir(d));) {
        char path[PATH_MAX], text[PATH_MAX] = "";
        snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", e->d_name);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strstr(text, data))
            count++;
    }
    closedir(d);
    return count;
}

static void a_reboot_mounts_again(void **state)
{
    struct rp_error e = {0};
    struct rp_volume_paths one = create(ONE, 64 * MIB);
    char path[PATH_MAX + 8];
    assert_can_write(one.files, "a", MIB);
    assert_int_equal(loops_on_image(), 1);
    {
        snprintf(path, sizeof(path), "%s/a", one.files);
        _cleanup_close_ int busy = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(busy >= 0);
        assert_int_equal(rp_volumes_unmount(volumes, &e), -1);
        assert_int_equal(e.code, RP_ERROR_CONFLICT);
        assert_int_equal(list().count, 1); /* still usable */
    }
    must(rp_volumes_unmount(volumes, &e), &e);
    for (int i = 0; i < 100 && loops_on_image() > 0; i++)
        usleep(10 * 1000);
    assert_int_equal(loops_on_image(), 0);
    volumes = open_volumes(data, 1024 * MIB, 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(usage(ONE).quota, 64 * MIB);
}

static void one_server_a_data_directory(void **state)
{
    struct rp_error e = {0};
    struct rp_volumes *second = NULL;
    struct rp_volumes_options o = {.data_dir = data};
    assert_int_equal(rp_volumes_open(&o, &second, &e), -1);
    assert_int_equal(e.code, RP_ERROR_CONFLICT);
}

static void check_whole(void *ctx, const char *project)
{
    struct rp_volume_paths p;
    struct rp_volume_usage u;
    struct stat st;
    struct rp_error e = {0};
    must(rp_volumes_paths(volumes, project, &p, &e), &e);
    must(rp_volumes_usage(volumes, project, &u, &e), &e);
    assert_int_equal(stat(p.files, &st), 0);
    assert_int_equal(st.st_uid, RP_VOLUME_UID);
    assert_int_equal(stat(p.system, &st), 0);
    assert_int_equal(stat(p.work, &st), 0);
    assert_int_equal(u.quota, 64 * MIB);
    ++*(int *)ctx;
}

static void a_killed_server_leaves_nothing_half(void **state)
{
    struct rp_error e = {0};
    int whole = 0;
    for (int round = 0; round < 6; round++) {
        rp_volumes_close(volumes);
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            struct rp_volumes_options o = {.data_dir = data};
            if (rp_volumes_open(&o, &volumes, NULL) < 0)
                _exit(1);
            for (;;) {
                char id[RP_ID_SIZE];
                rp_random_id(id);
                if (rp_volumes_create(volumes, id, 64 * MIB, NULL) < 0)
                    _exit(1);
            }
        }
        usleep(60 * 1000 + (useconds_t)round * 17 * 1000);
        kill(pid, SIGKILL);
        int status = 0;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
        volumes = open_volumes(data, 1024 * MIB, 0);
        whole = 0;
        must(rp_volumes_list(volumes, check_whole, &whole, &e), &e);
    }
    print_message("# %d whole volumes after six kills\n", whole);
    assert_true(whole > 0);
    /* What a kill between the two steps leaves is gone after the next start. */
    char root[PATH_MAX];
    snprintf(root, sizeof(root), "%s/volumes", data);
    {
        _cleanup_close_ int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        must(rp_btrfs_subvolume_create(fd, ".new-" ONE "-aaaaaaaaaaaaaaaa", &e), &e);
    }
    assert_false(list().one);
    rp_volumes_close(volumes);
    volumes = open_volumes(data, 1024 * MIB, 0);
    struct stat st;
    snprintf(root, sizeof(root), "%s/volumes/.new-%s-aaaaaaaaaaaaaaaa", data, ONE);
    assert_int_equal(stat(root, &st), -1);
}

/* ---- space ---- */

static void the_image_grows_while_it_is_written(void **state)
{
    struct stat st;
    char image[PATH_MAX];
    tear_down(state);
    volumes = open_volumes(data, 256 * MIB, 0);
    struct rp_volume_paths one = create(ONE, 2048 * MIB);
    snprintf(image, sizeof(image), "%s/volumes.btrfs", data);
    for (int i = 0; i < 10; i++) {
        char name[8];
        snprintf(name, sizeof(name), "%d", i);
        assert_can_write(one.files, name, 60 * MIB);
        usleep(150 * 1000); /* a disk's pace, rather than memory's */
    }
    assert_int_equal(stat(image, &st), 0);
    assert_true((uint64_t)st.st_size >= 600 * MIB);
}

static void sizes(void **state)
{
    const uint64_t gib = UINT64_C(1) << 30;
    struct rp_volume_space s = {.size = 8 * gib,
                                .used = gib,
                                .host_free = 100 * gib,
                                .inside_free = 7 * gib,
                                .unallocated = 6 * gib,
                                .chunk = 800 * MIB};
    assert_int_equal(rp_volume_size_wanted(&s, 2 * gib), 8 * gib); /* nothing to do */
    s.inside_free = gib;
    s.used = 7 * gib;
    assert_int_equal(rp_volume_size_wanted(&s, 2 * gib), 10 * gib); /* a quarter more */
    s.inside_free = 3 * gib;
    s.unallocated = 100 * MIB;
    assert_int_equal(rp_volume_size_wanted(&s, 2 * gib), 10 * gib); /* metadata needs room too */
    s.host_free = 3 * gib + 512 * MIB;
    assert_int_equal(rp_volume_size_wanted(&s, 2 * gib),
                     8 * gib + 512 * MIB); /* as far as the reserve lets it */
    s.host_free = 2 * gib + 10 * MIB;
    s.used = 8 * gib;
    assert_int_equal(rp_volume_size_wanted(&s, 2 * gib), 8 * gib); /* too little to be worth it */
    /* Something else took the disk. */
    s = (struct rp_volume_space){.size = 8 * gib,
                                 .used = gib,
                                 .host_free = 3 * gib,
                                 .inside_free = 7 * gib,
                                 .unallocated = 7 * gib,
                                 .chunk = 800 * MIB};
    assert_int_equal(rp_volume_size_wanted(&s, gib), 3 * gib);
    assert_int_equal(rp_volume_size_wanted(&s, 5 * gib), gib + 800 * MIB); /* but metadata keeps a chunk */
    s.size = 300 * MIB;
    s.unallocated = 290 * MIB;
    s.used = 10 * MIB;
    s.chunk = 30 * MIB;
    s.host_free = 0;
    assert_int_equal(rp_volume_size_wanted(&s, gib), 300 * MIB); /* btrfs is no smaller than 256 MiB */
}

static void write_host_file(const char *directory, uint64_t bytes)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/filler", directory);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, (off_t)bytes), 0);
}

static void a_full_disk_is_said_so(void **state)
{
    struct rp_error e = {0};
    char tiny[80];
    struct rp_volumes *v = NULL;
    snprintf(tiny, sizeof(tiny), "%s/tiny", data);
    assert_int_equal(mkdir(tiny, 0700), 0);
    assert_int_equal(mount("tmpfs", tiny, "tmpfs", 0, "size=200m"), 0);
    struct rp_volumes_options o = {.data_dir = tiny, .size = 1024 * MIB, .reserve = 20 * MIB};
    assert_int_equal(rp_volumes_open(&o, &v, &e), -1);
    assert_int_equal(e.code, RP_ERROR_DISK_FULL);
    print_message("# %s\n", e.message);
    assert_non_null(strstr(e.message, "--volume-reserve"));
    clear(tiny);
    assert_int_equal(umount(tiny), 0);
    assert_int_equal(rmdir(tiny), 0);
}

/* Something else fills the disk under the image: projects get "no space left", the image stays healthy. */
static void the_disk_fills_from_outside(void **state)
{
    struct rp_error e = {0};
    char small[80], filler[96];
    struct rp_volumes *saved = volumes;
    int error;
    snprintf(small, sizeof(small), "%s/small", data);
    snprintf(filler, sizeof(filler), "%s/filler", small);
    assert_int_equal(mkdir(small, 0700), 0);
    assert_int_equal(mount("tmpfs", small, "tmpfs", 0, "size=1500m"), 0);
    volumes = open_volumes(small, 1024 * MIB, 200 * MIB);
    struct rp_volume_paths one = create(ONE, 1024 * MIB);
    assert_can_write(one.files, "a", 20 * MIB);
    write_host_file(small, 900 * MIB);
    struct statvfs fs;
    for (int i = 0; i < 300 && statvfs(one.files, &fs) == 0 && fs.f_bavail * fs.f_bsize > 500 * MIB; i++)
        usleep(10 * 1000);
    uint64_t wrote = write_file(one.files, "b", 700 * MIB, &error);
    print_message("# %llu MiB went in beside the reserve\n", (unsigned long long)(wrote >> 20));
    assert_true(is_full(error));
    assert_in_range(wrote, 100 * MIB, 450 * MIB);
    assert_int_equal(statvfs(small, &fs), 0);
    assert_true(fs.f_bavail * fs.f_bsize >= 100 * MIB); /* the reserve, but for a chunk of metadata */
    assert_int_equal(statvfs(one.files, &fs), 0);
    assert_false(fs.f_flag & ST_RDONLY);
    char path[PATH_MAX + 8];
    snprintf(path, sizeof(path), "%s/b", one.files);
    assert_int_equal(unlink(path), 0);
    /* Room on the disk gives room to projects. */
    assert_int_equal(unlink(filler), 0);
    uint64_t room = 0;
    for (int i = 0; i < 600 && room < 300 * MIB; i++) {
        usleep(10 * 1000);
        assert_int_equal(statvfs(one.files, &fs), 0);
        room = fs.f_bavail * fs.f_bsize;
    }
    assert_can_write(one.files, "c", 100 * MIB);
    must(rp_volumes_check(volumes, &e), &e);
    rp_volumes_close(volumes);
    volumes = saved;
    clear(small);
    umount2(small, MNT_DETACH);
    rmdir(small);
}

/* ---- a data directory that is btrfs already ---- */

static void on_btrfs_as_it_is(bool qgroups)
{
    struct rp_error e = {0};
    struct rp_volume_image host;
    struct rp_volumes *saved = volumes;
    char image[80], mount_point[80], made[96];
    int error;
    snprintf(image, sizeof(image), "%s/filler", data);
    snprintf(mount_point, sizeof(mount_point), "%s/host", data);
    snprintf(made, sizeof(made), "%s/volumes.btrfs", mount_point);
    assert_int_equal(mkdir(mount_point, 0700), 0);
    must(rp_volume_image_open(image, mount_point, 512 * MIB, 0, &host, &e), &e);
    if (qgroups) {
        struct btrfs_ioctl_quota_ctl_args on = {.cmd = BTRFS_QUOTA_CTL_ENABLE};
        _cleanup_close_ int fd = open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(ioctl(fd, BTRFS_IOC_QUOTA_CTL, &on), 0);
    }
    volumes = open_volumes(mount_point, 0, 0);
    struct stat st;
    assert_int_equal(stat(made, &st), -1);
    struct rp_volume_paths one = create(ONE, 20 * MIB);
    struct statvfs fs;
    assert_int_equal(statvfs(one.files, &fs), 0);
    assert_true(fs.f_flag & ST_NOSUID && fs.f_flag & ST_NODEV);
    uint64_t wrote = write_file(one.files, "a", 100 * MIB, &error);
    assert_true(is_full(error));
    assert_in_range(wrote, 10 * MIB, 20 * MIB);
    assert_in_range(usage(ONE).used, 10 * MIB, 20 * MIB);
    must(rp_volumes_clone(volumes, ONE, TWO, &e), &e);
    rp_volumes_close(volumes);
    volumes = open_volumes(mount_point, 0, 0);
    assert_int_equal(list().count, 2);
    must(rp_volumes_unmount(volumes, &e), &e);
    volumes = saved;
    rp_volume_image_close(&host);
    umount2(mount_point, MNT_DETACH);
    rmdir(mount_point);
}

static void on_btrfs_with_simple_quotas(void **state)
{
    on_btrfs_as_it_is(false);
}

static void on_btrfs_with_qgroups(void **state)
{
    on_btrfs_as_it_is(true);
}

static int begin(void **state)
{
    snprintf(data, sizeof(data), "/tmp/repld-test-volume-%d", getpid());
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mkdir(data, 0700) < 0)
        return -1;
    return 0;
}

static int end(void **state)
{
    return rmdir(data);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(made_as_promised),
        TEST(refuses_what_it_should),
        TEST(removed_at_once),
        TEST(stops_endless_writing),
        TEST(stops_endless_creation),
        TEST(subvolumes_of_the_user_count_too),
        TEST(usage_is_current),
        TEST(clones_are_quick_and_independent),
        TEST(a_restart_adopts_the_mount),
        TEST(a_reboot_mounts_again),
        TEST(one_server_a_data_directory),
        TEST(a_killed_server_leaves_nothing_half),
        TEST(the_image_grows_while_it_is_written),
        cmocka_unit_test(sizes),
        TEST(a_full_disk_is_said_so),
        TEST(the_disk_fills_from_outside),
        TEST(on_btrfs_with_simple_quotas),
        TEST(on_btrfs_with_qgroups),
    };
    return cmocka_run_group_tests_name("orchestrator/volume", tests, begin, end);
}
