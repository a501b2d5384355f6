/*
 * random.h: unpredictable bytes from the kernel (getrandom(2)); aborts when it cannot give any. Any thread.
 */
#ifndef RP_BASE_RANDOM_H
#define RP_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

void rp_random_bytes(void *p, size_t n);

/*
 * Ids of projects, sandboxes, terminals: 16 random characters of [a-z0-9] (82 bits), NUL-terminated. They are
 * safe in URLs, host name labels, file names and cgroup names.
 */
enum { RP_ID_LENGTH = 16, RP_ID_SIZE = 17 };
void rp_random_id(char ret[static RP_ID_SIZE]);

/* True for exactly RP_ID_LENGTH characters of [a-z0-9]. */
int rp_id_valid(const char *p, size_t n);

#endif
