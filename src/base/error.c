#include "base/error.h"

#include <stdio.h>
#include <string.h>

static const struct {
    int status;
    const char *name;
} codes[RP_ERROR_CODE_MAX] = {
    [RP_ERROR_NONE] = {200, "ok"},
    [RP_ERROR_INTERNAL] = {500, "internal_error"},
    [RP_ERROR_INVALID] = {400, "invalid_request"},
    [RP_ERROR_NOT_FOUND] = {404, "not_found"},
    [RP_ERROR_CONFLICT] = {409, "conflict"},
    [RP_ERROR_NOT_RUNNING] = {409, "project_not_running"},
    [RP_ERROR_EXISTS] = {409, "already_exists"},
    [RP_ERROR_PRECONDITION] = {412, "precondition_failed"},
    [RP_ERROR_TOO_LARGE] = {413, "too_large"},
    [RP_ERROR_RANGE] = {416, "range_not_satisfiable"},
    [RP_ERROR_MEDIA_TYPE] = {415, "unsupported_media_type"},
    [RP_ERROR_MISDIRECTED] = {421, "unknown_host"},
    [RP_ERROR_TOO_MANY] = {429, "too_many_requests"},
    [RP_ERROR_QUOTA] = {403, "quota_exceeded"},
    [RP_ERROR_FORBIDDEN] = {403, "forbidden"},
    [RP_ERROR_UNAUTHENTICATED] = {401, "unauthenticated"},
    [RP_ERROR_METHOD] = {405, "method_not_allowed"},
    [RP_ERROR_TIMEOUT] = {504, "timeout"},
    [RP_ERROR_UNAVAILABLE] = {503, "unavailable"},
    [RP_ERROR_DISK_FULL] = {507, "disk_full"},
    [RP_ERROR_RUNTIME] = {503, "runtime_unavailable"},
    [RP_ERROR_ENVIRONMENT] = {503, "environment_missing"},
    [RP_ERROR_SANDBOX] = {502, "sandbox_failed"},
    [RP_ERROR_PROTOCOL] = {502, "protocol_error"},
    [RP_ERROR_CLOSED] = {499, "closed"},
    [RP_ERROR_NOT_SUPPORTED] = {501, "not_supported"},
    [RP_ERROR_REQUEST_TIMEOUT] = {408, "request_timeout"},
    [RP_ERROR_HEADERS_TOO_LARGE] = {431, "headers_too_large"},
    [RP_ERROR_LENGTH_REQUIRED] = {411, "length_required"},
    [RP_ERROR_OUT_OF_MEMORY] = {502, "out_of_memory"},
    [RP_ERROR_PORT_CLOSED] = {502, "port_closed"},
    [RP_ERROR_UPGRADE_REQUIRED] = {426, "upgrade_required"},
};

int rp_code_http_status(enum rp_code code)
{
    return (unsigned)code < RP_ERROR_CODE_MAX ? codes[code].status : 500;
}

const char *rp_code_name(enum rp_code code)
{
    return (unsigned)code < RP_ERROR_CODE_MAX ? codes[code].name : "internal_error";
}

/* A cut message must not end in half a UTF-8 sequence, since it is sent as JSON. */
static void trim_partial_character(char *s, size_t cap)
{
    size_t n = strlen(s);
    if (n + 1 < cap)
        return;
    size_t i = n;
    while (i > 0 && ((unsigned char)s[i - 1] & 0xc0) == 0x80)
        i--;
    if (i > 0 && (unsigned char)s[i - 1] >= 0xc0)
        s[i - 1] = '\0';
}

static void fill(struct rp_error *err, enum rp_code code, int errnum, const char *format, va_list ap)
{
    err->code = code;
    err->errno_value = errnum;
    err->pointer[0] = '\0';
    vsnprintf(err->message, sizeof(err->message), format, ap);
    if (errnum > 0) {
        size_t n = strlen(err->message);
        snprintf(err->message + n, sizeof(err->message) - n, ": %s",
                 strerrordesc_np(errnum) ?: "unknown error");
    }
    trim_partial_character(err->message, sizeof(err->message));
}

int rp_error_set(struct rp_error *err, enum rp_code code, const char *format, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, format);
        fill(err, code, 0, format, ap);
        va_end(ap);
    }
    return -1;
}

int rp_error_errno(struct rp_error *err, enum rp_code code, int errnum, const char *format, ...)
{
    if (errnum == ENOSPC || errnum == EDQUOT)
        code = RP_ERROR_DISK_FULL;
    if (err) {
        va_list ap;
        va_start(ap, format);
        fill(err, code, errnum, format, ap);
        va_end(ap);
    }
    return -1;
}

int rp_error_field(struct rp_error *err, const char *pointer, const char *format, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, format);
        fill(err, RP_ERROR_INVALID, 0, format, ap);
        va_end(ap);
        snprintf(err->pointer, sizeof(err->pointer), "%s", pointer);
        trim_partial_character(err->pointer, sizeof(err->pointer));
    }
    return -1;
}

int rp_error_prefix(struct rp_error *err, const char *format, ...)
{
    if (err) {
        char prefix[sizeof(err->message)], old[sizeof(err->message)];
        va_list ap;
        va_start(ap, format);
        vsnprintf(prefix, sizeof(prefix), format, ap);
        va_end(ap);
        memcpy(old, err->message, sizeof(old));
        int n = snprintf(err->message, sizeof(err->message), "%.180s: ", prefix);
        snprintf(err->message + n, sizeof(err->message) - (size_t)n, "%s", old);
        trim_partial_character(err->message, sizeof(err->message));
    }
    return -1;
}
