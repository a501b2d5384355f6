#!/usr/bin/python3
"""The row *files*: list 10,000 files; write 1,000 small ones, each durable; upload 1 GiB. Through the API, beside local
programs that do the same in the same project's directory, with the same fsyncs: temporary file, fsync, rename, fsync of
the directory. Rounds are interleaved; figures are medians."""
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

import repld  # noqa: E402

LISTED, SMALL, UPLOAD = 10000, 1000, 1 << 30
ROUNDS, UPLOAD_ROUNDS = 5, 3
CONTENT = b"print('hello from a small file')\n" * 32  # 1 KiB
BLOCK = os.urandom(1 << 20)


def timed(f, *args):
    begin = time.perf_counter()
    f(*args)
    return time.perf_counter() - begin


class Connection:
    """One keep-alive HTTP/1.1 connection with as little client around it as can be, so that the client is not what is
    measured."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = f"127.0.0.1:{server.port}"
        self.file = self.socket.makefile("rb", 1 << 16)

    def request(self, method, path, body=b"", length=None):
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def answer(self):
        status = int(self.file.readline().split()[1])
        length, chunked = 0, False
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            elif name.lower() == b"transfer-encoding":
                chunked = True
        if not chunked:
            return status, self.file.read(length)
        body = b""
        while size := int(self.file.readline(), 16):
            body += self.file.read(size)
            self.file.readline()
        self.file.readline()
        return status, body


class Peak(threading.Thread):
    """The largest resident size of a process while it lives."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.stop = pid, 0, threading.Event()

    def run(self):
        while not self.stop.wait(0.02):
            self.peak = max(self.peak, repld.resident_bytes(self.pid))


# ---- through the API ----

def list_by_api(connection, project):
    connection.request("GET", f"{project.path}/files?path=many&limit={LISTED}")
    status, body = connection.answer()
    assert status == 200, body[:300]
    assert body.count(b'"path"') >= LISTED


def write_by_api(connection, project):
    for i in range(SMALL):
        connection.request("PUT", f"{project.path}/files/content?path=small/f{i}", CONTENT)
        status, body = connection.answer()
        assert status in (200, 201, 204), body[:300]


def upload_by_api(connection, project):
    connection.request("PUT", f"{project.path}/files/content?path=big", length=UPLOAD)
    for _ in range(UPLOAD // len(BLOCK)):
        connection.socket.sendall(BLOCK)
    status, body = connection.answer()
    assert status in (200, 201, 204), body[:300]


# ---- the same by local programs ----

def list_locally(directory):
    out = subprocess.run(["find", os.path.join(directory, "many"), "-mindepth", "1", "-maxdepth", "1", "-printf",
                          "%f %y %s %m %T@\\n"], stdout=subprocess.PIPE, check=True).stdout
    assert out.count(b"\n") == LISTED


def durable(directory, name, blocks):
    fd = os.open(f"{directory}/.{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for b in blocks:
        os.write(fd, b)
    os.fsync(fd)
    os.close(fd)
    os.rename(f"{directory}/.{name}.tmp", f"{directory}/{name}")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def write_locally(directory):
    for i in range(SMALL):
        durable(os.path.join(directory, "small"), f"f{i}", [CONTENT])


def upload_locally(directory):
    """What arrives is read from a socket, as the server must."""
    a, b = socket.socketpair()
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def send():
        for _ in range(UPLOAD // len(BLOCK)):
            a.sendall(BLOCK)
        a.close()
    sender = threading.Thread(target=send)
    sender.start()
    durable(directory, "big", iter(lambda: b.recv(1 << 16), b""))
    sender.join()
    b.close()


def row(measure, ours, peers, scale, unit, peer_name, note=None):
    ours, peers = statistics.median(ours) * scale, statistics.median(peers) * scale
    out = {"measure": measure, "repld": round(ours, 2), "peer": round(peers, 2), "ratio": round(ours / peers, 2),
           "aim": "≤ 2 ×", "unit": unit, "peer_name": peer_name, "met": ours <= 2 * peers}
    if note:
        out["note"] = note
    print(json.dumps(out, ensure_ascii=False), flush=True)


def main():
    server = repld.Server()
    try:
        server.start()
        # Equal and generous limits: neither side waits for a quota.
        project = server.create("python", limits={"cpu": os.cpu_count(), "memory": 4 << 30, "disk": 16 << 30}).start()
        files = os.path.join(server.data, "volumes", project.id, "files")
        project.exec("python3", "-c", f"import os\nos.mkdir('many')\nos.mkdir('small')\nfor i in range({LISTED}):\n"
                     "    open(f'many/file-{i}', 'w').write('x')\n", timeout=300)
        local = os.path.join(files, "local")  # in the same volume, under the same quota
        os.makedirs(os.path.join(local, "small"))
        os.makedirs(os.path.join(local, "many"))
        for i in range(LISTED):
            with open(os.path.join(local, "many", f"file-{i}"), "w") as f:
                f.write("x")
        connection = Connection(server)

        times = [[timed(list_by_api, connection, project), timed(list_locally, local)] for _ in range(ROUNDS + 1)][1:]
        row("files: list 10,000", [t[0] for t in times], [t[1] for t in times], 1e3, "ms", "find -printf")

        times = [[timed(write_by_api, connection, project), timed(write_locally, local)] for _ in range(ROUNDS)]
        row("files: write 1,000 small, durable, one by one", [t[0] for t in times], [t[1] for t in times], 1e3, "ms",
            "a local program, same volume")

        gateway = server.role_pid("gateway")
        before = repld.resident_bytes(gateway)
        peak = Peak(gateway)
        peak.start()
        times = []
        for _ in range(UPLOAD_ROUNDS):
            times.append([timed(upload_by_api, connection, project), timed(upload_locally, local)])
            os.sync()
        peak.stop.set()
        peak.join()
        grown = max(0, peak.peak - before) / (1 << 20)
        row("files: upload 1 GiB", [t[0] for t in times], [t[1] for t in times], 1, "s", "a local program, same volume",
            f"gateway grew {grown:.1f} MiB at most")
        if grown > 16:
            sys.exit("the gateway's memory is not flat")
        shutil.rmtree(local)
        project.delete()
    finally:
        server.close()


if __name__ == "__main__":
    main()
