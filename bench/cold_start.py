"""Cold start: from POST …/start with no sandbox at all to the first byte that a command prints.

Beside it the bare OCI runtime, with the config.json of a living sandbox, on the environment's layers, running the same
command; and `docker run --rm`. Rounds are interleaved; medians are compared.
"""
import ctypes
import glob
import http.client
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "e2e"))
sys.path.insert(0, HERE)

import docker_peer  # noqa: E402
import own_network  # noqa: E402
import repld  # noqa: E402
from bare import layers  # noqa: E402

ROUNDS, DOCKER_ROUNDS = 41, 11
SETTLE = 0.25  # seconds before each: the kernel takes namespaces and cgroups of the one before apart for a while
COMMAND = ["/bin/echo", "x"]
CLONE_NEWNS, MS_REC, MS_PRIVATE, MNT_DETACH = 0x20000, 0x4000, 1 << 18, 2


class Api:
    """One kept connection, since the client's own time is not what is measured."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def call(self, method, path, body=None):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        r = self.connection.getresponse()
        content = r.read()
        if r.status >= 400:
            raise RuntimeError(f"{method} {path}: {r.status} {content[:500]}")
        return r.status, content


def one_start(api, project):
    """Milliseconds until the command's first byte."""
    project.stop()
    time.sleep(SETTLE)
    begin = time.perf_counter()
    api.call("POST", project.path + "/start?wait=30")
    _, body = api.call("POST", project.path + "/processes", {"command": COMMAND})
    process = json.loads(body)["id"]
    while True:
        _, output = api.call("GET", f"{project.path}/processes/{process}/output?stream=stdout&since=0")
        if output:
            break
    took = time.perf_counter() - begin
    assert output.startswith(b"x"), output
    return took * 1000


class Bare:
    """The runtime by itself, in a process whose mount namespace may differ from the bench's."""

    def __init__(self, server, stack):
        self.server, self.stack = server, stack
        self.here, there = multiprocessing.Pipe()
        self.worker = multiprocessing.get_context("fork").Process(target=self._work, args=(there,), daemon=True)
        self.worker.start()
        self.runtime = self.here.recv()
        if isinstance(self.runtime, Exception):
            raise self.runtime

    def _prepare(self):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
            raise OSError(ctypes.get_errno(), "unshare")
        # crun refuses hosts with both cgroup versions; the driver hides one from it, too.
        libc.umount2(b"/sys/fs/cgroup/unified", MNT_DETACH)
        directory = os.path.join(self.server.data, "bare")
        for name in ("", "root", "upper", "work", "state"):
            os.mkdir(os.path.join(directory, name))
        self.directory = directory
        lower = ":".join(layers(self.stack))
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                        f"lowerdir={lower},upperdir={directory}/upper,workdir={directory}/work", f"{directory}/root"],
                       check=True)
        os.chmod(self.server.data, 0o711)  # the sandbox's root is nobody out here, and passes through
        [path] = glob.glob(os.path.join(self.server.runtime, "oci", "*", "config.json"))
        with open(path) as f:
            config = json.load(f)
        config["process"]["args"] = COMMAND
        config["root"]["path"] = f"{directory}/root"
        with open(os.path.join(directory, "config.json"), "w") as f:
            json.dump(config, f)
        crun = "run.oci.seccomp_bpf_data" in config.get("annotations", {})
        self.program = "/usr/bin/crun" if crun else "/usr/sbin/runc"
        self.options = ["--cgroup-manager=disabled"] if crun else []
        return os.path.basename(self.program)

    def _run(self, number):
        read, write = os.pipe()
        argv = [self.program, *self.options, "--root", f"{self.directory}/state", "run", "--bundle", self.directory,
                f"bare{number}"]
        begin = time.perf_counter()
        pid = os.posix_spawn(self.program, argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                             file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_CLOSE, read)])
        os.close(write)
        output = os.read(read, 100)
        took = time.perf_counter() - begin
        os.close(read)
        _, status = os.waitpid(pid, 0)
        if output != b"x\n" or status:
            raise RuntimeError(f"the bare runtime printed {output!r} and ended with {status}")
        return took * 1000

    def _work(self, pipe):
        try:
            pipe.send(self._prepare())
            for number in iter(pipe.recv, None):
                pipe.send(self._run(number))
        except Exception as e:  # to be raised where it is looked at
            pipe.send(e)

    def run(self, number):
        self.here.send(number)
        took = self.here.recv()
        if isinstance(took, Exception):
            raise took
        return took

    def close(self):
        self.here.send(None)
        self.worker.join(10)


def row(measure, ours, peer, peer_name, aim, limit, unit="ms", **more):
    ratio = ours / peer
    print(json.dumps({"measure": measure, "repld": round(ours, 2), "peer": round(peer, 2), "ratio": round(ratio, 3),
                      "aim": aim, "unit": unit, "peer_name": peer_name, "met": ratio <= limit, **more}), flush=True)


def main():
    own_network.enter()
    server = repld.Server(idle_timeout=0).start()
    docker = bare = None
    try:
        api = Api(server)
        # Its sandbox stays: the bare runtime gets its configuration, which names its network namespace.
        model = server.create("python").start()
        bare = Bare(server, "python")
        measured = server.create("python")
        ours, peer = [], []
        for i in range(ROUNDS):
            ours.append(one_start(api, measured))
            time.sleep(SETTLE)
            peer.append(bare.run(i))
        docker_ms, beside = [], []
        docker = docker_peer.start(layers("python"))
        for _ in range(DOCKER_ROUNDS if docker else 0):
            time.sleep(SETTLE)
            begin = time.perf_counter()
            r = docker.run("run", "--rm", docker_peer.IMAGE, "true")
            docker_ms.append((time.perf_counter() - begin) * 1000)
            if r.returncode:
                raise RuntimeError(r.stderr)
            beside.append(one_start(api, measured))
        median = statistics.median(ours)
        row("cold start, median", median, statistics.median(peer), f"{bare.runtime}, bare", "≤ 1.5 × bare", 1.5)
        if docker_ms:
            row("cold start, median", statistics.median(beside), statistics.median(docker_ms), "docker run --rm",
                "≤ 1/5 of docker", 0.2)
        for p in (measured, model):
            p.delete()
    finally:
        if docker:
            docker.close()
        if bare:
            bare.close()
        server.close()


if __name__ == "__main__":
    main()
