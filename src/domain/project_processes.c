#include "domain/project_processes.h"

#include "base/clock.h"

static void on_touch(void *ctx)
{
    rp_project_touch(ctx);
}

static void on_viewer(void *ctx, int delta)
{
    rp_project_viewer(ctx, delta);
}

static const char *change_name(enum rp_process_change change)
{
    switch (change) {
    case RP_PROCESS_MADE:
        return "created";
    case RP_PROCESS_RESIZED:
        return "resized";
    case RP_PROCESS_ENDED:
        return "exited";
    default:
        return "removed";
    }
}

static void on_changed(void *ctx, struct rp_process *process, enum rp_process_change change)
{
    struct rp_project *p = ctx;
    if (!rp_project_has_listeners(p))
        return;
    bool terminal = rp_process_kind_of(process) == RP_PROCESS_TERMINAL;
    struct rp_buf buf;
    rp_buf_init(&buf, 16 * 1024);
    struct rp_json_writer w = rp_json_writer(&buf);
    rp_json_open_object(&w);
    rp_json_field_string(&w, "type", terminal ? "terminal" : "process");
    rp_json_field_string(&w, "change", change_name(change));
    rp_json_key(&w, terminal ? "terminal" : "process");
    rp_process_write_json(&w, process);
    rp_json_close_object(&w);
    if (!w.failed)
        rp_project_emit(p, rp_buf_view(&buf));
    rp_buf_done(&buf);
}

struct rp_process_set *rp_project_processes(struct rp_processes *all, struct rp_project *p)
{
    static const struct rp_process_set_events EVENTS = {on_touch, on_viewer, on_changed};
    struct rp_process_set *set = rp_project_data(p, RP_OBSERVER_PROCESSES);
    if (!set) {
        set = rp_process_set_new(all, rp_project_id(p), &EVENTS, p);
        rp_project_set_data(p, RP_OBSERVER_PROCESSES, set);
    }
    return set;
}

static void on_attached(void *ctx, struct rp_project *p, struct rp_sandbox *s, bool adopted)
{
    rp_process_set_attach(rp_project_processes(ctx, p), s, adopted);
}

/* The set where there is one: what comes after `closing` must not make it again. */
static struct rp_process_set *present(struct rp_project *p)
{
    return rp_project_data(p, RP_OBSERVER_PROCESSES);
}

static void on_detached(void *ctx, struct rp_project *p)
{
    if (present(p))
        rp_process_set_detach(present(p));
}

static void on_exited(void *ctx, struct rp_project *p, uint64_t process, const struct rp_exit *exit)
{
    if (present(p))
        rp_process_set_exited(present(p), process, exit);
}

static void drop(struct rp_project *p)
{
    struct rp_process_set *set = present(p);
    rp_project_set_data(p, RP_OBSERVER_PROCESSES, NULL);
    rp_process_set_free(set);
}

static void on_closing(void *ctx, struct rp_project *p)
{
    drop(p);
}

static void on_deleted(void *ctx, struct rp_project *p)
{
    /* also where the set was never asked for: a server of before may have left a log */
    rp_process_set_delete_rings(rp_project_processes(ctx, p));
    drop(p);
}

void rp_project_processes_observe(struct rp_projects *projects, struct rp_processes *all)
{
    static const struct rp_project_observer OBSERVER = {
        .attached = on_attached,
        .detached = on_detached,
        .exited = on_exited,
        .deleted = on_deleted,
        .closing = on_closing,
    };
    rp_projects_observe(projects, RP_OBSERVER_PROCESSES, &OBSERVER, all);
}

static void write_time(struct rp_json_writer *w, const char *key, int64_t us)
{
    char text[RP_CLOCK_RFC3339_SIZE];
    if (us)
        rp_clock_format_rfc3339(us, text);
    rp_json_field_string(w, key, us ? text : NULL);
}

static void write_exit(struct rp_json_writer *w, const struct rp_exit *exit)
{
    if (!exit)
        return;
    rp_json_key(w, "exit_code");
    if (exit->signal)
        rp_json_null(w);
    else
        rp_json_int(w, exit->code);
    rp_json_key(w, "signal");
    if (exit->signal)
        rp_json_int(w, exit->signal);
    else
        rp_json_null(w);
    rp_json_field_uint(w, "user_us", exit->user_us);
    rp_json_field_uint(w, "system_us", exit->system_us);
    rp_json_field_uint(w, "peak_memory", exit->peak_rss);
}

static const char *kind_name(enum rp_process_kind kind)
{
    switch (kind) {
    case RP_PROCESS_TERMINAL:
        return "terminal";
    case RP_PROCESS_RUN:
        return "run";
    case RP_PROCESS_INSTALL:
        return "install";
    default:
        return "command";
    }
}

void rp_process_write_json(struct rp_json_writer *w, struct rp_process *p)
{
    const struct rp_exit *exit = rp_process_exit(p);
    unsigned flags = rp_process_flags(p);
    rp_json_open_object(w);
    rp_json_field_string(w, "id", rp_process_id_text(p));
    rp_json_field_string(w, "kind", kind_name(rp_process_kind_of(p)));
    rp_json_field_str(w, "command", rp_process_command(p));
    rp_json_field_string(w, "state", exit ? "exited" : "running");
    rp_json_field_bool(w, "running", !exit);
    rp_json_field_uint(w, "pid", rp_process_pid(p));
    if (flags & RP_PROCESS_PTY) {
        uint16_t cols, rows;
        rp_process_size(p, &cols, &rows);
        rp_json_field_uint(w, "cols", cols);
        rp_json_field_uint(w, "rows", rows);
    }
    struct rp_output *o = rp_process_output(p, flags & RP_PROCESS_PTY ? RP_STREAM_PTY : RP_STREAM_STDOUT);
    if (o)
        rp_json_field_uint(w, "offset", rp_ring_end(rp_output_ring(o)));
    write_time(w, "started_at", rp_process_started_at(p));
    write_time(w, "ended_at", rp_process_ended_at(p));
    write_exit(w, exit);
    rp_json_close_object(w);
}
