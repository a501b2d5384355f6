/* An uploaded archive of any bytes: it ends, is refused, or gives entries whose paths stay inside. */
#include <stdlib.h>
#include <sys/mman.h>

#include "api/archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(struct rp_str path)
{
    struct rp_str rest = path;
    if (!path.n || path.p[0] == '/')
        abort();
    while (rest.n) {
        struct rp_str part = rp_str_cut(rest, '/', &rest);
        if (!part.n || rp_str_is(part, ".") || rp_str_is(part, "..") || memchr(part.p, '\0', part.n))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rp_unpacker *u = NULL;
    struct rp_error err;
    int fd = memfd_create("archive", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) < 0)
        abort();
    int more = rp_unpacker_new(fd, &u, &err) == 0;
    for (int turns = 0; more == 1 && turns < 64; turns++) {
        struct rp_buf items;
        rp_buf_init(&items, RP_ARCHIVE_ITEMS_CAP);
        more = rp_unpacker_some(u, &items, 65536, &err);
        struct rp_str view = rp_buf_view(&items), bytes;
        struct rp_file_entry e;
        while (more >= 0 && rp_archive_next(&view, &e, &bytes) == 1)
            if (e.kind)
                check_path(e.path);
        rp_buf_done(&items);
    }
    rp_unpacker_free(u);
    close(fd);
    return 0;
}
