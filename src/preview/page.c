#include "preview/page.h"

#include "net/http_parser.h"

enum { PAGE_MAX = 64 * 1024 };

static const char style[] =
    "<style>:root{color-scheme:light dark}body{font:16px/1.5 "
    "system-ui,sans-serif;max-width:36rem;margin:12vh auto;"
    "padding:0 1.5rem}h1{font-size:1.4rem}code{font-family:ui-monospace,monospace}li{margin:.3rem 0}"
    "footer{margin-top:3rem;opacity:.6;font-size:.85rem}</style>";

static bool escape(struct rp_buf *out, struct rp_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        const char *entity = c == '<'   ? "&lt;"
                             : c == '>' ? "&gt;"
                             : c == '&' ? "&amp;"
                             : c == '"' ? "&quot;"
                                        : NULL;
        if (!(entity ? rp_buf_append_str(out, rp_str_of(entity)) : rp_buf_append(out, &c, 1)))
            return false;
    }
    return true;
}

static bool write_ports(struct rp_buf *out, const struct rp_page *page)
{
    if (!page->port_count)
        return true;
    if (!rp_buf_printf(out, "<p>These ports are open:</p><ul>"))
        return false;
    for (size_t i = 0; i < page->port_count; i++)
        if (!rp_buf_printf(out, "<li><a href=\"http://%u-%s", page->ports[i], page->project) ||
            !escape(out, page->suffix) || !rp_buf_printf(out, "/\">port %u</a></li>", page->ports[i]))
            return false;
    return rp_buf_printf(out, "</ul>");
}

static bool write_page(struct rp_buf *out, const struct rp_page *page, const char *request_id)
{
    return rp_buf_printf(out, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">"
                              "<meta name=\"viewport\" content=\"width=device-width\">") &&
           (!page->reload || rp_buf_printf(out, "<meta http-equiv=\"refresh\" content=\"2\">")) &&
           rp_buf_printf(out, "<title>") && escape(out, rp_str_of(page->title)) &&
           rp_buf_printf(out, "</title>") && rp_buf_append_str(out, rp_str_of(style)) &&
           rp_buf_printf(out, "<h1>") && escape(out, rp_str_of(page->title)) &&
           rp_buf_printf(out, "</h1><p>") && escape(out, rp_str_of(page->text)) &&
           rp_buf_printf(out, "</p>") && write_ports(out, page) &&
           rp_buf_printf(out, "<footer>repld &middot; request %s</footer></html>", request_id);
}

static bool wants_html(const struct rp_http_request *r)
{
    struct rp_str accept = rp_http_header(r, "accept");
    while (accept.n) {
        struct rp_str parameters, range = rp_str_cut(accept, ',', &accept);
        if (rp_str_is_nocase(rp_str_trim(rp_str_cut(range, ';', &parameters)), "text/html"))
            return true;
    }
    return false;
}

void rp_page_answer(struct rp_http_exchange *x, const struct rp_error *err, const struct rp_page *page)
{
    rp_http_set_header_text(x, "Cache-Control", "no-store");
    rp_http_set_header_text(x, "Vary", "Accept");
    struct rp_buf body;
    rp_buf_init(&body, PAGE_MAX);
    if (wants_html(rp_http_request_of(x)) && write_page(&body, page, rp_http_request_id(x))) {
        rp_http_set_header_text(x, "Content-Security-Policy",
                                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors *");
        rp_http_reply(x, rp_code_http_status(err->code), "text/html; charset=utf-8", rp_buf_view(&body));
    } else {
        rp_http_reply_error(x, err);
    }
    rp_buf_done(&body);
}
