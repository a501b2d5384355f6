/*
 * cleanup.h: free locals when they go out of scope (gcc and clang's cleanup attribute).
 *
 * Any thread. `_cleanup_(f)` calls f(&variable); the helpers below cover what every module needs. To hand a
 * value on instead of freeing it, use RP_STEAL_PTR or RP_STEAL_FD in the return expression.
 */
#ifndef RP_BASE_CLEANUP_H
#define RP_BASE_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f)    __attribute__((cleanup(f)))
#define RP_MUST_CHECK   __attribute__((warn_unused_result))
#define RP_PRINTF(a, b) __attribute__((format(printf, a, b)))
#define RP_UNUSED       __attribute__((unused))

/* Returns *pp and leaves NULL behind, with the type of the pointer kept. */
#define RP_STEAL_PTR(p)                                                                                      \
    ({                                                                                                       \
        __typeof__(p) *rp_pp_ = &(p);                                                                        \
        __typeof__(p) rp_v_ = *rp_pp_;                                                                       \
        *rp_pp_ = NULL;                                                                                      \
        rp_v_;                                                                                               \
    })

/* Returns the descriptor and leaves -1 behind. */
#define RP_STEAL_FD(fd)                                                                                      \
    ({                                                                                                       \
        int *rp_pfd_ = &(fd);                                                                                \
        int rp_fdv_ = *rp_pfd_;                                                                              \
        *rp_pfd_ = -1;                                                                                       \
        rp_fdv_;                                                                                             \
    })

#define RP_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define RP_MIN(a, b)                                                                                         \
    ({                                                                                                       \
        __typeof__(a) rp_a_ = (a);                                                                           \
        __typeof__(b) rp_b_ = (b);                                                                           \
        rp_a_ < rp_b_ ? rp_a_ : rp_b_;                                                                       \
    })
#define RP_MAX(a, b)                                                                                         \
    ({                                                                                                       \
        __typeof__(a) rp_a_ = (a);                                                                           \
        __typeof__(b) rp_b_ = (b);                                                                           \
        rp_a_ > rp_b_ ? rp_a_ : rp_b_;                                                                       \
    })
#define RP_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Closes *fd when it is not negative; errno is kept. */
static inline void rp_close_fd(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
        *fd = -1;
    }
}

static inline void rp_free_ptr(void *pp)
{
    free(*(void **)pp);
    *(void **)pp = NULL;
}

static inline void rp_close_file(FILE **f)
{
    if (*f)
        fclose(*f);
    *f = NULL;
}

static inline void rp_close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
    *d = NULL;
}

#define _cleanup_close_ _cleanup_(rp_close_fd)
#define _cleanup_free_  _cleanup_(rp_free_ptr)
#define _cleanup_file_  _cleanup_(rp_close_file)
#define _cleanup_dir_   _cleanup_(rp_close_dir)

#endif
