#include "domain/dependencies_grammar.h"

/* ASCII only, whatever the locale is: these decide what is safe. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* A position in the bytes; every take… moves on only when it matches. */
struct cursor {
    const char *p, *end;
};

static bool at_end(const struct cursor *c)
{
    return c->p == c->end;
}

static bool take(struct cursor *c, char wanted)
{
    if (at_end(c) || *c->p != wanted)
        return false;
    c->p++;
    return true;
}

static bool take_any(struct cursor *c, const char *set)
{
    if (at_end(c) || *c->p == '\0' || !strchr(set, *c->p))
        return false;
    c->p++;
    return true;
}

/* Lower-case word, compared without case. */
static bool take_word(struct cursor *c, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(c->end - c->p) < n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (lower(c->p[i]) != word[i])
            return false;
    c->p += n;
    return true;
}

static size_t take_digits(struct cursor *c)
{
    const char *from = c->p;
    while (!at_end(c) && is_digit(*c->p))
        c->p++;
    return (size_t)(c->p - from);
}

static void skip_spaces(struct cursor *c)
{
    while (take(c, ' '))
        ;
}

/* ---- Python ---- */

/* PEP 508 identifier: letters, digits, "._-" inside. */
static bool take_identifier(struct cursor *c)
{
    const char *from = c->p;
    while (!at_end(c) && (is_alnum(*c->p) || strchr("._-", *c->p)) && *c->p)
        c->p++;
    return c->p > from && is_alnum(*from) && is_alnum(c->p[-1]);
}

bool rp_grammar_pip_name(struct rp_str s)
{
    struct cursor c = {s.p, s.p + s.n};
    if (!take_identifier(&c))
        return false;
    if (take(&c, '[')) {
        do {
            if (!take_identifier(&c))
                return false;
        } while (take(&c, ','));
        if (!take(&c, ']'))
            return false;
    }
    return at_end(&c);
}

/* [-_.]? WORD [-_.]? digits?, e.g. "rc1", ".post2", "-dev". Moves only when a word is there. */
static bool take_suffix(struct cursor *c, const char *const *words)
{
    struct cursor t = *c;
    take_any(&t, "-_.");
    for (; *words; words++)
        if (take_word(&t, *words)) {
            struct cursor number = t;
            take_any(&number, "-_.");
            if (take_digits(&number))
                t = number;
            *c = t;
            return true;
        }
    return false;
}

struct version {
    size_t segments;
    bool wildcard, local;
};

static bool take_version(struct cursor *c, struct version *ret)
{
    static const char *const pre[] = {"alpha", "a", "beta", "b", "preview", "pre", "c", "rc", NULL};
    static const char *const post[] = {"post", "rev", "r", NULL};
    static const char *const dev[] = {"dev", NULL};
    *ret = (struct version){0};
    take_any(c, "vV");
    struct cursor epoch = *c;
    if (take_digits(&epoch) && take(&epoch, '!'))
        *c = epoch;
    do {
        if (ret->segments && take(c, '*')) {
            ret->wildcard = true;
            return true;
        }
        if (!take_digits(c))
            return false;
        ret->segments++;
        /* ".post1" and ".dev1" begin with a dot that is not of the release */
        struct cursor dot = *c;
        if (!take(&dot, '.') || at_end(&dot) || !(is_digit(*dot.p) || *dot.p == '*'))
            break;
    } while (take(c, '.'));
    take_suffix(c, pre);
    if (!take_suffix(c, post)) {
        struct cursor dash = *c;
        if (take(&dash, '-') && take_digits(&dash))
            *c = dash;
    }
    take_suffix(c, dev);
    if (take(c, '+')) {
        ret->local = true;
        do {
            const char *from = c->p;
            while (!at_end(c) && is_alnum(*c->p))
                c->p++;
            if (c->p == from)
                return false;
        } while (take_any(c, "-_."));
    }
    return true;
}

