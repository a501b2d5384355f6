/*
 * network.c: a project's network policy, from and to JSON.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "domain/network.h"

static int parse_cidr(struct rp_str text, struct rp_cidr *ret, const char *pointer, struct rp_error *err)
{
    struct rp_str length, address = rp_str_cut(text, '/', &length);
    char plain[INET_ADDRSTRLEN];
    struct in_addr a;
    uint64_t prefix = 32;
    if (!rp_str_copy(plain, sizeof plain, address) || inet_pton(AF_INET, plain, &a) != 1 ||
        (address.n != text.n && !rp_str_to_u64(length, 32, &prefix)))
        return rp_error_field(err, pointer, "must be an IPv4 range such as 203.0.113.0/24");
    ret->address = ntohl(a.s_addr);
    ret->prefix = (uint8_t)prefix;
    uint32_t mask = prefix ? ~0U << (32 - prefix) : 0;
    if (ret->address & ~mask)
        return rp_error_field(err, pointer, "has bits set behind its prefix length");
    return 0;
}

static int parse_allow(json_t *object, const char *pointer, struct rp_network_policy *policy,
                       struct rp_error *err)
{
    json_t *allow = NULL;
    int there = rp_json_get_array(object, pointer, "allow", &allow, err);
    if (there < 0)
        return -1;
    char at[128];
    rp_json_pointer(at, sizeof at, pointer, "allow");
    if (policy->mode != RP_NETWORK_ALLOW)
        return there ? rp_error_field(err, at, "belongs to the mode \"allow\" only") : 0;
    if (!there || json_array_size(allow) == 0)
        return rp_error_field(err, at, "the mode \"allow\" needs at least one range");
    if (json_array_size(allow) > RP_ALLOWED_CIDRS_MAX)
        return rp_error_field(err, at, "more than %d ranges", RP_ALLOWED_CIDRS_MAX);
    for (size_t i = 0; i < json_array_size(allow); i++) {
        char index[24], item[128];
        snprintf(index, sizeof index, "%zu", i);
        rp_json_pointer(item, sizeof item, at, index);
        json_t *j = json_array_get(allow, i);
        if (!json_is_string(j))
            return rp_error_field(err, item, "must be a string");
        if (parse_cidr((struct rp_str){json_string_value(j), json_string_length(j)}, &policy->allow[i], item,
                       err) < 0)
            return -1;
        policy->count++;
    }
    return 0;
}

int rp_network_decode(json_t *value, const char *pointer, struct rp_network_policy *ret, struct rp_error *err)
{
    static const char *const keys[] = {"mode", "allow", NULL};
    struct rp_network_policy policy = {0};
    struct rp_str mode = {0};
    _cleanup_json_ json_t *object = NULL;
    char at[128];

    if (json_is_string(value)) {
        object = json_pack("{s:O}", "mode", value); /* "internet" is short for {"mode": "internet"} */
        snprintf(at, sizeof at, "%s", pointer);
    } else if (json_is_object(value)) {
        object = json_incref(value);
        rp_json_pointer(at, sizeof at, pointer, "mode");
    } else {
        return rp_error_field(err, pointer,
                              "must be \"internet\", \"none\" or {\"mode\": …, \"allow\": […]}");
    }
    if (rp_json_only_keys(object, pointer, keys, err) < 0)
        return -1;
    int there = rp_json_get_str(object, pointer, "mode", 16, &mode, err);
    if (there < 0)
        return -1;
    if (there && rp_str_is(mode, "internet"))
        policy.mode = RP_NETWORK_INTERNET;
    else if (there && rp_str_is(mode, "none"))
        policy.mode = RP_NETWORK_NONE;
    else if (there && rp_str_is(mode, "allow"))
        policy.mode = RP_NETWORK_ALLOW;
    else
        return rp_error_field(err, at, "must be \"internet\", \"none\" or \"allow\"");
    if (parse_allow(object, pointer, &policy, err) < 0)
        return -1;
    *ret = policy;
    return 0;
}

int rp_network_parse(const char *json, struct rp_network_policy *ret, struct rp_error *err)
{
    _cleanup_json_ json_t *j = NULL;
    if (rp_json_parse_object(rp_str_of(json), &j, err) < 0)
        return -1;
    return rp_network_decode(j, "/network", ret, err);
}

void rp_network_write(struct rp_json_writer *w, const struct rp_network_policy *policy)
{
    static const char *const names[] = {
        [RP_NETWORK_NONE] = "none", [RP_NETWORK_INTERNET] = "internet", [RP_NETWORK_ALLOW] = "allow"};
    rp_json_open_object(w);
    rp_json_field_string(w, "mode", names[policy->mode]);
    if (policy->mode == RP_NETWORK_ALLOW) {
        rp_json_key(w, "allow");
        rp_json_open_array(w);
        for (uint32_t i = 0; i < policy->count; i++) {
            char text[INET_ADDRSTRLEN], range[INET_ADDRSTRLEN + 4];
            struct in_addr a = {htonl(policy->allow[i].address)};
            inet_ntop(AF_INET, &a, text, sizeof text);
            snprintf(range, sizeof range, "%s/%u", text, policy->allow[i].prefix);
            rp_json_string(w, rp_str_of(range));
        }
        rp_json_close_array(w);
    }
    rp_json_close_object(w);
}
