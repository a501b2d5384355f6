#include "domain/install_reason.h"

#include <stdio.h>
#include <string.h>

struct phrase {
    enum rp_manager manager;
    const char *before; /* the name stands behind it … */
    const char *end;    /* … up to one of these characters */
    const char *meaning;
};

/* In order: a phrase that names the package stands before those that do not. */
static const struct phrase phrases[] = {
    {RP_MANAGER_PIP, "No matching distribution found for ", " \r\n(",
     "the package \"%s\" does not exist, or not in this version"},
    {RP_MANAGER_PIP, "Invalid requirement: ", "\r\n", "the requirement %s is malformed"},
    {RP_MANAGER_NPM, "No matching version found for ", " \r\n",
     "the package \"%s\" does not exist in this version"},
    {RP_MANAGER_NPM, "404  '", "'", "the package \"%s\" does not exist"},
    {RP_MANAGER_NPM, "404 Not Found - GET ", " \r\n", "the package at %s does not exist"},
    {RP_MANAGER_PIP, "No space left on device", NULL, "the project's disk is full"},
    {RP_MANAGER_NPM, "No space left on device", NULL, "the project's disk is full"},
    {RP_MANAGER_PIP, "Disk quota exceeded", NULL, "the project's disk is full"},
    {RP_MANAGER_NPM, "Disk quota exceeded", NULL, "the project's disk is full"},
    {RP_MANAGER_NPM, "ENOSPC", NULL, "the project's disk is full"},
    {RP_MANAGER_NPM, "EDQUOT", NULL, "the project's disk is full"},
    {RP_MANAGER_PIP, "Temporary failure in name resolution", NULL, "the package registry cannot be reached"},
    {RP_MANAGER_PIP, "Network is unreachable", NULL, "the package registry cannot be reached"},
    {RP_MANAGER_NPM, "EAI_AGAIN", NULL, "the package registry cannot be reached"},
    {RP_MANAGER_NPM, "ENETUNREACH", NULL, "the package registry cannot be reached"},
    {RP_MANAGER_NPM, "ENOTFOUND", NULL, "the package registry cannot be reached"},
};

static const char *find(struct rp_str text, const char *what)
{
    return text.n ? memmem(text.p, text.n, what, strlen(what)) : NULL;
}

/* The name is what a stranger's program printed: only what is safe to show is kept. */
static void copy_name(char *dst, size_t cap, const char *p, size_t n, const char *end)
{
    size_t at = 0;
    for (size_t i = 0; i < n && !strchr(end, p[i]) && at + 1 < cap; i++)
        if ((unsigned char)p[i] > 0x20 && (unsigned char)p[i] < 0x7f)
            dst[at++] = p[i];
    if (at && dst[at - 1] == '.')
        at--; /* of the sentence */
    dst[at] = '\0';
}

bool rp_install_reason(enum rp_manager manager, struct rp_str output, char *dst, size_t cap)
{
    for (size_t i = 0; i < RP_ARRAY_SIZE(phrases); i++) {
        const struct phrase *f = &phrases[i];
        const char *at = f->manager == manager ? find(output, f->before) : NULL;
        if (!at)
            continue;
        if (!f->end) {
            snprintf(dst, cap, "%s", f->meaning);
            return true;
        }
        char name[160];
        const char *from = at + strlen(f->before);
        copy_name(name, sizeof name, from, (size_t)(output.p + output.n - from), f->end);
        if (!name[0])
            continue;
        const char *hole = strstr(f->meaning, "%s");
        snprintf(dst, cap, "%.*s%s%s", (int)(hole - f->meaning), f->meaning, name, hole + 2);
        return true;
    }
    return false;
}
