"""What strangers may send: each gets its clear error or is cut, and the server still serves the others."""
import json
import os
import resource
import socket
import struct
import threading
import time

import pytest

from repld import resident_bytes, wait_for


def talk(server, data, timeout=15):
    """Sends bytes on a connection of their own and returns all that comes back until the server closes it."""
    with server.raw(timeout) as s:
        s.sendall(data)
        return drain(s)


def drain(s):
    out = b""
    while True:
        try:
            piece = s.recv(65536)
        except ConnectionResetError:
            return out
        if not piece:
            return out
        out += piece


def read_response(s, buffer=b""):
    """One response with a Content-Length: (status, head, body, rest)."""
    while b"\r\n\r\n" not in buffer:
        piece = s.recv(65536)
        assert piece, f"closed inside a head: {buffer!r}"
        buffer += piece
    head, _, rest = buffer.partition(b"\r\n\r\n")
    fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(b":") for line in head.split(b"\r\n")[1:])}
    length = int(fields[b"content-length"])
    while len(rest) < length:
        piece = s.recv(65536)
        assert piece, "closed inside a body"
        rest += piece
    return int(head.split(b" ")[1]), fields, rest[:length], rest[length:]


def assert_problem(answer, status, code):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:500]
    assert b"content-type: application/problem+json" in head.lower()
    assert json.loads(body)["code"] == code
    assert json.loads(body)["status"] == status


def assert_serves(server):
    started = time.monotonic()
    with server.raw(5) as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_response(s)[0] == 200
    assert time.monotonic() - started < 5


