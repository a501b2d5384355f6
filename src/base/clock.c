#include "base/clock.h"

#include <stdio.h>
#include <time.h>

uint64_t rp_clock_monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t rp_clock_wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void rp_clock_format_rfc3339(int64_t wall_us, char ret[static RP_CLOCK_RFC3339_SIZE])
{
    time_t s = (time_t)(wall_us / 1000000);
    struct tm tm;
    gmtime_r(&s, &tm);
    size_t n = strftime(ret, RP_CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret + n, RP_CLOCK_RFC3339_SIZE - n, ".%03dZ", (int)(wall_us / 1000 % 1000));
}
