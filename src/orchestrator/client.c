#include "orchestrator/client.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/str.h"
#include "orchestrator/codec.h"
#include "proto/seqpacket.h"

enum {
    RECONNECT_MIN_MS = 5,
    RECONNECT_MAX_MS = 500,
    MESSAGES_PER_TURN = 64,
    LIST_MAX = 65536, /* answers of one list */
};

union answer_fn {
    rp_orchestrator_done_fn *done;
    rp_orchestrator_attached_fn *attached;
    rp_orchestrator_list_fn *list;
    rp_orchestrator_stats_fn *stats;
    rp_orchestrator_usage_fn *usage;
    rp_orchestrator_volumes_fn *volumes;
};

struct request {
    struct request *next;
    struct rp_orchestrator_message message;
    rp_orchestrator_progress_fn *progress;
    union answer_fn fn;
    void *ctx;
    bool sent;
    uint64_t deadline_ms;                 /* while there is no connection */
    struct rp_error failed;               /* code set: waits in `refused` */
    struct rp_orchestrator_sandbox *list; /* LIST, as it arrives */
    char (*volumes)[RP_ID_SIZE];          /* VOLUME_LIST, as it arrives */
    size_t count, allocated;
};

struct rp_orchestrator {
    struct rp_loop *loop;
    char *path;
    const struct rp_orchestrator_events *events;
    void *ctx;
    int socket; /* -1: not connected */
    struct rp_watch *watch;
    bool ready; /* HELLO was answered */
    struct rp_orchestrator_info info;
    struct rp_timer *reconnect, *patience, *refusal;
    uint64_t delay_ms;
    struct request *first, **last; /* in the order of the calls; sent ones and those that wait */
    struct request *refused;       /* never sent: their answer is due */
    unsigned count;
    uint32_t tag;
    uint8_t buffer[RP_ORCH_MESSAGE_SIZE_MAX];
};

/* ---- requests ---- */

static void request_free(struct request *r)
{
    free(r->list);
    free(r->volumes);
    free(r);
}

/* Calls the request's function with an error, and frees it; it is in no list any more. */
static void fail(struct request *r, const struct rp_error *err)
{
    switch (r->message.type) {
    case RP_ORCH_START:
    case RP_ORCH_ATTACH:
        r->fn.attached(r->ctx, -1, 0, false, err);
        break;
    case RP_ORCH_LIST:
        r->fn.list(r->ctx, NULL, 0, err);
        break;
    case RP_ORCH_STATS:
        r->fn.stats(r->ctx, NULL, err);
        break;
    case RP_ORCH_VOLUME_USAGE:
        r->fn.usage(r->ctx, 0, 0, err);
        break;
    case RP_ORCH_VOLUME_LIST:
        r->fn.volumes(r->ctx, NULL, 0, err);
        break;
    default:
        r->fn.done(r->ctx, err);
    }
    request_free(r);
}

static struct request *unlink_at(struct rp_orchestrator *o, struct request **at)
{
    struct request *r = *at;
    *at = r->next;
    if (o->last == &r->next)
        o->last = at;
    r->next = NULL;
    o->count--;
    return r;
}

static struct request **find(struct rp_orchestrator *o, uint32_t tag)
{
    for (struct request **at = &o->first; *at; at = &(*at)->next)
        if ((*at)->message.tag == tag && (*at)->sent)
            return at;
    return NULL;
}

/* Sends what waits, in order, as far as the socket takes it. */
static void pump(struct rp_orchestrator *o)
{
    if (!o->ready)
        return;
    unsigned events = RP_WATCH_READ;
    for (struct request *r = o->first; r; r = r->next) {
        if (r->sent)
            continue;
        uint8_t data[RP_ORCH_MESSAGE_SIZE_MAX];
        int n = rp_orchestrator_encode(&r->message, RP_TO_ORCHESTRATOR, data, sizeof(data));
        int result = n < 0 ? -EPROTO : rp_seqpacket_send(o->socket, data, (size_t)n, -1);
        if (result == -EAGAIN) {
            events |= RP_WATCH_WRITE;
            break;
        }
        if (result < 0) {
            /* The end shows as readable: everything is told from the loop, nothing from inside a request. */
            shutdown(o->socket, SHUT_RDWR);
            break;
        }
        r->sent = true;
    }
    rp_watch_set(o->watch, events);
}

