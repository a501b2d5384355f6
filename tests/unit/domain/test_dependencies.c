/* domain/dependencies: names and versions that managers would take for something else never get through. */
#include "../cmocka_all.h"

#include "domain/dependencies.h"
#include "domain/dependencies_grammar.h"

static const struct rp_stack_template plain = {.name = "plain", .when = (const char *const[]){NULL}};
static const struct rp_stack_template templates[] = {
    {.name = "fastapi",
     .when = (const char *const[]){"fastapi", "uvicorn", NULL},
     .run_command = "uvicorn main:app"},
    {.name = "plain", .when = (const char *const[]){NULL}},
};
static const struct rp_stack python = {.name = "python",
                                       .manager = RP_MANAGER_PIP,
                                       .manifest = "requirements.txt",
                                       .templates = templates,
                                       .template_count = 2};
static const struct rp_stack node = {.name = "node",
                                     .manager = RP_MANAGER_NPM,
                                     .manifest = "package.json",
                                     .manifest_base =
                                         "{\"version\":\"1.0.0\",\"type\":\"module\",\"main\":\"index.js\"}",
                                     .templates = &plain,
                                     .template_count = 1};

/* What no manager may be given, as a name or as a version. */
static const char *const hostile[] = {
    "; rm -rf /",
    "$(id)",
    "`id`",
    "a b",
    "a\nb",
    "a\r\nb",
    "a\tb",
    "--index-url=http://evil.example/",
    "-r /etc/passwd",
    "-e .",
    "--pre",
    "../../etc/passwd",
    "/etc/passwd",
    "./local",
    "~/x",
    "git+https://evil.example/x.git",
    "https://evil.example/x.whl",
    "http://evil.example/x.tgz",
    "file:///etc/passwd",
    "file:../x",
    "link:../x",
    "npm:other@1",
    "workspace:*",
    "github:user/repo",
    "user/repo",
    "user/repo#main",
    "git@evil.example:x.git",
    "a@b",
    "a;b",
    "a&b",
    "a|b",
    "a&&b",
    "a>b/c",
    "a\\b",
    "a'b",
    "a\"b",
    "a#b",
    "a%b",
    "a{b}",
    "a\x01",
    "a\x7f",
    "\xc3\xa9",
    "\xff\xfe",
    ("\xe2\x80\xae"
     "evil"),
    "==1.0 --hash=sha256:00",
    "1.0 ; python_version < '3'",
    "1.0 # comment",
    "${HOME}",
    "%(here)s",
    "@ https://evil.example/x.whl",
    "x @ file:///etc",
    ".",
    "..",
    "-",
    "_",
    "[",
    "]",
    "a[",
    "a[]",
    "a[b",
    "a[b]c",
    "a[b,]",
    "a[b;c]",
};

static void hostile_is_refused(void **state)
{
    static const enum rp_manager managers[] = {RP_MANAGER_PIP, RP_MANAGER_NPM};
    for (size_t m = 0; m < RP_ARRAY_SIZE(managers); m++)
        for (size_t i = 0; i < RP_ARRAY_SIZE(hostile); i++) {
            struct rp_error e = {0};
            if (rp_dependency_check_name(managers[m], rp_str_of(hostile[i]), "/n", &e) == 0)
                fail_msg("name \"%s\"", hostile[i]);
            assert_int_equal(e.code, RP_ERROR_INVALID);
            assert_string_equal(e.pointer, "/n");
            if (rp_dependency_check_version(managers[m], rp_str_of(hostile[i]), "/v", &e) == 0)
                fail_msg("version \"%s\"", hostile[i]);
            assert_string_equal(e.pointer, "/v");
        }
    /* a NUL hides what comes after it */
    assert_int_equal(rp_dependency_check_name(RP_MANAGER_PIP, (struct rp_str){"a\0b", 3}, "", NULL), -1);
    assert_int_equal(rp_dependency_check_version(RP_MANAGER_PIP, (struct rp_str){"1\0 2", 4}, "", NULL), -1);
    assert_int_equal(rp_dependency_check_version(RP_MANAGER_NPM, (struct rp_str){"1\0 2", 4}, "", NULL), -1);
    assert_int_equal(rp_dependency_check_name(RP_MANAGER_PIP, RP_STR(""), "", NULL), -1);
    assert_int_equal(rp_dependency_check_name(RP_MANAGER_NPM, RP_STR(""), "", NULL), -1);
}

