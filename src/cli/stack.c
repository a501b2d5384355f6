#include "cli/stack.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "base/settings.h"
#include "domain/stack.h"
#include "sandbox/oci/environment.h"
#include "sandbox/oci/environment_build.h"

static const char usage[] =
    "usage: repld stack list            the stacks, and whether their environments are built\n"
    "       repld stack build [NAME…]   builds the environments that are missing (as root)\n"
    "       repld stack check [NAME…]   checks descriptions, templates and built environments\n"
    "then any flags of \"repld serve\", e.g. --stacks-dir, --environments-dir, --debian-mirror\n";

/* What the command works on. */
struct command {
    struct rp_settings settings;
    struct rp_stacks *stacks;
    char **names;
    int name_count;
};

static int complain(const struct rp_error *err)
{
    fprintf(stderr, "repld stack: %s\n", err->message);
    return 1;
}

static bool chosen(const struct command *c, const struct rp_stack *stack)
{
    for (int i = 0; i < c->name_count; i++)
        if (strcmp(c->names[i], stack->name) == 0)
            return true;
    return c->name_count == 0;
}

/* ---- list ---- */

static int list(struct command *c)
{
    for (size_t i = 0; i < rp_stacks_count(c->stacks); i++) {
        const struct rp_stack *s = rp_stacks_at(c->stacks, i);
        printf("%-12s %-10s %-10s %.12s  %s\n", s->name, s->versions[0],
               rp_environment_built(c->settings.environments_dir, s->recipe) ? "built" : "not built",
               s->environment, s->summary);
    }
    return 0;
}

/* ---- build ---- */

/* On a terminal one line is drawn again and again; elsewhere each step is a line. */
static void show_progress(const char *layer, const char *step, unsigned percent, unsigned elapsed_s)
{
    static char shown[64]; /* the step of the last line; of this process, which only builds */
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r\033[K%s: %u%% %s (%u s)%s", layer, percent, step, elapsed_s,
                percent == 100 ? "\n" : "");
        return;
    }
    if (strcmp(shown, step) != 0)
        fprintf(stderr, "%s: %u%% %s (%u s)\n", layer, percent, step, elapsed_s);
    snprintf(shown, sizeof(shown), "%s", step);
}

static void show_waiting(void)
{
    fprintf(stderr, "another \"repld stack build\" is at work; waiting for it\n");
}

static int build(struct command *c)
{
    const struct rp_environment_build options = {
        .environments_dir = c->settings.environments_dir,
        .debian_mirror = c->settings.debian_mirror,
        .progress = show_progress,
        .waiting = show_waiting,
    };
    for (size_t i = 0; i < rp_stacks_count(c->stacks); i++) {
        const struct rp_stack *s = rp_stacks_at(c->stacks, i);
        struct rp_error err = {0};
        if (!chosen(c, s))
            continue;
        if (rp_environment_build(&options, s->recipe, &err) < 0) {
            fprintf(stderr, "\n");
            complain(&err);
            fprintf(stderr, "the whole output: %s/log/\n", c->settings.environments_dir);
            return 1;
        }
    }
    return 0;
}

/* ---- check ---- */

/* Whether `path` ("/usr/bin/node") is in one of the layers. A link counts: it leads somewhere inside. */
static bool in_layers(const struct rp_environment *e, const char *path, size_t length)
{
    for (size_t i = 0; i < e->layer_count; i++) {
        _cleanup_free_ char *full = rp_asprintf("%s%.*s", e->layers[i], (int)length, path);
        struct stat st;
        if (lstat(full, &st) == 0 && !S_ISCHR(st.st_mode))
            return true;
    }
    return false;
}

/* A program that the environment must have: one that is not in the project itself. */
static bool program_found(const struct rp_stack *s, const struct rp_environment *e, const char *program)
{
    if (program[0] == '/')
        return in_layers(e, program, strlen(program));
    if (strchr(program, '/'))
        return true;
    for (const char *const *v = s->env; *v; v++) {
        if (strncmp(*v, "PATH=", 5) != 0)
            continue;
        struct rp_str rest = rp_str_of(*v + 5);
        while (rest.n) {
            struct rp_str folder = rp_str_cut(rest, ':', &rest);
            _cleanup_free_ char *path = rp_asprintf("%.*s/%s", (int)folder.n, folder.p, program);
            /* /bin is a link to usr/bin in the base layer, and so not in the layers above it */
            if (in_layers(e, path, strlen(path)))
                return true;
        }
    }
    return false;
}

