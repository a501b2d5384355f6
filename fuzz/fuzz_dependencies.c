/*
 * Package names, versions and manifests. The first byte chooses: an even one npm, an odd one pip. Then a
 * name, a newline, a version, a newline, and a manifest that is read and edited.
 *
 * What must hold: whatever is accepted has no byte that a manager could take for more than a name or a
 * version, and a manifest that was edited says what was set.
 */
#include <stdint.h>

#include "domain/dependencies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_plain(struct rp_str s, const char *forbidden)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || (unsigned char)s.p[i] > '~' || strchr(forbidden, s.p[i]))
            abort();
    if (s.n && s.p[0] == '-')
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const none[] = {NULL};
    if (size == 0)
        return 0;
    const struct rp_stack_template plain = {.name = "plain", .when = none};
    const struct rp_stack stack = {.name = "fuzz",
                                   .manager = data[0] & 1 ? RP_MANAGER_PIP : RP_MANAGER_NPM,
                                   .manifest = data[0] & 1 ? "requirements.txt" : "package.json",
                                   .templates = &plain,
                                   .template_count = 1};
    struct rp_str rest = {(const char *)data + 1, size - 1}, manifest;
    struct rp_str name = rp_str_cut(rest, '\n', &rest), version = rp_str_cut(rest, '\n', &manifest);
    bool good_name = rp_dependency_check_name(stack.manager, name, "", NULL) == 0;
    bool good_version = rp_dependency_check_version(stack.manager, version, "", NULL) == 0;
    if (good_name)
        must_be_plain(name, stack.manager == RP_MANAGER_PIP ? " /@:;#%&|<>=!$`\"'\\(){}*?~^"
                                                            : " :;#%&|<>=!$`\"'\\(){}*?~^[],");
    if (good_version)
        must_be_plain(version, "/@:;#%&$`\"'\\(){}?[]");

    struct rp_dependencies d = {0}, found = {0};
    if (good_name && good_version) {
        _cleanup_json_ json_t *table = json_object();
        json_object_setn_new(table, name.p, name.n, json_stringn(version.p, version.n));
        if (rp_dependencies_parse(&stack, table, &d, NULL) < 0 || d.count != 1)
            abort();
    }
    struct rp_buf out;
    rp_buf_init(&out, 4 * 1024 * 1024);
    if (rp_manifest_edit(&stack, manifest, &d, NULL, &out, NULL) == 0 && d.count == 1) {
        if (rp_manifest_read(&stack, rp_buf_view(&out), &found, NULL) < 0)
            abort();
        bool there = found.count == RP_DEPENDENCIES_MAX;
        for (size_t i = 0; i < found.count; i++)
            there = there || (rp_dependency_same(stack.manager, rp_str_of(found.items[i].name), name) &&
                              strcmp(found.items[i].version, d.items[0].spec) == 0);
        if (!there)
            abort();
    }
    rp_buf_done(&out);
    rp_dependencies_done(&d);
    rp_dependencies_done(&found);
    return 0;
}
