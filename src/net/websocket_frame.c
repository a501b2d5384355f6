#include "net/websocket_frame.h"

ssize_t rp_ws_parse_header(struct rp_str bytes, struct rp_ws_frame *ret)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    if (bytes.n < 1)
        return 0;
    unsigned opcode = p[0] & 15;
    bool fin = p[0] & 0x80, control = opcode & 8;
    if (p[0] & 0x70 || opcode > RP_WS_PONG || (opcode > RP_WS_BINARY && opcode < RP_WS_CLOSE) ||
        (control && !fin))
        return -1;
    if (bytes.n < 2)
        return 0;
    unsigned length = p[1] & 127;
    if (!(p[1] & 0x80) || (control && length > RP_WS_CONTROL_MAX))
        return -1;
    size_t at = 2;
    uint64_t n = length;
    if (length >= 126) {
        size_t size = length == 126 ? 2 : 8;
        if (bytes.n < at + size)
            return bytes.n > at && size == 8 && p[at] & 0x80 ? -1 : 0;
        n = 0;
        for (size_t i = 0; i < size; i++)
            n = n << 8 | p[at + i];
        at += size;
        /* the shortest form is a must, and the highest bit is 0 */
        if (n >> 63 || n <= (size == 2 ? 125u : 65535u))
            return -1;
    }
    if (bytes.n < at + 4)
        return 0;
    *ret = (struct rp_ws_frame){.fin = fin, .opcode = (unsigned char)opcode, .length = n};
    memcpy(ret->mask, p + at, 4);
    return (ssize_t)at + 4;
}

size_t rp_ws_write_header(unsigned char ret[static 10], unsigned char opcode, uint64_t length)
{
    ret[0] = 0x80 | opcode;
    size_t size = length <= 125 ? 0 : length <= 65535 ? 2 : 8;
    ret[1] = size == 0 ? (unsigned char)length : size == 2 ? 126 : 127;
    for (size_t i = 0; i < size; i++)
        ret[2 + i] = (unsigned char)(length >> (8 * (size - 1 - i)));
    return 2 + size;
}

void rp_ws_mask(char *p, size_t n, const unsigned char mask[static 4], uint64_t offset)
{
    unsigned char turned[8];
    for (unsigned i = 0; i < 8; i++)
        turned[i] = mask[(offset + i) & 3];
    uint64_t wide;
    memcpy(&wide, turned, 8);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        v ^= wide;
        memcpy(p + i, &v, 8);
    }
    for (; i < n; i++)
        p[i] = (char)(p[i] ^ turned[i & 7]);
}

bool rp_ws_close_code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

/* The first byte of a sequence: false when none begins so. */
static bool begin_sequence(struct rp_utf8 *u, unsigned char c)
{
    u->low = 0x80;
    u->high = 0xbf;
    if (c >= 0xc2 && c <= 0xdf) {
        u->need = 1;
    } else if (c >= 0xe0 && c <= 0xef) {
        u->need = 2;
        if (c == 0xe0)
            u->low = 0xa0; /* overlong */
        else if (c == 0xed)
            u->high = 0x9f; /* surrogates */
    } else if (c >= 0xf0 && c <= 0xf4) {
        u->need = 3;
        if (c == 0xf0)
            u->low = 0x90; /* overlong */
        else if (c == 0xf4)
            u->high = 0x8f; /* above U+10FFFF */
    } else {
        return false;
    }
    return true;
}

bool rp_utf8_feed(struct rp_utf8 *u, struct rp_str bytes)
{
    const unsigned char *p = (const unsigned char *)bytes.p, *end = p + bytes.n;
    while (p < end) {
        if (u->need) {
            if (*p < u->low || *p > u->high)
                return false;
            u->low = 0x80;
            u->high = 0xbf;
            u->need--;
            p++;
            continue;
        }
        if (end - p >= 8) {
            uint64_t eight;
            memcpy(&eight, p, 8);
            if (!(eight & 0x8080808080808080ull)) {
                p += 8;
                continue;
            }
        }
        if (*p >= 0x80 && !begin_sequence(u, *p))
            return false;
        p++;
    }
    return true;
}
