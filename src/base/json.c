#include "base/json.h"

#include <math.h>
#include <stdio.h>

enum { MAX_DEPTH = 64 };

struct rp_json_writer rp_json_writer(struct rp_buf *out)
{
    return (struct rp_json_writer){.out = out};
}

static void put(struct rp_json_writer *w, const char *p, size_t n)
{
    if (!w->failed && !rp_buf_append(w->out, p, n))
        w->failed = true;
}

static void separate(struct rp_json_writer *w)
{
    if (w->comma)
        put(w, ",", 1);
    w->comma = true;
}

void rp_json_open_object(struct rp_json_writer *w)
{
    separate(w);
    put(w, "{", 1);
    w->comma = false;
}

void rp_json_close_object(struct rp_json_writer *w)
{
    put(w, "}", 1);
    w->comma = true;
}

void rp_json_open_array(struct rp_json_writer *w)
{
    separate(w);
    put(w, "[", 1);
    w->comma = false;
}

void rp_json_close_array(struct rp_json_writer *w)
{
    put(w, "]", 1);
    w->comma = true;
}

/* Length of the well-formed UTF-8 sequence at p, or 0. */
static size_t sequence_length(const char *p, size_t left)
{
    unsigned char c = (unsigned char)*p;
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    return n <= left && rp_utf8_valid(p, n) ? n : 0;
}

static void put_quoted(struct rp_json_writer *w, struct rp_str s)
{
    put(w, "\"", 1);
    size_t plain = 0;
    for (size_t i = 0; i < s.n;) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            i++;
            continue;
        }
        size_t n = c >= 0x80 ? sequence_length(s.p + i, s.n - i) : 0;
        if (n) {
            i += n;
            continue;
        }
        put(w, s.p + plain, i - plain);
        char escaped[8];
        int len;
        if (c == '"' || c == '\\')
            len = snprintf(escaped, sizeof(escaped), "\\%c", c);
        else if (c == '\n')
            len = snprintf(escaped, sizeof(escaped), "\\n");
        else if (c < 0x20)
            len = snprintf(escaped, sizeof(escaped), "\\u%04x", c);
        else
            len = snprintf(escaped, sizeof(escaped), "\xef\xbf\xbd");
        put(w, escaped, (size_t)len);
        plain = ++i;
    }
    put(w, s.p + plain, s.n - plain);
    put(w, "\"", 1);
}

void rp_json_key_str(struct rp_json_writer *w, struct rp_str key)
{
    separate(w);
    put_quoted(w, key);
    put(w, ":", 1);
    w->comma = false;
}

void rp_json_key(struct rp_json_writer *w, const char *key)
{
    rp_json_key_str(w, rp_str_of(key));
}

void rp_json_string(struct rp_json_writer *w, struct rp_str value)
{
    separate(w);
    put_quoted(w, value);
}

void rp_json_raw(struct rp_json_writer *w, struct rp_str json)
{
    separate(w);
    put(w, json.p, json.n);
}

static void put_number(struct rp_json_writer *w, const char *text)
{
    separate(w);
    put(w, text, strlen(text));
}

void rp_json_int(struct rp_json_writer *w, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    put_number(w, text);
}

void rp_json_uint(struct rp_json_writer *w, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    put_number(w, text);
}

void rp_json_double(struct rp_json_writer *w, double value)
{
    char text[40];
    if (!isfinite(value)) {
        rp_json_null(w);
        return;
    }
    snprintf(text, sizeof(text), "%.9g", value);
    put_number(w, text);
}

void rp_json_bool(struct rp_json_writer *w, bool value)
{
    put_number(w, value ? "true" : "false");
}

void rp_json_null(struct rp_json_writer *w)
{
    put_number(w, "null");
}

void rp_json_field_string(struct rp_json_writer *w, const char *key, const char *value)
{
    rp_json_key(w, key);
    if (value)
        rp_json_string(w, rp_str_of(value));
    else
        rp_json_null(w);
}

void rp_json_field_str(struct rp_json_writer *w, const char *key, struct rp_str value)
{
    rp_json_key(w, key);
    rp_json_string(w, value);
}

void rp_json_field_int(struct rp_json_writer *w, const char *key, int64_t value)
{
    rp_json_key(w, key);
    rp_json_int(w, value);
}

void rp_json_field_uint(struct rp_json_writer *w, const char *key, uint64_t value)
{
    rp_json_key(w, key);
    rp_json_uint(w, value);
}

