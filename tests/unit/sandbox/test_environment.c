/* sandbox/oci/environment: only whole environments are found; the host's layer has what is set and nothing
 * else. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "sandbox/oci/environment.h"
#include "sandbox/oci/environment_internal.h"

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static char root[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static int make_root(void **state)
{
    snprintf(root, sizeof(root), "/tmp/repld-environment-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *path, const char *content)
{
    struct rp_error e;
    if (rp_environment_put(root, path, rp_str_of(content), 0644, &e) < 0)
        fail_msg("%s", e.message);
}

static char *get(const char *path)
{
    _cleanup_free_ char *full = rp_asprintf("%s/%s", root, path);
    FILE *f = fopen(full, "re");
    if (!f)
        return NULL;
    char *text = rp_calloc(1, 65536);
    size_t n = fread(text, 1, 65535, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static void has(const char *path, const char *expected)
{
    _cleanup_free_ char *text = get(path);
    if (!text || !strstr(text, expected))
        fail_msg("%s has no \"%s\": %s", path, expected, text ? text : "(missing)");
}

static void lacks(const char *path)
{
    _cleanup_free_ char *text = get(path);
    assert_null(text);
}

static void find_fails(const char *hash, enum rp_code code, const char *expected)
{
    struct rp_environment found;
    struct rp_error e = {0};
    assert_int_equal(rp_environment_find(root, hash, &found, &e), -1);
    assert_int_equal(e.code, code);
    if (!strstr(e.message, expected))
        fail_msg("%s", e.message);
}

static void whole_ones_are_found(void **state)
{
    put("layers/" HASH_A "/x", "");
    put("layers/" HASH_B "/x", "");
    put(HASH_A ".json", "{\"name\":\"tee\",\"layers\":[\"" HASH_A "\",\"" HASH_B "\"]}");
    struct rp_environment found;
    struct rp_error e;
    assert_int_equal(rp_environment_find(root, HASH_A, &found, &e), 0);
    assert_string_equal(found.name, "tee");
    assert_int_equal(found.layer_count, 2);
    _cleanup_free_ char *upper = rp_asprintf("%s/layers/%s", root, HASH_A);
    assert_string_equal(found.layers[0], upper);
}

static void broken_ones_are_refused(void **state)
{
    find_fails(HASH_A, RP_ERROR_ENVIRONMENT, "repld stack build");
    put(HASH_A ".json", "{\"name\":\"tee\",\"layers\":[\"" HASH_A "\"]}");
    find_fails(HASH_A, RP_ERROR_ENVIRONMENT, "layers/" HASH_A);
    static const char *const malformed[] = {
        "",
        "[]",
        "{\"layers\":[]}",
        "{\"layers\":[7]}",
        "{\"layers\":[\"../../../../etc\"]}",
        "{\"layers\":\"x\"}",
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(malformed); i++) {
        put(HASH_A ".json", malformed[i]);
        find_fails(HASH_A, RP_ERROR_ENVIRONMENT, "broken");
    }
    put("layers/" HASH_B, "a file, not a layer");
    put(HASH_A ".json", "{\"layers\":[\"" HASH_B "\"]}");
    find_fails(HASH_A, RP_ERROR_ENVIRONMENT, "not a directory");
}

static void names_are_hashes(void **state)
{
    static const char *const bad[] = {
        "",         "x",           "../" HASH_A,
        HASH_A "a", "/etc/passwd", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(bad); i++)
        find_fails(bad[i], RP_ERROR_INVALID, "64 hexadecimal");
}

static void the_host_layer_has_what_is_set(void **state)
{
    struct rp_error e = {0};
    struct rp_settings settings = {0};
    _cleanup_free_ char *dir = rp_asprintf("%s/host", root);
    mode_t before = umask(077);
    assert_int_equal(rp_environment_host_layer_write(dir, &settings, "10.0.0.53", &e), 0);
    umask(before);
    has("host/etc/resolv.conf", "nameserver 10.0.0.53\n");
    has("host/etc/hosts", "localhost");
    lacks("host" RP_SANDBOX_CA_BUNDLE);
    lacks("host/etc/pip.conf");
    struct stat st;
    _cleanup_free_ char *etc = rp_asprintf("%s/etc", dir);
    assert_int_equal(stat(etc, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755);

    put("ca.pem", "-----BEGIN CERTIFICATE-----\nx\n");
    _cleanup_free_ char *bundle = rp_asprintf("%s/ca.pem", root);
    settings.ca_bundle = bundle;
    settings.pip_index_url = "https://pip.example/simple";
    settings.npm_registry = "https://npm.example/";
    assert_int_equal(rp_environment_host_layer_write(dir, &settings, "10.0.0.54", &e), 0);
    has("host/etc/resolv.conf", "nameserver 10.0.0.54\n");
    has("host" RP_SANDBOX_CA_BUNDLE, "BEGIN CERTIFICATE");
    has("host/etc/pip.conf", "index-url = https://pip.example/simple\n");
    has("host/etc/pip.conf", "cert = " RP_SANDBOX_CA_BUNDLE "\n");
    has("host/etc/npmrc", "registry=https://npm.example/\n");
    has("host/etc/gitconfig", RP_SANDBOX_CA_BUNDLE);

    settings = (struct rp_settings){0};
    assert_int_equal(rp_environment_host_layer_write(dir, &settings, "10.0.0.54", &e), 0);
    lacks("host" RP_SANDBOX_CA_BUNDLE);
    lacks("host/etc/npmrc");
}

static void unchanged_files_stay(void **state)
{
    struct rp_error e = {0};
    struct rp_settings settings = {0};
    struct stat first, second;
    _cleanup_free_ char *dir = rp_asprintf("%s/host", root);
    _cleanup_free_ char *file = rp_asprintf("%s/etc/resolv.conf", dir);
    assert_int_equal(rp_environment_host_layer_write(dir, &settings, "10.0.0.53", &e), 0);
    assert_int_equal(stat(file, &first), 0);
    assert_int_equal(rp_environment_host_layer_write(dir, &settings, "10.0.0.53", &e), 0);
    assert_int_equal(stat(file, &second), 0);
    assert_int_equal(first.st_ino, second.st_ino);
}

static void a_wrong_bundle_is_refused(void **state)
{
    struct rp_error e = {0};
    _cleanup_free_ char *dir = rp_asprintf("%s/host", root);
    _cleanup_free_ char *bundle = rp_asprintf("%s/ca.pem", root);
    struct rp_settings settings = {.ca_bundle = bundle};
    assert_int_equal(rp_environment_host_layer_write(dir, &settings, "10.0.0.53", &e), -1);
    assert_non_null(strstr(e.message, "ca-bundle"));
    put("ca.pem", "this is not a certificate");
    assert_int_equal(rp_environment_host_layer_write(dir, &settings, "10.0.0.53", &e), -1);
    assert_non_null(strstr(e.message, "no certificate"));
}

static void files_do_not_leave_the_layer(void **state)
{
    struct rp_error e = {0};
    put("outside/x", "safe");
    _cleanup_free_ char *layer = rp_asprintf("%s/layer", root);
    _cleanup_free_ char *link_path = rp_asprintf("%s/etc", layer);
    assert_int_equal(mkdir(layer, 0755), 0);
    assert_int_equal(symlink("../outside", link_path), 0);
    assert_int_equal(rp_environment_put(layer, "etc/x", RP_STR("evil"), 0644, &e), -1);
    has("outside/x", "safe");
    /* a link in the place of the file itself is replaced, not followed */
    _cleanup_free_ char *file_link = rp_asprintf("%s/y", layer);
    assert_int_equal(symlink("../outside/x", file_link), 0);
    assert_int_equal(rp_environment_put(layer, "y", RP_STR("new"), 0644, &e), 0);
    has("outside/x", "safe");
    has("layer/y", "new");
}

