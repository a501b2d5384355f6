/*
 * volume_image.h: one btrfs in one sparse file: made, attached to a loop device, mounted, adopted, resized.
 *
 * The file, its loop device and the mount outlive the process. The loop device is released by the kernel
 * (autoclear) when the last mount of it goes, in whatever mount namespace that is. Any thread; resizing is
 * for one thread at a time.
 */
#ifndef RP_ORCHESTRATOR_VOLUME_IMAGE_H
#define RP_ORCHESTRATOR_VOLUME_IMAGE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct rp_volume_image {
    char path[PATH_MAX];  /* the file */
    char mount[PATH_MAX]; /* where it is mounted */
    uint64_t reserve;     /* bytes of the file's disk that are never used */
    int file, loop;       /* owned */
};

struct rp_volume_space {
    uint64_t size, used;         /* of the image: its length, and what it occupies on the disk */
    uint64_t host_free;          /* bytes free on the disk that the image is on */
    uint64_t inside_free;        /* what the file system inside still has to give */
    uint64_t unallocated, chunk; /* rp_btrfs_unallocated */
};

/* path and mount lie in one directory. first_size matters when the file is not there. */
int rp_volume_image_open(const char *path, const char *mount, uint64_t first_size, uint64_t reserve,
                         struct rp_volume_image *ret, struct rp_error *err) RP_MUST_CHECK;
/* Leaves the mount. */
void rp_volume_image_close(struct rp_volume_image *i);
/* RP_ERROR_CONFLICT while something uses it. */
int rp_volume_image_unmount(struct rp_volume_image *i, struct rp_error *err) RP_MUST_CHECK;

int rp_volume_image_space(const struct rp_volume_image *i, struct rp_volume_space *ret,
                          struct rp_error *err) RP_MUST_CHECK;

/* The largest size that the image may have: were it full, the reserve would still be free. */
uint64_t rp_volume_image_size_max(const struct rp_volume_space *s, uint64_t reserve);

/* Grows or shrinks the file, the loop device and the file system in it, while they are in use. */
int rp_volume_image_resize(struct rp_volume_image *i, uint64_t size, struct rp_error *err) RP_MUST_CHECK;

/* RP_ERROR_DISK_FULL with a message that says what to do. */
int rp_volume_disk_full(const char *path, uint64_t host_free, uint64_t reserve, struct rp_error *err);

#endif
