#include "runner/process_internal.h"

#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/json.h"

enum {
    DEFAULT_COLS = 80,
    DEFAULT_ROWS = 24,
    SIZE_MAX_CELLS = 4096,
    COMMAND_RING_DIVISOR = 4, /* a command's streams keep less than a terminal */
};

/* What an ended process leaves in its ring for the next server. */
struct note {
    uint8_t version, lost;
    uint8_t reserved[6];
    int32_t code, signal;
    int64_t ended_at;
    uint64_t user_us, system_us, peak_rss;
};
enum { NOTE_VERSION = 1 };

unsigned rp_process_streams(unsigned flags)
{
    if (flags & RP_PROCESS_PTY)
        return 1u << RP_STREAM_PTY;
    return 1u << RP_STREAM_STDOUT | (flags & RP_PROCESS_STDIN ? 1u << RP_STREAM_STDIN : 0) |
           (flags & RP_PROCESS_MERGE ? 0 : 1u << RP_STREAM_STDERR);
}

static unsigned output_streams(const struct rp_process *p)
{
    return rp_process_streams(p->flags) & ~(1u << RP_STREAM_STDIN);
}

/* ---- labels: what init keeps for us ---- */

static bool write_label(const struct rp_process *p, size_t command_length, struct rp_buf *buf)
{
    struct rp_json_writer w = rp_json_writer(buf);
    rp_json_open_object(&w);
    rp_json_field_int(&w, "kind", p->kind);
    rp_json_field_uint(&w, "flags", p->flags);
    rp_json_field_int(&w, "started", p->started_at);
    rp_json_field_uint(&w, "log", p->begin[RP_STREAM_STDOUT]);
    rp_json_field_str(&w, "command", (struct rp_str){p->command, command_length});
    rp_json_field_str(&w, "data", rp_str_of(p->data));
    rp_json_close_object(&w);
    return !w.failed;
}

/* The command is cut until the label fits (escapes may make it six times as long). */
static int make_label(struct rp_process *p, struct rp_buf *buf, struct rp_error *err)
{
    for (size_t length = strlen(p->command);; length /= 2) {
        rp_buf_init(buf, RP_INIT_LABEL_MAX);
        if (write_label(p, length, buf))
            return 0;
        rp_buf_done(buf);
        if (!length)
            return rp_error_set(err, RP_ERROR_TOO_LARGE, "a process's data is too long");
    }
}

static struct rp_process *process_new(struct rp_process_set *set, uint64_t id)
{
    struct rp_process *p = rp_calloc(1, sizeof(*p));
    p->set = set;
    p->id = id;
    snprintf(p->id_text, sizeof(p->id_text), "%016llx", (unsigned long long)id);
    p->generation = set->generation;
    return p;
}

struct rp_process *rp_process_from_label(struct rp_process_set *set, uint64_t id, struct rp_str label)
{
    static const unsigned KNOWN = RP_PROCESS_PTY | RP_PROCESS_STDIN | RP_PROCESS_MERGE | RP_PROCESS_LOG;
    _cleanup_json_ json_t *j = NULL;
    int64_t kind, flags, started, log;
    struct rp_str command, data;
    if (rp_json_parse_object(label, &j, NULL) < 0 ||
        rp_json_get_int(j, "", "kind", RP_PROCESS_TERMINAL, RP_PROCESS_INSTALL, &kind, NULL) != 1 ||
        rp_json_get_int(j, "", "flags", 0, KNOWN, &flags, NULL) != 1 ||
        rp_json_get_int(j, "", "started", 0, INT64_MAX, &started, NULL) != 1 ||
        rp_json_get_int(j, "", "log", 0, INT64_MAX, &log, NULL) != 1 ||
        rp_json_get_str(j, "", "command", RP_INIT_LABEL_MAX, &command, NULL) != 1 ||
        rp_json_get_str(j, "", "data", RP_INIT_LABEL_MAX, &data, NULL) != 1)
        return NULL;
    struct rp_process *p = process_new(set, id);
    p->kind = (enum rp_process_kind)kind;
    p->flags = (unsigned)flags;
    p->started_at = started;
    p->begin[RP_STREAM_STDOUT] = (uint64_t)log;
    p->begin[RP_STREAM_PTY] = (uint64_t)log;
    p->command = rp_str_dup(command);
    p->data = rp_str_dup(data);
    return p;
}