static void sources_follow_the_mirror(void **state)
{
    struct rp_buf out;
    struct rp_error e;
    rp_buf_init(&out, 65536);
    assert_int_equal(rp_environment_debian_sources("http://mirror.example/debian/", "trixie", &out, &e), 0);
    assert_true(rp_buf_append(&out, "", 1));
    assert_non_null(strstr(out.data, " http://mirror.example/debian trixie main\n"));
    assert_non_null(strstr(out.data, " http://mirror.example/debian trixie-updates main\n"));
    assert_non_null(strstr(out.data, " http://mirror.example/debian-security trixie-security main\n"));
    rp_buf_done(&out);
    assert_int_equal(rp_environment_debian_sources(NULL, "bookworm", &out, &e), 0);
    assert_true(rp_buf_append(&out, "", 1));
    assert_non_null(strstr(out.data, " bookworm main\n"));
    rp_buf_done(&out);
}

#define WITH_ROOT(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ROOT(whole_ones_are_found),
        WITH_ROOT(broken_ones_are_refused),
        WITH_ROOT(names_are_hashes),
        WITH_ROOT(the_host_layer_has_what_is_set),
        WITH_ROOT(unchanged_files_stay),
        WITH_ROOT(a_wrong_bundle_is_refused),
        WITH_ROOT(files_do_not_leave_the_layer),
        cmocka_unit_test(sources_follow_the_mirror),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
