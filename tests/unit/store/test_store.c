/* The store on a real loop and a real file: order, groups, versions, bounds, kill -9, a full disk. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "store/store.h"

static char dir[64], path[160];
static struct rp_loop *loop;
static struct rp_store *store;

static void open_store(void)
{
    struct rp_error err = {0};
    loop = rp_loop_new();
    if (rp_store_open(loop, path, &store, &err) < 0)
        fail_msg("%s", err.message);
}

static void close_store(void)
{
    rp_store_close(store);
    store = NULL;
    rp_loop_free(loop);
    loop = NULL;
}

static int setup(void **state)
{
    strcpy(dir, "/tmp/rp-store-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/t.db", dir);
    return 0;
}

static int teardown(void **state)
{
    const char *suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(suffixes); i++) {
        char p[200];
        snprintf(p, sizeof p, "%s%s", path, suffixes[i]);
        unlink(p);
    }
    return rmdir(dir);
}

static struct rp_project_record record(const char *id)
{
    struct rp_project_record r = {
        .name = (char *)"N\xc3\xa9w \"project\"\n",
        .stack = (char *)"python",
        .dependencies = (char *)"{\"fastapi\":\"0.110.0\"}",
        .env = (char *)"{}",
        .metadata = (char *)"{}",
        .network = (char *)"{\"mode\":\"internet\"}",
        .memory = 1ULL << 40,
        .cpu = 1500,
        .processes = 200,
        .disk = 3ULL << 30,
        .idle_timeout = 600,
        .always_on = true,
        .version = 1,
        .created_at = 1234567890123456,
        .updated_at = 1234567890123457,
    };
    strcpy(r.id, id);
    return r;
}

struct outcome {
    int wanted, called;
    struct rp_error last;
    int order[64];
};

struct one {
    struct outcome *o;
    int number;
};

static void count(void *ctx, const struct rp_error *err)
{
    struct outcome *o = ctx;
    if (err)
        o->last = *err;
    else
        o->last.code = RP_ERROR_NONE;
    if (++o->called == o->wanted)
        rp_loop_stop(loop);
}

static enum rp_code insert(const struct rp_project_record *r, const struct rp_idempotent_answer *a)
{
    struct outcome o = {.wanted = 1};
    rp_store_project_insert(store, r, a, count, &o);
    assert_int_equal(o.called, 0); /* never from inside the call */
    rp_loop_run(loop);
    return o.last.code;
}

static struct rp_project_record loaded;
static int loaded_count;

static void keep_last(void *ctx, const struct rp_project_record *r)
{
    rp_project_record_done(&loaded);
    rp_project_record_copy(&loaded, r);
    loaded_count++;
}