static void refuse_due(void *ctx)
{
    struct rp_orchestrator *o = ctx;
    struct request *r = o->refused;
    o->refused = NULL;
    /* called functions may add to the list again */
    while (r) {
        struct request *next = r->next;
        struct rp_error e = r->failed;
        fail(r, &e);
        r = next;
    }
}

static void submit(struct rp_orchestrator *o, struct request *r)
{
    uint8_t data[RP_ORCH_MESSAGE_SIZE_MAX];
    if (++o->tag == 0)
        o->tag = 1;
    r->message.tag = o->tag;
    if (rp_orchestrator_encode(&r->message, RP_TO_ORCHESTRATOR, data, sizeof(data)) < 0)
        rp_error_set(&r->failed, RP_ERROR_INVALID, "a value of the request is out of range");
    else if (o->count >= RP_ORCHESTRATOR_REQUESTS_MAX)
        rp_error_set(&r->failed, RP_ERROR_UNAVAILABLE, "too many requests wait for the orchestrator");
    if (r->failed.code) {
        struct request **at = &o->refused;
        while (*at)
            at = &(*at)->next;
        *at = r;
        rp_timer_start(o->refusal, 0, 0);
        return;
    }
    r->deadline_ms = rp_loop_now_ms(o->loop) + RP_ORCHESTRATOR_PATIENCE_MS;
    *o->last = r;
    o->last = &r->next;
    o->count++;
    pump(o);
}

static struct request *request_new(uint16_t type, const char *sandbox, const char *project, void *ctx)
{
    struct request *r = rp_calloc(1, sizeof(*r));
    r->message.type = type;
    r->ctx = ctx;
    /* what does not fit is no id, and is refused as such */
    if (sandbox && !rp_str_copy(r->message.sandbox, sizeof(r->message.sandbox), rp_str_of(sandbox)))
        r->message.sandbox[0] = '\0';
    if (project && !rp_str_copy(r->message.project, sizeof(r->message.project), rp_str_of(project)))
        r->message.project[0] = '\0';
    return r;
}

/* ---- the connection ---- */

static void out_of_patience(void *ctx)
{
    struct rp_orchestrator *o = ctx;
    uint64_t now = rp_loop_now_ms(o->loop);
    struct rp_error e;
    rp_error_set(&e, RP_ERROR_UNAVAILABLE, "the orchestrator does not answer");
    struct request **at = &o->first;
    while (*at) {
        if ((*at)->sent || (*at)->deadline_ms > now) {
            at = &(*at)->next;
            continue;
        }
        fail(unlink_at(o, at), &e);
        at = &o->first; /* the function called may have changed the list */
    }
}

/* What has the same result when it is done twice. */
static bool repeatable(const struct request *r)
{
    return r->message.type != RP_ORCH_START && r->message.type != RP_ORCH_VOLUME_CLONE;
}

