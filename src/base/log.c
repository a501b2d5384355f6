#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static struct {
    const char *component;
    enum rp_log_level minimum;
    bool json;
} log_state = {"repld", RP_LOG_INFO, false};

static const char *const level_names[] = {"debug", "info", "warning", "error"};

struct line {
    char text[8192];
    size_t n;
};

static void put(struct line *l, const char *s, size_t n)
{
    size_t room = sizeof(l->text) - 2 - l->n;
    n = RP_MIN(n, room);
    memcpy(l->text + l->n, s, n);
    l->n += n;
}

static void put_string(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

static void put_quoted(struct line *l, const char *s)
{
    put_string(l, "\"");
    for (size_t i = 0; s[i] && i < 1024; i++) {
        unsigned char c = (unsigned char)s[i];
        char escaped[8];
        if (c == '"' || c == '\\')
            snprintf(escaped, sizeof(escaped), "\\%c", c);
        else if (c == '\n')
            snprintf(escaped, sizeof(escaped), "\\n");
        else if (c < 0x20 || c == 0x7f)
            snprintf(escaped, sizeof(escaped), "\\u%04x", c);
        else
            snprintf(escaped, sizeof(escaped), "%c", c);
        put_string(l, escaped);
    }
    put_string(l, "\"");
}

static bool needs_quotes(const char *s)
{
    if (!*s)
        return true;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == '"' || *s == '=' || *s == '\\' || *s == 0x7f)
            return true;
    return false;
}

void rp_log_open(const char *component, enum rp_log_level minimum, bool json)
{
    log_state.component = component;
    log_state.minimum = minimum;
    log_state.json = json;
}

bool rp_log_enabled(enum rp_log_level level)
{
    return level >= log_state.minimum;
}

void rp_log(enum rp_log_level level, const char *event, ...)
{
    if (!rp_log_enabled(level))
        return;
    struct line l = {.n = 0};
    char when[RP_CLOCK_RFC3339_SIZE];
    rp_clock_format_rfc3339(rp_clock_wall_us(), when);
    if (log_state.json) {
        put_string(&l, "{\"time\":\"");
        put_string(&l, when);
        put_string(&l, "\",\"level\":\"");
        put_string(&l, level_names[level]);
        put_string(&l, "\",\"component\":\"");
        put_string(&l, log_state.component);
        put_string(&l, "\",\"event\":");
        put_quoted(&l, event);
    } else {
        put_string(&l, when);
        put_string(&l, " ");
        put_string(&l, level_names[level]);
        put_string(&l, " ");
        put_string(&l, log_state.component);
        put_string(&l, ": ");
        put_string(&l, event);
    }
    va_list ap;
    va_start(ap, event);
    const char *key;
    while ((key = va_arg(ap, const char *))) {
        const char *value = va_arg(ap, const char *);
        if (!value)
            continue;
        if (log_state.json) {
            put_string(&l, ",");
            put_quoted(&l, key);
            put_string(&l, ":");
            put_quoted(&l, value);
        } else {
            put_string(&l, " ");
            put_string(&l, key);
            put_string(&l, "=");
            if (needs_quotes(value))
                put_quoted(&l, value);
            else
                put_string(&l, value);
        }
    }
    va_end(ap);
    if (log_state.json)
        put_string(&l, "}");
    l.text[l.n++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, l.text, l.n);
    (void)ignored;
}