H = b"Host: localhost\r\n"
MALFORMED = [
    ("both lengths", b"POST /api/v1/projects HTTP/1.1\r\n" + H +
     b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v1/projects HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("both lengths, the other way round", b"POST /api/v1/projects HTTP/1.1\r\n" + H +
     b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n", 400),
    ("two lengths", b"POST /api/v1/projects HTTP/1.1\r\n" + H + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
    ("length of 2^63", b"POST /api/v1/projects HTTP/1.1\r\n" + H + b"Content-Length: 9223372036854775808\r\n\r\n", 400),
    ("bad chunk", b"POST /api/v1/projects HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400),
    ("hidden coding", b"POST /api/v1/projects HTTP/1.1\r\n" + H + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("folded field", b"GET /health HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n", 400),
    ("bare LF", b"GET /health HTTP/1.1\nHost: localhost\n\n", 400),
    ("NUL", b"GET /health HTTP/1.1\r\n" + H + b"X: a\0b\r\n\r\n", 400),
    ("no Host", b"GET /health HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", b"GET /health HTTP/1.1\r\n" + H + b"Host: evil.example\r\n\r\n", 400),
    ("a TLS hello", bytes.fromhex("16030102000100010000"), 400),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 501),
    ("other coding", b"POST /api/v1/projects HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip\r\n\r\n", 501),
]


@pytest.mark.parametrize("name,data,status", MALFORMED, ids=[m[0] for m in MALFORMED])
def test_malformed_requests_are_refused_and_closed(server, name, data, status):
    answer = talk(server, data)
    assert_problem(answer, status, "invalid_request" if status == 400 else "not_supported")
    assert answer.count(b"HTTP/1.1 ") == 1, "bytes after a refused request were taken for another"
    assert_serves(server)


def test_oversize_heads_are_refused(server):
    assert_problem(talk(server, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + H + b"\r\n"), 431, "headers_too_large")
    assert_problem(talk(server, b"GET / HTTP/1.1\r\n" + H + b"X: " + b"a" * 40000), 431, "headers_too_large")
    many = b"".join(b"X-%d: 1\r\n" % i for i in range(200))
    assert_problem(talk(server, b"GET / HTTP/1.1\r\n" + H + many + b"\r\n"), 431, "headers_too_large")
    assert_serves(server)


def test_a_head_without_end_is_cut(server):
    with server.raw(10) as s:
        s.sendall(b"GET /health HTTP/1.1\r\n" + H)
        sent = 0
        with pytest.raises(OSError):
            while sent < 64 << 20:
                s.sendall(b"X: " + b"a" * 1000 + b"\r\n")
                sent += 1005
        assert sent < 8 << 20
    assert_serves(server)


def test_a_body_without_end_is_cut(server, stopped_project):
    path = stopped_project.path.encode() + b"/files/mkdir"
    before = resident_bytes(server.role_pid("gateway"))
    with server.raw(10) as s:
        s.sendall(b"POST " + path + b" HTTP/1.1\r\n" + H + b"Content-Type: application/json\r\n"
                  b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with pytest.raises(OSError):
            while sent < 512 << 20:
                s.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")
                sent += 65536
        assert sent < 64 << 20
    assert resident_bytes(server.role_pid("gateway")) < before + (8 << 20)
    assert_serves(server)


def test_too_large_a_body_is_413_and_keeps_the_connection(server, stopped_project):
    path = stopped_project.path.encode() + b"/files/mkdir"
    with server.raw() as s:
        body = b'{"path": "' + b"x" * 500000 + b'"}'
        s.sendall(b"POST " + path + b" HTTP/1.1\r\n" + H + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                  % len(body) + body)
        status, _, answer, rest = read_response(s)
        assert status == 413 and json.loads(answer)["code"] == "too_large"
        s.sendall(b"GET /health HTTP/1.1\r\n" + H + b"\r\n")
        assert read_response(s, rest)[0] == 200


def test_pipelined_requests_are_answered_in_order(server):
    with server.raw() as s:
        s.sendall((b"GET /health HTTP/1.1\r\n" + H + b"\r\nGET /nothing HTTP/1.1\r\n" + H + b"\r\n") * 50)
        rest = b""
        for _ in range(50):
            for want in (200, 404):
                status, _, _, rest = read_response(s, rest)
                assert status == want


def test_unknown_hosts_are_refused(server):
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "192.168.0.1", "x.localhost",
                 "3000-short.localhost", "0-0123456789abcdef.localhost"):
        r = server.http.get(server.url + "/api/v1/projects", headers={"Host": host})
        assert r.status_code == 421 and r.json()["code"] == "unknown_host", host
    for host in ("localhost", f"localhost:{server.port}", "127.0.0.1", "LOCALHOST:1", "[::1]:8000"):
        assert server.http.get(server.url + "/health", headers={"Host": host}).status_code == 200, host


def test_half_a_request_and_silence_end_after_30_seconds(server):
    """Several at once, since each takes half a minute; others are served all the while."""
    half, silent, dripping = server.raw(50), server.raw(50), server.raw(50)
    half.sendall(b"GET /health HTTP/1.1\r\nHo")
    done = threading.Event()

    def drip():
        # a byte a second never lets the connection look idle
        for byte in b"GET /health HTTP/1.1\r\n" + b"X: 1\r\n" * 20:
            if done.is_set():
                return
            try:
                dripping.sendall(bytes([byte]))
            except OSError:
                return
            time.sleep(1)
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        started = time.monotonic()
        assert_serves(server)
        assert_problem(drain(half), 408, "request_timeout")
        assert 25 < time.monotonic() - started < 45
        assert drain(silent) == b""
        assert_problem(drain(dripping), 408, "request_timeout")
        assert time.monotonic() - started < 45
    finally:
        done.set()
        thread.join()
        for s in (half, silent, dripping):
            s.close()
    assert_serves(server)


def test_a_thousand_silent_connections(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    pid = server.role_pid("gateway")
    before = resident_bytes(pid)
    silent = []
    try:
        for i in range(1000):
            s = server.raw(10)
            if i % 2:
                s.sendall(b"GET /hea")
            silent.append(s)
            if i % 250 == 249:
                assert_serves(server)
        assert_serves(server)
        each = (resident_bytes(pid) - before) / 1000
        assert each < 8192, f"{each:.0f} bytes of memory for a connection that says nothing"
    finally:
        for s in silent:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 300, 20)
    assert_serves(server)


def test_a_reader_that_reads_nothing_holds_nobody_up(server):
    with server.raw() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            s.settimeout(1)
            for _ in range(2000):
                s.sendall((b"GET /api/v1/stacks HTTP/1.1\r\n" + H + b"\r\n") * 10)
        except (TimeoutError, socket.timeout):
            pass  # the server stopped reading: its answers have nowhere to go
        before = resident_bytes(server.role_pid("gateway"))
        assert_serves(server)
        assert resident_bytes(server.role_pid("gateway")) <= before + (1 << 20)


# ---- WebSocket ----

def handshake(server, path):
    s = server.raw(15)
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        buffer += s.recv(4096)
    assert buffer.startswith(b"HTTP/1.1 101 "), buffer
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in buffer
    return s, buffer.partition(b"\r\n\r\n")[2]


def close_code(s, buffer):
    """The code of the server's close frame; what comes before it is skipped."""
    while True:
        while len(buffer) < 2 or len(buffer) < 2 + {126: 2, 127: 8}.get(buffer[1], 0):
            piece = s.recv(65536)
            assert piece, "closed without a close frame"
            buffer += piece
        length, at = buffer[1], 2
        if length == 126:
            length, at = struct.unpack(">H", buffer[2:4])[0], 4
        elif length == 127:
            length, at = struct.unpack(">Q", buffer[2:10])[0], 10
        while len(buffer) < at + length:
            buffer += s.recv(65536)
        if buffer[0] == 0x88:
            return struct.unpack(">H", buffer[at:at + 2])[0] if length else 1005
        buffer = buffer[at + length:]


def frame(first, payload=b"", mask=b"\x11\x22\x33\x44"):
    assert len(payload) < 126
    return bytes([first, 0x80 | len(payload)]) + mask + bytes(c ^ mask[i & 3] for i, c in enumerate(payload))


VIOLATIONS = [
    ("a frame of 2^63 bytes", b"\x82\xff" + struct.pack(">Q", 1 << 63), 1002),
    ("a frame of 2^63-1 bytes", b"\x82\xff" + struct.pack(">Q", (1 << 63) - 1) + b"\0\0\0\0", 1009),
    ("an unmasked frame", b"\x81\x02{}", 1002),
    ("an unmasked close", b"\x88\x02\x03\xe8", 1002),
    ("a fragmented ping", frame(0x09, b"x"), 1002),
    ("a fragmented close", frame(0x08, b"\x03\xe8"), 1002),
    ("a long ping", b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),
    ("a reserved bit", frame(0xc1, b"{}"), 1002),
    ("a reserved opcode", frame(0x83), 1002),
    ("a continuation of nothing", frame(0x80, b"x"), 1002),
    ("invalid UTF-8", frame(0x81, b'{"a": "\xff"}'), 1007),
    ("invalid UTF-8 over fragments", frame(0x01, b"\xc3") + frame(0x80, b"\x28"), 1007),
    ("a bad close code", frame(0x88, b"\x03\xed"), 1002),
]


@pytest.mark.parametrize("name,data,code", VIOLATIONS, ids=[v[0] for v in VIOLATIONS])
def test_websocket_violations_close_with_their_code(server, stopped_project, name, data, code):
    s, rest = handshake(server, stopped_project.path + "/events")
    bystander = server.websocket(stopped_project.path + "/events")
    try:
        s.sendall(data)
        assert close_code(s, rest) == code
        s.settimeout(10)
        assert drain(s) == b""  # and the connection ends
        bystander.ping("still there?")
        while True:
            opcode, _ = bystander.recv_data(control_frame=True)
            if opcode == 0xa:
                break
    finally:
        s.close()
        bystander.close()
    assert_serves(server)


def test_wrong_handshakes_are_refused(server, stopped_project):
    path = (stopped_project.path + "/events").encode()
    plain = talk(server, b"GET " + path + b" HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
    assert plain.startswith(b"HTTP/1.1 426 ")
    old = talk(server, b"GET " + path + b" HTTP/1.1\r\n" + H + b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n"
               b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 426 ")
    assert_serves(server)
