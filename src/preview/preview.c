#include "preview/preview.h"

#include <stdio.h>

#include "preview/host.h"
#include "preview/page.h"
#include "preview/site.h"

enum { CONNECT_MS = 10000, PORTS_SHOWN = 64 };

struct rp_preview {
    struct rp_loop *loop;
    const struct rp_settings *settings;
    struct rp_projects *projects;
};

/* What a preview keeps of a project: made with its first request, gone with its sandbox. */
struct target {
    struct rp_preview *preview;
    struct rp_project *project; /* a reference is not needed: `deleted` and `detached` come first */
    struct rp_site *site;
};

/* ---- a connection into the sandbox ---- */

struct attempt {
    rp_site_connected_fn *fn;
    void *ctx;
};

static void on_connected(void *ctx, int fd, const struct rp_error *err)
{
    struct attempt a = *(struct attempt *)ctx;
    free(ctx);
    a.fn(a.ctx, fd, err);
}

static void refuse_attempt(void *ctx)
{
    struct rp_error err;
    rp_error_set(&err, RP_ERROR_UNAVAILABLE, "the project stopped");
    on_connected(ctx, -1, &err);
}

static void site_connect(void *ctx, uint16_t port, rp_site_connected_fn *fn, void *fn_ctx)
{
    struct target *t = ctx;
    struct attempt *a = rp_calloc(1, sizeof(*a));
    *a = (struct attempt){fn, fn_ctx};
    struct rp_sandbox *sandbox = rp_project_sandbox(t->project);
    if (sandbox)
        rp_sandbox_connect(sandbox, port, CONNECT_MS, on_connected, a);
    else
        rp_loop_defer(t->preview->loop, refuse_attempt, a);
}

static void site_touch(void *ctx)
{
    rp_project_touch(((struct target *)ctx)->project);
}

/* ---- no answer ---- */

static struct rp_host host_of(const struct rp_preview *p, struct rp_http_exchange *x)
{
    return rp_host_parse(rp_http_request_of(x)->host, p->settings->preview_domain, p->settings->listen);
}

static size_t open_ports(struct rp_project *project, uint16_t ret[static PORTS_SHOWN])
{
    size_t count = 0, shown = 0;
    struct rp_sandbox *sandbox = rp_project_sandbox(project);
    const struct rp_port *ports = sandbox ? rp_sandbox_ports(sandbox, &count) : NULL;
    for (size_t i = 0; i < count && shown < PORTS_SHOWN; i++) {
        bool seen = false; /* one program may listen on both families */
        for (size_t k = 0; k < shown; k++)
            seen = seen || ret[k] == ports[i].port;
        if (!seen)
            ret[shown++] = ports[i].port;
    }
    return shown;
}

static void site_failed(void *ctx, struct rp_http_exchange *x, uint16_t port, const struct rp_error *err)
{
    struct target *t = ctx;
    struct rp_host host = host_of(t->preview, x);
    uint16_t ports[PORTS_SHOWN];
    char title[128], text[512];
    struct rp_page page = {
        .title = title, .text = text, .project = rp_project_id(t->project), .suffix = host.suffix};
    struct rp_error shown = *err;
    if (err->code == RP_ERROR_PORT_CLOSED) {
        page.port_count = open_ports(t->project, ports);
        page.ports = ports;
        page.reload = true;
        snprintf(title, sizeof(title), "Nothing listens on port %u", port);
        snprintf(text, sizeof(text), "%s This page looks again every two seconds.",
                 page.port_count
                     ? "The project runs, but no program in it accepts connections on this port."
                     : "The project runs, but no program in it accepts connections on any port yet.");
        size_t n = (size_t)snprintf(shown.message, sizeof(shown.message), "nothing listens on port %u", port);
        for (size_t i = 0; i < page.port_count && n + 16 < sizeof(shown.message); i++)
            n += (size_t)snprintf(shown.message + n, sizeof(shown.message) - n, "%s%u",
                                  i ? ", " : "; open are ", ports[i]);
    } else {
        snprintf(title, sizeof(title), "No answer from port %u", port);
        snprintf(text, sizeof(text), "There is no response to show: %s.", err->message);
    }
    rp_page_answer(x, &shown, &page);
}

static const struct rp_site_hooks hooks = {site_connect, site_touch, site_failed};

