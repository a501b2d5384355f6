#include "base/random.h"

#include <stdlib.h>
#include <sys/random.h>

void rp_random_bytes(void *p, size_t n)
{
    char *at = p;
    while (n) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort();
        at += got;
        n -= (size_t)got;
    }
}

void rp_random_id(char ret[static RP_ID_SIZE])
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    size_t have = 0;
    while (have < RP_ID_LENGTH) {
        unsigned char bytes[32];
        rp_random_bytes(bytes, sizeof(bytes));
        /* 252 is the largest multiple of 36 that fits a byte: the rest would favour the first letters. */
        for (size_t i = 0; i < sizeof(bytes) && have < RP_ID_LENGTH; i++)
            if (bytes[i] < 252)
                ret[have++] = alphabet[bytes[i] % 36];
    }
    ret[RP_ID_LENGTH] = '\0';
}

int rp_id_valid(const char *p, size_t n)
{
    if (n != RP_ID_LENGTH)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= '0' && p[i] <= '9')))
            return 0;
    return 1;
}
