/*
 * install_reason.h: why an installation failed, from the end of what its package manager printed. Pure; any
 * thread.
 */
#ifndef RP_DOMAIN_INSTALL_REASON_H
#define RP_DOMAIN_INSTALL_REASON_H

#include "base/str.h"
#include "domain/stack.h"

/* Writes a sentence such as `the package "lefpad" does not exist`, or false when the text does not say. */
bool rp_install_reason(enum rp_manager manager, struct rp_str output, char *dst, size_t cap);

#endif
