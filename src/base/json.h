/*
 * json.h: JSON (RFC 8259) at the edge: a streaming writer of ours, and decoding with jansson.
 *
 * Decoding helpers take the parent's JSON pointer so that an error names the field. Nothing decoded travels
 * further in than the function that decodes. Any thread, one owner.
 */
#ifndef RP_BASE_JSON_H
#define RP_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

/*
 * Writer. Commas and colons are its own business; the caller opens and closes in order. Writing past the
 * buffer's cap sets `failed`, which the caller checks once at the end. Invalid UTF-8 is written as U+FFFD.
 */
struct rp_json_writer {
    struct rp_buf *out;
    bool failed;
    bool comma;
};

struct rp_json_writer rp_json_writer(struct rp_buf *out);
void rp_json_open_object(struct rp_json_writer *w);
void rp_json_close_object(struct rp_json_writer *w);
void rp_json_open_array(struct rp_json_writer *w);
void rp_json_close_array(struct rp_json_writer *w);
void rp_json_key(struct rp_json_writer *w, const char *key);
void rp_json_key_str(struct rp_json_writer *w, struct rp_str key);
void rp_json_string(struct rp_json_writer *w, struct rp_str value);
void rp_json_int(struct rp_json_writer *w, int64_t value);
void rp_json_uint(struct rp_json_writer *w, uint64_t value);
void rp_json_double(struct rp_json_writer *w, double value);
void rp_json_bool(struct rp_json_writer *w, bool value);
void rp_json_null(struct rp_json_writer *w);
/* Bytes that already are one JSON value. */
void rp_json_raw(struct rp_json_writer *w, struct rp_str json);

/* key and value at once. A NULL `value` of rp_json_field_string writes null. */
void rp_json_field_string(struct rp_json_writer *w, const char *key, const char *value);
void rp_json_field_str(struct rp_json_writer *w, const char *key, struct rp_str value);
void rp_json_field_int(struct rp_json_writer *w, const char *key, int64_t value);
void rp_json_field_uint(struct rp_json_writer *w, const char *key, uint64_t value);
void rp_json_field_bool(struct rp_json_writer *w, const char *key, bool value);

static inline void rp_json_done(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}
#define _cleanup_json_ _cleanup_(rp_json_done)

/*
 * Parses one value: duplicate keys, invalid UTF-8, trailing bytes and nesting deeper than 64 are refused; so
 * are strings with NUL. The caller releases *ret with json_decref.
 */
int rp_json_parse(struct rp_str text, json_t **ret, struct rp_error *err) RP_MUST_CHECK;

/* As rp_json_parse, and the value must be an object. */
int rp_json_parse_object(struct rp_str text, json_t **ret, struct rp_error *err) RP_MUST_CHECK;

/*
 * Field access: 1 when the field is there (and not null), 0 when it is absent or null (*ret untouched), -1
 * with err when its type or range is wrong. The view points into obj. `pointer` is obj's own pointer, "" at
 * the root.
 */
int rp_json_get_str(json_t *obj, const char *pointer, const char *key, size_t max_bytes, struct rp_str *ret,
                    struct rp_error *err) RP_MUST_CHECK;
int rp_json_get_int(json_t *obj, const char *pointer, const char *key, int64_t min, int64_t max, int64_t *ret,
                    struct rp_error *err) RP_MUST_CHECK;
int rp_json_get_double(json_t *obj, const char *pointer, const char *key, double min, double max, double *ret,
                       struct rp_error *err) RP_MUST_CHECK;
int rp_json_get_bool(json_t *obj, const char *pointer, const char *key, bool *ret,
                     struct rp_error *err) RP_MUST_CHECK;
int rp_json_get_object(json_t *obj, const char *pointer, const char *key, json_t **ret,
                       struct rp_error *err) RP_MUST_CHECK;
int rp_json_get_array(json_t *obj, const char *pointer, const char *key, json_t **ret,
                      struct rp_error *err) RP_MUST_CHECK;

/* -1 when obj has a key that is not in `allowed` (NULL-terminated); the error points to it. */
int rp_json_only_keys(json_t *obj, const char *pointer, const char *const *allowed,
                      struct rp_error *err) RP_MUST_CHECK;

/* "pointer/key" with RFC 6901 escapes, cut to cap. */
void rp_json_pointer(char *dst, size_t cap, const char *pointer, const char *key);

#endif
