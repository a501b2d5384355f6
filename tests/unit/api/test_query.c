/* The parameters of a query, decoded. */
#include "../cmocka_all.h"

#include "api/query.h"

static void test_parameters_in_order(void **state)
{
    struct rp_query q = {.rest = RP_STR("q=a+b%20c&&metadata.k=%C3%A9&empty=&bare")};
    assert_int_equal(rp_query_next(&q), 1);
    assert_string_equal(q.name, "q");
    assert_string_equal(q.value, "a b c");
    assert_int_equal(rp_query_next(&q), 1);
    assert_string_equal(q.name, "metadata.k");
    assert_string_equal(q.value, "\xc3\xa9");
    assert_int_equal(rp_query_next(&q), 1);
    assert_string_equal(q.name, "empty");
    assert_string_equal(q.value, "");
    assert_int_equal(rp_query_next(&q), 1);
    assert_string_equal(q.name, "bare");
    assert_int_equal(rp_query_next(&q), 0);
    assert_int_equal(rp_query_next(&q), 0);
}

static void test_bad_ones(void **state)
{
    const char *bad[] = {"a=%zz", "a=%00", "a=%ff", "%=1", "a=%2"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++) {
        struct rp_query q = {.rest = rp_str_of(bad[i])};
        assert_int_equal(rp_query_next(&q), -1);
    }
}

static void test_limits(void **state)
{
    static char text[8192];
    memset(text, 'n', RP_QUERY_NAME_MAX + 1);
    struct rp_query q = {.rest = {text, RP_QUERY_NAME_MAX}};
    assert_int_equal(rp_query_next(&q), 1);
    q = (struct rp_query){.rest = {text, RP_QUERY_NAME_MAX + 1}};
    assert_int_equal(rp_query_next(&q), -1);
    memset(text, 'v', sizeof text);
    memcpy(text, "a=", 2);
    q = (struct rp_query){.rest = {text, RP_QUERY_VALUE_MAX + 2}};
    assert_int_equal(rp_query_next(&q), 1);
    q = (struct rp_query){.rest = {text, RP_QUERY_VALUE_MAX + 3}};
    assert_int_equal(rp_query_next(&q), -1);
    q = (struct rp_query){.rest = {text, sizeof text}};
    assert_int_equal(rp_query_next(&q), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters_in_order),
        cmocka_unit_test(test_bad_ones),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
