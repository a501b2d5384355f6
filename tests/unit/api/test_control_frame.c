/* api/control_frame: what clients of terminals may say, and how they are told that they may not. */
#include "../cmocka_all.h"

#include <signal.h>

#include "api/control_frame.h"
#include "proto/init.h"

static void good_frames(void **state)
{
    struct rp_control c;
    assert_int_equal(rp_control_parse(RP_STR("{\"type\":\"resize\",\"cols\":132,\"rows\":43}"), &c, NULL), 0);
    assert_int_equal(c.type, RP_CONTROL_RESIZE);
    assert_int_equal(c.cols, 132);
    assert_int_equal(c.rows, 43);
    assert_int_equal(rp_control_parse(RP_STR("{\"type\":\"ack\",\"offset\":5000000000}"), &c, NULL), 0);
    assert_true(c.offset == 5000000000);
    assert_int_equal(c.stream, RP_STREAM_STDOUT);
    assert_int_equal(
        rp_control_parse(RP_STR("{\"type\":\"ack\",\"offset\":5,\"stream\":\"stderr\"}"), &c, NULL), 0);
    assert_int_equal(c.stream, RP_STREAM_STDERR);
    assert_int_equal(rp_control_parse(RP_STR("{\"type\":\"signal\",\"name\":\"INT\"}"), &c, NULL), 0);
    assert_int_equal(c.signal, SIGINT);
    assert_int_equal(rp_control_parse(RP_STR("{\"type\":\"signal\",\"name\":\"SIGTERM\"}"), &c, NULL), 0);
    assert_int_equal(c.signal, SIGTERM);
    assert_int_equal(rp_control_parse(RP_STR("{\"type\":\"eof\"}"), &c, NULL), 0);
    assert_int_equal(c.type, RP_CONTROL_EOF);
    assert_int_equal(rp_control_parse(RP_STR("{\"type\":\"ping\"}"), &c, NULL), 0);
    assert_int_equal(c.type, RP_CONTROL_PING);
}

static void bad_frames(void **state)
{
    static const struct {
        const char *text, *pointer;
    } BAD[] = {
        {"", ""},
        {"[]", ""},
        {"{}", "/type"},
        {"{\"type\":1}", "/type"},
        {"{\"type\":\"reboot\"}", "/type"},
        {"{\"type\":\"resize\",\"cols\":80}", "/rows"},
        {"{\"type\":\"resize\",\"cols\":0,\"rows\":24}", "/cols"},
        {"{\"type\":\"resize\",\"cols\":80,\"rows\":70000}", "/rows"},
        {"{\"type\":\"resize\",\"cols\":80.5,\"rows\":24}", "/cols"},
        {"{\"type\":\"ack\"}", "/offset"},
        {"{\"type\":\"ack\",\"offset\":-1}", "/offset"},
        {"{\"type\":\"ack\",\"offset\":1,\"stream\":\"stdin\"}", "/stream"},
        {"{\"type\":\"signal\"}", "/name"},
        {"{\"type\":\"signal\",\"name\":\"SIGNOPE\"}", "/name"},
        {"{\"type\":\"signal\",\"name\":\"65\"}", "/name"},
        {"{\"type\":\"signal\",\"name\":\"0\"}", "/name"},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(BAD); i++) {
        struct rp_control c;
        struct rp_error err = {0};
        assert_int_equal(rp_control_parse(rp_str_of(BAD[i].text), &c, &err), -1);
        assert_int_equal(err.code, RP_ERROR_INVALID);
        assert_string_equal(err.pointer, BAD[i].pointer);
    }
    static char large[RP_CONTROL_MAX + 1];
    memset(large, ' ', sizeof(large));
    struct rp_control c;
    struct rp_error err = {0};
    assert_int_equal(rp_control_parse((struct rp_str){large, sizeof(large)}, &c, &err), -1);
    assert_int_equal(err.code, RP_ERROR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_frames),
        cmocka_unit_test(bad_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
