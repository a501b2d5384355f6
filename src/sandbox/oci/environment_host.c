/* The host's layer: what a sandbox gets from this machine and not from its stack. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "sandbox/oci/environment.h"

enum { BUNDLE_MAX = 16 * 1024 * 1024 };

static int make_dir(const char *path, struct rp_error *err)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", path);
    /* whatever the umask is: the sandbox's user must read it */
    if (chmod(path, 0755) < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "chmod \"%s\"", path);
    return 0;
}

static int read_all(const char *path, struct rp_buf *out, struct rp_error *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INVALID, errno, "open \"%s\"", path);
    for (;;) {
        char *at = rp_buf_reserve(out, 65536);
        if (!at)
            return rp_error_set(err, RP_ERROR_INVALID, "\"%s\" is larger than %d bytes", path, BUNDLE_MAX);
        ssize_t n = read(fd, at, 65536);
        if (n < 0 && errno != EINTR)
            return rp_error_errno(err, RP_ERROR_INVALID, errno, "read \"%s\"", path);
        if (n == 0)
            return 0;
        if (n > 0)
            rp_buf_commit(out, (size_t)n);
    }
}

static bool same_content(const char *path, struct rp_str content)
{
    struct rp_buf now;
    rp_buf_init(&now, BUNDLE_MAX);
    bool same = access(path, F_OK) == 0 && read_all(path, &now, NULL) == 0 &&
                rp_str_equal(rp_buf_view(&now), content);
    rp_buf_done(&now);
    return same;
}

/*
 * Sandboxes that live on have this directory mounted: a file is replaced as a whole, and only when it is
 * another one than before.
 */
static int put(const char *dir, const char *name, struct rp_str content, struct rp_error *err)
{
    _cleanup_free_ char *path = rp_asprintf("%s/%s", dir, name);
    if (same_content(path, content))
        return 0;
    _cleanup_free_ char *temporary = rp_asprintf("%s.%d", path, (int)getpid());
    _cleanup_close_ int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "make \"%s\"", temporary);
    size_t done = 0;
    while (done < content.n) {
        ssize_t n = write(fd, content.p + done, content.n - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rp_error_errno(err, RP_ERROR_INTERNAL, errno, "write \"%s\"", temporary);
            unlink(temporary);
            return -1;
        }
        done += (size_t)n;
    }
    if (fchmod(fd, 0644) < 0 || rename(temporary, path) < 0) {
        rp_error_errno(err, RP_ERROR_INTERNAL, errno, "rename \"%s\"", path);
        unlink(temporary);
        return -1;
    }
    return 0;
}

/* Puts the text that buf holds; without any, takes a file of an earlier start away. */
static int put_or_remove(const char *dir, const char *name, struct rp_buf *buf, struct rp_error *err)
{
    if (buf->length)
        return put(dir, name, rp_buf_view(buf), err);
    _cleanup_free_ char *path = rp_asprintf("%s/%s", dir, name);
    if (unlink(path) < 0 && errno != ENOENT)
        return rp_error_errno(err, RP_ERROR_INTERNAL, errno, "remove \"%s\"", path);
    return 0;
}

static bool given(const char *setting)
{
    return setting && *setting;
}

static int put_ca_bundle(const char *dir, const struct rp_settings *settings, struct rp_error *err)
{
    struct rp_buf bundle;
    rp_buf_init(&bundle, BUNDLE_MAX);
    int r = 0;
    if (given(settings->ca_bundle)) {
        r = read_all(settings->ca_bundle, &bundle, err);
        if (r == 0 && !memmem(bundle.data, bundle.length, "-----BEGIN", 10))
            r = rp_error_set(err, RP_ERROR_INVALID, "\"%s\" has no certificate in PEM form",
                             settings->ca_bundle);
        if (r < 0)
            rp_error_prefix(err, "the setting ca-bundle");
    }
    if (r == 0)
        r = put_or_remove(dir, &RP_SANDBOX_CA_BUNDLE[1], &bundle, err);
    rp_buf_done(&bundle);
    return r;
}

/* The same settings as rp_stack_host_env's variables, for programs that were started with an environment of
 * their own. */
static int put_tools(const char *dir, const struct rp_settings *settings, struct rp_error *err)
{
    struct rp_buf pip, npm, git;
    rp_buf_init(&pip, 8192);
    rp_buf_init(&npm, 8192);
    rp_buf_init(&git, 8192);
    bool ok = true, ca = given(settings->ca_bundle);
    if (ca || given(settings->pip_index_url))
        ok = ok && rp_buf_printf(&pip, "[global]\n");
    if (ca)
        ok = ok && rp_buf_printf(&pip, "cert = %s\n", RP_SANDBOX_CA_BUNDLE) &&
             rp_buf_printf(&npm, "cafile=%s\n", RP_SANDBOX_CA_BUNDLE) &&
             rp_buf_printf(&git, "[http]\n\tsslCAInfo = %s\n", RP_SANDBOX_CA_BUNDLE);
    if (given(settings->pip_index_url))
        ok = ok && rp_buf_printf(&pip, "index-url = %s\n", settings->pip_index_url);
    if (given(settings->npm_registry))
        ok = ok && rp_buf_printf(&npm, "registry=%s\n", settings->npm_registry);
    int r = ok ? 0 : rp_error_set(err, RP_ERROR_INVALID, "a mirror's address is too long");
    if (r == 0 && (put_or_remove(dir, "etc/pip.conf", &pip, err) < 0 ||
                   put_or_remove(dir, "etc/npmrc", &npm, err) < 0 ||
                   put_or_remove(dir, "etc/gitconfig", &git, err) < 0))
        r = -1;
    rp_buf_done(&pip);
    rp_buf_done(&npm);
    rp_buf_done(&git);
    return r;
}

int rp_environment_host_layer_write(const char *dir, const struct rp_settings *settings, const char *resolver,
                                    struct rp_error *err)
{
    static const char *const folders[] = {"", "/etc", "/etc/ssl", "/etc/ssl/certs"};
    for (size_t i = 0; i < RP_ARRAY_SIZE(folders); i++) {
        _cleanup_free_ char *path = rp_asprintf("%s%s", dir, folders[i]);
        if (make_dir(path, err) < 0)
            return -1;
    }
    _cleanup_free_ char *resolv = rp_asprintf("nameserver %s\noptions edns0\n", resolver);
    if (put(dir, "etc/resolv.conf", rp_str_of(resolv), err) < 0 ||
        put(dir, "etc/hostname", RP_STR("repld\n"), err) < 0 ||
        put(dir, "etc/hosts",
            RP_STR("127.0.0.1\tlocalhost repld\n::1\tlocalhost ip6-localhost ip6-loopback\n"), err) < 0 ||
        put_ca_bundle(dir, settings, err) < 0)
        return -1;
    return put_tools(dir, settings, err);
}
