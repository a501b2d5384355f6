/* Archives: what is packed comes back the same; what a stranger packed is refused by name. */
#include "../cmocka_all.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/mman.h>

#include "api/archive.h"

static int memory_file(struct rp_str bytes)
{
    int fd = memfd_create("archive", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.p, bytes.n), (ssize_t)bytes.n);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* Everything that is in it as text, an item a line; -1 with err. */
static int unpack(int fd, char *text, size_t cap, struct rp_error *err)
{
    struct rp_unpacker *u = NULL;
    struct rp_buf items;
    struct rp_file_entry e;
    struct rp_str data;
    size_t n = 0;
    int r = rp_unpacker_new(fd, &u, err);
    text[0] = '\0';
    for (bool more = r == 0; more;) {
        rp_buf_init(&items, RP_ARCHIVE_ITEMS_CAP);
        r = rp_unpacker_some(u, &items, 1000, err);
        more = r == 1;
        struct rp_str view = rp_buf_view(&items);
        while (r >= 0 && rp_archive_next(&view, &e, &data) == 1) {
            if (e.kind)
                n +=
                    (size_t)snprintf(text + n, cap - n, "%d %.*s %o%s%.*s\n", e.kind, (int)e.path.n, e.path.p,
                                     e.mode, e.target.n ? " -> " : "", (int)e.target.n, e.target.p);
            else
                n += (size_t)snprintf(text + n, cap - n, "= %.*s\n", (int)data.n, data.p);
            assert_true(n < cap);
        }
        rp_buf_done(&items);
    }
    rp_unpacker_free(u);
    close(fd);
    return r;
}

static void add(struct rp_buf *items, uint8_t kind, const char *path, uint32_t mode, const char *target,
                const char *data)
{
    struct rp_file_entry e = {.kind = kind,
                              .path = rp_str_of(path),
                              .mode = mode,
                              .size = strlen(data),
                              .target = rp_str_of(target),
                              .mtime_ns = 1700000000123456789};
    assert_true(rp_archive_put_entry(items, &e));
    if (*data)
        assert_true(rp_archive_put_data(items, rp_str_of(data)));
}

static void what_goes_in_comes_out(void **state)
{
    for (int format = RP_ARCHIVE_TAR_GZ; format <= RP_ARCHIVE_ZIP; format++) {
        struct rp_packer *p;
        struct rp_error err = {0};
        struct rp_buf items;
        char text[4096];
        rp_buf_init(&items, RP_ARCHIVE_ITEMS_CAP);
        assert_int_equal(rp_packer_new((enum rp_archive_format)format, &p, &err), 0);
        add(&items, RP_FILE_DIRECTORY, "d", 0755, "", "");
        add(&items, RP_FILE_REGULAR, "d/f.txt", 0644, "", "content");
        add(&items, RP_FILE_REGULAR, "d/run", 0755, "", "#!");
        assert_int_equal(rp_packer_add(p, rp_buf_view(&items), &err), 0);
        rp_buf_consume(&items, items.length);
        add(&items, RP_FILE_SYMLINK, "link", 0777, "d/f.txt", "");
        add(&items, RP_FILE_REGULAR, "\xc3\xa9\xf0\x9f\x98\x80", 0600, "", "");
        assert_int_equal(rp_packer_add(p, rp_buf_view(&items), &err), 0);
        assert_int_equal(rp_packer_finish(p, &err), 0);
        int fd = memory_file(rp_buf_view(rp_packer_output(p)));
        assert_int_equal(unpack(fd, text, sizeof(text), &err), 0);
        assert_string_equal(text, "2 d 755\n1 d/f.txt 644\n= content\n1 d/run 755\n= #!\n"
                                  "3 link 777 -> d/f.txt\n1 \xc3\xa9\xf0\x9f\x98\x80 600\n");
        rp_packer_free(p);
        rp_buf_done(&items);
    }
}

/* A tar as a stranger makes it, with libarchive's own writer, which refuses nothing. */
static int foreign_tar(const char *path, unsigned type, const char *link, bool hard)
{
    static char bytes[65536];
    size_t used = 0;
    struct archive *a = archive_write_new();
    struct archive_entry *e = archive_entry_new();
    assert_int_equal(archive_write_set_format_gnutar(a), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(a, bytes, sizeof(bytes), &used), ARCHIVE_OK);
    archive_entry_copy_pathname(e, path);
    archive_entry_set_filetype(e, type);
    archive_entry_set_perm(e, 04755);
    if (hard)
        archive_entry_copy_hardlink(e, link);
    else if (link)
        archive_entry_copy_symlink(e, link);
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    archive_write_close(a);
    archive_write_free(a);
    archive_entry_free(e);
    return memory_file((struct rp_str){bytes, used});
}

