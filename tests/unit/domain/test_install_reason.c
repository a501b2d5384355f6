/* Why an installation failed, in the words of real package managers. */
#include "../cmocka_all.h"

#include "domain/install_reason.h"

static void check(enum rp_manager manager, const char *output, const char *want)
{
    char why[256] = "";
    assert_true(rp_install_reason(manager, rp_str_of(output), why, sizeof why));
    assert_string_equal(why, want);
}

static void test_pip(void **state)
{
    check(
        RP_MANAGER_PIP,
        "ERROR: Could not find a version that satisfies the requirement lefpad-x==1.0 (from versions: none)\n"
        "ERROR: No matching distribution found for lefpad-x==1.0\n",
        "the package \"lefpad-x==1.0\" does not exist, or not in this version");
    check(RP_MANAGER_PIP,
          "ERROR: Could not install packages due to an OSError: [Errno 122] Disk quota exceeded\n",
          "the project's disk is full");
}

static void test_npm(void **state)
{
    check(RP_MANAGER_NPM,
          "npm ERR! code E404\nnpm ERR! 404 Not Found - GET https://registry.example/lefpad-x - Not found\n"
          "npm ERR! 404 \nnpm ERR! 404  'lefpad-x@^1.0.0' is not in this registry.\n",
          "the package \"lefpad-x@^1.0.0\" does not exist");
    check(RP_MANAGER_NPM,
          "npm ERR! code ETARGET\nnpm ERR! notarget No matching version found for express@^99.0.0.\n",
          "the package \"express@^99.0.0\" does not exist in this version");
    check(RP_MANAGER_NPM, "npm ERR! code EAI_AGAIN\n", "the package registry cannot be reached");
}

static void test_what_says_nothing(void **state)
{
    char why[256];
    assert_false(rp_install_reason(RP_MANAGER_PIP, RP_STR(""), why, sizeof why));
    assert_false(rp_install_reason(RP_MANAGER_PIP, RP_STR("npm ERR! code E404"), why, sizeof why));
    assert_false(rp_install_reason(RP_MANAGER_NPM, RP_STR("404  ''"), why, sizeof why));
    /* a name that ends with the text, and control characters of a stranger's program */
    check(RP_MANAGER_NPM, "404  '\x1b[31mx\x07", "the package \"[31mx\" does not exist");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pip),
        cmocka_unit_test(test_npm),
        cmocka_unit_test(test_what_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
