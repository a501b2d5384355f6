/* runner/ring: what was read is there after any crash, once, and a ring never grows. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/str.h"
#include "runner/ring.h"

enum { RECORD = 8 };

static char directory[64];

static int make_directory(void **state)
{
    snprintf(directory, sizeof(directory), "/dev/shm/rp-ring-%d", getpid());
    return mkdir(directory, 0700);
}

static int remove_directory(void **state)
{
    return rmdir(directory);
}

/* Byte `offset` of a stream of numbered records, so that a lost or doubled byte shows. */
static char expected(uint64_t offset)
{
    static const unsigned POWER[RECORD - 1] = {1000000, 100000, 10000, 1000, 100, 10, 1};
    unsigned at = offset % RECORD, number = (unsigned)(offset / RECORD % 10000000);
    return at == RECORD - 1 ? '\n' : (char)('0' + number / POWER[at] % 10);
}

static void check(const struct rp_ring *r, uint64_t from)
{
    for (uint64_t at = from; at < rp_ring_end(r);) {
        struct rp_str v = rp_ring_view(r, at, 65536);
        assert_true(v.n > 0);
        for (size_t i = 0; i < v.n; i++)
            if (v.p[i] != expected(at + i))
                fail_msg("byte %llu of the stream is %02x", (unsigned long long)(at + i),
                         (unsigned char)v.p[i]);
        at += v.n;
    }
}

static struct rp_ring *open_ring(const char *name)
{
    struct rp_ring *r;
    struct rp_error err;
    if (rp_ring_open(directory, name, &r, &err) < 0)
        fail_msg("%s", err.message);
    return r;
}

static struct rp_ring *create_ring(const char *name, uint64_t size)
{
    struct rp_ring *r;
    struct rp_error err;
    if (rp_ring_create(directory, name, size, RP_STR("the text"), &r, &err) < 0)
        fail_msg("%s", err.message);
    return r;
}

static void holds_the_newest_bytes(void **state)
{
    struct rp_ring *r = create_ring("a", 0);
    char record[16];
    for (unsigned i = 0; i < 100000; i++) {
        snprintf(record, sizeof(record), "%07u\n", i);
        assert_int_equal(rp_ring_write(r, (struct rp_str){record, RECORD}), 0);
        assert_true(rp_ring_end(r) - rp_ring_start(r) <= RP_RING_MIN);
    }
    assert_int_equal(rp_ring_end(r), 100000 * RECORD);
    assert_true(rp_ring_start(r) > 0);
    assert_true(rp_ring_end(r) - rp_ring_start(r) >= RP_RING_MIN - RP_RING_READ_MAX - RECORD);
    check(r, rp_ring_start(r));
    /* a view over the seam is in one piece */
    uint64_t seam = rp_ring_end(r) / RP_RING_MIN * RP_RING_MIN;
    assert_true(seam > rp_ring_start(r) + 4 && seam < rp_ring_end(r) - 4);
    assert_int_equal(rp_ring_view(r, seam - 4, 8).n, 8);
    rp_ring_remove(r);
}

static void keeps_its_facts(void **state)
{
    struct rp_ring *r = create_ring("b", 1000000);
    rp_ring_set_size(r, 132, 43);
    rp_ring_set_mark(r, 77);
    rp_ring_set_note(r, "gone", 4);
    rp_ring_close(r);
    r = open_ring("b");
    uint16_t cols, rows;
    rp_ring_size(r, &cols, &rows);
    assert_int_equal(cols, 132);
    assert_int_equal(rows, 43);
    assert_int_equal(rp_ring_mark(r), 77);
    char note[64];
    assert_int_equal(rp_ring_note(r, note, sizeof(note)), 4);
    assert_memory_equal(note, "gone", 4);
    assert_true(rp_str_is(rp_ring_meta(r), "the text"));
    rp_ring_remove(r);
}

static void refuses_what_is_no_ring(void **state)
{
    struct rp_ring *r;
    struct rp_error err;
    assert_int_equal(rp_ring_open(directory, "none", &r, &err), -1);
    assert_int_equal(err.code, RP_ERROR_NOT_FOUND);
    char path[128];
    snprintf(path, sizeof(path), "%s/half", directory);
    _cleanup_close_ int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(ftruncate(fd, 1 << 20), 0); /* killed between its making and its magic */
    assert_int_equal(rp_ring_open(directory, "half", &r, &err), -1);
    assert_int_equal(err.code, RP_ERROR_PROTOCOL);
    struct rp_ring *whole = create_ring("short", 0);
    rp_ring_close(whole);
    char other[128];
    snprintf(other, sizeof(other), "%s/short", directory);
    assert_int_equal(truncate(other, 5000), 0);
    assert_int_equal(rp_ring_open(directory, "short", &r, &err), -1);
    assert_int_equal(err.code, RP_ERROR_PROTOCOL);
    unlink(path);
    unlink(other);
}