static void hostile_entries_are_refused_by_name(void **state)
{
    static const struct {
        const char *path;
        unsigned type;
        const char *link;
        bool hard;
        const char *why;
    } cases[] = {
        {"../x", AE_IFREG, NULL, false, "the archive's entry \"../x\" leaves the project"},
        {"a/../../x", AE_IFREG, NULL, false, "the archive's entry \"a/../../x\" leaves the project"},
        {"/etc/passwd", AE_IFREG, NULL, false, "the archive's entry \"/etc/passwd\" has an absolute path"},
        {"hard", AE_IFREG, "/etc/passwd", true,
         "the archive's entry \"hard\" is a hard link, which an archive for a project may not hold"},
        {"device", AE_IFCHR, NULL, false, "the archive's entry \"device\" is a device, FIFO or socket"},
        {"fifo", AE_IFIFO, NULL, false, "the archive's entry \"fifo\" is a device, FIFO or socket"},
        {"new\nline/..", AE_IFREG, NULL, false, "the archive's entry \"new?line/..\" leaves the project"},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(cases); i++) {
        char text[1024];
        struct rp_error err = {0};
        int fd = foreign_tar(cases[i].path, cases[i].type, cases[i].link, cases[i].hard);
        assert_int_equal(unpack(fd, text, sizeof(text), &err), -1);
        assert_string_equal(err.message, cases[i].why);
        assert_int_equal(err.code, RP_ERROR_INVALID);
    }
}

static void harmless_oddities_are_taken(void **state)
{
    char text[1024];
    struct rp_error err = {0};
    assert_int_equal(unpack(foreign_tar("./a//b/.", AE_IFDIR, NULL, false), text, sizeof(text), &err), 0);
    assert_string_equal(text, "2 a/b 755\n");
    assert_int_equal(unpack(foreign_tar("./", AE_IFDIR, NULL, false), text, sizeof(text), &err), 0);
    assert_string_equal(text, "");
    /* where a link leads is the file helper's to judge; set-uid does not get in */
    assert_int_equal(unpack(foreign_tar("l", AE_IFLNK, "/etc", false), text, sizeof(text), &err), 0);
    assert_string_equal(text, "3 l 755 -> /etc\n");
}

static void what_is_no_archive(void **state)
{
    static const char *const bad[] = {"", "hello", "PK\x03\x04 and nothing else", "\x1f\x8b\x08"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++) {
        char text[1024];
        struct rp_error err = {0};
        assert_int_equal(unpack(memory_file(rp_str_of(bad[i])), text, sizeof(text), &err), -1);
        assert_int_equal(err.code, RP_ERROR_INVALID);
    }
}

static void half_an_archive(void **state)
{
    struct rp_packer *p;
    struct rp_error err = {0};
    struct rp_buf items;
    char text[65536];
    static char content[20000];
    rp_buf_init(&items, RP_ARCHIVE_ITEMS_CAP);
    for (size_t i = 0; i < sizeof(content) - 1; i++)
        content[i] = (char)('a' + i * 7919 % 26);
    assert_int_equal(rp_packer_new(RP_ARCHIVE_TAR_GZ, &p, &err), 0);
    add(&items, RP_FILE_REGULAR, "f", 0644, "", content);
    assert_int_equal(rp_packer_add(p, rp_buf_view(&items), &err), 0);
    assert_int_equal(rp_packer_finish(p, &err), 0);
    struct rp_str whole = rp_buf_view(rp_packer_output(p));
    assert_int_equal(unpack(memory_file((struct rp_str){whole.p, whole.n / 2}), text, sizeof(text), &err),
                     -1);
    assert_int_equal(err.code, RP_ERROR_INVALID);
    rp_packer_free(p);
    rp_buf_done(&items);
}

/* Few bytes that would unpack for a very long time end at the limit of entries. */
static void too_many_entries(void **state)
{
    size_t cap = (size_t)(RP_ARCHIVE_ENTRIES_MAX + 2) * 512 + 65536, used = 0;
    char *bytes = malloc(cap);
    struct archive *a = archive_write_new();
    struct archive_entry *e = archive_entry_new();
    assert_int_equal(archive_write_set_format_ustar(a), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(a, bytes, cap, &used), ARCHIVE_OK);
    archive_entry_copy_pathname(e, "d/");
    archive_entry_set_filetype(e, AE_IFDIR);
    archive_entry_set_perm(e, 0755);
    for (int i = 0; i <= RP_ARCHIVE_ENTRIES_MAX; i++)
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    archive_write_close(a);
    archive_write_free(a);
    archive_entry_free(e);
    struct rp_unpacker *u;
    struct rp_error err = {0};
    int fd = memory_file((struct rp_str){bytes, used});
    assert_int_equal(rp_unpacker_new(fd, &u, &err), 0);
    int r;
    do {
        struct rp_buf items;
        rp_buf_init(&items, RP_ARCHIVE_ITEMS_CAP);
        r = rp_unpacker_some(u, &items, RP_ARCHIVE_ITEMS_CAP / 2, &err);
        rp_buf_done(&items);
    } while (r == 1);
    assert_int_equal(r, -1);
    assert_int_equal(err.code, RP_ERROR_TOO_LARGE);
    rp_unpacker_free(u);
    close(fd);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(hostile_entries_are_refused_by_name),
        cmocka_unit_test(harmless_oddities_are_taken),
        cmocka_unit_test(what_is_no_archive),
        cmocka_unit_test(half_an_archive),
        cmocka_unit_test(too_many_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
