/*
 * network_world.h: a world for the network's tests. The test process becomes a "host" in network and mount
 * namespaces of its own, so that nothing collides with the machine or with a parallel run; behind its uplink
 * (MTU 1400) is a second namespace with the internet, a resolver, a metadata service and a private network.
 * A child process serves there: TCP and UDP on port 8080 of every address, DNS's ports on the resolver.
 */
#ifndef RP_TESTS_NETWORK_WORLD_H
#define RP_TESTS_NETWORK_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WORLD_HOST     "203.0.113.1" /* the host's own address */
#define WORLD_INTERNET "203.0.113.80"
#define WORLD_OTHER    "203.0.113.81"
#define WORLD_RESOLVER "10.255.255.53"
#define WORLD_METADATA "169.254.169.254"
#define WORLD_PRIVATE  "10.1.2.3"
#define WORLD_PORT     8080

struct world {
    char runtime_dir[64];
    pid_t server;
    int netns;               /* of the world */
    volatile uint32_t *seen; /* packets and connections that reached port 8080 of the world */
};

/* Returns false (and says why) when it cannot be made: the test then fails. */
bool world_open(struct world *w);
void world_close(struct world *w);

/* Runs a program with fixed arguments and waits; its exit status. */
int run_program(const char *const argv[]);
#define RUN(...) run_program((const char *const[]){__VA_ARGS__, NULL})

/* Each enters the namespace at `netns` (NULL: the host's) in a child of its own, and says whether an answer
 * came within the time. source: NULL, or the address to send from. */
bool reaches_tcp(const char *netns, const char *address, uint16_t port, int milliseconds);
bool reaches_udp(const char *netns, const char *source, const char *address, uint16_t port, int milliseconds);

/* A child that listens on TCP port of every address in the namespace, answering each connection. */
pid_t listen_in(const char *netns, uint16_t port, uid_t uid);
void stop_child(pid_t pid);

/* In a child: dies with the test and keeps only these descriptors; an inherited lock would outlive its owner.
 */
void child_keeps(int a, int b);

/* Runs fn(ctx) in a child inside the namespace; its return value (0 to 125). */
int call_in(const char *netns, int (*fn)(void *ctx), void *ctx);

#endif
