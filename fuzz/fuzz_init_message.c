/* What init makes of any message: it is refused, or every field is in its limits and every view in the
 * message. */
#include <stdlib.h>

#include "init/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t touched;

static void touch(struct rp_str s)
{
    for (size_t i = 0; i < s.n; i++)
        touched += (unsigned char)s.p[i];
}

static void check(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rp_init_request q;
    for (int with_fd = 0; with_fd < 2; with_fd++) {
        int refused = rp_init_decode(data, size, with_fd, &q);
        if (refused < 0)
            continue;
        check(q.tag != 0 && size >= RP_WIRE_HEADER_SIZE && (with_fd == (q.type == RP_INIT_CGROUP)));
        if (refused > 0)
            continue;
        if (q.type == RP_INIT_SPAWN) {
            check(q.spawn.id && q.spawn.argc >= 1 && q.spawn.argc <= RP_INIT_ARGV_MAX &&
                  q.spawn.envc <= RP_INIT_ENV_MAX && q.spawn.label.n <= RP_INIT_LABEL_MAX &&
                  q.spawn.cwd.n <= RP_INIT_CWD_MAX && q.spawn.step < RP_INIT_STEPS_MAX);
            for (uint32_t i = 0; i < q.spawn.argc; i++)
                touch(q.spawn.argv[i]);
            for (uint32_t i = 0; i < q.spawn.envc; i++)
                touch(q.spawn.env[i]);
            touch(q.spawn.cwd);
            touch(q.spawn.label);
        } else if (q.type == RP_INIT_SIGNAL) {
            check(q.signal.signal >= 1 && q.signal.signal <= 64 && q.signal.target <= RP_SIGNAL_SESSION);
        } else if (q.type == RP_INIT_CGROUP || q.type == RP_INIT_CGROUP_DROP) {
            check(q.step < RP_INIT_STEPS_MAX);
        } else if (q.type == RP_INIT_CONNECT) {
            check((q.connect.family == 4 || q.connect.family == 6) && q.connect.port);
        }
    }
    return 0;
}