static void python_names(void **state)
{
    static const char *const good[] = {"fastapi",
                                       "Flask",
                                       "a",
                                       "9",
                                       "zope.interface",
                                       "ruamel.yaml.clib",
                                       "backports.zoneinfo",
                                       "typing_extensions",
                                       "uvicorn[standard]",
                                       "x[a,b-c,d_e]",
                                       "3to2"};
    static const char *const bad[] = {"-a", "a-",   ".a",          "a.",  "_a",
                                      "a_", "a[-]", "@scope/name", "a/b", "a[b][c]"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(good); i++)
        if (!rp_grammar_pip_name(rp_str_of(good[i])))
            fail_msg("%s", good[i]);
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++)
        if (rp_grammar_pip_name(rp_str_of(bad[i])))
            fail_msg("%s", bad[i]);
}

static void npm_names(void **state)
{
    static const char *const good[] = {"express", "JSONStream", "lodash.get", "@types/node", "@scope/a.b-c_d",
                                       "3d",      "a",          "left-pad",   "left_pad"};
    static const char *const bad[] = {"@",      "@/",    "@a",           "@a/",          "@/a",
                                      "@a/b/c", "a/b",   ".hidden",      "_x",           "-x",
                                      "@-a/b",  "@a/.b", "node_modules", "NODE_modules", "favicon.ico",
                                      "a~b",    "a(b)",  "__proto__",    "@a/../b"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(good); i++)
        if (!rp_grammar_npm_name(rp_str_of(good[i])))
            fail_msg("%s", good[i]);
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++)
        if (rp_grammar_npm_name(rp_str_of(bad[i])))
            fail_msg("%s", bad[i]);
}

/* given → what stands in the manifest; NULL: refused. */
struct version_row {
    const char *given, *spec;
};

static void check_versions(const struct rp_stack *stack, const struct version_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        _cleanup_json_ json_t *table = json_pack("{s:s}", "pkg", rows[i].given);
        _cleanup_dependencies_ struct rp_dependencies d = {0};
        struct rp_error e = {0};
        int r = rp_dependencies_parse(stack, table, &d, &e);
        if ((r == 0) != (rows[i].spec != NULL))
            fail_msg("\"%s\": %d %s", rows[i].given, r, e.message);
        if (r < 0) {
            assert_string_equal(e.pointer, "/dependencies/pkg");
        } else {
            assert_string_equal(d.items[0].spec, rows[i].spec);
            assert_string_equal(d.items[0].version, rows[i].given);
        }
    }
}

static void python_versions(void **state)
{
    static const struct version_row rows[] = {
        {"0.110.0", "==0.110.0"},
        {"^0.27.0", "==0.27.0"},
        {"", ""},
        {"*", ""},
        {"latest", ""},
        {" 1.0 ", "==1.0"},
        {"1", "==1"},
        {"v1.0", "==v1.0"},
        {"1.*", "==1.*"},
        {"2!1.0", "==2!1.0"},
        {"1.0a1", "==1.0a1"},
        {"1.0.rc2", "==1.0.rc2"},
        {"1.0-beta.3", "==1.0-beta.3"},
        {"1.0.post1", "==1.0.post1"},
        {"1.0-1", "==1.0-1"},
        {"1.0.dev3", "==1.0.dev3"},
        {"1.0rc1.post2.dev3", "==1.0rc1.post2.dev3"},
        {"1.0+local.7", "==1.0+local.7"},
        {"==1.0", "==1.0"},
        {"===1.0", "===1.0"},
        {"!=1.5.*", "!=1.5.*"},
        {"~=1.4", "~=1.4"},
        {">=1.2,<2", ">=1.2,<2"},
        {">= 1.2, < 2", ">= 1.2, < 2"},
        {">1", ">1"},
        {"<=3.0", "<=3.0"},
        {"~=1", NULL},
        {">=1.*", NULL},
        {">=1.0+local", NULL},
        {"~1.2", NULL},
        {"1.x", NULL},
        {"=1.0", NULL},
        {"=>1.0", NULL},
        {">=", NULL},
        {">=1,", NULL},
        {",>=1", NULL},
        {">=1 <2", NULL},
        {"1.0,<2", NULL},
        {"1..0", NULL},
        {"1.0.", NULL},
        {".1", NULL},
        {"1.*.2", NULL},
        {"1.0+", NULL},
        {"1.0+a..b", NULL},
        {"^", NULL},
        {"^^1", NULL},
        {"^>=1", NULL},
        {"next", NULL},
        {"!1.0", NULL},
    };
    check_versions(&python, rows, RP_ARRAY_SIZE(rows));
}

