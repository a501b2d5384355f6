/* main.c: which command was asked for; nothing else. */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/stack.h"

static int stack(int argc, char **argv)
{
    return rp_cli_stack(argc - 1, argv + 1);
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", rp_cli_serve},     {"stack", stack},       {"doctor", rp_cli_doctor},
    {"version", rp_cli_version}, {"--version", rp_cli_version}, {"help", rp_cli_help},
    {"--help", rp_cli_help},     {"-h", rp_cli_help},
};

int main(int argc, char **argv)
{
    if (argc < 2) {
        rp_cli_help(0, NULL);
        return 2;
    }
    for (size_t i = 0; i < RP_ARRAY_SIZE(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "repld: there is no command \"%.100s\"; see repld help\n", argv[1]);
    return 2;
}
