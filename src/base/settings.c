#include "base/settings.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <pwd.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/listen.h"
#include "base/str.h"

enum type {
    TEXT,
    PATH,   /* made absolute */
    SIZE,   /* uint64_t bytes */
    NUMBER, /* uint32_t */
    FLAG,   /* bool */
};

typedef int check_fn(const char *value, struct rp_error *err);

static check_fn check_listen, check_user, check_domain, check_cgroup_root, check_cgroup_layout, check_url,
    check_network_prefix, check_ipv4, check_cidrs, check_log_level, check_word;

static const struct row {
    const char *flag;  /* without "--"; the variable is REPLD_ and the same in capitals */
    const char *value; /* what the flag takes, for people; NULL for a FLAG */
    enum type type;
    size_t offset;
    const char *default_value; /* NULL: computed below, or unset */
    const char *default_text;  /* what is said about a computed default */
    uint64_t minimum, maximum; /* of SIZE and NUMBER */
    check_fn *check;
    const char *help;
} table[] = {
#define AT(field) offsetof(struct rp_settings, field)
    {"listen", "HOST:PORT", TEXT, AT(listen), "127.0.0.1:8000", NULL, 0, 0, check_listen,
     "where HTTP is served; loopback addresses only, until there are accounts"},
    {"data-dir", "DIR", PATH, AT(data_dir), "data", NULL, 0, 0, NULL, "everything that must be kept"},
    {"runtime-dir", "DIR", PATH, AT(runtime_dir), NULL, "/run/repld-<8 hex digits of the data directory>", 0,
     0, NULL, "sockets, terminals' output, sandboxes' records; put on tmpfs"},
    {"environments-dir", "DIR", PATH, AT(environments_dir), NULL, "environments in the data directory", 0, 0,
     NULL, "the stacks' built environments (repld stack build)"},
    {"stacks-dir", "DIR", PATH, AT(stacks_dir), NULL, "stacks beside the program's source or installation", 0,
     0, NULL, "the stacks: one folder each"},
    {"user", "USER", TEXT, AT(user), "64207:64207", NULL, 0, 0, check_user,
     "whom the process that serves HTTP runs as: NAME, UID or UID:GID; need not exist"},
    {"oci-runtime", "NAME", TEXT, AT(oci_runtime), NULL, "crun where it works, else runc", 0, 0, check_word,
     "the OCI runtime: a name in PATH, or a path"},
    {"init", "FILE", PATH, AT(init_path), NULL, "repld-init beside the program", 0, 0, NULL,
     "the static program that is process 1 of each sandbox"},
    {"preview-domain", "DOMAIN", TEXT, AT(preview_domain), "localhost", NULL, 0, 0, check_domain,
     "previews are served at PORT-PROJECT.DOMAIN"},
    {"cgroup-root", "NAME", TEXT, AT(cgroup_root), "repld", NULL, 0, 0, check_cgroup_root,
     "the cgroup that holds the sandboxes, in each hierarchy"},
    {"cgroup-layout", "LAYOUT", TEXT, AT(cgroup_layout), "auto", NULL, 0, 0, check_cgroup_layout,
     "auto, v2, v1 or hybrid"},
    {"ca-bundle", "FILE", PATH, AT(ca_bundle), NULL, "none", 0, 0, NULL,
     "CA certificates that sandboxes and package managers trust besides their own"},
    {"pip-index-url", "URL", TEXT, AT(pip_index_url), NULL, "pip's own", 0, 0, check_url,
     "the Python package index that sandboxes use"},
    {"npm-registry", "URL", TEXT, AT(npm_registry), NULL, "npm's own", 0, 0, check_url,
     "the npm registry that sandboxes use"},
    {"debian-mirror", "URL", TEXT, AT(debian_mirror), NULL, "the host's own sources", 0, 0, check_url,
     "where environments are built from"},
    {"sandbox-network", "A.B.0.0/16", TEXT, AT(network_prefix), "100.88.0.0/16", NULL, 0, 0,
     check_network_prefix, "the sandboxes' IPv4 network"},
    {"resolver", "ADDRESS", TEXT, AT(resolver), NULL, "the first IPv4 one of /etc/resolv.conf", 0, 0,
     check_ipv4, "the DNS server that sandboxes' queries go to"},
    {"sandbox-allow", "CIDR[,CIDR...]", TEXT, AT(allow_hosts), NULL, "none", 0, 0, check_cidrs,
     "private ranges that sandboxes may reach, for example a package mirror"},
    {"log-level", "LEVEL", TEXT, AT(log_level), "info", NULL, 0, 0, check_log_level,
     "debug, info, warning or error"},
    {"log-json", NULL, FLAG, AT(log_json), "false", NULL, 0, 0, NULL, "write the log as JSON"},
    {"volume-size", "SIZE", SIZE, AT(volume_size), "16G", NULL, UINT64_C(256) << 20, UINT64_C(1) << 50, NULL,
     "first size of the image that holds the projects; sparse, grown as needed"},
    {"volume-reserve", "SIZE", SIZE, AT(volume_reserve), "2G", NULL, 0, UINT64_C(1) << 50, NULL,
     "space of the host's disk that is never used"},
    {"disk-quota", "SIZE", SIZE, AT(disk_quota), "2G", NULL, UINT64_C(16) << 20, UINT64_C(1) << 50, NULL,
     "disk space of a project, unless it has its own"},
    {"idle-timeout", "SECONDS", NUMBER, AT(idle_timeout), "600", NULL, 0, 31536000, NULL,
     "a project that nobody uses stops after this; 0: never"},
    {"max-sandboxes", "COUNT", NUMBER, AT(max_sandboxes), "1000", NULL, 1, 16000, NULL,
     "sandboxes at the same time"},
    {"warm-sandboxes", "COUNT", NUMBER, AT(warm_sandboxes), "0", NULL, 0, 256, NULL,
     "empty sandboxes that are kept ready, so that starts are faster"},
    {"scrollback", "SIZE", SIZE, AT(ring_size), "1M", NULL, 65536, UINT64_C(1) << 30, NULL,
     "output that is kept of each terminal and log"},
    {"boot-id", "ID", TEXT, AT(boot_id), NULL, "/proc/sys/kernel/random/boot_id", 0, 0, check_word,
     "stands for the kernel's boot id; tests use it to play a reboot"},
#undef AT
};
_Static_assert(RP_ARRAY_SIZE(table) < RP_SETTINGS_COUNT_MAX, "rp_settings_to_argv's callers have no room");