static void npm_versions(void **state)
{
    static const struct version_row rows[] = {
        {"^4.18.2", "^4.18.2"},
        {"", "*"},
        {"*", "*"},
        {"latest", "*"},
        {"4", "4"},
        {"4.x", "4.x"},
        {"4.18.X", "4.18.X"},
        {"=1.2.3", "=1.2.3"},
        {"v1.2.3", "v1.2.3"},
        {"~1.2", "~1.2"},
        {"~>1.2", "~>1.2"},
        {">=1.2.3 <2", ">=1.2.3 <2"},
        {">= 1.2.3  < 2", ">= 1.2.3  < 2"},
        {"1.2.3 - 2.3.4", "1.2.3 - 2.3.4"},
        {"1.x || >=2.5.0 || 5.0.0 - 7.2.3", "1.x || >=2.5.0 || 5.0.0 - 7.2.3"},
        {"1||2", "1||2"},
        {"1.2.3-beta.1+build.5", "1.2.3-beta.1+build.5"},
        {"18.3.0-canary-ab12", "18.3.0-canary-ab12"},
        {"next", "next"},
        {"release-7.x", "release-7.x"},
        {"1.2.3.4", NULL},
        {"1.2.3-", NULL},
        {"1.2.3+", NULL},
        {"^^1", NULL},
        {"|| 1", NULL},
        {"1 ||", NULL},
        {"1 | 2", NULL},
        {"package.tgz", NULL},
        {"package.TAR.gz", NULL},
        {"x.tar", NULL},
        {"next ||", NULL},
        {"@1", NULL},
        {"3beta", NULL},
    };
    check_versions(&node, rows, RP_ARRAY_SIZE(rows));
}

static void tables_are_checked(void **state)
{
    static const struct {
        const char *json, *pointer;
    } bad[] = {
        {"{\"a\":1}", "/dependencies/a"},
        {"{\"a\":null}", "/dependencies/a"},
        {"{\"a\":{\"version\":\"1\"}}", "/dependencies/a"},
        {"{\"a/b\":\"1\"}", "/dependencies/a~1b"},
        {"{\"a~b\":\"1\"}", "/dependencies/a~0b"},
        {"{\"Flask\":\"1\",\"flask\":\"2\"}", "/dependencies/flask"},
        {"{\"zope.interface\":\"1\",\"Zope_Interface\":\"2\"}", "/dependencies/Zope_Interface"},
        {"{\"uvicorn\":\"1\",\"uvicorn[standard]\":\"1\"}", "/dependencies/uvicorn[standard]"},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++) {
        struct rp_dependencies d;
        struct rp_error e = {0};
        assert_int_equal(rp_dependencies_parse_text(&python, bad[i].json, &d, &e), -1);
        assert_string_equal(e.pointer, bad[i].pointer);
        assert_int_equal(e.code, RP_ERROR_INVALID);
    }
    _cleanup_json_ json_t *array = json_array();
    struct rp_dependencies d;
    struct rp_error e;
    assert_int_equal(rp_dependencies_parse(&python, array, &d, &e), -1);
    assert_string_equal(e.pointer, "/dependencies");
    assert_int_equal(rp_dependencies_parse(&python, NULL, &d, &e), 0);
    assert_int_equal(d.count, 0);
    assert_int_equal(rp_dependencies_parse_text(&python, NULL, &d, &e), 0);
}

