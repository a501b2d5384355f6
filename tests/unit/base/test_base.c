/* base/: the error text, UTF-8, buffers and JSON keep their promises at the edges. */
#include "../cmocka_all.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"

static void error_carries_errno_and_context(void **state)
{
    struct rp_error e = {0};
    assert_int_equal(rp_error_errno(&e, RP_ERROR_INTERNAL, ENOENT, "open \"%s\"", "x"), -1);
    assert_string_equal(e.message, "open \"x\": No such file or directory");
    rp_error_prefix(&e, "load stack");
    assert_string_equal(e.message, "load stack: open \"x\": No such file or directory");
    assert_int_equal(e.errno_value, ENOENT);
    rp_error_errno(&e, RP_ERROR_INTERNAL, EDQUOT, "write");
    assert_int_equal(e.code, RP_ERROR_DISK_FULL);
    assert_int_equal(rp_error_set(NULL, RP_ERROR_INVALID, "no one listens"), -1);
}

static void error_is_cut_at_a_character(void **state)
{
    struct rp_error e;
    char longer[600];
    for (size_t i = 0; i + 2 < sizeof(longer); i += 2)
        memcpy(longer + i, "\xc3\xa9", 2);
    longer[598] = '\0';
    rp_error_set(&e, RP_ERROR_INVALID, "x%s", longer);
    assert_true(rp_utf8_valid(e.message, strlen(e.message)));
}

static void every_code_has_a_status(void **state)
{
    for (int c = RP_ERROR_INTERNAL; c < RP_ERROR_CODE_MAX; c++) {
        assert_in_range(rp_code_http_status((enum rp_code)c), 400, 599);
        assert_non_null(rp_code_name((enum rp_code)c));
    }
}

static void utf8(void **state)
{
    assert_true(rp_utf8_valid("plain ascii and \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 25));
    static const char *const bad[] = {"\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82",
                                      "\x80",     "\xff",         "12345678\xc3"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++)
        assert_false(rp_utf8_valid(bad[i], strlen(bad[i])));
}

static void numbers(void **state)
{
    uint64_t v;
    assert_true(rp_str_to_u64(RP_STR("18446744073709551615"), UINT64_MAX, &v));
    assert_true(v == UINT64_MAX);
    assert_false(rp_str_to_u64(RP_STR("18446744073709551616"), UINT64_MAX, &v));
    assert_false(rp_str_to_u64(RP_STR("-1"), 10, &v));
    assert_false(rp_str_to_u64(RP_STR("11"), 10, &v));
    assert_false(rp_str_to_u64(RP_STR(""), 10, &v));
}

static void buffer_keeps_its_cap(void **state)
{
    struct rp_buf b;
    rp_buf_init(&b, 10);
    assert_true(rp_buf_append(&b, "0123456789", 10));
    assert_false(rp_buf_append(&b, "x", 1));
    rp_buf_consume(&b, 4);
    assert_true(rp_buf_append(&b, "abcd", 4));
    assert_true(rp_str_is(rp_buf_view(&b), "456789abcd"));
    assert_false(rp_buf_append(&b, "x", SIZE_MAX));
    rp_buf_done(&b);
}

static void json_round_trip(void **state)
{
    struct rp_buf b;
    rp_buf_init(&b, 1024);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_json_open_object(&w);
    rp_json_field_str(&w, "bad\"key\n", (struct rp_str){"a\xff\x01\xc3\xa9", 5});
    rp_json_key(&w, "list");
    rp_json_open_array(&w);
    rp_json_int(&w, -5);
    rp_json_null(&w);
    rp_json_close_array(&w);
    rp_json_close_object(&w);
    assert_false(w.failed);
    assert_true(rp_str_is(rp_buf_view(&b),
                          "{\"bad\\\"key\\n\":\"a\xef\xbf\xbd\\u0001\xc3\xa9\",\"list\":[-5,null]}"));
    rp_buf_done(&b);
}

static void json_refuses(void **state)
{
    static const char *const bad[] = {"", "{", "{\"a\":1,\"a\":2}", "[1]x", "{\"a\":\"\xff\"}"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++) {
        json_t *j;
        struct rp_error e;
        assert_int_equal(rp_json_parse(rp_str_of(bad[i]), &j, &e), -1);
        assert_int_equal(e.code, RP_ERROR_INVALID);
    }
    char deep[200];
    memset(deep, '[', sizeof(deep));
    json_t *j;
    assert_int_equal(rp_json_parse((struct rp_str){deep, sizeof(deep)}, &j, NULL), -1);
}

static void json_errors_point_to_the_field(void **state)
{
    json_t *j;
    struct rp_error e;
    assert_int_equal(rp_json_parse(RP_STR("{\"a/b\":3}"), &j, &e), 0);
    struct rp_str s;
    assert_int_equal(rp_json_get_str(j, "/x", "a/b", 10, &s, &e), -1);
    assert_string_equal(e.pointer, "/x/a~1b");
    json_decref(j);
}

static void ids_are_valid(void **state)
{
    char a[RP_ID_SIZE], b[RP_ID_SIZE];
    rp_random_id(a);
    rp_random_id(b);
    assert_true(rp_id_valid(a, strlen(a)));
    assert_string_not_equal(a, b);
    assert_false(rp_id_valid("../../etc/passwd", 16));
}

static void time_is_rfc3339(void **state)
{
    char text[RP_CLOCK_RFC3339_SIZE];
    rp_clock_format_rfc3339(1767323045678000, text);
    assert_string_equal(text, "2026-01-02T03:04:05.678Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_carries_errno_and_context),
        cmocka_unit_test(error_is_cut_at_a_character),
        cmocka_unit_test(every_code_has_a_status),
        cmocka_unit_test(utf8),
        cmocka_unit_test(numbers),
        cmocka_unit_test(buffer_keeps_its_cap),
        cmocka_unit_test(json_round_trip),
        cmocka_unit_test(json_refuses),
        cmocka_unit_test(json_errors_point_to_the_field),
        cmocka_unit_test(ids_are_valid),
        cmocka_unit_test(time_is_rfc3339),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
