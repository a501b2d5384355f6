/* runner/process with a real init: terminals and commands, their pace, their end, and a server that goes and
 * comes. */
#include "../cmocka_all.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "runner/process.h"

#define ID "abcdefgh01234567"

static struct rp_harness harness;
static char runtime_dir[64];

/* One server's life. */
struct server {
    struct rp_loop *loop;
    struct rp_processes *all;
    struct rp_process_set *set;
    struct rp_sandbox *sandbox;
    bool connected, ready, adopted, broken;
    unsigned exits;
    int viewers;
    struct rp_timer *limit;
};

static void on_limit(void *ctx)
{
    fail_msg("nothing happened for too long");
}

static void on_connected(void *ctx, const struct rp_error *err)
{
    struct server *s = ctx;
    if (err)
        fail_msg("%s", err->message);
    s->connected = true;
    rp_loop_stop(s->loop);
}

static void on_exited(void *ctx, uint64_t id, const struct rp_exit *exit)
{
    struct server *s = ctx;
    rp_process_set_exited(s->set, id, exit);
}

static void on_ports(void *ctx, const struct rp_port *ports, size_t count)
{
}

static void on_broken(void *ctx, const struct rp_error *why)
{
    struct server *s = ctx;
    s->broken = true;
    rp_loop_stop(s->loop);
}

static void on_ready(void *ctx, struct rp_process_set *set, bool adopted)
{
    struct server *s = ctx;
    s->ready = true;
    s->adopted = adopted;
    rp_loop_stop(s->loop);
}

static void on_process_exited(void *ctx, struct rp_process_set *set, struct rp_process *p)
{
    struct server *s = ctx;
    s->exits++;
    rp_loop_stop(s->loop);
}

static void on_touch(void *ctx)
{
}

static void on_viewer(void *ctx, int delta)
{
    struct server *s = ctx;
    s->viewers += delta;
}

static void on_changed(void *ctx, struct rp_process *p, enum rp_process_change change)
{
}

static void server_start(struct server *s, bool adopt)
{
    static const struct rp_sandbox_events EVENTS = {on_exited, on_ports, on_broken};
    static const struct rp_process_set_events SET = {on_touch, on_viewer, on_changed};
    static const struct rp_processes_hooks HOOKS = {on_ready, on_process_exited};
    memset(s, 0, sizeof(*s));
    s->loop = rp_loop_new();
    s->limit = rp_timer_new(s->loop, on_limit, s);
    rp_timer_start(s->limit, 30000, 0);
    struct rp_error err;
    if (rp_processes_new(s->loop, runtime_dir, 512 * 1024, &s->all, &err) < 0)
        fail_msg("%s", err.message);
    rp_processes_set_hooks(s->all, &HOOKS, s);
    s->set = rp_process_set_new(s->all, ID, &SET, s);
    s->sandbox = rp_sandbox_new(s->loop, ID, rp_harness_connect(&harness), &EVENTS, s, on_connected);
    while (!s->connected)
        rp_loop_run(s->loop);
    rp_process_set_attach(s->set, s->sandbox, adopt);
    while (!s->ready)
        rp_loop_run(s->loop);
}

/* As an orderly stop does: what runs goes on running. */
static void server_stop(struct server *s)
{
    rp_process_set_free(s->set);
    rp_sandbox_free(s->sandbox);
    rp_processes_free(s->all);
    rp_timer_free(s->limit);
    rp_loop_free(s->loop);
}

/* ---- a client ---- */

struct client {
    struct server *server;
    struct rp_process *process;
    struct rp_watcher *watcher;
    struct rp_buf got; /* of stdout or the PTY */
    struct rp_buf got_stderr;
    uint64_t offset; /* where `got` begins */
    uint64_t next;
    unsigned gaps;
    bool stalled; /* takes nothing */
    bool acknowledges;
    bool exited, gone, server_stops, full;
    uint16_t cols, rows;
    struct rp_exit exit;
    const char *wanted; /* stops the loop when it was seen */
    uint64_t counted;   /* instead of keeping it */
    bool counts;
};

