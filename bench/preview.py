#!/usr/bin/python3
"""The preview proxy beside nginx's proxy_pass with one worker, in front of the same server in the same sandbox.

The server is nginx with static files, copied into the project (the sandbox has none of its own); WebSocket echo is the
program of the preview tests. The peer, another nginx with one worker and an upstream keep-alive pool, runs in the
sandbox's network namespace, outside its limits, so that both proxies reach the server over loopback and are reached
over loopback. The two take turns; medians of the turns are printed. Rows are JSON lines; see run.py.
"""
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "e2e"))

import repld  # noqa: E402

ROUNDS = int(os.environ.get("REPLD_BENCH_ROUNDS", "5"))
SECONDS = int(os.environ.get("REPLD_BENCH_SECONDS", "4"))
STATIC, PROXY, ECHO = 8091, 8092, 8093
COMMON = """
daemon off; worker_processes 1; pid {d}/nginx.pid; error_log {d}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; sendfile on; tcp_nodelay on;
  client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi;
  uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
"""


def say(*what):
    print("preview:", *what, file=sys.stderr, flush=True)


def static_server(project):
    """Puts nginx and the libraries that it needs into the project and starts it."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    project.write("bin/nginx", open(nginx, "rb").read())
    listing = subprocess.run(["ldd", nginx], stdout=subprocess.PIPE, text=True, check=True).stdout
    for name, path in re.findall(r"(\S+) => (/\S+)", listing):
        if not name.startswith("libc.so"):
            project.write(f"lib/{name}", open(path, "rb").read())
    project.write("www/small", b"hello, this is a small answer\n")
    project.write("www/big", os.urandom(1 << 20))
    project.write("nginx.conf", COMMON.format(d="/tmp") +
                  f"server {{ listen 127.0.0.1:{STATIC}; root /home/runner/app/www; }} }}\n")
    code, _, err = project.exec("chmod", "+x", "bin/nginx")
    assert code == 0, err
    project.post("/processes", {"command": ["bin/nginx", "-c", "/home/runner/app/nginx.conf", "-e", "/tmp/error.log"],
                                "env": {"LD_LIBRARY_PATH": "/home/runner/app/lib"}}, expect=201)
    with open(os.path.join(os.path.dirname(HERE), "tests", "e2e", "preview_program.py"), "rb") as f:
        project.write("preview_program.py", f.read())
    project.post("/processes", {"command": ["python3", "preview_program.py", str(ECHO)]}, expect=201)
    project.wait_port(STATIC)
    project.wait_port(ECHO)


def sandbox_pid(server):
    """A process of the sandbox, by its cgroup: its network namespace is where the peer runs."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cgroup") as f:
                if f"/{server.settings['cgroup_root']}/" not in f.read():
                    continue
            with open(f"/proc/{pid}/comm") as f:
                if f.read().strip() == "nginx":
                    return int(pid)
    raise SystemExit("no nginx in the sandbox")


class Peer:
    def __init__(self, pid):
        self.inside = ["nsenter", "-t", str(pid), "-n"]
        self.directory = tempfile.mkdtemp(prefix="repld-bench-")
        os.chmod(self.directory, 0o755)
        conf = os.path.join(self.directory, "nginx.conf")
        with open(conf, "w") as f:
            f.write("user root;" + COMMON.format(d=self.directory) + f"""
  upstream files {{ server 127.0.0.1:{STATIC}; keepalive 64; keepalive_requests 100000000; }}
  upstream echo {{ server 127.0.0.1:{ECHO}; }}
  server {{
    listen 127.0.0.1:{PROXY};
    location / {{ proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; }}
    location /ws {{ proxy_pass http://echo; proxy_http_version 1.1; proxy_set_header Connection Upgrade;
      proxy_set_header Upgrade $http_upgrade; }}
  }} }}
""")
        self.process = subprocess.Popen(self.inside + ["nginx", "-c", conf, "-e", self.directory + "/error.log"])
        time.sleep(0.5)

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)