/* ---- the strings ---- */

struct rp_settings_memory {
    struct rp_settings_memory *next;
    char text[];
};

/* Copies text into memory that lives as long as the settings. */
static char *keep(struct rp_settings *s, const char *text)
{
    size_t n = strlen(text) + 1;
    struct rp_settings_memory *m = rp_alloc(sizeof(*m) + n);
    memcpy(m->text, text, n);
    m->next = s->memory;
    s->memory = m;
    return m->text;
}

void rp_settings_done(struct rp_settings *s)
{
    if (!s)
        return;
    while (s->memory) {
        struct rp_settings_memory *m = s->memory;
        s->memory = m->next;
        free(m);
    }
    *s = (struct rp_settings){0};
}

/* ---- values ---- */

bool rp_size_parse(const char *text, uint64_t max, uint64_t *ret)
{
    size_t n = strlen(text);
    unsigned shift = 0;
    if (n > 1) {
        static const char units[] = "KMGT";
        const char *unit = strchr(units, toupper((unsigned char)text[n - 1]));
        if (unit && *unit) {
            shift = 10 * (unsigned)(unit - units + 1);
            n--;
        }
    }
    uint64_t v;
    if (!rp_str_to_u64((struct rp_str){text, n}, UINT64_MAX >> shift, &v) || v << shift > max)
        return false;
    *ret = v << shift;
    return true;
}

static void size_format(uint64_t v, char *dst, size_t cap)
{
    static const char units[] = "KMGT";
    char unit[2] = "";
    for (int i = 0; i < 4 && v && v % 1024 == 0; i++) {
        v /= 1024;
        unit[0] = units[i];
    }
    snprintf(dst, cap, "%llu%s", (unsigned long long)v, unit);
}

static bool only(const char *value, const char *extra)
{
    for (const char *p = value; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(extra, *p))
            return false;
    return true;
}

static int check_listen(const char *value, struct rp_error *err)
{
    struct rp_listen l;
    return rp_listen_parse(value, &l, err);
}

