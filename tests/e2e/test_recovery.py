"""kill -9 of any part of the server, upgrades, reboots: sandboxes are found again, and nothing that was said is lost.

Each test has a server of its own. The programs inside count, so that a missing or doubled byte shows as a number.
"""
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
import requests
import websocket

import repld
from repld import wait_for

# Answers with its pid and with how often it was asked: both survive only if the process does.
SERVER = """\
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        body = f"{os.getpid()} {Handler.asked}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a):
        print("asked", Handler.asked, flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Handler).serve_forever()
"""

COUNT = "i=0; while :; do i=$((i+1)); echo \"<$i>\"; sleep 0.002; done\r"


class World:
    """A project whose terminal counts and whose run command serves on port 9000."""

    def __init__(self, server):
        self.server = server
        self.project = server.create("python", run_command="python3 -u server.py")
        self.project.write("server.py", SERVER)
        self.project.write("kept.txt", "before")
        self.project.post("/run")
        self.project.wait_port(9000)
        self.sandbox = self.project.status()["sandbox"]
        self.pid, self.asked = self.ask()
        self.terminal = self.project.terminal()
        self.terminal.expect(rb"\$ ")
        self.terminal.send(COUNT)
        self.terminal.expect(rb"<50>")

    def ask(self):
        r = self.server.preview(self.project, 9000)
        assert r.status_code == 200, r.text
        pid, asked = r.text.split()
        return int(pid), int(asked)

    def resume(self, timeout=30):
        """As a browser does it: tries until the server is back, from the offset that was reached."""
        self.terminal.wait(lambda: self.terminal.close_code is not None)  # what was sent before the end has arrived
        offset = self.terminal.offset

        def connected():
            with contextlib.suppress(websocket.WebSocketException, OSError):
                self.terminal.reconnect()
                return self.terminal.close_code is None
            return False
        wait_for(connected, timeout)
        assert self.terminal.hello["offset"] == offset

    def check(self):
        """The same sandbox, the same processes, every byte of the terminal."""
        status = self.project.status()
        assert status["state"] == "running", status
        assert status["sandbox"]["id"] == self.sandbox["id"]
        assert status["sandbox"]["started_at"] == self.sandbox["started_at"]
        assert status["run"]["state"] == "running"
        pid, asked = self.ask()
        assert pid == self.pid
        assert asked == self.asked + 1, "requests were repeated or the process is another one"
        self.asked = asked
        assert self.project.read("kept.txt") == b"before"
        self.check_terminal()
        assert self.project.exec("echo", "still here") == (0, "still here\n", "")

    def check_terminal(self, more=100):
        numbers = self.numbers()
        last = numbers[-1]
        self.terminal.expect(rb"<%d>" % (last + more))
        numbers = self.numbers()
        expected = list(range(1, len(numbers) + 1))
        if numbers != expected:
            at = next(i for i, n in enumerate(numbers) if n != i + 1)
            text = bytes(self.terminal.output)
            place = text.find(b"<%d>" % numbers[at])
            raise AssertionError(f"after {at} comes {numbers[at]}: …{text[max(0, place - 60):place + 60]!r}…")
        assert not self.terminal.gaps

    def numbers(self):
        text = bytes(self.terminal.output)
        text = text[text.index(b"sleep 0.002; done"):]
        return [int(n) for n in re.findall(rb"<(\d+)>\r\n", text)]

    def end(self):
        self.terminal.close()
        self.project.stop()
        assert self.server.traces() == []
        self.project.delete()


@pytest.fixture
def world(new_server):
    return World(new_server())


def back(server):
    """Waits until the whole server answers again."""
    server.wait_ready(30)


# ---- kill -9 ----

@pytest.mark.parametrize("roles", [["gateway"], ["orchestrator"], ["gateway", "orchestrator"]], ids="+".join)
def test_killed_children_come_back_and_nothing_is_missing(world, roles):
    world.server.kill(*roles)
    if "gateway" in roles:
        world.resume()
    back(world.server)
    world.check()
    world.end()


def test_viewers_notice_nothing_of_the_orchestrators_end(world):
    ws = world.terminal.ws
    world.server.kill("orchestrator")
    world.check_terminal(300)
    assert world.terminal.ws is ws and world.terminal.close_code is None
    back(world.server)
    world.check()


def test_a_killed_supervisor_takes_its_children_along_and_starts_again(world):
    s = world.server
    children = [s.role_pid("gateway"), s.role_pid("orchestrator")]
    assert all(children)
    s.kill("supervisor")
    wait_for(lambda: not any(repld.command_line(pid) for pid in children), 10)
    s.start()
    world.resume()
    world.check()
    world.end()