static bool contains(const struct rp_buf *b, const char *text)
{
    struct rp_str v = rp_buf_view(b);
    return memmem(v.p, v.n, text, strlen(text)) != NULL;
}

static enum rp_write client_output(void *ctx, uint8_t stream, uint64_t offset, struct rp_str bytes)
{
    struct client *c = ctx;
    if (stream == RP_STREAM_STDERR) {
        assert_true(rp_buf_append_str(&c->got_stderr, bytes));
        return RP_WRITE_OK;
    }
    assert_int_equal(offset, c->next);
    c->next = offset + bytes.n;
    c->counted += bytes.n;
    if (!c->counts)
        assert_true(rp_buf_append_str(&c->got, bytes));
    if (c->acknowledges)
        rp_watcher_ack(c->watcher, stream, c->next);
    if (c->wanted && contains(&c->got, c->wanted))
        rp_loop_stop(c->server->loop);
    return c->stalled ? RP_WRITE_FULL : RP_WRITE_OK;
}

static void client_gap(void *ctx, uint8_t stream, uint64_t offset)
{
    struct client *c = ctx;
    assert_true(offset != c->next);
    c->gaps++;
    c->next = offset;
}

static void client_size(void *ctx, uint16_t cols, uint16_t rows)
{
    struct client *c = ctx;
    c->cols = cols;
    c->rows = rows;
}

static void client_input(void *ctx, bool full)
{
    struct client *c = ctx;
    c->full = full;
    rp_loop_stop(c->server->loop);
}

static void client_exit(void *ctx, const struct rp_exit *exit, bool lost)
{
    struct client *c = ctx;
    c->exited = true;
    c->exit = *exit;
    rp_loop_stop(c->server->loop);
}

static void client_gone(void *ctx, bool server_stops)
{
    struct client *c = ctx;
    c->gone = true;
    c->server_stops = server_stops;
    rp_loop_stop(c->server->loop);
}

static void client_watch(struct client *c, struct server *s, struct rp_process *p, unsigned flags,
                         uint64_t since)
{
    static const struct rp_watcher_callbacks CALLBACKS = {client_output, client_gap,  client_size,
                                                          client_input,  client_exit, client_gone};
    uint64_t from[4] = {since, since, since, since};
    c->server = s;
    c->process = p;
    if (!c->got.cap)
        rp_buf_init(&c->got, 64 << 20);
    if (!c->got_stderr.cap)
        rp_buf_init(&c->got_stderr, 1 << 20);
    c->watcher = rp_watcher_new(p, flags, from, &CALLBACKS, c);
    uint8_t stream = rp_process_flags(p) & RP_PROCESS_PTY ? RP_STREAM_PTY : RP_STREAM_STDOUT;
    c->next = since == UINT64_MAX ? rp_watcher_offset(c->watcher, stream) : since;
    c->offset = c->next;
}

static void client_done(struct client *c)
{
    rp_watcher_free(c->watcher);
    c->watcher = NULL;
    rp_buf_done(&c->got);
    rp_buf_done(&c->got_stderr);
}

static void await(struct client *c, const char *text)
{
    c->wanted = text;
    while (!contains(&c->got, text)) {
        if (c->exited)
            fail_msg("ended before it printed \"%s\"", text);
        rp_loop_run(c->server->loop);
    }
    c->wanted = NULL;
}

static void await_exit(struct client *c)
{
    while (!c->exited)
        rp_loop_run(c->server->loop);
}

static void type(struct client *c, const char *text)
{
    assert_int_equal(rp_process_write(c->process, rp_str_of(text)), RP_INPUT_OK);
}

static void stop_loop(void *ctx)
{
    rp_loop_stop(ctx);
}

