/* The cgroups of the steps: descriptors of cgroup.procs, given by the orchestrator, by which a child moves
 * itself. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "init/init.h"

int rp_init_step_add(struct rp_init *init, uint32_t step, int *fd)
{
    struct rp_init_step *s = &init->steps[step];
    struct stat st, other;
    int flags = fcntl(*fd, F_GETFL);
    if (fstat(*fd, &st) < 0 || flags < 0)
        return errno;
    if (!S_ISREG(st.st_mode) || (flags & O_ACCMODE) == O_RDONLY || (flags & O_PATH))
        return EINVAL;
    /* After an adoption the same ones are given again. */
    for (int i = 0; i < s->count; i++)
        if (fstat(s->fds[i], &other) == 0 && other.st_dev == st.st_dev && other.st_ino == st.st_ino) {
            close(s->fds[i]);
            s->fds[i] = RP_STEAL_FD(*fd);
            return 0;
        }
    if (s->count == RP_INIT_HIERARCHIES_MAX)
        return ENOSPC;
    s->fds[s->count++] = RP_STEAL_FD(*fd);
    return 0;
}

void rp_init_step_drop(struct rp_init *init, uint32_t step)
{
    struct rp_init_step *s = &init->steps[step];
    for (int i = 0; i < s->count; i++)
        rp_close_fd(&s->fds[i]);
    s->count = 0;
}

int rp_init_step_join(const struct rp_init *init, uint32_t step)
{
    const struct rp_init_step *s = &init->steps[step];
    /* A driver without steps gives nothing for `user`: then all run in the sandbox's one cgroup. */
    if (step && !s->count)
        return ENOENT;
    for (int i = 0; i < s->count; i++)
        if (pwrite(s->fds[i], "0", 1, 0) != 1)
            return errno;
    return 0;
}