/* ---- rings ---- */

void rp_process_ring_name(const struct rp_process *p, int stream, char *ret, size_t cap)
{
    snprintf(ret, cap, "%s.%d", p->id_text, stream);
}

int rp_process_open_outputs(struct rp_process *p, struct rp_error *err)
{
    struct rp_process_set *set = p->set;
    unsigned streams = output_streams(p);
    struct rp_buf label;
    if (p->flags & RP_PROCESS_LOG) {
        if (!rp_process_set_log(set))
            return rp_error_set(err, RP_ERROR_UNAVAILABLE, "the log of project %s cannot be written",
                                set->project);
        for (int i = 0; i < STREAMS; i++)
            if (streams & 1u << i)
                p->outputs[i] = set->log;
        return 0;
    }
    if (make_label(p, &label, err) < 0)
        return -1;
    uint64_t size = set->all->ring_size / (p->flags & RP_PROCESS_PTY ? 1 : COMMAND_RING_DIVISOR);
    int rc = 0;
    for (int i = 0; rc == 0 && i < STREAMS; i++) {
        char name[32];
        struct rp_ring *ring;
        struct rp_error why;
        if (!(streams & 1u << i) || p->outputs[i])
            continue;
        rp_process_ring_name(p, i, name, sizeof(name));
        rc = rp_ring_open(set->directory, name, &ring, &why);
        if (rc < 0 && why.code == RP_ERROR_PROTOCOL) {
            /* half made by a server that was killed */
            _cleanup_free_ char *path = rp_asprintf("%s/%s", set->directory, name);
            unlink(path);
        }
        if (rc < 0)
            rc = rp_ring_create(set->directory, name, size, rp_buf_view(&label), &ring, err);
        if (rc == 0)
            p->outputs[i] = rp_output_new(set->all->loop, ring);
    }
    rp_buf_done(&label);
    return rc;
}

static struct rp_ring *main_ring(struct rp_process *p)
{
    if (p->flags & RP_PROCESS_LOG)
        return NULL;
    struct rp_output *o = p->outputs[p->flags & RP_PROCESS_PTY ? RP_STREAM_PTY : RP_STREAM_STDOUT];
    return o ? rp_output_ring(o) : NULL;
}

static void write_note(struct rp_process *p)
{
    struct note n = {.version = NOTE_VERSION,
                     .lost = p->lost,
                     .code = p->exit.code,
                     .signal = p->exit.signal,
                     .ended_at = p->ended_at,
                     .user_us = p->exit.user_us,
                     .system_us = p->exit.system_us,
                     .peak_rss = p->exit.peak_rss};
    if (main_ring(p))
        rp_ring_set_note(main_ring(p), &n, sizeof(n));
}

bool rp_process_read_note(struct rp_process *p)
{
    struct note n;
    if (!main_ring(p) || rp_ring_note(main_ring(p), &n, sizeof(n)) != sizeof(n) || n.version != NOTE_VERSION)
        return false;
    p->exited = p->ended = true;
    p->lost = n.lost;
    p->ended_at = n.ended_at;
    p->exit = (struct rp_exit){.code = n.code,
                               .signal = n.signal,
                               .user_us = n.user_us,
                               .system_us = n.system_us,
                               .peak_rss = n.peak_rss};
    for (int i = 0; i < STREAMS; i++)
        if (p->outputs[i])
            p->end[i] = rp_ring_end(rp_output_ring(p->outputs[i]));
    return true;
}

/* ---- the pumps' callbacks ---- */

static void on_bytes(void *ctx)
{
    struct rp_process *p = ctx;
    p->set->events.touch(p->set->ctx);
}

static void on_input(void *ctx, bool full)
{
    rp_watchers_input(ctx, full);
}

static void finish_when_drained(struct rp_process *p)
{
    if (!p->exited || p->ended || p->adopted)
        return;
    for (int i = 0; i < STREAMS; i++)
        if (p->pumps[i] && i != RP_STREAM_STDIN)
            return;
    rp_process_finish(p, false);
}

