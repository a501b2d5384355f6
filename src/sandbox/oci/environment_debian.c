/* The debian provider: mmdebstrap for a base layer, apt in an overlay for a layer above it. */
#include <fcntl.h>
#include <glob.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "sandbox/oci/environment_internal.h"

#define KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"

enum { CONFIG_MAX = 256 * 1024, ARGUMENTS_MAX = 600 };

/* ---- where packages come from ---- */

static bool add_source(struct rp_buf *out, const char *uri, const char *suite, const char *suffix)
{
    const char *signed_by = access(KEYRING, R_OK) == 0 ? " [signed-by=" KEYRING "]" : "";
    return rp_buf_printf(out, "deb%s %s %s%s main\n", signed_by, uri, suite, suffix);
}

/* "http://host/debian" → the suite, its updates, and the security archive that stands beside it by
 * convention. */
static bool add_mirror(struct rp_buf *out, const char *mirror, const char *suite)
{
    size_t n = strlen(mirror);
    while (n && mirror[n - 1] == '/')
        n--;
    _cleanup_free_ char *uri = rp_str_dup((struct rp_str){mirror, n});
    bool ok = add_source(out, uri, suite, "") && add_source(out, uri, suite, "-updates");
    if (rp_str_ends(rp_str_of(uri), "/debian")) {
        _cleanup_free_ char *security = rp_asprintf("%s-security", uri);
        ok = ok && add_source(out, security, suite, "-security");
    }
    return ok;
}

/*
 * The host's own archives of Debian. Where the host runs another suite its mirror is taken all the same.
 * `listing` has a line "URI|RELEASE|ORIGIN" for each.
 */
static bool add_host_sources(struct rp_buf *out, struct rp_str listing, const char *suite)
{
    static const char *const suffixes[] = {"", "-updates", "-security"};
    char other[256] = "";
    bool ok = true, found = false;
    while (listing.n) {
        struct rp_str line = rp_str_cut(listing, '\n', &listing), rest, origin;
        struct rp_str uri = rp_str_cut(line, '|', &rest), release = rp_str_cut(rest, '|', &origin);
        if (!rp_str_is(origin, "Debian") || uri.n == 0 || uri.n > 255)
            continue;
        char address[256];
        if (!rp_str_copy(address, sizeof(address), uri))
            continue;
        for (size_t i = 0; i < RP_ARRAY_SIZE(suffixes); i++) {
            _cleanup_free_ char *wanted = rp_asprintf("%s%s", suite, suffixes[i]);
            if (rp_str_is(release, wanted)) {
                ok = ok && add_source(out, address, suite, suffixes[i]);
                found = true;
            }
        }
        if (!other[0] && (rp_str_ends(uri, "/debian") || rp_str_ends(uri, "/debian/")))
            rp_str_copy(other, sizeof(other), uri);
    }
    return ok && (found || !other[0] || add_mirror(out, other, suite));
}

int rp_environment_debian_sources(const char *mirror, const char *suite, struct rp_buf *out,
                                  struct rp_error *err)
{
    static const char *const argv[] = {
        "apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(ORIGIN)", "Created-By: Packages",
        NULL};
    bool ok;
    if (mirror && *mirror) {
        ok = add_mirror(out, mirror, suite);
    } else {
        struct rp_buf listing;
        rp_buf_init(&listing, CONFIG_MAX);
        /* a host without apt has no sources of its own */
        if (rp_environment_command_output(argv, &listing, NULL) < 0)
            rp_buf_done(&listing);
        ok = add_host_sources(out, rp_buf_view(&listing), suite);
        rp_buf_done(&listing);
    }
    if (ok && out->length == 0)
        return rp_error_set(err, RP_ERROR_ENVIRONMENT,
                            "this machine's apt knows no archive of Debian: run apt-get update, or name one with "
                            "--debian-mirror");
    return ok ? 0 : rp_error_set(err, RP_ERROR_ENVIRONMENT, "the list of Debian's archives is too long");
}

/* How the host's apt reaches archives (proxies, certificates), as lines of apt.conf. */
static int host_apt_options(struct rp_buf *out, struct rp_error *err)
{
    static const char *const argv[] = {"apt-config", "dump", NULL};
    struct rp_buf dump;
    rp_buf_init(&dump, CONFIG_MAX);
    bool ok = true;
    if (rp_environment_command_output(argv, &dump, NULL) == 0) {
        struct rp_str rest = rp_buf_view(&dump);
        while (rest.n && ok) {
            struct rp_str line = rp_str_cut(rest, '\n', &rest);
            if (rp_str_starts(line, "Acquire::http") || rp_str_starts(line, "Acquire::https"))
                ok = rp_buf_append_str(out, line) && rp_buf_append(out, "\n", 1);
        }
    }
    rp_buf_done(&dump);
    ok = ok && rp_buf_printf(out, "Acquire::Retries \"3\";\nAcquire::Languages \"none\";\n"
                                  "APT::Install-Recommends \"false\";\n");
    return ok ? 0 : rp_error_set(err, RP_ERROR_ENVIRONMENT, "the configuration of apt is too long");
}

