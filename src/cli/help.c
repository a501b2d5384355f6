#include <stdio.h>

#include "cli/cli.h"

int rp_cli_version(int argc, char **argv)
{
    printf("repld " REPLD_VERSION "\n");
    return 0;
}

int rp_cli_help(int argc, char **argv)
{
    printf("repld " REPLD_VERSION ": a self-hosted Replit\n"
           "\n"
           "  repld serve [--FLAG VALUE ...]   serve; repld serve --help lists every setting\n"
           "  repld stack build NAME...        build the environments of stacks\n"
           "  repld doctor [--FLAG VALUE ...]  check what this machine can do\n"
           "  repld version\n"
           "  repld help\n");
    return 0;
}
