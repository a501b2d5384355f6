"""The peer of a run: the same command on the same environment, without repld, under the same cgroup limits.

An overlay of the environment's layers in a mount namespace of its own, with a copy of the project's files; a cgroup (v2,
or v1's cpu and memory) with the limits; unshare and chroot start the command in it.
"""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import requests

import repld


def layers(environment_name):
    """The layers of the stack's newest environment, the uppermost first."""
    found = []
    for path in glob.glob(os.path.join(repld.ENVIRONMENTS, "*.json")):
        with open(path) as f:
            manifest = json.load(f)
        if manifest["name"] == environment_name:
            found.append((manifest["built_at"], manifest["layers"]))
    assert found, f"no environment of {environment_name} in {repld.ENVIRONMENTS}"
    return [os.path.join(repld.ENVIRONMENTS, "layers", h) for h in max(found)[1]]


def sandbox_files(server):
    """Where the files of the one running project are, seen from outside: through a process of its sandbox."""
    for base in repld.cgroup_roots():
        for folder, _, names in os.walk(os.path.join(base, server.settings["cgroup_root"])):
            if "cgroup.procs" not in names:
                continue
            with open(os.path.join(folder, "cgroup.procs")) as f:
                for pid in f.read().split():
                    path = f"/proc/{pid}/root/home/runner/app"
                    if os.path.isdir(path) and os.listdir(path):
                        return path
    raise AssertionError("no process of a sandbox found")


class Cgroup:
    """memory and CPU limits for processes that are put in."""

    def __init__(self):
        self.paths = []
        name = f"repld-bare-{os.getpid()}"
        with open("/proc/self/mounts") as f:
            mounts = [line.split()[:4] for line in f]
        self.v1 = {c: m[1] for c in ("cpu", "memory") for m in mounts if m[2] == "cgroup" and c in m[3].split(",")}
        if "cpu" in self.v1 and "memory" in self.v1:
            for controller in ("cpu", "memory"):
                self.paths.append(os.path.join(self.v1[controller], name))
        else:
            self.v1 = {}
            base = next(m[1] for m in mounts if m[2] == "cgroup2")
            with open(os.path.join(base, "cgroup.subtree_control"), "w") as f:
                f.write("+cpu +memory")
            self.paths.append(os.path.join(base, name))
        for path in self.paths:
            os.makedirs(path, exist_ok=True)

    def _write(self, name, value):
        for path in self.paths:
            if os.path.exists(os.path.join(path, name)):
                with open(os.path.join(path, name), "w") as f:
                    f.write(str(value))

    def limit(self, cpus, memory):
        if self.v1:
            self._write("cpu.cfs_period_us", 100000)
            self._write("cpu.cfs_quota_us", int(cpus * 100000))
            self._write("memory.limit_in_bytes", memory)
        else:
            self._write("cpu.max", f"{int(cpus * 100000)} 100000")
            self._write("memory.max", memory)

    def add(self, pid):
        self._write("cgroup.procs", pid)

    def remove(self):
        for path in self.paths:
            with open(os.path.join(path, "cgroup.procs")) as f:
                for pid in f.read().split():
                    os.kill(int(pid), signal.SIGKILL)
            for _ in range(100):
                try:
                    os.rmdir(path)
                    break
                except OSError:
                    time.sleep(0.05)


class Bare:
    """A copy of a project's files that can be started again and again."""

    def __init__(self, environment_name, files, env):
        self.directory = tempfile.mkdtemp(prefix="repld-bare-", dir=repld.SCRATCH)
        self.layers = layers(environment_name)
        self.env = env
        subprocess.run(["cp", "-a", files, os.path.join(self.directory, "app")], check=True)
        subprocess.run(["chown", "-R", "1000:1000", os.path.join(self.directory, "app")], check=True)
        self.cgroup = Cgroup()

    def start(self, argv, port, path="/", cpus=2.0, memory=256 << 20, timeout=60):
        """Seconds from the start until the server answers, which is then killed; and the answer."""
        with socket.socket() as s:
            assert s.connect_ex(("127.0.0.1", port)) != 0, f"something listens on port {port} already"
        for name in ("upper", "work", "root"):
            shutil.rmtree(os.path.join(self.directory, name), ignore_errors=True)
            os.mkdir(os.path.join(self.directory, name))
        self.cgroup.limit(cpus, memory)
        mounts = ('mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" && '
                  'mount --bind "$2/app" "$2/root/home/runner/app" && mount -t proc proc "$2/root/proc" && '
                  'mount --rbind /dev "$2/root/dev" && echo ready && read -r go && directory=$2 && shift 2 && '
                  'exec chroot --userspec=1000:1000 "$directory/root" env -i -C /home/runner/app "$@"')
        p = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "sh",
                              "-c", mounts, "sh", ":".join(self.layers), self.directory,
                              *[f"{k}={v}" for k, v in self.env.items()], *argv],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert p.stdout.readline() == "ready\n", p.communicate()[0]
            for pid in [p.pid] + repld.children_of(p.pid):
                self.cgroup.add(pid)
            begin = time.monotonic()
            p.stdin.write("go\n")
            p.stdin.flush()
            answer = until_answer(lambda: requests.get(f"http://127.0.0.1:{port}{path}", timeout=10), timeout,
                                  lambda: p.poll() is None)
            return time.monotonic() - begin, answer
        finally:
            # the namespace's first process: its end is the end of all (setuid has made it forget --kill-child)
            for pid in repld.children_of(p.pid):
                os.kill(pid, signal.SIGKILL)
            p.wait()
            p.stdin.close()
            p.stdout.close()

    def close(self):
        self.cgroup.remove()
        shutil.rmtree(self.directory, ignore_errors=True)


def until_answer(get, timeout, alive=lambda: True):
    """Asks every 10 ms until the answer is 200."""
    end = time.monotonic() + timeout
    last = None
    while time.monotonic() < end:
        assert alive(), "the server ended"
        try:
            last = get()
            if last.status_code == 200:
                return last
        except requests.RequestException as e:
            last = e
        time.sleep(0.01)
    raise AssertionError(f"no answer within {timeout} s: {last}")
