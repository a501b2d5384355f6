/*
 * volume_btrfs.h: the few btrfs ioctls that volumes are made of (btrfs-ioctl(2), linux/btrfs.h). Blocking;
 * any thread. `fd` is any directory of the file system unless said otherwise; all need CAP_SYS_ADMIN.
 */
#ifndef RP_ORCHESTRATOR_VOLUME_BTRFS_H
#define RP_ORCHESTRATOR_VOLUME_BTRFS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Makes the subvolume `name` in directory `fd`. RP_ERROR_EXISTS when there is something of that name. */
int rp_btrfs_subvolume_create(int fd, const char *name, struct rp_error *err) RP_MUST_CHECK;
/* A writable snapshot of the subvolume `source`, on disk when this returns. */
int rp_btrfs_snapshot(int fd, const char *name, int source, struct rp_error *err) RP_MUST_CHECK;
/* Removes the subvolume `name` and those that someone made inside it, its limit first: removing needs some
 * room too. simple: as rp_btrfs_quota_enable said. Space comes back later. */
int rp_btrfs_subvolume_remove(int fd, bool simple, const char *name, struct rp_error *err) RP_MUST_CHECK;
/* True when fd is the root of a subvolume. */
bool rp_btrfs_is_subvolume(int fd);
/* The id of the subvolume that holds fd. */
int rp_btrfs_subvolume_id(int fd, uint64_t *ret, struct rp_error *err) RP_MUST_CHECK;

/*
 * Quotas. With simple quotas (Linux 6.7) a project has a group of its own, 1/<subvolume id>, that subvolumes
 * made inside the project join by themselves, so that `btrfs subvolume create` is no way round the limit.
 * Without them the limit is on the subvolume's own group.
 */
int rp_btrfs_quota_enable(int fd, bool *ret_simple, struct rp_error *err) RP_MUST_CHECK;
/* Makes the group when it is new. limit in bytes; UINT64_MAX: none. */
int rp_btrfs_quota_limit(int fd, bool simple, uint64_t subvolume, uint64_t limit,
                         struct rp_error *err) RP_MUST_CHECK;
int rp_btrfs_quota_usage(int fd, bool simple, uint64_t subvolume, uint64_t *ret_used, uint64_t *ret_limit,
                         struct rp_error *err) RP_MUST_CHECK;
/* Removes the groups of subvolumes that are gone; what the kernel will not remove yet stays. */
int rp_btrfs_quota_sweep(int fd, struct rp_error *err) RP_MUST_CHECK;

/* Waits until what was done so far is on disk; does not write back file data that is dirty. */
int rp_btrfs_commit(int fd, struct rp_error *err) RP_MUST_CHECK;
/* What of the device nobody has been given yet, and how much data or metadata takes at once when it needs
 * more. */
int rp_btrfs_unallocated(int fd, uint64_t *ret, uint64_t *ret_chunk, struct rp_error *err) RP_MUST_CHECK;

/* To a size in bytes, at least 256 MiB. Shrinking moves what lies behind the new end. */
int rp_btrfs_resize(int fd, uint64_t size, struct rp_error *err) RP_MUST_CHECK;

#endif
