#include "orchestrator/volume.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/str.h"
#include "orchestrator/volume_btrfs.h"
#include "orchestrator/volume_image.h"
#include "orchestrator/volume_space.h"

/* Names beside the volumes themselves, which a project id can never be. */
#define UNFINISHED ".new-"
#define REMOVED    ".gone-"

enum {
    NAME_SIZE = 64,
    WATCH_MS = 1000,     /* between looks at free space */
    WATCH_BUSY_MS = 100, /* the same while it goes fast */
    SWEEP_SECONDS = 60,  /* between attempts to remove what removed volumes left */
};

/* Free space below which nothing new is begun: btrfs itself needs some to work. */
#define FREE_MIN (UINT64_C(16) << 20)

struct rp_volumes {
    char data[PATH_MAX - 64], root[PATH_MAX - 32]; /* DATA, DATA/volumes */
    int lock_file, directory;                      /* owned; directory: of root */
    bool has_image, simple;                        /* simple: quotas of that kind */
    uint64_t reserve;
    struct rp_volume_image image;

    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stop, removed; /* removed: there is something to clean up */
};

/* ---- the thread: room to grow into, and what removed volumes left ---- */

/* Removes subvolumes whose names begin with a prefix; false when some stay for later. */
static bool remove_named(struct rp_volumes *v, const char *prefix)
{
    int fd = openat(v->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    bool all = d != NULL;
    if (!d && fd >= 0)
        close(fd);
    while (d && (e = readdir(d)))
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 &&
            rp_btrfs_subvolume_remove(v->directory, v->simple, e->d_name, NULL) < 0)
            all = false;
    return all;
}

/* Waits for the next look; true when asked to stop. *removed: a volume was removed meanwhile. */
static bool pause_watch(struct rp_volumes *v, int milliseconds, bool *ret_removed)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += milliseconds * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&v->lock);
    int r = 0;
    while (!v->stop && !v->removed && r == 0)
        r = pthread_cond_timedwait(&v->wake, &v->lock, &until);
    bool stop = v->stop;
    *ret_removed = v->removed;
    v->removed = false;
    pthread_mutex_unlock(&v->lock);
    return stop;
}

static void *watch(void *arg)
{
    struct rp_volumes *v = arg;
    struct rp_volume_guard guard = {0};
    bool leftovers = true; /* of a server that died */
    bool removed = true;
    time_t swept = 0;
    for (;;) {
        bool busy = v->has_image && rp_volume_guard_look(&guard, &v->image);
        if (removed) {
            (void)!remove_named(v, REMOVED);
            leftovers = true; /* their quotas can go only some time later */
        }
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (leftovers && (swept == 0 || now.tv_sec - swept >= SWEEP_SECONDS)) {
            leftovers = !remove_named(v, REMOVED) || rp_btrfs_quota_sweep(v->directory, NULL) < 0;
            swept = now.tv_sec;
        }
        if (pause_watch(v, busy ? WATCH_BUSY_MS : WATCH_MS, &removed))
            return NULL;
    }
}

static int start_thread(struct rp_volumes *v, struct rp_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&v->thread, NULL, watch, v);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, r, "start the volumes' thread");
    v->thread_runs = true;
    return 0;
}

static void stop_thread(struct rp_volumes *v)
{
    if (!v->thread_runs)
        return;
    pthread_mutex_lock(&v->lock);
    v->stop = true;
    pthread_cond_broadcast(&v->wake);
    pthread_mutex_unlock(&v->lock);
    pthread_join(v->thread, NULL);
    v->thread_runs = v->stop = false;
}

/* ---- open and close ---- */

