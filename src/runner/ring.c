#include "runner/ring.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum {
    VERSION = 1,
    HEADER_SIZE = 4096, /* also the offset of the data in the file: a page */
    ALLOCATE_STEP = 16 * 1024,
    NOTE_MAX = 64,
};

static const char MAGIC[8] = "RPRING1\n";

struct note {
    uint32_t length;
    uint8_t bytes[NOTE_MAX];
};

/*
 * The file's first page. [end, filled) is always 0xFF except while a read is between the kernel and its
 * commit: that is what recovery relies on.
 */
struct header {
    char magic[8]; /* written last: a file without it was never whole */
    uint32_t version;
    uint32_t header_size;
    _Atomic uint64_t size;   /* of the data; smaller than asked for when tmpfs was full */
    _Atomic uint64_t end;    /* committed */
    _Atomic uint64_t filled; /* end of the 0xFF area; what lies a ring's size before it is overwritten */
    _Atomic uint64_t mark;
    _Atomic uint32_t dimensions; /* columns in the upper half */
    _Atomic uint32_t note_current;
    struct note note[2];
    uint32_t meta_length;
    char meta[RP_RING_META_MAX];
};
_Static_assert(sizeof(struct header) <= HEADER_SIZE, "the header is one page");

struct rp_ring {
    struct header *header; /* of the mapping: header, data, data again */
    uint8_t *data;
    uint64_t size, allocated;
    size_t mapped;
    char *path;
    int fd; /* -1 once all of it is allocated */
    bool no_nowait;
};

static void unmap(struct rp_ring *r)
{
    if (r->header)
        munmap(r->header, r->mapped);
    r->header = NULL;
}

/* Maps the header and the data, and behind them the data again, so that no view is ever cut in two. */
static int map(struct rp_ring *r, int fd, struct rp_error *err)
{
    size_t whole = HEADER_SIZE + 2 * r->size;
    uint8_t *base = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "map \"%s\"", r->path);
    if (mmap(base, HEADER_SIZE + r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED ||
        mmap(base + HEADER_SIZE + r->size, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
             HEADER_SIZE) == MAP_FAILED) {
        rp_error_errno(err, RP_ERROR_INTERNAL, errno, "map \"%s\"", r->path);
        munmap(base, whole);
        return -1;
    }
    unmap(r);
    r->header = (struct header *)(void *)base;
    r->data = base + HEADER_SIZE;
    r->mapped = whole;
    return 0;
}

/* A page that tmpfs cannot give would be a SIGBUS; fallocate says ENOSPC instead. */
static int allocate(struct rp_ring *r, uint64_t wanted)
{
    wanted = RP_MIN(r->size, (wanted + ALLOCATE_STEP - 1) / ALLOCATE_STEP * ALLOCATE_STEP);
    int rc;
    do
        rc = fallocate(r->fd, 0, 0, (off_t)(HEADER_SIZE + wanted));
    while (rc < 0 && errno == EINTR);
    if (rc == 0) {
        r->allocated = wanted;
        if (r->allocated == r->size)
            rp_close_fd(&r->fd);
        return 0;
    }
    int error = errno;
    if (error != ENOSPC && error != EDQUOT)
        return -error;
    /* Nothing has wrapped yet, so every offset is its own position and stays so in a smaller ring. */
    if (r->allocated < RP_RING_MIN)
        return -ENOSPC;
    uint64_t before = r->size;
    r->size = r->allocated;
    if (map(r, r->fd, NULL) < 0) {
        r->size = before;
        return -ENOMEM;
    }
    atomic_store_explicit(&r->header->size, r->size, memory_order_release);
    rp_close_fd(&r->fd);
    return 0;
}

/* Makes [end, end + n) ready to be read into. */
static int prepare(struct rp_ring *r, size_t n)
{
    uint64_t end = atomic_load_explicit(&r->header->end, memory_order_relaxed);
    uint64_t filled = atomic_load_explicit(&r->header->filled, memory_order_relaxed);
    if (RP_MIN(end + n, r->size) > r->allocated) {
        int rc = allocate(r, end + n);
        if (rc < 0)
            return rc;
    }
    if (end + n > filled) {
        /* Filled before it is noted: the other way round a crash in between would let recovery take old
         * output for what a read delivered. The old output that a fill destroys before it is noted is not
         * offered to anybody: rp_ring_start keeps RP_RING_READ_MAX bytes away from it. */
        memset(r->data + filled % r->size, 0xff, end + n - filled);
        atomic_store_explicit(&r->header->filled, end + n, memory_order_release);
    }
    return 0;
}

