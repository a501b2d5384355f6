#include "orchestrator/volume_btrfs.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/str.h"

/* Newer than the headers of Debian 12. */
enum { QUOTA_ENABLE_SIMPLE = 4, STATUS_SIMPLE = 8 };

enum { NESTING_MAX = 64, SEARCH_SIZE = 16 * 1024, SUBVOLUME_FIRST = 256, GROUP_LEVEL_SHIFT = 48 };

static uint64_t group_of(bool simple, uint64_t subvolume)
{
    return simple ? UINT64_C(1) << GROUP_LEVEL_SHIFT | subvolume : subvolume;
}

/* ---- subvolumes ---- */

int rp_btrfs_subvolume_create(int fd, const char *name, struct rp_error *err)
{
    struct btrfs_ioctl_vol_args_v2 args = {0};
    snprintf(args.name, sizeof(args.name), "%s", name);
    if (ioctl(fd, BTRFS_IOC_SUBVOL_CREATE_V2, &args) < 0)
        return rp_error_errno(err, errno == EEXIST ? RP_ERROR_EXISTS : RP_ERROR_INTERNAL, errno,
                              "make subvolume \"%s\"", name);
    return 0;
}

int rp_btrfs_snapshot(int fd, const char *name, int source, struct rp_error *err)
{
    struct btrfs_ioctl_vol_args_v2 args = {.fd = source};
    snprintf(args.name, sizeof(args.name), "%s", name);
    if (ioctl(fd, BTRFS_IOC_SNAP_CREATE_V2, &args) < 0)
        return rp_error_errno(err, errno == EEXIST ? RP_ERROR_EXISTS : RP_ERROR_INTERNAL, errno,
                              "make snapshot \"%s\"", name);
    return 0;
}

bool rp_btrfs_is_subvolume(int fd)
{
    struct stat st;
    struct statfs fs;
    return fstat(fd, &st) == 0 && st.st_ino == BTRFS_FIRST_FREE_OBJECTID && fstatfs(fd, &fs) == 0 &&
           fs.f_type == BTRFS_SUPER_MAGIC;
}

int rp_btrfs_subvolume_id(int fd, uint64_t *ret, struct rp_error *err)
{
    struct btrfs_ioctl_ino_lookup_args args = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
    if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &args) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "ask for a subvolume's id");
    *ret = args.treeid;
    return 0;
}

/* Calls each(ctx, header, item) for the items of `tree` between the keys; each returns false to stop. */
static int search(int fd, struct btrfs_ioctl_search_key key,
                  bool (*each)(void *ctx, const struct btrfs_ioctl_search_header *h, const void *item),
                  void *ctx)
{
    _cleanup_free_ struct btrfs_ioctl_search_args_v2 *args = rp_alloc(sizeof(*args) + SEARCH_SIZE);
    for (;;) {
        struct btrfs_ioctl_search_header h = {0};
        args->key = key;
        args->key.nr_items = UINT32_MAX;
        args->buf_size = SEARCH_SIZE;
        if (ioctl(fd, BTRFS_IOC_TREE_SEARCH_V2, args) < 0)
            return -errno;
        if (args->key.nr_items == 0)
            return 0;
        const char *p = (const char *)args->buf;
        for (uint32_t i = 0; i < args->key.nr_items; i++) {
            memcpy(&h, p, sizeof(h));
            /* The search goes by the whole key's order: types in between come along. */
            if (h.type >= key.min_type && h.type <= key.max_type && !each(ctx, &h, p + sizeof(h)))
                return 0;
            p += sizeof(h) + h.len;
        }
        /* On from the key after the last one. */
        key.min_objectid = h.objectid;
        key.min_type = h.type;
        key.min_offset = h.offset + 1;
        if (key.min_offset == 0 && ++key.min_type == 0 && ++key.min_objectid == 0)
            return 0;
    }
}

struct nested {
    uint64_t parent, ids[NESTING_MAX];
    uint32_t count;
};