/* The project has no sandbox that runs its code. */
static void answer_not_running(struct rp_preview *p, struct rp_http_exchange *x, struct rp_project *project)
{
    enum rp_project_state state = rp_project_state_of(project);
    const char *name = rp_project_record_of(project)->name;
    const char *reason = rp_project_record_of(project)->reason;
    bool soon = state == RP_PROJECT_QUEUED || state == RP_PROJECT_STARTING;
    char title[512], text[768];
    struct rp_error err;
    /* 503 rather than the code's own 409: a preview is a web server that is away for now */
    rp_error_set(&err, RP_ERROR_UNAVAILABLE, "the project is %s", rp_project_state_name(state));
    snprintf(title, sizeof(title), "%.200s is %s", name ? name : "The project", rp_project_state_name(state));
    if (soon)
        snprintf(text, sizeof(text), "It will be here in a moment; this page looks again every two seconds.");
    else
        snprintf(text, sizeof(text),
                 "%.300s%s Start it in the editor, or with POST /api/v1/projects/%s/run, and "
                 "reload this page.",
                 reason ? reason : "Nothing runs in it at the moment", reason ? "." : ".",
                 rp_project_id(project));
    struct rp_page page = {.title = title, .text = text, .reload = soon};
    rp_http_set_header_text(x, "Retry-After", soon ? "2" : "30");
    rp_page_answer(x, &err, &page);
}

static void answer_unknown_project(struct rp_http_exchange *x)
{
    struct rp_error err;
    rp_error_set(&err, RP_ERROR_NOT_FOUND, "there is no such project");
    struct rp_page page = {.title = "There is no such project",
                           .text = "It may have been deleted, or the address is mistyped."};
    rp_page_answer(x, &err, &page);
}

static void answer_unknown_host(struct rp_preview *p, struct rp_http_exchange *x)
{
    struct rp_error err;
    rp_error_set(&err, RP_ERROR_MISDIRECTED,
                 "this server does not answer to that name, only to localhost and PORT-PROJECT.%s",
                 p->settings->preview_domain);
    rp_http_reply_error(x, &err);
}

/* ---- projects come and go ---- */

static void drop(struct rp_project *project)
{
    struct target *t = rp_project_data(project, RP_OBSERVER_PREVIEW);
    if (!t)
        return;
    rp_project_set_data(project, RP_OBSERVER_PREVIEW, NULL);
    rp_site_free(t->site);
    free(t);
}

static void on_gone(void *ctx, struct rp_project *project)
{
    drop(project);
}

static struct target *target_of(struct rp_preview *p, struct rp_project *project)
{
    struct target *t = rp_project_data(project, RP_OBSERVER_PREVIEW);
    if (t)
        return t;
    t = rp_calloc(1, sizeof(*t));
    t->preview = p;
    t->project = project;
    t->site = rp_site_new(p->loop, &hooks, t);
    rp_project_set_data(project, RP_OBSERVER_PREVIEW, t);
    return t;
}

bool rp_preview_handle(struct rp_preview *p, struct rp_http_exchange *x)
{
    struct rp_host host = host_of(p, x);
    if (host.kind == RP_HOST_CONTROL)
        return false;
    if (host.kind == RP_HOST_UNKNOWN) {
        answer_unknown_host(p, x);
        return true;
    }
    struct rp_project *project = rp_projects_find(p->projects, rp_str_of(host.project));
    if (!project)
        answer_unknown_project(x);
    else if (rp_project_state_of(project) != RP_PROJECT_RUNNING || !rp_project_sandbox(project))
        answer_not_running(p, x, project);
    else
        rp_site_proxy(target_of(p, project)->site, x, host.port);
    return true;
}

struct rp_preview *rp_preview_new(struct rp_loop *loop, const struct rp_settings *settings,
                                  struct rp_projects *projects)
{
    static const struct rp_project_observer observer = {
        .detached = on_gone,
        .deleted = on_gone,
        .closing = on_gone,
    };
    struct rp_preview *p = rp_calloc(1, sizeof(*p));
    *p = (struct rp_preview){loop, settings, projects};
    rp_projects_observe(projects, RP_OBSERVER_PREVIEW, &observer, p);
    return p;
}

void rp_preview_free(struct rp_preview *p)
{
    free(p);
}
