/*
 * network.h: a project's network policy: "internet", "none", or {"mode": "allow", "allow": [IPv4 ranges]}.
 * Pure; any thread.
 */
#ifndef RP_DOMAIN_NETWORK_H
#define RP_DOMAIN_NETWORK_H

#include "base/json.h"
#include "proto/orchestrator.h"

/* The value that stands at `pointer`. */
int rp_network_decode(json_t *value, const char *pointer, struct rp_network_policy *ret,
                      struct rp_error *err) RP_MUST_CHECK;
/* The JSON object that a record keeps. */
int rp_network_parse(const char *json, struct rp_network_policy *ret, struct rp_error *err) RP_MUST_CHECK;
void rp_network_write(struct rp_json_writer *w, const struct rp_network_policy *policy);

#endif
