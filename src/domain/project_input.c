#include "domain/project_input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t MEMORY_MIN = 16ULL << 20, MEMORY_MAX = 1ULL << 40;
static const uint64_t DISK_MIN = 16ULL << 20, DISK_MAX = 1ULL << 44;
enum { IDLE_TIMEOUT_MAX = 30 * 24 * 3600, METADATA_KEY_MAX = 64, METADATA_VALUE_MAX = 1024 };

void rp_project_input_done(struct rp_project_input *in)
{
    free(in->name);
    free(in->run_command);
    free(in->env);
    free(in->metadata);
    free(in->dependencies_json);
    free(in->network);
    rp_dependencies_done(&in->dependencies);
    for (size_t i = 0; i < in->file_count; i++) {
        free(in->files[i].path);
        free(in->files[i].content);
    }
    free(in->files);
    *in = (struct rp_project_input){0};
}

/* ---- single values ---- */

static size_t characters(struct rp_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

static bool has_control(struct rp_str s, bool lines_allowed)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == 0x7f || (c < 0x20 && !(lines_allowed && (c == '\n' || c == '\t'))))
            return true;
    }
    return false;
}

static int input_name(json_t *body, struct rp_project_input *in, struct rp_error *err)
{
    struct rp_str s;
    int there = rp_json_get_str(body, "", "name", 4L * RP_PROJECT_NAME_MAX, &s, err);
    if (there <= 0)
        return there;
    s = rp_str_trim(s);
    if (s.n == 0 || characters(s) > RP_PROJECT_NAME_MAX)
        return rp_error_field(err, "/name", "must have 1 to %d characters", RP_PROJECT_NAME_MAX);
    if (has_control(s, false))
        return rp_error_field(err, "/name", "must not have control characters");
    in->name = rp_str_dup(s);
    in->has |= RP_INPUT_NAME;
    return 0;
}

static int input_run_command(json_t *body, struct rp_project_input *in, struct rp_error *err)
{
    struct rp_str s;
    int there = rp_json_get_str(body, "", "run_command", RP_PROJECT_RUN_COMMAND_MAX, &s, err);
    if (there < 0)
        return -1;
    if (!there) {
        if (json_object_get(body, "run_command")) /* null: the stack's again */
            in->has |= RP_INPUT_RUN_COMMAND;
        return 0;
    }
    if (has_control(s, true))
        return rp_error_field(err, "/run_command", "must not have control characters");
    in->run_command = rp_str_dup(s);
    in->has |= RP_INPUT_RUN_COMMAND;
    char **argv = NULL;
    struct rp_error why;
    if (rp_command_split(in->run_command, &argv, &why) < 0)
        return rp_error_field(err, "/run_command", "%s", why.message);
    rp_argv_free(argv);
    return 0;
}

/* 1 when there or null (value 0: the default again), 0 when absent. */
static int input_number(json_t *object, const char *pointer, const char *key, uint64_t min, uint64_t max,
                        uint64_t *ret, struct rp_error *err)
{
    int64_t v;
    json_t *j = json_object_get(object, key);
    if (!j)
        return 0;
    *ret = 0;
    int there = rp_json_get_int(object, pointer, key, (int64_t)min, (int64_t)max, &v, err);
    if (there > 0)
        *ret = (uint64_t)v;
    return there < 0 ? -1 : 1;
}

static int input_limits(json_t *body, struct rp_project_input *in, struct rp_error *err)
{
    static const char *const keys[] = {"memory", "cpu", "processes", "disk", NULL};
    json_t *limits;
    int there = rp_json_get_object(body, "", "limits", &limits, err);
    if (there <= 0)
        return there;
    if (rp_json_only_keys(limits, "/limits", keys, err) < 0)
        return -1;
    uint64_t n;
    if ((there = input_number(limits, "/limits", "memory", MEMORY_MIN, MEMORY_MAX, &n, err)) < 0)
        return -1;
    if (there) {
        in->memory = n;
        in->has |= RP_INPUT_MEMORY;
    }
    if ((there = input_number(limits, "/limits", "disk", DISK_MIN, DISK_MAX, &n, err)) < 0)
        return -1;
    if (there) {
        in->disk = n;
        in->has |= RP_INPUT_DISK;
    }
    if ((there = input_number(limits, "/limits", "processes", 8, 65536, &n, err)) < 0)
        return -1;
    if (there) {
        in->processes = (uint32_t)n;
        in->has |= RP_INPUT_PROCESSES;
    }
    double cpus = 0;
    if ((there = rp_json_get_double(limits, "/limits", "cpu", 0.01, 1024, &cpus, err)) < 0)
        return -1;
    if (json_object_get(limits, "cpu")) {
        in->cpu = there ? (uint32_t)(cpus * 1000 + 0.5) : 0;
        in->has |= RP_INPUT_CPU;
    }
    return 0;
}