/* What a read that was not committed left in the mapping. */
static void recovers_what_a_read_delivered(void **state)
{
    struct rp_ring *r = create_ring("c", 0);
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(rp_ring_write(r, RP_STR("0000000\n")), 0);
    assert_int_equal(rp_ring_read(r, pipe_fds[0], 4096, true), -EAGAIN); /* fills and notes the target */
    struct rp_str at = rp_ring_view(r, rp_ring_end(r), 1);
    assert_int_equal(at.n, 0);
    memcpy((char *)(uintptr_t)at.p, "0000001\n000", 11);
    rp_ring_close(r); /* without a commit, as kill -9 */
    r = open_ring("c");
    assert_int_equal(rp_ring_end(r), RECORD + 11);
    check(r, 0);
    rp_ring_close(r);
    r = open_ring("c"); /* once only */
    assert_int_equal(rp_ring_end(r), RECORD + 11);
    rp_ring_remove(r);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* Writes the numbered stream for ever. */
static pid_t start_writer(int fd)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    static char block[RECORD * 512];
    for (uint64_t n = 0;; n += 512) {
        for (unsigned i = 0; i < 512; i++) {
            char record[16];
            snprintf(record, sizeof(record), "%07u\n", (unsigned)((n + i) % 10000000));
            memcpy(block + i * RECORD, record, RECORD);
        }
        for (size_t done = 0; done < sizeof(block);) {
            ssize_t w = write(fd, block + done, sizeof(block) - done);
            if (w < 0)
                _exit(0);
            done += (size_t)w;
        }
    }
}

/* Reads into the ring until it is killed. */
static pid_t start_reader(const char *name, int fd, size_t max, bool nowait)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    struct rp_ring *r;
    if (rp_ring_open(directory, name, &r, NULL) < 0)
        _exit(1);
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        poll(&p, 1, -1);
        while (rp_ring_read(r, fd, max, nowait) > 0)
            ;
    }
}

static void flood_and_kill(const char *name, int reader, pid_t writer, size_t max, bool nowait, int kills)
{
    uint64_t before = 0;
    unsigned grew = 0;
    srand(1);
    for (int i = 0; i < kills; i++) {
        pid_t pid = start_reader(name, reader, max, nowait);
        usleep(150 + (useconds_t)rand() % 1200);
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        struct rp_ring *r = open_ring(name);
        assert_true(rp_ring_end(r) >= before);
        assert_true(rp_ring_start(r) <= before); /* else the test's ring is too small */
        check(r, before);
        grew += rp_ring_end(r) > before;
        before = rp_ring_end(r);
        rp_ring_close(r);
    }
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    /* the kills hit readers at work */
    assert_true(grew > (unsigned)kills / 4);
    rp_ring_remove(open_ring(name));
}

static void survives_kills_in_a_flood_of_a_pipe(void **state)
{
    rp_ring_close(create_ring("pipe", 16 << 20));
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t writer = start_writer(pipe_fds[1]);
    close(pipe_fds[1]);
    assert_int_equal(fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK), 0);
    flood_and_kill("pipe", pipe_fds[0], writer, 65536, true, 600);
    close(pipe_fds[0]);
}

static void survives_kills_in_a_flood_of_a_terminal(void **state)
{
    rp_ring_close(create_ring("pty", 8 << 20));
    int master, slave;
    struct termios raw = {0};
    cfmakeraw(&raw);
    assert_int_equal(openpty(&master, &slave, NULL, &raw, NULL), 0);
    pid_t writer = start_writer(slave);
    close(slave);
    assert_int_equal(fcntl(master, F_SETFL, O_NONBLOCK), 0);
    flood_and_kill("pty", master, writer, 4096, false, 600);
    close(master);
}

/* A tmpfs of its own that is too small for the ring. */
static void goes_on_when_memory_is_short(void **state)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/small", directory);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mount("tmpfs", path, "tmpfs", 0, "size=320k"), 0);
    struct rp_ring *r;
    struct rp_error err;
    assert_int_equal(rp_ring_create(path, "r", 1 << 20, RP_STR(""), &r, &err), 0);
    char record[16];
    for (unsigned i = 0; i < 200000; i++) {
        snprintf(record, sizeof(record), "%07u\n", i);
        assert_int_equal(rp_ring_write(r, (struct rp_str){record, RECORD}), 0);
    }
    assert_true(rp_ring_end(r) - rp_ring_start(r) >= RP_RING_MIN - RP_RING_READ_MAX - 4096);
    check(r, rp_ring_start(r));
    rp_ring_close(r);
    assert_int_equal(rp_ring_open(path, "r", &r, &err), 0);
    assert_int_equal(rp_ring_end(r), 200000 * RECORD);
    check(r, rp_ring_start(r));
    rp_ring_remove(r);

    /* with less than the smallest ring the source has to wait, and nothing is lost */
    assert_int_equal(mount("tmpfs", path, "tmpfs", MS_REMOUNT, "size=32k"), 0);
    assert_int_equal(rp_ring_create(path, "s", 1 << 20, RP_STR(""), &r, &err), 0);
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(write(pipe_fds[1], "0000000\n", 8), 8);
    assert_int_equal(rp_ring_read(r, pipe_fds[0], 65536, true), -ENOSPC);
    assert_int_equal(mount("tmpfs", path, "tmpfs", MS_REMOUNT, "size=1m"), 0);
    assert_int_equal(rp_ring_read(r, pipe_fds[0], 65536, true), 8);
    check(r, 0);
    rp_ring_remove(r);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    assert_int_equal(umount(path), 0);
    assert_int_equal(rmdir(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_the_newest_bytes),
        cmocka_unit_test(keeps_its_facts),
        cmocka_unit_test(refuses_what_is_no_ring),
        cmocka_unit_test(recovers_what_a_read_delivered),
        cmocka_unit_test(survives_kills_in_a_flood_of_a_pipe),
        cmocka_unit_test(survives_kills_in_a_flood_of_a_terminal),
        cmocka_unit_test(goes_on_when_memory_is_short),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
