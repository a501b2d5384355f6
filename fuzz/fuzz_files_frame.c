/* What the server makes of any bytes from a file helper: it waits, refuses, or takes a frame that is sane. */
#include <stdlib.h>

#include "runner/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void inside(struct rp_str s, struct rp_str payload)
{
    check(!s.n || (s.p >= payload.p && s.p + s.n <= payload.p + payload.n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rp_str rest = {(const char *)data, size};
    for (;;) {
        struct rp_files_frame f;
        ssize_t n = rp_files_decode(rest, &f);
        if (n <= 0)
            return 0;
        check((size_t)n <= rest.n && (size_t)n == f.payload.n + RP_FILES_HEADER_SIZE);
        inside(f.payload, rest);
        if (f.type == RP_FILES_ENTRY) {
            inside(f.entry.path, f.payload);
            inside(f.entry.target, f.payload);
            inside(f.entry.etag, f.payload);
            check(!f.entry.path.n || f.entry.path.p[0] != '/');
            check(f.entry.size <= INT64_MAX && f.entry.mode <= 07777);
        } else if (f.type == RP_FILES_ERROR) {
            struct rp_error err;
            inside(f.error.message, f.payload);
            check(rp_files_explain(&err, (int)f.error.errnum, f.error.message) == -1);
            check(rp_utf8_valid(err.message, strlen(err.message)));
        } else if (f.type == RP_FILES_MATCH) {
            inside(f.match.path, f.payload);
            inside(f.match.text, f.payload);
        } else if (f.type == RP_FILES_EVENT) {
            inside(f.event.path, f.payload);
            inside(f.event.to, f.payload);
        }
        rest.p += n;
        rest.n -= (size_t)n;
    }
}