/* A stream is over; which one is seen by its pump. */
static void stream_ended(struct rp_process *p, int stream)
{
    /* A PTY stays open until the process ends: it can be typed into, and opened again. */
    rp_pump_free(p->pumps[stream]);
    p->pumps[stream] = NULL;
    finish_when_drained(p);
}

static void on_stdout_end(void *ctx)
{
    stream_ended(ctx, RP_STREAM_STDOUT);
}

static void on_stderr_end(void *ctx)
{
    stream_ended(ctx, RP_STREAM_STDERR);
}

static void on_pty_end(void *ctx)
{
    stream_ended(ctx, RP_STREAM_PTY);
}

static void on_no_end(void *ctx)
{
}

static void on_held(void *ctx)
{
    struct rp_process *p = ctx;
    struct rp_error err;
    rp_error_set(&err, RP_ERROR_SANDBOX, "a descriptor of process %s held the server's loop for %d ms",
                 p->id_text, RP_WATCHDOG_MS);
    if (p->set->sandbox)
        rp_sandbox_break(p->set->sandbox, &err);
}

static void on_room(void *ctx)
{
    struct rp_process *p = ctx;
    for (int i = 0; i < STREAMS; i++)
        if (p->pumps[i])
            rp_pump_resume(p->pumps[i]);
}

void rp_process_start_pumps(struct rp_process *p, int fds[STREAMS])
{
    static void (*const ENDS[STREAMS])(void *) = {on_no_end, on_stdout_end, on_stderr_end, on_pty_end};
    static const unsigned FLAGS[STREAMS] = {RP_PUMP_WRITES, RP_PUMP_READS, RP_PUMP_READS,
                                            RP_PUMP_PTY | RP_PUMP_READS | RP_PUMP_WRITES};
    unsigned streams = rp_process_streams(p->flags);
    for (int i = 0; i < STREAMS; i++) {
        if (fds[i] < 0)
            continue;
        if (!(streams & 1u << i) || p->pumps[i]) {
            rp_close_fd(&fds[i]);
            continue;
        }
        struct rp_pump_callbacks callbacks = {on_bytes, on_input, ENDS[i], on_held};
        p->pumps[i] = rp_pump_new(p->set->all->loop, p->set->all->watchdog, RP_STEAL_FD(fds[i]), FLAGS[i],
                                  p->outputs[i], &callbacks, p);
        /* the log has no reader that sets a pace */
        if (p->outputs[i] && !(p->flags & RP_PROCESS_LOG))
            rp_output_on_room(p->outputs[i], on_room, p);
    }
}

/* ---- spawn ---- */

/* For display: the arguments with spaces between, control characters as spaces, cut at a character. */
static char *display_command(const char *const *argv)
{
    char text[RP_PROCESS_COMMAND_MAX + 1] = "";
    size_t n = 0;
    for (size_t i = 0; argv[i] && n < RP_PROCESS_COMMAND_MAX; i++) {
        if (i)
            text[n++] = ' ';
        for (const char *c = argv[i]; *c && n < RP_PROCESS_COMMAND_MAX; c++)
            text[n++] = (unsigned char)*c < 0x20 || *c == 0x7f ? ' ' : *c;
    }
    while (n && !rp_utf8_valid(text, n) && n > RP_PROCESS_COMMAND_MAX - 4)
        n--;
    if (!rp_utf8_valid(text, n))
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)text[i] >= 0x80)
                text[i] = '?';
    return rp_str_dup((struct rp_str){text, n});
}

static unsigned count(const struct rp_process_set *set, bool terminals, bool ended)
{
    unsigned n = 0;
    for (const struct rp_process *p = set->first; p; p = p->next)
        n += !p->removed && (p->kind == RP_PROCESS_TERMINAL || !terminals) && p->ended == ended;
    for (const struct rp_process *p = ended ? NULL : set->starting; p; p = p->next)
        n += p->kind == RP_PROCESS_TERMINAL || !terminals;
    return n;
}

