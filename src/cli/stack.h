/*
 * stack.h: `repld stack list | build [NAME…] | check [NAME…]`, followed by flags of `repld serve`. One
 * thread.
 */
#ifndef RP_CLI_STACK_H
#define RP_CLI_STACK_H

/* argv without the program's name and "stack". Returns the exit status: 0, 1 on failure, 2 on wrong usage. */
int rp_cli_stack(int argc, char **argv);

#endif
