#include "sandbox/oci/network_record.h"

#include <fcntl.h>
#include <string.h>

#include "base/buf.h"
#include "sandbox/oci/network.h"
#include "sandbox/oci/network_rules.h"

enum { RECORD_MAX = 64 + RP_ALLOWED_CIDRS_MAX * RP_NETWORK_CIDR_SIZE };

static const char *const MODES[] = {
    [RP_NETWORK_NONE] = "none", [RP_NETWORK_INTERNET] = "internet", [RP_NETWORK_ALLOW] = "allow"};

int rp_network_record_write(int directory, const struct rp_network_record *r, struct rp_error *err)
{
    char name[RP_ID_SIZE + 1];
    _cleanup_(rp_buf_done) struct rp_buf b;
    rp_buf_init(&b, RECORD_MAX);
    bool ok = rp_buf_printf(&b, "1 %u %s", r->index, MODES[r->policy.mode]);
    for (uint32_t i = 0; i < r->policy.count; i++) {
        char cidr[RP_NETWORK_CIDR_SIZE];
        rp_network_cidr_format(r->policy.allow[i], cidr);
        ok = ok && rp_buf_printf(&b, " %s", cidr);
    }
    if (!ok || !rp_buf_append(&b, "\n", 1))
        return rp_error_set(err, RP_ERROR_INTERNAL, "a network record is too long");
    snprintf(name, sizeof(name), ".%s", r->sandbox);
    _cleanup_close_ int fd =
        openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make network record \"%s\"", r->sandbox);
    ssize_t n = write(fd, rp_buf_view(&b).p, b.length);
    if (n != (ssize_t)b.length || renameat(directory, name, directory, r->sandbox) < 0) {
        rp_error_errno(err, RP_ERROR_INTERNAL, n >= 0 && n != (ssize_t)b.length ? ENOSPC : errno,
                       "write network record \"%s\"", r->sandbox);
        unlinkat(directory, name, 0);
        return -1;
    }
    return 0;
}

static bool next_word(struct rp_str *rest, struct rp_str *ret)
{
    *ret = rp_str_cut(*rest, ' ', rest);
    return ret->n > 0;
}

int rp_network_record_parse(struct rp_str s, struct rp_network_record *ret, struct rp_error *err)
{
    struct rp_network_record out = {0};
    struct rp_str word;
    uint64_t version, index;
    if (!rp_str_ends(s, "\n") || s.n > RECORD_MAX)
        return rp_error_set(err, RP_ERROR_INVALID, "it is cut short or too long");
    s.n--;
    if (!next_word(&s, &word) || !rp_str_to_u64(word, 1, &version) || version != 1)
        return rp_error_set(err, RP_ERROR_INVALID, "its version is unknown");
    if (!next_word(&s, &word) || !rp_str_to_u64(word, RP_NETWORK_SLOTS - 1, &index))
        return rp_error_set(err, RP_ERROR_INVALID, "its slot is out of range");
    out.index = (uint32_t)index;
    if (!next_word(&s, &word))
        return rp_error_set(err, RP_ERROR_INVALID, "it has no mode");
    while (out.policy.mode < RP_ARRAY_SIZE(MODES) && !rp_str_is(word, MODES[out.policy.mode]))
        out.policy.mode++;
    while (s.n > 0) {
        if (out.policy.count == RP_ALLOWED_CIDRS_MAX || !next_word(&s, &word) ||
            !rp_network_cidr_parse(word, &out.policy.allow[out.policy.count]))
            return rp_error_set(err, RP_ERROR_INVALID, "it has a malformed range");
        out.policy.count++;
    }
    if (out.policy.count > 0 && out.policy.mode != RP_NETWORK_ALLOW)
        return rp_error_set(err, RP_ERROR_INVALID, "it has ranges that its mode does not take");
    if (rp_network_policy_normalise(&out.policy, &out.policy, err) < 0)
        return -1;
    *ret = out;
    return 0;
}

int rp_network_record_read(int directory, const char *sandbox, struct rp_network_record *ret,
                           struct rp_error *err)
{
    char text[RECORD_MAX + 1];
    _cleanup_close_ int fd = openat(directory, sandbox, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return rp_error_errno(err, errno == ENOENT ? RP_ERROR_NOT_FOUND : RP_ERROR_INTERNAL, errno,
                              "open network record \"%s\"", sandbox);
    ssize_t n = read(fd, text, sizeof(text));
    if (n < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "read network record \"%s\"", sandbox);
    struct rp_network_record out;
    if (rp_network_record_parse((struct rp_str){text, (size_t)n}, &out, err) < 0)
        return rp_error_prefix(err, "network record \"%s\"", sandbox);
    snprintf(out.sandbox, sizeof(out.sandbox), "%s", sandbox);
    *ret = out;
    return 0;
}

int rp_network_record_remove(int directory, const char *sandbox, struct rp_error *err)
{
    if (unlinkat(directory, sandbox, 0) < 0 && errno != ENOENT)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "remove network record \"%s\"", sandbox);
    return 0;
}
