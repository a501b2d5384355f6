/*
 * cli.h: the commands that a person types, one file each. argv begins with the command's own name; the result
 * is the exit status: 0, 1 for a failure that was told on standard error, 2 for a wrong command line.
 */
#ifndef RP_CLI_CLI_H
#define RP_CLI_CLI_H

int rp_cli_serve(int argc, char **argv);
int rp_cli_doctor(int argc, char **argv);
int rp_cli_version(int argc, char **argv);
int rp_cli_help(int argc, char **argv);

#endif