static void disconnect(struct rp_orchestrator *o)
{
    bool was_ready = o->ready;
    rp_watch_free(o->watch);
    o->watch = NULL;
    rp_close_fd(&o->socket);
    o->ready = false;
    rp_timer_start(o->reconnect, o->delay_ms, 0);
    o->delay_ms = RP_MIN(o->delay_ms * 2, (uint64_t)RECONNECT_MAX_MS);
    rp_timer_start(o->patience, 100, 100);

    struct request *lost = NULL, **lost_end = &lost;
    uint64_t deadline = rp_loop_now_ms(o->loop) + RP_ORCHESTRATOR_PATIENCE_MS;
    struct request **at = &o->first;
    while (*at) {
        struct request *r = *at;
        if (r->sent && !repeatable(r)) {
            *lost_end = unlink_at(o, at);
            lost_end = &(*lost_end)->next;
            continue;
        }
        if (r->sent)
            r->deadline_ms = deadline;
        r->sent = false;
        r->count = 0;
        at = &r->next;
    }
    for (struct request *r = lost; r; r = r->next)
        rp_error_set(&r->failed, RP_ERROR_UNAVAILABLE, "the orchestrator ended before it answered");
    if (lost) {
        at = &o->refused;
        while (*at)
            at = &(*at)->next;
        *at = lost;
        rp_timer_start(o->refusal, 0, 0);
    }
    if (was_ready && o->events->on_disconnected)
        o->events->on_disconnected(o->ctx);
}

static void said_hello(struct rp_orchestrator *o, const struct rp_orchestrator_message *m)
{
    if (o->ready || m->version != RP_ORCHESTRATOR_VERSION) {
        disconnect(o);
        return;
    }
    o->ready = true;
    o->delay_ms = RECONNECT_MIN_MS;
    o->info =
        (struct rp_orchestrator_info){.capabilities = m->capabilities, .memory = m->memory, .cpus = m->cpus};
    memcpy(o->info.driver, m->driver, sizeof(o->info.driver));
    rp_timer_stop(o->patience);
    pump(o);
    if (o->ready && o->events->on_connected)
        o->events->on_connected(o->ctx, &o->info);
}

static void event(struct rp_orchestrator *o, const struct rp_orchestrator_message *m)
{
    if (m->type == RP_ORCH_GONE && o->events->on_gone) {
        struct rp_error why;
        rp_error_set(&why, (enum rp_code)m->code, "%s", m->text);
        o->events->on_gone(o->ctx, m->sandbox, &why);
    } else if (m->type == RP_ORCH_OOM && o->events->on_oom) {
        o->events->on_oom(o->ctx, m->sandbox, m->step);
    }
}

/* One more element of a list that arrives; false when there are too many. */
static bool collect(struct request *r, const struct rp_orchestrator_message *m)
{
    if (r->count == LIST_MAX)
        return false;
    if (r->count == r->allocated) {
        r->allocated = r->allocated ? r->allocated * 2 : 64;
        if (r->message.type == RP_ORCH_LIST)
            r->list = rp_realloc(r->list, r->allocated * sizeof(*r->list));
        else
            r->volumes = rp_realloc(r->volumes, r->allocated * sizeof(*r->volumes));
    }
    if (r->message.type == RP_ORCH_LIST) {
        struct rp_orchestrator_sandbox *s = &r->list[r->count++];
        s->started_at = m->started_at;
        memcpy(s->sandbox, m->sandbox, sizeof(s->sandbox));
        memcpy(s->project, m->project, sizeof(s->project));
        memcpy(s->environment, m->environment, sizeof(s->environment));
    } else {
        memcpy(r->volumes[r->count++], m->project, RP_ID_SIZE);
    }
    return true;
}

