/* The file helper, through init: what it does, and what it refuses, with the rights of the user. */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

static struct world world;
static struct frame f;
static int control, channel;

static int set_up(void **state)
{
    world_start(&world);
    control = world_connect(&world);
    channel = files_open(control);
    return 0;
}

static int tear_down(void **state)
{
    close(channel);
    close(control);
    world_stop(&world);
    return 0;
}

/* ---- small helpers ---- */

static const char *outside(const char *path)
{
    static char full[4300];
    snprintf(full, sizeof(full), "%s/%s", world.app, path);
    return full;
}

/* As the user would have made it. */
static void put(const char *path, const char *content)
{
    int fd = open(outside(path), O_CREAT | O_TRUNC | O_WRONLY, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    assert_int_equal(fchown(fd, 1000, 1000), 0);
    close(fd);
}

static void make_directory(const char *path)
{
    assert_int_equal(mkdir(outside(path), 0755), 0);
    assert_int_equal(chown(outside(path), 1000, 1000), 0);
}

static int answer(void)
{
    frame_next(channel, &f);
    if (f.type == RP_FILES_ERROR)
        return (int)rp_wire_get_u32(&f.body);
    assert_int_equal(f.type, RP_FILES_END);
    return 0;
}

static int change(uint8_t type, const char *path, const char *to, uint8_t flag)
{
    struct rp_wire_writer w = frame_begin(type);
    rp_wire_put_str(&w, rp_str_of(path));
    if (to)
        rp_wire_put_str(&w, rp_str_of(to));
    rp_wire_put_u8(&w, flag);
    frame_send(channel, &w);
    return answer();
}

static int do_mkdir(const char *path, bool parents)
{
    return change(RP_FILES_MKDIR, path, NULL, parents);
}

static int do_delete(const char *path, bool recursive)
{
    return change(RP_FILES_DELETE, path, NULL, recursive);
}

static int read_file(const char *path, struct rp_str *ret)
{
    return files_read(channel, path, ret, NULL);
}

static void assert_content(const char *path, const char *content)
{
    struct rp_str got;
    assert_int_equal(read_file(path, &got), 0);
    assert_true(rp_str_is(got, content));
}

struct entry {
    char path[4096], target[4096], etag[RP_FILES_ETAG_MAX];
    uint8_t kind;
    uint32_t mode;
    uint64_t size;
};

static void take_entry(struct entry *e)
{
    assert_true(rp_str_copy(e->path, sizeof(e->path), rp_wire_get_str(&f.body, 4095)));
    e->kind = rp_wire_get_u8(&f.body);
    e->mode = rp_wire_get_u32(&f.body);
    e->size = rp_wire_get_u64(&f.body);
    (void)rp_wire_get_u64(&f.body);
    assert_true(rp_str_copy(e->target, sizeof(e->target), rp_wire_get_str(&f.body, 4095)));
    assert_true(rp_str_copy(e->etag, sizeof(e->etag), rp_wire_get_str(&f.body, RP_FILES_ETAG_MAX - 1)));
    assert_true(rp_wire_finished(&f.body));
}

/* Sends LIST and joins the paths with spaces; "+" at the end: truncated. */
static const char *list(const char *path, uint32_t depth, uint32_t limit)
{
    static char all[65536];
    static struct entry e;
    struct rp_wire_writer w = frame_begin(RP_FILES_LIST);
    rp_wire_put_str(&w, rp_str_of(path));
    rp_wire_put_u32(&w, depth);
    rp_wire_put_u32(&w, limit);
    frame_send(channel, &w);
    size_t n = 0;
    all[0] = '\0';
    for (;;) {
        frame_next(channel, &f);
        if (f.type == RP_FILES_END)
            return all;
        if (f.type == RP_FILES_TRUNCATED) {
            n += (size_t)snprintf(all + n, sizeof(all) - n, "+");
            continue;
        }
        assert_int_equal(f.type, RP_FILES_ENTRY);
        take_entry(&e);
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s%s", n ? " " : "", e.path,
                              e.kind == RP_FILE_DIRECTORY ? "/" : "");
        assert_true(n < sizeof(all));
    }
}

static void import_entry(int ch, const char *path, uint8_t kind, uint32_t mode, const char *target,
                         const char *data);

/* ---- what it does ---- */