static void run_for(struct server *s, unsigned ms)
{
    struct rp_timer *t = rp_timer_new(s->loop, stop_loop, s->loop);
    rp_timer_start(t, ms, 0);
    while (rp_timer_active(t))
        rp_loop_run(s->loop);
    rp_timer_free(t);
}

/* ---- spawning ---- */

struct spawned {
    struct server *server;
    bool done;
    struct rp_process *process;
    struct rp_error err;
};

static void on_spawned(void *ctx, struct rp_process *p, const struct rp_error *err)
{
    struct spawned *r = ctx;
    r->done = true;
    r->process = p;
    if (err)
        r->err = *err;
    rp_loop_stop(r->server->loop);
}

static struct rp_process *spawn_kind(struct server *s, enum rp_process_kind kind, unsigned flags,
                                     const char *const *argv, struct rp_error *ret)
{
    static const char *const ENV[] = {
        "PATH=/usr/bin:/bin", "TERM=xterm-256color", "LANG=C.UTF-8", "HOME=/home/runner", "PS1=> ", NULL};
    struct rp_process_spec spec = {
        .kind = kind, .flags = flags, .argv = argv, .env = ENV, .data = RP_STR("mine")};
    struct spawned r = {.server = s};
    rp_process_spawn(s->set, &spec, on_spawned, &r);
    assert_false(r.done);
    while (!r.done)
        rp_loop_run(s->loop);
    if (!r.process && !ret)
        fail_msg("%s", r.err.message);
    if (ret)
        *ret = r.err;
    return r.process;
}

static struct rp_process *spawn_terminal(struct server *s, const char *command)
{
    const char *argv[] = {"bash", "--norc", "-c", command, NULL};
    const char *shell[] = {"bash", "--norc", "-i", NULL};
    return spawn_kind(s, RP_PROCESS_TERMINAL, 0, command ? argv : shell, NULL);
}

static struct rp_process *spawn_command(struct server *s, unsigned flags, const char *command)
{
    const char *argv[] = {"bash", "-c", command, NULL};
    return spawn_kind(s, RP_PROCESS_COMMAND, flags, argv, NULL);
}

/* ---- tests ---- */

static void a_terminal_types_and_exits(void **state)
{
    struct server s;
    server_start(&s, false);
    struct client c = {0};
    client_watch(&c, &s, spawn_terminal(&s, NULL), RP_WATCHER_WRITES, UINT64_MAX);
    await(&c, "> ");
    assert_int_equal(s.viewers, 1);
    type(&c, "echo $((6*7))-$(id -u)-$(tput colors)\r");
    await(&c, "42-1000-256\r\n");
    rp_watcher_resize(c.watcher, 101, 37);
    type(&c, "stty size\r");
    await(&c, "37 101\r\n");
    type(&c, "exit 7\r");
    await_exit(&c);
    assert_int_equal(c.exit.code, 7);
    assert_int_equal(c.exit.signal, 0);
    assert_int_equal(s.exits, 1);
    assert_int_equal(rp_process_write(c.process, RP_STR("x")), RP_INPUT_CLOSED);
    client_done(&c);
    assert_int_equal(s.viewers, 0);
    server_stop(&s);
}

static void the_size_is_the_smallest_of_the_writers(void **state)
{
    struct server s;
    server_start(&s, false);
    struct rp_process *p = spawn_terminal(&s, "while :; do stty size; sleep 0.05; done");
    struct client a = {0}, b = {0}, reader = {0};
    client_watch(&a, &s, p, RP_WATCHER_WRITES, UINT64_MAX);
    client_watch(&b, &s, p, RP_WATCHER_WRITES, UINT64_MAX);
    client_watch(&reader, &s, p, 0, UINT64_MAX);
    run_for(&s, 200);
    rp_watcher_resize(a.watcher, 120, 50);
    await(&a, "50 120\r\n");
    rp_watcher_resize(b.watcher, 90, 60);
    await(&a, "50 90\r\n");
    rp_watcher_resize(reader.watcher, 10, 10); /* has no say */
    assert_int_equal(reader.cols, 90);
    client_done(&b);
    rp_buf_consume(&a.got, a.got.length);
    rp_watcher_resize(a.watcher, 121, 50);
    await(&a, "50 121\r\n");
    client_done(&a);
    client_done(&reader);
    rp_process_remove(p);
    while (s.exits < 1)
        rp_loop_run(s.loop);
    run_for(&s, 20);
    assert_null(rp_process_next(s.set, NULL));
    server_stop(&s);
}

