/* The names in a directory, read at once and sorted, so that answers have an order and no directory stays
 * half read while others work in it. */
#include <errno.h>
#include <fcntl.h>

#include "init/files/helper.h"

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void rp_names_done(struct rp_names *n)
{
    free(n->list);
    free(n->block);
    *n = (struct rp_names){0};
}

/* Appends name with its NUL; *room and *used count the block. */
static int append(struct rp_names *n, const char *name, size_t *room, size_t *used)
{
    size_t length = strlen(name) + 1;
    if (*used + length > *room) {
        size_t want = RP_MAX(*room * 2, (size_t)8192);
        char *grown = realloc(n->block, want);
        if (!grown)
            return ENOMEM;
        n->block = grown;
        *room = want;
    }
    memcpy(n->block + *used, name, length);
    *used += length;
    n->count++;
    return 0;
}

int rp_names_read(int dir, size_t max, struct rp_names *ret)
{
    *ret = (struct rp_names){0};
    _cleanup_names_ struct rp_names n = {0};
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return errno;
    size_t room = 0, used = 0;
    struct dirent *e;
    while (errno = 0, (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || rp_path_is_temporary(e->d_name))
            continue;
        if (n.count == max) {
            n.truncated = true;
            break;
        }
        int errnum = append(&n, e->d_name, &room, &used);
        if (errnum)
            return errnum;
    }
    if (!e && errno)
        return errno;
    n.list = malloc((n.count ?: 1) * sizeof(char *));
    if (!n.list)
        return ENOMEM;
    char *at = n.block;
    for (size_t i = 0; i < n.count; i++) {
        n.list[i] = at;
        at += strlen(at) + 1;
    }
    qsort(n.list, n.count, sizeof(char *), compare);
    *ret = n;
    n = (struct rp_names){0};
    return 0;
}