static int check_limits(const struct rp_process_set *set, const struct rp_process_spec *spec,
                        struct rp_error *err)
{
    if (spec->kind == RP_PROCESS_TERMINAL && count(set, true, false) >= RP_TERMINALS_MAX)
        return rp_error_set(err, RP_ERROR_QUOTA, "%u of %d terminals are open; close one first",
                            count(set, true, false), RP_TERMINALS_MAX);
    if (spec->kind <= RP_PROCESS_COMMAND && count(set, false, false) >= RP_PROCESSES_MAX)
        return rp_error_set(err, RP_ERROR_QUOTA, "%u of %d processes are running; end one first",
                            count(set, false, false), RP_PROCESSES_MAX);
    if (spec->data.n > RP_PROCESS_DATA_MAX)
        return rp_error_set(err, RP_ERROR_TOO_LARGE, "a process's data is longer than %d bytes",
                            RP_PROCESS_DATA_MAX);
    if (!set->sandbox)
        return rp_error_set(err, RP_ERROR_NOT_RUNNING, "the project is not running");
    return 0;
}

static void take_from_starting(struct rp_process *p)
{
    if (!p->set)
        return;
    struct rp_process **at = &p->set->starting;
    while (*at && *at != p)
        at = &(*at)->next;
    if (*at)
        *at = p->next;
    p->next = NULL;
}

static void spawn_failed(struct rp_process *p, const struct rp_error *err)
{
    rp_process_fn *fn = p->spawned;
    void *ctx = p->spawned_ctx;
    struct rp_error copy = *err;
    take_from_starting(p);
    rp_process_destroy(p, true, false);
    fn(ctx, NULL, &copy);
}

static void on_spawned(void *ctx, const int fds[STREAMS], uint32_t pid, const struct rp_error *err)
{
    struct rp_process *p = ctx;
    struct rp_error gone;
    int owned[STREAMS] = {-1, -1, -1, -1};
    if (!err)
        memcpy(owned, fds, sizeof(owned));
    if (!err && (!p->set || !p->set->sandbox || p->set->generation != p->generation)) {
        rp_error_set(&gone, RP_ERROR_NOT_RUNNING, "the project stopped meanwhile");
        err = &gone;
    }
    if (err) {
        for (int i = 0; i < STREAMS; i++)
            rp_close_fd(&owned[i]);
        spawn_failed(p, err);
        return;
    }
    p->pid = pid;
    take_from_starting(p);
    rp_process_append(p->set, p);
    rp_process_start_pumps(p, owned);
    p->set->events.changed(p->set->ctx, p, RP_PROCESS_MADE);
    p->spawned(p->spawned_ctx, p, NULL);
    if (p->exited) {
        struct rp_exit exit = p->exit;
        p->exited = false;
        rp_process_exited(p, &exit);
    }
}

static int spawn(struct rp_process *p, const struct rp_process_spec *spec, struct rp_error *err)
{
    struct rp_buf label;
    if (check_limits(p->set, spec, err) < 0)
        return -1;
    if (p->flags & RP_PROCESS_LOG && rp_process_set_log(p->set)) {
        uint64_t at = rp_ring_end(rp_output_ring(p->set->log));
        p->begin[RP_STREAM_STDOUT] = p->begin[RP_STREAM_PTY] = at;
    }
    if (rp_process_open_outputs(p, err) < 0 || make_label(p, &label, err) < 0)
        return -1;
    if (main_ring(p))
        rp_ring_set_size(main_ring(p), p->cols, p->rows);
    struct rp_spawn s = {
        .id = p->id,
        .flags = (p->flags & RP_PROCESS_PTY ? RP_SPAWN_PTY : 0) |
                 (p->flags & RP_PROCESS_STDIN ? RP_SPAWN_STDIN : 0) |
                 (p->flags & RP_PROCESS_MERGE ? RP_SPAWN_MERGE : 0),
        .cols = p->cols,
        .rows = p->rows,
        .step = spec->step,
        .cwd = spec->cwd ? spec->cwd : RP_INIT_APP,
        .argv = spec->argv,
        .env = spec->env,
        .label = rp_buf_view(&label),
    };
    rp_sandbox_spawn(p->set->sandbox, &s, on_spawned, p);
    rp_buf_done(&label);
    return 0;
}

