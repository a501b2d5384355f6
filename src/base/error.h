/*
 * error.h: how a function that can fail says why.
 *
 * A fallible function returns int (0 or positive on success, negative on failure) and takes `struct rp_error
 * *err` last. On failure it fills err; on success err is untouched. err may be NULL. Nothing here allocates.
 * Any thread.
 *
 * A code maps to one HTTP status and one documented `code` in the API (docs/errors.md). The message is one
 * sentence without a final full stop that names the thing it was about, e.g.
 * `open "stacks/python/stack.json": No such file or directory`.
 */
#ifndef RP_BASE_ERROR_H
#define RP_BASE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

#include "base/cleanup.h"

/* Append only: the numbers travel between processes of different versions. */
enum rp_code {
    RP_ERROR_NONE = 0,
    RP_ERROR_INTERNAL = 1,         /* 500 internal_error: a bug, or a system call that should not fail */
    RP_ERROR_INVALID = 2,          /* 400 invalid_request */
    RP_ERROR_NOT_FOUND = 3,        /* 404 not_found */
    RP_ERROR_CONFLICT = 4,         /* 409 conflict: wrong state */
    RP_ERROR_NOT_RUNNING = 5,      /* 409 project_not_running */
    RP_ERROR_EXISTS = 6,           /* 409 already_exists */
    RP_ERROR_PRECONDITION = 7,     /* 412 precondition_failed */
    RP_ERROR_TOO_LARGE = 8,        /* 413 too_large */
    RP_ERROR_RANGE = 9,            /* 416 range_not_satisfiable */
    RP_ERROR_MEDIA_TYPE = 10,      /* 415 unsupported_media_type */
    RP_ERROR_MISDIRECTED = 11,     /* 421 unknown_host */
    RP_ERROR_TOO_MANY = 12,        /* 429 too_many_requests */
    RP_ERROR_QUOTA = 13,           /* 403 quota_exceeded */
    RP_ERROR_FORBIDDEN = 14,       /* 403 forbidden */
    RP_ERROR_UNAUTHENTICATED = 15, /* 401 unauthenticated */
    RP_ERROR_METHOD = 16,          /* 405 method_not_allowed */
    RP_ERROR_TIMEOUT = 17,         /* 504 timeout */
    RP_ERROR_UNAVAILABLE = 18,     /* 503 unavailable: try again */
    RP_ERROR_DISK_FULL = 19,       /* 507 disk_full: the project's quota or the host's reserve */
    RP_ERROR_RUNTIME = 20,       /* 503 runtime_unavailable: the OCI runtime is missing or refuses to work */
    RP_ERROR_ENVIRONMENT = 21,   /* 503 environment_missing: the stack's environment is not built */
    RP_ERROR_SANDBOX = 22,       /* 502 sandbox_failed: the sandbox broke or misbehaved */
    RP_ERROR_PROTOCOL = 23,      /* 502 protocol_error: a malformed message from a peer */
    RP_ERROR_CLOSED = 24,        /* 499 closed: the peer went away */
    RP_ERROR_NOT_SUPPORTED = 25, /* 501 not_supported */
    RP_ERROR_REQUEST_TIMEOUT = 26,   /* 408 request_timeout: the client was too slow */
    RP_ERROR_HEADERS_TOO_LARGE = 27, /* 431 headers_too_large */
    RP_ERROR_LENGTH_REQUIRED = 28,   /* 411 length_required */
    RP_ERROR_OUT_OF_MEMORY = 29,     /* 502 out_of_memory: a limit of the sandbox was hit */
    RP_ERROR_PORT_CLOSED = 30,       /* 502 port_closed: nothing listens on that port */
    RP_ERROR_UPGRADE_REQUIRED = 31,  /* 426 upgrade_required: this path speaks WebSocket */
    RP_ERROR_CODE_MAX
};

struct rp_error {
    enum rp_code code;
    int errno_value;   /* 0 when no system call was behind it */
    char message[384]; /* UTF-8, NUL-terminated, cut at a character */
    char pointer[128]; /* RFC 6901 pointer to the offending input field, or "" */
};

/* HTTP status that the API answers for the code. */
int rp_code_http_status(enum rp_code code);

/* The stable `code` string of the API, e.g. "not_found". Never NULL. */
const char *rp_code_name(enum rp_code code);

/* Fills err; always returns -1, so that `return rp_error_set(err, …)` reads well. */
int rp_error_set(struct rp_error *err, enum rp_code code, const char *format, ...) RP_PRINTF(3, 4);

/* Like rp_error_set and appends ": " strerror(errnum). errnum is positive. The code is derived from errnum
 * where a better one than `code` is known (ENOSPC and EDQUOT give RP_ERROR_DISK_FULL). */
int rp_error_errno(struct rp_error *err, enum rp_code code, int errnum, const char *format, ...)
    RP_PRINTF(4, 5);

/* An input error that names the field: pointer is an RFC 6901 JSON pointer such as "/dependencies/left-pad".
 */
int rp_error_field(struct rp_error *err, const char *pointer, const char *format, ...) RP_PRINTF(3, 4);

/* Puts context before the message that is already there: "context: message". Returns -1. */
int rp_error_prefix(struct rp_error *err, const char *format, ...) RP_PRINTF(2, 3);

#endif