static void an_interrupt_overtakes_a_paste(void **state)
{
    struct server s;
    server_start(&s, false);
    struct client c = {0};
    client_watch(&c, &s, spawn_terminal(&s, NULL), RP_WATCHER_WRITES, UINT64_MAX);
    await(&c, "> ");
    type(&c, "stty -echo; echo ready; sleep 1000\r");
    await(&c, "ready\r\n");
    run_for(&s, 100);
    static char paste[64 * 1024];
    for (size_t i = 0; i < sizeof(paste); i++)
        paste[i] = i % 50 == 49 ? '\r' : 'x';
    enum rp_input result = RP_INPUT_OK;
    size_t sent = 0;
    while (result == RP_INPUT_OK) {
        result = rp_process_write(c.process, (struct rp_str){paste, sizeof(paste)});
        sent += sizeof(paste);
    }
    assert_int_equal(result, RP_INPUT_FULL);
    assert_in_range(sent, 256 * 1024, 400 * 1024);
    while (result == RP_INPUT_FULL) {
        result = rp_process_write(c.process, (struct rp_str){paste, sizeof(paste)});
        sent += sizeof(paste);
    }
    assert_int_equal(result, RP_INPUT_OVERFLOW);
    assert_true(sent <= (1 << 20) + 128 * 1024);
    type(&c, "\003");
    type(&c, "stty echo; echo back\r");
    await(&c, "\nback\r\n");
    assert_false(contains(&c.got, "xxxx")); /* nothing of the paste reached the shell */
    /* the same through a signal message, and while the kernel alone holds the paste */
    type(&c, "stty -echo; echo again; sleep 1000\r");
    await(&c, "again\r\n");
    run_for(&s, 100);
    assert_int_equal(rp_process_write(c.process, (struct rp_str){paste, 10000}), RP_INPUT_OK);
    run_for(&s, 50);
    type(&c, "\003");
    type(&c, "echo third\r");
    await(&c, "third\r\n");
    type(&c, "echo fourth; sleep 1000\r");
    await(&c, "fourth\r\n");
    run_for(&s, 100);
    (void)rp_process_write(c.process, (struct rp_str){paste, sizeof(paste)});
    rp_process_signal(c.process, SIGINT, NULL, NULL);
    run_for(&s, 100);
    type(&c, "stty echo; echo fifth\r");
    await(&c, "\nfifth\r\n");
    assert_false(contains(&c.got, "xxxx"));
    type(&c, "exit\r");
    await_exit(&c);
    client_done(&c);
    server_stop(&s);
}

/* Everything that is typed arrives, however slowly it is taken. */
static void a_paste_is_queued_and_arrives_whole(void **state)
{
    struct server s;
    server_start(&s, false);
    struct client c = {0};
    client_watch(&c, &s, spawn_terminal(&s, "stty raw -echo; echo go; sleep 0.3; head -c 600000 | cksum"),
                 RP_WATCHER_WRITES, UINT64_MAX);
    await(&c, "go");
    static char paste[100000];
    memset(paste, 'q', sizeof(paste));
    bool full = false;
    for (int i = 0; i < 6; i++)
        full |= rp_process_write(c.process, (struct rp_str){paste, sizeof(paste)}) == RP_INPUT_FULL;
    assert_true(full);
    c.full = true;
    await_exit(&c);
    assert_false(c.full); /* it was told to go on */
    assert_true(contains(&c.got, " 600000"));
    client_done(&c);
    server_stop(&s);
}