static void commit(struct rp_ring *r, size_t n)
{
    uint64_t end = atomic_load_explicit(&r->header->end, memory_order_relaxed);
    atomic_store_explicit(&r->header->end, end + n, memory_order_release);
}

static void recover(struct rp_ring *r)
{
    uint64_t end = atomic_load(&r->header->end), filled = atomic_load(&r->header->filled);
    const uint8_t *at = r->data + end % r->size;
    uint64_t n = filled - end;
    while (n && at[n - 1] == 0xff)
        n--;
    if (n)
        commit(r, n);
}

static struct rp_ring *ring_alloc(const char *directory, const char *name)
{
    struct rp_ring *r = rp_calloc(1, sizeof(*r));
    r->fd = -1;
    r->path = rp_asprintf("%s/%s", directory, name);
    return r;
}

int rp_ring_create(const char *directory, const char *name, uint64_t size, struct rp_str meta,
                   struct rp_ring **ret, struct rp_error *err)
{
    if (meta.n > RP_RING_META_MAX)
        return rp_error_set(err, RP_ERROR_TOO_LARGE, "a ring's text is longer than %d bytes",
                            RP_RING_META_MAX);
    size = RP_MIN((uint64_t)RP_RING_MAX, size);
    size = RP_MAX((uint64_t)RP_RING_MIN, size);
    struct rp_ring *r = ring_alloc(directory, name);
    r->size = (size + RP_RING_READ_MAX - 1) / RP_RING_READ_MAX * RP_RING_READ_MAX;
    r->fd = open(r->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->fd < 0) {
        rp_error_errno(err, errno == EEXIST ? RP_ERROR_EXISTS : RP_ERROR_INTERNAL, errno, "make \"%s\"",
                       r->path);
        rp_ring_close(r);
        return -1;
    }
    if (ftruncate(r->fd, (off_t)(HEADER_SIZE + r->size)) < 0 || fallocate(r->fd, 0, 0, HEADER_SIZE) < 0) {
        rp_error_errno(err, RP_ERROR_INTERNAL, errno, "allocate \"%s\"", r->path);
        rp_ring_remove(r);
        return -1;
    }
    if (map(r, r->fd, err) < 0) {
        rp_ring_remove(r);
        return -1;
    }
    r->header->version = VERSION;
    r->header->header_size = HEADER_SIZE;
    atomic_store(&r->header->size, r->size);
    r->header->meta_length = (uint32_t)meta.n;
    if (meta.n)
        memcpy(r->header->meta, meta.p, meta.n);
    atomic_thread_fence(memory_order_release);
    memcpy(r->header->magic, MAGIC, sizeof(MAGIC));
    *ret = r;
    return 0;
}

static bool header_valid(const struct header *h, uint64_t file_size)
{
    uint64_t size = atomic_load(&h->size), end = atomic_load(&h->end), filled = atomic_load(&h->filled);
    return memcmp(h->magic, MAGIC, sizeof(MAGIC)) == 0 && h->version == VERSION &&
           h->header_size == HEADER_SIZE && size >= RP_RING_MIN && size <= RP_RING_MAX &&
           size % HEADER_SIZE == 0 && file_size >= HEADER_SIZE + size && end <= filled &&
           filled - end <= RP_RING_READ_MAX && h->meta_length <= RP_RING_META_MAX;
}