/* ---- a base layer ---- */

static bool mmdebstrap_line(struct rp_environment_job *job, char *line)
{
    static const struct {
        const char *text, *step;
        unsigned percent;
    } steps[] = {
        {"I: running apt-get update", "reading package lists", 3},
        {"I: downloading packages", "downloading packages", 8},
        {"I: extracting archives", "unpacking the system", 30},
        {"I: installing essential", "installing the system", 42},
        {"I: installing remaining", "installing packages", 55},
        {"I: cleaning package", "cleaning up", 96},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(steps); i++)
        if (rp_str_starts(rp_str_of(line), steps[i].text))
            rp_environment_step(job, steps[i].step, steps[i].percent);
    return true;
}

static int build_base(struct rp_environment_job *job, const char *sources, const char *config,
                      struct rp_error *err)
{
    const struct rp_recipe *r = job->recipe;
    const char *argv[ARGUMENTS_MAX];
    char *owned[ARGUMENTS_MAX];
    size_t n = 0, o = 0;
    argv[n++] = "mmdebstrap";
    argv[n++] = "--mode=root";
    argv[n++] = "--variant=minbase";
    argv[n++] = "--format=directory";
    argv[n++] = owned[o++] = rp_asprintf("--aptopt=%s", config);
    for (const char *const *p = r->packages; *p; p++)
        argv[n++] = owned[o++] = rp_asprintf("--include=%s", *p);
    for (const char *const *p = r->exclude; *p; p++)
        argv[n++] = owned[o++] = rp_asprintf("--dpkgopt=path-exclude=%s", *p);
    argv[n++] = r->suite;
    argv[n++] = job->part;
    argv[n++] = sources;
    argv[n] = NULL;
    int result = rp_environment_command(job, argv, NULL, mmdebstrap_line, err);
    while (o)
        free(owned[--o]);
    return result;
}

