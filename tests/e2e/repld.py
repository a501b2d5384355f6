"""Drives a real repld server from a test: start, kill, restart, HTTP, WebSocket, terminals.

Everything a test asserts goes through HTTP and WebSocket; process ids and the kernel's own lists are used only to pull
the plug and to see that nothing is left behind.
"""
import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import requests
import websocket

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("REPLD_BUILD", os.path.join(ROOT, "build"))
ENVIRONMENTS = os.environ.get("REPLD_ENVIRONMENTS_DIR", os.path.expanduser("~/.cache/repld/environments"))
# Data directories hold a sparse disk image, which wants a real file system and not tmpfs.
SCRATCH = os.environ.get("REPLD_TEST_SCRATCH", "/var/tmp")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_network():
    """A /16 that no route of this machine leads to, and a lock that keeps test servers beside this one off it: a
    server has no interface in its network before its first sandbox."""
    routes = subprocess.run(["ip", "-4", "route", "show", "table", "all"], stdout=subprocess.PIPE, text=True,
                            check=True).stdout
    used = {int(n) for n in re.findall(r"\b100\.(\d+)\.", routes)}
    candidates = [n for n in range(64, 127) if n not in used]
    random.shuffle(candidates)
    for n in candidates:
        lock = open(f"/run/lock/repld-test-network-{n}", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return f"100.{n}.0.0/16", lock
        except OSError:
            lock.close()
    raise AssertionError("no 100.N.0.0/16 is free")


def wait_for(what, timeout=30, interval=0.05):
    """Calls what() until it returns something true, and returns that."""
    end = time.monotonic() + timeout
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{getattr(what, '__name__', what)} not true after {timeout} s (last: {value!r})")
        time.sleep(interval)


def children_of(pid):
    out = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as f:
            out += [int(p) for p in f.read().split()]
    return out


def command_line(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return [a.decode(errors="replace") for a in f.read().split(b"\0")[:-1]]
    return []


def resident_bytes(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024


def cgroup_roots():
    with open("/proc/self/mounts") as f:
        return [line.split()[1] for line in f if line.split()[2] in ("cgroup", "cgroup2")]


class Failure(AssertionError):
    def __init__(self, r):
        super().__init__(f"{r.request.method} {r.request.url} -> {r.status_code}: {r.text[:800]}")
        self.response = r


class Server:
    """One `repld serve` with a data directory of its own. Settings are its flags: idle_timeout=5 is --idle-timeout 5."""


    def __init__(self, binary=None, env=None, **settings):
        self.binary = binary or os.path.join(BUILD, "repld")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = tempfile.mkdtemp(prefix="repld-test-", dir=SCRATCH)
        self.runtime = tempfile.mkdtemp(prefix="repld-run-", dir="/run")
        self.log_path = os.path.join(self.data, "server.log")
        self.env = dict(os.environ, **(env or {}))
        # Servers that run at the same time need networks and cgroups of their own.
        network, self.network_lock = free_network()
        self.settings = {
            "listen": f"127.0.0.1:{self.port}", "data_dir": self.data, "runtime_dir": self.runtime,
            "environments_dir": ENVIRONMENTS, "stacks_dir": os.path.join(ROOT, "stacks"),
            "sandbox_network": network,
            "cgroup_root": os.path.basename(self.runtime),
        }
        bundle = self.env.get("REPLD_CA_BUNDLE") or self.env.get("SSL_CERT_FILE")
        if bundle and os.path.exists(bundle):
            self.settings["ca_bundle"] = bundle
        self.settings.update(settings)
        self.process = None
        self.http = requests.Session()
        self.http.trust_env = False

    # ---- life ----
    def start(self, timeout=60):
        command = [self.binary, "serve"]
        for name, value in self.settings.items():
            flag = "--" + name.replace("_", "-")
            command += [flag] if value is True else [flag, str(value)]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                                            start_new_session=True)
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=60):
        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"repld serve ended with {self.process.returncode}")
            try:
                return self.http.get(self.url + "/ready", timeout=5).status_code == 200
            except requests.RequestException:
                return False
        try:
            wait_for(answers, timeout, 0.02)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log_tail()}") from None

    def log_text(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def log_tail(self, lines=60):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def stop(self, timeout=30):
        """As an administrator does it: SIGTERM. Sandboxes live on."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill_all()
                raise AssertionError(f"repld did not stop within {timeout} s:\n{self.log_tail()}") from None
        self.process = None

    def role_pid(self, role):
        """The pid of the gateway or the orchestrator, by the role in its command line; 0 when there is none."""
        for pid in children_of(self.process.pid):
            if any(role in a for a in command_line(pid)[1:]):
                return pid
        return 0

    def kill(self, *roles):
        """kill -9 of "gateway", "orchestrator" or "supervisor"."""
        pids = [self.process.pid if r == "supervisor" else self.role_pid(r) for r in roles]
        assert all(pids), f"no process for {roles}"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if "supervisor" in roles:
            self.process.wait()

    def kill_all(self):
        for pid in [self.process.pid] + children_of(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def close(self):
        """Deletes every project, stops the server, removes the data; then nothing of it may be left on the machine."""
        left, log = [], ""
        try:
            if self.process and self.process.poll() is None:
                for p in self.projects():
                    self.http.delete(f"{self.url}/api/v1/projects/{p['id']}", timeout=60)
                self.stop()
            left = self.traces()
            log = self.log_tail()
        finally:
            self.remove()
        assert not left, f"left behind: {left}\n{log}"

    def remove(self):
        self.network_lock.close()
        for directory in (self.runtime, self.data):
            with open("/proc/self/mountinfo") as f:
                mounts = [line.split()[4] for line in f]
            for m in sorted((m for m in mounts if m == directory or m.startswith(directory + "/")), reverse=True):
                subprocess.run(["umount", "-l", m], check=False)
            shutil.rmtree(directory, ignore_errors=True)
        # The firewall's table is named after the runtime directory (docs/internals/network.md).
        tag = 2166136261
        for byte in self.runtime.encode():
            tag = (tag ^ byte) * 16777619 & 0xffffffff
        subprocess.run(["nft", "delete", "table", "ip", f"repld_{tag:08x}"], check=False, stderr=subprocess.DEVNULL)
        # Slots are made ahead and live on without the server, as sandboxes do.
        with contextlib.suppress(OSError):
            for link in os.listdir("/sys/class/net"):
                if link.startswith(f"rp{tag:08x}v"):
                    subprocess.run(["ip", "link", "delete", link], check=False, stderr=subprocess.DEVNULL)
        for base in cgroup_roots():  # what is left of it is empty, else the kernel refuses
            for parent, _, _ in os.walk(os.path.join(base, self.settings["cgroup_root"]), topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(parent)

    def traces(self):
        """What is left of sandboxes: cgroups (and so processes), sandbox directories."""
        left = []
        for base in cgroup_roots():
            for parent, groups, _ in os.walk(os.path.join(base, self.settings["cgroup_root"])):
                left += [os.path.join(parent, g) for g in groups if re.search(r"(^|[^a-z0-9])[a-z0-9]{16}$", g)]
        sandboxes = os.path.join(self.runtime, "sandboxes")
        if os.path.isdir(sandboxes):
            left += [os.path.join(sandboxes, d) for d in os.listdir(sandboxes) if re.fullmatch("[a-z0-9]{16}", d)]
        return left

    # ---- HTTP ----
    def request(self, method, path, expect=None, timeout=120, **kw):
        if not path.startswith("/"):
            path = "/api/v1/" + path
        r = self.http.request(method, self.url + path, timeout=timeout, **kw)
        if expect is None:
            if r.status_code >= 400:
                raise Failure(r)
        elif r.status_code not in (expect if isinstance(expect, (list, tuple, set)) else [expect]):
            raise Failure(r)
        return r

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body=None, **kw):
        if body is not None:
            kw["json"] = body
        return self.request("POST", path, **kw)

    def projects(self):
        items, cursor = [], None
        while True:
            page = self.get("projects", params={"limit": 100, **({"cursor": cursor} if cursor else {})}).json()
            items += page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return items

    def create(self, stack="python", **body):
        return Project(self, self.post("projects", {"stack": stack, **body}, expect=201).json())

    def websocket(self, path, timeout=30, header=None, host=None):
        return websocket.create_connection(f"ws://127.0.0.1:{self.port}{path}", timeout=timeout, header=header or [],
                                           host=host, enable_multithread=True)

    def raw(self, timeout=10):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def preview(self, project, port, path="/", method="GET", timeout=60, **kw):
        """A request to a preview, as a browser sends it to PORT-PROJECT.localhost."""
        headers = {"Host": f"{port}-{project.id}.localhost:{self.port}", **kw.pop("headers", {})}
        return self.http.request(method, self.url + path, headers=headers, timeout=timeout, **kw)


class Project:
    def __init__(self, server, body):
        self.server = server
        self.body = body
        self.id = body["id"]
        self.path = f"/api/v1/projects/{self.id}"

    def get(self, path="", **kw):
        return self.server.get(self.path + path, **kw)

    def post(self, path, body=None, **kw):
        return self.server.post(self.path + path, body, **kw)

    def request(self, method, path, **kw):
        return self.server.request(method, self.path + path, **kw)

    def status(self):
        return self.get("/status").json()

    def start(self):
        r = self.post("/start?wait=60")
        assert r.status_code == 200 and r.json()["state"] == "running", r.text
        return self

    def stop(self):
        r = self.post("/stop?wait=60")
        assert r.status_code == 200 and r.json()["state"] == "stopped", r.text

    def delete(self):
        self.request("DELETE", "", expect=204)

    def wait_run(self, *states, timeout=300):
        """Waits until the run command is in one of the states and returns the status."""
        last = {}

        def reached():
            nonlocal last
            last = self.status()
            return last["run"]["state"] in states
        try:
            wait_for(reached, timeout, 0.1)
        except AssertionError:
            raise AssertionError(f"run is {last}, not {states}; logs:\n{self.logs()[-3000:]}") from None
        return last

    def wait_port(self, port, timeout=120):
        def open_port():
            return next((p for p in self.get("/ports").json()["items"] if p["port"] == port), None)
        try:
            return wait_for(open_port, timeout, 0.05)
        except AssertionError:
            raise AssertionError(f"port {port} not open: {self.status()}; logs:\n{self.logs()[-3000:]}") from None

    def logs(self):
        return self.get("/logs").text

    def write(self, path, content, **kw):
        data = content.encode() if isinstance(content, str) else content
        return self.request("PUT", "/files/content", params={"path": path}, data=data, **kw)

    def read(self, path):
        return self.get("/files/content", params={"path": path}).content

    def exec(self, *argv, timeout=60, env=None, cwd=None):
        """Runs a command without a terminal and returns (exit code or signal, stdout, stderr)."""
        body = {"command": list(argv)}
        if env:
            body["env"] = env
        if cwd:
            body["cwd"] = cwd
        pid = self.post("/processes", body, expect=201).json()["id"]

        def ended():
            p = self.get(f"/processes/{pid}").json()
            return p if p["state"] == "exited" else None
        p = wait_for(ended, timeout, 0.02)
        out = self.get(f"/processes/{pid}/output", params={"stream": "stdout", "since": 0}).content
        err = self.get(f"/processes/{pid}/output", params={"stream": "stderr", "since": 0}).content
        self.request("DELETE", f"/processes/{pid}", expect=204)
        code = p["exit_code"] if p.get("exit_code") is not None else p.get("signal")
        return code, out.decode(errors="replace"), err.decode(errors="replace")

    def terminal(self, **kw):
        return Terminal(self, **kw)


class Terminal:
    """A client of one terminal that keeps all output and the offset; a thread of its own reads."""

    def __init__(self, project, tid=None, cols=80, rows=24, since=None, mode="write", ack=True):
        self.project = project
        if tid is None:
            tid = project.post("/terminals", {"cols": cols, "rows": rows}, expect=201).json()["id"]
        self.id = tid
        self.ack = ack
        self.mode = mode
        self.output = bytearray()
        self.offset = since
        self.hello = None
        self.exit = None
        self.control = []
        self.gaps = []
        self.close_code = None
        self.changed = threading.Condition()
        self.connect(since)

    def connect(self, since=None):
        query = f"?mode={self.mode}" + (f"&since={since}" if since is not None else "")
        self.ws = self.project.server.websocket(f"{self.project.path}/terminals/{self.id}{query}")
        self.close_code = None
        self.reader = threading.Thread(target=self._read, args=(self.ws,), daemon=True)
        self.reader.start()
        self.wait(lambda: self.hello is not None or self.close_code is not None)
        return self

    def _read(self, ws):
        acked = 0
        try:
            while True:
                opcode, data = ws.recv_data()
                with self.changed:
                    if opcode == websocket.ABNF.OPCODE_BINARY:
                        self.output += data
                        self.offset += len(data)
                    elif opcode == websocket.ABNF.OPCODE_TEXT:
                        self._control(json.loads(data))
                    elif opcode == websocket.ABNF.OPCODE_CLOSE:
                        self.close_code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
                        self.changed.notify_all()
                        return
                    self.changed.notify_all()
                if self.ack and self.offset is not None and self.offset - acked >= 32768:
                    acked = self.offset
                    ws.send(json.dumps({"type": "ack", "offset": acked}))
        except Exception:
            with self.changed:
                if self.ws is ws and self.close_code is None:
                    self.close_code = 1006
                self.changed.notify_all()

    def _control(self, message):
        self.control.append(message)
        if message["type"] == "hello":
            self.hello = message
            self.offset = message["offset"]
        elif message["type"] == "gap":
            self.gaps.append((self.offset, message["offset"]))
            self.offset = message["offset"]
        elif message["type"] == "exit":
            self.exit = message

    def wait(self, condition, timeout=30):
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise AssertionError(f"terminal: not within {timeout} s; last output: {bytes(self.output[-1500:])!r} "
                                     f"control: {self.control[-5:]} closed: {self.close_code}")

    def send(self, data):
        self.ws.send_binary(data.encode() if isinstance(data, str) else data)

    def send_control(self, **message):
        self.ws.send(json.dumps(message))

    def resize(self, cols, rows):
        self.send_control(type="resize", cols=cols, rows=rows)

    def expect(self, pattern, timeout=30, since=0):
        """Waits until the output (from position `since`) matches the regular expression and returns the match."""
        regex = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.S)
        found = None

        def seen():
            nonlocal found
            found = regex.search(self.output, since)
            return found
        self.wait(seen, timeout)
        return found

    def run(self, line, timeout=30):
        """Types a line and returns what it printed, up to a marker that the shell prints after it."""
        marker = os.urandom(4).hex()
        at = len(self.output)
        self.send(f"{line}; printf '<%s>' {marker[:4]}''{marker[4:]}\r")
        m = self.expect(rf"<{marker}>", timeout, at)
        text = bytes(self.output[at:m.start()]).decode(errors="replace")
        # bash ends bracketed paste when it runs the line; before it stand prompt and echo (twice, when the line was typed
        # before the shell was there)
        if "\x1b[?2004l\r" in text:
            return text.rpartition("\x1b[?2004l\r")[2]
        return text.split("\n", 1)[1] if "\n" in text else text

    def drop(self):
        """Cuts the connection without a close frame, as a lost network does."""
        with contextlib.suppress(Exception):
            self.ws.sock.shutdown(socket.SHUT_RDWR)
        self.ws.shutdown()
        self.reader.join(5)

    def reconnect(self):
        """Connects again at the offset that was reached."""
        self.hello = None
        return self.connect(self.offset)

    def close(self):
        with contextlib.suppress(Exception):
            self.ws.close()


def registry_answers(name, command):
    """Fails the test, naming the registry, when it does not answer to its own client."""
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    assert r.returncode == 0, f"the {name} registry does not answer: {r.stdout[-500:]}"