static void a_writing_viewer_sets_the_pace(void **state)
{
    struct server s;
    server_start(&s, false);
    struct rp_process *p = spawn_terminal(&s, "head -c 3000000 /dev/zero | tr '\\0' 'z'; echo; echo end");
    struct client c = {.stalled = true, .counts = true}, reader = {.counts = true};
    client_watch(&c, &s, p, RP_WATCHER_WRITES, UINT64_MAX);
    client_watch(&reader, &s, p, 0, UINT64_MAX);
    run_for(&s, 700);
    uint64_t held = rp_ring_end(rp_output_ring(rp_process_output(p, RP_STREAM_PTY)));
    assert_true(held < 600000); /* the program blocks */
    run_for(&s, 300);
    assert_int_equal(rp_ring_end(rp_output_ring(rp_process_output(p, RP_STREAM_PTY))), held);
    c.stalled = false;
    rp_watcher_drained(c.watcher);
    await_exit(&c);
    assert_int_equal(c.gaps, 0);
    assert_int_equal(c.counted, 3000000 + 7);
    client_done(&c);
    client_done(&reader);
    server_stop(&s);
}

static void a_client_that_acknowledges_has_a_window(void **state)
{
    struct server s;
    server_start(&s, false);
    struct rp_process *p = spawn_terminal(&s, "head -c 2000000 /dev/zero | tr '\\0' 'z'");
    struct client c = {.counts = true};
    client_watch(&c, &s, p, RP_WATCHER_WRITES, UINT64_MAX);
    rp_watcher_ack(c.watcher, RP_STREAM_PTY, 0);
    run_for(&s, 700);
    assert_int_equal(c.counted, RP_OUTPUT_WINDOW);
    rp_watcher_ack(c.watcher, RP_STREAM_PTY, 99999999); /* never sent: ignored */
    run_for(&s, 100);
    assert_int_equal(c.counted, RP_OUTPUT_WINDOW);
    rp_watcher_ack(c.watcher, RP_STREAM_PTY, 1000);
    run_for(&s, 100);
    assert_int_equal(c.counted, RP_OUTPUT_WINDOW + 1000);
    c.acknowledges = true;
    rp_watcher_ack(c.watcher, RP_STREAM_PTY, c.next);
    await_exit(&c);
    assert_int_equal(c.counted, 2000000);
    client_done(&c);
    server_stop(&s);
}

static void a_slow_reader_gets_a_gap_and_the_end(void **state)
{
    struct server s;
    server_start(&s, false);
    struct rp_process *p = spawn_terminal(&s, "sleep 0.2; seq 1 400000; echo the-end");
    struct client slow = {.stalled = true}, fast = {.counts = true};
    client_watch(&slow, &s, p, 0, UINT64_MAX);
    client_watch(&fast, &s, p, RP_WATCHER_WRITES, UINT64_MAX);
    await_exit(&fast);
    assert_int_equal(fast.gaps, 0);
    slow.stalled = false;
    rp_watcher_drained(slow.watcher);
    await_exit(&slow);
    assert_int_equal(slow.gaps, 1);
    assert_true(contains(&slow.got, "400000\r\nthe-end\r\n"));
    client_done(&slow);
    client_done(&fast);
    server_stop(&s);
}

static void the_end_does_not_wait_for_who_holds_the_tty(void **state)
{
    struct server s;
    server_start(&s, false);
    struct client c = {0};
    client_watch(&c, &s, spawn_terminal(&s, "trap '' HUP; (trap '' HUP; sleep 600) & echo left; exit 3"),
                 RP_WATCHER_WRITES, UINT64_MAX);
    await_exit(&c);
    assert_int_equal(c.exit.code, 3);
    assert_true(contains(&c.got, "left\r\n"));
    client_done(&c);
    /* nor for one that floods it */
    memset(&c, 0, sizeof(c));
    c.counts = true;
    client_watch(&c, &s, spawn_terminal(&s, "(trap '' HUP; exec yes) & sleep 0.2; exit 4"), RP_WATCHER_WRITES,
                 UINT64_MAX);
    await_exit(&c);
    assert_int_equal(c.exit.code, 4);
    client_done(&c);
    server_stop(&s);
}