/* The answer that ends the request, when it fits it: 1; 0 when more follows; -1 when it does not fit. */
static int answer_fits(const struct request *r, const struct rp_orchestrator_message *m, int fd)
{
    uint16_t asked = r->message.type, got = m->type;
    if ((fd >= 0) != (got == RP_ORCH_ATTACHED))
        return -1;
    switch (got) {
    case RP_ORCH_ERROR:
        return 1;
    case RP_ORCH_PROGRESS:
        return asked == RP_ORCH_START ? 0 : -1;
    case RP_ORCH_ATTACHED:
        return (asked == RP_ORCH_START || asked == RP_ORCH_ATTACH) &&
                       strcmp(r->message.sandbox, m->sandbox) == 0
                   ? 1
                   : -1;
    case RP_ORCH_SANDBOX:
        return asked == RP_ORCH_LIST ? 0 : -1;
    case RP_ORCH_VOLUME:
        return asked == RP_ORCH_VOLUME_LIST ? 0 : -1;
    case RP_ORCH_STATISTICS:
        return asked == RP_ORCH_STATS ? 1 : -1;
    case RP_ORCH_VOLUME_USED:
        return asked == RP_ORCH_VOLUME_USAGE ? 1 : -1;
    case RP_ORCH_OK:
        return asked == RP_ORCH_START || asked == RP_ORCH_ATTACH || asked == RP_ORCH_STATS ||
                       asked == RP_ORCH_VOLUME_USAGE
                   ? -1
                   : 1;
    default:
        return -1;
    }
}

/* The request is in no list any more. */
static void succeed(struct request *r, const struct rp_orchestrator_message *m, int fd)
{
    switch (r->message.type) {
    case RP_ORCH_START:
    case RP_ORCH_ATTACH:
        r->fn.attached(r->ctx, fd, m->started_at, m->warm, NULL);
        break;
    case RP_ORCH_LIST:
        r->fn.list(r->ctx, r->list, r->count, NULL);
        break;
    case RP_ORCH_STATS:
        r->fn.stats(r->ctx, &m->stats, NULL);
        break;
    case RP_ORCH_VOLUME_USAGE:
        r->fn.usage(r->ctx, m->used, m->quota, NULL);
        break;
    case RP_ORCH_VOLUME_LIST:
        r->fn.volumes(r->ctx, (const char(*)[RP_ID_SIZE])r->volumes, r->count, NULL);
        break;
    default:
        r->fn.done(r->ctx, NULL);
    }
    request_free(r);
}

/* Owns fd. */
static void received(struct rp_orchestrator *o, const struct rp_orchestrator_message *m, int fd)
{
    if (m->type == RP_ORCH_HELLO || m->tag == 0) {
        rp_close_fd(&fd);
        if (m->type == RP_ORCH_HELLO)
            said_hello(o, m);
        else
            event(o, m);
        return;
    }
    struct request **at = o->ready ? find(o, m->tag) : NULL;
    int fits = at ? answer_fits(*at, m, fd) : -1;
    if (fits < 0 || (fits == 0 && m->type != RP_ORCH_PROGRESS && !collect(*at, m))) {
        rp_close_fd(&fd);
        disconnect(o);
        return;
    }
    if (fits == 0) {
        if (m->type == RP_ORCH_PROGRESS && (*at)->progress)
            (*at)->progress((*at)->ctx, m->text);
        return;
    }
    struct request *r = unlink_at(o, at);
    if (m->type == RP_ORCH_ERROR) {
        struct rp_error e;
        rp_error_set(&e, (enum rp_code)m->code, "%s", m->text);
        e.errno_value = (int)m->errno_value;
        fail(r, &e);
    } else {
        succeed(r, m, fd);
    }
}

static void on_socket(void *ctx, unsigned events)
{
    struct rp_orchestrator *o = ctx;
    if (events & RP_WATCH_WRITE)
        pump(o);
    for (int i = 0; i < MESSAGES_PER_TURN && o->socket >= 0; i++) {
        int fd;
        ssize_t n = rp_seqpacket_receive(o->socket, o->buffer, sizeof(o->buffer), &fd);
        if (n == -EAGAIN)
            return;
        struct rp_orchestrator_message m;
        if (n <= 0 || rp_orchestrator_decode(o->buffer, (size_t)n, RP_TO_GATEWAY, &m, NULL) < 0) {
            rp_close_fd(&fd);
            disconnect(o);
            return;
        }
        received(o, &m, fd);
    }
}

