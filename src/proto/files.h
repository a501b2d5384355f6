/*
 * files.h: the frames between the server and the file helper, over the SOCK_STREAM channel of RP_INIT_FILES.
 *
 * A frame is u32 payload length, u8 type, u8 flags (0), u16 reserved (0), and at most RP_FILES_PAYLOAD_MAX
 * bytes, coded as in wire.h. One request at a time on a channel: the request, its answers, and one closing
 * END or ERROR; then the channel takes the next. Closing the channel cancels. A helper that gets a malformed
 * frame exits.
 *
 * Paths are relative to RP_INIT_APP, UTF-8 or not, without NUL, "" being the project itself. Absolute paths,
 * "..", magic links and symlinks that lead out are EXDEV or ELOOP (openat2(2), RESOLVE_BENEATH). Names that
 * hold newlines are fine.
 */
#ifndef RP_PROTO_FILES_H
#define RP_PROTO_FILES_H

#include <stdint.h>

enum {
    RP_FILES_HEADER_SIZE = 8,
    RP_FILES_PAYLOAD_MAX = 65536,
    RP_FILES_PATH_MAX = 4095,
    RP_FILES_DEPTH_MAX = 64,
    RP_FILES_ETAG_MAX = 64,
};

/* An entry is coded: str path (relative to the request's path), u8 RP_FILE_*, u32 mode, u64 size, i64 mtime
 * ns, str symlink target or "", str etag or "". */
enum {
    RP_FILE_REGULAR = 1,
    RP_FILE_DIRECTORY = 2,
    RP_FILE_SYMLINK = 3,
    RP_FILE_OTHER = 4, /* FIFO, socket, device: listed, never opened */
};

enum rp_files_type {
    /* answers */
    RP_FILES_END = 1,   /* str etag of what was written, or "" */
    RP_FILES_ERROR = 2, /* u32 errno, str message */
    RP_FILES_ENTRY = 3, /* an entry */
    RP_FILES_DATA = 4,  /* bytes (both ways) */
    RP_FILES_MATCH =
        5, /* str path, u32 line (from 1), u32 column (byte, from 1), str line's text (cut to 512 bytes) */
    RP_FILES_EVENT = 6,     /* u8 RP_FILES_EVENT_*, str path, str new path (moves) or "" */
    RP_FILES_TRUNCATED = 7, /* (nothing): the limit was reached; END follows */

    /* requests */
    RP_FILES_STAT = 20, /* str path → ENTRY, END */
    RP_FILES_LIST = 21, /* str path, u32 depth (1 = its children), u32 limit → ENTRY × n, [TRUNCATED], END */
    /* str path, u64 offset, u64 length (UINT64_MAX: to the end) → ENTRY (its size and etag), DATA × n, END. A
     * file that is not regular is EINVAL; it is opened with O_NONBLOCK so that neither a FIFO nor a lease
     * blocks the answer. */
    RP_FILES_READ = 22,
    /* str path, u32 mode (0: keep, or 0644), u8 RP_FILES_WRITE_*, str etag, u64 size (UINT64_MAX: unknown) →
     * OK to send is END with the etag of what is there now, or ""; then the client sends DATA × n and END; → END
     * with the new etag once the file is durable, or ERROR. Temp file, fsync, rename, fsync of the directory. A
     * symlink that stays inside is followed: its target is replaced, the link stays. */
    RP_FILES_WRITE = 23,
    RP_FILES_MKDIR = 24,  /* str path, u8 parents → END */
    RP_FILES_MOVE = 25,   /* str from, str to, u8 overwrite → END */
    RP_FILES_COPY = 26,   /* str from, str to, u8 overwrite → END. Directories with what is in them. */
    RP_FILES_DELETE = 27, /* str path, u8 recursive → END */
    /* str path, str query, u32 RP_FILES_SEARCH_*, u32 limit, str glob or "" → MATCH × n, [TRUNCATED], END */
    RP_FILES_SEARCH = 28,
    /* str path → (ENTRY, DATA × n when it is a regular file) × n, END. Everything below path, parents first; DATA
     * is exactly as long as ENTRY said, cut or padded with zeros if the file changes meanwhile. */
    RP_FILES_EXPORT = 29,
    /* str path, u8 replace (1: what was below path is removed first) → END with "" (ready); the client sends
     * (ENTRY, DATA × n) × n, END → END, or ERROR: then nothing was changed. ENTRY paths obey the rule above; symlinks must stay inside. */
    RP_FILES_IMPORT = 30,
    /* str path → END with "" (watching), then EVENT × n for ever: inotify(7), recursive, 50 ms grouping */
    RP_FILES_WATCH = 31,
};

enum {
    RP_FILES_WRITE_CREATE_ONLY = 1, /* If-None-Match: * → EEXIST when it is there */
    RP_FILES_WRITE_MATCH = 2,       /* If-Match: ESTALE unless the file's etag is the given one */
    RP_FILES_WRITE_PARENTS = 4,     /* missing directories are made */
};

enum {
    RP_FILES_SEARCH_CASE = 1,   /* case-sensitive */
    RP_FILES_SEARCH_NAMES = 2,  /* names instead of content */
    RP_FILES_SEARCH_HIDDEN = 4, /* names that start with a dot too */
    RP_FILES_SEARCH_DEPS = 8,   /* node_modules, .venv and __pycache__ too */
};

enum {
    RP_FILES_EVENT_CREATED = 1,
    RP_FILES_EVENT_CHANGED = 2,
    RP_FILES_EVENT_DELETED = 3,
    RP_FILES_EVENT_MOVED = 4,
    RP_FILES_EVENT_OVERFLOW = 5, /* events were lost: list again */
};

#endif
