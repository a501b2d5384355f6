/* domain/stack: the shipped stacks load; what is wrong in a description is refused and named; a folder is
 * enough. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "domain/dependencies.h"
#include "domain/stack.h"

/* ---- a folder of stacks of the test's own ---- */

static char root[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static int make_root(void **state)
{
    snprintf(root, sizeof(root), "/tmp/repld-stacks-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *path, const char *content)
{
    char full[512];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *f = fopen(full, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, strlen(content), f), strlen(content));
    assert_int_equal(fclose(f), 0);
}

static const char base_json[] = "{\"provider\":\"debian\",\"suite\":\"bookworm\",\"packages\":[\"bash\"]}";

static const char stack_json[] =
    "{\"title\":\"T\",\"icon\":\"t\",\"summary\":\"S.\",\"versions\":[\"1\"],"
    "\"environment\":{\"provider\":\"debian\",\"base\":\"_b\",\"packages\":[\"python3\"]},"
    "\"entry\":\"main.t\",\"port\":7000,\"run\":[\"tool\",\"a b\",\"it's\"],"
    "\"limits\":{\"memory\":\"64M\",\"cpu\":0.5,\"processes\":50,\"burst_cpu\":2,\"burst_seconds\":10},"
    "\"manager\":{\"kind\":\"pip\",\"manifest\":\"r.txt\"},"
    "\"install\":{\"limits\":{\"memory\":\"1G\",\"cpu\":1,\"processes\":99},\"timeout\":60,"
    "\"steps\":[{\"label\":\"L\",\"run\":[\"get\"],\"if_exists\":\"r.txt\",\"if_missing\":\"done\"}],"
    "\"watched\":[{\"path\":\"r.txt\",\"content\":true},{\"path\":\"done\",\"content\":false}]},"
    "\"env\":{\"PATH\":\"/usr/bin\"},"
    "\"templates\":[{\"name\":\"plain\"}],"
    "\"associations\":{\".t\":\"tee\"}}";

static void put_good(void)
{
    put("_b/environment.json", base_json);
    put("tee/stack.json", stack_json);
    put("tee/template/plain/main.t", "{{project_id}} {{port}} {{name}} {{other}} {{");
    put("tee/template/plain/README.md", "# {{name}}\n");
}

static struct rp_stacks *load(void)
{
    struct rp_stacks *s = NULL;
    struct rp_error e;
    if (rp_stacks_load(root, &s, &e) < 0)
        fail_msg("%s", e.message);
    return s;
}

/* ---- tests ---- */

static void a_folder_is_enough(void **state)
{
    put_good();
    struct rp_stacks *s = load();
    assert_int_equal(rp_stacks_count(s), 1);
    const struct rp_stack *t = rp_stacks_find(s, RP_STR("tee"));
    assert_non_null(t);
    assert_ptr_equal(t, rp_stacks_at(s, 0));
    assert_null(rp_stacks_at(s, 1));
    assert_null(rp_stacks_find(s, RP_STR("te")));
    assert_null(rp_stacks_find(s, RP_STR("_b")));
    assert_ptr_equal(rp_stacks_by_environment(s, t->environment), t);
    assert_string_equal(t->run_command, "tool 'a b' 'it'\\''s'");
    assert_int_equal(t->limits.memory, 64 << 20);
    assert_int_equal(t->limits.cpu, 500);
    assert_int_equal(t->limits.burst_cpu, 2000);
    assert_int_equal(t->limits.burst_ms, 10000);
    assert_int_equal(t->install_limits.memory, 1 << 30);
    assert_int_equal(t->install_limits.burst_cpu, 0);
    assert_int_equal(strlen(t->environment), 64);
    assert_string_equal(t->env[0], "PATH=/usr/bin");
    assert_string_equal(t->env[1], "PORT=7000");
    assert_null(t->env[2]);
    assert_int_equal(t->templates[0].file_count, 2);
    rp_stacks_free(s);
}

static void templates_are_filled_in(void **state)
{
    put_good();
    struct rp_stacks *s = load();
    const struct rp_stack *t = rp_stacks_at(s, 0);
    const struct rp_stack_substitution with = {.project_id = "p1", .name = "a\n\"b\""};
    const char *const expected[] = {"# a\"b\"\n", "p1 7000 {{name}} {{other}} {{"};
    for (size_t i = 0; i < 2; i++) {
        struct rp_buf out;
        struct rp_error e;
        rp_buf_init(&out, 1000);
        assert_int_equal(rp_stack_render(t, &t->templates[0].files[i], &with, &out, &e), 0);
        assert_true(rp_str_is(rp_buf_view(&out), expected[i]));
        rp_buf_done(&out);
        rp_buf_init(&out, 3);
        assert_int_equal(rp_stack_render(t, &t->templates[0].files[i], &with, &out, &e), -1);
        assert_int_equal(e.code, RP_ERROR_TOO_LARGE);
        rp_buf_done(&out);
    }
    rp_stacks_free(s);
}

/* A replacement in the good description, and where the error must point. */
static void what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *from, *to, *pointer;
    } rows[] = {
        {"\"title\":\"T\"", "\"titel\":\"T\"", "/titel"},
        {"\"title\":\"T\"", "\"title\":\"\"", "/title"},
        {"\"title\":\"T\"", "\"title\":\"a\\nb\"", "/title"},
        {"\"title\":\"T\"", "\"title\":7", "/title"},
        {"\"versions\":[\"1\"]", "\"versions\":[]", "/versions"},
        {"\"provider\":\"debian\"", "\"provider\":\"magic\"", "/environment/provider"},
        {"\"base\":\"_b\"", "\"base\":\"_c\"", "/environment/base"},
        {"[\"python3\"]", "[\"python3 --force\"]", "/environment/packages"},
        {"[\"python3\"]", "[\"-o\"]", "/environment/packages"},
        {"[\"python3\"]", "[\"python3\"],\"exclude\":[\"usr\"]", "/environment/exclude"},
        {"[\"python3\"]", "[\"python3\"],\"exclude\":[\"/a\\nb\"]", "/environment/exclude"},
        {"\"entry\":\"main.t\"", "\"entry\":\"../main.t\"", "/entry"},
        {"\"entry\":\"main.t\"", "\"entry\":\"/main.t\"", "/entry"},
        {"\"entry\":\"main.t\"", "\"entry\":\"a//b\"", "/entry"},
        {"\"port\":7000", "\"port\":70000", "/port"},
        {"\"port\":7000", "\"port\":\"7000\"", "/port"},
        {"\"run\":[\"tool\",\"a b\",\"it's\"]", "\"run\":\"tool\"", "/run"},
        {"\"run\":[\"tool\",\"a b\",\"it's\"]", "\"run\":[]", "/run"},
        {"\"run\":[\"tool\",\"a b\",\"it's\"]", "\"run\":[\"a\\u0000b\"]", ""},
        {"\"memory\":\"64M\"", "\"memory\":\"64MB\"", "/limits/memory"},
        {"\"memory\":\"64M\"", "\"memory\":\"1K\"", "/limits/memory"},
        {"\"cpu\":0.5", "\"cpu\":0", "/limits/cpu"},
        {"\"cpu\":0.5", "\"cpus\":1", "/limits/cpus"},
        {"\"processes\":50", "\"processes\":1", "/limits/processes"},
        {"\"kind\":\"pip\"", "\"kind\":\"cargo\"", "/manager/kind"},
        {"\"manifest\":\"r.txt\"", "\"manifest\":\"q.txt\"", "/install/watched"},
        {"\"if_missing\":\"done\"", "\"if_missing\":\"else\"", "/install/steps/0/if_missing"},
        {"\"label\":\"L\"", "\"name\":\"L\"", "/install/steps/0/name"},
        {"\"timeout\":60", "\"timeout\":0", "/install/timeout"},
        {"\"PATH\":", "\"A-B\":", "/env/A-B"},
        {"\"PATH\":", "\"PORT\":", "/env/PORT"},
        {"[{\"name\":\"plain\"}]", "[]", "/templates"},
        {"[{\"name\":\"plain\"}]", "[{\"name\":\"plain\",\"when\":[\"a\"]}]", "/templates/0"},
        {"[{\"name\":\"plain\"}]", "[{\"name\":\"plain\",\"when\":[\"--a\"]}]", "/templates/0/when"},
        {"[{\"name\":\"plain\"}]", "[{\"name\":\"..\"}]", "/templates/0/name"},
        {"[{\"name\":\"plain\"}]", "[{\"name\":\"absent\"}]", ""},
        {"\".t\":", "\"t\":", "/associations/t"},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(rows); i++) {
        put_good();
        const char *at = strstr(stack_json, rows[i].from);
        assert_non_null(at);
        _cleanup_free_ char *text = rp_asprintf("%.*s%s%s", (int)(at - stack_json), stack_json, rows[i].to,
                                                at + strlen(rows[i].from));
        put("tee/stack.json", text);
        struct rp_stacks *s = NULL;
        struct rp_error e = {0};
        if (rp_stacks_load(root, &s, &e) == 0)
            fail_msg("loaded with %s", rows[i].to);
        assert_int_equal(e.code, RP_ERROR_INVALID);
        if (!strstr(e.message, "tee/stack.json") || !strstr(e.message, rows[i].pointer))
            fail_msg("%s: \"%s\"", rows[i].to, e.message);
        assert_string_equal(e.pointer, rows[i].pointer);
    }
}

