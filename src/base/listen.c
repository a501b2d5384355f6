#include "base/listen.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/str.h"

static void add_ipv4(struct rp_listen *l, struct in_addr a)
{
    struct sockaddr_in *s = (struct sockaddr_in *)&l->addresses[l->count];
    *s = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = a, .sin_port = htons(l->port)};
    l->lengths[l->count++] = sizeof(*s);
    l->loopback = l->loopback && (ntohl(a.s_addr) >> 24) == 127;
}

static void add_ipv6(struct rp_listen *l, const struct in6_addr *a)
{
    struct sockaddr_in6 *s = (struct sockaddr_in6 *)&l->addresses[l->count];
    *s = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = *a, .sin6_port = htons(l->port)};
    l->lengths[l->count++] = sizeof(*s);
    l->loopback = l->loopback && IN6_IS_ADDR_LOOPBACK(a);
}

int rp_listen_parse(const char *text, struct rp_listen *ret, struct rp_error *err)
{
    struct rp_listen l = {.loopback = true};
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || !rp_str_to_u64(rp_str_of(colon + 1), 65535, &port))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not HOST:PORT", text);
    l.port = (uint16_t)port;

    struct rp_str host = {text, (size_t)(colon - text)};
    bool brackets = host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (brackets)
        host = (struct rp_str){host.p + 1, host.n - 2};
    char name[INET6_ADDRSTRLEN + 1];
    struct in_addr v4;
    struct in6_addr v6;
    if (!rp_str_copy(name, sizeof(name), host))
        name[0] = '\0';
    if (!brackets && rp_str_is_nocase(host, "localhost")) {
        add_ipv4(&l, (struct in_addr){htonl(INADDR_LOOPBACK)});
        add_ipv6(&l, &in6addr_loopback);
    } else if (!brackets && inet_pton(AF_INET, name, &v4) == 1) {
        add_ipv4(&l, v4);
    } else if (brackets && inet_pton(AF_INET6, name, &v6) == 1) {
        add_ipv6(&l, &v6);
    } else {
        return rp_error_set(
            err, RP_ERROR_INVALID,
            "\"%.*s\" is neither an IPv4 address, nor an IPv6 address in brackets, nor localhost",
            (int)RP_MIN(host.n, (size_t)100), host.p);
    }
    *ret = l;
    return 0;
}