static void who_ignores_sigterm_is_killed(void **state)
{
    struct server s;
    server_start(&s, false);
    struct client c = {0};
    client_watch(&c, &s, spawn_command(&s, 0, "trap '' TERM HUP INT; echo on; while :; do sleep 0.1; done"),
                 0, UINT64_MAX);
    await(&c, "on\n");
    rp_process_stop(c.process, 300);
    await_exit(&c);
    assert_int_equal(c.exit.signal, SIGKILL);
    assert_int_equal(c.exit.code, -1);
    client_done(&c);
    server_stop(&s);
}

static void a_command_has_three_streams(void **state)
{
    struct server s;
    server_start(&s, false);
    struct client c = {0};
    client_watch(&c, &s, spawn_command(&s, RP_PROCESS_STDIN, "echo err >&2; exec tr a-z A-Z"),
                 RP_WATCHER_WRITES, UINT64_MAX);
    type(&c, "hello\n");
    rp_process_end_input(c.process);
    await_exit(&c);
    assert_int_equal(c.exit.code, 0);
    assert_true(contains(&c.got, "HELLO\n"));
    assert_true(contains(&c.got_stderr, "err\n"));
    assert_int_equal(rp_process_write(c.process, RP_STR("x")), RP_INPUT_CLOSED);
    client_done(&c);
    /* a watcher that comes after the end sees all of it */
    memset(&c, 0, sizeof(c));
    client_watch(&c, &s, rp_process_next(s.set, NULL), 0, UINT64_MAX);
    await_exit(&c);
    assert_true(contains(&c.got, "HELLO\n"));
    client_done(&c);
    server_stop(&s);
}

static void what_cannot_run_says_why(void **state)
{
    struct server s;
    server_start(&s, false);
    struct rp_error err;
    const char *argv[] = {"no-such-program", NULL};
    assert_null(spawn_kind(&s, RP_PROCESS_COMMAND, 0, argv, &err));
    assert_int_equal(err.code, RP_ERROR_INVALID);
    assert_null(rp_process_next(s.set, NULL));
    const char **many = rp_calloc(70001, sizeof(*many));
    for (int i = 0; i < 70000; i++)
        many[i] = "x";
    assert_null(spawn_kind(&s, RP_PROCESS_COMMAND, 0, many, &err));
    assert_int_equal(err.code, RP_ERROR_INVALID);
    free(many);
    static char huge[80000];
    memset(huge, 'h', sizeof(huge) - 1);
    const char *large[] = {"echo", huge, NULL};
    assert_null(spawn_kind(&s, RP_PROCESS_COMMAND, 0, large, &err));
    assert_int_equal(err.code, RP_ERROR_TOO_LARGE);
    server_stop(&s);
}

static void terminals_are_limited(void **state)
{
    struct server s;
    server_start(&s, false);
    struct rp_error err;
    const char *argv[] = {"sleep", "1000", NULL};
    for (int i = 0; i < RP_TERMINALS_MAX; i++)
        assert_non_null(spawn_kind(&s, RP_PROCESS_TERMINAL, 0, argv, &err));
    assert_null(spawn_kind(&s, RP_PROCESS_TERMINAL, 0, argv, &err));
    assert_int_equal(err.code, RP_ERROR_QUOTA);
    for (struct rp_process *p = rp_process_next(s.set, NULL); p; p = rp_process_next(s.set, p))
        rp_process_remove(p);
    while (s.exits < RP_TERMINALS_MAX)
        rp_loop_run(s.loop);
    assert_non_null(spawn_kind(&s, RP_PROCESS_TERMINAL, 0, argv, &err));
    rp_process_remove(rp_process_next(s.set, NULL));
    while (s.exits < RP_TERMINALS_MAX + 1)
        rp_loop_run(s.loop);
    server_stop(&s);
}