static void loading_fails(const char *expected)
{
    struct rp_stacks *s = NULL;
    struct rp_error e = {0};
    assert_int_equal(rp_stacks_load(root, &s, &e), -1);
    if (!strstr(e.message, expected))
        fail_msg("\"%s\" is not in \"%s\"", expected, e.message);
}

static void folders_are_checked(void **state)
{
    loading_fails("there is no stack");
    put("_b/environment.json", base_json);
    put("tee/stack.json", stack_json);
    loading_fails("template/plain");
    put_good();
    put("Bad Name/stack.json", stack_json);
    loading_fails("Bad Name");
    char path[128];
    snprintf(path, sizeof(path), "%s/Bad Name/stack.json", root);
    unlink(path);
    snprintf(path, sizeof(path), "%s/Bad Name", root);
    rmdir(path);
    put("tee/template/plain/r.txt", "x");
    loading_fails("r.txt");
    snprintf(path, sizeof(path), "%s/tee/template/plain/r.txt", root);
    unlink(path);
    /* a template that would copy the host's files into projects */
    assert_int_equal(symlink("/etc/passwd", path), 0);
    loading_fails("r.txt");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    loading_fails("r.txt");
    unlink(path);
    put("_b/environment.json", "{\"provider\":\"debian\",\"suite\":\"book worm\",\"packages\":[\"bash\"]}");
    loading_fails("_b/environment.json: /suite");
    rp_stacks_free(NULL);
}

