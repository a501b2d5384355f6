"""Previews: http://PORT-PROJECT.localhost/ reaches that port of the project, whatever HTTP can carry."""
import hashlib
import http.client
import json
import os
import struct
import threading
import time

import pytest
import websocket

from repld import resident_bytes, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = 8081


@pytest.fixture(scope="module")
def program(shared_server):
    """A project whose web server listens on 127.0.0.1 only."""
    p = shared_server.create("python")
    with open(os.path.join(HERE, "preview_program.py"), "rb") as f:
        p.write("preview_program.py", f.read())
    p.start()
    p.post("/processes", {"command": ["python3", "preview_program.py", str(PORT)]}, expect=201)
    p.wait_port(PORT)
    yield p
    p.delete()


@pytest.fixture
def get(server, program):
    def get(path, method="GET", port=PORT, **kw):
        return server.preview(program, port, path, method, **kw)
    return get


def host_of(server, program, port=PORT):
    return f"{port}-{program.id}.localhost:{server.port}"


def raw_request(server, program, text, timeout=30):
    s = server.raw(timeout)
    s.sendall(text.replace("HOST", host_of(server, program)).encode())
    return s


def test_the_listed_url_is_the_preview(server, program, get):
    port = next(p for p in program.get("/ports").json()["items"] if p["port"] == PORT)
    assert port["address"] == "127.0.0.1"
    assert port["url"] == f"http://{host_of(server, program)}/"
    r = get("/")
    assert r.status_code == 200 and r.text == "hello"
    assert r.headers["X-Request-Id"]


def test_connections_are_kept_on_both_sides(get):
    connections = {get("/request").json()["connection"] for _ in range(20)}
    assert len(connections) == 1


def test_what_the_program_sees(server, program, get):
    r = get("/request?a=%20b&c", headers={
        "Cookie": "a=1; jwt=control-secret; b=2", "Authorization": "Bearer rpl_control", "X-Forwarded-For": "10.1.1.1",
        "Forwarded": "for=10.1.1.1", "Connection": "keep-alive, X-Hop", "X-Hop": "1", "X-Own": "kept",
        "Proxy-Connection": "keep-alive"})
    seen = r.json()
    fields = {k.lower(): v for k, v in seen["fields"]}
    assert seen["line"] == "GET /request?a=%20b&c HTTP/1.1"
    assert fields["host"] == host_of(server, program)
    assert fields["cookie"] == "a=1; b=2"
    assert fields["x-own"] == "kept"
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert fields["x-forwarded-proto"] == "http"
    assert fields["x-forwarded-host"] == host_of(server, program)
    assert fields["forwarded"] == f'for=127.0.0.1;host="{host_of(server, program)}";proto=http'
    for name in ("authorization", "x-hop", "proxy-connection"):
        assert name not in fields
    assert "control" not in r.text


def test_cookies_stay_with_their_preview(get):
    cookies = get("/cookies").raw.headers.getlist("Set-Cookie")
    assert cookies == ["mine=1; Path=/", "wide=2; Path=/"]


def test_every_kind_of_response(get):
    assert get("/down?1000").content == (bytes(range(256)) * 4)[:1000]
    assert get("/chunks?100").text == "".join(f"<{i}>" for i in range(100))
    assert get("/until-close").content == b"z" * 100000
    assert get("/empty").status_code == 204
    same = get("/same")
    assert same.status_code == 304 and same.headers["ETag"] == '"x"'
    head = get("/down?5000000000", "HEAD")
    assert head.headers["Content-Length"] == "5000000000" and head.content == b""
    assert get("/hint").text == "after the hint"
    assert get("/nothing").status_code == 404
    assert get("/").text == "hello"


def test_hostile_responses_become_502(server, program, get):
    r = get("/garbage")
    assert r.status_code == 502 and r.json()["code"] == "protocol_error"
    for _ in range(3):
        assert get("/smuggle").content == b"ok"
        assert get("/").content == b"hello"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/short", headers={"Host": host_of(server, program)})
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()
    assert get("/").text == "hello"


def test_200_mib_up_and_down_with_flat_memory(server, program, get):
    pid = server.role_pid("gateway")
    size = 200 << 20
    block = os.urandom(1 << 20)
    get("/")
    before, peak, done = resident_bytes(pid), 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, resident_bytes(pid))
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        r = get("/down?%d" % size, stream=True, timeout=300)
        total, digest = 0, hashlib.sha256()
        for piece in r.iter_content(1 << 20):
            total += len(piece)
            digest.update(piece)
        assert total == size
        expected = hashlib.sha256()
        pattern = bytes(range(256)) * 4096
        for _ in range(200):
            expected.update(pattern)
        assert digest.hexdigest() == expected.hexdigest()

        for chunked in (False, True):
            def body():
                for _ in range(200):
                    yield block
            with server.raw(300) as s:
                framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
                s.sendall(f"POST /up HTTP/1.1\r\nHost: {host_of(server, program)}\r\nConnection: close\r\n{framing}\r\n\r\n"
                          .encode())
                for piece in body():
                    s.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n" if chunked else piece)
                if chunked:
                    s.sendall(b"0\r\n\r\n")
                answer = b""
                while piece := s.recv(65536):
                    answer += piece
            result = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert result["bytes"] == size
            assert result["sha256"] == hashlib.sha256(block * 200).hexdigest()
    finally:
        done.set()
        watcher.join()
    assert peak - before < 4 << 20, f"{(peak - before) >> 10} KiB more"