static int input_network(json_t *body, struct rp_project_input *in, struct rp_error *err)
{
    json_t *j = json_object_get(body, "network");
    if (!j || json_is_null(j))
        return 0;
    struct rp_network_policy policy;
    if (rp_network_decode(j, "/network", &policy, err) < 0)
        return -1;
    struct rp_buf b;
    rp_buf_init(&b, 4096);
    struct rp_json_writer w = rp_json_writer(&b);
    rp_network_write(&w, &policy);
    in->network = rp_str_dup(rp_buf_view(&b));
    rp_buf_done(&b);
    in->has |= RP_INPUT_NETWORK;
    return 0;
}

static int input_idle(json_t *body, struct rp_project_input *in, struct rp_error *err)
{
    int64_t seconds;
    int there = rp_json_get_int(body, "", "idle_timeout", 0, IDLE_TIMEOUT_MAX, &seconds, err);
    if (there < 0)
        return -1;
    if (there) {
        in->idle_timeout = (uint32_t)seconds;
        in->has |= RP_INPUT_IDLE_TIMEOUT;
    }
    there = rp_json_get_bool(body, "", "always_on", &in->always_on, err);
    if (there < 0)
        return -1;
    if (there)
        in->has |= RP_INPUT_ALWAYS_ON;
    return 0;
}

/* ---- maps ---- */

static bool variable_name(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
    return n > 0 && n <= 128 && s[n] == '\0' && !(s[0] >= '0' && s[0] <= '9');
}

/* Keys and the kind of values; null values only where a patch removes a key. */
static int check_map(json_t *map, const char *pointer, bool is_env, bool patch, struct rp_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        char at[128];
        rp_json_pointer(at, sizeof at, pointer, key);
        if (is_env && !variable_name(key))
            return rp_error_field(err, at, "is not a name of a variable");
        if (!is_env && (strlen(key) == 0 || strlen(key) > METADATA_KEY_MAX))
            return rp_error_field(err, at, "a key has 1 to %d bytes", METADATA_KEY_MAX);
        if (patch && json_is_null(value))
            continue;
        if (!json_is_string(value))
            return rp_error_field(err, at, "must be a string");
        size_t max = is_env ? RP_PROJECT_ENV_VALUE_MAX : METADATA_VALUE_MAX;
        if (json_string_length(value) > max)
            return rp_error_field(err, at, "is longer than %zu bytes", max);
    }
    return 0;
}

static int check_map_size(json_t *map, const char *pointer, bool is_env, struct rp_error *err)
{
    size_t max = is_env ? RP_PROJECT_ENV_MAX : RP_PROJECT_METADATA_MAX, bytes = 0;
    if (json_object_size(map) > max)
        return rp_error_field(err, pointer, "more than %zu", max);
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value) bytes += strlen(key) + json_string_length(value) + 2;
    if (is_env && bytes > RP_PROJECT_ENV_BYTES_MAX)
        return rp_error_field(err, pointer, "more than %d bytes together", RP_PROJECT_ENV_BYTES_MAX);
    return 0;
}

static int input_map(json_t *body, const char *key, bool is_env, bool patch, char **ret, struct rp_error *err)
{
    json_t *map;
    char at[32];
    snprintf(at, sizeof at, "/%s", key);
    int there = rp_json_get_object(body, "", key, &map, err);
    if (there <= 0)
        return there;
    if (check_map(map, at, is_env, patch, err) < 0 || check_map_size(map, at, is_env, err) < 0)
        return -1;
    *ret = json_dumps(map, JSON_COMPACT);
    return *ret ? 1 : rp_error_field(err, at, "cannot be kept");
}

static int input_settings(json_t *body, bool patch, struct rp_project_input *in, struct rp_error *err)
{
    if (input_name(body, in, err) < 0 || input_run_command(body, in, err) < 0 ||
        input_limits(body, in, err) < 0 || input_network(body, in, err) < 0 || input_idle(body, in, err) < 0)
        return -1;
    int there = input_map(body, "env", true, patch, &in->env, err);
    if (there < 0)
        return -1;
    if (there)
        in->has |= RP_INPUT_ENV;
    there = input_map(body, "metadata", false, patch, &in->metadata, err);
    if (there < 0)
        return -1;
    if (there)
        in->has |= RP_INPUT_METADATA;
    return 0;
}

