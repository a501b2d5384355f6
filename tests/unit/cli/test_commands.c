/* cli: version, help and doctor say what they must, and their exit status is right. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <sys/wait.h>

#include "base/str.h"
#include "cli/cli.h"

static char output[16384];

static int run(int (*command)(int argc, char **argv), const char *a, const char *b)
{
    char *argv[] = {(char *)"command", (char *)a, (char *)b, NULL};
    int argc = a ? b ? 3 : 2 : 1, out[2], status;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        dup2(out[1], STDERR_FILENO);
        int r = command(argc, argv);
        fflush(NULL);
        _exit(r);
    }
    close(out[1]);
    size_t n = 0;
    ssize_t got;
    while ((got = read(out[0], output + n, sizeof(output) - 1 - n)) > 0)
        n += (size_t)got;
    output[n] = '\0';
    close(out[0]);
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void version_and_help(void **state)
{
    assert_int_equal(run(rp_cli_version, NULL, NULL), 0);
    assert_string_equal(output, "repld " REPLD_VERSION "\n");
    assert_int_equal(run(rp_cli_help, NULL, NULL), 0);
    assert_non_null(strstr(output, "repld serve"));
}

static void serve_shows_every_setting_and_refuses_what_it_does_not_know(void **state)
{
    assert_int_equal(run(rp_cli_serve, "--help", NULL), 0);
    assert_non_null(strstr(output, "--data-dir DIR"));
    assert_non_null(strstr(output, "REPLD_DATA_DIR"));
    assert_int_equal(run(rp_cli_serve, "--help-markdown", NULL), 0);
    assert_non_null(strstr(output, "| `--data-dir DIR` |"));
    assert_int_equal(run(rp_cli_serve, "--no-such-flag", NULL), 2);
    assert_string_equal(output, "repld: there is no flag --no-such-flag; see repld serve --help\n");
    assert_int_equal(run(rp_cli_serve, "--role=gateway", NULL), 2);
}

static void doctor_names_what_is_missing(void **state)
{
    assert_int_equal(run(rp_cli_doctor, "--oci-runtime=/no/such/runtime", "--init=/no/such/init"), 1);
    assert_non_null(
        strstr(output, "OCI runtime   MISSING  \"/no/such/runtime\" is not there (--oci-runtime)"));
    assert_non_null(strstr(output, "repld-init    MISSING  \"/no/such/init\" is not there"));
    assert_non_null(strstr(output, "kernel        ok"));
    assert_int_equal(run(rp_cli_doctor, "--volume-reserve=1000T", NULL), 1);
    assert_non_null(strstr(output, "disk          MISSING"));
    assert_int_equal(run(rp_cli_doctor, "--no-such-flag", NULL), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_and_help),
        cmocka_unit_test(serve_shows_every_setting_and_refuses_what_it_does_not_know),
        cmocka_unit_test(doctor_names_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