static void connect_now(void *ctx)
{
    struct rp_orchestrator *o = ctx;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct rp_orchestrator_message hello = {
        .type = RP_ORCH_HELLO, .tag = 1, .version = RP_ORCHESTRATOR_VERSION};
    uint8_t data[64];
    int n = rp_orchestrator_encode(&hello, RP_TO_ORCHESTRATOR, data, sizeof(data));
    o->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n < 0 || o->socket < 0 || !rp_str_copy(a.sun_path, sizeof(a.sun_path), rp_str_of(o->path)) ||
        connect(o->socket, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        rp_seqpacket_send(o->socket, data, (size_t)n, -1) < 0 ||
        !(o->watch = rp_watch_new(o->loop, o->socket, on_socket, o))) {
        disconnect(o);
        return;
    }
    rp_watch_set(o->watch, RP_WATCH_READ);
}

struct rp_orchestrator *rp_orchestrator_new(struct rp_loop *loop, const char *socket_path,
                                            const struct rp_orchestrator_events *events, void *ctx)
{
    struct rp_orchestrator *o = rp_calloc(1, sizeof(*o));
    o->loop = loop;
    o->path = rp_strdup(socket_path);
    o->events = events;
    o->ctx = ctx;
    o->socket = -1;
    o->delay_ms = RECONNECT_MIN_MS;
    o->last = &o->first;
    o->reconnect = rp_timer_new(loop, connect_now, o);
    o->patience = rp_timer_new(loop, out_of_patience, o);
    o->refusal = rp_timer_new(loop, refuse_due, o);
    rp_timer_start(o->patience, 100, 100);
    rp_timer_start(o->reconnect, 0, 0);
    return o;
}

void rp_orchestrator_free(struct rp_orchestrator *o)
{
    if (!o)
        return;
    rp_watch_free(o->watch);
    rp_close_fd(&o->socket);
    rp_timer_free(o->reconnect);
    rp_timer_free(o->patience);
    rp_timer_free(o->refusal);
    struct request *lists[] = {o->first, o->refused};
    for (size_t i = 0; i < RP_ARRAY_SIZE(lists); i++) {
        while (lists[i]) {
            struct request *next = lists[i]->next;
            request_free(lists[i]);
            lists[i] = next;
        }
    }
    free(o->path);
    free(o);
}

const struct rp_orchestrator_info *rp_orchestrator_info_of(const struct rp_orchestrator *o)
{
    return o->ready ? &o->info : NULL;
}

/* ---- the requests, one by one ---- */

void rp_orchestrator_start(struct rp_orchestrator *o, const struct rp_orchestrator_start *start,
                           rp_orchestrator_progress_fn *progress, rp_orchestrator_attached_fn *fn, void *ctx)
{
    struct request *r = request_new(RP_ORCH_START, start->sandbox, start->project, ctx);
    memcpy(r->message.environment, start->environment, sizeof(r->message.environment));
    r->message.environment[RP_ENVIRONMENT_LENGTH] = '\0';
    r->message.limits = start->limits;
    r->message.network = start->network;
    r->progress = progress;
    r->fn.attached = fn;
    submit(o, r);
}

void rp_orchestrator_stop(struct rp_orchestrator *o, const char *sandbox, uint32_t grace_ms,
                          rp_orchestrator_done_fn *fn, void *ctx)
{
    struct request *r = request_new(RP_ORCH_STOP, sandbox, NULL, ctx);
    r->message.grace_ms = RP_MIN(grace_ms, (uint32_t)RP_ORCH_GRACE_MAX_MS);
    r->fn.done = fn;
    submit(o, r);
}

void rp_orchestrator_attach(struct rp_orchestrator *o, const char *sandbox, rp_orchestrator_attached_fn *fn,
                            void *ctx)
{
    struct request *r = request_new(RP_ORCH_ATTACH, sandbox, NULL, ctx);
    r->fn.attached = fn;
    submit(o, r);
}

