/* Which row of a table a path finds, and what is refused. */
#include "../cmocka_all.h"

#include "api/routes.h"

static const struct rp_route table[] = {
    {"GET", "/", NULL, 0},          {"GET", "/a/fixed", NULL, 0},          {"GET", "/a/{id}", NULL, 0},
    {"DELETE", "/a/{id}", NULL, 0}, {"POST", "/a/{id}/b/{name}", NULL, 0}, {"GET", "/rest/{path*}", NULL, 0},
};

static struct rp_route_match m;

static enum rp_route_result find(const char *method, const char *path)
{
    return rp_route_find(table, RP_ARRAY_SIZE(table), rp_str_of(method), rp_str_of(path), &m);
}

static void test_finds_rows(void **state)
{
    assert_int_equal(find("GET", "/"), RP_ROUTE_FOUND);
    assert_ptr_equal(m.route, &table[0]);
    assert_int_equal(find("GET", "/a/fixed"), RP_ROUTE_FOUND);
    assert_ptr_equal(m.route, &table[1]);
    assert_int_equal(find("HEAD", "/a/x"), RP_ROUTE_FOUND);
    assert_ptr_equal(m.route, &table[2]);
    assert_int_equal(find("POST", "/a/x%20y/b/%C3%A9"), RP_ROUTE_FOUND);
    assert_ptr_equal(m.route, &table[4]);
    assert_int_equal(m.count, 2);
    assert_string_equal(m.storage[0], "x y");
    assert_string_equal(m.storage[1], "\xc3\xa9");
    assert_int_equal(find("GET", "/rest/p/q%2Fr"), RP_ROUTE_FOUND);
    assert_string_equal(m.storage[0], "p/q/r");
}

static void test_unknown_paths(void **state)
{
    const char *unknown[] = {"/b", "/a", "/a/", "/a/x/", "/a/x/b", "/a/x/b/c/d", "//", "/rest"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(unknown); i++)
        assert_int_equal(find("GET", unknown[i]), RP_ROUTE_UNKNOWN);
    assert_int_equal(find("GET", "*"), RP_ROUTE_BAD_PATH);
    assert_int_equal(find("GET", ""), RP_ROUTE_BAD_PATH);
}

static void test_other_method_names_the_allowed(void **state)
{
    assert_int_equal(find("PUT", "/a/x"), RP_ROUTE_OTHER_METHOD);
    assert_string_equal(m.allow, "GET, HEAD, DELETE");
    assert_int_equal(find("get", "/"), RP_ROUTE_OTHER_METHOD);
}

static void test_bad_parameters(void **state)
{
    assert_int_equal(find("GET", "/a/%zz"), RP_ROUTE_BAD_PATH);
    assert_int_equal(find("GET", "/a/%00"), RP_ROUTE_BAD_PATH);
    assert_int_equal(find("GET", "/a/%ff"), RP_ROUTE_BAD_PATH);
    char path[4 + RP_CALL_PARAMETER_MAX + 1] = "/a/";
    memset(path + 3, 'x', RP_CALL_PARAMETER_MAX);
    assert_int_equal(find("GET", path), RP_ROUTE_FOUND);
    path[3 + RP_CALL_PARAMETER_MAX] = 'x';
    path[4 + RP_CALL_PARAMETER_MAX] = '\0';
    assert_int_equal(find("GET", path), RP_ROUTE_BAD_PATH);
}

static void test_origin(void **state)
{
    struct rp_str host = RP_STR("localhost:8000");
    assert_true(rp_origin_allowed((struct rp_str){0}, host));
    assert_true(rp_origin_allowed(RP_STR("http://localhost:8000"), host));
    assert_true(rp_origin_allowed(RP_STR("https://LOCALHOST:8000"), host));
    assert_false(rp_origin_allowed(RP_STR("http://localhost:8001"), host));
    assert_false(rp_origin_allowed(RP_STR("http://3000-abc.localhost:8000"), host));
    assert_false(rp_origin_allowed(RP_STR("http://localhost:8000.evil.example"), host));
    assert_false(rp_origin_allowed(RP_STR("null"), host));
    assert_false(rp_origin_allowed(RP_STR(""), host));
    assert_false(rp_origin_allowed(RP_STR("http://"), RP_STR("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_rows),
        cmocka_unit_test(test_unknown_paths),
        cmocka_unit_test(test_other_method_names_the_allowed),
        cmocka_unit_test(test_bad_parameters),
        cmocka_unit_test(test_origin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