void rp_process_spawn(struct rp_process_set *set, const struct rp_process_spec *spec, rp_process_fn *fn,
                      void *ctx)
{
    uint64_t id = 0;
    while (id == 0 || rp_process_find(set, id))
        rp_random_bytes(&id, sizeof(id));
    struct rp_process *p = process_new(set, id);
    p->kind = spec->kind;
    p->flags = spec->flags;
    if (p->kind == RP_PROCESS_TERMINAL)
        p->flags |= RP_PROCESS_PTY;
    if (p->flags & RP_PROCESS_PTY)
        p->flags &= ~(unsigned)(RP_PROCESS_STDIN | RP_PROCESS_MERGE);
    else if (p->flags & RP_PROCESS_LOG)
        p->flags |= RP_PROCESS_MERGE;
    p->cols = spec->cols ? spec->cols : DEFAULT_COLS;
    p->rows = spec->rows ? spec->rows : DEFAULT_ROWS;
    p->started_at = rp_clock_wall_us();
    p->command = display_command(spec->argv);
    p->data = rp_str_dup(spec->data);
    p->spawned = fn;
    p->spawned_ctx = ctx;
    int rc = spawn(p, spec, &p->refused);
    p->next = set->starting;
    set->starting = p;
    if (rc < 0) {
        p->is_refused = true;
        rp_process_set_sweep_soon(set); /* which gives the answer */
    }
}

/* ---- end ---- */

void rp_process_exited(struct rp_process *p, const struct rp_exit *exit)
{
    if (p->exited)
        return;
    p->exited = true;
    p->exit = *exit;
    if (p->adopted || !p->pid) /* its pumps are not there yet */
        return;
    for (int i = 0; i < STREAMS; i++)
        if (p->pumps[i] && i != RP_STREAM_STDIN)
            rp_pump_drain(p->pumps[i]);
    finish_when_drained(p);
}

void rp_process_finish(struct rp_process *p, bool lost)
{
    struct rp_process_set *set = p->set;
    p->exited = p->ended = true;
    p->lost = lost;
    p->ended_at = rp_clock_wall_us();
    if (lost)
        p->exit = (struct rp_exit){.code = -1, .signal = SIGKILL};
    for (int i = 0; i < STREAMS; i++) {
        rp_pump_free(p->pumps[i]);
        p->pumps[i] = NULL;
        if (p->outputs[i])
            p->end[i] = rp_ring_end(rp_output_ring(p->outputs[i]));
        if (p->outputs[i] && !(p->flags & RP_PROCESS_LOG))
            rp_output_on_room(p->outputs[i], NULL, NULL);
    }
    for (int i = 0; i < STREAMS; i++)
        if (p->outputs[i])
            rp_output_advanced(p->outputs[i]); /* what a pump had read and not yet told of */
    rp_timer_free(p->kill);
    p->kill = NULL;
    write_note(p);
    if (set->sandbox && !lost)
        rp_sandbox_forget(set->sandbox, p->id);
    rp_watchers_ended(p);
    rp_process_set_sweep_soon(set); /* more ended ones than are kept? */
    set->events.changed(set->ctx, p, RP_PROCESS_ENDED);
    /* last: it may stop the project, and then p is gone */
    if (set->all->hooks.exited)
        set->all->hooks.exited(set->all->hooks_ctx, set, p);
}

void rp_process_destroy(struct rp_process *p, bool remove, bool server_stops)
{
    rp_watchers_gone(p, server_stops);
    for (int i = 0; i < STREAMS; i++) {
        rp_pump_free(p->pumps[i]);
        if (!(p->flags & RP_PROCESS_LOG))
            rp_output_free(p->outputs[i], remove);
    }
    rp_timer_free(p->kill);
    free(p->command);
    free(p->data);
    free(p);
}

void rp_process_signal(struct rp_process *p, int signal, rp_done_fn *fn, void *ctx)
{
    struct rp_pump *pty = p->pumps[RP_STREAM_PTY];
    if (!p->set->sandbox || p->exited) {
        struct rp_error err;
        rp_error_set(&err, RP_ERROR_CONFLICT, "the process has ended");
        if (fn)
            fn(ctx, &err);
        return;
    }
    /* As the keys do: what was typed before is not for whoever survives it. */
    if (pty && (signal == SIGINT || signal == SIGQUIT || signal == SIGTSTP))
        rp_pump_discard(pty);
    rp_sandbox_signal(p->set->sandbox, p->id, signal, pty ? RP_SIGNAL_FOREGROUND : RP_SIGNAL_GROUP, fn, ctx);
}