def wrk(url, host, connections, inside=()):
    out = subprocess.run([*inside, "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", "--latency", "-H", f"Host: {host}", url],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    if "Non-2xx" in out:
        raise SystemExit(f"errors from {url}:\n{out}")
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
    return (int(re.search(r"(\d+) requests in", out).group(1)) / SECONDS,
            float(p99.group(1)) * {"us": 0.001, "ms": 1, "s": 1000}[p99.group(2)])


def echo_client(port, host, count):
    """Round trips a second of 100-byte messages on one WebSocket. Run in the namespace of the server it talks to."""
    s = socket.create_connection(("127.0.0.1", port), timeout=30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        buffer += s.recv(4096)
    assert buffer.startswith(b"HTTP/1.1 101 "), buffer
    message = struct.pack("BB4x", 0x82, 0x80 | 100) + b"x" * 100
    started = time.monotonic()
    for _ in range(count):
        s.sendall(message)
        left = 102
        while left:
            left -= len(s.recv(left))
    print(count / (time.monotonic() - started))


def echo(port, host, inside=()):
    out = subprocess.run([*inside, sys.executable, os.path.abspath(__file__), "--echo", str(port), host, "1500"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(out)


def row(measure, ours, theirs, aim, unit, met, note=None):
    ratio = ours / theirs
    r = {"measure": measure, "repld": ours, "peer": theirs, "ratio": ratio, "aim": aim, "unit": unit,
         "peer_name": "nginx proxy_pass", "met": met(ratio)}
    if note:
        r["note"] = note
    print(json.dumps(r), flush=True)


def main():
    server = repld.Server().start()
    peer = None
    try:
        project = server.create("python")
        # generous: neither side is to wait for a quota of the server behind it
        project.request("PATCH", "", json={"limits": {"memory": 1 << 30, "cpu": os.cpu_count(), "processes": 200}})
        project.start()
        static_server(project)
        peer = Peer(sandbox_pid(server))
        here = f"http://127.0.0.1:{server.port}"
        there = f"http://127.0.0.1:{PROXY}"
        host = f"{STATIC}-{project.id}.localhost:{server.port}"
        figures = {}
        for turn in range(ROUNDS):
            say(f"turn {turn + 1} of {ROUNDS}")
            for path, connections in (("/small", 32), ("/big", 8)):
                figures.setdefault(path, []).append((wrk(here + path, host, connections),
                                                     wrk(there + path, host, connections, peer.inside)))
            for _ in range(3):  # short turns, since a round trip feels every other process of the machine
                figures.setdefault("/ws", []).append((echo(server.port, f"{ECHO}-{project.id}.localhost:{server.port}"),
                                                      echo(PROXY, "localhost", peer.inside)))

        def median(path, side, figure):
            return statistics.median(f[side][figure] for f in figures[path])
        small = [median("/small", i, 0) for i in (0, 1)]
        p99 = [median("/small", i, 1) for i in (0, 1)]
        big = [median("/big", i, 0) for i in (0, 1)]
        ws = [statistics.median(f[i] for f in figures["/ws"]) for i in (0, 1)]
        at_least, at_most = (lambda r: r >= 0.9), (lambda r: r <= 1.1)
        row("preview: small answers", *small, "≥ 0.9 × nginx", "requests/s", at_least, "32 connections")
        row("preview: small answers, p99", *p99, "≤ 1.1 × nginx", "ms", at_most)
        row("preview: 1 MiB bodies", *big, "≥ 0.9 × nginx", "MiB/s", at_least, "8 connections")
        row("preview: WebSocket echo", *ws, "≥ 0.9 × nginx", "messages/s", at_least,
            "one at a time; the echo server and the client are Python")
    finally:
        if peer:
            peer.close()
        server.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--echo"]:
        echo_client(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()
