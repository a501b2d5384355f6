/* The response head parser that reads what programs in a sandbox send, and the filter of their fields. */
#include <stdlib.h>

#include "net/http_parser.h"
#include "preview/fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void each(void *ctx, struct rp_str name, struct rp_str value)
{
    check(rp_http_is_token(name));
    check(!rp_str_is_nocase(name, "content-length") && !rp_str_is_nocase(name, "transfer-encoding") &&
          !rp_str_is_nocase(name, "connection"));
    for (size_t i = 0; i < value.n; i++)
        check(value.p[i] != '\r' && value.p[i] != '\n' && value.p[i] != '\0');
    if (rp_str_is_nocase(name, "set-cookie"))
        check(!(value.n >= 4 && rp_str_is_nocase((struct rp_str){value.p, 4}, "jwt=")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rp_http_response r, again;
    struct rp_str all = {(const char *)data, size};
    const char *why = NULL;
    ssize_t n = rp_http_parse_response(all, &r, &why);
    check(n <= 0 || (size_t)n <= size);
    check(n >= 0 || why);
    if (n <= 0)
        return 0;
    check(r.status >= 100 && r.status <= 599);
    check(!(r.chunked && r.content_length >= 0) && r.content_length >= -1);
    check(rp_http_parse_response((struct rp_str){all.p, (size_t)n}, &again, &why) == n);
    check(rp_http_parse_response((struct rp_str){all.p, (size_t)n - 1}, &again, &why) == 0);
    struct rp_buf scratch;
    rp_buf_init(&scratch, RP_HTTP_HEAD_MAX);
    rp_fields_response(&r, RP_STR("3000-x.localhost"), &scratch, each, NULL);
    rp_buf_done(&scratch);
    return 0;
}