/* ---- files ---- */

bool rp_project_path_valid(struct rp_str path)
{
    if (path.n == 0 || path.n > 4095 || memchr(path.p, '\0', path.n))
        return false;
    unsigned depth = 0;
    const char *end = path.p + path.n;
    for (const char *at = path.p; at <= end;) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        size_t n = (size_t)((slash ? slash : end) - at);
        struct rp_str segment = {at, n};
        if (n == 0 || n > 255 || rp_str_is(segment, ".") || rp_str_is(segment, "..") || ++depth > 64)
            return false;
        if (!slash)
            break;
        at = slash + 1;
    }
    return true;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 section 4, with padding. NULL when malformed. */
static char *base64_decode(struct rp_str s, size_t *ret)
{
    if (s.n % 4)
        return NULL;
    size_t padding = s.n && s.p[s.n - 1] == '=' ? (s.p[s.n - 2] == '=' ? 2 : 1) : 0, n = 0;
    _cleanup_free_ char *out = rp_alloc(s.n / 4 * 3 + 1);
    for (size_t i = 0; i < s.n; i += 4) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 4; k++) {
            bool pad = i + k >= s.n - padding;
            int v = pad ? 0 : base64_value(s.p[i + k]);
            if (v < 0)
                return NULL;
            bits = bits << 6 | (uint32_t)v;
        }
        out[n++] = (char)(bits >> 16);
        out[n++] = (char)(bits >> 8);
        out[n++] = (char)bits;
    }
    *ret = n - padding;
    return RP_STEAL_PTR(out);
}

static int input_content(json_t *value, const char *at, struct rp_project_input_file *f, struct rp_error *err)
{
    static const char *const keys[] = {"base64", NULL};
    if (json_is_string(value)) {
        f->size = json_string_length(value);
        f->content = rp_str_dup((struct rp_str){json_string_value(value), f->size});
        return 0;
    }
    if (!json_is_object(value))
        return rp_error_field(err, at, "must be a string or {\"base64\": …}");
    struct rp_str text;
    if (rp_json_only_keys(value, at, keys, err) < 0)
        return -1;
    int there = rp_json_get_str(value, at, "base64", RP_PROJECT_FILES_BYTES_MAX / 3 * 4 + 4, &text, err);
    if (there < 0)
        return -1;
    f->content = there ? base64_decode(text, &f->size) : NULL;
    return f->content ? 0 : rp_error_field(err, at, "must be a string or {\"base64\": …}, properly padded");
}

static int input_files(json_t *body, struct rp_project_input *in, struct rp_error *err)
{
    json_t *files;
    int there = rp_json_get_object(body, "", "files", &files, err);
    if (there <= 0)
        return there;
    if (json_object_size(files) > RP_PROJECT_FILES_MAX)
        return rp_error_field(err, "/files", "more than %d files", RP_PROJECT_FILES_MAX);
    in->files = rp_calloc(json_object_size(files) + 1, sizeof *in->files);
    size_t bytes = 0;
    const char *path;
    json_t *value;
    json_object_foreach(files, path, value)
    {
        char at[128];
        rp_json_pointer(at, sizeof at, "/files", path);
        if (!rp_project_path_valid(rp_str_of(path)))
            return rp_error_field(err, at, "must be a relative path that stays inside the project");
        struct rp_project_input_file *f = &in->files[in->file_count++];
        f->path = rp_strdup(path);
        if (input_content(value, at, f, err) < 0)
            return -1;
        bytes += f->size;
        if (bytes > RP_PROJECT_FILES_BYTES_MAX)
            return rp_error_field(err, "/files", "more than %d bytes together", RP_PROJECT_FILES_BYTES_MAX);
    }
    return 0;
}

/* ---- bodies ---- */

static int input_stack(json_t *body, const struct rp_stacks *stacks, const char *default_stack,
                       struct rp_project_input *in, struct rp_error *err)
{
    struct rp_str name, runtime;
    int there = rp_json_get_str(body, "", "stack", 64, &name, err);
    int older = there < 0 ? -1 : rp_json_get_str(body, "", "runtime", 64, &runtime, err);
    if (there < 0 || older < 0)
        return -1;
    if (there && older && !rp_str_equal(name, runtime))
        return rp_error_field(err, "/runtime", "is another name for \"stack\" and says something else");
    if (!there && older)
        name = runtime;
    else if (!there && default_stack)
        name = rp_str_of(default_stack);
    else if (!there)
        return rp_error_field(err, "/stack", "is missing");
    in->stack = rp_stacks_find(stacks, name);
    if (in->stack)
        return 0;
    char known[200] = "";
    for (size_t i = 0; i < rp_stacks_count(stacks); i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", rp_stacks_at(stacks, i)->name);
    }
    return rp_error_field(err, there ? "/stack" : "/runtime", "no such stack; there are: %s", known);
}

