#include "sandbox/oci/environment.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/json.h"

enum { MANIFEST_MAX = 64 * 1024 };

static bool hash_valid(struct rp_str s)
{
    if (s.n != RP_ENVIRONMENT_LENGTH)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return true;
}

static int read_manifest(const char *path, struct rp_buf *out, struct rp_error *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_ENVIRONMENT, errno, "open \"%s\"", path);
    for (;;) {
        char *at = rp_buf_reserve(out, 4096);
        if (!at)
            return rp_error_set(err, RP_ERROR_ENVIRONMENT, "\"%s\" is too large", path);
        ssize_t n = read(fd, at, 4096);
        if (n < 0 && errno != EINTR)
            return rp_error_errno(err, RP_ERROR_ENVIRONMENT, errno, "read \"%s\"", path);
        if (n == 0)
            return 0;
        if (n > 0)
            rp_buf_commit(out, (size_t)n);
    }
}

static int add_layer(const char *dir, json_t *item, struct rp_environment *e, struct rp_error *err)
{
    struct rp_str hash = {json_string_value(item), json_string_length(item)};
    if (!hash.p || !hash_valid(hash) || e->layer_count == RP_ENVIRONMENT_LAYERS_MAX)
        return rp_error_set(err, RP_ERROR_ENVIRONMENT, "the list of layers is malformed");
    char *path = e->layers[e->layer_count];
    int n = snprintf(path, sizeof(e->layers[0]), "%s/layers/%.*s", dir, (int)hash.n, hash.p);
    if (n < 0 || (size_t)n >= sizeof(e->layers[0]))
        return rp_error_set(err, RP_ERROR_ENVIRONMENT, "the path of the environments is too long");
    struct stat st;
    if (stat(path, &st) < 0)
        return rp_error_errno(err, RP_ERROR_ENVIRONMENT, errno, "layer \"%s\"", path);
    if (!S_ISDIR(st.st_mode))
        return rp_error_set(err, RP_ERROR_ENVIRONMENT, "layer \"%s\" is not a directory", path);
    e->layer_count++;
    return 0;
}

static int parse_manifest(const char *dir, struct rp_str text, struct rp_environment *e, struct rp_error *err)
{
    _cleanup_json_ json_t *root = NULL;
    json_t *layers = NULL, *item;
    struct rp_str name = {0};
    size_t i;
    if (rp_json_parse_object(text, &root, err) < 0 ||
        rp_json_get_str(root, "", "name", sizeof(e->name) - 1, &name, err) < 0 ||
        rp_json_get_array(root, "", "layers", &layers, err) < 0)
        return -1;
    if (!rp_str_copy(e->name, sizeof(e->name), name) || json_array_size(layers) == 0)
        return rp_error_set(err, RP_ERROR_ENVIRONMENT, "there is no list of layers");
    json_array_foreach(layers, i, item)
    {
        if (add_layer(dir, item, e, err) < 0)
            return -1;
    }
    return 0;
}

int rp_environment_find(const char *environments_dir, const char *hash, struct rp_environment *ret,
                        struct rp_error *err)
{
    if (!hash_valid(rp_str_of(hash)))
        return rp_error_set(err, RP_ERROR_INVALID, "an environment is named by 64 hexadecimal digits");
    _cleanup_free_ char *path = rp_asprintf("%s/%s.json", environments_dir, hash);
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return rp_error_set(err, RP_ERROR_ENVIRONMENT,
                            "the environment %.12s is not built; \"repld stack build\" builds it", hash);
    struct rp_environment e = {0};
    struct rp_buf text;
    rp_buf_init(&text, MANIFEST_MAX);
    int r = read_manifest(path, &text, err);
    if (r == 0)
        r = parse_manifest(environments_dir, rp_buf_view(&text), &e, err);
    rp_buf_done(&text);
    if (r < 0) {
        if (err)
            err->code = RP_ERROR_ENVIRONMENT;
        return rp_error_prefix(err, "the environment %.12s is broken (\"repld stack build\" mends it)", hash);
    }
    *ret = e;
    return 0;
}