static void writes_are_whole_and_the_users(void **state)
{
    struct stat st;
    char etag[RP_FILES_ETAG_MAX];
    struct rp_str got;
    static char big[300000];
    memset(big, 'x', sizeof(big));
    assert_int_equal(files_write(channel, "a.txt", 0, "", "hello", 5), 0);
    assert_int_equal(stat(outside("a.txt"), &st), 0);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(st.st_gid, 1000);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(chmod(outside("a.txt"), 0755), 0);
    assert_int_equal(files_write(channel, "a.txt", 0, "", big, sizeof(big)), 0);
    assert_int_equal(stat(outside("a.txt"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(files_read(channel, "a.txt", &got, etag), 0);
    assert_true(got.n == sizeof(big) && memcmp(got.p, big, got.n) == 0);
    assert_int_equal(files_write(channel, "x/y/z", 0, "", "1", 1), ENOENT);
    assert_int_equal(files_write(channel, "x/y/z", RP_FILES_WRITE_PARENTS, "", "1", 1), 0);
    assert_content("x/y/z", "1");
    assert_int_equal(files_write(channel, "empty", 0, "", "", 0), 0);
    assert_content("empty", "");
    assert_string_equal(list("", 1, 100), "a.txt empty x/");
}

static void etags_guard_writes(void **state)
{
    char etag[RP_FILES_ETAG_MAX], later[RP_FILES_ETAG_MAX];
    struct rp_str got;
    assert_int_equal(files_write(channel, "f", RP_FILES_WRITE_CREATE_ONLY, "", "one", 3), 0);
    assert_int_equal(files_write(channel, "f", RP_FILES_WRITE_CREATE_ONLY, "", "two", 3), EEXIST);
    assert_int_equal(files_read(channel, "f", &got, etag), 0);
    assert_int_equal(files_write(channel, "f", RP_FILES_WRITE_MATCH, etag, "two", 3), 0);
    assert_int_equal(files_write(channel, "f", RP_FILES_WRITE_MATCH, etag, "three", 5), ESTALE);
    assert_content("f", "two");
    assert_int_equal(files_read(channel, "f", &got, later), 0);
    assert_string_not_equal(etag, later);
    assert_int_equal(files_write(channel, "new", RP_FILES_WRITE_MATCH, etag, "x", 1), ESTALE);
    assert_int_equal(read_file("new", &got), ENOENT);
}

/* The file changes between the check and the end of the upload. */
static void a_change_meanwhile_is_noticed(void **state)
{
    char etag[RP_FILES_ETAG_MAX];
    struct rp_str got;
    assert_int_equal(files_write(channel, "f", 0, "", "one", 3), 0);
    assert_int_equal(files_read(channel, "f", &got, etag), 0);
    struct rp_wire_writer w = frame_begin(RP_FILES_WRITE);
    rp_wire_put_str(&w, RP_STR("f"));
    rp_wire_put_u32(&w, 0);
    rp_wire_put_u8(&w, RP_FILES_WRITE_MATCH);
    rp_wire_put_str(&w, rp_str_of(etag));
    rp_wire_put_u64(&w, UINT64_MAX);
    frame_send(channel, &w);
    assert_int_equal(answer(), 0);
    put("f", "the user's own edit");
    w = frame_begin(RP_FILES_END);
    rp_wire_put_str(&w, RP_STR(""));
    frame_send(channel, &w);
    assert_int_equal(answer(), ESTALE);
    assert_content("f", "the user's own edit");
}

/* Our own names are not listed: look from outside. */
static void expect_empty_folder(void)
{
    for (int i = 0;; i++) {
        unsigned count = 0;
        DIR *d = opendir(world.app);
        while (readdir(d))
            count++;
        closedir(d);
        if (count == 2)
            return;
        assert_true(i < 1000);
        usleep(5000);
    }
}

static void a_broken_archive_leaves_nothing(void **state)
{
    int other = files_open(control);
    struct rp_wire_writer w = frame_begin(RP_FILES_IMPORT);
    rp_wire_put_str(&w, RP_STR(""));
    rp_wire_put_u8(&w, 1);
    frame_send(other, &w);
    frame_expect(other, &f, RP_FILES_END);
    import_entry(other, "a/b/c", RP_FILE_REGULAR, 0644, "", "content");
    close(other);
    expect_empty_folder();
}

static void a_broken_upload_leaves_nothing(void **state)
{
    int other = files_open(control);
    struct rp_wire_writer w = frame_begin(RP_FILES_WRITE);
    rp_wire_put_str(&w, RP_STR("half"));
    rp_wire_put_u32(&w, 0);
    rp_wire_put_u8(&w, 0);
    rp_wire_put_str(&w, RP_STR(""));
    rp_wire_put_u64(&w, 100);
    frame_send(other, &w);
    frame_expect(other, &f, RP_FILES_END);
    w = frame_begin(RP_FILES_DATA);
    rp_wire_put(&w, "some", 4);
    frame_send(other, &w);
    close(other);
    expect_empty_folder();
    /* shorter or longer than announced */
    for (int extra = -1; extra <= 1; extra += 2) {
        w = frame_begin(RP_FILES_WRITE);
        rp_wire_put_str(&w, RP_STR("half"));
        rp_wire_put_u32(&w, 0);
        rp_wire_put_u8(&w, 0);
        rp_wire_put_str(&w, RP_STR(""));
        rp_wire_put_u64(&w, (uint64_t)(4 + extra));
        frame_send(channel, &w);
        assert_int_equal(answer(), 0);
        w = frame_begin(RP_FILES_DATA);
        rp_wire_put(&w, "some", 4);
        frame_send(channel, &w);
        w = frame_begin(RP_FILES_END);
        rp_wire_put_str(&w, RP_STR(""));
        frame_send(channel, &w);
        assert_int_equal(answer(), extra < 0 ? EFBIG : EBADMSG);
    }
    assert_string_equal(list("", 1, 10), "");
}

static void lists_are_sorted_and_limited(void **state)
{
    make_directory("b");
    make_directory("b/d");
    put("b/d/e", "");
    put("a", "");
    put("c", "");
    put("b/\nnew\tline\xff", "");
    assert_string_equal(list("", 1, 100), "a b/ c");
    assert_string_equal(list("", 3, 100), "a b/ b/\nnew\tline\xff b/d/ b/d/e c");
    assert_string_equal(list("b", 2, 100), "\nnew\tline\xff d/ d/e");
    assert_string_equal(list("", 1, 2), "a b/+");
    assert_string_equal(list("", 9, 4), "a b/ b/\nnew\tline\xff b/d/+");
    struct rp_wire_writer w = frame_begin(RP_FILES_LIST);
    rp_wire_put_str(&w, RP_STR("a"));
    rp_wire_put_u32(&w, 1);
    rp_wire_put_u32(&w, 1);
    frame_send(channel, &w);
    frame_expect_error(channel, ENOTDIR);
}

static void ranges(void **state)
{
    static struct entry e;
    put("f", "0123456789");
    static const struct {
        uint64_t offset, length;
        const char *want;
    } cases[] = {{0, 4, "0123"}, {8, 100, "89"}, {10, 1, ""}, {11, 1, ""}, {UINT64_MAX, 5, ""}, {3, 0, ""}};
    for (size_t i = 0; i < RP_ARRAY_SIZE(cases); i++) {
        struct rp_wire_writer w = frame_begin(RP_FILES_READ);
        rp_wire_put_str(&w, RP_STR("f"));
        rp_wire_put_u64(&w, cases[i].offset);
        rp_wire_put_u64(&w, cases[i].length);
        frame_send(channel, &w);
        frame_expect(channel, &f, RP_FILES_ENTRY);
        take_entry(&e);
        assert_int_equal(e.size, 10);
        frame_next(channel, &f);
        if (cases[i].want[0]) {
            assert_int_equal(f.type, RP_FILES_DATA);
            assert_int_equal(f.body.length, strlen(cases[i].want));
            assert_memory_equal(f.bytes, cases[i].want, f.body.length);
            frame_next(channel, &f);
        }
        assert_int_equal(f.type, RP_FILES_END);
    }
}

static void changes(void **state)
{
    assert_int_equal(do_mkdir("d", false), 0);
    assert_int_equal(do_mkdir("d", false), EEXIST);
    assert_int_equal(do_mkdir("d", true), 0);
    assert_int_equal(do_mkdir("p/q/r", false), ENOENT);
    assert_int_equal(do_mkdir("p/q/r", true), 0);
    assert_int_equal(files_write(channel, "p/q/f", 0, "", "x", 1), 0);
    assert_int_equal(change(RP_FILES_MOVE, "p/q/f", "d/g", 0), 0);
    assert_content("d/g", "x");
    assert_int_equal(change(RP_FILES_MOVE, "p/q/f", "d/h", 0), ENOENT);
    put("other", "y");
    assert_int_equal(change(RP_FILES_MOVE, "other", "d/g", 0), EEXIST);
    assert_int_equal(change(RP_FILES_MOVE, "other", "d/g", 1), 0);
    assert_content("d/g", "y");
    assert_int_equal(change(RP_FILES_MOVE, "p", "p/q/p", 0), EINVAL);
    assert_int_equal(change(RP_FILES_MOVE, "", "x", 0), EBUSY);
    assert_int_equal(chmod(outside("d/g"), 0750), 0);
    assert_int_equal(symlink("g", outside("d/link")), 0);
    assert_int_equal(lchown(outside("d/link"), 1000, 1000), 0);
    assert_int_equal(change(RP_FILES_COPY, "d", "copy", 0), 0);
    struct stat st;
    assert_int_equal(stat(outside("copy/g"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0750);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(lstat(outside("copy/link"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(change(RP_FILES_COPY, "d", "copy", 0), EEXIST);
    assert_int_equal(change(RP_FILES_COPY, "d", "d/inside", 0), EINVAL);
    assert_int_equal(change(RP_FILES_COPY, "d/g", "d/g", 1), EINVAL);
    assert_int_equal(do_delete("d", false), ENOTEMPTY);
    assert_int_equal(do_delete("d", true), 0);
    assert_int_equal(do_delete("d", true), ENOENT);
    assert_int_equal(do_delete("", true), EBUSY);
    assert_int_equal(do_delete("copy/link", false), 0);
    assert_content("copy/g", "y");
    assert_string_equal(list("", 4, 100), "copy/ copy/g p/ p/q/ p/q/r/");
}

static void sparse_copies_stay_sparse(void **state)
{
    struct stat st;
    int fd = open(outside("sparse"), O_CREAT | O_RDWR, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fchown(fd, 1000, 1000), 0);
    assert_int_equal(ftruncate(fd, (off_t)1 << 30), 0);
    assert_int_equal(pwrite(fd, "end", 3, ((off_t)1 << 30) - 3), 3);
    close(fd);
    assert_int_equal(change(RP_FILES_COPY, "sparse", "copy", 0), 0);
    assert_int_equal(stat(outside("copy"), &st), 0);
    assert_int_equal(st.st_size, (off_t)1 << 30);
    assert_true(st.st_blocks < 2048);
}

/* Ten times as deep as any answer goes, and a directory that its owner made unreadable. */
static void deep_trees_can_be_removed(void **state)
{
    int dir = open(world.app, O_DIRECTORY | O_RDONLY);
    for (int i = 0; i < 640; i++) {
        assert_int_equal(mkdirat(dir, "down", 0755), 0);
        assert_int_equal(fchownat(dir, "down", 1000, 1000, 0), 0);
        int below = openat(dir, "down", O_DIRECTORY | O_RDONLY);
        assert_true(below >= 0);
        close(dir);
        dir = below;
    }
    close(dir);
    make_directory("locked");
    put("locked/f", "");
    assert_int_equal(chmod(outside("locked"), 0), 0);
    assert_int_equal(change(RP_FILES_COPY, "down", "up", 0), ENAMETOOLONG);
    assert_string_equal(list("", 1, 10), "down/ locked/");
    assert_int_equal(do_delete("down", true), 0);
    assert_int_equal(do_delete("locked", true), 0);
    assert_string_equal(list("", 1, 10), "");
}

static void search_finds(void **state)
{
    static const struct {
        const char *query, *glob;
        uint32_t flags, limit;
        const char *want; /* path:line:column:text, separated by | */
    } cases[] = {
        {"needle", "", 0, 10, "a.txt:2:5:the Needle|sub/b.py:1:1:needle"},
        {"Needle", "", RP_FILES_SEARCH_CASE, 10, "a.txt:2:5:the Needle"},
        {"needle", "*.py", 0, 10, "sub/b.py:1:1:needle"},
        {"needle", "sub/*", 0, 10, "sub/b.py:1:1:needle"},
        {"needle", "", 0, 1, "a.txt:2:5:the Needle|+"},
        {"needle", "", RP_FILES_SEARCH_DEPS, 10,
         "a.txt:2:5:the Needle|node_modules/m.js:1:1:needle|sub/b.py:1:1:needle"},
        {"needle", "", RP_FILES_SEARCH_HIDDEN, 10,
         ".hidden:1:1:needle|a.txt:2:5:the Needle|sub/b.py:1:1:needle"},
        {"B.P", "", RP_FILES_SEARCH_NAMES, 10, "sub/b.py:0:1:b.py"},
        {"nothing of the kind", "", 0, 10, ""},
    };
    make_directory("sub");
    make_directory("node_modules");
    put("a.txt", "first\nthe Needle\nlast");
    put("sub/b.py", "needle");
    put("node_modules/m.js", "needle");
    put(".hidden", "needle");
    int fd = open(outside("binary"), O_CREAT | O_WRONLY, 0644);
    assert_int_equal(write(fd, "\0needle", 7), 7);
    close(fd);
    assert_int_equal(symlink("/etc", outside("etc")), 0);
    for (size_t i = 0; i < RP_ARRAY_SIZE(cases); i++) {
        char got[4096] = "";
        size_t n = 0;
        struct rp_wire_writer w = frame_begin(RP_FILES_SEARCH);
        rp_wire_put_str(&w, RP_STR(""));
        rp_wire_put_str(&w, rp_str_of(cases[i].query));
        rp_wire_put_u32(&w, cases[i].flags);
        rp_wire_put_u32(&w, cases[i].limit);
        rp_wire_put_str(&w, rp_str_of(cases[i].glob));
        frame_send(channel, &w);
        for (;;) {
            frame_next(channel, &f);
            if (f.type == RP_FILES_END)
                break;
            if (n)
                got[n++] = '|';
            if (f.type == RP_FILES_TRUNCATED) {
                got[n++] = '+';
                got[n] = '\0';
                continue;
            }
            assert_int_equal(f.type, RP_FILES_MATCH);
            struct rp_str path = rp_wire_get_str(&f.body, 4095);
            uint32_t line = rp_wire_get_u32(&f.body), column = rp_wire_get_u32(&f.body);
            struct rp_str text = rp_wire_get_str(&f.body, 512);
            assert_true(rp_wire_finished(&f.body));
            n += (size_t)snprintf(got + n, sizeof(got) - n, "%.*s:%u:%u:%.*s", (int)path.n, path.p, line,
                                  column, (int)text.n, text.p);
        }
        assert_string_equal(got, cases[i].want);
    }
    struct rp_wire_writer w = frame_begin(RP_FILES_SEARCH);
    rp_wire_put_str(&w, RP_STR(""));
    rp_wire_put_str(&w, RP_STR(""));
    rp_wire_put_u32(&w, 0);
    rp_wire_put_u32(&w, 1);
    rp_wire_put_str(&w, RP_STR(""));
    frame_send(channel, &w);
    frame_expect_error(channel, EINVAL);
}

/* ---- export and import ---- */

static void import_entry(int ch, const char *path, uint8_t kind, uint32_t mode, const char *target,
                         const char *data)
{
    struct rp_wire_writer w = frame_begin(RP_FILES_ENTRY);
    rp_wire_put_str(&w, rp_str_of(path));
    rp_wire_put_u8(&w, kind);
    rp_wire_put_u32(&w, mode);
    rp_wire_put_u64(&w, strlen(data));
    rp_wire_put_u64(&w, 0);
    rp_wire_put_str(&w, rp_str_of(target));
    rp_wire_put_str(&w, RP_STR(""));
    frame_send(ch, &w);
    if (*data) {
        w = frame_begin(RP_FILES_DATA);
        rp_wire_put(&w, data, strlen(data));
        frame_send(ch, &w);
    }
}

static void import_begin(const char *path, uint8_t replace)
{
    struct rp_wire_writer w = frame_begin(RP_FILES_IMPORT);
    rp_wire_put_str(&w, rp_str_of(path));
    rp_wire_put_u8(&w, replace);
    frame_send(channel, &w);
    assert_int_equal(answer(), 0);
}

static int import_end(void)
{
    struct rp_wire_writer w = frame_begin(RP_FILES_END);
    rp_wire_put_str(&w, RP_STR(""));
    frame_send(channel, &w);
    return answer();
}

static void import_merges_or_replaces(void **state)
{
    make_directory("d");
    put("d/old", "old");
    put("keep", "keep");
    import_begin("", 0);
    import_entry(channel, "d", RP_FILE_DIRECTORY, 0755, "", "");
    import_entry(channel, "d/new", RP_FILE_REGULAR, 0700, "", "new");
    import_entry(channel, "made/on/the/way", RP_FILE_REGULAR, 0, "", "x");
    import_entry(channel, "d/link", RP_FILE_SYMLINK, 0777, "../keep", "");
    assert_int_equal(import_end(), 0);
    assert_string_equal(list("", 9, 100),
                        "d/ d/link d/new d/old keep made/ made/on/ made/on/the/ made/on/the/way");
    assert_content("d/link", "keep");
    struct stat st;
    assert_int_equal(stat(outside("d/new"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(st.st_uid, 1000);
    import_begin("", 1);
    import_entry(channel, "only", RP_FILE_REGULAR, 0644, "", "this");
    assert_int_equal(import_end(), 0);
    assert_string_equal(list("", 9, 100), "only");
    /* a file where a directory was, and the other way round */
    make_directory("swap");
    put("swap/f", "");
    import_begin("", 0);
    import_entry(channel, "swap", RP_FILE_REGULAR, 0644, "", "file");
    import_entry(channel, "only/f", RP_FILE_REGULAR, 0644, "", "in a directory");
    assert_int_equal(import_end(), 0);
    assert_content("swap", "file");
    assert_content("only/f", "in a directory");
}

static void hostile_archives_touch_nothing(void **state)
{
    static const struct {
        const char *path;
        uint8_t kind;
        const char *target;
        int want;
    } cases[] = {
        {"../out", RP_FILE_REGULAR, "", EXDEV},
        {"a/../../out", RP_FILE_REGULAR, "", EXDEV},
        {"/etc/out", RP_FILE_REGULAR, "", EXDEV},
        {"link", RP_FILE_SYMLINK, "/etc/passwd", EXDEV},
        {"link", RP_FILE_SYMLINK, "../x", EXDEV},
        {"a/link", RP_FILE_SYMLINK, "../../x", EXDEV},
        {"a/link", RP_FILE_SYMLINK, "", EXDEV},
        {"device", RP_FILE_OTHER, "", EINVAL},
        {"kind", 77, "", EINVAL},
        {".~rp-0123", RP_FILE_REGULAR, "", EINVAL},
        {"", RP_FILE_REGULAR, "", EINVAL},
    };
    put("here", "before");
    for (size_t i = 0; i < RP_ARRAY_SIZE(cases); i++) {
        import_begin("", 1);
        import_entry(channel, "here", RP_FILE_REGULAR, 0644, "", "after");
        import_entry(channel, cases[i].path, cases[i].kind, 0644, cases[i].target, "");
        int errnum = import_end();
        assert_int_equal(errnum, cases[i].want);
        assert_string_equal(list("", 9, 100), "here");
        assert_content("here", "before");
    }
    /* through a link that the archive made itself: it stays inside */
    import_begin("", 0);
    import_entry(channel, "dir", RP_FILE_DIRECTORY, 0755, "", "");
    import_entry(channel, "to", RP_FILE_SYMLINK, 0777, "dir", "");
    import_entry(channel, "to/f", RP_FILE_REGULAR, 0644, "", "x");
    assert_int_equal(import_end(), 0);
    assert_content("dir/f", "x");
}

static void export_tells_all(void **state)
{
    static struct entry e;
    make_directory("d");
    put("d/f", "content");
    assert_int_equal(symlink("d/f", outside("link")), 0);
    assert_int_equal(mkfifo(outside("fifo"), 0644), 0);
    struct rp_wire_writer w = frame_begin(RP_FILES_EXPORT);
    rp_wire_put_str(&w, RP_STR(""));
    frame_send(channel, &w);
    frame_expect(channel, &f, RP_FILES_ENTRY);
    take_entry(&e);
    assert_string_equal(e.path, "d");
    frame_expect(channel, &f, RP_FILES_ENTRY);
    take_entry(&e);
    assert_string_equal(e.path, "d/f");
    assert_int_equal(e.size, 7);
    frame_expect(channel, &f, RP_FILES_DATA);
    assert_memory_equal(f.bytes, "content", 7);
    frame_expect(channel, &f, RP_FILES_ENTRY); /* no FIFO */
    take_entry(&e);
    assert_string_equal(e.path, "link");
    assert_string_equal(e.target, "d/f");
    frame_expect(channel, &f, RP_FILES_END);
}

/* ---- what it refuses ---- */

static void paths_that_leave(void **state)
{
    struct rp_str got;
    static const char *const paths[] = {"../x", "a/../../x", "/etc/passwd", "..", "a/..", "//etc/passwd"};
    make_directory("a");
    for (size_t i = 0; i < RP_ARRAY_SIZE(paths); i++) {
        assert_int_equal(read_file(paths[i], &got), EXDEV);
        assert_int_equal(files_write(channel, paths[i], RP_FILES_WRITE_PARENTS, "", "x", 1), EXDEV);
        assert_int_equal(do_mkdir(paths[i], true), EXDEV);
        assert_int_equal(do_delete(paths[i], true), EXDEV);
        assert_int_equal(change(RP_FILES_MOVE, "a", paths[i], 1), EXDEV);
        assert_int_equal(change(RP_FILES_COPY, paths[i], "b", 1), EXDEV);
    }
    assert_string_equal(list("", 3, 10), "a/");
    assert_string_equal(list("./a/.//", 3, 10), "");
    char longer[5000];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(read_file(longer, &got), ENAMETOOLONG);
    longer[300] = '\0';
    assert_int_equal(files_write(channel, longer, 0, "", "x", 1), ENAMETOOLONG);
    struct rp_wire_writer w = frame_begin(RP_FILES_STAT);
    rp_wire_put_str(&w, RP_STR("a\0b"));
    frame_send(channel, &w);
    frame_expect_error(channel, EINVAL);
}

static void links_that_leave(void **state)
{
    struct rp_str got;
    assert_int_equal(symlink("/etc/passwd", outside("passwd")), 0);
    assert_int_equal(symlink("/etc", outside("etc")), 0);
    assert_int_equal(symlink("../../..", outside("up")), 0);
    assert_int_equal(symlink("/proc/self/root", outside("magic")), 0);
    assert_int_equal(symlink("loop", outside("loop")), 0);
    assert_int_equal(read_file("passwd", &got), EXDEV);
    assert_int_equal(read_file("etc/passwd", &got), EXDEV);
    assert_int_equal(read_file("up/etc/passwd", &got), EXDEV);
    assert_int_equal(read_file("magic/etc/passwd", &got), EXDEV);
    assert_int_equal(read_file("loop", &got), ELOOP);
    assert_int_equal(files_write(channel, "passwd", 0, "", "x", 1), EXDEV);
    assert_int_equal(files_write(channel, "etc/new", 0, "", "x", 1), EXDEV);
    assert_int_equal(files_write(channel, "etc/sub/new", RP_FILES_WRITE_PARENTS, "", "x", 1), EXDEV);
    assert_int_equal(files_write(channel, "loop", 0, "", "x", 1), ELOOP);
    assert_int_equal(do_mkdir("etc/new", false), EXDEV);
    assert_int_equal(do_delete("etc/passwd", false), EXDEV);
    assert_int_equal(change(RP_FILES_COPY, "etc/passwd", "stolen", 0), EXDEV);
    /* a link itself may be moved, copied and deleted: it is the user's */
    assert_int_equal(change(RP_FILES_COPY, "passwd", "copied", 0), 0);
    assert_int_equal(read_file("copied", &got), EXDEV);
    assert_int_equal(do_delete("etc", true), 0);
    assert_int_equal(access("/etc/passwd", F_OK), 0);
}

static void links_that_stay(void **state)
{
    struct stat st;
    make_directory("d");
    put("d/f", "one");
    assert_int_equal(symlink("d/f", outside("link")), 0);
    assert_int_equal(symlink("../link", outside("d/chain")), 0);
    assert_int_equal(symlink("d/new", outside("dangling")), 0);
    assert_content("link", "one");
    assert_int_equal(files_write(channel, "d/chain", 0, "", "two", 3), 0);
    assert_content("d/f", "two");
    assert_int_equal(lstat(outside("link"), &st), 0);
    assert_true(S_ISLNK(st.st_mode)); /* it stayed a link */
    assert_int_equal(files_write(channel, "dangling", 0, "", "made", 4), 0);
    assert_content("d/new", "made");
}

static void what_is_no_file_is_not_opened(void **state)
{
    struct rp_str got;
    assert_int_equal(mkfifo(outside("fifo"), 0666), 0);
    assert_int_equal(mknod(outside("device"), S_IFCHR | 0666, makedev(1, 5)), 0);
    make_directory("d");
    assert_int_equal(read_file("fifo", &got), EINVAL);
    assert_int_equal(read_file("device", &got), EINVAL);
    assert_int_equal(read_file("d", &got), EISDIR);
    assert_int_equal(files_write(channel, "fifo", 0, "", "x", 1), EINVAL);
    assert_int_equal(files_write(channel, "d", 0, "", "x", 1), EISDIR);
    assert_int_equal(files_write(channel, "", 0, "", "x", 1), EISDIR);
    assert_int_equal(change(RP_FILES_COPY, "fifo", "copy", 0), EINVAL);
    assert_int_equal(do_delete("fifo", false), 0);
}

/* A lease makes an open wait for 45 s, unless it says that it will not. */
static void leases_do_not_block(void **state)
{
    struct rp_str got;
    put("leased", "content");
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGIO, SIG_IGN);
        int fd = open(outside("leased"), O_RDWR);
        char ok = fcntl(fd, F_SETLEASE, F_WRLCK) == 0 ? '1' : '0';
        if (write(ready[1], &ok, 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_int_equal(ok, '1');
    assert_int_equal(read_file("leased", &got), EAGAIN);
    /* a write replaces the file: nothing to wait for */
    assert_int_equal(files_write(channel, "leased", 0, "", "new", 3), 0);
    assert_content("leased", "new");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(ready[0]);
    close(ready[1]);
}

static void rights_are_the_users(void **state)
{
    struct rp_str got;
    int fd = open(outside("roots"), O_CREAT | O_WRONLY, 0600); /* as if it were not the user's */
    close(fd);
    assert_int_equal(mkdir(outside("closed"), 0700), 0);
    assert_int_equal(read_file("roots", &got), EACCES);
    assert_int_equal(files_write(channel, "closed/f", 0, "", "x", 1), EACCES);
    assert_int_equal(do_mkdir("closed/d", false), EACCES);
}

/* A program of the user that swaps a directory for a link all the time gets nothing out. */
static int swap_for_ever(void *ctx)
{
    if (chdir("/home/runner/app") < 0)
        return 1;
    for (int i = 0; i < 4000; i++) {
        (void)!rename("real", "aside");
        (void)!symlink("/etc", "real");
        (void)!unlink("real");
        (void)!rename("aside", "real");
    }
    return 0;
}

static void races_do_not_lead_out(void **state)
{
    make_directory("real");
    put("real/passwd", "mine");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(world_inside(&world, 1000, swap_for_ever, NULL));
    int status = 0, reads = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        struct rp_str got;
        int errnum = read_file("real/passwd", &got);
        if (errnum == 0)
            assert_true(rp_str_is(got, "mine"));
        else
            assert_true(errnum == ENOENT || errnum == EXDEV || errnum == EAGAIN || errnum == ENOTDIR);
        errnum = files_write(channel, "real/rp-test-out", 0, "", "x", 1);
        assert_true(errnum == 0 || errnum == ENOENT || errnum == EXDEV || errnum == EAGAIN ||
                    errnum == ENOTDIR);
        reads++;
    }
    assert_int_equal(status, 0);
    assert_true(reads > 10);
    assert_int_equal(access("/etc/rp-test-out", F_OK), -1);
}

static int attack_helper(void *ctx)
{
    char path[64];
    int refused = 0;
    for (int pid = 2; pid < 100; pid++) {
        snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        char name[32] = "";
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            continue;
        ssize_t n = read(fd, name, sizeof(name) - 1);
        close(fd);
        if (n <= 0 || strncmp(name, "repld-files", 11) != 0)
            continue;
        if (kill(pid, SIGKILL) == 0 || errno != EPERM)
            return 2;
        snprintf(path, sizeof(path), "/proc/%d/mem", pid);
        if (open(path, O_RDWR) >= 0 || errno != EACCES)
            return 3;
        snprintf(path, sizeof(path), "/proc/%d/fd", pid);
        if (open(path, O_RDONLY) >= 0 || errno != EACCES)
            return 4;
        refused++;
    }
    return refused ? 0 : 5;
}

static void the_user_cannot_reach_the_helper(void **state)
{
    assert_int_equal(files_write(channel, "f", 0, "", "x", 1), 0);
    assert_int_equal(world_inside(&world, 1000, attack_helper, NULL), 0);
    assert_content("f", "x");
}

static void malformed_frames_end_the_helper(void **state)
{
    for (int type = 0; type < 40; type++) {
        for (int kind = 0; kind < 4; kind++) {
            uint8_t bytes[RP_FILES_HEADER_SIZE + 64];
            int c = files_open(control);
            memset(bytes, kind == 3 ? 0 : 0xff, sizeof(bytes));
            struct rp_wire_writer w = {.data = bytes, .cap = sizeof(bytes)};
            rp_wire_put_u32(&w, kind == 1 ? RP_FILES_PAYLOAD_MAX + 1 : kind == 2 ? 0 : 64);
            rp_wire_put_u8(&w, (uint8_t)type);
            rp_wire_put_u8(&w, kind == 2 && type >= RP_FILES_STAT && type <= RP_FILES_WATCH ? 0 : kind == 2);
            rp_wire_put_u16(&w, 0);
            size_t n = kind == 2 ? RP_FILES_HEADER_SIZE : sizeof(bytes);
            assert_int_equal(send(c, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
            char byte;
            ssize_t got = recv(c, &byte, 1, 0);
            assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
            close(c);
        }
    }
    assert_int_equal(files_write(channel, "f", 0, "", "x", 1), 0);
}

static void disk_full_is_told(void **state)
{
    /* a small file system of the sandbox's own in the project */
    char path[128];
    snprintf(path, sizeof(path), "/proc/%d/root/home/runner/app/small", world.init);
    make_directory("small");
    pid_t pid = fork();
    if (pid == 0) {
        char ns[64];
        snprintf(ns, sizeof(ns), "/proc/%d/ns/mnt", world.init);
        int fd = open(ns, O_RDONLY);
        _exit(setns(fd, 0) < 0 ||
              mount("tmpfs", "/home/runner/app/small", "tmpfs", 0, "size=64k,uid=1000,gid=1000") < 0);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    static char big[200000];
    assert_int_equal(files_write(channel, "small/f", 0, "", big, sizeof(big)), ENOSPC);
    assert_string_equal(list("small", 1, 10), "");
    assert_int_equal(files_write(channel, "small/f", 0, "", big, 1000), 0);
    /* a move between two file systems */
    assert_int_equal(change(RP_FILES_MOVE, "small/f", "moved", 0), 0);
    assert_string_equal(list("", 2, 10), "moved small/");
}

/* ---- watch ---- */

static void expect_event(int c, uint8_t type, const char *path, const char *to)
{
    char got_path[4096], got_to[4096];
    frame_expect(c, &f, RP_FILES_EVENT);
    uint8_t got = rp_wire_get_u8(&f.body);
    assert_true(rp_str_copy(got_path, sizeof(got_path), rp_wire_get_str(&f.body, 4095)));
    assert_true(rp_str_copy(got_to, sizeof(got_to), rp_wire_get_str(&f.body, 4095)));
    if (got != type || strcmp(got_path, path) != 0 || strcmp(got_to, to) != 0)
        fail_msg("event %u \"%s\" \"%s\" came instead of %u \"%s\" \"%s\"", got, got_path, got_to, type, path,
                 to);
}

static void watch_follows(void **state)
{
    make_directory("d");
    make_directory("d/e");
    put("d/e/f", "x");
    int c = files_open(control);
    struct rp_wire_writer w = frame_begin(RP_FILES_WATCH);
    rp_wire_put_str(&w, RP_STR(""));
    frame_send(c, &w);
    frame_expect(c, &f, RP_FILES_END);
    put("d/e/f", "changed");
    put("d/e/f", "changed again");
    expect_event(c, RP_FILES_EVENT_CHANGED, "d/e/f", "");
    put("new", "");
    expect_event(c, RP_FILES_EVENT_CREATED, "new", "");
    /* our own writes come as one event, without the temporary name */
    assert_int_equal(files_write(channel, "new", 0, "", "content", 7), 0);
    expect_event(c, RP_FILES_EVENT_CHANGED, "new", "");
    int app = open(world.app, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    assert_int_equal(renameat(app, "d", app, "moved"), 0);
    close(app);
    expect_event(c, RP_FILES_EVENT_MOVED, "d", "moved");
    put("moved/e/f", "below a moved one");
    expect_event(c, RP_FILES_EVENT_CHANGED, "moved/e/f", "");
    make_directory("node_modules");
    expect_event(c, RP_FILES_EVENT_CREATED, "node_modules", "");
    put("node_modules/quiet", "");
    make_directory("made");
    expect_event(c, RP_FILES_EVENT_CREATED, "made", "");
    put("made/\nx", "");
    expect_event(c, RP_FILES_EVENT_CREATED, "made/\nx", "");
    assert_int_equal(rename(outside("moved/e"), "/tmp/repld-init-test-moved-away"), 0);
    expect_event(c, RP_FILES_EVENT_DELETED, "moved/e", "");
    assert_int_equal(rename("/tmp/repld-init-test-moved-away", outside("back")), 0);
    expect_event(c, RP_FILES_EVENT_CREATED, "back", "");
    expect_event(c, RP_FILES_EVENT_CREATED, "back/f", "");
    assert_int_equal(do_delete("back", true), 0);
    expect_event(c, RP_FILES_EVENT_DELETED, "back/f", "");
    expect_event(c, RP_FILES_EVENT_DELETED, "back", "");
    close(c);
}

static void watch_says_when_it_lost_count(void **state)
{
    int c = files_open(control);
    struct rp_wire_writer w = frame_begin(RP_FILES_WATCH);
    rp_wire_put_str(&w, RP_STR(""));
    frame_send(c, &w);
    frame_expect(c, &f, RP_FILES_END);
    for (int i = 0; i < 6000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%d", i);
        int fd = open(outside(name), O_CREAT | O_WRONLY, 0644);
        close(fd);
    }
    bool overflow = false;
    unsigned seen = 0;
    while (!overflow && seen < 6000) { /* either all are told, or that some were not */
        frame_expect(c, &f, RP_FILES_EVENT);
        overflow = rp_wire_get_u8(&f.body) == RP_FILES_EVENT_OVERFLOW;
        seen += !overflow;
    }
    assert_true(overflow || seen == 6000);
    close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(writes_are_whole_and_the_users),
        T(etags_guard_writes),
        T(a_change_meanwhile_is_noticed),
        T(a_broken_upload_leaves_nothing),
        T(a_broken_archive_leaves_nothing),
        T(lists_are_sorted_and_limited),
        T(ranges),
        T(changes),
        T(sparse_copies_stay_sparse),
        T(deep_trees_can_be_removed),
        T(search_finds),
        T(import_merges_or_replaces),
        T(hostile_archives_touch_nothing),
        T(export_tells_all),
        T(paths_that_leave),
        T(links_that_leave),
        T(links_that_stay),
        T(what_is_no_file_is_not_opened),
        T(leases_do_not_block),
        T(rights_are_the_users),
        T(races_do_not_lead_out),
        T(the_user_cannot_reach_the_helper),
        T(malformed_frames_end_the_helper),
        T(disk_full_is_told),
        T(watch_follows),
        T(watch_says_when_it_lost_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