def test_everything_killed_at_once(world):
    world.server.kill_all()
    time.sleep(0.5)  # what is printed meanwhile waits in the sandbox
    world.server.start()
    world.resume()
    world.check()
    world.end()


def test_killed_again_and_again(world):
    """Also while the last crash is still being repaired."""
    chance = random.Random(4711)
    for _ in range(8):
        roles = chance.choice([["gateway"], ["orchestrator"], ["gateway", "orchestrator"]])
        with contextlib.suppress(AssertionError):  # one that is only just starting
            world.server.kill(*roles)
        time.sleep(chance.uniform(0, 0.7))
        if world.terminal.close_code is not None:
            with contextlib.suppress(websocket.WebSocketException, OSError):
                world.terminal.reconnect()
    if world.terminal.close_code is not None:
        world.resume()
    back(world.server)
    world.check()
    world.end()


def test_requests_queue_while_the_gateway_starts_again(world):
    failures, answers = [], []
    stop = threading.Event()

    def visit():
        while not stop.is_set():
            try:
                with contextlib.closing(world.server.raw()) as c:
                    c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    answers.append(c.recv(100)[:12])
            except ConnectionResetError:
                pass  # it was being answered by the one that was killed
            except OSError as e:
                failures.append(e)
    visitor = threading.Thread(target=visit)
    visitor.start()
    time.sleep(0.2)
    world.server.kill("gateway")
    time.sleep(1.5)
    stop.set()
    visitor.join(15)
    assert not failures, failures[:3]
    assert b"HTTP/1.1 200" in answers[-1:]
    world.resume()
    world.check()


def test_a_start_that_is_cut_off_can_be_repeated(new_server):
    s = new_server()
    chance = random.Random(42)
    for _ in range(6):
        p = s.create("python")
        outcome = []

        def start():
            with contextlib.suppress(requests.ConnectionError):
                r = requests.post(f"{s.url}{p.path}/start?wait=60", timeout=90)
                outcome.append(r)
        t = threading.Thread(target=start)
        t.start()
        time.sleep(chance.uniform(0, 0.03))
        s.kill(chance.choice(["orchestrator", "gateway"]))
        t.join(90)
        for r in outcome:
            assert r.status_code in (200, 202, 502, 503), r.text
        back(s)
        wait_for(lambda: p.status()["state"] in ("running", "stopped", "failed"), 30)
        p.start()
        assert p.exec("echo", "up")[1] == "up\n"
        p.stop()
        p.delete()
    wait_for(lambda: s.traces() == [], 10)


def test_what_was_saved_is_there_after_a_crash(new_server):
    """Every write that was answered survives the death of everything, and each is whole."""
    s = new_server()
    p = s.create("python").start()
    saved = []
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            n += 1
            try:
                r = requests.put(f"{s.url}{p.path}/files/content", params={"path": f"n{n}.txt"},
                                 data=b"%d\n" % n * 2000, timeout=30)
            except requests.RequestException:
                continue
            if r.status_code < 300:
                saved.append(n)
    t = threading.Thread(target=write)
    t.start()
    wait_for(lambda: len(saved) > 30)
    s.kill("gateway", "orchestrator")
    count = len(saved)
    wait_for(lambda: len(saved) > count + 10)
    s.kill_all()
    stop.set()
    t.join(60)
    s.start()
    wait_for(lambda: p.status()["state"] == "running")
    for n in saved:
        assert p.read(f"n{n}.txt") == b"%d\n" % n * 2000


# ---- order and upgrades ----

def test_a_restart_in_good_order(world):
    s = world.server
    s.stop()
    wait_for(lambda: world.terminal.close_code is not None)
    assert world.terminal.close_code == 1001
    time.sleep(0.3)
    s.start()
    world.resume()
    world.check()
    world.end()


