/* Entity tags, ranges and media types as RFC 9110 has them. */
#include "../cmocka_all.h"

#include "api/files_op.h"

static void tags_in_lists(void **state)
{
    static const struct {
        const char *field;
        bool strong, weak;
    } cases[] = {
        {"\"a\"", true, true},
        {"\"b\", \"a\"", true, true},
        {"W/\"a\"", false, true},
        {"*", true, true},
        {"\"ab\"", false, false},
        {"a", false, false},
        {"\"a", false, false},
        {"", false, false},
        {" , ,\"x\" ,\"a\" ", true, true},
        {"\"x\" garbage \"a\"", false, false},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(cases); i++) {
        assert_int_equal(rp_etag_listed(rp_str_of(cases[i].field), RP_STR("a"), false), cases[i].strong);
        assert_int_equal(rp_etag_listed(rp_str_of(cases[i].field), RP_STR("a"), true), cases[i].weak);
    }
}

static void one_tag(void **state)
{
    struct rp_str tag;
    assert_true(rp_etag_single(RP_STR(" \"abc\" "), &tag));
    assert_true(rp_str_is(tag, "abc"));
    static const char *const bad[] = {"*", "\"a\",\"b\"", "W/\"a\"", "abc", "", "\"a", "\"a\"x"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++)
        assert_false(rp_etag_single(rp_str_of(bad[i]), &tag));
}

static void ranges(void **state)
{
    static const struct {
        const char *field;
        enum rp_range_result want;
        uint64_t first, length;
    } cases[] = {
        {"bytes=0-0", RP_RANGE_ONE, 0, 1},      {"bytes=5-", RP_RANGE_ONE, 5, UINT64_MAX},
        {"Bytes = 2-9", RP_RANGE_ONE, 2, 8},    {"bytes=-3", RP_RANGE_SUFFIX, 0, 3},
        {"bytes=-0", RP_RANGE_SUFFIX, 0, 0},    {"bytes=9-2", RP_RANGE_NONE, 0, 0},
        {"bytes=0-1,3-4", RP_RANGE_NONE, 0, 0}, {"bytes=", RP_RANGE_NONE, 0, 0},
        {"bytes=-", RP_RANGE_NONE, 0, 0},       {"bytes=5", RP_RANGE_NONE, 0, 0},
        {"bytes=a-b", RP_RANGE_NONE, 0, 0},     {"bytes=1-99999999999999999999", RP_RANGE_NONE, 0, 0},
        {"lines=1-2", RP_RANGE_NONE, 0, 0},     {"", RP_RANGE_NONE, 0, 0},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(cases); i++) {
        uint64_t first = 0, length = 0;
        assert_int_equal(rp_range_parse(rp_str_of(cases[i].field), &first, &length), cases[i].want);
        if (cases[i].want == RP_RANGE_NONE)
            continue;
        assert_true(first == cases[i].first);
        assert_true(length == cases[i].length);
    }
    uint64_t first, length;
    assert_int_equal(rp_range_parse((struct rp_str){NULL, 0}, &first, &length), RP_RANGE_NONE);
}

static void media_types(void **state)
{
    assert_string_equal(rp_media_type(RP_STR("a/b.PNG")), "image/png");
    assert_string_equal(rp_media_type(RP_STR("index.html")), "text/html; charset=utf-8");
    assert_string_equal(rp_media_type(RP_STR("a.png/b")), "application/octet-stream");
    assert_string_equal(rp_media_type(RP_STR("Makefile")), "application/octet-stream");
    assert_string_equal(rp_media_type(RP_STR("")), "application/octet-stream");
    assert_string_equal(rp_media_type(RP_STR(".")), "application/octet-stream");
}

static void percent_encoding(void **state)
{
    struct rp_buf b;
    rp_buf_init(&b, 64);
    assert_true(rp_percent_encode(&b, RP_STR("a b/\xc3\xa9\n&?")));
    assert_true(rp_str_is(rp_buf_view(&b), "a%20b/%C3%A9%0A%26%3F"));
    rp_buf_done(&b);
    rp_buf_init(&b, 3);
    assert_false(rp_percent_encode(&b, RP_STR("ab\n")));
    rp_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_in_lists), cmocka_unit_test(one_tag),          cmocka_unit_test(ranges),
        cmocka_unit_test(media_types),   cmocka_unit_test(percent_encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