static void on_grace_over(void *ctx)
{
    struct rp_process *p = ctx;
    if (p->set->sandbox && !p->exited)
        rp_sandbox_signal(p->set->sandbox, p->id, SIGKILL, RP_SIGNAL_SESSION, NULL, NULL);
}

void rp_process_stop(struct rp_process *p, uint64_t grace_ms)
{
    if (!p->set->sandbox || p->exited)
        return;
    bool terminal = p->kind == RP_PROCESS_TERMINAL;
    rp_sandbox_signal(p->set->sandbox, p->id, terminal ? SIGHUP : SIGTERM, RP_SIGNAL_SESSION, NULL, NULL);
    /* a stopped job acts on nothing until it is continued */
    rp_sandbox_signal(p->set->sandbox, p->id, SIGCONT, RP_SIGNAL_SESSION, NULL, NULL);
    if (!p->kill)
        p->kill = rp_timer_new(p->set->all->loop, on_grace_over, p);
    rp_timer_start(p->kill, grace_ms, 0);
}

/* ---- input ---- */

enum rp_input rp_process_write(struct rp_process *p, struct rp_str bytes)
{
    struct rp_pump *pump = p->pumps[p->flags & RP_PROCESS_PTY ? RP_STREAM_PTY : RP_STREAM_STDIN];
    if (!pump)
        return RP_INPUT_CLOSED;
    p->set->events.touch(p->set->ctx);
    return (enum rp_input)rp_pump_write(pump, bytes);
}

static void on_input_flushed(void *ctx)
{
    struct rp_process *p = ctx;
    rp_pump_free(p->pumps[RP_STREAM_STDIN]);
    p->pumps[RP_STREAM_STDIN] = NULL;
    if (p->set->sandbox)
        rp_sandbox_close_stdin(p->set->sandbox, p->id);
}

void rp_process_end_input(struct rp_process *p)
{
    struct rp_pump *pty = p->pumps[RP_STREAM_PTY], *in = p->pumps[RP_STREAM_STDIN];
    if (in) {
        rp_pump_flushed(in, on_input_flushed, p);
    } else if (pty) {
        int eof = rp_pump_eof_character(pty);
        char c = (char)(eof < 0 ? 4 : eof);
        rp_pump_write(pty, (struct rp_str){&c, 1});
    }
}

/* ---- what others may ask ---- */

uint64_t rp_process_id(const struct rp_process *p)
{
    return p->id;
}

const char *rp_process_id_text(const struct rp_process *p)
{
    return p->id_text;
}

enum rp_process_kind rp_process_kind_of(const struct rp_process *p)
{
    return p->kind;
}

unsigned rp_process_flags(const struct rp_process *p)
{
    return p->flags;
}

uint32_t rp_process_pid(const struct rp_process *p)
{
    return p->pid;
}

struct rp_str rp_process_command(const struct rp_process *p)
{
    return rp_str_of(p->command);
}

struct rp_str rp_process_data(const struct rp_process *p)
{
    return rp_str_of(p->data);
}

int64_t rp_process_started_at(const struct rp_process *p)
{
    return p->started_at;
}

int64_t rp_process_ended_at(const struct rp_process *p)
{
    return p->ended_at;
}

void rp_process_size(const struct rp_process *p, uint16_t *ret_cols, uint16_t *ret_rows)
{
    *ret_cols = p->cols;
    *ret_rows = p->rows;
}

const struct rp_exit *rp_process_exit(const struct rp_process *p)
{
    return p->ended ? &p->exit : NULL;
}

bool rp_process_lost(const struct rp_process *p)
{
    return p->lost;
}

struct rp_output *rp_process_output(struct rp_process *p, uint8_t stream)
{
    return stream < STREAMS ? p->outputs[stream] : NULL;
}

void rp_process_range(struct rp_process *p, uint8_t stream, uint64_t *ret_begin, uint64_t *ret_end)
{
    struct rp_output *o = rp_process_output(p, stream);
    *ret_begin = *ret_end = 0;
    if (!o)
        return;
    uint64_t start = rp_ring_start(rp_output_ring(o));
    *ret_end = p->ended ? p->end[stream] : rp_ring_end(rp_output_ring(o));
    start = RP_MAX(p->begin[stream], start);
    *ret_begin = RP_MIN(start, *ret_end);
}