/* The user that everything runs as, and the places where sandboxes mount things. */
static int furnish_base(struct rp_environment_job *job, struct rp_error *err)
{
    const char *const user[] = {"chroot",        job->part, "useradd",   "--uid",      "1000",
                                "--user-group",  "--shell", "/bin/bash", "--home-dir", "/home/runner",
                                "--create-home", "runner",  NULL};
    if (rp_environment_command(job, user, NULL, NULL, err) < 0)
        return -1;
    static const struct {
        const char *path;
        unsigned mode, owner;
    } folders[] = {
        {"home/runner", 0755, 1000},
        {"home/runner/app", 0755, 1000},
        {"home/runner/.local", 0755, 1000},
        {"home/runner/.cache", 0755, 1000},
        {"proc", 0555, 0},
        {"sys", 0555, 0},
        {"dev", 0755, 0},
        {"dev/shm", 01777, 0},
        {"dev/pts", 0755, 0},
        {"dev/mqueue", 01777, 0},
        {"run", 0755, 0},
        {"tmp", 01777, 0},
        {"var/tmp", 01777, 0},
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(folders); i++) {
        _cleanup_free_ char *path = rp_asprintf("%s/%s", job->part, folders[i].path);
        if ((mkdir(path, 0755) < 0 && errno != EEXIST) ||
            lchown(path, folders[i].owner, folders[i].owner) < 0 || chmod(path, folders[i].mode) < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", path);
    }
    return 0;
}

/* ---- a layer above it ---- */

/* apt's machine-readable status: "dlstatus:4:61.5:…" and "pmstatus:nodejs:33.3:…". */
static bool apt_line(struct rp_environment_job *job, char *line)
{
    bool download = rp_str_starts(rp_str_of(line), "dlstatus:");
    if (!download && !rp_str_starts(rp_str_of(line), "pmstatus:"))
        return true;
    char *number = strchr(line + 9, ':');
    unsigned percent = number ? (unsigned)strtoul(number + 1, NULL, 10) : 0;
    if (download)
        rp_environment_step(job, "downloading packages", 5 + percent * 40 / 100);
    else
        rp_environment_step(job, "installing packages", 45 + percent * 50 / 100);
    return false;
}

static int mount_in(struct rp_environment_job *job, const char *source, const char *at, const char *type,
                    unsigned long flags, const char *data, struct rp_error *err)
{
    _cleanup_free_ char *path = rp_asprintf("%s%s", job->merged, at);
    if (mount(source, path, type, flags, data) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "mount %s at \"%s\"", type ? type : source,
                              path);
    return 0;
}

static int mount_devices(struct rp_environment_job *job, struct rp_error *err)
{
    static const char *const nodes[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
    if (mount_in(job, "tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=0755,size=1m", err) < 0)
        return -1;
    for (size_t i = 0; i < RP_ARRAY_SIZE(nodes); i++) {
        _cleanup_free_ char *path = rp_asprintf("%s%s", job->merged, nodes[i]);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0)
            return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", path);
        if (mount_in(job, nodes[i], nodes[i], NULL, MS_BIND, NULL, err) < 0)
            return -1;
    }
    return 0;
}

/* What packages write here is not part of the layer. */
static int mount_system(struct rp_environment_job *job, struct rp_error *err)
{
    static const char *const scratch[] = {"/run", "/tmp", "/var/cache/apt", "/var/lib/apt/lists", "/var/log"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(scratch); i++)
        if (mount_in(job, "tmpfs", scratch[i], "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=2g", err) < 0)
            return -1;
    _cleanup_free_ char *archives = rp_asprintf("%s/var/cache/apt/archives", job->merged);
    _cleanup_free_ char *partial = rp_asprintf("%s/partial", archives);
    _cleanup_free_ char *lists = rp_asprintf("%s/var/lib/apt/lists/partial", job->merged);
    _cleanup_free_ char *log = rp_asprintf("%s/var/log/apt", job->merged);
    if (mkdir(archives, 0755) < 0 || mkdir(partial, 0700) < 0 || mkdir(lists, 0700) < 0 ||
        mkdir(log, 0755) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", partial);
    if (mount_in(job, "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, err) < 0)
        return -1;
    return mount_devices(job, err);
}

static int mount_overlay(struct rp_environment_job *job, struct rp_error *err)
{
    struct rp_buf options;
    rp_buf_init(&options, 4000);
    bool ok = true;
    for (const struct rp_recipe *below = job->recipe->base; below; below = below->base)
        ok = ok &&
             rp_buf_printf(&options, "%s%s/layers/%s",
                           options.length ? ":" : "lowerdir=", job->options->environments_dir, below->hash);
    /* nothing that only this mount could understand may end up in the layer */
    ok = ok &&
         rp_buf_printf(&options, ",upperdir=%s,workdir=%s/overlay,redirect_dir=off,metacopy=off,index=off",
                       job->part, job->work) &&
         rp_buf_append(&options, "", 1);
    int r = 0;
    if (!ok)
        r = rp_error_set(err, RP_ERROR_ENVIRONMENT, "the path of the environments is too long");
    else if (mount("overlay", job->merged, "overlay", 0, options.data) < 0)
        r = rp_error_errno(err, RP_ERROR_ENVIRONMENT, errno,
                           "mount an overlay in \"%s\" (overlayfs wants ext4, xfs or btrfs below it)",
                           job->work);
    rp_buf_done(&options);
    return r;
}

/* Written outside of the layer: apt.conf, with everything below the merged root. */
static int write_apt_config(struct rp_environment_job *job, const char *sources, struct rp_buf *config,
                            struct rp_error *err)
{
    bool ok = rp_buf_printf(config,
                            "Dir \"%s\";\nDPkg::Chroot-Directory \"%s\";\n"
                            "APT::Update::Error-Mode \"any\";\nDir::Etc::sourcelist "
                            "\"%s\";\nDir::Etc::sourceparts \"/dev/null\";\n"
                            "APT::Sandbox::User \"root\";\nAPT::Status-Fd \"1\";\nDpkg::Use-Pty \"false\";\n"
                            "APT::Get::Assume-Yes \"true\";\n",
                            job->merged, job->merged, sources);
    return ok ? 0 : rp_error_set(err, RP_ERROR_ENVIRONMENT, "the configuration of apt is too long");
}

static int write_excludes(struct rp_environment_job *job, struct rp_error *err)
{
    struct rp_buf text;
    rp_buf_init(&text, CONFIG_MAX);
    bool ok = true;
    for (const char *const *p = job->recipe->exclude; *p; p++)
        ok = ok && rp_buf_printf(&text, "path-exclude=%s\n", *p);
    int r = ok ? rp_environment_put(job->merged, "etc/dpkg/dpkg.cfg.d/repld", rp_buf_view(&text), 0644, err)
               : rp_error_set(err, RP_ERROR_ENVIRONMENT, "the list of exclusions is too long");
    rp_buf_done(&text);
    return r;
}

static int build_above(struct rp_environment_job *job, const char *config_path, struct rp_error *err)
{
    _cleanup_free_ char *apt_config = rp_asprintf("APT_CONFIG=%s", config_path);
    const char *const env[] = {
        apt_config,       "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
        "HOME=/root",     NULL};
    static const char *const update[] = {"apt-get", "update", NULL};
    const char *install[ARGUMENTS_MAX] = {"apt-get", "install", "--no-remove"};
    size_t n = 3;
    for (const char *const *p = job->recipe->packages; *p; p++)
        install[n++] = *p;
    rp_environment_step(job, "reading package lists", 2);
    /* a package must not start a service in here */
    if (write_excludes(job, err) < 0 ||
        rp_environment_put(job->merged, "usr/sbin/policy-rc.d", RP_STR("#!/bin/sh\nexit 101\n"), 0755, err) <
            0 ||
        rp_environment_command(job, update, env, NULL, err) < 0)
        return -1;
    if (job->recipe->packages[0] && rp_environment_command(job, install, env, apt_line, err) < 0)
        return -1;
    return 0;
}

/* ---- both ---- */

/* What no sandbox needs, and what would say how this host reaches its archives. */
static void clean(struct rp_environment_job *job)
{
    static const char *const patterns[] = {
        "etc/apt/apt.conf.d/99mmdebstrap",
        "etc/apt/sources.list",
        "etc/apt/sources.list.d/*",
        "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
        "etc/dpkg/dpkg.cfg.d/repld",
        "usr/sbin/policy-rc.d",
        "var/lib/apt/lists/*_*",
        "var/cache/apt/*.bin",
        "var/cache/debconf/*-old",
        "var/lib/dpkg/*-old",
        "var/log/*.log",
        "var/log/apt/*",
        "dev/*",
        "etc/*-",
        "root/.[bc]*",
        "etc/resolv.conf",
        "etc/hostname",
        "etc/machine-id",
    };
    for (size_t i = 0; i < RP_ARRAY_SIZE(patterns); i++) {
        _cleanup_free_ char *pattern = rp_asprintf("%s/%s", job->merged, patterns[i]);
        glob_t found;
        if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
            for (size_t f = 0; f < found.gl_pathc; f++)
                unlink(found.gl_pathv[f]);
            globfree(&found);
        }
    }
}

static int put_files(struct rp_environment_job *job, struct rp_error *err)
{
    for (size_t i = 0; i < job->recipe->file_count; i++) {
        const struct rp_recipe_file *f = &job->recipe->files[i];
        if (rp_environment_put(job->merged, f->path, f->content, f->executable ? 0755 : 0644, err) < 0)
            return -1;
    }
    return 0;
}

static int prepare_and_build(struct rp_environment_job *job, const char *sources, const char *config_path,
                             struct rp_buf *config, struct rp_error *err)
{
    bool base = !job->recipe->base;
    if (host_apt_options(config, err) < 0)
        return -1;
    if (!base && (mount_overlay(job, err) < 0 || mount_system(job, err) < 0 ||
                  write_apt_config(job, sources, config, err) < 0))
        return -1;
    if (rp_environment_put(job->work, "apt.conf", rp_buf_view(config), 0600, err) < 0)
        return -1;
    if (base ? build_base(job, sources, config_path, err) < 0 || furnish_base(job, err) < 0
             : build_above(job, config_path, err) < 0)
        return -1;
    rp_environment_step(job, "finishing", 97);
    clean(job);
    return put_files(job, err);
}

int rp_environment_debian(struct rp_environment_job *job, struct rp_error *err)
{
    struct rp_buf text, config;
    rp_buf_init(&text, CONFIG_MAX);
    rp_buf_init(&config, CONFIG_MAX);
    _cleanup_free_ char *sources = rp_asprintf("%s/sources.list", job->work);
    _cleanup_free_ char *config_path = rp_asprintf("%s/apt.conf", job->work);
    int r = rp_environment_debian_sources(job->options->debian_mirror, job->recipe->suite, &text, err);
    if (r == 0)
        r = rp_environment_put(job->work, "sources.list", rp_buf_view(&text), 0644, err);
    if (r == 0)
        r = prepare_and_build(job, sources, config_path, &config, err);
    rp_buf_done(&text);
    rp_buf_done(&config);
    return r;
}