static void volumes_free(struct rp_volumes *v)
{
    stop_thread(v);
    if (v->has_image)
        rp_volume_image_close(&v->image);
    rp_close_fd(&v->directory);
    rp_close_fd(&v->lock_file);
    pthread_cond_destroy(&v->wake);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

static void volumes_done(struct rp_volumes **v)
{
    if (*v)
        volumes_free(*v);
    *v = NULL;
}

static int take_lock(struct rp_volumes *v, struct rp_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/volumes.lock", v->data);
    v->lock_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (v->lock_file < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", path);
    if (flock(v->lock_file, LOCK_EX | LOCK_NB) < 0)
        return rp_error_errno(err, errno == EWOULDBLOCK ? RP_ERROR_CONFLICT : RP_ERROR_INTERNAL, errno,
                              "lock \"%s\": another server uses it", path);
    return 0;
}

/* A data directory on btrfs needs no image: a mount of its own only adds the flags. */
static int use_as_it_is(struct rp_volumes *v, struct rp_error *err)
{
    struct statfs fs;
    if (statfs(v->root, &fs) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "look at \"%s\"", v->root);
    if ((fs.f_flags & (ST_NOSUID | ST_NODEV)) == (ST_NOSUID | ST_NODEV))
        return 0;
    if (mount(v->root, v->root, NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, v->root, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOATIME, NULL) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "mount \"%s\" nosuid,nodev", v->root);
    return 0;
}

static int open_root(struct rp_volumes *v, uint64_t size, struct rp_error *err)
{
    char image[PATH_MAX];
    struct statfs fs;
    struct stat st;
    snprintf(image, sizeof(image), "%s/volumes.btrfs", v->data);
    if (mkdir(v->root, 0700) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", v->root);
    if (statfs(v->data, &fs) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "look at \"%s\"", v->data);
    v->has_image = fs.f_type != BTRFS_SUPER_MAGIC || stat(image, &st) == 0;
    if (v->has_image) {
        v->image.file = v->image.loop = -1;
        if (rp_volume_image_open(image, v->root, size ? size : RP_VOLUMES_SIZE_INIT, v->reserve, &v->image,
                                 err) < 0)
            return -1;
    } else if (use_as_it_is(v, err) < 0) {
        return -1;
    }
    v->directory = open(v->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (v->directory < 0 || fchmod(v->directory, 0700) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open \"%s\"", v->root);
    return rp_btrfs_quota_enable(v->directory, &v->simple, err);
}

int rp_volumes_open(const struct rp_volumes_options *options, struct rp_volumes **ret, struct rp_error *err)
{
    _cleanup_(volumes_done) struct rp_volumes *v = rp_calloc(1, sizeof(*v));
    v->lock_file = v->directory = v->image.file = v->image.loop = -1;
    v->reserve = options->reserve;
    pthread_mutex_init(&v->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&v->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (options->data_dir[0] != '/' ||
        (size_t)snprintf(v->data, sizeof(v->data), "%s", options->data_dir) >= sizeof(v->data))
        return rp_error_set(err, RP_ERROR_INVALID,
                            "the data directory \"%.100s\" is not a path from / or too long",
                            options->data_dir);
    snprintf(v->root, sizeof(v->root), "%s/volumes", v->data);
    if (take_lock(v, err) < 0 || open_root(v, options->size, err) < 0)
        return rp_error_prefix(err, "open the projects' volumes");
    if (!remove_named(v, UNFINISHED))
        return rp_error_set(err, RP_ERROR_INTERNAL, "remove what an interrupted server left in \"%s\"",
                            v->root);
    if (start_thread(v, err) < 0)
        return -1;
    *ret = RP_STEAL_PTR(v);
    return 0;
}

void rp_volumes_close(struct rp_volumes *v)
{
    if (v)
        volumes_free(v);
}

int rp_volumes_unmount(struct rp_volumes *v, struct rp_error *err)
{
    int r = 0;
    stop_thread(v);
    rp_close_fd(&v->directory);
    if (v->has_image)
        r = rp_volume_image_unmount(&v->image, err);
    else if (umount2(v->root, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
        r = rp_error_errno(err, errno == EBUSY ? RP_ERROR_CONFLICT : RP_ERROR_INTERNAL, errno,
                           "unmount \"%s\"", v->root);
    if (r < 0) {
        v->directory = open(v->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (v->directory < 0 || start_thread(v, NULL) < 0)
            abort(); /* it was there a moment ago and we hold no promise without it */
        return -1;
    }
    volumes_free(v);
    return 0;
}

/* ---- volumes ---- */

static int check_id(const char *project, struct rp_error *err)
{
    if (!rp_id_valid(project, strlen(project)))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%.40s\" is not a project id", project);
    return 0;
}

static int check_quota(uint64_t quota, struct rp_error *err)
{
    if (quota < RP_VOLUME_QUOTA_MIN || quota > RP_VOLUME_QUOTA_MAX)
        return rp_error_set(err, RP_ERROR_INVALID, "a disk quota is from 1 MiB to 1 PiB");
    return 0;
}

/* The volume's directory. */
static int open_volume(const struct rp_volumes *v, const char *project, struct rp_error *err)
{
    if (check_id(project, err) < 0)
        return -1;
    _cleanup_close_ int fd = openat(v->directory, project, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || !rp_btrfs_is_subvolume(fd))
        return rp_error_set(err, RP_ERROR_NOT_FOUND, "project \"%s\" has no volume", project);
    return RP_STEAL_FD(fd);
}

static int open_with_id(const struct rp_volumes *v, const char *project, uint64_t *ret_id,
                        struct rp_error *err)
{
    _cleanup_close_ int fd = open_volume(v, project, err);
    if (fd < 0 || rp_btrfs_subvolume_id(fd, ret_id, err) < 0)
        return -1;
    return RP_STEAL_FD(fd);
}

static int make_directory(int fd, const char *name, mode_t mode, uid_t uid, gid_t gid, struct rp_error *err)
{
    if (mkdirat(fd, name, mode) < 0 || fchownat(fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        fchmodat(fd, name, mode, 0) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make directory \"%s\" of a volume", name);
    return 0;
}

static int fill(struct rp_volumes *v, int fd, uint64_t quota, struct rp_error *err)
{
    uint64_t id;
    if (fchmod(fd, 0755) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "set the mode of a volume");
    if (make_directory(fd, "files", 0755, RP_VOLUME_UID, RP_VOLUME_GID, err) < 0 ||
        make_directory(fd, "system", 0755, 0, 0, err) < 0 || make_directory(fd, "work", 0700, 0, 0, err) < 0)
        return -1;
    /* Last: under a small quota the directories themselves might not fit. */
    if (rp_btrfs_subvolume_id(fd, &id, err) < 0)
        return -1;
    return rp_btrfs_quota_limit(v->directory, v->simple, id, quota, err);
}

/* Gives the finished subvolume its name, on disk when this returns; or removes it. */
static int publish(struct rp_volumes *v, int made, const char *unfinished, const char *project,
                   struct rp_error *err)
{
    if (made == 0 && renameat(v->directory, unfinished, v->directory, project) < 0)
        made =
            rp_error_errno(err, errno == EEXIST || errno == ENOTEMPTY ? RP_ERROR_EXISTS : RP_ERROR_INTERNAL,
                           errno, "name volume \"%s\"", project);
    if (made < 0) {
        (void)!rp_btrfs_subvolume_remove(v->directory, v->simple, unfinished, NULL);
        return -1;
    }
    return rp_btrfs_commit(v->directory, err);
}

/* Two at once for one project must not meet. */
static void unfinished_name(const char *project, char ret[static NAME_SIZE])
{
    char random[RP_ID_SIZE];
    rp_random_id(random);
    snprintf(ret, NAME_SIZE, UNFINISHED "%s-%s", project, random);
}

int rp_volumes_create(struct rp_volumes *v, const char *project, uint64_t quota, struct rp_error *err)
{
    char unfinished[NAME_SIZE];
    struct rp_error there = {0};
    if (check_id(project, err) < 0 || check_quota(quota, err) < 0)
        return -1;
    _cleanup_close_ int existing = open_volume(v, project, &there);
    if (existing >= 0)
        return rp_volumes_set_quota(v, project, quota, err);
    if (rp_volumes_check(v, err) < 0)
        return -1;
    unfinished_name(project, unfinished);
    if (rp_btrfs_subvolume_create(v->directory, unfinished, err) < 0)
        return -1;
    _cleanup_close_ int fd =
        openat(v->directory, unfinished, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int made = fd < 0 ? rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open a new volume") : 0;
    if (made == 0)
        made = fill(v, fd, quota, err);
    if (publish(v, made, unfinished, project, &there) == 0)
        return 0;
    if (made == 0 && there.code == RP_ERROR_EXISTS) /* another thread was faster */
        return rp_volumes_set_quota(v, project, quota, err);
    if (made == 0 && err)
        *err = there;
    return -1;
}

int rp_volumes_remove(struct rp_volumes *v, const char *project, struct rp_error *err)
{
    char random[RP_ID_SIZE], removed[NAME_SIZE];
    if (check_id(project, err) < 0)
        return -1;
    rp_random_id(random);
    snprintf(removed, sizeof(removed), REMOVED "%s-%s", project, random);
    if (renameat(v->directory, project, v->directory, removed) < 0)
        return errno == ENOENT
                   ? 0
                   : rp_error_errno(err, RP_ERROR_INTERNAL, errno, "put volume \"%s\" away", project);
    if (rp_btrfs_commit(v->directory, err) < 0)
        return -1;
    pthread_mutex_lock(&v->lock);
    v->removed = true;
    pthread_cond_broadcast(&v->wake);
    pthread_mutex_unlock(&v->lock);
    return 0;
}

int rp_volumes_set_quota(struct rp_volumes *v, const char *project, uint64_t quota, struct rp_error *err)
{
    uint64_t id;
    if (check_quota(quota, err) < 0)
        return -1;
    _cleanup_close_ int fd = open_with_id(v, project, &id, err);
    if (fd < 0)
        return -1;
    return rp_btrfs_quota_limit(v->directory, v->simple, id, quota, err);
}

int rp_volumes_usage(struct rp_volumes *v, const char *project, struct rp_volume_usage *ret,
                     struct rp_error *err)
{
    uint64_t id;
    struct rp_volume_usage usage;
    _cleanup_close_ int fd = open_with_id(v, project, &id, err);
    if (fd < 0 || rp_btrfs_quota_usage(v->directory, v->simple, id, &usage.used, &usage.quota, err) < 0)
        return -1;
    *ret = usage;
    return 0;
}

int rp_volumes_clone(struct rp_volumes *v, const char *from, const char *to, struct rp_error *err)
{
    char unfinished[NAME_SIZE];
    uint64_t source_id, id, used, quota;
    struct rp_error there = {0};
    if (check_id(to, err) < 0)
        return -1;
    _cleanup_close_ int source = open_with_id(v, from, &source_id, err);
    if (source < 0 || rp_btrfs_quota_usage(v->directory, v->simple, source_id, &used, &quota, err) < 0)
        return -1;
    _cleanup_close_ int existing = open_volume(v, to, &there);
    if (existing >= 0)
        return rp_error_set(err, RP_ERROR_EXISTS, "project \"%s\" has a volume already", to);
    if (rp_volumes_check(v, err) < 0)
        return -1;
    unfinished_name(to, unfinished);
    if (rp_btrfs_snapshot(v->directory, unfinished, source, err) < 0)
        return -1;
    _cleanup_close_ int fd =
        openat(v->directory, unfinished, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int made = fd < 0 ? rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open a new volume") : 0;
    if (made == 0)
        made = rp_btrfs_subvolume_id(fd, &id, err);
    if (made == 0)
        made = rp_btrfs_quota_limit(v->directory, v->simple, id, quota, err);
    return publish(v, made, unfinished, to, err);
}

int rp_volumes_list(struct rp_volumes *v, void (*each)(void *ctx, const char *project), void *ctx,
                    struct rp_error *err)
{
    int fd = openat(v->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    if (!d) {
        rp_error_errno(err, RP_ERROR_INTERNAL, errno, "list \"%s\"", v->root);
        rp_close_fd(&fd);
        return -1;
    }
    while ((e = readdir(d))) {
        if (!rp_id_valid(e->d_name, strlen(e->d_name)))
            continue;
        _cleanup_close_ int volume = open_volume(v, e->d_name, NULL);
        if (volume >= 0)
            each(ctx, e->d_name);
    }
    return 0;
}

int rp_volumes_paths(struct rp_volumes *v, const char *project, struct rp_volume_paths *ret,
                     struct rp_error *err)
{
    _cleanup_close_ int fd = open_volume(v, project, err);
    if (fd < 0)
        return -1;
    snprintf(ret->files, sizeof(ret->files), "%s/%s/files", v->root, project);
    snprintf(ret->system, sizeof(ret->system), "%s/%s/system", v->root, project);
    snprintf(ret->work, sizeof(ret->work), "%s/%s/work", v->root, project);
    return 0;
}

int rp_volumes_check(struct rp_volumes *v, struct rp_error *err)
{
    struct statfs inside, host;
    if (fstatfs(v->directory, &inside) < 0 || statfs(v->data, &host) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "look at \"%s\"", v->root);
    if (inside.f_flags & ST_RDONLY)
        return rp_error_set(err, RP_ERROR_UNAVAILABLE,
                            "the volumes in \"%s\" are read-only after an error; see dmesg", v->root);
    uint64_t host_free = (uint64_t)host.f_bavail * (uint64_t)host.f_bsize;
    uint64_t inside_free = (uint64_t)inside.f_bavail * (uint64_t)inside.f_bsize;
    if (host_free < v->reserve || inside_free < FREE_MIN)
        return rp_volume_disk_full(v->data, host_free, v->reserve, err);
    return 0;
}
