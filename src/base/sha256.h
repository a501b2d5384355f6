/*
 * sha256.h: SHA-256 (FIPS 180-4) by libsodium, for names by content. Any thread, one owner of a state.
 */
#ifndef RP_BASE_SHA256_H
#define RP_BASE_SHA256_H

#include <sodium/crypto_hash_sha256.h>

#include "base/str.h"

enum { RP_SHA256_HEX_SIZE = 65 };

struct rp_sha256 {
    crypto_hash_sha256_state state;
};

void rp_sha256_init(struct rp_sha256 *h);
void rp_sha256_add(struct rp_sha256 *h, const void *p, size_t n);
/*
 * Adds the length and then the bytes, so that two different lists of fields never give the same input. NULL
 * in s.p counts as a value of its own.
 */
void rp_sha256_add_field(struct rp_sha256 *h, struct rp_str s);
/* Lower-case hexadecimal with NUL; the state is used up. */
void rp_sha256_hex(struct rp_sha256 *h, char ret[static RP_SHA256_HEX_SIZE]);

#endif