void rp_json_field_bool(struct rp_json_writer *w, const char *key, bool value)
{
    rp_json_key(w, key);
    rp_json_bool(w, value);
}

/* jansson's own depth limit is 2,048, which would recurse too far for us later. */
static bool too_deep(struct rp_str text)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > MAX_DEPTH)
                return true;
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
    return false;
}

int rp_json_parse(struct rp_str text, json_t **ret, struct rp_error *err)
{
    json_error_t why;
    if (too_deep(text))
        return rp_error_set(err, RP_ERROR_INVALID, "JSON is nested deeper than %d levels", MAX_DEPTH);
    json_t *j = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!j)
        return rp_error_set(err, RP_ERROR_INVALID, "the body is not valid JSON: line %d, column %d: %s",
                            why.line, why.column, why.text);
    *ret = j;
    return 0;
}

int rp_json_parse_object(struct rp_str text, json_t **ret, struct rp_error *err)
{
    json_t *j;
    if (rp_json_parse(text, &j, err) < 0)
        return -1;
    if (!json_is_object(j)) {
        json_decref(j);
        return rp_error_set(err, RP_ERROR_INVALID, "the body is not a JSON object");
    }
    *ret = j;
    return 0;
}

void rp_json_pointer(char *dst, size_t cap, const char *pointer, const char *key)
{
    size_t n = (size_t)snprintf(dst, cap, "%s/", pointer);
    for (; *key && n + 3 < cap; key++) {
        if (*key == '~' || *key == '/') {
            dst[n++] = '~';
            dst[n++] = *key == '~' ? '0' : '1';
        } else {
            dst[n++] = *key;
        }
    }
    if (n < cap)
        dst[n] = '\0';
}

static int wrong(const char *pointer, const char *key, const char *what, struct rp_error *err)
{
    char at[128];
    rp_json_pointer(at, sizeof(at), pointer, key);
    return rp_error_field(err, at, "\"%s\" %s", key, what);
}

int rp_json_get_str(json_t *obj, const char *pointer, const char *key, size_t max_bytes, struct rp_str *ret,
                    struct rp_error *err)
{
    json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_string(v))
        return wrong(pointer, key, "must be a string", err);
    if (json_string_length(v) > max_bytes) {
        char what[64];
        snprintf(what, sizeof(what), "is longer than %zu bytes", max_bytes);
        return wrong(pointer, key, what, err);
    }
    *ret = (struct rp_str){json_string_value(v), json_string_length(v)};
    return 1;
}

int rp_json_get_int(json_t *obj, const char *pointer, const char *key, int64_t min, int64_t max, int64_t *ret,
                    struct rp_error *err)
{
    json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max) {
        char what[96];
        snprintf(what, sizeof(what), "must be a whole number from %lld to %lld", (long long)min,
                 (long long)max);
        return wrong(pointer, key, what, err);
    }
    *ret = json_integer_value(v);
    return 1;
}

int rp_json_get_double(json_t *obj, const char *pointer, const char *key, double min, double max, double *ret,
                       struct rp_error *err)
{
    json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_number(v) || json_number_value(v) < min || json_number_value(v) > max) {
        char what[96];
        snprintf(what, sizeof(what), "must be a number from %g to %g", min, max);
        return wrong(pointer, key, what, err);
    }
    *ret = json_number_value(v);
    return 1;
}

int rp_json_get_bool(json_t *obj, const char *pointer, const char *key, bool *ret, struct rp_error *err)
{
    json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_boolean(v))
        return wrong(pointer, key, "must be true or false", err);
    *ret = json_is_true(v);
    return 1;
}

int rp_json_get_object(json_t *obj, const char *pointer, const char *key, json_t **ret, struct rp_error *err)
{
    json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_object(v))
        return wrong(pointer, key, "must be an object", err);
    *ret = v;
    return 1;
}

int rp_json_get_array(json_t *obj, const char *pointer, const char *key, json_t **ret, struct rp_error *err)
{
    json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_array(v))
        return wrong(pointer, key, "must be an array", err);
    *ret = v;
    return 1;
}

int rp_json_only_keys(json_t *obj, const char *pointer, const char *const *allowed, struct rp_error *err)
{
    const char *key;
    json_t *v;
    json_object_foreach(obj, key, v)
    {
        const char *const *a = allowed;
        while (*a && strcmp(*a, key) != 0)
            a++;
        if (!*a)
            return wrong(pointer, key, "is not a known field", err);
    }
    return 0;
}
