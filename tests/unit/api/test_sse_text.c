/* api/sse_text: however a text is cut into pieces, its events are the text, and each id is where the next one
 * begins. */
#include "../cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/sse_text.h"

/* What a client's parser makes of the events: appends the data to text, and sets id. */
static void parse(struct rp_str events, struct rp_buf *text, unsigned long long *id)
{
    while (events.n) {
        const char *end = memmem(events.p, events.n, "\n\n", 2);
        assert_non_null(end);
        struct rp_str event = {events.p, (size_t)(end - events.p) + 1};
        events.n -= event.n + 1;
        events.p += event.n + 1;
        bool first = true;
        while (event.n) {
            const char *newline = memchr(event.p, '\n', event.n);
            struct rp_str line = {event.p, (size_t)(newline - event.p)};
            event.n -= line.n + 1;
            event.p += line.n + 1;
            if (rp_str_starts(line, "id: ")) {
                *id = strtoull(line.p + 4, NULL, 10);
                continue;
            }
            assert_true(rp_str_starts(line, "data: "));
            if (!first)
                assert_true(rp_buf_append(text, "\n", 1));
            first = false;
            assert_true(rp_buf_append(text, line.p + 6, line.n - 6));
        }
    }
}

static void check(const char *input, size_t n, const char *wanted)
{
    for (size_t piece = 1; piece <= n; piece++) {
        struct rp_sse_text s = {0};
        struct rp_buf text;
        unsigned long long id = 1000;
        rp_buf_init(&text, 1 << 20);
        for (size_t at = 0; at < n; at += piece) {
            struct rp_buf out;
            rp_buf_init(&out, RP_SSE_TEXT_MAX);
            struct rp_str bytes = {input + at, RP_MIN(piece, n - at)};
            assert_true(rp_sse_text_event(&s, 1000 + at, bytes, &out));
            assert_true(rp_utf8_valid(rp_buf_view(&out).p, rp_buf_view(&out).n));
            parse(rp_buf_view(&out), &text, &id);
            assert_true(id + s.carried == 1000 + at + bytes.n);
            rp_buf_done(&out);
        }
        if (!rp_str_is(rp_buf_view(&text), wanted))
            fail_msg("in pieces of %zu: \"%.*s\"", piece, (int)rp_buf_view(&text).n, rp_buf_view(&text).p);
        rp_buf_done(&text);
    }
}

static void texts(void **state)
{
    check("one\ntwo\n", 8, "one\ntwo\n");
    check("\n\n\n", 3, "\n\n\n");
    check("data: id: \n event: x\n", 21, "data: id: \n event: x\n");
    check("50%\r100%\r\ndone\r\n", 16, "50%\n100%\ndone\n");
    check("h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80!", 13, "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80!");
}

static void bytes_that_are_no_text(void **state)
{
    check("a\xff"
          "b\x80\xc3(",
          6,
          "a\xef\xbf\xbd"
          "b\xef\xbf\xbd\xef\xbf\xbd(");
    check("\xe2\x82\n", 3, "\xef\xbf\xbd\xef\xbf\xbd\n");
    check("\xed\xa0\x80.", 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd.");
}

static void the_largest_piece_fits(void **state)
{
    static char newlines[RP_SSE_PIECE_MAX];
    memset(newlines, '\n', sizeof(newlines));
    struct rp_sse_text s = {0};
    struct rp_buf out;
    rp_buf_init(&out, RP_SSE_TEXT_MAX);
    assert_true(rp_sse_text_event(&s, UINT64_MAX / 2, (struct rp_str){newlines, sizeof(newlines)}, &out));
    rp_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(bytes_that_are_no_text),
        cmocka_unit_test(the_largest_piece_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
