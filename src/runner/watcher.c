/*
 * watcher.c: a client that watches a process, and perhaps types into it.
 */
#include "runner/process_internal.h"

struct watched_stream {
    struct rp_watcher *watcher;
    struct rp_reader *reader;
};

struct rp_watcher {
    struct rp_watcher *next;
    struct rp_process *process; /* NULL after on_gone */
    unsigned flags;
    struct rp_watcher_callbacks callbacks;
    void *ctx;
    struct watched_stream streams[STREAMS];
    uint16_t cols, rows;    /* 0: it never said */
    bool told;              /* on_exit or on_gone was called */
    struct rp_timer *timer; /* looks for the end from the loop */
    unsigned busy;
    bool dead; /* freed inside a callback */
};

/* Everything that the process itself printed was given to this watcher. */
static bool complete(const struct rp_watcher *w)
{
    const struct rp_process *p = w->process;
    for (int i = 0; i < STREAMS; i++)
        if (w->streams[i].reader && rp_reader_offset(w->streams[i].reader) < p->end[i])
            return false;
    return true;
}

static void check_end(void *ctx)
{
    struct rp_watcher *w = ctx;
    if (w->told || !w->process || !w->process->ended || !complete(w))
        return;
    w->told = true;
    w->callbacks.on_exit(w->ctx, &w->process->exit, w->process->lost);
}

static void leave(struct rp_watcher *w)
{
    if (--w->busy == 0 && w->dead)
        free(w);
}

static enum rp_write on_output(void *ctx, uint64_t offset, struct rp_str bytes)
{
    struct watched_stream *s = ctx;
    struct rp_watcher *w = s->watcher;
    const struct rp_process *p = w->process;
    if (w->told)
        return RP_WRITE_FAILED;
    int stream = (int)(s - w->streams);
    bool ended = p->ended;
    /* the log goes on after this process */
    if (ended && offset + bytes.n > p->end[stream])
        bytes.n = offset < p->end[stream] ? p->end[stream] - offset : 0;
    w->busy++;
    enum rp_write result =
        bytes.n ? w->callbacks.on_output(w->ctx, (uint8_t)stream, offset, bytes) : RP_WRITE_OK;
    if (ended && !w->dead)
        rp_timer_start(w->timer, 0, 0);
    leave(w);
    return result;
}

static void on_gap(void *ctx, uint64_t offset)
{
    struct watched_stream *s = ctx;
    struct rp_watcher *w = s->watcher;
    if (!w->told)
        w->callbacks.on_gap(w->ctx, (uint8_t)(s - w->streams), offset);
}

struct rp_watcher *rp_watcher_new(struct rp_process *p, unsigned flags, const uint64_t since[4],
                                  const struct rp_watcher_callbacks *callbacks, void *ctx)
{
    static const struct rp_reader_callbacks READER = {.on_output = on_output, .on_gap = on_gap};
    struct rp_watcher *w = rp_calloc(1, sizeof(*w));
    w->process = p;
    w->flags = flags;
    w->callbacks = *callbacks;
    w->ctx = ctx;
    w->timer = rp_timer_new(p->set->all->loop, check_end, w);
    /* the log is everybody's: nobody who looks at it slows its writers */
    unsigned reader_flags = flags & RP_WATCHER_WRITES && !(p->flags & RP_PROCESS_LOG) ? RP_READER_PACES : 0;
    for (int i = 0; i < STREAMS; i++) {
        w->streams[i].watcher = w;
        if (!p->outputs[i])
            continue;
        uint64_t from = since ? since[i] : UINT64_MAX;
        if (p->flags & RP_PROCESS_LOG && (from == UINT64_MAX || from < p->begin[i]))
            from = RP_MAX(p->begin[i], rp_ring_start(rp_output_ring(p->outputs[i])));
        w->streams[i].reader = rp_reader_new(p->outputs[i], reader_flags, from, &READER, &w->streams[i]);
    }
    w->next = p->watchers;
    p->watchers = w;
    p->set->events.viewer(p->set->ctx, 1);
    if (p->ended)
        rp_timer_start(w->timer, 0, 0);
    return w;
}

