#include "sandbox/oci/host_limits.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

/* Instances cost next to nothing; some are left to the host. Watches are bounded as the kernel itself bounds them on a
 * large machine: sixteen sandboxes that use up all of theirs leave the rest less than they may have. */
enum { HOST_INSTANCES = 1024, WATCHES_MAX = 1 << 20 };

static int raise_to(const char *path, uint64_t wanted, struct rp_error *err)
{
    char text[32] = "";
    uint64_t now;
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
    if (n > 0 && rp_str_to_u64((struct rp_str){text, strcspn(text, "\n")}, UINT64_MAX, &now) && now >= wanted)
        return 0;
    int length = snprintf(text, sizeof(text), "%llu", (unsigned long long)wanted);
    if (fd < 0 || pwrite(fd, text, (size_t)length, 0) != length)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "raise \"%s\" to %s", path, text);
    return 0;
}

int rp_host_limits_raise(uint32_t max_sandboxes, struct rp_error *err)
{
    uint64_t users = (uint64_t)max_sandboxes * 2;
    uint64_t watches = RP_MIN(users * RP_INOTIFY_WATCHES, (uint64_t)WATCHES_MAX);
    if (raise_to("/proc/sys/fs/inotify/max_user_instances", users * RP_INOTIFY_INSTANCES + HOST_INSTANCES, err) < 0)
        return -1;
    return raise_to("/proc/sys/fs/inotify/max_user_watches", watches, err);
}
