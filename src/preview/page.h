/*
 * page.h: what a preview answers when there is no program to answer: a page for browsers, problem+json for
 * the rest. Loop thread only.
 */
#ifndef RP_PREVIEW_PAGE_H
#define RP_PREVIEW_PAGE_H

#include "net/http_server.h"

struct rp_page {
    const char *title; /* plain text; escaped here, like all that follows */
    const char *text;
    const uint16_t *ports; /* with links, as http://PORT-PROJECT SUFFIX/ */
    size_t port_count;
    const char *project;
    struct rp_str suffix; /* of the request's host: ".localhost:8000" */
    bool reload;          /* the page tries again by itself */
};

/* The error's own status and code; the page when the client accepts text/html. */
void rp_page_answer(struct rp_http_exchange *x, const struct rp_error *err, const struct rp_page *page);

#endif