def test_a_second_server_for_the_same_data_is_refused(new_server):
    s = new_server()
    command = [s.binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", s.data, "--runtime-dir", s.runtime]
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert r.returncode == 1
    assert f"another server (process {s.process.pid}) uses the data directory" in r.stderr
    s.get("/health")


def previous_init(directory):
    """repld-init of the previous commit that had one, built from a worktree of its own; where the history ends (a
    shallow clone) the tree's own."""
    def git(*arguments):
        return subprocess.run(["git", "-c", "safe.directory=*", "-C", repld.ROOT, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    commits = git("rev-list", "--first-parent", "--max-count=20", "--skip=1", "HEAD")
    found = None
    for commit in commits.stdout.split() if commits.returncode == 0 else []:
        if git("cat-file", "-e", f"{commit}:src/init/main.c").returncode == 0:
            found = commit
            break
    if not found:
        return os.path.join(repld.BUILD, "repld-init")
    tree = os.path.join(directory, "tree")
    r = git("worktree", "add", "--detach", tree, found)
    assert r.returncode == 0, r.stdout
    try:
        for command in (["meson", "setup", "build"], ["ninja", "-C", "build", "repld-init"]):
            r = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            assert r.returncode == 0, r.stdout[-3000:]
        return shutil.copy(os.path.join(tree, "build", "repld-init"), os.path.join(directory, "repld-init"))
    finally:
        git("worktree", "remove", "--force", tree)


def test_sandboxes_of_the_previous_commits_init_go_on(new_server, tmp_path):
    s = new_server(init=previous_init(str(tmp_path)))
    world = World(s)
    s.stop()
    del s.settings["init"]
    s.start()
    world.resume()
    world.check()
    second = s.create("python").start()  # of this commit, beside it
    assert second.exec("echo", "new")[1] == "new\n"
    p = world.project
    p.write("made.txt", "by the new server")
    assert p.read("made.txt") == b"by the new server"
    assert "by the new server" in p.terminal().run("cat made.txt; echo")
    s.kill("gateway", "orchestrator")
    world.resume()
    world.check()
    assert second.exec("echo", "still new")[1] == "still new\n"
    second.delete()
    world.end()


# ---- records and sandboxes that lost each other ----

def test_a_sandbox_without_a_record_is_removed(world):
    s = world.server
    s.stop()
    for record in os.listdir(os.path.join(s.runtime, "records")):
        os.unlink(os.path.join(s.runtime, "records", record))
    s.start()
    wait_for(lambda: world.project.status()["state"] == "stopped", 10)
    wait_for(lambda: s.traces() == [], 10)
    assert world.project.read("kept.txt") == b"before"
    world.project.start()


def test_a_sandbox_that_no_project_knows_is_removed(world):
    s = world.server
    s.stop()
    for name in os.listdir(os.path.join(s.data, "gateway")):
        if name.startswith("repld.db"):
            os.unlink(os.path.join(s.data, "gateway", name))
    s.start()
    assert s.projects() == []
    wait_for(lambda: s.traces() == [], 10)


def sandbox_processes(server):
    """Of all sandboxes, as the host sees them."""
    pids = set()
    for base in repld.cgroup_roots():
        for parent, _, files in os.walk(os.path.join(base, server.settings["cgroup_root"])):
            if "cgroup.procs" in files:
                with contextlib.suppress(OSError), open(os.path.join(parent, "cgroup.procs")) as f:
                    pids.update(int(line) for line in f)
    return pids


def kill_sandboxes(server):
    def none_left():
        for pid in sandbox_processes(server):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not sandbox_processes(server)
    wait_for(none_left, 10)


def test_a_record_without_a_sandbox_says_stopped(world):
    s = world.server
    s.stop()
    kill_sandboxes(s)
    s.start()
    status = world.project.status()
    assert status["state"] == "stopped", status
    assert "sandbox" not in status or status["sandbox"] is None
    wait_for(lambda: s.traces() == [], 10)
    world.project.start()
    assert world.project.exec("cat", "kept.txt")[1] == "before"


# ---- reboot ----

def reboot(server):
    """What a machine forgets when it restarts: every process, mount and tmpfs; the disk stays."""
    server.kill_all()
    kill_sandboxes(server)
    with open("/proc/self/mountinfo") as f:
        mounts = [line.split()[4] for line in f]
    for m in sorted((m for m in mounts if m.startswith((server.runtime, server.data))), reverse=True):
        subprocess.run(["umount", "-l", m], check=False)
    shutil.rmtree(server.runtime)
    os.mkdir(server.runtime)
    for base in repld.cgroup_roots():
        for parent, _, _ in os.walk(os.path.join(base, server.settings["cgroup_root"]), topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(parent)
    server.settings["boot_id"] = os.urandom(8).hex()


def test_after_a_reboot_only_always_on_projects_run(world):
    s = world.server
    always = s.create("python", run_command="python3 -u server.py", always_on=True)
    always.write("server.py", SERVER)
    always.post("/run")
    always.wait_port(9000)
    before = always.status()["sandbox"]["id"]
    reboot(s)
    s.start()
    assert world.project.status()["state"] == "stopped"
    assert world.project.read("kept.txt") == b"before"
    always.wait_run("running", timeout=60)
    assert always.status()["sandbox"]["id"] != before
    always.wait_port(9000)
    assert s.preview(always, 9000).status_code == 200
    assert world.project.status()["state"] == "stopped"
    world.project.post("/run")
    world.project.wait_port(9000)
