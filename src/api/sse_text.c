#include "api/sse_text.h"

/* How long the character that begins with c is; 1 for what begins none. */
static unsigned character_length(unsigned char c)
{
    return c < 0xc2 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 1;
}

/* Bytes at the end that are the beginning of a character whose rest has not come. */
static unsigned unfinished(struct rp_str s)
{
    for (unsigned back = 1; back <= 3 && back <= s.n; back++) {
        unsigned char c = (unsigned char)s.p[s.n - back];
        if ((c & 0xc0) == 0x80)
            continue;
        return character_length(c) > back ? back : 0;
    }
    return 0;
}

struct writer {
    struct rp_buf *out;
    bool failed;
};

static void put(struct writer *w, const char *p, size_t n)
{
    if (!w->failed && !rp_buf_append(w->out, p, n))
        w->failed = true;
}

static void put_text(struct writer *w, struct rp_sse_text *s, struct rp_str text)
{
    for (size_t i = 0; i < text.n;) {
        unsigned char c = (unsigned char)text.p[i];
        if (c == '\n' || c == '\r') {
            if (!(c == '\n' && s->after_cr))
                put(w, "\ndata: ", 7);
            s->after_cr = c == '\r';
            i++;
            continue;
        }
        s->after_cr = false;
        if (c < 0x80) {
            size_t run = i + 1;
            while (run < text.n && (unsigned char)text.p[run] < 0x80 && text.p[run] != '\n' &&
                   text.p[run] != '\r')
                run++;
            put(w, text.p + i, run - i);
            i = run;
            continue;
        }
        unsigned n = character_length(c);
        if (n > 1 && i + n <= text.n && rp_utf8_valid(text.p + i, n)) {
            put(w, text.p + i, n);
            i += n;
        } else {
            put(w, "\xef\xbf\xbd", 3);
            i++;
        }
    }
}

bool rp_sse_text_event(struct rp_sse_text *s, uint64_t offset, struct rp_str bytes, struct rp_buf *out)
{
    /* the carried bytes and as many as finish their character, then the rest */
    char joined[8];
    struct rp_str head = {joined, 0};
    struct writer w = {out, false};
    uint64_t after = offset + bytes.n;
    if (s->carried) {
        memcpy(joined, s->carry, s->carried);
        head.n = s->carried;
        unsigned need = character_length((unsigned char)joined[0]);
        while (head.n < need && bytes.n && ((unsigned char)bytes.p[0] & 0xc0) == 0x80) {
            joined[head.n++] = *bytes.p++;
            bytes.n--;
        }
        s->carried = 0;
        if (head.n < need && !bytes.n) {
            memcpy(s->carry, joined, head.n);
            s->carried = (unsigned)head.n;
            return true;
        }
    }
    unsigned tail = unfinished(bytes);
    bytes.n -= tail;
    memcpy(s->carry, bytes.p + bytes.n, tail);
    s->carried = tail;
    if (!head.n && !bytes.n)
        return true;
    char id[64];
    int n = snprintf(id, sizeof(id), "id: %llu\ndata: ", (unsigned long long)(after - tail));
    put(&w, id, (size_t)n);
    put_text(&w, s, head);
    put_text(&w, s, bytes);
    put(&w, "\n\n", 2);
    return !w.failed;
}
