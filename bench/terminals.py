"""What the two terminal measures share: the client and the relay, built from source, and terminals that are ready.

The same program runs in each: on a bare PTY, behind the relay, in a sandbox. It prints "R" when it is ready.
"""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "e2e"))

import repld  # noqa: E402

ECHO = ["bash", "--norc", "--noprofile", "-c", "stty raw -echo; printf R; exec cat"]
# 100 KB a second
LOAD = ["python3", "-c", "import os, sys, time\nos.write(1, b'R')\nwhile True:\n"
        "    os.write(1, b'0123456789' * 1000)\n    time.sleep(0.1)"]


def flood(size):
    return ["bash", "--norc", "--noprofile", "-c",
            f"stty raw -echo; printf R; read -r -n 1 x; exec head -c {size} /dev/zero"]


def say(*what):
    print(f"{os.path.basename(sys.argv[0])[:-3]}:", *what, file=sys.stderr, flush=True)


class Tools:
    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="repld-bench-")
        self.client = os.path.join(self.directory.name, "terminal_client")
        self.relay = os.path.join(self.directory.name, "relay")
        for path, libraries in ((self.client, ["-lutil"]), (self.relay, ["-luv", "-lutil"])):
            source = os.path.join(HERE, os.path.basename(path) + ".c")
            subprocess.run([os.environ.get("CC", "cc"), "-O2", "-D_GNU_SOURCE", "-o", path, source, *libraries], check=True)

    def run(self, *arguments, timeout=300):
        """The client's numbers, in ns."""
        p = subprocess.run([self.client, *map(str, arguments)], stdout=subprocess.PIPE, text=True, timeout=timeout,
                           check=True)
        return [int(line) for line in p.stdout.split()]

    @contextlib.contextmanager
    def relay_of(self, command):
        port = repld.free_port()
        with subprocess.Popen([self.relay, str(port), *command]) as p:
            try:
                time.sleep(0.2)
                yield port
            finally:
                p.kill()

    @contextlib.contextmanager
    def drained(self, port, paths):
        """Somebody reads all of these."""
        with subprocess.Popen([self.client, "drain", str(port), *paths], stdout=subprocess.PIPE, text=True) as p:
            try:
                assert p.stdout.readline() == "ready\n"
                yield
            finally:
                p.kill()


class Groups:
    """cgroups laid out as repld lays them out (one above all, one a sandbox), so that the peers' programs compete for the
    CPU as those in sandboxes do."""

    def __init__(self, count):
        with open("/proc/self/mounts") as f:
            mounts = [line.split()[:4] for line in f]
        base = next((m[1] for m in mounts if m[2] == "cgroup" and "cpu" in m[3].split(",")), None)
        if not base:
            base = next(m[1] for m in mounts if m[2] == "cgroup2")
        self.top = os.path.join(base, f"repld-bench-{os.getpid()}")
        self.paths = [os.path.join(self.top, str(i)) for i in range(count)]
        os.mkdir(self.top)
        for parent in (base, self.top):
            with contextlib.suppress(OSError), open(os.path.join(parent, "cgroup.subtree_control"), "w") as f:
                f.write("+cpu")
        for path in self.paths:
            os.mkdir(path)

    def command(self, index, command):
        procs = os.path.join(self.paths[index % len(self.paths)], "cgroup.procs")
        return ["sh", "-c", f"echo 0 > {procs}; exec \"$@\"", "sh", *command]

    def remove(self):
        for path in [*self.paths, self.top]:
            for _ in range(100):
                try:
                    with open(os.path.join(path, "cgroup.procs")) as f:
                        for pid in f.read().split():
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(int(pid), signal.SIGKILL)
                    os.rmdir(path)
                    break
                except OSError:
                    time.sleep(0.05)


def generous(server):
    return server.create("python", limits={"memory": 2 << 30, "cpu": os.cpu_count(), "processes": 400}).start()


def terminal(project, command, **query):
    """The path of the socket of a new terminal. Everything from its first byte on is sent to whoever connects."""
    t = project.post("/terminals", {"command": command}, expect=201).json()
    return f"{project.path}/terminals/{t['id']}"


def end(project, path):
    project.server.request("DELETE", path, expect=[204, 404])


def row(**fields):
    print(json.dumps(fields), flush=True)


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