static bool keep_nested(void *ctx, const struct btrfs_ioctl_search_header *h, const void *item)
{
    struct nested *n = ctx;
    if (h->type == BTRFS_ROOT_REF_KEY && h->objectid == n->parent)
        n->ids[n->count++] = h->offset;
    return n->count < NESTING_MAX;
}

/* Subvolumes directly inside `parent`, a batch of them. */
static int find_nested(int fd, uint64_t parent, struct nested *ret)
{
    *ret = (struct nested){.parent = parent};
    return search(fd,
                  (struct btrfs_ioctl_search_key){.tree_id = BTRFS_ROOT_TREE_OBJECTID,
                                                  .min_objectid = parent,
                                                  .max_objectid = parent,
                                                  .min_type = BTRFS_ROOT_REF_KEY,
                                                  .max_type = BTRFS_ROOT_REF_KEY,
                                                  .max_offset = UINT64_MAX,
                                                  .max_transid = UINT64_MAX},
                  keep_nested, ret);
}

static int remove_by_id(int fd, uint64_t id)
{
    struct btrfs_ioctl_vol_args_v2 args = {.flags = BTRFS_SUBVOL_SPEC_BY_ID, .subvolid = id};
    return ioctl(fd, BTRFS_IOC_SNAP_DESTROY_V2, &args) < 0 ? -errno : 0;
}

/* Everything inside `top`, the deepest first: a chain of them may be as long as its maker liked, so down and
 * up again without recursion. */
static int remove_nested(int fd, uint64_t top)
{
    for (;;) {
        struct nested n;
        uint64_t at = top;
        int r;
        for (;;) {
            if ((r = find_nested(fd, at, &n)) < 0)
                return r;
            if (n.count == 0)
                break;
            at = n.ids[0];
        }
        if (at == top)
            return 0;
        if ((r = remove_by_id(fd, at)) < 0)
            return r;
    }
}

/* ---- quotas ---- */

static struct btrfs_ioctl_search_key quota_key(uint64_t first, uint64_t last, uint32_t type)
{
    return (struct btrfs_ioctl_search_key){.tree_id = BTRFS_QUOTA_TREE_OBJECTID,
                                           .min_type = type,
                                           .max_type = type,
                                           .min_offset = first,
                                           .max_offset = last,
                                           .max_transid = UINT64_MAX};
}

static bool keep_status(void *ctx, const struct btrfs_ioctl_search_header *h, const void *item)
{
    if (h->len >= sizeof(struct btrfs_qgroup_status_item)) {
        struct btrfs_qgroup_status_item status;
        memcpy(&status, item, sizeof(status));
        *(uint64_t *)ctx = le64toh(status.flags);
    }
    return false;
}

int rp_btrfs_quota_enable(int fd, bool *ret_simple, struct rp_error *err)
{
    struct btrfs_ioctl_quota_ctl_args args = {.cmd = QUOTA_ENABLE_SIMPLE};
    int r = ioctl(fd, BTRFS_IOC_QUOTA_CTL, &args) < 0 ? -errno : 0;
    if (r == -EINVAL || r == -EOPNOTSUPP) {
        args = (struct btrfs_ioctl_quota_ctl_args){.cmd = BTRFS_QUOTA_CTL_ENABLE};
        r = ioctl(fd, BTRFS_IOC_QUOTA_CTL, &args) < 0 ? -errno : 0;
    }
    /* It succeeds as well when quotas of the other kind are on already; only the status item knows. */
    uint64_t flags = 0;
    if (r == 0)
        r = search(fd, quota_key(0, 0, BTRFS_QGROUP_STATUS_KEY), keep_status, &flags);
    if (r < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "turn btrfs quotas on");
    if (!(flags & BTRFS_QGROUP_STATUS_FLAG_ON))
        return rp_error_set(err, RP_ERROR_INTERNAL, "btrfs quotas stay off");
    *ret_simple = flags & STATUS_SIMPLE;
    return 0;
}

