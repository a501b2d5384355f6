/* files_http.c: the fields of HTTP that files need: entity tags, ranges, media types. Pure (files_op.h). */
#include <string.h>

#include "api/files_op.h"

/* ---- media types ---- */

const char *rp_media_type(struct rp_str path)
{
    static const struct {
        const char *extension, *type;
    } table[] = {
        {"avif", "image/avif"},
        {"css", "text/css; charset=utf-8"},
        {"csv", "text/csv; charset=utf-8"},
        {"gif", "image/gif"},
        {"gz", "application/gzip"},
        {"htm", "text/html; charset=utf-8"},
        {"html", "text/html; charset=utf-8"},
        {"ico", "image/x-icon"},
        {"jpeg", "image/jpeg"},
        {"jpg", "image/jpeg"},
        {"js", "text/javascript; charset=utf-8"},
        {"json", "application/json"},
        {"jsx", "text/plain; charset=utf-8"},
        {"md", "text/markdown; charset=utf-8"},
        {"mjs", "text/javascript; charset=utf-8"},
        {"mp3", "audio/mpeg"},
        {"mp4", "video/mp4"},
        {"ogg", "audio/ogg"},
        {"pdf", "application/pdf"},
        {"png", "image/png"},
        {"py", "text/plain; charset=utf-8"},
        {"svg", "image/svg+xml"},
        {"tar", "application/x-tar"},
        {"toml", "text/plain; charset=utf-8"},
        {"ts", "text/plain; charset=utf-8"},
        {"tsx", "text/plain; charset=utf-8"},
        {"txt", "text/plain; charset=utf-8"},
        {"wasm", "application/wasm"},
        {"wav", "audio/wav"},
        {"webm", "video/webm"},
        {"webp", "image/webp"},
        {"woff2", "font/woff2"},
        {"xml", "text/xml; charset=utf-8"},
        {"yaml", "text/plain; charset=utf-8"},
        {"yml", "text/plain; charset=utf-8"},
        {"zip", "application/zip"},
    };
    size_t at = path.n;
    while (at && path.p[at - 1] != '.' && path.p[at - 1] != '/')
        at--;
    if (at && path.p[at - 1] == '.') {
        struct rp_str extension = {path.p + at, path.n - at};
        for (size_t i = 0; i < RP_ARRAY_SIZE(table); i++)
            if (rp_str_is_nocase(extension, table[i].extension))
                return table[i].type;
    }
    return "application/octet-stream";
}

/* ---- entity tags ---- */

/* Takes the next tag of a list off *rest: 1 a tag (without quotes), 0 the end, -1 malformed. */
static int next_tag(struct rp_str *rest, struct rp_str *ret, bool *ret_weak)
{
    struct rp_str s = rp_str_trim(*rest);
    while (s.n && s.p[0] == ',')
        s = rp_str_trim((struct rp_str){s.p + 1, s.n - 1});
    if (!s.n)
        return 0;
    *ret_weak = rp_str_starts(s, "W/");
    if (*ret_weak)
        s = (struct rp_str){s.p + 2, s.n - 2};
    if (s.n < 2 || s.p[0] != '"')
        return -1;
    const char *end = memchr(s.p + 1, '"', s.n - 1);
    if (!end)
        return -1;
    *ret = (struct rp_str){s.p + 1, (size_t)(end - s.p) - 1};
    *rest = (struct rp_str){end + 1, s.n - ret->n - 2};
    return 1;
}

bool rp_etag_listed(struct rp_str field, struct rp_str etag, bool weak)
{
    struct rp_str tag;
    bool is_weak;
    field = rp_str_trim(field);
    if (rp_str_is(field, "*"))
        return true;
    while (next_tag(&field, &tag, &is_weak) == 1)
        if (rp_str_equal(tag, etag) && (weak || !is_weak))
            return true;
    return false;
}

bool rp_etag_single(struct rp_str field, struct rp_str *ret)
{
    struct rp_str other;
    bool weak, other_weak;
    return next_tag(&field, ret, &weak) == 1 && !weak && next_tag(&field, &other, &other_weak) == 0;
}

/* ---- ranges ---- */

enum rp_range_result rp_range_parse(struct rp_str field, uint64_t *ret_first, uint64_t *ret_length)
{
    struct rp_str last, unit = rp_str_cut(rp_str_trim(field), '=', &last);
    if (!rp_str_is_nocase(rp_str_trim(unit), "bytes") || !last.n || memchr(last.p, ',', last.n))
        return RP_RANGE_NONE;
    if (!memchr(last.p, '-', last.n))
        return RP_RANGE_NONE;
    struct rp_str first = rp_str_trim(rp_str_cut(rp_str_trim(last), '-', &last));
    last = rp_str_trim(last);
    uint64_t a, b;
    if (!first.n) {
        if (!rp_str_to_u64(last, INT64_MAX, &b))
            return RP_RANGE_NONE;
        *ret_length = b;
        return RP_RANGE_SUFFIX;
    }
    if (!rp_str_to_u64(first, INT64_MAX, &a))
        return RP_RANGE_NONE;
    *ret_first = a;
    *ret_length = UINT64_MAX;
    if (last.n) {
        if (!rp_str_to_u64(last, INT64_MAX, &b) || b < a)
            return RP_RANGE_NONE;
        *ret_length = b - a + 1;
    }
    return RP_RANGE_ONE;
}

/* ---- percent-encoding ---- */

bool rp_percent_encode(struct rp_buf *out, struct rp_str s)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '.' || c == '_' || c == '~' || c == '/';
        char escaped[3] = {'%', hex[c >> 4], hex[c & 15]};
        if (!(plain ? rp_buf_append(out, s.p + i, 1) : rp_buf_append(out, escaped, sizeof(escaped))))
            return false;
    }
    return true;
}