static int check_programs(const struct rp_stack *s, const struct rp_environment *e)
{
    int missing = 0;
    if (!program_found(s, e, s->run[0])) {
        fprintf(stderr, "%s: the run command's program \"%s\" is not in the environment\n", s->name,
                s->run[0]);
        missing++;
    }
    for (size_t i = 0; i < s->step_count; i++)
        if (!program_found(s, e, s->steps[i].argv[0])) {
            fprintf(stderr, "%s: \"%s\", which installs packages, is not in the environment\n", s->name,
                    s->steps[i].argv[0]);
            missing++;
        }
    return missing;
}

static int check_templates(const struct rp_stack *s)
{
    static const struct rp_stack_substitution with = {.project_id = "0123456789abcdef", .name = "check"};
    int wrong = 0;
    for (size_t t = 0; t < s->template_count; t++) {
        bool entry = false;
        for (size_t f = 0; f < s->templates[t].file_count; f++) {
            struct rp_buf out;
            struct rp_error err;
            rp_buf_init(&out, 8 * 1024 * 1024);
            if (rp_stack_render(s, &s->templates[t].files[f], &with, &out, &err) < 0) {
                complain(&err);
                wrong++;
            }
            rp_buf_done(&out);
            entry = entry || strcmp(s->templates[t].files[f].path, s->entry) == 0;
        }
        if (!entry) {
            fprintf(stderr, "%s: the template %s has no \"%s\"\n", s->name, s->templates[t].name, s->entry);
            wrong++;
        }
    }
    return wrong;
}

static int check(struct command *c)
{
    int wrong = 0;
    for (size_t i = 0; i < rp_stacks_count(c->stacks); i++) {
        const struct rp_stack *s = rp_stacks_at(c->stacks, i);
        struct rp_environment e;
        struct rp_error err;
        if (!chosen(c, s))
            continue;
        int before = wrong;
        wrong += check_templates(s);
        if (rp_environment_find(c->settings.environments_dir, s->environment, &e, &err) < 0) {
            fprintf(stderr, "%s: ", s->name);
            complain(&err);
            wrong++;
        } else {
            wrong += check_programs(s, &e);
        }
        if (wrong == before)
            printf("%s: ok\n", s->name);
    }
    return wrong ? 1 : 0;
}

/* ---- command line ---- */

static int run(struct command *c, const char *verb)
{
    for (int i = 0; i < c->name_count; i++)
        if (!rp_stacks_find(c->stacks, rp_str_of(c->names[i]))) {
            fprintf(stderr, "repld stack: there is no stack \"%s\" in %s\n", c->names[i],
                    c->settings.stacks_dir);
            return 1;
        }
    if (strcmp(verb, "list") == 0)
        return list(c);
    return strcmp(verb, "build") == 0 ? build(c) : check(c);
}

int rp_cli_stack(int argc, char **argv)
{
    if (argc == 1 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "help") == 0)) {
        printf("%s", usage);
        return 0;
    }
    if (argc < 1 ||
        (strcmp(argv[0], "list") != 0 && strcmp(argv[0], "build") != 0 && strcmp(argv[0], "check") != 0)) {
        fprintf(stderr, "%s", usage);
        return 2;
    }
    struct command c = {.names = argv + 1};
    while (c.name_count < argc - 1 && argv[1 + c.name_count][0] != '-')
        c.name_count++;
    struct rp_error err = {0};
    if (rp_settings_parse(argc - 1 - c.name_count, argv + 1 + c.name_count, &c.settings, &err) < 0) {
        complain(&err);
        return 2;
    }
    int status;
    if (rp_stacks_load(c.settings.stacks_dir, &c.stacks, &err) < 0)
        status = complain(&err);
    else
        status = run(&c, argv[0]);
    rp_stacks_free(c.stacks);
    rp_settings_done(&c.settings);
    return status;
}
