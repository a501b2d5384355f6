#include "sandbox/oci/network_foreign.h"

#include <inttypes.h>
#include <string.h>

#include "base/json.h"

enum { CHAINS_MAX = 32, NAME_SIZE = 128, LISTING_MAX = 64 << 20 };

struct chain {
    char family[8], table[NAME_SIZE], name[NAME_SIZE];
    int rules; /* that it needs: what comes from slots, and when forwarding, what goes to them */
};

/* A name that may stand in a command as it is. Others are left alone: nobody's tools make them. */
static bool plain_name(const char *s)
{
    if (!s || !*s || strlen(s) >= NAME_SIZE)
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == strlen(s);
}

static json_t *query(struct nft_ctx *nft, const char *command)
{
    unsigned before = nft_ctx_output_get_flags(nft);
    nft_ctx_output_set_flags(nft,
                             before | NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_HANDLE | NFT_CTX_OUTPUT_TERSE);
    int failed = nft_run_cmd_from_buffer(nft, command);
    nft_ctx_output_set_flags(nft, before);
    const char *out = nft_ctx_get_output_buffer(nft);
    if (failed || !out || strlen(out) > LISTING_MAX)
        return NULL;
    return json_loads(out, 0, NULL);
}

static const char *text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

/* Foreign base chains of the forward (and input) hook: those that would drop what nobody accepts, or all. */
static size_t find_chains(struct nft_ctx *nft, bool all, bool input, struct chain ret[CHAINS_MAX])
{
    _cleanup_json_ json_t *answer = query(nft, "list chains");
    size_t count = 0, i;
    json_t *item;
    json_array_foreach(json_object_get(answer, "nftables"), i, item)
    {
        const json_t *c = json_object_get(item, "chain");
        const char *family = text(c, "family"), *table = text(c, "table"), *name = text(c, "name");
        if (!c || strcmp(text(c, "type"), "filter") != 0)
            continue;
        bool forwards = strcmp(text(c, "hook"), "forward") == 0;
        if (!forwards && !(input && strcmp(text(c, "hook"), "input") == 0))
            continue;
        if (strncmp(table, "repld_", 6) == 0 || !plain_name(table) || !plain_name(name))
            continue;
        bool iptables = strcmp(family, "ip") == 0 && strcmp(table, "filter") == 0 &&
                        strcmp(name, forwards ? "FORWARD" : "INPUT") == 0;
        if (strcmp(family, "ip") != 0 && strcmp(family, "inet") != 0)
            continue;
        bool drops = strcmp(text(c, "policy"), "drop") == 0;
        if ((!all && !iptables && !drops) || count == CHAINS_MAX)
            continue;
        snprintf(ret[count].family, sizeof(ret[count].family), "%s", family);
        snprintf(ret[count].table, NAME_SIZE, "%s", table);
        snprintf(ret[count].name, NAME_SIZE, "%s", name);
        ret[count].rules = forwards ? 2 : 1;
        count++;
    }
    return count;
}

/* Calls each(ctx, handle) for our rules in the chain; returns how many there are, -1 when it cannot be read.
 */
static int our_rules(struct nft_ctx *nft, const struct chain *c, const char *tag,
                     void (*each)(void *ctx, json_int_t handle), void *ctx)
{
    char command[3 * NAME_SIZE], comment[64];
    snprintf(command, sizeof(command), "list chain %s %s %s", c->family, c->table, c->name);
    snprintf(comment, sizeof(comment), "repld %s", tag);
    _cleanup_json_ json_t *answer = query(nft, command);
    if (!answer)
        return -1;
    int count = 0;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(answer, "nftables"), i, item)
    {
        const json_t *rule = json_object_get(item, "rule");
        if (!rule || strcmp(text(rule, "comment"), comment) != 0)
            continue;
        count++;
        if (each)
            each(ctx, json_integer_value(json_object_get(rule, "handle")));
    }
    return count;
}

static int run(struct nft_ctx *nft, struct rp_buf *commands, const struct chain *c, struct rp_error *err)
{
    if (commands->length == 0)
        return 0;
    if (!rp_buf_append(commands, "", 1))
        return rp_error_set(err, RP_ERROR_INTERNAL, "too many firewall rules to change");
    if (nft_run_cmd_from_buffer(nft, rp_buf_view(commands).p) == 0)
        return 0;
    const char *why = nft_ctx_get_error_buffer(nft);
    struct rp_str first = rp_str_cut(rp_str_of(why ? why : "no reason given"), '\n', &(struct rp_str){0});
    return rp_error_set(err, RP_ERROR_INTERNAL, "change the rules of chain %s of table %s: nftables: %.*s",
                        c->name, c->table, (int)RP_MIN(first.n, (size_t)200), first.p);
}

struct deletion {
    const struct chain *chain;
    struct rp_buf *commands;
};

static void say_delete(void *ctx, json_int_t handle)
{
    struct deletion *d = ctx;
    /* Past the cap the rest stays for the next round. */
    (void)!rp_buf_printf(d->commands, "delete rule %s %s %s handle %" PRId64 "\n", d->chain->family,
                         d->chain->table, d->chain->name, (int64_t)handle);
}

static int repair(struct nft_ctx *nft, const char *tag, const struct chain *c, bool wanted,
                  struct rp_error *err)
{
    _cleanup_(rp_buf_done) struct rp_buf commands;
    rp_buf_init(&commands, 256 * 1024);
    struct deletion d = {c, &commands};
    int count = our_rules(nft, c, tag, say_delete, &d);
    /* A chain that went away meanwhile drops nothing. */
    if (count < 0 || (wanted && count == c->rules))
        return 0;
    for (int i = 0; wanted && i < c->rules; i++)
        if (!rp_buf_printf(&commands,
                           "insert rule %s %s %s %s \"%sv*\" counter accept comment \"repld %s\"\n",
                           c->family, c->table, c->name, i == 0 ? "iifname" : "oifname", tag, tag))
            return rp_error_set(err, RP_ERROR_INTERNAL, "too many firewall rules to change");
    return run(nft, &commands, c, err);
}

int rp_network_foreign_accept(struct nft_ctx *nft, const char *tag, bool input, struct rp_error *err)
{
    struct chain chains[CHAINS_MAX];
    size_t count = find_chains(nft, false, input, chains);
    for (size_t i = 0; i < count; i++)
        if (repair(nft, tag, &chains[i], true, err) < 0)
            return -1;
    return 0;
}

bool rp_network_foreign_accepted(struct nft_ctx *nft, const char *tag, bool input)
{
    struct chain chains[CHAINS_MAX];
    size_t count = find_chains(nft, false, input, chains);
    for (size_t i = 0; i < count; i++) {
        int rules = our_rules(nft, &chains[i], tag, NULL, NULL);
        if (rules >= 0 && rules != chains[i].rules)
            return false;
    }
    return true;
}

int rp_network_foreign_forget(struct nft_ctx *nft, const char *tag, struct rp_error *err)
{
    struct chain chains[CHAINS_MAX];
    size_t count = find_chains(nft, true, true, chains);
    for (size_t i = 0; i < count; i++)
        if (repair(nft, tag, &chains[i], false, err) < 0)
            return -1;
    return 0;
}
