/*
 * network_record.h: who has which slot, and what it may do, as one small file a sandbox:
 * RUNTIME_DIR/netns/<sandbox id>, one line "1 SLOT MODE [CIDR …]\n". It is replaced by rename, so it is whole
 * or not there. The runtime directory is on tmpfs: what it says ends with the machine, as the slots do.
 *
 * One thread at a time for one sandbox.
 */
#ifndef RP_SANDBOX_OCI_NETWORK_RECORD_H
#define RP_SANDBOX_OCI_NETWORK_RECORD_H

#include "base/error.h"
#include "base/random.h"
#include "base/str.h"
#include "proto/orchestrator.h"

struct rp_network_record {
    char sandbox[RP_ID_SIZE];
    uint32_t index;
    struct rp_network_policy policy; /* normalised */
};

/* directory: a descriptor of RUNTIME_DIR/netns. */
int rp_network_record_write(int directory, const struct rp_network_record *r,
                            struct rp_error *err) RP_MUST_CHECK;
int rp_network_record_read(int directory, const char *sandbox, struct rp_network_record *ret,
                           struct rp_error *err) RP_MUST_CHECK;
/* Succeeds when there is none. */
int rp_network_record_remove(int directory, const char *sandbox, struct rp_error *err) RP_MUST_CHECK;

/* The text of a record; the parser takes nothing that the writer would not have written. */
int rp_network_record_parse(struct rp_str s, struct rp_network_record *ret,
                            struct rp_error *err) RP_MUST_CHECK;

#endif