static int create_fields(json_t *body, const struct rp_stacks *stacks, const char *default_stack,
                         struct rp_project_input *in, struct rp_error *err)
{
    static const char *const keys[] = {"stack",        "runtime",   "name",        "dependencies", "files",
                                       "env",          "metadata",  "run_command", "limits",       "network",
                                       "idle_timeout", "always_on", NULL};
    if (rp_json_only_keys(body, "", keys, err) < 0 || input_stack(body, stacks, default_stack, in, err) < 0 ||
        input_settings(body, false, in, err) < 0 || input_files(body, in, err) < 0)
        return -1;
    json_t *dependencies = NULL;
    if (rp_json_get_object(body, "", "dependencies", &dependencies, err) < 0)
        return -1;
    return rp_dependencies_parse(in->stack, dependencies, &in->dependencies, err);
}

int rp_project_input_create(json_t *body, const struct rp_stacks *stacks, const char *default_stack,
                            struct rp_project_input *ret, struct rp_error *err)
{
    struct rp_project_input in = {0};
    if (create_fields(body, stacks, default_stack, &in, err) < 0) {
        rp_project_input_done(&in);
        return -1;
    }
    *ret = in;
    return 0;
}

int rp_project_input_update(json_t *body, struct rp_project_input *ret, struct rp_error *err)
{
    static const char *const keys[] = {"name",    "env",          "metadata",  "run_command", "limits",
                                       "network", "idle_timeout", "always_on", NULL};
    struct rp_project_input in = {0};
    if (rp_json_only_keys(body, "", keys, err) < 0 || input_settings(body, true, &in, err) < 0) {
        rp_project_input_done(&in);
        return -1;
    }
    *ret = in;
    return 0;
}

/* ---- applying ---- */

/* RFC 7396 for an object of strings. */
static int merge(char **text, const char *patch, const char *pointer, bool is_env, struct rp_error *err)
{
    _cleanup_json_ json_t *target = NULL;
    _cleanup_json_ json_t *changes = NULL;
    if (rp_json_parse_object(rp_str_of(*text ? *text : "{}"), &target, err) < 0 ||
        rp_json_parse_object(rp_str_of(patch), &changes, err) < 0)
        return -1;
    const char *key;
    json_t *value;
    json_object_foreach(changes, key, value)
    {
        if (json_is_null(value))
            json_object_del(target, key);
        else
            json_object_set(target, key, value);
    }
    if (check_map_size(target, pointer, is_env, err) < 0)
        return -1;
    char *merged = json_dumps(target, JSON_COMPACT);
    if (!merged)
        return rp_error_field(err, pointer, "cannot be kept");
    free(*text);
    *text = merged;
    return 0;
}

static void replace(char **text, const char *with)
{
    free(*text);
    *text = with ? rp_strdup(with) : NULL;
}

int rp_project_input_apply(const struct rp_project_input *in, struct rp_project_record *r,
                           struct rp_error *err)
{
    if (in->has & RP_INPUT_ENV && merge(&r->env, in->env, "/env", true, err) < 0)
        return -1;
    if (in->has & RP_INPUT_METADATA && merge(&r->metadata, in->metadata, "/metadata", false, err) < 0)
        return -1;
    if (in->has & RP_INPUT_NAME)
        replace(&r->name, in->name);
    if (in->has & RP_INPUT_RUN_COMMAND)
        replace(&r->run_command, in->run_command);
    if (in->has & RP_INPUT_DEPENDENCIES)
        replace(&r->dependencies, in->dependencies_json);
    if (in->has & RP_INPUT_NETWORK)
        replace(&r->network, in->network);
    if (in->has & RP_INPUT_MEMORY)
        r->memory = in->memory;
    if (in->has & RP_INPUT_CPU)
        r->cpu = in->cpu;
    if (in->has & RP_INPUT_PROCESSES)
        r->processes = in->processes;
    if (in->has & RP_INPUT_DISK)
        r->disk = in->disk;
    if (in->has & RP_INPUT_IDLE_TIMEOUT)
        r->idle_timeout = in->idle_timeout;
    if (in->has & RP_INPUT_ALWAYS_ON)
        r->always_on = in->always_on;
    return 0;
}
