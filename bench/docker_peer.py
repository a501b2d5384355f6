"""Docker Engine as a peer: a daemon of the bench's own, from Debian's docker.io.

It runs in network and mount namespaces of its own with all its data in one directory, so that nothing of it reaches the
machine: no bridge, no firewall rule, no container of anyone else. Its image is made of an environment's layers.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

DAEMON = "/usr/sbin/dockerd"
CLIENT = "/usr/bin/docker"
IMAGE = "repld-bench"


class Docker:
    def __init__(self, scratch="/var/tmp"):
        self.directory = tempfile.mkdtemp(prefix="repld-docker-", dir=scratch)
        self.socket = f"unix://{self.directory}/socket"
        self.group = f"repld-bench-docker-{os.getpid()}"
        self.log = open(os.path.join(self.directory, "log"), "wb")
        self.daemon = None

    def command(self, *arguments):
        return [CLIENT, "-H", self.socket, *arguments]

    def run(self, *arguments, **kw):
        return subprocess.run(self.command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, **kw)

    def start(self, layers):
        d = self.directory
        script = ('ip link set lo up && exec "$0" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" '
                  '-H "$2" --cgroup-parent "$3" --ip-forward=false --log-level warn')
        self.daemon = subprocess.Popen(["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script,
                                        DAEMON, d, self.socket, self.group], stdin=subprocess.DEVNULL,
                                       stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while self.run("version").returncode:
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise RuntimeError("dockerd does not start:\n" + self.log_tail())
            time.sleep(0.2)
        os.mkdir(os.path.join(d, "image"))
        script = ('mount -t overlay overlay -o "ro,lowerdir=$1" "$2/image" && '
                  'tar -C "$2/image" -c . | "$3" -H "$4" import - "$5"')
        subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", ":".join(layers), d,
                        CLIENT, self.socket, IMAGE], check=True, stdout=subprocess.DEVNULL)
        return self

    def pids(self):
        """The daemon, its containerd, the shims (which are nobody's children) and the containers' processes."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    ours = self.directory.encode() in f.read()
                with open(f"/proc/{pid}/cgroup") as f:
                    if ours or f"/{self.group}/" in f.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def log_tail(self):
        with open(os.path.join(self.directory, "log"), errors="replace") as f:
            return f.read()[-2000:]

    def close(self):
        if self.daemon:
            ids = self.run("ps", "-aq").stdout.split()
            for i in range(0, len(ids), 50):
                self.run("rm", "-f", *ids[i:i + 50])
            self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(60)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        self.log.close()
        for hierarchy in os.listdir("/sys/fs/cgroup"):
            for path in (f"/sys/fs/cgroup/{hierarchy}/{self.group}", f"/sys/fs/cgroup/{self.group}"):
                try:
                    os.rmdir(path)  # only when it is empty
                except OSError:
                    pass
        shutil.rmtree(self.directory, ignore_errors=True)


def start(layers):
    """A running Docker with the image, or None with the reason on standard error."""
    if not os.path.exists(DAEMON) or not os.path.exists(CLIENT):
        print("docker.io is not installed: no row beside Docker", file=sys.stderr)
        return None
    docker = Docker()
    try:
        return docker.start(layers)
    except (RuntimeError, OSError, subprocess.SubprocessError) as e:
        docker.close()
        print(f"Docker cannot be measured here: {e}", file=sys.stderr)
        return None
