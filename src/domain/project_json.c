/*
 * project_json.c: a project, its status and its ports as the API shows them.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "domain/project_internal.h"

static void field_time(struct rp_json_writer *w, const char *key, int64_t us)
{
    char text[RP_CLOCK_RFC3339_SIZE];
    rp_clock_format_rfc3339(us, text);
    rp_json_field_string(w, key, text);
}

static void field_raw(struct rp_json_writer *w, const char *key, const char *json)
{
    rp_json_key(w, key);
    rp_json_raw(w, rp_str_of(json && *json ? json : "{}"));
}

void rp_project_write_json(struct rp_json_writer *w, const struct rp_project *p)
{
    const struct rp_project_record *r = &p->record;
    rp_json_open_object(w);
    rp_json_field_string(w, "id", r->id);
    rp_json_field_string(w, "name", r->name);
    rp_json_field_string(w, "stack", r->stack);
    rp_json_field_string(w, "owner", "local");
    rp_json_field_string(w, "state", rp_project_state_name(rp_project_state_of(p)));
    field_time(w, "created_at", r->created_at);
    field_time(w, "updated_at", r->updated_at);
    rp_json_field_string(w, "run_command",
                         r->run_command ? r->run_command
                         : p->stack     ? p->stack->run_command
                                        : NULL);
    field_raw(w, "dependencies", r->dependencies);
    field_raw(w, "env", r->env);
    field_raw(w, "metadata", r->metadata);
    rp_json_key(w, "limits");
    rp_json_open_object(w);
    if (p->stack) {
        struct rp_limits l = rp_project_limits(p);
        rp_json_field_uint(w, "memory", l.memory);
        rp_json_key(w, "cpu");
        rp_json_double(w, l.cpu / 1000.0);
        rp_json_field_uint(w, "processes", l.processes);
    }
    rp_json_field_uint(w, "disk", rp_project_disk(p));
    rp_json_close_object(w);
    field_raw(w, "network", r->network);
    rp_json_field_uint(w, "idle_timeout", r->idle_timeout);
    rp_json_field_bool(w, "always_on", r->always_on);
    rp_json_field_uint(w, "version", r->version);
    rp_json_close_object(w);
}

static void write_run(struct rp_json_writer *w, const struct run *run)
{
    rp_json_open_object(w);
    rp_json_field_string(w, "state", rp_run_state_name(run->state));
    if (run->has_exit && (run->state == RP_RUN_EXITED || run->state == RP_RUN_FAILED)) {
        if (run->exit_signal) {
            rp_json_field_int(w, "signal", run->exit_signal);
        } else {
            rp_json_field_int(w, "exit_code", run->exit_code);
        }
    }
    if (run->started_at && (run->state == RP_RUN_RUNNING || run->state == RP_RUN_EXITED))
        field_time(w, "started_at", run->started_at);
    if (run->reason[0])
        rp_json_field_string(w, "reason", run->reason);
    rp_json_close_object(w);
}

void rp_project_write_status(struct rp_json_writer *w, const struct rp_project *p)
{
    enum rp_project_state state = rp_project_state_of(p);
    rp_json_open_object(w);
    rp_json_field_string(w, "state", rp_project_state_name(state));
    if (p->record.reason && (state == RP_PROJECT_STOPPED || state == RP_PROJECT_FAILED))
        rp_json_field_string(w, "reason", p->record.reason);
    field_time(w, "since", p->since);
    if (p->progress.step[0]) {
        rp_json_key(w, "progress");
        rp_json_open_object(w);
        rp_json_field_string(w, "step", p->progress.step);
        field_time(w, "since", p->progress.since);
        rp_json_close_object(w);
    }
    rp_json_key(w, "run");
    write_run(w, &p->run);
    if (state == RP_PROJECT_RUNNING || state == RP_PROJECT_STOPPING) {
        const struct rp_orchestrator_info *info = rp_orchestrator_info_of(p->all->orchestrator);
        rp_json_key(w, "sandbox");
        rp_json_open_object(w);
        rp_json_field_string(w, "id", p->slot_id);
        if (info)
            rp_json_field_string(w, "driver", info->driver);
        field_time(w, "started_at", p->sandbox_started_at);
        rp_json_field_bool(w, "warm", p->warm);
        rp_json_close_object(w);
    }
    rp_json_close_object(w);
}

/* The URL of a preview: where the browser reaches the gateway, with the port and project in the host name. */
static void write_url(struct rp_json_writer *w, const struct rp_project *p, uint16_t port)
{
    const struct rp_settings *s = p->all->parts.settings;
    const char *colon = strrchr(s->listen, ':');
    char url[512];
    bool standard = colon && strcmp(colon, ":80") == 0;
    snprintf(url, sizeof url, "http://%u-%s.%s%s/", port, p->record.id, s->preview_domain,
             colon && !standard ? colon : "");
    rp_json_field_string(w, "url", url);
}

void rp_project_write_ports(struct rp_json_writer *w, struct rp_project *p)
{
    size_t count = 0;
    struct rp_sandbox *s = p->slot_running ? rp_project_sandbox(p) : NULL;
    const struct rp_port *ports = s ? rp_sandbox_ports(s, &count) : NULL;
    rp_json_open_array(w);
    for (size_t i = 0; i < count; i++) {
        char address[INET6_ADDRSTRLEN] = "";
        inet_ntop(ports[i].family == 6 ? AF_INET6 : AF_INET, ports[i].address, address, sizeof address);
        rp_json_open_object(w);
        rp_json_field_uint(w, "port", ports[i].port);
        rp_json_field_string(w, "address", address);
        if (ports[i].command[0])
            rp_json_field_string(w, "process", ports[i].command);
        write_url(w, p, ports[i].port);
        rp_json_close_object(w);
    }
    rp_json_close_array(w);
}
