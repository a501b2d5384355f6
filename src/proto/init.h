/*
 * init.h: the messages between repld-init (PID 1 of a sandbox) and the server. SOCK_SEQPACKET; see wire.h for
 * the coding and seqpacket.h for the transport. At most one descriptor a message. docs/internals/init.md is
 * the prose.
 *
 * A connection starts with HELLO. Every request is answered exactly once by its answer, OK or ERROR with the
 * same tag, except where several messages are named. Events have tag 0 and go to every connection that said
 * HELLO. Processes belong to init, not to a connection: they, their PTY masters and pipe ends stay until
 * FORGET.
 */
#ifndef RP_PROTO_INIT_H
#define RP_PROTO_INIT_H

#include <stdint.h>

enum {
    RP_INIT_VERSION = 1,     /* what this tree speaks */
    RP_INIT_VERSION_MIN = 1, /* the oldest version that the server still speaks */

    RP_INIT_PROCESSES_MAX = 512,    /* running and exited but not forgotten; one more is EAGAIN */
    RP_INIT_CONNECTIONS_MAX = 8,    /* of init's socket */
    RP_INIT_CONNECTS_MAX = 128,     /* TCP connections being opened */
    RP_INIT_FILE_CHANNELS_MAX = 16, /* helpers alive */
    RP_INIT_STEPS_MAX = 16,         /* cgroup steps */
    RP_INIT_ARGV_MAX = 1024,
    RP_INIT_ENV_MAX = 1024,
    RP_INIT_LABEL_MAX = 1024,
    RP_INIT_PORTS_MAX = 256,
    RP_INIT_LISTENER_FD = 3, /* the listening SOCK_SEQPACKET socket that init inherits */
    RP_INIT_USER_UID = 1000, /* "runner", inside the sandbox; gid the same */
};

#define RP_INIT_HOME "/home/runner"
#define RP_INIT_APP  "/home/runner/app"

enum rp_init_type {
    /* Both ways. → u32 lowest version, u32 highest version spoken. ← u32 version chosen, u32 reserved 0;
     * carries the probe: the read end of a pipe that holds the 8 bytes of `RP_INIT_PROBE`, by which the
     * server sees that descriptors arrive. No common version: ERROR EPROTONOSUPPORT and the connection is
     * closed. */
    RP_INIT_HELLO = 1,
    RP_INIT_OK = 2,    /* ← (nothing) */
    RP_INIT_ERROR = 3, /* ← u32 errno, str message */

    /* Orchestrator only. → u32 step, with a cgroup.procs descriptor open for writing; several times for one
     * step on cgroup v1, once a hierarchy. Step 0 is `user`. ← OK */
    RP_INIT_CGROUP = 10,
    RP_INIT_CGROUP_DROP = 11, /* → u32 step. Closes its descriptors. ← OK */

    /*
     * → u64 id (chosen by the caller, not 0; EEXIST when taken), u32 RP_SPAWN_*, u16 cols, u16 rows, u32
     * step, str cwd (absolute), u32 argc, str × argc, u32 envc, str × envc ("NAME=value"), str label (opaque,
     * kept for LIST) Runs as uid 1000 in a session of its own, no_new_privs, default signals, in the step's
     * cgroup, argv[0] looked up in PATH of the given environment. ← SPAWNED u64 id, u32 pid; then STREAM for
     * each stream; all with the tag. ERROR with the errno of exec, of the chdir, or of the cgroup; nothing is
     * left behind then.
     */
    RP_INIT_SPAWN = 20,
    RP_INIT_SPAWNED = 21,
    RP_INIT_STREAM = 22, /* ← u64 id, u8 RP_STREAM_*, and the descriptor */
    RP_INIT_SIGNAL = 23, /* → u64 id, u32 signal number, u8 RP_SIGNAL_*. ← OK, or ERROR ESRCH */
    RP_INIT_RESIZE = 24, /* → u64 id, u16 cols, u16 rows. ← OK */
    RP_INIT_CLOSE_STDIN =
        25, /* → u64 id. init closes its copy of stdin; the caller has closed its own. ← OK */
    RP_INIT_REOPEN = 26, /* → u64 id. ← STREAM for each stream that is still open, then OK */
    RP_INIT_LIST = 27,   /* ← PROCESS for each, then OK */
    /* ← u64 id, u32 pid, u32 RP_SPAWN_*, u8 exited, i32 exit code (-1 when signalled), u32 signal, u64 user
     * µs, u64 system µs, u64 peak rss bytes, u64 CLOCK_MONOTONIC ns of its start, str label */
    RP_INIT_PROCESS = 28,
    RP_INIT_FORGET =
        29, /* → u64 id. An exited process's record and descriptors go; EBUSY while it runs. ← OK */
    /* event: u64 id, i32 exit code (-1 when signalled), u32 signal, u64 user µs, u64 system µs, u64 peak rss
       bytes */
    RP_INIT_EXITED = 30,

    /* → u8 family (4, 6), 16 bytes address (IPv4 in the first four), u16 port, u32 timeout ms. ← CONNECTED
     * with a connected non-blocking TCP socket, of which init keeps no copy; ERROR ECONNREFUSED, ETIMEDOUT …
     */
    RP_INIT_CONNECT = 40,
    RP_INIT_CONNECTED = 41,
    /* → u32 interval in ms (0 ends it, at least 50). ← OK, and PORTS at once and after every change. */
    RP_INIT_PORTS_WATCH = 42,
    /* event: u32 count, then each: u8 family, 16 bytes address, u16 port, u32 pid or 0, str command or "" */
    RP_INIT_PORTS = 43,

    /* → (nothing). ← FILE_CHANNEL with one end of a SOCK_STREAM socketpair that speaks files.h */
    RP_INIT_FILES = 50,
    RP_INIT_FILE_CHANNEL = 51,

    /* → u32 grace ms. SIGTERM and SIGCONT to every user process, SIGHUP to the leaders of terminals, SIGKILL
     * after the grace. ← OK when none is left; init then exits, which ends the namespace. */
    RP_INIT_SHUTDOWN = 60,
};

enum {
    RP_SPAWN_PTY =
        1, /* one stream, the PTY master; stdin, stdout and stderr are its slave, as controlling terminal */
    RP_SPAWN_STDIN = 2, /* without PTY: stdin is a pipe; else /dev/null */
    RP_SPAWN_MERGE = 4, /* without PTY: stderr goes where stdout goes */
};

enum {
    RP_STREAM_STDIN = 0,
    RP_STREAM_STDOUT = 1,
    RP_STREAM_STDERR = 2,
    RP_STREAM_PTY = 3,
};

enum {
    RP_SIGNAL_GROUP = 0,      /* the process group of the process */
    RP_SIGNAL_PROCESS = 1,    /* it alone */
    RP_SIGNAL_FOREGROUND = 2, /* the foreground process group of its PTY */
    RP_SIGNAL_SESSION = 3,    /* every process of its session */
};

#define RP_INIT_PROBE "rpprobe\n"

#endif