void rp_orchestrator_list(struct rp_orchestrator *o, rp_orchestrator_list_fn *fn, void *ctx)
{
    struct request *r = request_new(RP_ORCH_LIST, NULL, NULL, ctx);
    r->fn.list = fn;
    submit(o, r);
}

void rp_orchestrator_limits(struct rp_orchestrator *o, const char *sandbox, uint32_t step,
                            const struct rp_limits *limits, rp_orchestrator_done_fn *fn, void *ctx)
{
    struct request *r = request_new(RP_ORCH_LIMITS, sandbox, NULL, ctx);
    r->message.step = step;
    r->message.limits = *limits;
    r->fn.done = fn;
    submit(o, r);
}

void rp_orchestrator_step_drop(struct rp_orchestrator *o, const char *sandbox, uint32_t step,
                               rp_orchestrator_done_fn *fn, void *ctx)
{
    struct request *r = request_new(RP_ORCH_STEP_DROP, sandbox, NULL, ctx);
    r->message.step = step;
    r->fn.done = fn;
    submit(o, r);
}

void rp_orchestrator_stats(struct rp_orchestrator *o, const char *sandbox, rp_orchestrator_stats_fn *fn,
                           void *ctx)
{
    struct request *r = request_new(RP_ORCH_STATS, sandbox, NULL, ctx);
    r->fn.stats = fn;
    submit(o, r);
}

void rp_orchestrator_ready(struct rp_orchestrator *o, rp_orchestrator_done_fn *fn, void *ctx)
{
    struct request *r = request_new(RP_ORCH_READY, NULL, NULL, ctx);
    r->fn.done = fn;
    submit(o, r);
}

static void submit_volume(struct rp_orchestrator *o, uint16_t type, const char *project, const char *other,
                          uint64_t quota, rp_orchestrator_done_fn *fn, void *ctx)
{
    struct request *r = request_new(type, NULL, project, ctx);
    if (other && !rp_str_copy(r->message.other, sizeof(r->message.other), rp_str_of(other)))
        r->message.other[0] = '\0';
    r->message.quota = quota;
    r->fn.done = fn;
    submit(o, r);
}

void rp_orchestrator_volume_create(struct rp_orchestrator *o, const char *project, uint64_t quota,
                                   rp_orchestrator_done_fn *fn, void *ctx)
{
    submit_volume(o, RP_ORCH_VOLUME_CREATE, project, NULL, quota, fn, ctx);
}

void rp_orchestrator_volume_delete(struct rp_orchestrator *o, const char *project,
                                   rp_orchestrator_done_fn *fn, void *ctx)
{
    submit_volume(o, RP_ORCH_VOLUME_DELETE, project, NULL, 0, fn, ctx);
}

void rp_orchestrator_volume_quota(struct rp_orchestrator *o, const char *project, uint64_t quota,
                                  rp_orchestrator_done_fn *fn, void *ctx)
{
    submit_volume(o, RP_ORCH_VOLUME_QUOTA, project, NULL, quota, fn, ctx);
}

void rp_orchestrator_volume_clone(struct rp_orchestrator *o, const char *from, const char *to,
                                  rp_orchestrator_done_fn *fn, void *ctx)
{
    submit_volume(o, RP_ORCH_VOLUME_CLONE, from, to, 0, fn, ctx);
}

void rp_orchestrator_volume_usage(struct rp_orchestrator *o, const char *project,
                                  rp_orchestrator_usage_fn *fn, void *ctx)
{
    struct request *r = request_new(RP_ORCH_VOLUME_USAGE, NULL, project, ctx);
    r->fn.usage = fn;
    submit(o, r);
}

void rp_orchestrator_volume_list(struct rp_orchestrator *o, rp_orchestrator_volumes_fn *fn, void *ctx)
{
    struct request *r = request_new(RP_ORCH_VOLUME_LIST, NULL, NULL, ctx);
    r->fn.volumes = fn;
    submit(o, r);
}