static int user_resolve(const char *value, uint32_t *ret_uid, uint32_t *ret_gid, struct rp_error *err)
{
    struct rp_str gid_text, uid_text = rp_str_cut(rp_str_of(value), ':', &gid_text);
    uint64_t uid, gid;
    if (rp_str_to_u64(uid_text, UINT32_MAX - 1, &uid)) {
        gid = uid;
        if (gid_text.n && !rp_str_to_u64(gid_text, UINT32_MAX - 1, &gid))
            return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not NAME, UID or UID:GID", value);
    } else {
        const struct passwd *p = getpwnam(value);
        if (!p)
            return rp_error_set(err, RP_ERROR_INVALID, "there is no user \"%s\"", value);
        uid = p->pw_uid;
        gid = p->pw_gid;
    }
    if (uid == 0 || gid == 0)
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is root, which the gateway must not be", value);
    *ret_uid = (uint32_t)uid;
    *ret_gid = (uint32_t)gid;
    return 0;
}

static int check_user(const char *value, struct rp_error *err)
{
    uint32_t uid, gid;
    return user_resolve(value, &uid, &gid, err);
}

static int check_word(const char *value, struct rp_error *err)
{
    if (!only(value, "/._+-"))
        return rp_error_set(err, RP_ERROR_INVALID,
                            "\"%s\" has characters other than letters, digits and /._+-", value);
    return 0;
}

static int check_domain(const char *value, struct rp_error *err)
{
    if (!only(value, ".-") || value[0] == '.' || value[0] == '-' || strstr(value, "..") ||
        strlen(value) > 200)
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not a domain name", value);
    return 0;
}

static int check_cgroup_root(const char *value, struct rp_error *err)
{
    if (!only(value, "._-/") || value[0] == '/' || value[0] == '.' || strstr(value, "..") ||
        strlen(value) > 100)
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not a relative path of letters, digits and ._-",
                            value);
    return 0;
}

static int one_of(const char *value, const char *const *words, struct rp_error *err)
{
    char list[100] = "";
    for (size_t i = 0; words[i]; i++) {
        if (strcmp(value, words[i]) == 0)
            return 0;
        size_t n = strlen(list);
        snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", words[i]);
    }
    return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is none of %s", value, list);
}

static int check_cgroup_layout(const char *value, struct rp_error *err)
{
    return one_of(value, (const char *const[]){"auto", "v2", "v1", "hybrid", NULL}, err);
}

static int check_log_level(const char *value, struct rp_error *err)
{
    return one_of(value, (const char *const[]){"debug", "info", "warning", "error", NULL}, err);
}

/* It ends up in environment variables and configuration files of package managers: nothing that either could
 * take for more than a URL. */
static int check_url(const char *value, struct rp_error *err)
{
    struct rp_str v = rp_str_of(value);
    if ((!rp_str_starts(v, "https://") && !rp_str_starts(v, "http://")) ||
        !only(value, ":/?#[]@!$&()*+,;=-._~%"))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not an http or https URL", value);
    return 0;
}

static int check_ipv4(const char *value, struct rp_error *err)
{
    struct in_addr a;
    if (inet_pton(AF_INET, value, &a) != 1)
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not an IPv4 address", value);
    return 0;
}

static int check_cidr(struct rp_str cidr, uint64_t *ret_prefix, uint32_t *ret_address, struct rp_error *err)
{
    struct rp_str prefix, address = rp_str_cut(cidr, '/', &prefix);
    char text[INET_ADDRSTRLEN];
    struct in_addr a;
    uint64_t bits = 32;
    if (!rp_str_copy(text, sizeof(text), address) || inet_pton(AF_INET, text, &a) != 1 ||
        (prefix.n && !rp_str_to_u64(prefix, 32, &bits)) ||
        (bits < 32 && (ntohl(a.s_addr) & (UINT32_MAX >> bits))))
        return rp_error_set(err, RP_ERROR_INVALID, "\"%.*s\" is not an IPv4 network such as 10.1.0.0/16",
                            (int)RP_MIN(cidr.n, (size_t)60), cidr.p);
    *ret_prefix = bits;
    *ret_address = ntohl(a.s_addr);
    return 0;
}

static int check_network_prefix(const char *value, struct rp_error *err)
{
    uint64_t bits;
    uint32_t address;
    if (check_cidr(rp_str_of(value), &bits, &address, err) < 0)
        return -1;
    if (bits != 16)
        return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not a /16 network", value);
    return 0;
}

static int check_cidrs(const char *value, struct rp_error *err)
{
    struct rp_str rest = rp_str_of(value);
    unsigned count = 0;
    do {
        uint64_t bits;
        uint32_t address;
        if (check_cidr(rp_str_cut(rest, ',', &rest), &bits, &address, err) < 0)
            return -1;
        if (++count > 64)
            return rp_error_set(err, RP_ERROR_INVALID, "more than 64 networks");
    } while (rest.n);
    return 0;
}

