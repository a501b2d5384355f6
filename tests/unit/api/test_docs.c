/* The table of routes, the documents and the errors say the same. */
#include "../cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "api/routes.h"

static char text[512 * 1024];

static void read_document(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s is not there", path);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    fclose(f);
    assert_true(n > 0 && n < sizeof text - 1);
}

static void lower(char *dst, size_t cap, const char *method)
{
    size_t i = 0;
    for (; method[i] && i + 1 < cap; i++)
        dst[i] = (char)(method[i] | 0x20);
    dst[i] = '\0';
}

/* A path is a line "  /path:" and its methods lines "    method:" up to the next path. */
static bool documented(const struct rp_route *r)
{
    char heading[200], method[16], line[32];
    snprintf(heading, sizeof heading, "\n  %s:\n", r->pattern);
    char *at = strstr(text, heading);
    if (!at)
        return false;
    at += strlen(heading) - 1;
    char *end = strstr(at, "\n  /");
    if (!end)
        end = strstr(at, "\ncomponents:");
    lower(method, sizeof method, r->method);
    snprintf(line, sizeof line, "\n    %s:", method);
    char *found = strstr(at, line);
    return found && found < end;
}

static bool in_table(const char *pattern, const char *method)
{
    for (size_t i = 0; i < rp_routes_count; i++) {
        char have[16];
        lower(have, sizeof have, rp_routes[i].method);
        if (strcmp(rp_routes[i].pattern, pattern) == 0 && strcmp(have, method) == 0)
            return true;
    }
    return false;
}

static void test_every_route_is_documented(void **state)
{
    read_document(REPLD_SOURCE_ROOT "/docs/openapi.yaml");
    for (size_t i = 0; i < rp_routes_count; i++)
        if (!documented(&rp_routes[i]))
            fail_msg("docs/openapi.yaml lacks %s %s", rp_routes[i].method, rp_routes[i].pattern);
}

static void test_what_is_documented_exists(void **state)
{
    char path[200] = "";
    unsigned checked = 0;
    read_document(REPLD_SOURCE_ROOT "/docs/openapi.yaml");
    char *save, *components = strstr(text, "\ncomponents:");
    assert_non_null(components);
    *components = '\0';
    char *paths = strstr(text, "\npaths:\n");
    assert_non_null(paths);
    for (char *line = strtok_r(paths + 8, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        size_t n = strlen(line);
        char method[16];
        int end = 0;
        if (strncmp(line, "  /", 3) == 0 && line[n - 1] == ':') {
            snprintf(path, sizeof path, "%.*s", (int)(n - 3), line + 2);
        } else if (strncmp(line, "    ", 4) == 0 && sscanf(line + 4, "%15[a-z]:%n", method, &end) == 1 &&
                   end && strcmp(method, "parameters") != 0) {
            if (!in_table(path, method))
                fail_msg("docs/openapi.yaml has %s %s, the table does not", method, path);
            checked++;
        }
    }
    assert_true(checked >= rp_routes_count);
}

static void test_every_error_is_documented(void **state)
{
    read_document(REPLD_SOURCE_ROOT "/docs/errors.md");
    for (int code = RP_ERROR_NONE + 1; code < RP_ERROR_CODE_MAX; code++) {
        char row[128];
        snprintf(row, sizeof row, "`%s` | %d |", rp_code_name((enum rp_code)code),
                 rp_code_http_status((enum rp_code)code));
        if (!strstr(text, row))
            fail_msg("docs/errors.md lacks %s", row);
    }
}

static void test_no_row_stands_twice(void **state)
{
    for (size_t i = 0; i < rp_routes_count; i++) {
        assert_non_null(rp_routes[i].handler);
        for (size_t k = i + 1; k < rp_routes_count; k++)
            assert_false(strcmp(rp_routes[i].method, rp_routes[k].method) == 0 &&
                         strcmp(rp_routes[i].pattern, rp_routes[k].pattern) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_route_is_documented),
        cmocka_unit_test(test_what_is_documented_exists),
        cmocka_unit_test(test_every_error_is_documented),
        cmocka_unit_test(test_no_row_stands_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
