/*
 * query.h: the parameters of a request's query, one after the other, decoded. Pure; loop thread.
 */
#ifndef RP_API_QUERY_H
#define RP_API_QUERY_H

#include <stdbool.h>

#include "base/str.h"

enum { RP_QUERY_NAME_MAX = 128, RP_QUERY_VALUE_MAX = 1024 };

struct rp_query {
    struct rp_str rest; /* begin with the request's query */
    char name[RP_QUERY_NAME_MAX + 1], value[RP_QUERY_VALUE_MAX + 1];
    size_t name_length, value_length;
};

/* 1: name and value are the next parameter; 0: no more; -1: malformed or too long. */
int rp_query_next(struct rp_query *q);

#endif
