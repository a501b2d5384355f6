/*
 * record.c: the memory of a project's record. Any thread, one owner.
 */
#include <stdlib.h>

#include "store/store.h"

static char *copy(const char *s)
{
    return s ? rp_strdup(s) : NULL;
}

void rp_project_record_copy(struct rp_project_record *dst, const struct rp_project_record *src)
{
    *dst = *src;
    dst->name = copy(src->name);
    dst->stack = copy(src->stack);
    dst->run_command = copy(src->run_command);
    dst->dependencies = copy(src->dependencies);
    dst->env = copy(src->env);
    dst->metadata = copy(src->metadata);
    dst->network = copy(src->network);
    dst->reason = copy(src->reason);
    dst->installed = copy(src->installed);
}

void rp_project_record_done(struct rp_project_record *r)
{
    if (!r)
        return;
    free(r->name);
    free(r->stack);
    free(r->run_command);
    free(r->dependencies);
    free(r->env);
    free(r->metadata);
    free(r->network);
    free(r->reason);
    free(r->installed);
    *r = (struct rp_project_record){0};
}
