#include "preview/host.h"

/* Splits "name:port", "name", "[v6]:port"; false when the port is malformed. */
static bool split_port(struct rp_str host, struct rp_str *ret_name)
{
    struct rp_str port;
    if (host.n && host.p[0] == '[') {
        const char *end = memchr(host.p, ']', host.n);
        if (!end)
            return false;
        size_t n = (size_t)(end - host.p) + 1;
        *ret_name = (struct rp_str){host.p, n};
        port = (struct rp_str){host.p + n, host.n - n};
        if (!port.n)
            return true;
        if (port.p[0] != ':')
            return false;
        port.p++;
        port.n--;
    } else {
        *ret_name = rp_str_cut(host, ':', &port);
        if (ret_name->n == host.n)
            return true;
    }
    uint64_t n;
    return rp_str_to_u64(port, 65535, &n);
}

/* The name ends in the domain, which a dot or nothing stands before. */
static bool cut_domain(struct rp_str name, const char *domain, struct rp_str *ret_label)
{
    size_t n = strlen(domain);
    if (name.n <= n + 1 || name.p[name.n - n - 1] != '.')
        return false;
    if (!rp_str_is_nocase((struct rp_str){name.p + name.n - n, n}, domain))
        return false;
    *ret_label = (struct rp_str){name.p, name.n - n - 1};
    return true;
}

static bool parse_label(struct rp_str label, struct rp_host *ret)
{
    struct rp_str id, digits = rp_str_cut(label, '-', &id);
    uint64_t port;
    if (digits.n == 0 || digits.n > 5 || digits.p[0] == '0' || !rp_str_to_u64(digits, 65535, &port) ||
        id.n != RP_ID_LENGTH)
        return false;
    for (size_t i = 0; i < id.n; i++)
        ret->project[i] = id.p[i] >= 'A' && id.p[i] <= 'Z' ? (char)(id.p[i] + 32) : id.p[i];
    ret->project[id.n] = '\0';
    ret->port = (uint16_t)port;
    return rp_id_valid(ret->project, id.n);
}

struct rp_host rp_host_parse(struct rp_str host, const char *domain, const char *listen)
{
    struct rp_host r = {.kind = RP_HOST_UNKNOWN};
    struct rp_str name, listen_name, label;
    if (!host.n || !split_port(host, &name) || !name.n)
        return r;
    if (rp_str_is_nocase(name, "localhost") || rp_str_is(name, "127.0.0.1") || rp_str_is(name, "[::1]")) {
        r.kind = RP_HOST_CONTROL;
        return r;
    }
    if (listen && split_port(rp_str_of(listen), &listen_name) && listen_name.n == name.n) {
        char text[256];
        if (rp_str_copy(text, sizeof(text), listen_name) && rp_str_is_nocase(name, text)) {
            r.kind = RP_HOST_CONTROL;
            return r;
        }
    }
    if (cut_domain(name, domain, &label) && parse_label(label, &r)) {
        r.kind = RP_HOST_PREVIEW;
        r.suffix = (struct rp_str){label.p + label.n, host.n - label.n};
    }
    return r;
}