static void load(void)
{
    struct rp_error err = {0};
    loaded_count = 0;
    if (rp_store_projects_load(store, keep_last, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static void test_a_row_comes_back_as_it_was(void **state)
{
    open_store();
    struct rp_project_record r = record("aaaaaaaaaaaaaaaa");
    r.reason = (char *)"out of memory";
    r.wanted = true;
    strcpy(r.sandbox, "bbbbbbbbbbbbbbbb");
    strcpy(r.boot_id, "0d9f0e3e-7d0e-4d65-a03f-0123456789ab");
    assert_int_equal(insert(&r, NULL), RP_ERROR_NONE);
    close_store();

    open_store();
    load();
    assert_int_equal(loaded_count, 1);
    assert_string_equal(loaded.id, r.id);
    assert_string_equal(loaded.name, r.name);
    assert_string_equal(loaded.dependencies, r.dependencies);
    assert_null(loaded.run_command);
    assert_null(loaded.installed);
    assert_string_equal(loaded.reason, "out of memory");
    assert_string_equal(loaded.sandbox, r.sandbox);
    assert_string_equal(loaded.boot_id, r.boot_id);
    assert_true(loaded.memory == r.memory && loaded.disk == r.disk && loaded.cpu == 1500);
    assert_true(loaded.always_on && loaded.wanted && !loaded.run_wanted);
    assert_true(loaded.created_at == r.created_at && loaded.version == 1);
    assert_int_equal(insert(&r, NULL), RP_ERROR_EXISTS);
    close_store();
}

static void test_versions_guard_updates(void **state)
{
    open_store();
    struct rp_project_record r = record("aaaaaaaaaaaaaaaa");
    assert_int_equal(insert(&r, NULL), RP_ERROR_NONE);
    struct outcome o = {.wanted = 1};
    r.name = (char *)"second";
    rp_store_project_update(store, &r, count, &o);
    rp_loop_run(loop);
    assert_int_equal(o.last.code, RP_ERROR_NONE);
    o.called = 0;
    rp_store_project_update(store, &r, count, &o); /* still says version 1 */
    rp_loop_run(loop);
    assert_int_equal(o.last.code, RP_ERROR_PRECONDITION);
    /* what the lifecycle keeps is apart from it */
    o.called = 0;
    strcpy(r.sandbox, "cccccccccccccccc");
    r.name = (char *)"not written";
    rp_store_project_state(store, &r, count, &o);
    rp_loop_run(loop);
    assert_int_equal(o.last.code, RP_ERROR_NONE);
    load();
    assert_string_equal(loaded.name, "second");
    assert_string_equal(loaded.sandbox, "cccccccccccccccc");
    assert_int_equal(loaded.version, 2);

    o.called = 0;
    rp_store_project_delete(store, r.id, count, &o);
    rp_loop_run(loop);
    load();
    assert_int_equal(loaded_count, 0);
    o.called = 0;
    rp_store_project_update(store, &r, count, &o);
    rp_loop_run(loop);
    assert_int_equal(o.last.code, RP_ERROR_NOT_FOUND);
    close_store();
}

static void ordered(void *ctx, const struct rp_error *err)
{
    struct one *one = ctx;
    one->o->order[one->o->called] = one->number;
    count(one->o, err);
}

static void test_answers_come_in_order(void **state)
{
    open_store();
    struct rp_project_record r = record("aaaaaaaaaaaaaaaa");
    assert_int_equal(insert(&r, NULL), RP_ERROR_NONE);
    struct outcome o = {.wanted = 64};
    struct one ones[64];
    for (int i = 0; i < 64; i++) {
        ones[i] = (struct one){&o, i};
        /* every other one fails, and takes none of its group with it */
        if (i % 2)
            rp_store_project_insert(store, &r, NULL, ordered, &ones[i]);
        else
            rp_store_project_state(store, &r, ordered, &ones[i]);
    }
    rp_loop_run(loop);
    for (int i = 0; i < 64; i++)
        assert_int_equal(o.order[i], i);
    load();
    assert_int_equal(loaded_count, 1);
    close_store();
}

static int refused, accepted, answered;
static const int FLOOD = 20000;

static void count_flood(void *ctx, const struct rp_error *err)
{
    if (err && err->code == RP_ERROR_UNAVAILABLE)
        refused++;
    else if (!err)
        accepted++;
    if (++answered == FLOOD)
        rp_loop_stop(loop);
}

static void test_the_queue_is_bounded(void **state)
{
    open_store();
    struct rp_project_record r = record("aaaaaaaaaaaaaaaa");
    assert_int_equal(insert(&r, NULL), RP_ERROR_NONE);
    refused = accepted = answered = 0;
    for (int i = 0; i < FLOOD; i++)
        rp_store_project_state(store, &r, count_flood, NULL);
    rp_loop_run(loop);
    assert_true(refused > 0 && accepted > 0);
    assert_int_equal(refused + accepted, FLOOD);
    struct outcome o = {.wanted = 1};
    rp_store_ready(store, count, &o);
    rp_loop_run(loop);
    assert_int_equal(o.last.code, RP_ERROR_NONE);
    close_store();
}

static void test_close_finishes_what_is_queued(void **state)
{
    open_store();
    struct outcome o = {.wanted = 50};
    for (int i = 0; i < 50; i++) {
        char id[RP_ID_SIZE];
        snprintf(id, sizeof id, "project%09d", i);
        struct rp_project_record r = record(id);
        rp_store_project_insert(store, &r, NULL, count, &o);
    }
    close_store();
    assert_int_equal(o.called, 50);
    open_store();
    load();
    assert_int_equal(loaded_count, 50);
    close_store();
}

static struct rp_idempotent_answer seen;
static char seen_body[64], seen_request[64];
static bool seen_one;

static void keep_answer(void *ctx, const struct rp_idempotent_answer *a, const struct rp_error *err)
{
    seen_one = a != NULL;
    if (a) {
        seen = *a;
        snprintf(seen_body, sizeof seen_body, "%s", a->body);
        snprintf(seen_request, sizeof seen_request, "%s", a->request);
    }
    rp_loop_stop(loop);
}

static void test_an_answer_is_kept_with_its_row(void **state)
{
    open_store();
    struct rp_idempotent_answer a = {
        .key = "k1", .request = "hash", .location = "/x", .body = "{}", .status = 201};
    struct rp_project_record r = record("aaaaaaaaaaaaaaaa"), r2 = record("bbbbbbbbbbbbbbbb");
    assert_int_equal(insert(&r, &a), RP_ERROR_NONE);
    rp_store_idempotent_answer(store, "k1", keep_answer, NULL);
    rp_loop_run(loop);
    assert_true(seen_one);
    assert_int_equal(seen.status, 201);
    assert_string_equal(seen_body, "{}");
    assert_string_equal(seen_request, "hash");
    rp_store_idempotent_answer(store, "k2", keep_answer, NULL);
    rp_loop_run(loop);
    assert_false(seen_one);
    /* the key is taken: the second row is not there either */
    assert_int_equal(insert(&r2, &a), RP_ERROR_EXISTS);
    load();
    assert_int_equal(loaded_count, 1);
    close_store();
}

static char unsettled[4][RP_ID_SIZE];
static int unsettled_count;

static void keep_unsettled(void *ctx, const char *project)
{
    assert_true(unsettled_count < 4);
    snprintf(unsettled[unsettled_count++], RP_ID_SIZE, "%s", project);
}

static int load_unsettled(void)
{
    struct rp_error err = {0};
    unsettled_count = 0;
    assert_int_equal(rp_store_unsettled_load(store, keep_unsettled, NULL, &err), 0);
    return unsettled_count;
}

static void test_volumes_are_settled_with_their_projects(void **state)
{
    open_store();
    struct rp_project_record r = record("aaaaaaaaaaaaaaaa");
    struct outcome o = {.wanted = 2};
    rp_store_volume_unsettled(store, r.id, count, &o);
    rp_store_volume_unsettled(store, r.id, count, &o); /* idempotent */
    rp_loop_run(loop);
    assert_int_equal(o.last.code, RP_ERROR_NONE);
    assert_int_equal(load_unsettled(), 1);
    assert_string_equal(unsettled[0], r.id);
    /* a project that is not made settles nothing */
    struct rp_idempotent_answer a = {
        .key = "k", .request = "h", .location = "/", .body = "{}", .status = 201};
    struct rp_project_record other = record("bbbbbbbbbbbbbbbb");
    assert_int_equal(insert(&other, &a), RP_ERROR_NONE);
    assert_int_equal(insert(&r, &a), RP_ERROR_EXISTS);
    assert_int_equal(load_unsettled(), 1);
    assert_int_equal(insert(&r, NULL), RP_ERROR_NONE);
    assert_int_equal(load_unsettled(), 0);
    o = (struct outcome){.wanted = 1};
    rp_store_project_delete(store, r.id, count, &o);
    rp_loop_run(loop);
    assert_int_equal(load_unsettled(), 1);
    o = (struct outcome){.wanted = 1};
    rp_store_volume_settled(store, r.id, count, &o);
    rp_loop_run(loop);
    assert_int_equal(load_unsettled(), 0);
    close_store();
}

/* ---- kill -9 ---- */

struct writer {
    int pipe, next, answered;
};

struct write {
    struct writer *w;
    char id[RP_ID_SIZE];
};

static void acknowledge(void *ctx, const struct rp_error *err);

static void write_next(struct writer *w)
{
    struct write *one = rp_calloc(1, sizeof *one);
    one->w = w;
    snprintf(one->id, sizeof one->id, "project%09d", w->next++);
    struct rp_project_record r = record(one->id);
    rp_store_project_insert(store, &r, NULL, acknowledge, one);
}

static void acknowledge(void *ctx, const struct rp_error *err)
{
    struct write *one = ctx;
    if (err || write(one->w->pipe, one->id, RP_ID_LENGTH) != RP_ID_LENGTH)
        _exit(3);
    write_next(one->w);
    free(one);
}

static char ids[200000][RP_ID_SIZE];
static int id_count;

static void keep_id(void *ctx, const struct rp_project_record *r)
{
    memcpy(ids[id_count++], r->id, RP_ID_SIZE);
}

static int by_id(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void test_kill_9_loses_nothing_acknowledged(void **state)
{
    for (int round = 0; round < 5; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        char file[128];
        snprintf(file, sizeof file, "%s/kill%d.db", dir, round);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(fds[0]);
            struct rp_error err = {0};
            loop = rp_loop_new();
            if (rp_store_open(loop, file, &store, &err) < 0)
                _exit(2);
            struct writer w = {.pipe = fds[1]};
            for (int i = 0; i < 32; i++)
                write_next(&w);
            rp_loop_run(loop);
            _exit(0);
        }
        close(fds[1]);
        /* read acknowledgements until there are some hundred, then pull the plug at once */
        static char acknowledged[200000][RP_ID_SIZE];
        int n = 0;
        struct rp_buf b;
        rp_buf_init(&b, sizeof acknowledged);
        char chunk[4096];
        ssize_t got;
        bool killed = false;
        while ((got = read(fds[0], chunk, sizeof chunk)) > 0) {
            assert_true(rp_buf_append(&b, chunk, (size_t)got));
            if (!killed && b.length > (size_t)(200 + round * 100) * RP_ID_LENGTH) {
                kill(child, SIGKILL);
                killed = true;
            }
        }
        close(fds[0]);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        struct rp_str v = rp_buf_view(&b);
        for (; v.n >= RP_ID_LENGTH; v.p += RP_ID_LENGTH, v.n -= RP_ID_LENGTH)
            memcpy(acknowledged[n++], v.p, RP_ID_LENGTH);
        rp_buf_done(&b);
        assert_true(n > 200);

        struct rp_error err = {0};
        loop = rp_loop_new();
        assert_int_equal(rp_store_open(loop, file, &store, &err), 0);
        id_count = 0;
        assert_int_equal(rp_store_projects_load(store, keep_id, NULL, &err), 0);
        qsort(ids, (size_t)id_count, sizeof ids[0], by_id);
        for (int i = 0; i < n; i++)
            assert_non_null(bsearch(acknowledged[i], ids, (size_t)id_count, sizeof ids[0], by_id));
        close_store();
        unlink(file);
    }
}

/* ---- a full disk ---- */

static void test_a_full_disk_is_said_and_survived(void **state)
{
    char mount_point[96], filler[128];
    snprintf(mount_point, sizeof mount_point, "%s/disk", dir);
    snprintf(filler, sizeof filler, "%s/filler", mount_point);
    assert_int_equal(mkdir(mount_point, 0700), 0);
    if (mount("rp-store", mount_point, "tmpfs", 0, "size=2m") != 0)
        fail_msg("mount a tmpfs: needs root");
    char before[160];
    strcpy(before, path);
    snprintf(path, sizeof path, "%s/t.db", mount_point);
    open_store();
    struct rp_project_record r = record("aaaaaaaaaaaaaaaa");
    assert_int_equal(insert(&r, NULL), RP_ERROR_NONE);

    int fd = open(filler, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    char block[4096] = {1};
    while (write(fd, block, sizeof block) > 0)
        ;
    close(fd);
    char big[100000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    struct rp_project_record r2 = record("bbbbbbbbbbbbbbbb");
    r2.env = big;
    assert_int_equal(insert(&r2, NULL), RP_ERROR_DISK_FULL);
    /* reading goes on, and writing does when there is room again */
    load();
    assert_int_equal(loaded_count, 1);
    unlink(filler);
    assert_int_equal(insert(&r2, NULL), RP_ERROR_NONE);
    close_store();
    strcpy(path, before);
    assert_int_equal(umount2(mount_point, MNT_DETACH), 0);
    rmdir(mount_point);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_row_comes_back_as_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(test_versions_guard_updates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_come_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_finishes_what_is_queued, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_is_kept_with_its_row, setup, teardown),
        cmocka_unit_test_setup_teardown(test_volumes_are_settled_with_their_projects, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill_9_loses_nothing_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_is_said_and_survived, setup, teardown),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    rp_project_record_done(&loaded);
    return r;
}