static const char *absolute(struct rp_settings *s, const char *path)
{
    if (path[0] == '/')
        return keep(s, path);
    _cleanup_free_ char *cwd = getcwd(NULL, 0);
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    _cleanup_free_ char *joined = rp_asprintf("%s/%s", cwd && strcmp(cwd, "/") != 0 ? cwd : "", path);
    return keep(s, joined);
}

static int set(struct rp_settings *s, const struct row *row, const char *value, struct rp_error *err)
{
    void *field = (char *)s + row->offset;
    if (strlen(value) > 1024)
        return rp_error_set(err, RP_ERROR_INVALID, "longer than 1024 bytes");
    if (!rp_utf8_valid(value, strlen(value)))
        return rp_error_set(err, RP_ERROR_INVALID, "not UTF-8");
    switch (row->type) {
    case TEXT:
    case PATH:
        if (row->check && row->check(value, err) < 0)
            return -1;
        *(const char **)field = row->type == PATH ? absolute(s, value) : keep(s, value);
        return 0;
    case SIZE: {
        uint64_t v;
        char low[32], high[32];
        if (!rp_size_parse(value, row->maximum, &v) || v < row->minimum) {
            size_format(row->minimum, low, sizeof(low));
            size_format(row->maximum, high, sizeof(high));
            return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not a size from %s to %s, such as 512M",
                                value, low, high);
        }
        *(uint64_t *)field = v;
        return 0;
    }
    case NUMBER: {
        uint64_t v;
        if (!rp_str_to_u64(rp_str_of(value), row->maximum, &v) || v < row->minimum)
            return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is not a number from %llu to %llu", value,
                                (unsigned long long)row->minimum, (unsigned long long)row->maximum);
        *(uint32_t *)field = (uint32_t)v;
        return 0;
    }
    case FLAG: {
        bool yes = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
        if (!yes && strcmp(value, "false") != 0 && strcmp(value, "0") != 0)
            return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is neither true nor false", value);
        *(bool *)field = yes;
        return 0;
    }
    }
    return rp_error_set(err, RP_ERROR_INTERNAL, "unknown type");
}

/* ---- defaults that are computed ---- */

/* The folder that holds this program. */
static char *program_folder(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n <= 0)
        return rp_strdup(".");
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    return rp_strdup(path);
}

static uint32_t fnv1a(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

static int compute_defaults(struct rp_settings *s, struct rp_error *err)
{
    _cleanup_free_ char *folder = program_folder();
    if (!s->runtime_dir) {
        char path[64];
        snprintf(path, sizeof(path), "/run/repld-%08x", fnv1a(s->data_dir));
        s->runtime_dir = keep(s, path);
    }
    if (!s->environments_dir) {
        _cleanup_free_ char *path = rp_asprintf("%s/environments", s->data_dir);
        s->environments_dir = keep(s, path);
    }
    if (!s->init_path) {
        _cleanup_free_ char *path = rp_asprintf("%s/repld-init", folder);
        s->init_path = keep(s, path);
    }
    if (!s->stacks_dir) {
        /* build/repld in a source tree; else as installed: bin/repld and share/repld/stacks */
        _cleanup_free_ char *source = rp_asprintf("%s/../stacks", folder);
        _cleanup_free_ char *installed = rp_asprintf("%s/../share/repld/stacks", folder);
        _cleanup_free_ char *resolved = realpath(access(source, F_OK) == 0 ? source : installed, NULL);
        s->stacks_dir = keep(s, resolved ? resolved : "/usr/share/repld/stacks");
    }
    if (!s->boot_id) {
        char id[64] = "";
        _cleanup_file_ FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
        if (!f || !fgets(id, sizeof(id), f))
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "read /proc/sys/kernel/random/boot_id");
        id[strcspn(id, "\n")] = '\0';
        s->boot_id = keep(s, id);
    }
    if (strlen(s->boot_id) >= 40)
        return rp_error_set(err, RP_ERROR_INVALID, "--boot-id: longer than 39 characters");
    return user_resolve(s->user, &s->user_id, &s->group_id, err);
}

/* ---- reading ---- */

static void variable_name(const struct row *row, char *dst, size_t cap)
{
    size_t n = (size_t)snprintf(dst, cap, "REPLD_%s", row->flag);
    for (size_t i = 6; i < n && i < cap; i++)
        dst[i] = dst[i] == '-' ? '_' : (char)toupper((unsigned char)dst[i]);
}

