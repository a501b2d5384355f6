#include "runner/output.h"

enum { LINE_SEARCH = 4096 }; /* how far a resynchronised reader may skip to begin with a whole line */

struct rp_reader {
    struct rp_reader *next;
    struct rp_output *output;
    unsigned flags;
    struct rp_reader_callbacks callbacks;
    void *ctx;
    uint64_t offset, acknowledged;
    bool acknowledges;
    bool blocked; /* its connection is full */
    bool failed;
    bool gap; /* on_gap is owed for the position that it starts from */
    bool dead;
};

struct rp_output {
    struct rp_loop *loop;
    struct rp_ring *ring;
    struct rp_reader *readers;
    struct rp_timer *kick; /* delivers from the loop, after a reader joined or can take more */
    void (*on_room)(void *ctx);
    void *room_ctx;
    unsigned walking; /* depth of walks over the readers; dead ones are swept after the last */
    bool dead_readers;
};

static void sweep(struct rp_output *o)
{
    o->dead_readers = false;
    for (struct rp_reader **at = &o->readers; *at;) {
        struct rp_reader *r = *at;
        if (r->dead) {
            *at = r->next;
            free(r);
        } else {
            at = &r->next;
        }
    }
}

static void on_kick(void *ctx)
{
    struct rp_output *o = ctx;
    rp_output_advanced(o);
    if (o->on_room && rp_output_room(o))
        o->on_room(o->room_ctx);
}

struct rp_output *rp_output_new(struct rp_loop *loop, struct rp_ring *ring)
{
    struct rp_output *o = rp_calloc(1, sizeof(*o));
    o->loop = loop;
    o->ring = ring;
    o->kick = rp_timer_new(loop, on_kick, o);
    return o;
}

void rp_output_free(struct rp_output *o, bool remove)
{
    if (!o)
        return;
    o->walking++;
    for (struct rp_reader *r = o->readers; r; r = r->next) {
        bool told = r->dead;
        r->dead = true;
        if (!told && r->callbacks.on_gone)
            r->callbacks.on_gone(r->ctx);
    }
    sweep(o);
    rp_timer_free(o->kick);
    if (remove)
        rp_ring_remove(o->ring);
    else
        rp_ring_close(o->ring);
    free(o);
}

struct rp_ring *rp_output_ring(struct rp_output *o)
{
    return o->ring;
}

/* A position from `from` on that is not in the middle of a character and, where one is near, begins a line.
 */
static uint64_t align(const struct rp_ring *ring, uint64_t from)
{
    struct rp_str near = rp_ring_view(ring, from, LINE_SEARCH);
    const char *newline = near.n ? memchr(near.p, '\n', near.n) : NULL;
    if (newline)
        return from + (uint64_t)(newline - near.p) + 1;
    size_t skip = 0;
    while (skip < near.n && skip < 3 && ((unsigned char)near.p[skip] & 0xc0) == 0x80)
        skip++;
    return from + skip;
}

/* The ring went on without this reader. */
static void resynchronise(struct rp_reader *r)
{
    const struct rp_ring *ring = r->output->ring;
    uint64_t start = rp_ring_start(ring), end = rp_ring_end(ring);
    uint64_t from = end > RP_OUTPUT_RESYNC ? end - RP_OUTPUT_RESYNC : 0;
    r->offset = align(ring, RP_MAX(start, from));
    r->acknowledged = r->offset; /* what is gone cannot be acknowledged */
    r->callbacks.on_gap(r->ctx, r->offset);
}

static size_t allowed(const struct rp_reader *r)
{
    uint64_t n = rp_ring_end(r->output->ring) - r->offset;
    if (r->acknowledges) {
        uint64_t limit = r->acknowledged + RP_OUTPUT_WINDOW;
        uint64_t window = limit > r->offset ? limit - r->offset : 0;
        n = RP_MIN(n, window);
    }
    return (size_t)RP_MIN(n, (uint64_t)RP_OUTPUT_CHUNK);
}

/* Bounded: no more than what the ring holds, as nothing is read meanwhile. */
static void deliver(struct rp_reader *r)
{
    while (!r->dead && !r->failed && !r->blocked) {
        if (r->gap) {
            r->gap = false;
            r->callbacks.on_gap(r->ctx, r->offset);
            continue;
        }
        if (r->offset < rp_ring_start(r->output->ring)) {
            resynchronise(r);
            continue;
        }
        size_t n = allowed(r);
        if (!n)
            break;
        struct rp_str bytes = rp_ring_view(r->output->ring, r->offset, n);
        uint64_t at = r->offset;
        r->offset += bytes.n;
        enum rp_write result = r->callbacks.on_output(r->ctx, at, bytes);
        r->blocked = result == RP_WRITE_FULL;
        r->failed = result == RP_WRITE_FAILED;
    }
}

void rp_output_advanced(struct rp_output *o)
{
    o->walking++;
    for (struct rp_reader *r = o->readers; r; r = r->next)
        deliver(r);
    if (--o->walking == 0 && o->dead_readers)
        sweep(o);
}

bool rp_output_room(const struct rp_output *o)
{
    bool paced = false;
    uint64_t end = rp_ring_end(o->ring);
    for (const struct rp_reader *r = o->readers; r; r = r->next) {
        if (r->dead || r->failed || !(r->flags & RP_READER_PACES))
            continue;
        if (!r->blocked && (!r->acknowledges || end < r->acknowledged + RP_OUTPUT_WINDOW))
            return true;
        paced = true;
    }
    return !paced;
}

void rp_output_on_room(struct rp_output *o, void (*on_room)(void *ctx), void *ctx)
{
    o->on_room = on_room;
    o->room_ctx = ctx;
}

struct rp_reader *rp_reader_new(struct rp_output *o, unsigned flags, uint64_t since,
                                const struct rp_reader_callbacks *callbacks, void *ctx)
{
    struct rp_reader *r = rp_calloc(1, sizeof(*r));
    r->output = o;
    r->flags = flags;
    r->callbacks = *callbacks;
    r->ctx = ctx;
    uint64_t start = rp_ring_start(o->ring), end = rp_ring_end(o->ring);
    if (since >= start && since <= end)
        r->offset = since;
    else if (since == UINT64_MAX || since < start)
        r->offset = start ? align(o->ring, start) : 0;
    else
        r->offset = end;
    r->gap = since != UINT64_MAX && since != r->offset;
    r->acknowledged = r->offset;
    r->next = o->readers;
    o->readers = r;
    rp_timer_start(o->kick, 0, 0);
    return r;
}

void rp_reader_free(struct rp_reader *r)
{
    if (!r)
        return;
    struct rp_output *o = r->output;
    r->dead = true;
    o->dead_readers = true;
    if (!o->walking)
        sweep(o);
    rp_timer_start(o->kick, 0, 0); /* it may have been the one that held the source back */
}

void rp_reader_drained(struct rp_reader *r)
{
    r->blocked = false;
    rp_timer_start(r->output->kick, 0, 0);
}

void rp_reader_ack(struct rp_reader *r, uint64_t offset)
{
    r->acknowledges = true;
    if (offset <= r->acknowledged || offset > r->offset)
        return;
    r->acknowledged = offset;
    rp_timer_start(r->output->kick, 0, 0);
}

uint64_t rp_reader_offset(const struct rp_reader *r)
{
    return r->offset;
}