static void the_recipe_names_the_environment(void **state)
{
    put_good();
    struct rp_stacks *s = load();
    char first[65];
    snprintf(first, sizeof(first), "%s", rp_stacks_at(s, 0)->environment);
    rp_stacks_free(s);

    put("tee/stack.json", stack_json);
    put("tee/template/plain/main.t", "another starter does not need another environment");
    s = load();
    assert_string_equal(rp_stacks_at(s, 0)->environment, first);
    rp_stacks_free(s);

    put("_b/environment.json",
        "{\"provider\":\"debian\",\"suite\":\"bookworm\",\"packages\":[\"bash\",\"less\"]}");
    s = load();
    assert_string_not_equal(rp_stacks_at(s, 0)->environment, first);
    rp_stacks_free(s);

    put("_b/environment.json", base_json);
    put("tee/files/etc/motd", "hello");
    s = load();
    assert_string_not_equal(rp_stacks_at(s, 0)->environment, first);
    assert_int_equal(rp_stacks_at(s, 0)->recipe->file_count, 1);
    assert_string_equal(rp_stacks_at(s, 0)->recipe->files[0].path, "etc/motd");
    rp_stacks_free(s);
}

static void the_fingerprint_follows_what_is_installed(void **state)
{
    put_good();
    struct rp_stacks *s = load();
    const struct rp_stack *t = rp_stacks_at(s, 0);
    const struct rp_stack_state rows[][2] = {
        {{false}, {false}},
        {{true, RP_STR("")}, {false}},
        {{true, RP_STR("a")}, {false}},
        {{true, RP_STR("a")}, {true}},
        {{true, RP_STR("b")}, {true}},
    };
    char prints[RP_ARRAY_SIZE(rows)][RP_FINGERPRINT_SIZE], again[RP_FINGERPRINT_SIZE];
    for (size_t i = 0; i < RP_ARRAY_SIZE(rows); i++) {
        rp_stack_fingerprint(t, rows[i], prints[i]);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(prints[i], prints[j]);
    }
    /* only the presence of "done" counts */
    const struct rp_stack_state other[2] = {{true, RP_STR("b")}, {true, RP_STR("content")}};
    rp_stack_fingerprint(t, other, again);
    assert_string_equal(again, prints[4]);
    static const bool applies[] = {false, true, true, false, false};
    for (size_t i = 0; i < RP_ARRAY_SIZE(rows); i++)
        assert_int_equal(rp_stack_step_applies(t, &t->steps[0], rows[i]), applies[i]);
    rp_stacks_free(s);
}

