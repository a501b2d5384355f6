/* sandbox/oci/network_record, network_policy: what is read back is what was written, and nothing else is
 * taken. */
#include "../cmocka_all.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>

#include "base/buf.h"
#include "sandbox/oci/network.h"
#include "sandbox/oci/network_record.h"
#include "sandbox/oci/network_rules.h"

static struct rp_cidr cidr(const char *text)
{
    struct rp_cidr c;
    assert_true(rp_network_cidr_parse(rp_str_of(text), &c));
    return c;
}

static void cidrs(void **state)
{
    char text[RP_NETWORK_CIDR_SIZE];
    rp_network_cidr_format(cidr("10.1.2.3/8"), text);
    assert_string_equal(text, "10.0.0.0/8");
    rp_network_cidr_format(cidr("255.255.255.255"), text);
    assert_string_equal(text, "255.255.255.255/32");
    rp_network_cidr_format(cidr("1.2.3.4/0"), text);
    assert_string_equal(text, "0.0.0.0/0");
    static const char *const bad[] = {"",           "/",          "1.2.3",      "1.2.3.4/",
                                      "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/8x", "1.2.3.256/8",
                                      " 1.2.3.4/8", "::1/128",    "1.2.3.4/8/8"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++) {
        struct rp_cidr c;
        assert_false(rp_network_cidr_parse(rp_str_of(bad[i]), &c));
    }
}

static void policy_keeps_the_widest(void **state)
{
    struct rp_network_policy p = {.mode = RP_NETWORK_ALLOW, .count = 4}, n;
    p.allow[0] = (struct rp_cidr){0x0a010203, 24};
    p.allow[1] = cidr("192.0.2.1");
    p.allow[2] = (struct rp_cidr){0x0aff0000, 8};
    p.allow[3] = cidr("10.3.0.0/16");
    assert_int_equal(rp_network_policy_normalise(&p, &n, NULL), 0);
    assert_int_equal(n.count, 2);
    assert_int_equal(n.allow[0].address, 0xc0000201);
    assert_int_equal(n.allow[1].address, 0x0a000000);
    assert_int_equal(n.allow[1].prefix, 8);
}

static void policy_is_checked(void **state)
{
    struct rp_network_policy n;
    struct rp_error e = {0};
    assert_int_equal(rp_network_policy_normalise(&(struct rp_network_policy){.mode = 3}, &n, &e), -1);
    assert_int_equal(e.code, RP_ERROR_INVALID);
    assert_int_equal(rp_network_policy_normalise(
                         &(struct rp_network_policy){.mode = RP_NETWORK_ALLOW, .count = 65}, &n, &e),
                     -1);
    assert_int_equal(
        rp_network_policy_normalise(
            &(struct rp_network_policy){.mode = RP_NETWORK_ALLOW, .count = 1, .allow = {{0, 33}}}, &n, &e),
        -1);
    /* Ranges mean nothing in another mode. */
    assert_int_equal(rp_network_policy_normalise(
                         &(struct rp_network_policy){.mode = RP_NETWORK_INTERNET, .count = 65}, &n, &e),
                     0);
    assert_int_equal(n.count, 0);
}

static void record_is_read_as_written(void **state)
{
    char directory[] = "/tmp/repld-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY);
    struct rp_network_record r = {.sandbox = "abcdefghijklmnop", .index = 4095}, back;
    struct rp_error e = {0};
    r.policy = (struct rp_network_policy){.mode = RP_NETWORK_ALLOW, .count = RP_ALLOWED_CIDRS_MAX};
    for (uint32_t i = 0; i < RP_ALLOWED_CIDRS_MAX; i++)
        r.policy.allow[i] = (struct rp_cidr){0xc8c8c800 + i, 32};
    assert_int_equal(rp_network_record_write(fd, &r, &e), 0);
    assert_int_equal(rp_network_record_read(fd, r.sandbox, &back, &e), 0);
    assert_string_equal(back.sandbox, r.sandbox);
    assert_int_equal(back.index, 4095);
    assert_int_equal(back.policy.count, RP_ALLOWED_CIDRS_MAX);
    assert_memory_equal(back.policy.allow, r.policy.allow, sizeof(r.policy.allow));
    assert_int_equal(rp_network_record_remove(fd, r.sandbox, &e), 0);
    assert_int_equal(rp_network_record_remove(fd, r.sandbox, &e), 0);
    assert_int_equal(rp_network_record_read(fd, r.sandbox, &back, &e), -1);
    assert_int_equal(e.code, RP_ERROR_NOT_FOUND);
    assert_int_equal(rmdir(directory), 0);
}

static void malformed_records(void **state)
{
    static const char *const bad[] = {"",
                                      "\n",
                                      "1 5 internet",
                                      "2 5 internet\n",
                                      "1 4096 internet\n",
                                      "1 -5 internet\n",
                                      "1 5\n",
                                      "1 5 all\n",
                                      "1 5 internet 10.0.0.0/8\n",
                                      "1 5 allow 10.0.0.0/99\n",
                                      "1 5 allow  10.0.0.0/8\n"};
    struct rp_network_record r;
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++)
        assert_int_equal(rp_network_record_parse(rp_str_of(bad[i]), &r, NULL), -1);
    assert_int_equal(rp_network_record_parse(RP_STR("1 5 allow 10.0.0.0/8 9.9.9.9/32\n"), &r, NULL), 0);
    assert_int_equal(r.policy.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cidrs),
        cmocka_unit_test(policy_keeps_the_widest),
        cmocka_unit_test(policy_is_checked),
        cmocka_unit_test(record_is_read_as_written),
        cmocka_unit_test(malformed_records),
    };
    return cmocka_run_group_tests_name("sandbox/network_record", tests, NULL, NULL);
}
