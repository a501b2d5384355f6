/*
 * helper.h: the file helper from the inside: a process that init forks for each channel (proto/files.h).
 *
 * It blocks as it likes: it is alone on its channel, has the file rights of the user and lives in the user's
 * cgroup. Real uid 0 without any capability, not dumpable: the user's processes cannot reach it. Nothing is
 * kept from one request to the next, not even the project's directory, since the root may have been pivoted.
 *
 * Functions return 0 or a positive errno; rp_helper_detail adds what it was about.
 */
#ifndef RP_INIT_FILES_HELPER_H
#define RP_INIT_FILES_HELPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/str.h"
#include "proto/files.h"
#include "proto/wire.h"

enum {
    RP_HELPER_PATH_SIZE = RP_FILES_PATH_MAX + 1,
    RP_HELPER_OUT_SIZE = 65536,
    RP_HELPER_FRAME_SMALL = 16384, /* the largest frame that is not DATA */
    RP_HELPER_NAME_SIZE = 256,
};

/* Names of our own in the user's directories while something is being written: never listed or watched. */
#define RP_HELPER_TEMPORARY ".~rp-"

struct rp_helper {
    int channel;
    int root; /* O_PATH of the project, for this request */
    const char *root_path;
    /* Something of ours that must not stay when the peer goes away in the middle: undo_name in undo_dir. */
    int undo_dir; /* -1: nothing */
    char undo_name[RP_HELPER_NAME_SIZE];
    unsigned steps; /* since the channel was last looked at */
    char detail[320];
    size_t out_length;
    uint8_t out[RP_HELPER_OUT_SIZE];
    uint8_t in[RP_FILES_PAYLOAD_MAX];
    uint8_t data[RP_FILES_PAYLOAD_MAX]; /* file content on its way out */
};

/* helper.c */
void rp_helper_serve(int channel, const char *root_path) __attribute__((noreturn));
void rp_helper_detail(struct rp_helper *h, const char *operation, const char *path);

/* channel.c: all of these end the process when the peer is gone or sends a malformed frame. */
uint8_t rp_helper_receive(struct rp_helper *h, struct rp_wire_reader *ret_payload);
struct rp_wire_writer rp_helper_begin(struct rp_helper *h, uint8_t type); /* small frames only */
void rp_helper_commit(struct rp_helper *h, const struct rp_wire_writer *w);
void rp_helper_send_data(struct rp_helper *h, const void *p, size_t n);
void rp_helper_flush(struct rp_helper *h);
void rp_helper_end(struct rp_helper *h, const char *etag);
void rp_helper_error(struct rp_helper *h, int errnum);
void rp_helper_truncated(struct rp_helper *h);
void rp_helper_malformed(struct rp_helper *h) __attribute__((noreturn));
void rp_helper_leave(struct rp_helper *h, int status) __attribute__((noreturn)); /* undoes, then exits */
/* To be called now and then by work that sends nothing for long: ends the process when the peer has gone. */
void rp_helper_still_wanted(struct rp_helper *h);

/* path.c */
/* Checks and cleans a path of the peer: relative, no "..", no NUL; "." and doubled slashes go. */
int rp_path_clean(struct rp_str path, char ret[static RP_HELPER_PATH_SIZE]);
/* The path of a field; a malformed frame ends the process. */
int rp_path_get(struct rp_helper *h, struct rp_wire_reader *r, char ret[static RP_HELPER_PATH_SIZE]);
/* openat2(2) below the project. Returns the descriptor or a negative errno. */
int rp_path_open(const struct rp_helper *h, const char *path, int flags);
/* The directory that holds path and the last component; EBUSY for the project itself. */
int rp_path_parent(const struct rp_helper *h, const char *path, int *ret_dir,
                   char ret_name[static RP_HELPER_NAME_SIZE]);
/* Where a write to path goes: symlinks at its end are followed as long as they stay inside. */
int rp_path_follow(const struct rp_helper *h, char path[static RP_HELPER_PATH_SIZE]);
/* A regular file for reading: neither a FIFO nor a lease blocks. */
int rp_path_open_regular(const struct rp_helper *h, const char *path, int *ret_fd, struct stat *ret);
int rp_path_open_regular_at(int dir, const char *name, int *ret_fd, struct stat *ret);
int rp_path_open_directory_at(int dir, const char *name, int *ret_fd);
int rp_path_make_parents(const struct rp_helper *h, const char *path);
/* renameat2(2): -1 with EEXIST when `to` is there and may not be replaced. */
int rp_path_rename(int from_dir, const char *from, int to_dir, const char *to, bool replace);
bool rp_path_is_temporary(const char *name);
void rp_path_temporary(char ret[static RP_HELPER_NAME_SIZE]);
void rp_path_etag(const struct stat *st, char ret[static RP_FILES_ETAG_MAX]);

/* names.c: the names in a directory, sorted by bytes; ours are left out. */
struct rp_names {
    char **list; /* into one block */
    size_t count;
    bool truncated; /* there were more than max */
    char *block;
};
int rp_names_read(int dir, size_t max, struct rp_names *ret);
void rp_names_done(struct rp_names *n);
#define _cleanup_names_ _cleanup_(rp_names_done)

/* Begins something of our own in dir under a new name, which goes when the peer does; end: it is gone, or
 * renamed. */
void rp_helper_undo_begin(struct rp_helper *h, int dir, const char *name);
void rp_helper_undo_end(struct rp_helper *h);

/* tree.c: without recursion into what the user may have made endless */
int rp_tree_remove(struct rp_helper *h, int parent, const char *name);
int rp_tree_copy(struct rp_helper *h, int from, const char *name, int to, const char *as);
/* Removes what a helper that was killed left in dir: names of ours that are older than an hour. */
void rp_tree_sweep(struct rp_helper *h, int dir);
/* Moves what is in `from` into `to`: directories are merged, all else replaced. */
int rp_tree_merge(struct rp_helper *h, int from, int to, unsigned depth);

/* one each for the requests; the reader holds their fields */
int rp_helper_stat(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_list(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_read(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_write(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_mkdir(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_move(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_copy(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_delete(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_search(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_export(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_import(struct rp_helper *h, struct rp_wire_reader *r);
int rp_helper_watch(struct rp_helper *h, struct rp_wire_reader *r);

/* read.c: sends an ENTRY for name in dir, as `path`. */
int rp_helper_send_entry(struct rp_helper *h, int dir, const char *name, const char *path,
                         const struct stat *st);

#endif
