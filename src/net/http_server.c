#include "net/http_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "base/random.h"
#include "net/http_internal.h"

enum { ACCEPTS_A_TURN = 16, SPARE_MAX = 32, SPARE_BUFFER_MAX = 8192 };

const struct rp_http_limits rp_http_limits_default = {
    .head_ms = 30000,
    .idle_ms = 75000,
    .progress_ms = 60000,
    .linger_ms = 5000,
    .connections = 8192,
    .connections_per_address = 1024,
    .drain_max = 1 << 20,
};

/* A connection that left HTTP; it still has its place in the counts. */
struct http_taken {
    struct link link;
    struct rp_http_server *server;
    struct http_address *address;
};

/* ---- addresses ---- */

static unsigned address_hash(const unsigned char bytes[16])
{
    unsigned h = 2166136261u;
    for (int i = 0; i < 16; i++)
        h = (h ^ bytes[i]) * 16777619u;
    return (h ^ h >> 8 ^ h >> 16) & 255;
}

static void address_bytes(const struct sockaddr_storage *from, unsigned char ret[16])
{
    memset(ret, 0, 16);
    if (from->ss_family == AF_INET6) {
        memcpy(ret, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
    } else if (from->ss_family == AF_INET) {
        ret[10] = ret[11] = 0xff;
        memcpy(ret + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
    } else {
        ret[15] = 1; /* a Unix socket: this machine */
    }
}

static struct http_address *address_get(struct rp_http_server *s, const struct sockaddr_storage *from)
{
    unsigned char bytes[16];
    address_bytes(from, bytes);
    struct http_address **chain = &s->addresses[address_hash(bytes)];
    for (struct http_address *a = *chain; a; a = a->next)
        if (memcmp(a->bytes, bytes, 16) == 0)
            return a;
    struct http_address *a = rp_calloc(1, sizeof(*a));
    memcpy(a->bytes, bytes, 16);
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff}, localhost[16] = {[15] = 1};
    if (memcmp(bytes, mapped, 12) == 0) {
        a->loopback = bytes[12] == 127;
        inet_ntop(AF_INET, bytes + 12, a->text, sizeof(a->text));
    } else {
        a->loopback = memcmp(bytes, localhost, 16) == 0;
        inet_ntop(AF_INET6, bytes, a->text, sizeof(a->text));
    }
    a->next = *chain;
    *chain = a;
    return a;
}

static void address_put(struct rp_http_server *s, struct http_address *a)
{
    if (a->count)
        return;
    struct http_address **at = &s->addresses[address_hash(a->bytes)];
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    free(a);
}

static void place_free(struct rp_http_server *s, struct http_address *a)
{
    s->count--;
    a->count--;
    address_put(s, a);
}

void http_server_gone(struct http_connection *c)
{
    place_free(c->server, c->address);
}

static void on_taken_freed(void *ctx)
{
    struct http_taken *t = ctx;
    if (t->server) {
        link_remove(&t->link);
        place_free(t->server, t->address);
    }
    free(t);
}

void http_server_taken(struct http_connection *c, struct rp_stream *stream)
{
    struct http_taken *t = rp_calloc(1, sizeof(*t));
    t->server = c->server;
    t->address = c->address;
    link_append(&c->server->taken, &t->link);
    rp_stream_on_free(stream, on_taken_freed, t);
}

/* ---- time ---- */

static uint64_t duration(const struct rp_http_server *s, enum http_timeout t)
{
    switch (t) {
    case HTTP_TIMEOUT_HEAD:
        return s->limits.head_ms;
    case HTTP_TIMEOUT_IDLE:
        return s->limits.idle_ms;
    case HTTP_TIMEOUT_PROGRESS:
        return s->limits.progress_ms / 2; /* looked at twice before it counts */
    default:
        return s->limits.linger_ms;
    }
}

void http_timeout_set(struct http_connection *c, enum http_timeout t)
{
    link_remove(&c->timeout);
    c->expires = rp_loop_now_ms(c->server->loop) + duration(c->server, t);
    link_append(&c->server->timeouts[t], &c->timeout);
}

/* Each list is in order of expiry, and what is looked at goes to its end or away. */
static void on_tick(void *ctx)
{
    struct rp_http_server *s = ctx;
    uint64_t now = rp_loop_now_ms(s->loop);
    for (int t = 0; t < HTTP_TIMEOUT_COUNT; t++) {
        struct link *list = &s->timeouts[t];
        while (!link_empty(list)) {
            struct http_connection *c = RP_CONTAINER_OF(list->next, struct http_connection, timeout);
            if (c->expires > now)
                break;
            http_connection_expired(c, (enum http_timeout)t);
        }
    }
    if (!s->count)
        rp_timer_stop(s->tick);
}

static void start_tick(struct rp_http_server *s)
{
    if (rp_timer_active(s->tick))
        return;
    uint64_t period = 4000;
    for (int t = 0; t < HTTP_TIMEOUT_COUNT; t++)
        period = RP_MIN(period, duration(s, (enum http_timeout)t));
    period = RP_MAX(period / 4, (uint64_t)5);
    rp_timer_start(s->tick, period, period);
}

const char *http_date(struct rp_http_server *s)
{
    time_t now = time(NULL);
    if (now != s->date_second) {
        struct tm tm;
        gmtime_r(&now, &tm);
        /* not strftime's %a and %b: those follow the locale */
        static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        snprintf(s->date, sizeof(s->date), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
                 tm.tm_mday, months[tm.tm_mon], (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min,
                 tm.tm_sec);
        s->date_second = now;
    }
    return s->date;
}

/* ---- exchanges: used again, since each holds a hundred fields ---- */

static void spare_buffer(struct rp_buf *b)
{
    if (b->allocated > SPARE_BUFFER_MAX)
        rp_buf_done(b);
    b->start = b->length = 0;
}

struct rp_http_exchange *http_exchange_new(struct http_connection *c)
{
    struct rp_http_server *s = c->server;
    struct rp_http_exchange *x = s->spare;
    if (x) {
        s->spare = x->next_spare;
        s->spare_count--;
    } else {
        x = rp_calloc(1, sizeof(*x));
        rp_buf_init(&x->head, RP_HTTP_HEAD_MAX);
        rp_buf_init(&x->fields, RP_HTTP_FIELDS_MAX);
        rp_buf_init(&x->out, RP_HTTP_FIELDS_MAX + 4096);
    }
    x->next_spare = NULL;
    x->c = c;
    return x;
}

void http_exchange_free(struct rp_http_exchange *x)
{
    struct rp_http_server *s = x->c->server;
    rp_buf_done(&x->collected);
    if (s->spare_count >= SPARE_MAX) {
        rp_buf_done(&x->head);
        rp_buf_done(&x->fields);
        rp_buf_done(&x->out);
        free(x);
        return;
    }
    struct rp_buf head = x->head, fields = x->fields, out = x->out;
    spare_buffer(&head);
    spare_buffer(&fields);
    spare_buffer(&out);
    /* all but the table of fields, which `header_count` bounds */
    x->request.header_count = 0;
    memset(x, 0, offsetof(struct rp_http_exchange, request));
    x->head = head;
    x->fields = fields;
    x->out = out;
    x->next_spare = s->spare;
    s->spare = x;
    s->spare_count++;
}

/* ---- the listener ---- */

/* The longest silent connection makes room, of one address or of all. */
static bool evict(struct rp_http_server *s, const struct http_address *of)
{
    static const enum http_timeout lists[] = {HTTP_TIMEOUT_LINGER, HTTP_TIMEOUT_HEAD, HTTP_TIMEOUT_IDLE};
    for (size_t i = 0; i < RP_ARRAY_SIZE(lists); i++) {
        struct link *list = &s->timeouts[lists[i]];
        for (struct link *l = list->next; l != list; l = l->next) {
            struct http_connection *c = RP_CONTAINER_OF(l, struct http_connection, timeout);
            if ((of && c->address != of) || rp_stream_queued(c->stream))
                continue;
            http_connection_free(c);
            return true;
        }
    }
    return false;
}

static void warn(struct rp_http_server *s, const char *what, const char *peer)
{
    uint64_t now = rp_loop_now_ms(s->loop);
    if (s->warned_ms && now - s->warned_ms < 10000)
        return;
    s->warned_ms = now;
    rp_log(RP_LOG_WARNING, "connection refused", "reason", what, "peer", peer, NULL);
}

static void refuse(int fd)
{
    static const char body[] = "{\"type\":\"/docs/errors#unavailable\",\"title\":\"Service Unavailable\","
                               "\"status\":503,\"detail\":\"too many connections\",\"code\":\"unavailable\"}";
    char answer[512];
    int n = snprintf(answer, sizeof(answer),
                     "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
                     "Retry-After: 5\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                     sizeof(body) - 1, body);
    ssize_t ignored = send(fd, answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)ignored;
    close(fd);
}

static void welcome(struct rp_http_server *s, int fd, const struct sockaddr_storage *from)
{
    struct http_address *a = address_get(s, from);
    a->count++; /* before anything of this address is evicted */
    bool limited = !a->loopback || s->limits.limit_loopback;
    bool ok = true;
    if (limited && a->count > s->limits.connections_per_address)
        ok = evict(s, a);
    if (ok && s->count >= s->limits.connections)
        ok = evict(s, NULL);
    if (!ok) {
        warn(s, "too many connections", a->text);
        a->count--;
        address_put(s, a);
        refuse(fd);
        return;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof(on)); /* fails on a Unix socket, which has no delay */
    s->count++;
    http_connection_new(s, fd, a);
    start_tick(s);
}

/* No descriptor is left: an idle connection gives its own, or the reserve lets one more be taken and closed,
 * since a connection that stays in the queue would wake the loop for ever. */
static bool make_room_for_accept(struct rp_http_server *s)
{
    warn(s, "no descriptors left", NULL);
    if (evict(s, NULL))
        return true;
    rp_close_fd(&s->reserve);
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        refuse(fd);
    s->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return false;
}

static void on_accept(void *ctx, unsigned events)
{
    struct rp_http_server *s = ctx;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage from = {0};
        socklen_t n = sizeof(from);
        int fd = accept4(s->listener, (struct sockaddr *)&from, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            welcome(s, fd, &from);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (!make_room_for_accept(s))
                return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return; /* EAGAIN, or a network error that belongs to the connection */
        }
    }
}

struct rp_http_server *rp_http_server_new_limited(struct rp_loop *loop, int listener,
                                                  rp_http_handler *handler, void *ctx,
                                                  const struct rp_http_limits *limits)
{
    struct rp_http_server *s = rp_calloc(1, sizeof(*s));
    s->loop = loop;
    s->listener = listener;
    s->handler = handler;
    s->ctx = ctx;
    s->limits = *limits;
    for (int t = 0; t < HTTP_TIMEOUT_COUNT; t++)
        link_init(&s->timeouts[t]);
    link_init(&s->taken);
    s->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    s->date_second = -1;
    char id[RP_ID_SIZE];
    rp_random_id(id);
    memcpy(s->id_prefix, id, sizeof(s->id_prefix));
    s->tick = rp_timer_new(loop, on_tick, s);
    s->watch = rp_watch_new(loop, listener, on_accept, s);
    if (s->watch)
        rp_watch_set(s->watch, RP_WATCH_READ);
    return s;
}

struct rp_http_server *rp_http_server_new(struct rp_loop *loop, int listener, rp_http_handler *handler,
                                          void *ctx)
{
    return rp_http_server_new_limited(loop, listener, handler, ctx, &rp_http_limits_default);
}

void rp_http_server_drain(struct rp_http_server *s)
{
    s->draining = true;
    rp_watch_free(s->watch);
    s->watch = NULL;
    static const enum http_timeout lists[] = {HTTP_TIMEOUT_HEAD, HTTP_TIMEOUT_IDLE};
    for (size_t i = 0; i < RP_ARRAY_SIZE(lists); i++) {
        struct link *list = &s->timeouts[lists[i]];
        for (struct link *l = list->next, *next; l != list; l = next) {
            next = l->next;
            struct http_connection *c = RP_CONTAINER_OF(l, struct http_connection, timeout);
            if (c->head_begun)
                continue;
            if (rp_stream_queued(c->stream))
                http_connection_linger(c);
            else
                http_connection_free(c);
        }
    }
    struct link *busy = &s->timeouts[HTTP_TIMEOUT_PROGRESS];
    for (struct link *l = busy->next; l != busy; l = l->next)
        RP_CONTAINER_OF(l, struct http_connection, timeout)->close = true;
}

unsigned rp_http_server_connections(const struct rp_http_server *s)
{
    return s->count;
}

void rp_http_server_free(struct rp_http_server *s)
{
    if (!s)
        return;
    rp_watch_free(s->watch);
    rp_timer_free(s->tick);
    for (int t = 0; t < HTTP_TIMEOUT_COUNT; t++)
        while (!link_empty(&s->timeouts[t]))
            http_connection_free(RP_CONTAINER_OF(s->timeouts[t].next, struct http_connection, timeout));
    while (!link_empty(&s->taken)) {
        struct http_taken *t = RP_CONTAINER_OF(s->taken.next, struct http_taken, link);
        link_remove(&t->link);
        place_free(s, t->address);
        t->server = NULL;
    }
    while (s->spare) {
        struct rp_http_exchange *x = s->spare;
        s->spare = x->next_spare;
        rp_buf_done(&x->head);
        rp_buf_done(&x->fields);
        rp_buf_done(&x->out);
        free(x);
    }
    rp_close_fd(&s->reserve);
    free(s);
}
