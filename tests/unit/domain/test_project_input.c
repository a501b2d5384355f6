/* What a user may say about a project: accepted, refused with the pointer of the field, merged. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "domain/project_input.h"

static struct rp_stacks *stacks;

static int load(void **state)
{
    struct rp_error err = {0};
    return rp_stacks_load(REPLD_SOURCE_ROOT "/stacks", &stacks, &err);
}

static int unload(void **state)
{
    rp_stacks_free(stacks);
    return 0;
}

static int create(const char *text, struct rp_project_input *in, struct rp_error *err)
{
    _cleanup_json_ json_t *body = NULL;
    assert_int_equal(rp_json_parse_object(rp_str_of(text), &body, err), 0);
    return rp_project_input_create(body, stacks, NULL, in, err);
}

static int update(const char *text, struct rp_project_input *in, struct rp_error *err)
{
    _cleanup_json_ json_t *body = NULL;
    assert_int_equal(rp_json_parse_object(rp_str_of(text), &body, err), 0);
    return rp_project_input_update(body, in, err);
}

static void test_a_whole_creation(void **state)
{
    struct rp_project_input in;
    struct rp_error err = {0};
    assert_int_equal(
        create("{\"stack\":\"python\",\"name\":\" My project \",\"dependencies\":{\"fastapi\":\"0.110.0\"},"
               "\"files\":{\"a/b.txt\":\"x\\ny\",\"bin\":{\"base64\":\"AP8B\"}},\"env\":{\"A\":\"1\"},"
               "\"metadata\":{\"k\":\"v\"},\"limits\":{\"memory\":268435456,\"cpu\":0.5},"
               "\"network\":\"none\",\"idle_timeout\":0,\"always_on\":true,\"run_command\":\"python x.py\"}",
               &in, &err),
        0);
    assert_string_equal(in.stack->name, "python");
    assert_string_equal(in.name, "My project");
    assert_int_equal(in.dependencies.count, 1);
    assert_int_equal(in.file_count, 2);
    assert_int_equal(in.files[1].size, 3);
    assert_memory_equal(in.files[1].content, "\x00\xff\x01", 3);
    assert_int_equal(in.cpu, 500);
    assert_string_equal(in.network, "{\"mode\":\"none\"}");
    assert_true(in.always_on && in.has & RP_INPUT_IDLE_TIMEOUT && in.idle_timeout == 0);
    assert_false(in.has & RP_INPUT_DISK);
    rp_project_input_done(&in);
    assert_int_equal(create("{\"runtime\":\"node\"}", &in, &err), 0);
    assert_string_equal(in.stack->name, "node");
    rp_project_input_done(&in);
}

struct refusal {
    const char *body, *pointer;
};

static void test_refusals_name_the_field(void **state)
{
    static const struct refusal refusals[] = {
        {"{}", "/stack"},
        {"{\"stack\":\"cobol\"}", "/stack"},
        {"{\"stack\":7}", "/stack"},
        {"{\"stack\":\"_bookworm\"}", "/stack"},
        {"{\"stack\":\"python\",\"runtime\":\"node\"}", "/runtime"},
        {"{\"stack\":\"python\",\"colour\":1}", "/colour"},
        {"{\"stack\":\"python\",\"name\":\"\"}", "/name"},
        {"{\"stack\":\"python\",\"name\":\"a\\nb\"}", "/name"},
        {"{\"stack\":\"python\",\"run_command\":\"  \"}", "/run_command"},
        {"{\"stack\":\"python\",\"run_command\":\"say 'x\"}", "/run_command"},
        {"{\"stack\":\"python\",\"dependencies\":{\"x; rm -rf /\":\"1\"}}", "/dependencies/x; rm -rf ~1"},
        {"{\"stack\":\"python\",\"dependencies\":{\"x\":\"--index-url=http://e\"}}", "/dependencies/x"},
        {"{\"stack\":\"python\",\"dependencies\":[]}", "/dependencies"},
        {"{\"stack\":\"python\",\"files\":{\"../x\":\"\"}}", "/files/..~1x"},
        {"{\"stack\":\"python\",\"files\":{\"/etc/passwd\":\"\"}}", "/files/~1etc~1passwd"},
        {"{\"stack\":\"python\",\"files\":{\"a/\":\"\"}}", "/files/a~1"},
        {"{\"stack\":\"python\",\"files\":{\"a\":{\"base64\":\"A\"}}}", "/files/a"},
        {"{\"stack\":\"python\",\"files\":{\"a\":{\"base64\":\"A===\"}}}", "/files/a"},
        {"{\"stack\":\"python\",\"files\":{\"a\":{\"base64\":\"AA=A\"}}}", "/files/a"},
        {"{\"stack\":\"python\",\"files\":{\"a\":1}}", "/files/a"},
        {"{\"stack\":\"python\",\"env\":{\"1A\":\"x\"}}", "/env/1A"},
        {"{\"stack\":\"python\",\"env\":{\"A=B\":\"x\"}}", "/env/A=B"},
        {"{\"stack\":\"python\",\"env\":{\"A\":1}}", "/env/A"},
        {"{\"stack\":\"python\",\"env\":{\"A\":null}}", "/env/A"},
        {"{\"stack\":\"python\",\"metadata\":{\"\":\"x\"}}", "/metadata/"},
        {"{\"stack\":\"python\",\"limits\":{\"memory\":1}}", "/limits/memory"},
        {"{\"stack\":\"python\",\"limits\":{\"cpu\":0}}", "/limits/cpu"},
        {"{\"stack\":\"python\",\"limits\":{\"gpu\":1}}", "/limits/gpu"},
        {"{\"stack\":\"python\",\"network\":\"lan\"}", "/network"},
        {"{\"stack\":\"python\",\"network\":{\"mode\":\"allow\"}}", "/network/allow"},
        {"{\"stack\":\"python\",\"network\":{\"mode\":\"allow\",\"allow\":[\"10.0.0.1/8\"]}}",
         "/network/allow/0"},
        {"{\"stack\":\"python\",\"network\":{\"mode\":\"allow\",\"allow\":[\"::1/128\"]}}",
         "/network/allow/0"},
        {"{\"stack\":\"python\",\"network\":{\"mode\":\"none\",\"allow\":[\"10.0.0.0/8\"]}}",
         "/network/allow"},
        {"{\"stack\":\"python\",\"idle_timeout\":-1}", "/idle_timeout"},
        {"{\"stack\":\"python\",\"always_on\":\"yes\"}", "/always_on"},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(refusals); i++) {
        struct rp_project_input in;
        struct rp_error err = {0};
        if (create(refusals[i].body, &in, &err) == 0)
            fail_msg("accepted: %s", refusals[i].body);
        assert_int_equal(err.code, RP_ERROR_INVALID);
        if (strcmp(err.pointer, refusals[i].pointer) != 0)
            fail_msg("%s: points to %s (%s)", refusals[i].body, err.pointer, err.message);
    }
}

static void test_limits_of_maps(void **state)
{
    struct rp_project_input in;
    struct rp_error err = {0};
    struct rp_buf b;
    rp_buf_init(&b, 1 << 20);
    assert_true(rp_buf_printf(&b, "{\"env\":{"));
    for (int i = 0; i <= RP_PROJECT_ENV_MAX; i++)
        assert_true(rp_buf_printf(&b, "%s\"A%d\":\"x\"", i ? "," : "", i));
    assert_true(rp_buf_append(&b, "}}", 3));
    assert_int_equal(update(rp_buf_view(&b).p, &in, &err), -1);
    assert_string_equal(err.pointer, "/env");
    rp_buf_done(&b);
}

static void test_merging(void **state)
{
    struct rp_project_input in;
    struct rp_error err = {0};
    struct rp_project_record r = {.name = rp_strdup("old"),
                                  .run_command = rp_strdup("python a.py"),
                                  .env = rp_strdup("{\"A\":\"1\",\"B\":\"2\"}"),
                                  .metadata = rp_strdup("{}"),
                                  .network = rp_strdup("{\"mode\":\"internet\"}"),
                                  .memory = 5};
    assert_int_equal(
        update("{\"env\":{\"A\":null,\"C\":\"3\"},\"run_command\":null,\"limits\":{\"memory\":null},"
               "\"network\":{\"mode\":\"allow\",\"allow\":[\"10.1.0.0/16\"]}}",
               &in, &err),
        0);
    assert_int_equal(rp_project_input_apply(&in, &r, &err), 0);
    assert_string_equal(r.env, "{\"B\":\"2\",\"C\":\"3\"}");
    assert_null(r.run_command);
    assert_string_equal(r.name, "old");
    assert_int_equal(r.memory, 0);
    struct rp_network_policy policy;
    assert_int_equal(rp_network_parse(r.network, &policy, &err), 0);
    assert_int_equal(policy.mode, RP_NETWORK_ALLOW);
    assert_int_equal(policy.count, 1);
    assert_int_equal(policy.allow[0].address, 0x0a010000);
    assert_int_equal(policy.allow[0].prefix, 16);
    rp_project_input_done(&in);
    assert_int_equal(update("{\"stack\":\"node\"}", &in, &err), -1);
    assert_string_equal(err.pointer, "/stack");
    rp_project_record_done(&r);
}

static void test_paths(void **state)
{
    assert_true(rp_project_path_valid(RP_STR("a")));
    assert_true(rp_project_path_valid(RP_STR("a/b c/..d/\xc3\xa9\n")));
    const char *bad[] = {"", "/", "/a", "a//b", "a/", ".", "..", "a/../b", "a/./b", "./a"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++)
        assert_false(rp_project_path_valid(rp_str_of(bad[i])));
    assert_false(rp_project_path_valid((struct rp_str){"a\0b", 3}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_creation),
        cmocka_unit_test(test_refusals_name_the_field),
        cmocka_unit_test(test_limits_of_maps),
        cmocka_unit_test(test_merging),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
