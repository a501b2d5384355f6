#include "api/control_frame.h"

#include <signal.h>

#include "base/json.h"
#include "proto/init.h"

int rp_signal_by_name(struct rp_str name)
{
    static const struct {
        const char *name;
        int number;
    } SIGNALS[] = {
        {"HUP", SIGHUP},   {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"KILL", SIGKILL}, {"USR1", SIGUSR1},
        {"USR2", SIGUSR2}, {"TERM", SIGTERM},   {"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
        {"ALRM", SIGALRM}, {"WINCH", SIGWINCH}, {"ABRT", SIGABRT}, {"PIPE", SIGPIPE},
    };
    uint64_t number;
    if (rp_str_starts(name, "SIG"))
        name = (struct rp_str){name.p + 3, name.n - 3};
    else if (rp_str_to_u64(name, 64, &number))
        return (int)number;
    for (size_t i = 0; i < RP_ARRAY_SIZE(SIGNALS); i++)
        if (rp_str_is(name, SIGNALS[i].name))
            return SIGNALS[i].number;
    return 0;
}

static int parse_resize(json_t *j, struct rp_control *ret, struct rp_error *err)
{
    int64_t cols, rows;
    int has_cols = rp_json_get_int(j, "", "cols", 1, RP_CONTROL_SIZE_MAX, &cols, err);
    int has_rows = has_cols < 0 ? -1 : rp_json_get_int(j, "", "rows", 1, RP_CONTROL_SIZE_MAX, &rows, err);
    if (has_rows < 0)
        return -1;
    if (!has_cols || !has_rows)
        return rp_error_field(err, has_cols ? "/rows" : "/cols", "a size has \"cols\" and \"rows\"");
    ret->cols = (uint16_t)cols;
    ret->rows = (uint16_t)rows;
    return 0;
}

static int parse_ack(json_t *j, struct rp_control *ret, struct rp_error *err)
{
    int64_t offset;
    struct rp_str stream = RP_STR("stdout");
    int has = rp_json_get_int(j, "", "offset", 0, INT64_MAX, &offset, err);
    if (has < 0 || rp_json_get_str(j, "", "stream", 16, &stream, err) < 0)
        return -1;
    if (!has)
        return rp_error_field(err, "/offset", "an acknowledgement has an \"offset\"");
    if (!rp_str_is(stream, "stdout") && !rp_str_is(stream, "stderr"))
        return rp_error_field(err, "/stream", "\"stream\" is \"stdout\" or \"stderr\"");
    ret->offset = (uint64_t)offset;
    ret->stream = rp_str_is(stream, "stderr") ? RP_STREAM_STDERR : RP_STREAM_STDOUT;
    return 0;
}

static int parse_signal(json_t *j, struct rp_control *ret, struct rp_error *err)
{
    struct rp_str name = RP_STR("");
    if (rp_json_get_str(j, "", "name", 16, &name, err) < 0)
        return -1;
    ret->signal = rp_signal_by_name(name);
    if (!ret->signal)
        return rp_error_field(err, "/name", "\"name\" is no signal, such as \"INT\" or \"TERM\"");
    return 0;
}

int rp_control_parse(struct rp_str text, struct rp_control *ret, struct rp_error *err)
{
    _cleanup_json_ json_t *j = NULL;
    struct rp_str type = RP_STR("");
    *ret = (struct rp_control){0};
    if (text.n > RP_CONTROL_MAX)
        return rp_error_set(err, RP_ERROR_TOO_LARGE, "a text frame is at most %d bytes", RP_CONTROL_MAX);
    if (rp_json_parse_object(text, &j, err) < 0 || rp_json_get_str(j, "", "type", 32, &type, err) < 0)
        return -1;
    if (rp_str_is(type, "resize")) {
        ret->type = RP_CONTROL_RESIZE;
        return parse_resize(j, ret, err);
    }
    if (rp_str_is(type, "ack")) {
        ret->type = RP_CONTROL_ACK;
        return parse_ack(j, ret, err);
    }
    if (rp_str_is(type, "signal")) {
        ret->type = RP_CONTROL_SIGNAL;
        return parse_signal(j, ret, err);
    }
    if (rp_str_is(type, "eof")) {
        ret->type = RP_CONTROL_EOF;
        return 0;
    }
    if (rp_str_is(type, "ping")) {
        ret->type = RP_CONTROL_PING;
        return 0;
    }
    return rp_error_field(err, "/type", "\"type\" is resize, ack, signal, eof or ping");
}
