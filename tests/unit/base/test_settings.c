/* base/settings, base/listen: flags over variables over defaults, each value checked, docs/settings.md true.
 */
#include "../cmocka_all.h"

#include "base/listen.h"
#include "base/settings.h"
#include "base/str.h"

static int parse(struct rp_settings *s, struct rp_error *e, const char *a, const char *b, const char *c)
{
    char *argv[] = {(char *)a, (char *)b, (char *)c, NULL};
    int argc = 0;
    while (argv[argc])
        argc++;
    return rp_settings_parse(argc, argv, s, e);
}

static int no_variables(void **state)
{
    for (char **e = environ; *e;) {
        if (strncmp(*e, "REPLD_", 6) == 0) {
            char *name = rp_str_dup(rp_str_cut(rp_str_of(*e), '=', &(struct rp_str){0}));
            unsetenv(name);
            free(name);
            e = environ;
        } else {
            e++;
        }
    }
    return 0;
}

static void defaults(void **state)
{
    struct rp_settings s;
    struct rp_error e = {0};
    assert_int_equal(parse(&s, &e, NULL, NULL, NULL), 0);
    assert_string_equal(s.listen, "127.0.0.1:8000");
    assert_int_equal(s.data_dir[0], '/');
    assert_true(rp_str_ends(rp_str_of(s.data_dir), "/data"));
    assert_true(rp_str_starts(rp_str_of(s.runtime_dir), "/run/repld-"));
    assert_true(rp_str_ends(rp_str_of(s.init_path), "/repld-init"));
    assert_null(s.oci_runtime);
    assert_null(s.ca_bundle);
    assert_int_equal(s.user_id, 64207);
    assert_int_equal(s.group_id, 64207);
    assert_int_equal(s.idle_timeout, 600);
    assert_true(s.volume_reserve == UINT64_C(2) << 30);
    assert_int_equal(strlen(s.boot_id), 36);
    rp_settings_done(&s);
}

static void the_runtime_folder_follows_the_data_folder(void **state)
{
    struct rp_settings a, b;
    struct rp_error e = {0};
    assert_int_equal(parse(&a, &e, "--data-dir=/srv/a", NULL, NULL), 0);
    assert_int_equal(parse(&b, &e, "--data-dir=/srv/b", NULL, NULL), 0);
    assert_string_not_equal(a.runtime_dir, b.runtime_dir);
    assert_string_equal(a.environments_dir, "/srv/a/environments");
    rp_settings_done(&a);
    rp_settings_done(&b);
}

static void flag_over_variable_over_default(void **state)
{
    struct rp_settings s;
    struct rp_error e = {0};
    setenv("REPLD_IDLE_TIMEOUT", "7", 1);
    setenv("REPLD_MAX_SANDBOXES", "8", 1);
    setenv("REPLD_SCROLLBACK", "", 1);
    assert_int_equal(parse(&s, &e, "--idle-timeout", "9", "--log-json"), 0);
    assert_int_equal(s.idle_timeout, 9);
    assert_int_equal(s.max_sandboxes, 8);
    assert_true(s.ring_size == 1u << 20);
    assert_true(s.log_json);
    rp_settings_done(&s);
    setenv("REPLD_MAX_SANDBOXES", "0", 1);
    assert_int_equal(parse(&s, &e, NULL, NULL, NULL), -1);
    assert_string_equal(e.message, "REPLD_MAX_SANDBOXES: \"0\" is not a number from 1 to 16000");
    no_variables(NULL);
}

static void bad_values_are_named(void **state)
{
    static const char *const bad[][2] = {
        {"--listen=8000", "--listen: "},
        {"--listen=example.com:80", "--listen: "},
        {"--listen=127.0.0.1:65536", "--listen: "},
        {"--user=root", "--user: "},
        {"--user=0", "--user: "},
        {"--user=1:0", "--user: "},
        {"--user=no-such-user-at-all", "--user: "},
        {"--oci-runtime=runc; id", "--oci-runtime: "},
        {"--preview-domain=a..b", "--preview-domain: "},
        {"--preview-domain=.a", "--preview-domain: "},
        {"--cgroup-root=../x", "--cgroup-root: "},
        {"--cgroup-root=/x", "--cgroup-root: "},
        {"--cgroup-layout=v3", "--cgroup-layout: \"v3\" is none of auto, v2, v1, hybrid"},
        {"--pip-index-url=ftp://x", "--pip-index-url: "},
        {"--npm-registry=https://x y", "--npm-registry: "},
        {"--npm-registry=https://x\ny", "--npm-registry: "},
        {"--sandbox-network=10.0.0.0/8", "--sandbox-network: "},
        {"--sandbox-network=10.0.0.1/16", "--sandbox-network: "},
        {"--sandbox-allow=10.0.0.0/8,x", "--sandbox-allow: "},
        {"--resolver=::1", "--resolver: "},
        {"--log-level=loud", "--log-level: "},
        {"--log-json=yes", "--log-json: "},
        {"--volume-size=1M", "--volume-size: \"1M\" is not a size from 256M to 1024T, such as 512M"},
        {"--disk-quota=-1", "--disk-quota: "},
        {"--disk-quota=99999999999999999999G", "--disk-quota: "},
        {"--idle-timeout=4294967296", "--idle-timeout: "},
        {"--idle-timeout", "--idle-timeout: SECONDS is missing"},
        {"--data-dir=\xff", "--data-dir: not UTF-8"},
        {"--no-such=1", "there is no flag --no-such"},
        {"serve", "\"serve\" is not a flag"},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++) {
        struct rp_settings s;
        struct rp_error e = {0};
        assert_int_equal(parse(&s, &e, bad[i][0], NULL, NULL), -1);
        assert_int_equal(e.code, RP_ERROR_INVALID);
        if (!rp_str_starts(rp_str_of(e.message), bad[i][1]))
            fail_msg("%s gives: %s", bad[i][0], e.message);
        assert_null(s.memory);
    }
    char longer[2000];
    memset(longer, 'x', sizeof(longer));
    memcpy(longer, "--data-dir=", 11);
    longer[sizeof(longer) - 1] = '\0';
    struct rp_settings s;
    struct rp_error e = {0};
    assert_int_equal(parse(&s, &e, longer, NULL, NULL), -1);
    assert_string_equal(e.message, "--data-dir: longer than 1024 bytes");
}