int rp_ring_open(const char *directory, const char *name, struct rp_ring **ret, struct rp_error *err)
{
    struct rp_ring *r = ring_alloc(directory, name);
    struct stat st;
    struct header h;
    r->fd = open(r->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (r->fd < 0 || fstat(r->fd, &st) < 0) {
        rp_error_errno(err, errno == ENOENT ? RP_ERROR_NOT_FOUND : RP_ERROR_INTERNAL, errno, "open \"%s\"",
                       r->path);
        rp_ring_close(r);
        return -1;
    }
    if (!S_ISREG(st.st_mode) || pread(r->fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) ||
        !header_valid(&h, (uint64_t)st.st_size)) {
        rp_error_set(err, RP_ERROR_PROTOCOL, "\"%s\" is not a whole ring", r->path);
        rp_ring_close(r);
        return -1;
    }
    r->size = atomic_load(&h.size);
    uint64_t filled = atomic_load(&h.filled);
    r->allocated = RP_MIN(r->size, (filled + ALLOCATE_STEP - 1) / ALLOCATE_STEP * ALLOCATE_STEP);
    if (map(r, r->fd, err) < 0) {
        rp_ring_close(r);
        return -1;
    }
    if (r->allocated == r->size)
        rp_close_fd(&r->fd);
    recover(r);
    *ret = r;
    return 0;
}

void rp_ring_close(struct rp_ring *r)
{
    if (!r)
        return;
    unmap(r);
    rp_close_fd(&r->fd);
    free(r->path);
    free(r);
}

void rp_ring_remove(struct rp_ring *r)
{
    if (!r)
        return;
    unlink(r->path);
    rp_ring_close(r);
}

uint64_t rp_ring_end(const struct rp_ring *r)
{
    return atomic_load_explicit(&r->header->end, memory_order_relaxed);
}

uint64_t rp_ring_start(const struct rp_ring *r)
{
    uint64_t filled = atomic_load_explicit(&r->header->filled, memory_order_relaxed);
    uint64_t kept = r->size - RP_RING_READ_MAX;
    return filled > kept ? filled - kept : 0;
}

struct rp_str rp_ring_view(const struct rp_ring *r, uint64_t offset, size_t max)
{
    uint64_t left = rp_ring_end(r) - offset;
    return (struct rp_str){(const char *)r->data + offset % r->size, (size_t)RP_MIN(left, (uint64_t)max)};
}

static ssize_t read_once(struct rp_ring *r, int fd, void *at, size_t n, bool nowait)
{
    if (nowait && !r->no_nowait) {
        struct iovec iov = {at, n};
        ssize_t got = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
        if (got >= 0 || (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS))
            return got;
        r->no_nowait = true;
    }
    return read(fd, at, n);
}

ssize_t rp_ring_read(struct rp_ring *r, int fd, size_t max, bool nowait)
{
    max = RP_MIN(max, (size_t)RP_RING_READ_MAX);
    int rc = prepare(r, max);
    if (rc < 0)
        return rc;
    ssize_t got = read_once(r, fd, r->data + rp_ring_end(r) % r->size, max, nowait);
    if (got < 0)
        return -errno;
    commit(r, (size_t)got);
    return got;
}

int rp_ring_write(struct rp_ring *r, struct rp_str bytes)
{
    while (bytes.n) {
        size_t n = RP_MIN(bytes.n, (size_t)RP_RING_READ_MAX);
        int rc = prepare(r, n);
        if (rc < 0)
            return rc;
        memcpy(r->data + rp_ring_end(r) % r->size, bytes.p, n);
        commit(r, n);
        bytes.p += n;
        bytes.n -= n;
    }
    return 0;
}

struct rp_str rp_ring_meta(const struct rp_ring *r)
{
    return (struct rp_str){r->header->meta, r->header->meta_length};
}

void rp_ring_set_size(struct rp_ring *r, uint16_t cols, uint16_t rows)
{
    atomic_store(&r->header->dimensions, (uint32_t)cols << 16 | rows);
}

void rp_ring_size(const struct rp_ring *r, uint16_t *ret_cols, uint16_t *ret_rows)
{
    uint32_t both = atomic_load(&r->header->dimensions);
    *ret_cols = (uint16_t)(both >> 16);
    *ret_rows = (uint16_t)both;
}

void rp_ring_set_mark(struct rp_ring *r, uint64_t offset)
{
    atomic_store(&r->header->mark, offset);
}

uint64_t rp_ring_mark(const struct rp_ring *r)
{
    return atomic_load(&r->header->mark);
}

void rp_ring_set_note(struct rp_ring *r, const void *note, size_t n)
{
    uint32_t next = !atomic_load(&r->header->note_current);
    n = RP_MIN(n, (size_t)NOTE_MAX);
    r->header->note[next].length = (uint32_t)n;
    memcpy(r->header->note[next].bytes, note, n);
    atomic_store(&r->header->note_current, next);
}

size_t rp_ring_note(const struct rp_ring *r, void *ret, size_t cap)
{
    const struct note *note = &r->header->note[atomic_load(&r->header->note_current) & 1];
    size_t n = RP_MIN((size_t)note->length, cap);
    n = RP_MIN(n, (size_t)NOTE_MAX);
    memcpy(ret, note->bytes, n);
    return n;
}
