"""A web server for the sandbox, without dependencies: what the preview tests talk to. It listens on 127.0.0.1 only."""
import base64
import hashlib
import json
import socketserver
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def reply(self, body, content_type="application/json", status=200, fields=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def read_body(self, each):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                if size == 0:
                    while self.rfile.readline() not in (b"\r\n", b""):
                        pass
                    return
                while size:
                    piece = self.rfile.read(min(size, 65536))
                    size -= len(piece)
                    each(piece)
                self.rfile.readline()
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 65536))
            if not piece:
                raise ConnectionError
            left -= len(piece)
            each(piece)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")
        self.wfile.flush()

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/":
            self.reply(b"hello", "text/plain")
        elif path == "/request":
            self.reply({"line": self.requestline, "fields": [list(i) for i in self.headers.items()],
                        "connection": self.client_address[1]})
        elif path == "/cookies":
            self.reply(b"", fields=[("Set-Cookie", "jwt=evil; Path=/"), ("Set-Cookie", "mine=1; Path=/"),
                                    ("Set-Cookie", "wide=2; Domain=localhost; Path=/")])
        elif path == "/down":
            n = int(query)
            self.send_response(200)
            self.send_header("Content-Length", str(n))
            self.end_headers()
            block = bytes(range(256)) * 256
            while n and self.command != "HEAD":
                self.wfile.write(block[:n])
                n -= min(n, len(block))
        elif path in ("/chunks", "/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if path == "/events" else "text/plain")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(int(query)):
                self.chunk(b"data: %d %.6f\n\n" % (i, time.time()) if path == "/events" else b"<%d>" % i)
                if path == "/events":
                    time.sleep(0.3)
            self.wfile.write(b"0\r\nX-Trailer: 1\r\n\r\n")
        elif path == "/until-close":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"z" * 100000)
            self.close_connection = True
        elif path == "/empty":
            self.send_response(204)
            self.end_headers()
        elif path == "/same":
            self.send_response(304)
            self.send_header("ETag", '"x"')
            self.end_headers()
        elif path == "/hint":
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            self.reply(b"after the hint", "text/plain")
        elif path == "/garbage":
            self.wfile.write(b"this is not HTTP at all\r\n\r\n")
            self.close_connection = True
        elif path == "/smuggle":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        elif path == "/short":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
            self.close_connection = True
        elif path == "/ws":
            self.websocket()
        else:
            self.reply({"error": "not here"}, status=404)

    def do_POST(self):
        digest, total = hashlib.sha256(), 0

        def each(piece):
            nonlocal total
            digest.update(piece)
            total += len(piece)
        self.read_body(each)
        self.reply({"bytes": total, "sha256": digest.hexdigest(), "expect": self.headers.get("Expect")})

    do_PUT = do_POST

    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while True:
            first, second = self.rfile.read(2)
            length = second & 127
            if length == 126:
                length, = struct.unpack(">H", self.rfile.read(2))
            elif length == 127:
                length, = struct.unpack(">Q", self.rfile.read(8))
            mask = self.rfile.read(4)
            data = self.rfile.read(length)
            data = (int.from_bytes(data, "little") ^
                    int.from_bytes((mask * (length // 4 + 1))[:length], "little")).to_bytes(length, "little")
            size = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length) if length < 65536 else \
                b"\x7f" + struct.pack(">Q", length)
            self.wfile.write(bytes([first]) + size + data)
            if first & 15 == 8:
                return


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    server.serve_forever()
