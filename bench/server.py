#!/usr/bin/python3
"""The server by itself: how soon it is ready, how much it takes when idle, and what an idle WebSocket costs.

Ready is the time from the exec of `repld serve`, on a data directory that exists, to the first 200 from /ready. Memory is
the proportional set size (pages that processes share are counted once) of all of its processes together, a minute's
worth of settling cut to three seconds. Rows are JSON lines; see run.py.
"""
import contextlib
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "e2e"))

import repld  # noqa: E402

STARTS = int(os.environ.get("REPLD_BENCH_ROUNDS", "9"))
SOCKETS = 1000


def time_to_ready(server):
    """Starts it and asks until it answers; the server's own start() polls too seldom for this. Milliseconds until /ready
    said 200, and until /health did, which does not ask the store and the driver."""
    command = [server.binary, "serve"]
    for name, value in server.settings.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    request = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    serves = None
    with open(server.log_path, "ab") as log:
        started = time.monotonic()
        server.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=server.env,
                                          start_new_session=True)
        while time.monotonic() - started < 30:
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", server.port), timeout=5) as s:
                    s.sendall(request % (b"/ready" if serves else b"/health"))
                    if s.recv(64).startswith(b"HTTP/1.1 200 "):
                        now = (time.monotonic() - started) * 1000
                        if serves:
                            return now, serves
                        serves = now
                        continue
            time.sleep(0.001)
    raise SystemExit("never ready:\n" + server.log_tail())


def processes(server):
    """All of the server's own: the supervisor and what it started."""
    found, look = [], [server.process.pid]
    while look:
        pid = look.pop()
        found.append(pid)
        look += repld.children_of(pid)
    return found


def memory(pid, field):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return int(re.search(rf"^{field}:\s+(\d+) kB", f.read(), re.M).group(1)) * 1024


def idle_websockets(server):
    """Bytes of the gateway's memory for each of a thousand WebSockets that nothing happens on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    path = server.create("python").path + "/events"
    request = (f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()
    gateway = server.role_pid("gateway")
    sockets = []

    def open_one():
        s = server.raw(10)
        s.sendall(request)
        assert s.recv(4096).startswith(b"HTTP/1.1 101 ")
        sockets.append(s)
    try:
        for _ in range(50):  # what the first ones cost once
            open_one()
        time.sleep(1)
        before = memory(gateway, "Pss")
        for _ in range(SOCKETS):
            open_one()
        time.sleep(1)
        return (memory(gateway, "Pss") - before) / SOCKETS
    finally:
        for s in sockets:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def row(measure, figure, aim, unit, met, note):
    print(json.dumps({"measure": measure, "repld": figure, "peer": None, "ratio": None, "aim": aim, "unit": unit,
                      "met": met, "note": note}), flush=True)


def main():
    server = repld.Server().start()
    try:
        ready = []
        for _ in range(STARTS):
            server.stop()
            ready.append(time_to_ready(server))
        median, serves = statistics.median(r[0] for r in ready), statistics.median(r[1] for r in ready)
        row("server: ready after start", median, "≤ 50", "ms", median <= 50,
            f"median of {STARTS}; the first answer of /health came after {serves:.0f} ms, the rest is the driver's check")
        time.sleep(3)
        pids = processes(server)
        total = sum(memory(p, "Pss") for p in pids) / (1 << 20)
        parts = ", ".join(f"{memory(p, 'Rss') / (1 << 20):.1f}" for p in pids)
        row("server: idle memory", total, "≤ 15", "MiB", total <= 15,
            f"PSS of its {len(pids)} processes; resident sizes {parts} MiB")
        each = idle_websockets(server) / 1024
        row("server: an idle WebSocket", each, "≤ 8", "KiB", each <= 8, f"{SOCKETS} on …/events, the gateway's memory")
    finally:
        server.close()


if __name__ == "__main__":
    main()