bool rp_grammar_pip_version(struct rp_str s)
{
    struct cursor c = {s.p, s.p + s.n};
    struct version v;
    return take_version(&c, &v) && at_end(&c);
}

bool rp_grammar_pip_specifiers(struct rp_str s)
{
    struct cursor c = {s.p, s.p + s.n};
    do {
        skip_spaces(&c);
        bool equal = take_word(&c, "===") || take_word(&c, "==") || take_word(&c, "!=");
        bool compatible = !equal && take_word(&c, "~=");
        if (!equal && !compatible && !take_word(&c, "<=") && !take_word(&c, ">=") && !take(&c, '<') &&
            !take(&c, '>'))
            return false;
        skip_spaces(&c);
        struct version v;
        if (!take_version(&c, &v) || (v.wildcard && !equal) || (v.local && !equal) ||
            (compatible && v.segments < 2))
            return false;
        skip_spaces(&c);
    } while (take(&c, ','));
    return at_end(&c);
}

/* ---- npm ---- */

static bool npm_part(struct rp_str s)
{
    if (s.n == 0 || !is_alnum(s.p[0]))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && s.p[i] != '.' && s.p[i] != '_' && s.p[i] != '-')
            return false;
    return true;
}

bool rp_grammar_npm_name(struct rp_str s)
{
    if (s.n > 0 && s.p[0] == '@') {
        struct rp_str name, scope = rp_str_cut((struct rp_str){s.p + 1, s.n - 1}, '/', &name);
        return npm_part(scope) && npm_part(name);
    }
    return npm_part(s) && !rp_str_is_nocase(s, "node_modules") && !rp_str_is_nocase(s, "favicon.ico");
}

/* Dot-separated [0-9A-Za-z-]+ after "-" or "+". */
static bool take_qualifier(struct cursor *c)
{
    do {
        const char *from = c->p;
        while (!at_end(c) && (is_alnum(*c->p) || *c->p == '-'))
            c->p++;
        if (c->p == from)
            return false;
    } while (take(c, '.'));
    return true;
}

static bool take_xr(struct cursor *c)
{
    return take_any(c, "xX*") || take_digits(c);
}

/* "1", "1.2", "1.2.3-beta.1+build", "1.x", "*". */
static bool take_partial(struct cursor *c)
{
    take_any(c, "vV");
    if (!take_xr(c))
        return false;
    for (int part = 1; part < 3 && take(c, '.'); part++)
        if (!take_xr(c))
            return false;
    return (!take(c, '-') || take_qualifier(c)) && (!take(c, '+') || take_qualifier(c));
}

static bool take_comparator(struct cursor *c)
{
    if (!take_word(c, "~>") && !take_word(c, ">=") && !take_word(c, "<="))
        take_any(c, "<>=~^");
    skip_spaces(c);
    return take_partial(c);
}

bool rp_grammar_npm_range(struct rp_str s)
{
    struct cursor c = {s.p, s.p + s.n};
    do {
        skip_spaces(&c);
        struct cursor hyphen = c;
        if (take_partial(&hyphen) && take_word(&hyphen, " - ") && take_partial(&hyphen)) {
            c = hyphen;
            skip_spaces(&c);
            continue;
        }
        do {
            if (!take_comparator(&c))
                return false;
            /* another comparator needs a space before it */
            if (at_end(&c) || *c.p != ' ')
                break;
            skip_spaces(&c);
        } while (!at_end(&c) && *c.p != '|');
    } while (take_word(&c, "||"));
    return at_end(&c);
}

bool rp_grammar_npm_tag(struct rp_str s)
{
    static const char *const archives[] = {".tgz", ".tar.gz", ".tar"};
    if (s.n == 0 || is_digit(s.p[0]) || !npm_part(s))
        return false;
    for (size_t i = 0; i < RP_ARRAY_SIZE(archives); i++) {
        size_t n = strlen(archives[i]);
        if (s.n >= n && rp_str_is_nocase((struct rp_str){s.p + s.n - n, n}, archives[i]))
            return false;
    }
    return true;
}
