/*
 * clock.h: time. Monotonic for intervals, wall clock for records. Any thread.
 */
#ifndef RP_BASE_CLOCK_H
#define RP_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds; the same in every process until the machine restarts. */
uint64_t rp_clock_monotonic_ns(void);

/* CLOCK_REALTIME in microseconds since 1970. */
int64_t rp_clock_wall_us(void);

enum { RP_CLOCK_RFC3339_SIZE = 32 };

/* "2026-01-02T03:04:05.678Z" (RFC 3339, UTC, milliseconds). */
void rp_clock_format_rfc3339(int64_t wall_us, char ret[static RP_CLOCK_RFC3339_SIZE]);

#endif
