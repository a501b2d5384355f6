/* init_client.h: a blocking client of repld-init for tests. Every wait fails the test after 10 s. */
#ifndef RP_TESTS_INIT_CLIENT_H
#define RP_TESTS_INIT_CLIENT_H

#include <stddef.h>
#include <stdint.h>

struct ended {
    int code, signal;
    char output[32768]; /* stdout and stderr, NUL-terminated */
};

/* Says HELLO on a fresh connection. */
void init_client_hello(int connection);

/* Spawns in a step; returns the id's output pipe. */
int init_client_spawn(int connection, uint64_t id, uint32_t step, const char *const *argv);

/* Spawns, reads all output, waits for the end, forgets. */
void init_client_run(int connection, uint32_t step, const char *const *argv, struct ended *ret);

#endif