static void apply_size(struct rp_process *p);

/* Takes it away from its process. */
static void unlink_watcher(struct rp_watcher *w)
{
    struct rp_process *p = w->process;
    if (!p)
        return;
    for (struct rp_watcher **at = &p->watchers; *at; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            break;
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        rp_reader_free(w->streams[i].reader);
        w->streams[i].reader = NULL;
    }
    w->process = NULL;
    p->set->events.viewer(p->set->ctx, -1);
    if (!p->ended)
        apply_size(p);
}

void rp_watcher_free(struct rp_watcher *w)
{
    if (!w)
        return;
    unlink_watcher(w);
    rp_timer_free(w->timer);
    w->told = true;
    w->dead = true;
    w->busy++;
    leave(w);
}

void rp_watcher_drained(struct rp_watcher *w)
{
    for (int i = 0; i < STREAMS; i++)
        if (w->streams[i].reader)
            rp_reader_drained(w->streams[i].reader);
}

void rp_watcher_ack(struct rp_watcher *w, uint8_t stream, uint64_t offset)
{
    if (stream < STREAMS && w->streams[stream].reader)
        rp_reader_ack(w->streams[stream].reader, offset);
}

uint64_t rp_watcher_offset(const struct rp_watcher *w, uint8_t stream)
{
    return stream < STREAMS && w->streams[stream].reader ? rp_reader_offset(w->streams[stream].reader) : 0;
}

/* ---- size ---- */

/* The smallest of the writers'. */
static void apply_size(struct rp_process *p)
{
    uint16_t cols = UINT16_MAX, rows = UINT16_MAX;
    for (const struct rp_watcher *w = p->watchers; w; w = w->next) {
        if (!(w->flags & RP_WATCHER_WRITES) || !w->cols)
            continue;
        cols = RP_MIN(cols, w->cols);
        rows = RP_MIN(rows, w->rows);
    }
    if (cols == UINT16_MAX || (cols == p->cols && rows == p->rows) || !(p->flags & RP_PROCESS_PTY))
        return;
    p->cols = cols;
    p->rows = rows;
    if (p->set->sandbox)
        rp_sandbox_resize(p->set->sandbox, p->id, cols, rows);
    if (!(p->flags & RP_PROCESS_LOG))
        rp_ring_set_size(rp_output_ring(p->outputs[RP_STREAM_PTY]), cols, rows);
    rp_watchers_size(p);
    p->set->events.changed(p->set->ctx, p, RP_PROCESS_RESIZED);
}

void rp_watcher_resize(struct rp_watcher *w, uint16_t cols, uint16_t rows)
{
    w->cols = cols;
    w->rows = rows;
    if (w->process && !w->process->ended)
        apply_size(w->process);
}

/* ---- told by the process. A callback may free its own watcher, and no other. ---- */

void rp_watchers_input(struct rp_process *p, bool full)
{
    for (struct rp_watcher *w = p->watchers, *next; w; w = next) {
        next = w->next;
        if (w->flags & RP_WATCHER_WRITES)
            w->callbacks.on_input(w->ctx, full);
    }
}

void rp_watchers_size(struct rp_process *p)
{
    for (struct rp_watcher *w = p->watchers, *next; w; w = next) {
        next = w->next;
        w->callbacks.on_size(w->ctx, p->cols, p->rows);
    }
}

void rp_watchers_ended(struct rp_process *p)
{
    for (struct rp_watcher *w = p->watchers; w; w = w->next)
        rp_timer_start(w->timer, 0, 0);
}

void rp_watchers_gone(struct rp_process *p, bool server_stops)
{
    while (p->watchers) {
        struct rp_watcher *w = p->watchers;
        bool ended = p->ended && !w->told && !server_stops;
        bool told = w->told;
        struct rp_exit exit = p->exit;
        bool lost = p->lost;
        unlink_watcher(w);
        if (told)
            continue;
        w->told = true;
        if (ended)
            w->callbacks.on_exit(w->ctx, &exit, lost);
        else
            w->callbacks.on_gone(w->ctx, server_stops);
    }
}