def test_a_slow_reader_holds_the_program_back(server, program):
    pid = server.role_pid("gateway")
    before = resident_bytes(pid)
    with raw_request(server, program, "GET /down?1000000000 HTTP/1.1\r\nHost: HOST\r\n\r\n") as s:
        s.recv(1000)
        time.sleep(1)
        assert resident_bytes(pid) - before < 1 << 20
        assert server.preview(program, PORT).text == "hello"


def test_expect_continue(server, program):
    with raw_request(server, program, "POST /up HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"
                     "Connection: close\r\n\r\n") as s:
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"hello")
        answer = b""
        while piece := s.recv(65536):
            answer += piece
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
            "bytes": 5, "sha256": hashlib.sha256(b"hello").hexdigest(), "expect": None}


def test_events_arrive_when_they_are_sent(get):
    r = get("/events?5", stream=True)
    assert r.headers["Content-Type"] == "text/event-stream"
    delays = []
    for line in r.iter_lines(chunk_size=1):
        if line.startswith(b"data: "):
            delays.append(time.time() - float(line.split()[2]))
    assert len(delays) == 5
    assert max(delays) < 0.25, "events wait for later ones"


def test_a_reader_that_leaves_is_known_to_the_program(server, program, get):
    with raw_request(server, program, "GET /events?100000 HTTP/1.1\r\nHost: HOST\r\n\r\n") as s:
        s.recv(1000)
    # its thread ends with a broken pipe; the connection table of the sandbox says so
    def gone():
        code, out, _ = program.exec("python3", "-c",
                                    f"print(sum(':{PORT:04X} ' in l.split('  ')[0] + ' ' and l.split()[3] == '01' and "
                                    f"l.split()[1].endswith(':{PORT:04X}') for l in open('/proc/net/tcp')))")
        return code == 0 and int(out) <= 1  # an idle connection may wait to be used again
    wait_for(gone, 20, 0.3)


def test_websocket(server, program):
    ws = server.websocket("/ws", host=host_of(server, program))
    try:
        for n in (0, 1, 125, 126, 65535, 65536, 1 << 20):
            data = os.urandom(n)
            ws.send_binary(data)
            assert ws.recv() == data
        ws.send("text \u20ac")
        assert ws.recv() == "text \u20ac"
        started = time.monotonic()
        for i in range(200):
            ws.send(str(i))
            assert ws.recv() == str(i)
        assert time.monotonic() - started < 10
        ws.send_close(1000, b"bye")
        opcode, data = ws.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE and data == struct.pack(">H", 1000) + b"bye"
    finally:
        ws.close()