static int group_make(int fd, uint64_t group, uint64_t subvolume, struct rp_error *err)
{
    struct btrfs_ioctl_qgroup_create_args create = {.create = 1, .qgroupid = group};
    if (ioctl(fd, BTRFS_IOC_QGROUP_CREATE, &create) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make the quota of subvolume %llu",
                              (unsigned long long)subvolume);
    struct btrfs_ioctl_qgroup_assign_args assign = {.assign = 1, .src = subvolume, .dst = group};
    if (ioctl(fd, BTRFS_IOC_QGROUP_ASSIGN, &assign) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "put subvolume %llu under its quota",
                              (unsigned long long)subvolume);
    return 0;
}

int rp_btrfs_quota_limit(int fd, bool simple, uint64_t subvolume, uint64_t limit, struct rp_error *err)
{
    uint64_t group = group_of(simple, subvolume);
    if (simple && group_make(fd, group, subvolume, err) < 0)
        return -1;
    struct btrfs_ioctl_qgroup_limit_args args = {
        .qgroupid = group, .lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER, .max_rfer = limit}};
    if (ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "set the quota of subvolume %llu",
                              (unsigned long long)subvolume);
    return 0;
}

int rp_btrfs_subvolume_remove(int fd, bool simple, const char *name, struct rp_error *err)
{
    struct btrfs_ioctl_vol_args args = {0};
    snprintf(args.name, sizeof(args.name), "%s", name);
    int r = ioctl(fd, BTRFS_IOC_SNAP_DESTROY, &args) < 0 ? -errno : 0;
    if (r == -ENOTEMPTY) {
        uint64_t id;
        _cleanup_close_ int subvolume = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (subvolume < 0 || rp_btrfs_subvolume_id(subvolume, &id, err) < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "open subvolume \"%s\"", name);
        if (rp_btrfs_quota_limit(fd, simple, id, UINT64_MAX, err) < 0)
            return -1;
        r = remove_nested(fd, id);
        if (r == 0)
            r = ioctl(fd, BTRFS_IOC_SNAP_DESTROY, &args) < 0 ? -errno : 0;
    }
    if (r < 0 && r != -ENOENT)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "remove subvolume \"%s\"", name);
    return 0;
}

struct usage {
    uint64_t used, limit;
    bool found;
};

static bool keep_usage(void *ctx, const struct btrfs_ioctl_search_header *h, const void *item)
{
    struct usage *u = ctx;
    if (h->type == BTRFS_QGROUP_INFO_KEY && h->len >= sizeof(struct btrfs_qgroup_info_item)) {
        struct btrfs_qgroup_info_item info;
        memcpy(&info, item, sizeof(info));
        u->used = le64toh(info.rfer);
        u->found = true;
    } else if (h->type == BTRFS_QGROUP_LIMIT_KEY && h->len >= sizeof(struct btrfs_qgroup_limit_item)) {
        struct btrfs_qgroup_limit_item limit;
        memcpy(&limit, item, sizeof(limit));
        u->limit = le64toh(limit.flags) & BTRFS_QGROUP_LIMIT_MAX_RFER ? le64toh(limit.max_rfer) : 0;
    }
    return true;
}

/* What was promised to writers since the last commit; 0 on a kernel that does not tell (before 5.9). */
static uint64_t reserved(int fd, uint64_t group)
{
    static const char *const files[] = {"rsv_data", "rsv_meta_pertrans", "rsv_meta_prealloc"};
    struct btrfs_ioctl_fs_info_args info = {0};
    uint64_t sum = 0;
    if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
        return 0;
    const uint8_t *u = info.fsid;
    for (size_t i = 0; i < RP_ARRAY_SIZE(files); i++) {
        char path[160], text[32] = "";
        uint64_t value = 0;
        snprintf(path, sizeof(path),
                 "/sys/fs/btrfs/%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x/qgroups/"
                 "%u_%llu/%s",
                 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
                 u[14], u[15], (unsigned)(group >> GROUP_LEVEL_SHIFT),
                 (unsigned long long)(group & ((UINT64_C(1) << GROUP_LEVEL_SHIFT) - 1)), files[i]);
        _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = file < 0 ? -1 : read(file, text, sizeof(text));
        if (n > 0 && rp_str_to_u64((struct rp_str){text, strcspn(text, "\n")}, UINT64_MAX, &value))
            sum += value;
    }
    return sum;
}

