/*
 * log.h: one line an event on standard error, "time level event key=value …" or JSON.
 *
 * Library code returns errors and never logs; the edges (main, request handling, the reaper) log. No secret,
 * token, cookie or file content ever enters it. Each line is one write(2). Any thread after rp_log_open.
 */
#ifndef RP_BASE_LOG_H
#define RP_BASE_LOG_H

#include <stdbool.h>

#include "base/error.h"

enum rp_log_level { RP_LOG_DEBUG, RP_LOG_INFO, RP_LOG_WARNING, RP_LOG_ERROR };

/* component is a static string, e.g. "gateway". Called once, before any thread is made. */
void rp_log_open(const char *component, enum rp_log_level minimum, bool json);

bool rp_log_enabled(enum rp_log_level level);

/*
 * event is a short lower-case phrase; the rest are pairs of (const char *key, const char *value), ended by
 * NULL. A NULL value leaves the pair out. Values are escaped, and cut at 1 KiB.
 */
void rp_log(enum rp_log_level level, const char *event, ...) __attribute__((sentinel));

#endif