static void sizes(void **state)
{
    uint64_t v;
    assert_true(rp_size_parse("0", 10, &v) && v == 0);
    assert_true(rp_size_parse("3k", UINT64_MAX, &v) && v == 3072);
    assert_true(rp_size_parse("2G", UINT64_MAX, &v) && v == UINT64_C(2) << 30);
    assert_true(rp_size_parse("16777215T", UINT64_MAX, &v));
    assert_false(rp_size_parse("16777216T", UINT64_MAX, &v));
    static const char *const bad[] = {"", "G", "1.5G", "1GG", " 1", "0x10", "1P"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++)
        assert_false(rp_size_parse(bad[i], UINT64_MAX, &v));
}

static void a_child_gets_the_same(void **state)
{
    struct rp_settings a, b;
    struct rp_error e = {0};
    assert_int_equal(parse(&a, &e, "--data-dir=x y", "--scrollback=70000", "--log-json"), 0);
    const char *argv[RP_SETTINGS_COUNT_MAX + 1];
    rp_settings_to_argv(&a, argv, 0);
    int argc = 0;
    while (argv[argc])
        argc++;
    assert_int_equal(rp_settings_parse(argc, (char *const *)argv, &b, &e), 0);
    assert_string_equal(a.data_dir, b.data_dir);
    assert_string_equal(a.stacks_dir, b.stacks_dir);
    assert_string_equal(a.boot_id, b.boot_id);
    assert_null(b.ca_bundle);
    assert_int_equal(b.ring_size, 70000);
    assert_true(b.log_json);
    rp_settings_done(&b);
    rp_settings_done(&a);
}

static void the_documentation_is_true(void **state)
{
    _cleanup_free_ char *text = NULL;
    size_t length = 0;
    FILE *f = open_memstream(&text, &length);
    rp_settings_print_markdown(f);
    fclose(f);
    static char page[65536];
    f = fopen(REPLD_SOURCE_ROOT "/docs/settings.md", "re");
    assert_non_null(f);
    size_t n = fread(page, 1, sizeof(page) - 1, f);
    fclose(f);
    page[n] = '\0';
    if (!strstr(page, text))
        fail_msg("docs/settings.md is stale: write the table of `repld serve --help-markdown` into it");
}

static void listen_addresses(void **state)
{
    struct rp_listen l;
    struct rp_error e = {0};
    assert_int_equal(rp_listen_parse("127.0.0.1:80", &l, &e), 0);
    assert_int_equal(l.count, 1);
    assert_true(l.loopback);
    assert_int_equal(rp_listen_parse("LocalHost:0", &l, &e), 0);
    assert_int_equal(l.count, 2);
    assert_true(l.loopback);
    assert_int_equal(rp_listen_parse("[::1]:80", &l, &e), 0);
    assert_true(l.loopback);
    assert_int_equal(l.addresses[0].ss_family, AF_INET6);
    assert_int_equal(rp_listen_parse("0.0.0.0:80", &l, &e), 0);
    assert_false(l.loopback);
    assert_int_equal(rp_listen_parse("[::]:80", &l, &e), 0);
    assert_false(l.loopback);
    assert_int_equal(rp_listen_parse("[::ffff:127.0.0.1]:80", &l, &e), 0);
    assert_false(l.loopback);
    static const char *const bad[] = {
        "",        ":",        ":80",        "127.0.0.1",    "::1:80", "[127.0.0.1]:80",
        "[::1:80", "127.1:80", "127.0.0.1:", "127.0.0.1:-1", "[]:1"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++)
        if (rp_listen_parse(bad[i], &l, &e) != -1)
            fail_msg("\"%s\" is taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults, no_variables),
        cmocka_unit_test_setup(the_runtime_folder_follows_the_data_folder, no_variables),
        cmocka_unit_test_setup(flag_over_variable_over_default, no_variables),
        cmocka_unit_test_setup(bad_values_are_named, no_variables),
        cmocka_unit_test(sizes),
        cmocka_unit_test_setup(a_child_gets_the_same, no_variables),
        cmocka_unit_test(the_documentation_is_true),
        cmocka_unit_test(listen_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
