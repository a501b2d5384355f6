/*
 * settings.h: every setting of `repld serve`, from one table (settings.c): a flag, an environment variable, a
 * line of --help and a row of docs/settings.md.
 *
 * Read once at start by the supervisor, handed to its children as flags, constant afterwards, any thread.
 */
#ifndef RP_BASE_SETTINGS_H
#define RP_BASE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* Where the CA bundle of the host is inside a sandbox, when ca_bundle is set. */
#define RP_SANDBOX_CA_BUNDLE "/etc/ssl/certs/repld-ca.crt"

struct rp_settings {
    const char *listen;           /* HOST:PORT, literal address or localhost; checked by base/listen.h */
    const char *data_dir;         /* absolute, as all paths here */
    const char *runtime_dir;      /* on tmpfs; default /run/repld-<8 hex of the data directory's path> */
    const char *environments_dir; /* default DATA_DIR/environments; built by `repld stack build` */
    const char *stacks_dir;       /* default: beside the binary's source or installation */
    const char *user;             /* whom the gateway runs as: NAME, UID or UID:GID, which need not exist */
    const char *oci_runtime;      /* name or path; NULL: crun where it runs, else runc */
    const char *init_path;        /* default: repld-init beside the binary */
    const char *preview_domain;
    const char *cgroup_root;    /* path below each hierarchy's root */
    const char *cgroup_layout;  /* auto|v2|v1|hybrid */
    const char *ca_bundle;      /* file that is handed into sandboxes, or NULL */
    const char *pip_index_url;  /* or NULL */
    const char *npm_registry;   /* or NULL */
    const char *debian_mirror;  /* where environments are built from; NULL: the host's own sources */
    const char *network_prefix; /* A.B.0.0/16 */
    const char *resolver;       /* IPv4 address; NULL: the first of /etc/resolv.conf */
    const char *allow_hosts;    /* CIDR[,CIDR…]: private ranges that stay reachable; or NULL */
    const char *log_level;      /* debug|info|warning|error */
    bool log_json;
    uint64_t volume_size;    /* bytes: first size of the volume image, grown online */
    uint64_t volume_reserve; /* bytes of the host's disk that are never used */
    uint64_t disk_quota;     /* bytes: of a project */
    uint32_t idle_timeout;   /* seconds; 0 never */
    uint32_t max_sandboxes;
    uint32_t warm_sandboxes;           /* empty ones kept ready */
    uint64_t ring_size;                /* bytes kept of each terminal or log */
    const char *boot_id;               /* the machine's; tests give another to play a reboot */
    uint32_t user_id, group_id;        /* of `user`, resolved */
    struct rp_settings_memory *memory; /* owns the strings */
};

/*
 * Fills ret from argv (without the program's and the command's name; "--flag value" and "--flag=value") and
 * the environment: flag over variable over default. An empty value is the default. Errors name the flag or
 * the variable. Relative paths are taken from the working directory. 0 or -1, with ret empty.
 */
int rp_settings_parse(int argc, char *const *argv, struct rp_settings *ret,
                      struct rp_error *err) RP_MUST_CHECK;
void rp_settings_done(struct rp_settings *s); /* frees the strings; NULL-safe */

/*
 * The same settings as flags, for a child process: `--flag=value` for each setting, appended at argv[at],
 * NULL-terminated. The strings belong to `s`. argv has room for RP_SETTINGS_COUNT_MAX more.
 */
enum { RP_SETTINGS_COUNT_MAX = 64 };
void rp_settings_to_argv(struct rp_settings *s, const char **argv, size_t at);

/* --help's list, and the rows of docs/settings.md. */
void rp_settings_print_help(FILE *f);
void rp_settings_print_markdown(FILE *f);

/* "512", "64K", "2G", "1T" (powers of 1024) → bytes; false on anything else or above max. */
bool rp_size_parse(const char *text, uint64_t max, uint64_t *ret);

#endif
