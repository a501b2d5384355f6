#include "base/sha256.h"

#include <endian.h>

void rp_sha256_init(struct rp_sha256 *h)
{
    crypto_hash_sha256_init(&h->state);
}

void rp_sha256_add(struct rp_sha256 *h, const void *p, size_t n)
{
    crypto_hash_sha256_update(&h->state, p, n);
}

void rp_sha256_add_field(struct rp_sha256 *h, struct rp_str s)
{
    uint64_t length = htole64(s.p ? s.n : UINT64_MAX);
    rp_sha256_add(h, &length, sizeof(length));
    if (s.p && s.n)
        rp_sha256_add(h, s.p, s.n);
}

void rp_sha256_hex(struct rp_sha256 *h, char ret[static RP_SHA256_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&h->state, sum);
    for (size_t i = 0; i < sizeof(sum); i++) {
        ret[2 * i] = digits[sum[i] >> 4];
        ret[2 * i + 1] = digits[sum[i] & 15];
    }
    ret[2 * sizeof(sum)] = '\0';
}