static void lengths_are_limited(void **state)
{
    char name[RP_DEPENDENCY_NAME_MAX + 2], version[RP_DEPENDENCY_VERSION_MAX + 2];
    memset(name, 'a', sizeof(name));
    memset(version, '1', sizeof(version));
    assert_int_equal(
        rp_dependency_check_name(RP_MANAGER_NPM, (struct rp_str){name, RP_DEPENDENCY_NAME_MAX}, "", NULL), 0);
    assert_int_equal(
        rp_dependency_check_name(RP_MANAGER_NPM, (struct rp_str){name, RP_DEPENDENCY_NAME_MAX + 1}, "", NULL),
        -1);
    /* pip's gets "==" */
    assert_int_equal(rp_dependency_check_version(
                         RP_MANAGER_PIP, (struct rp_str){version, RP_DEPENDENCY_VERSION_MAX - 2}, "", NULL),
                     0);
    assert_int_equal(rp_dependency_check_version(
                         RP_MANAGER_PIP, (struct rp_str){version, RP_DEPENDENCY_VERSION_MAX - 1}, "", NULL),
                     -1);
    assert_int_equal(rp_dependency_check_version(
                         RP_MANAGER_PIP, (struct rp_str){version, RP_DEPENDENCY_VERSION_MAX + 1}, "", NULL),
                     -1);

    _cleanup_json_ json_t *table = json_object();
    for (int i = 0; i <= RP_DEPENDENCIES_MAX; i++) {
        char key[16];
        snprintf(key, sizeof(key), "p%d", i);
        json_object_set_new(table, key, json_string("1"));
    }
    struct rp_dependencies d;
    struct rp_error e;
    assert_int_equal(rp_dependencies_parse(&python, table, &d, &e), -1);
    assert_string_equal(e.pointer, "/dependencies");
    json_object_del(table, "p0");
    assert_int_equal(rp_dependencies_parse(&python, table, &d, &e), 0);
    assert_int_equal(d.count, RP_DEPENDENCIES_MAX);
    rp_dependencies_done(&d);
}

static void parse(const struct rp_stack *stack, const char *json, struct rp_dependencies *ret)
{
    struct rp_error e;
    if (rp_dependencies_parse_text(stack, json, ret, &e) < 0)
        fail_msg("%s", e.message);
}

static void template_follows_dependencies(void **state)
{
    static const struct {
        const char *json, *name;
    } rows[] = {
        {"{}", "plain"},
        {"{\"fastapi\":\"\"}", "plain"},
        {"{\"fastapi\":\"0.110.0\",\"uvicorn\":\"0.27.0\"}", "fastapi"},
        {"{\"FastAPI\":\"\",\"uvicorn[standard]\":\"\"}", "fastapi"},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(rows); i++) {
        _cleanup_dependencies_ struct rp_dependencies d;
        parse(&python, rows[i].json, &d);
        assert_string_equal(rp_stack_template_for(&python, &d)->name, rows[i].name);
    }
}

static void manifest_is(const struct rp_stack *stack, const char *json, const char *expected)
{
    _cleanup_dependencies_ struct rp_dependencies d;
    struct rp_buf out;
    struct rp_error e;
    parse(stack, json, &d);
    rp_buf_init(&out, 1 << 20);
    assert_int_equal(rp_manifest_write(stack, &d, "p1", &out, &e), 0);
    assert_true(rp_buf_append(&out, "", 1));
    assert_string_equal(out.data, expected);
    rp_buf_done(&out);
}

static void manifests_are_written(void **state)
{
    manifest_is(&python, "{\"fastapi\":\"0.110.0\",\"uvicorn[standard]\":\"^0.27.0\",\"httpx\":\"\"}",
                "fastapi==0.110.0\nuvicorn[standard]==0.27.0\nhttpx\n");
    manifest_is(&python, "{}", "");
    manifest_is(&node, "{\"express\":\"^4.18.2\",\"@types/node\":\"\"}",
                "{\n  \"name\": \"p1\",\n  \"version\": \"1.0.0\",\n  \"type\": \"module\",\n  \"main\": "
                "\"index.js\",\n"
                "  \"dependencies\": {\n    \"express\": \"^4.18.2\",\n    \"@types/node\": \"*\"\n  }\n}\n");
}

static void edit_is(const struct rp_stack *stack, const char *before, const char *set,
                    const char *const *remove, const char *after)
{
    _cleanup_dependencies_ struct rp_dependencies d;
    struct rp_buf out;
    struct rp_error e = {0};
    parse(stack, set, &d);
    rp_buf_init(&out, 1 << 20);
    int r = rp_manifest_edit(stack, rp_str_of(before), &d, remove, &out, &e);
    if (!after) {
        assert_int_equal(r, -1);
        assert_int_equal(e.code, RP_ERROR_CONFLICT);
    } else {
        assert_int_equal(r, 0);
        assert_true(rp_buf_append(&out, "", 1));
        assert_string_equal(out.data, after);
    }
    rp_buf_done(&out);
}

