/* websocket_handshake.c: RFC 6455 section 4.2, the server's side. */
#include "net/sha1.h"
#include "net/websocket_internal.h"

/* 16 bytes in base64: 22 characters, of which the last carries 4 bits, and "==". */
static bool key_valid(struct rp_str key)
{
    if (key.n != 24 || key.p[22] != '=' || key.p[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++) {
        char c = key.p[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
              c == '/'))
            return false;
    }
    return strchr("AQgw", key.p[21]) != NULL;
}

static void accept_value(struct rp_str key, char ret[static 29])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[24 + sizeof(guid)];
    unsigned char hash[21] = {0};
    memcpy(text, key.p, 24);
    memcpy(text + 24, guid, sizeof(guid));
    rp_sha1((struct rp_str){text, sizeof(text) - 1}, hash);
    for (int i = 0, o = 0; i < 21; i += 3, o += 4) {
        uint32_t v = (uint32_t)hash[i] << 16 | (uint32_t)hash[i + 1] << 8 | (i + 2 < 21 ? hash[i + 2] : 0u);
        ret[o] = alphabet[v >> 18];
        ret[o + 1] = alphabet[v >> 12 & 63];
        ret[o + 2] = alphabet[v >> 6 & 63];
        ret[o + 3] = alphabet[v & 63];
    }
    ret[27] = '='; /* 20 bytes: the last of 28 characters is padding */
    ret[28] = '\0';
}

static bool asks(const struct rp_http_request *r)
{
    return rp_str_is(r->method, "GET") && r->upgrade &&
           rp_http_list_has(rp_http_header(r, "upgrade"), "websocket");
}

bool rp_websocket_requested(const struct rp_http_request *r)
{
    return asks(r) && rp_str_is(rp_http_header(r, "sec-websocket-version"), "13") &&
           key_valid(rp_http_header(r, "sec-websocket-key"));
}

static struct rp_stream *shake_hands(struct rp_http_exchange *x, const char *protocol)
{
    const struct rp_http_request *r = rp_http_request_of(x);
    struct rp_error err;
    if (!asks(r) || !rp_str_is(rp_http_header(r, "sec-websocket-version"), "13")) {
        rp_error_set(&err, RP_ERROR_INVALID, "this address answers WebSocket version 13 only");
        rp_http_set_header_text(x, "Upgrade", "websocket");
        rp_http_set_header_text(x, "Connection", "upgrade");
        rp_http_set_header_text(x, "Sec-WebSocket-Version", "13");
        http_reply_problem(x, &err, 426);
        return NULL;
    }
    struct rp_str key = rp_http_header(r, "sec-websocket-key");
    if (!key_valid(key) || r->content_length != 0) {
        rp_error_set(&err, RP_ERROR_INVALID,
                     key_valid(key) ? "a WebSocket request has no body" : "Sec-WebSocket-Key is malformed");
        rp_http_reply_error(x, &err);
        return NULL;
    }
    char value[29], head[512];
    accept_value(key, value);
    int n = snprintf(head, sizeof(head),
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\nX-Request-Id: %s\r\n%s%s%s\r\n",
                     value, rp_http_request_id(x), protocol ? "Sec-WebSocket-Protocol: " : "",
                     protocol ? protocol : "", protocol ? "\r\n" : "");
    if (n < 0 || (size_t)n >= sizeof(head)) {
        rp_error_set(&err, RP_ERROR_INTERNAL, "the subprotocol's name is too long");
        rp_http_reply_error(x, &err);
        return NULL;
    }
    return rp_http_take_over(x, (struct rp_str){head, (size_t)n});
}

struct rp_websocket *rp_websocket_accept(struct rp_http_exchange *x,
                                         const struct rp_websocket_options *options,
                                         const struct rp_websocket_callbacks *callbacks, void *ctx)
{
    struct rp_loop *loop = rp_http_loop(x);
    struct rp_stream *stream = shake_hands(x, options->protocol);
    return stream ? ws_new(loop, stream, options, callbacks, ctx) : NULL;
}

static void ignore_message(void *ctx, struct rp_str message)
{
}

static void ignore_drain(void *ctx)
{
}

static void ignore_close(void *ctx, int code)
{
}

void rp_websocket_reject(struct rp_http_exchange *x, int code, const char *reason)
{
    static const struct rp_websocket_callbacks callbacks = {ignore_message, ignore_message, ignore_drain,
                                                            ignore_close};
    static const struct rp_websocket_options options = {.message_max = 65536, .output_cap = 4096};
    struct rp_websocket *ws = rp_websocket_accept(x, &options, &callbacks, NULL);
    if (ws)
        rp_websocket_close(ws, code, reason);
}