int rp_btrfs_quota_usage(int fd, bool simple, uint64_t subvolume, uint64_t *ret_used, uint64_t *ret_limit,
                         struct rp_error *err)
{
    uint64_t group = group_of(simple, subvolume);
    struct usage u = {0};
    int r = search(fd, quota_key(group, group, BTRFS_QGROUP_INFO_KEY), keep_usage, &u);
    if (r == 0)
        r = search(fd, quota_key(group, group, BTRFS_QGROUP_LIMIT_KEY), keep_usage, &u);
    if (r < 0 || !u.found)
        return rp_error_errno(err, RP_ERROR_INTERNAL, r < 0 ? -r : ENOENT, "read the quota of subvolume %llu",
                              (unsigned long long)subvolume);
    *ret_used = u.used + reserved(fd, group);
    *ret_limit = u.limit;
    return 0;
}

struct groups {
    uint64_t *ids;
    size_t count, allocated;
};

static bool keep_group(void *ctx, const struct btrfs_ioctl_search_header *h, const void *item)
{
    struct groups *g = ctx;
    if ((h->offset & ((UINT64_C(1) << GROUP_LEVEL_SHIFT) - 1)) < SUBVOLUME_FIRST)
        return true;
    if (g->count == g->allocated) {
        g->allocated = g->allocated ? 2 * g->allocated : 256;
        g->ids = rp_realloc(g->ids, g->allocated * sizeof(*g->ids));
    }
    g->ids[g->count++] = h->offset;
    return true;
}

int rp_btrfs_quota_sweep(int fd, struct rp_error *err)
{
    struct groups g = {0};
    int r = search(fd, quota_key(0, UINT64_MAX, BTRFS_QGROUP_INFO_KEY), keep_group, &g);
    _cleanup_free_ uint64_t *ids = g.ids;
    if (r < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, -r, "list quotas");
    for (size_t i = 0; i < g.count; i++) {
        struct btrfs_ioctl_ino_lookup_args subvolume = {.treeid =
                                                            ids[i] & ((UINT64_C(1) << GROUP_LEVEL_SHIFT) - 1),
                                                        .objectid = BTRFS_FIRST_FREE_OBJECTID};
        if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &subvolume) == 0 || errno != ENOENT)
            continue;
        struct btrfs_ioctl_qgroup_create_args gone = {.create = 0, .qgroupid = ids[i]};
        (void)!ioctl(fd, BTRFS_IOC_QGROUP_CREATE, &gone);
    }
    return 0;
}

/* ---- the file system ---- */

int rp_btrfs_commit(int fd, struct rp_error *err)
{
    uint64_t transaction;
    if (ioctl(fd, BTRFS_IOC_START_SYNC, &transaction) < 0 || ioctl(fd, BTRFS_IOC_WAIT_SYNC, &transaction) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "commit the volumes' file system");
    return 0;
}

int rp_btrfs_unallocated(int fd, uint64_t *ret, uint64_t *ret_chunk, struct rp_error *err)
{
    struct btrfs_ioctl_dev_info_args device = {.devid = 1};
    if (ioctl(fd, BTRFS_IOC_DEV_INFO, &device) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "ask for the volumes' free space");
    *ret = device.total_bytes - device.bytes_used;
    /* A tenth of the file system, at most 1 GiB (fs/btrfs/volumes.c). */
    *ret_chunk = RP_MIN((uint64_t)device.total_bytes / 10, UINT64_C(1) << 30);
    return 0;
}

int rp_btrfs_resize(int fd, uint64_t size, struct rp_error *err)
{
    struct btrfs_ioctl_vol_args args = {0};
    snprintf(args.name, sizeof(args.name), "%llu", (unsigned long long)size);
    if (ioctl(fd, BTRFS_IOC_RESIZE, &args) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "resize the volumes' file system");
    return 0;
}
