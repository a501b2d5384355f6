/*
 * archive.h: tar.gz and zip through libarchive, a piece at a time, for a worker thread. Nothing here blocks
 * on a client: the packer appends to a buffer, the unpacker reads a file. One thread at a time for one
 * object.
 *
 * An uploaded archive is a stranger's: the unpacker runs in the unprivileged gateway, refuses absolute paths,
 * "..", hard links and devices by name, and counts entries and bytes against archives that unpack for ever.
 */
#ifndef RP_API_ARCHIVE_H
#define RP_API_ARCHIVE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "runner/files.h"

enum rp_archive_format { RP_ARCHIVE_TAR_GZ, RP_ARCHIVE_ZIP };

enum {
    RP_ARCHIVE_ENTRIES_MAX = 200000,
    RP_ARCHIVE_ITEMS_CAP = 1024 * 1024, /* of a buffer of items */
};
#define RP_ARCHIVE_UNPACKED_MAX (8ull << 30)

/*
 * Items: entries and their content in a buffer, as they travel between the loop and a worker. Append fails
 * past the buffer's cap. Next: 1 an item (an entry when ret_entry->kind is not 0, else data), 0 the end.
 * Views point into the buffer.
 */
bool rp_archive_put_entry(struct rp_buf *items, const struct rp_file_entry *e) RP_MUST_CHECK;
bool rp_archive_put_data(struct rp_buf *items, struct rp_str data) RP_MUST_CHECK;
int rp_archive_next(struct rp_str *items, struct rp_file_entry *ret_entry, struct rp_str *ret_data);

/* ---- out ---- */

struct rp_packer;
int rp_packer_new(enum rp_archive_format format, struct rp_packer **ret, struct rp_error *err) RP_MUST_CHECK;
/* Packs the items; what comes out is appended to *out (no cap of its own: at most a little more than items).
 */
int rp_packer_add(struct rp_packer *p, struct rp_str items, struct rp_error *err) RP_MUST_CHECK;
int rp_packer_finish(struct rp_packer *p, struct rp_error *err) RP_MUST_CHECK;
struct rp_buf *rp_packer_output(struct rp_packer *p); /* consume it between calls */
void rp_packer_free(struct rp_packer *p);             /* NULL-safe */

/* ---- in ---- */

struct rp_unpacker;
/* fd: the whole archive, seekable, not owned, at its beginning. */
int rp_unpacker_new(int fd, struct rp_unpacker **ret, struct rp_error *err) RP_MUST_CHECK;
/* Appends items until `max` bytes are there or the archive ends. 1: more to come, 0: the end, -1: err. */
int rp_unpacker_some(struct rp_unpacker *u, struct rp_buf *items, size_t max,
                     struct rp_error *err) RP_MUST_CHECK;
void rp_unpacker_free(struct rp_unpacker *u); /* NULL-safe */

#endif