static void requirements_are_edited(void **state)
{
    static const char *const gone[] = {"Flask", NULL};
    edit_is(&python, "", "{\"a\":\"1\"}", NULL, "a==1\n");
    edit_is(&python, "# mine\n--extra-index-url https://x/\nflask>=1 # why\nb\n", "{\"b\":\"2\"}", gone,
            "# mine\n--extra-index-url https://x/\nb==2\n");
    edit_is(&python, "a==1", "{\"b\":\"\"}", NULL, "a==1\nb\n");
    edit_is(&python, "FLASK[async]==1 \\\n    --hash=sha256:00\nx\n", "{}", gone, "x\n");
    edit_is(&python, "a==1\r\nA==2\r\n", "{\"a\":\"3\"}", NULL, "a==3\n");
    edit_is(&python, "a @ https://x/a.whl\n./b\n-e c\n", "{\"a\":\"3\"}", NULL, "a==3\n./b\n-e c\n");
    edit_is(&python, "a==1", "{\"a\":\"2\"}", NULL, "a==2\n");
}

static void packages_are_edited(void **state)
{
    static const char *const gone[] = {"old", NULL};
    edit_is(&node,
            "{\"z\":1,\"dependencies\":{\"old\":\"1\",\"b\":\"1\"},\"devDependencies\":{\"c\":\"1\",\"old\":"
            "\"2\"},"
            "\"a\":[]}",
            "{\"c\":\"^2\"}", gone,
            "{\n  \"z\": 1,\n  \"dependencies\": {\n    \"b\": \"1\",\n    \"c\": \"^2\"\n  },\n"
            "  \"devDependencies\": {},\n  \"a\": []\n}\n");
    edit_is(&node, "{}", "{\"c\":\"^2\"}", NULL, "{\n  \"dependencies\": {\n    \"c\": \"^2\"\n  }\n}\n");
    edit_is(&node, "{ broken", "{\"c\":\"^2\"}", NULL, NULL);
    edit_is(&node, "[]", "{\"c\":\"^2\"}", NULL, NULL);
    edit_is(&node, "{\"dependencies\":[]}", "{\"c\":\"^2\"}", NULL, NULL);
}

static void manifests_are_read(void **state)
{
    _cleanup_dependencies_ struct rp_dependencies d;
    struct rp_error e;
    assert_int_equal(
        rp_manifest_read(&python,
                         RP_STR("# c\na==1 # x\n-r other.txt\nb @ https://x/\n./c\nd >= 2 ; python_version "
                                "< \"3\"\nuvicorn[standard] >=1,<2\r\nA==3\n\\\n\n"),
                         &d, &e),
        0);
    assert_int_equal(d.count, 2);
    assert_string_equal(d.items[0].name, "a");
    assert_string_equal(d.items[0].version, "==1");
    assert_string_equal(d.items[1].name, "uvicorn[standard]");
    assert_string_equal(d.items[1].version, ">=1,<2");
    rp_dependencies_done(&d);
    assert_int_equal(
        rp_manifest_read(
            &node, RP_STR("{\"dependencies\":{\"a\":\"^1\",\"b\":\"file:../x\",\"c\":1,\"../d\":\"1\"}}"), &d,
            &e),
        0);
    assert_int_equal(d.count, 1);
    assert_string_equal(d.items[0].name, "a");
}

static void json_is_as_given(void **state)
{
    _cleanup_dependencies_ struct rp_dependencies d;
    struct rp_buf out;
    parse(&python, "{\"a\":\"^1\",\"b\":\"\"}", &d);
    rp_buf_init(&out, 1000);
    struct rp_json_writer w = rp_json_writer(&out);
    rp_dependencies_write_json(&d, &w);
    assert_false(w.failed);
    assert_true(rp_str_is(rp_buf_view(&out), "{\"a\":\"^1\",\"b\":\"\"}"));
    rp_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_is_refused),
        cmocka_unit_test(python_names),
        cmocka_unit_test(npm_names),
        cmocka_unit_test(python_versions),
        cmocka_unit_test(npm_versions),
        cmocka_unit_test(tables_are_checked),
        cmocka_unit_test(lengths_are_limited),
        cmocka_unit_test(template_follows_dependencies),
        cmocka_unit_test(manifests_are_written),
        cmocka_unit_test(requirements_are_edited),
        cmocka_unit_test(packages_are_edited),
        cmocka_unit_test(manifests_are_read),
        cmocka_unit_test(json_is_as_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