static void count_variable(void *ctx, const char *name, const char *value)
{
    int *seen = ctx;
    if (strcmp(name, "NODE_EXTRA_CA_CERTS") == 0 && strcmp(value, RP_SANDBOX_CA_BUNDLE) == 0)
        *seen |= 1;
    if (strcmp(name, "PIP_INDEX_URL") == 0 && strcmp(value, "https://pip.example/simple") == 0)
        *seen |= 2;
    if (strcmp(name, "npm_config_registry") == 0 && strcmp(value, "https://npm.example/") == 0)
        *seen |= 4;
    if (strcmp(name, "SSL_CERT_FILE") == 0)
        *seen |= 8;
}

static void the_host_is_handed_in_where_set(void **state)
{
    struct rp_settings settings = {0};
    int seen = 0;
    rp_stack_host_env(&settings, count_variable, &seen);
    assert_int_equal(seen, 0);
    settings.ca_bundle = "/host/ca.pem";
    settings.pip_index_url = "https://pip.example/simple";
    settings.npm_registry = "https://npm.example/";
    rp_stack_host_env(&settings, count_variable, &seen);
    assert_int_equal(seen, 15);
}

static void shipped_stacks_load(void **state)
{
    struct rp_stacks *s;
    struct rp_error e;
    if (rp_stacks_load(REPLD_SOURCE_ROOT "/stacks", &s, &e) < 0)
        fail_msg("%s", e.message);
    const struct rp_stack *python = rp_stacks_find(s, RP_STR("python"));
    const struct rp_stack *node = rp_stacks_find(s, RP_STR("node"));
    assert_non_null(python);
    assert_non_null(node);
    /* what the reference systems promise */
    assert_int_equal(python->port, 8000);
    assert_int_equal(node->port, 3000);
    for (size_t i = 0; i < rp_stacks_count(s); i++) {
        const struct rp_stack *t = rp_stacks_at(s, i);
        assert_int_equal(t->limits.memory, 256 << 20);
        assert_int_equal(t->limits.cpu, 500);
        assert_int_equal(t->limits.processes, 100);
        for (size_t k = 0; k < t->template_count; k++) {
            bool entry = false;
            for (size_t f = 0; f < t->templates[k].file_count; f++)
                entry = entry || strcmp(t->templates[k].files[f].path, t->entry) == 0;
            assert_true(entry);
        }
    }
    _cleanup_dependencies_ struct rp_dependencies d;
    assert_int_equal(
        rp_dependencies_parse_text(python, "{\"fastapi\":\"0.110.0\",\"uvicorn\":\"0.27.0\"}", &d, &e), 0);
    assert_string_equal(rp_stack_template_for(python, &d)->run_command,
                        "uvicorn main:app --host 0.0.0.0 --port 8000");
    rp_stacks_free(s);
}

#define WITH_ROOT(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ROOT(a_folder_is_enough),
        WITH_ROOT(templates_are_filled_in),
        WITH_ROOT(what_is_wrong_is_named),
        WITH_ROOT(folders_are_checked),
        WITH_ROOT(the_recipe_names_the_environment),
        WITH_ROOT(the_fingerprint_follows_what_is_installed),
        cmocka_unit_test(the_host_is_handed_in_where_set),
        cmocka_unit_test(shipped_stacks_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
