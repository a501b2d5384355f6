/* preview/host.h: only names that are ours pass, and ports and projects are read strictly. */
#include "../cmocka_all.h"

#include <string.h>

#include "preview/host.h"

#define ID "0123456789abcdef"

static struct rp_host parse(const char *text)
{
    return rp_host_parse(rp_str_of(text), "localhost", "192.0.2.7:8000");
}

static void control_hosts(void **state)
{
    static const char *const names[] = {"localhost", "localhost:8000", "LocalHost:1",
                                        "127.0.0.1", "127.0.0.1:8000", "[::1]:8000",
                                        "[::1]",     "192.0.2.7",      "192.0.2.7:80"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(names); i++)
        assert_int_equal(parse(names[i]).kind, RP_HOST_CONTROL);
}

static void preview_hosts(void **state)
{
    struct rp_host h = parse("3000-" ID ".localhost:8000");
    assert_int_equal(h.kind, RP_HOST_PREVIEW);
    assert_int_equal(h.port, 3000);
    assert_string_equal(h.project, ID);
    assert_true(rp_str_is(h.suffix, ".localhost:8000"));
    h = parse("65535-0123456789ABCDEF.LOCALHOST");
    assert_int_equal(h.kind, RP_HOST_PREVIEW);
    assert_int_equal(h.port, 65535);
    assert_string_equal(h.project, ID);
    h = rp_host_parse(RP_STR("1-" ID ".preview.example.com"), "preview.example.com", "127.0.0.1:8000");
    assert_int_equal(h.kind, RP_HOST_PREVIEW);
    assert_int_equal(h.port, 1);
}

static void unknown_hosts(void **state)
{
    static const char *const names[] = {
        "",
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "xlocalhost",
        ".localhost",
        "localhost.",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "127.1",
        "::1",
        "[::1",
        "[::1]x",
        "[::2]",
        "localhost:",
        "localhost:x",
        "localhost:65536",
        "localhost:80:80",
        "0-" ID ".localhost",
        "00080-" ID ".localhost",
        "080-" ID ".localhost",
        "65536-" ID ".localhost",
        "123456-" ID ".localhost",
        "-" ID ".localhost",
        "3000" ID ".localhost",
        "3000-.localhost",
        "3000-0123456789abcde.localhost",
        "3000-0123456789abcdefg.localhost",
        "3000-0123456789abcde_.localhost",
        "3000-" ID ".localhost.evil",
        "3000-" ID "localhost",
        "a.3000-" ID ".localhost",
        "3000-" ID ".a.localhost",
        "+3000-" ID ".localhost",
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(names); i++)
        if (parse(names[i]).kind != RP_HOST_UNKNOWN)
            fail_msg("\"%s\" passes", names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_hosts),
        cmocka_unit_test(preview_hosts),
        cmocka_unit_test(unknown_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