static void the_log_is_one_stream_over_runs(void **state)
{
    struct server s;
    server_start(&s, false);
    rp_process_set_log_begin(s.set);
    rp_process_set_log_write(s.set, RP_STR("$ install\n"));
    const char *install[] = {"bash", "-c", "echo installing; echo trouble >&2", NULL};
    const char *run[] = {"bash", "-c", "echo running", NULL};
    struct rp_process *p = spawn_kind(&s, RP_PROCESS_INSTALL, RP_PROCESS_LOG, install, NULL);
    assert_true(rp_str_is(rp_process_data(p), "mine"));
    while (s.exits < 1)
        rp_loop_run(s.loop);
    struct client c = {0};
    client_watch(&c, &s, p, 0, UINT64_MAX);
    p = spawn_kind(&s, RP_PROCESS_RUN, RP_PROCESS_LOG, run, NULL);
    while (s.exits < 2)
        rp_loop_run(s.loop);
    await_exit(&c);
    struct rp_ring *ring = rp_output_ring(rp_process_set_log(s.set));
    assert_true(rp_str_is(rp_ring_view(ring, 0, 1000), "$ install\ninstalling\ntrouble\nrunning\n"));
    /* who watches one process sees that one's part */
    assert_true(rp_str_is(rp_buf_view(&c.got), "installing\ntrouble\n"));
    client_done(&c);
    rp_process_set_detach(s.set); /* the project stops: its log stays */
    rp_process_set_log_begin(s.set);
    assert_int_equal(rp_process_set_log_start(s.set), rp_ring_end(ring));
    server_stop(&s);
    server_start(&s, false);
    ring = rp_output_ring(rp_process_set_log(s.set));
    assert_int_equal(rp_process_set_log_start(s.set), rp_ring_end(ring));
    assert_true(rp_ring_end(ring) > 0);
    rp_process_set_delete_rings(s.set);
    server_stop(&s);
}

static void the_next_server_goes_on(void **state)
{
    struct server s;
    server_start(&s, false);
    struct rp_process *p =
        spawn_terminal(&s, "for i in $(seq 1 40); do echo line-$i; sleep 0.05; done; exit 9");
    struct rp_process *e = spawn_command(&s, 0, "echo ended-before; exit 5");
    struct rp_process *q = spawn_command(&s, RP_PROCESS_STDIN, "read x; echo meanwhile-$x; exit 6");
    uint64_t terminal = rp_process_id(p), ended = rp_process_id(e), meanwhile = rp_process_id(q);
    struct client c = {0};
    client_watch(&c, &s, p, RP_WATCHER_WRITES, UINT64_MAX);
    rp_watcher_resize(c.watcher, 111, 44);
    await(&c, "line-5\r\n");
    while (s.exits < 1)
        rp_loop_run(s.loop);
    assert_int_equal(rp_process_write(q, RP_STR("typed\n")), RP_INPUT_OK);
    uint64_t next = c.next;
    rp_watcher_free(c.watcher);
    server_stop(&s);
    usleep(300000); /* it prints on into the PTY; q ends */
    server_start(&s, true);
    assert_true(s.adopted);
    p = rp_process_find(s.set, terminal);
    assert_non_null(p);
    uint16_t cols, rows;
    rp_process_size(p, &cols, &rows);
    assert_int_equal(cols, 111);
    assert_int_equal(rows, 44);
    assert_int_equal(rp_process_kind_of(p), RP_PROCESS_TERMINAL);
    assert_true(rp_str_is(rp_process_data(p), "mine"));
    client_watch(&c, &s, p, RP_WATCHER_WRITES, next);
    await_exit(&c);
    assert_int_equal(c.exit.code, 9);
    assert_int_equal(c.gaps, 0);
    char text[2000] = "";
    for (int i = 1; i <= 40; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "line-%d\r\n", i);
    assert_true(rp_str_is(rp_buf_view(&c.got), text));
    client_done(&c);
    /* one that had ended before is still there with its output */
    e = rp_process_find(s.set, ended);
    assert_non_null(e);
    assert_int_equal(rp_process_exit(e)->code, 5);
    memset(&c, 0, sizeof(c));
    client_watch(&c, &s, e, 0, UINT64_MAX);
    await_exit(&c);
    assert_true(contains(&c.got, "ended-before\n"));
    client_done(&c);
    /* and one that ended meanwhile delivered its rest */
    q = rp_process_find(s.set, meanwhile);
    assert_non_null(q);
    memset(&c, 0, sizeof(c));
    client_watch(&c, &s, q, 0, UINT64_MAX);
    await_exit(&c);
    assert_int_equal(c.exit.code, 6);
    assert_true(contains(&c.got, "meanwhile-typed\n"));
    client_done(&c);
    server_stop(&s);
}