def test_many_at_once(server, program):
    errors = []

    def fetch(i):
        try:
            with server.raw(60) as s:
                for _ in range(10):
                    s.sendall(f"GET /down?{i * 1000} HTTP/1.1\r\nHost: {host_of(server, program)}\r\n\r\n".encode())
                    buffer = b""
                    while b"\r\n\r\n" not in buffer:
                        buffer += s.recv(65536)
                    body = buffer.partition(b"\r\n\r\n")[2]
                    while len(body) < i * 1000:
                        body += s.recv(65536)
                    assert len(body) == i * 1000
        except Exception as e:  # noqa: BLE001 - reported below
            errors.append(e)
    threads = [threading.Thread(target=fetch, args=(i,)) for i in range(60)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors


def test_a_closed_port_answers_a_helpful_page(server, program, get):
    r = get("/x", port=4999, headers={"Accept": "text/html,*/*;q=0.8"})
    assert r.status_code == 502
    assert r.headers["Content-Type"].startswith("text/html")
    assert "4999" in r.text
    assert f'href="http://{host_of(server, program)}/"' in r.text
    r = get("/x", port=4999)
    assert r.status_code == 502 and r.json()["code"] == "port_closed"
    assert str(PORT) in r.json()["detail"]


def test_a_server_on_all_addresses_and_on_ipv6(server, program):
    for port, address in ((8082, "0.0.0.0"), (8083, "::"), (8084, "::1")):
        program.post("/processes", {"command": ["python3", "-m", "http.server", "--bind", address, str(port)]}, expect=201)
    for port in (8082, 8083, 8084):
        program.wait_port(port)
        assert server.preview(program, port, "/preview_program.py").text.startswith('"""A web server'), port


def test_projects_that_are_not_there(server, stopped_project):
    r = server.preview(stopped_project, 3000)
    assert r.status_code == 503 and "stopped" in r.json()["detail"]
    r = server.preview(stopped_project, 3000, headers={"Accept": "text/html"})
    assert r.status_code == 503 and "stopped" in r.text and stopped_project.id in r.text
    r = server.http.get(server.url, headers={"Host": f"3000-{'z' * 16}.localhost"})
    assert r.status_code == 404
    # the control plane does not live on preview hosts
    r = server.http.get(server.url + "/api/v1/projects", headers={"Host": f"3000-{stopped_project.id}.localhost"})
    assert r.status_code == 503


def test_unknown_hosts_are_refused(server, program):
    for host in ("evil.example", f"{PORT}-{program.id}.evil.example", f"{PORT}-{program.id}.localhost.evil.example",
                 f"x.{PORT}-{program.id}.localhost", f"{PORT}-{program.id[:-1]}.localhost"):
        r = server.http.get(server.url, headers={"Host": host})
        assert r.status_code == 421 and r.json()["code"] == "unknown_host", host


def test_stopping_the_project_ends_its_previews(server):
    p = server.create("python")
    try:
        with open(os.path.join(HERE, "preview_program.py"), "rb") as f:
            p.write("preview_program.py", f.read())
        p.start()
        p.post("/processes", {"command": ["python3", "preview_program.py", str(PORT)]}, expect=201)
        p.wait_port(PORT)
        ws = server.websocket("/ws", host=host_of(server, p))
        ws.send("x")
        assert ws.recv() == "x"
        streaming = raw_request(server, p, "GET /events?100000 HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert streaming.recv(1000)
        p.stop()
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            ws.recv()
        streaming.settimeout(20)
        try:
            while streaming.recv(65536):
                pass
        except ConnectionError:
            pass
        streaming.close()
        assert server.preview(p, PORT).status_code == 503
        p.start()
        assert server.preview(p, PORT).json()["code"] == "port_closed"
    finally:
        p.delete()


VITE_FILES = {
    "index.html": '<!doctype html><title>app</title><div id="app"></div><script type="module" src="/main.js"></script>\n',
    "main.js": 'import { text } from "./text.js";\ndocument.querySelector("#app").textContent = text;\n'
               'import.meta.hot.accept("./text.js", (m) => { document.querySelector("#app").textContent = m.text; });\n',
    "text.js": 'export const text = "before the change";\n',
    "package.json": json.dumps({"name": "app", "private": True, "type": "module", "scripts": {"dev": "vite"},
                                "devDependencies": {"vite": "^5.4.0"}}),
}


def test_vite_with_hot_reload(server):
    """A real Vite dev server, as `npm run dev` starts it: on localhost only, with its default configuration."""
    p = server.create("node")
    try:
        for name, text in VITE_FILES.items():
            p.write(name, text)
        p.request("PATCH", "", json={"limits": {"memory": 1 << 30, "cpu": 2, "processes": 200}}, expect=[200])
        p.start()
        code, out, err = p.exec("npm", "install", "--no-audit", "--no-fund", timeout=300)
        assert code == 0, f"npm install failed (does the registry answer?):\n{out}\n{err}"
        p.post("/processes", {"command": ["npm", "run", "dev"]}, expect=201)
        p.wait_port(5173)
        page = server.preview(p, 5173, headers={"Accept": "text/html"})
        assert page.status_code == 200 and "/@vite/client" in page.text, page.text
        assert "before the change" in server.preview(p, 5173, "/text.js").text
        # fetched as a browser does, so that Vite knows who imports what
        assert 'import.meta.hot' in server.preview(p, 5173, "/main.js").text
        client = server.preview(p, 5173, "/@vite/client").text
        assert "vite-hmr" in client
        host = host_of(server, p, 5173)
        # 5.4.12 and later ask for the token that the client script carries
        token = next((line.split('"')[1] for line in client.splitlines() if line.startswith("const wsToken")), "")
        ws = websocket.create_connection(f"ws://127.0.0.1:{server.port}/?token={token}", timeout=30, host=host,
                                         origin=f"http://{host}", subprotocols=["vite-hmr"])
        try:
            assert json.loads(ws.recv())["type"] == "connected"
            p.write("text.js", 'export const text = "after the change";\n')
            update = json.loads(ws.recv())
            assert update["type"] == "update", update
            assert update["updates"][0]["acceptedPath"] == "/text.js"
            stamp = update["updates"][0]["timestamp"]
            assert "after the change" in server.preview(p, 5173, f"/text.js?t={stamp}").text
        finally:
            ws.close()
    finally:
        p.delete()