static const struct row *find(struct rp_str name)
{
    for (size_t i = 0; i < RP_ARRAY_SIZE(table); i++)
        if (rp_str_is(name, table[i].flag))
            return &table[i];
    return NULL;
}

static int parse_flags(int argc, char *const *argv, const char **values, struct rp_error *err)
{
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        if (strncmp(a, "--", 2) != 0)
            return rp_error_set(err, RP_ERROR_INVALID, "\"%.100s\" is not a flag", a);
        const char *equals = strchr(a, '=');
        struct rp_str name = {a + 2, equals ? (size_t)(equals - a - 2) : strlen(a + 2)};
        const struct row *row = find(name);
        if (!row)
            return rp_error_set(err, RP_ERROR_INVALID, "there is no flag --%.*s",
                                (int)RP_MIN(name.n, (size_t)100), name.p);
        const char *value;
        if (equals)
            value = equals + 1;
        else if (row->type == FLAG)
            value = "true";
        else if (++i < argc)
            value = argv[i];
        else
            return rp_error_set(err, RP_ERROR_INVALID, "--%s: %s is missing", row->flag, row->value);
        values[row - table] = value;
    }
    return 0;
}

static int parse(int argc, char *const *argv, struct rp_settings *s, struct rp_error *err)
{
    const char *values[RP_ARRAY_SIZE(table)] = {0};
    if (parse_flags(argc, argv, values, err) < 0)
        return -1;
    for (size_t i = 0; i < RP_ARRAY_SIZE(table); i++) {
        const struct row *row = &table[i];
        char variable[64];
        variable_name(row, variable, sizeof(variable));
        const char *from_environment = getenv(variable);
        const char *value = values[i] ? values[i] : from_environment;
        if (value && !*value)
            value = NULL;
        if (!value && !row->default_value)
            continue;
        if (set(s, row, value ? value : row->default_value, err) < 0)
            return values[i] ? rp_error_prefix(err, "--%s", row->flag) : rp_error_prefix(err, "%s", variable);
    }
    return compute_defaults(s, err);
}

int rp_settings_parse(int argc, char *const *argv, struct rp_settings *ret, struct rp_error *err)
{
    *ret = (struct rp_settings){0};
    int r = parse(argc, argv, ret, err);
    if (r < 0)
        rp_settings_done(ret);
    return r;
}

/* ---- writing ---- */

void rp_settings_to_argv(struct rp_settings *s, const char **argv, size_t at)
{
    for (size_t i = 0; i < RP_ARRAY_SIZE(table); i++) {
        const struct row *row = &table[i];
        const void *field = (const char *)s + row->offset;
        _cleanup_free_ char *flag = NULL;
        switch (row->type) {
        case TEXT:
        case PATH:
            if (!*(const char *const *)field)
                continue;
            flag = rp_asprintf("--%s=%s", row->flag, *(const char *const *)field);
            break;
        case SIZE:
            flag = rp_asprintf("--%s=%llu", row->flag, (unsigned long long)*(const uint64_t *)field);
            break;
        case NUMBER:
            flag = rp_asprintf("--%s=%u", row->flag, *(const uint32_t *)field);
            break;
        case FLAG:
            flag = rp_asprintf("--%s=%s", row->flag, *(const bool *)field ? "true" : "false");
            break;
        }
        argv[at++] = keep(s, flag);
    }
    argv[at] = NULL;
}

static const char *default_of(const struct row *row)
{
    return row->default_text ? row->default_text : row->default_value;
}

void rp_settings_print_help(FILE *f)
{
    for (size_t i = 0; i < RP_ARRAY_SIZE(table); i++) {
        const struct row *row = &table[i];
        char variable[64];
        variable_name(row, variable, sizeof(variable));
        fprintf(f, "  --%s%s%s\n      %s\n      default: %s; variable: %s\n", row->flag,
                row->value ? " " : "", row->value ? row->value : "", row->help, default_of(row), variable);
    }
}

void rp_settings_print_markdown(FILE *f)
{
    fprintf(f, "| flag | variable | default | what |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < RP_ARRAY_SIZE(table); i++) {
        const struct row *row = &table[i];
        char variable[64];
        variable_name(row, variable, sizeof(variable));
        fprintf(f, "| `--%s%s%s` | `%s` | %s%s%s | %s |\n", row->flag, row->value ? " " : "",
                row->value ? row->value : "", variable, row->default_text ? "" : "`", default_of(row),
                row->default_text ? "" : "`", row->help);
    }
}