static void a_sandbox_that_dies_takes_its_terminals(void **state)
{
    struct server s;
    server_start(&s, false);
    struct client c = {0};
    client_watch(&c, &s, spawn_terminal(&s, "echo here; sleep 1000"), RP_WATCHER_WRITES, UINT64_MAX);
    await(&c, "here\r\n");
    rp_harness_stop(&harness);
    while (!s.broken)
        rp_loop_run(s.loop);
    rp_process_set_detach(s.set);
    await_exit(&c);
    assert_int_equal(s.exits, 1);
    client_done(&c);
    struct rp_error err;
    const char *argv[] = {"true", NULL};
    assert_null(spawn_kind(&s, RP_PROCESS_COMMAND, 0, argv, &err));
    assert_int_equal(err.code, RP_ERROR_NOT_RUNNING);
    rp_process_set_delete_rings(s.set);
    server_stop(&s);
    rp_harness_start(&harness);
}

static int set_up(void **state)
{
    snprintf(runtime_dir, sizeof(runtime_dir), "/dev/shm/rp-process-%d", getpid());
    if (mkdir(runtime_dir, 0700) < 0)
        return -1;
    rp_harness_start(&harness);
    return 0;
}

static int tear_down(void **state)
{
    char path[128];
    rp_harness_stop(&harness);
    snprintf(path, sizeof(path), "%s/rings/" ID, runtime_dir);
    _cleanup_dir_ DIR *dir = opendir(path);
    struct dirent *e;
    while (dir && (e = readdir(dir))) {
        char file[512];
        snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.')
            unlink(file);
    }
    rmdir(path);
    snprintf(path, sizeof(path), "%s/rings", runtime_dir);
    rmdir(path);
    return rmdir(runtime_dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_terminal_types_and_exits),
        cmocka_unit_test(the_size_is_the_smallest_of_the_writers),
        cmocka_unit_test(an_interrupt_overtakes_a_paste),
        cmocka_unit_test(a_paste_is_queued_and_arrives_whole),
        cmocka_unit_test(a_writing_viewer_sets_the_pace),
        cmocka_unit_test(a_client_that_acknowledges_has_a_window),
        cmocka_unit_test(a_slow_reader_gets_a_gap_and_the_end),
        cmocka_unit_test(the_end_does_not_wait_for_who_holds_the_tty),
        cmocka_unit_test(who_ignores_sigterm_is_killed),
        cmocka_unit_test(a_command_has_three_streams),
        cmocka_unit_test(what_cannot_run_says_why),
        cmocka_unit_test(terminals_are_limited),
        cmocka_unit_test(the_log_is_one_stream_over_runs),
        cmocka_unit_test(the_next_server_goes_on),
        cmocka_unit_test(a_sandbox_that_dies_takes_its_terminals),
    };
    cmocka_set_test_filter(getenv("TEST_FILTER")); /* one test by name, for debugging */
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
