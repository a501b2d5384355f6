/*
 * volume.h: where projects live on this machine's disk, with a quota that the kernel enforces.
 *
 * A volume is a btrfs subvolume DATA/volumes/<project> with a hard limit on all that is in it: files, what
 * the user installed into the system, temporary files, and the metadata of inodes. DATA/volumes is a btrfs of
 * its own in one sparse image (DATA/volumes.btrfs on a loop device), grown online; a data directory that is
 * btrfs already is used as it is. The image never takes the last `reserve` bytes of the disk that it is on.
 *
 * Owned by the orchestrator; any thread (the kernel does the locking, a mutex guards growth); calls block.
 * A thread of this module watches free space, grows the image and removes what deleted volumes left. The
 * mount outlives the process: sandboxes hold it, the next server adopts it. docs/internals/volumes.md.
 *
 * Project ids are checked (rp_id_valid); no other part of a path comes from outside.
 */
#ifndef RP_ORCHESTRATOR_VOLUME_H
#define RP_ORCHESTRATOR_VOLUME_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"

enum { RP_VOLUME_UID = 1000, RP_VOLUME_GID = 1000 }; /* whom a project's files belong to on disk */

#define RP_VOLUME_QUOTA_MIN  (UINT64_C(1) << 20) /* 1 MiB */
#define RP_VOLUME_QUOTA_MAX  (UINT64_C(1) << 50)
#define RP_VOLUMES_SIZE_MIN  (UINT64_C(256) << 20) /* smallest image: below it btrfs has no room to work */
#define RP_VOLUMES_SIZE_INIT (UINT64_C(8) << 30)   /* first size when the options say 0 */

struct rp_volumes;

struct rp_volumes_options {
    const char *data_dir; /* absolute, exists, owned by root */
    uint64_t size;        /* first size of the image in bytes, sparse; 0: RP_VOLUMES_SIZE_INIT. An image that
                             exists keeps its own */
    uint64_t reserve;     /* bytes of the host's disk that are never used */
};

/* What rp_sandbox_spec wants. */
struct rp_volume_paths {
    char files[PATH_MAX];  /* 1000:1000 0755 */
    char system[PATH_MAX]; /* 0:0 0755: upper of the overlay */
    char work[PATH_MAX];   /* 0:0 0700: its work directory, same file system */
};

struct rp_volume_usage {
    uint64_t used;  /* bytes, metadata included, what is not yet written back too */
    uint64_t quota; /* bytes */
};

/*
 * Makes the image when there is none, mounts it, or adopts what is mounted; finishes what a crash left half
 * done; starts the thread. RP_ERROR_DISK_FULL when the disk has not the room, RP_ERROR_CONFLICT when another
 * process has it open, RP_ERROR_NOT_SUPPORTED when the kernel has no btrfs or no loop devices.
 */
int rp_volumes_open(const struct rp_volumes_options *options, struct rp_volumes **ret,
                    struct rp_error *err) RP_MUST_CHECK;

/* Stops the thread and frees memory; the mount stays. NULL-safe. */
void rp_volumes_close(struct rp_volumes *v);

/* Unmounts (everything stays on disk), then closes: after all sandboxes are gone. On failure it stays open.
 */
int rp_volumes_unmount(struct rp_volumes *v, struct rp_error *err) RP_MUST_CHECK;

/* A volume with its three directories, on disk when this returns. Idempotent; the quota is then set anew. */
int rp_volumes_create(struct rp_volumes *v, const char *project, uint64_t quota,
                      struct rp_error *err) RP_MUST_CHECK;

/* Gone from `list` and from its path at once and durably; its space comes back in the background. Idempotent.
 * The caller knows that no sandbox uses it. */
int rp_volumes_remove(struct rp_volumes *v, const char *project, struct rp_error *err) RP_MUST_CHECK;

/* May be below what is used: then nothing more can be written. */
int rp_volumes_set_quota(struct rp_volumes *v, const char *project, uint64_t quota,
                         struct rp_error *err) RP_MUST_CHECK;

int rp_volumes_usage(struct rp_volumes *v, const char *project, struct rp_volume_usage *ret,
                     struct rp_error *err) RP_MUST_CHECK;

/* A writable copy as of now with the same quota, in milliseconds whatever its size. RP_ERROR_EXISTS when `to`
 * is there, RP_ERROR_NOT_FOUND without `from`. */
int rp_volumes_clone(struct rp_volumes *v, const char *from, const char *to,
                     struct rp_error *err) RP_MUST_CHECK;

/* Whole volumes only. */
int rp_volumes_list(struct rp_volumes *v, void (*each)(void *ctx, const char *project), void *ctx,
                    struct rp_error *err) RP_MUST_CHECK;

/* RP_ERROR_NOT_FOUND when there is no such volume. */
int rp_volumes_paths(struct rp_volumes *v, const char *project, struct rp_volume_paths *ret,
                     struct rp_error *err) RP_MUST_CHECK;

/* That it is mounted, writable, and above the reserve; RP_ERROR_DISK_FULL says what to do. */
int rp_volumes_check(struct rp_volumes *v, struct rp_error *err) RP_MUST_CHECK;

#endif
