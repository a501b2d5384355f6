/* A command line: split without a shell where it needs none. */
#include "../cmocka_all.h"

#include <string.h>

#include "domain/project_input.h"

static void check(const char *line, const char *const *want)
{
    struct rp_error err = {0};
    char **argv = NULL;
    if (rp_command_split(line, &argv, &err) < 0)
        fail_msg("%s: %s", line, err.message);
    size_t i = 0;
    for (; want[i] && argv[i]; i++)
        assert_string_equal(argv[i], want[i]);
    if (want[i] || argv[i])
        fail_msg("%s: another number of words", line);
    rp_argv_free(argv);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_words(void **state)
{
    check("python main.py", WORDS("python", "main.py"));
    check("  a\t b  ", WORDS("a", "b"));
    check("a 'b c' \"d e\" f\\ g ''", WORDS("a", "b c", "d e", "f g", ""));
    check("a 'x;y' \"a\\\"b\" c=d", WORDS("a", "x;y", "a\"b", "c=d"));
    check("a'b'\"c\"d", WORDS("abcd"));
}

static void test_what_needs_a_shell(void **state)
{
    const char *lines[] = {"a && b", "a | b",    "a > b", "PORT=1 a", "a $HOME", "a *.py",  "a; b",
                           "a `b`",  "a \"$X\"", "~/a",   "a # b",    "a\nb",    "a {b,c}", "a \"b;c\""};
    for (size_t i = 0; i < RP_ARRAY_SIZE(lines); i++)
        check(lines[i], WORDS("bash", "-c", lines[i]));
}

static void test_refused(void **state)
{
    const char *lines[] = {"", "   ", "\n", "a 'b", "a \"b", "'' x"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(lines); i++) {
        struct rp_error err = {0};
        char **argv = NULL;
        assert_int_equal(rp_command_split(lines[i], &argv, &err), -1);
        assert_int_equal(err.code, RP_ERROR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_what_needs_a_shell),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
