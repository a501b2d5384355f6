"""Programs that take all they can get: memory, disk, inodes, processes, output, time. Each hits its own limit, and after
each the server and the project beside it work as before."""
import os
import re
import subprocess
import time

import pytest

import repld
from repld import wait_for

MIB = 1 << 20

FULL = r"No space left on device|Disk quota exceeded"

FILL_INODES = """\
import errno, os
os.mkdir("many")
n = 0
try:
    while n < 3000000:
        open(f"many/{n}", "w").close()
        n += 1
    print("no limit")
except OSError as e:
    print(n, errno.errorcode[e.errno])
"""

TAKE_MEMORY = """\
import time
held = []
print("begin", flush=True)
while True:
    held.append(bytearray(8 << 20))
"""

IGNORES_SIGTERM = """\
import signal, time
for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(s, signal.SIG_IGN)
print("deaf", flush=True)
while True:
    time.sleep(1)
"""

# BTRFS_IOC_SUBVOL_CREATE needs no privilege.
SUBVOLUME = """\
import fcntl, os
d = os.open(".", os.O_RDONLY)
try:
    fcntl.ioctl(d, 0x5000940e, bytearray((0).to_bytes(8, "little") + b"mine".ljust(4088, b"\\0")))
    os.chdir("mine")
    print("made")
except OSError as e:
    print("refused", e)
"""


@pytest.fixture
def neighbour(server):
    """A project beside the hostile one. After the test it still answers, and so does the API."""
    p = server.create("python").start()
    assert p.exec("echo", "before") == (0, "before\n", "")
    yield p
    begin = time.monotonic()
    assert p.exec("sh", "-c", "echo after > f && cat f") == (0, "after\n", "")
    p.write("g", "by the API")
    assert p.read("g") == b"by the API"
    assert time.monotonic() - begin < 30
    p.delete()


@pytest.fixture
def hostile(server, neighbour):
    """Makes a running project with limits; deleted afterwards, whatever it is doing."""
    made = []

    def make(**limits):
        p = server.create("python", limits=limits or None) if limits else server.create("python")
        made.append(p)
        return p.start()
    yield make
    for p in made:
        p.delete()


def begin(project, *argv):
    """Starts a process and leaves it running; its id."""
    return project.post("/processes", {"command": list(argv)}, expect=201).json()["id"]


def output(project, pid, stream="stdout"):
    return project.get(f"/processes/{pid}/output", params={"stream": stream, "since": 0}).content


def ended(project, pid, timeout=60):
    def look():
        p = project.get(f"/processes/{pid}").json()
        return p if p["state"] == "exited" else None
    return wait_for(look, timeout, 0.05)


def test_memory(hostile):
    p = hostile(memory=96 * MIB)
    p.write("take.py", TAKE_MEMORY)
    code, out, _ = p.exec("python3", "take.py")
    assert out == "begin\n"
    assert code in (9, "KILL", "SIGKILL", 137), code
    stats = p.get("/stats").json()
    assert stats["memory"]["limit"] == 96 * MIB
    assert stats["memory"]["oom_kills"] >= 1
    assert stats["memory"]["used"] <= 96 * MIB
    # The program died, the sandbox did not.
    assert p.status()["state"] == "running"
    assert p.exec("echo", "alive") == (0, "alive\n", "")


def test_memory_of_a_tmpfs(hostile):
    """/dev/shm is memory: it counts, and it has an end."""
    p = hostile(memory=96 * MIB)
    p.exec("sh", "-c", "head -c 1G /dev/zero > /dev/shm/x; true")
    assert p.get("/stats").json()["memory"]["used"] <= 96 * MIB
    p.exec("sh", "-c", "rm -f /dev/shm/x")
    assert p.exec("echo", "alive") == (0, "alive\n", "")


def test_disk(server, hostile):
    p = hostile(disk=64 * MIB)
    code, _, err = p.exec("sh", "-c", "head -c 1G /dev/zero > big")
    assert code != 0 and re.search(FULL, err)
    disk = p.get("/stats").json()["disk"]
    assert disk["limit"] == 64 * MIB
    assert 40 * MIB < disk["used"] <= 64 * MIB
    # Nor is there room anywhere else: /tmp and the system are the project's, too.
    for path in ("/tmp/x", "/home/runner/x", "/var/tmp/x"):
        code, _, err = p.exec("sh", "-c", f"head -c 100M /dev/zero > {path}")
        assert code != 0 and re.search(FULL, err), path
        p.exec("rm", "-f", path)
    # The API says so as well, and a half-written file replaces nothing.
    p.exec("sh", "-c", "echo kept > small; sync small")
    kept = p.exec("cat", "small")[1]
    r = p.request("PUT", "/files/content", params={"path": "small"}, data=b"x" * (32 * MIB), expect=507)
    assert r.json()["code"] == "disk_full"
    assert p.exec("cat", "small")[1] == kept
    # What is full can be stopped, started again and emptied.
    p.stop()
    p.start()
    assert p.exec("rm", "big")[0] == 0
    assert p.exec("sh", "-c", "head -c 10M /dev/zero > again && sync again")[0] == 0


def test_full_of_files_by_the_api(server, hostile):
    p = hostile(disk=32 * MIB)
    r = p.request("PUT", "/files/content", params={"path": "big"}, data=b"x" * (64 * MIB), expect=507)
    assert r.json()["code"] == "disk_full"
    assert all(f["path"] != "big" for f in p.get("/files").json()["items"])
    # What was begun takes no room.
    assert p.exec("sh", "-c", "head -c 16M /dev/zero > other && sync other")[0] == 0


def test_the_hosts_disk_is_full():
    """The reserve is left alone, the message says what to do, and room on the disk is enough to go on."""
    s = repld.Server(volume_size="512M", volume_reserve="256M")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200m,mode=0700", "tmpfs", s.data], check=True)
    filler = os.path.join(s.data, "filler")
    try:
        s.start()
        running = s.create("python").start()
        stopped = s.create("python")
        with open(filler, "wb") as f:
            room = os.statvfs(s.data)
            os.posix_fallocate(f.fileno(), 0, room.f_bavail * room.f_bsize - 128 * MIB)
        r = s.post("projects", {"stack": "python"}, expect=507)
        assert r.json()["code"] == "disk_full" and "--volume-reserve" in r.json()["detail"], r.text
        # What runs goes on, and what is there can still be started and read.
        assert running.exec("echo", "alive") == (0, "alive\n", "")
        stopped.start()
        assert stopped.exec("true")[0] == 0
        os.unlink(filler)
        s.create("python").start()
    finally:
        s.close()


def test_inodes(hostile):
    p = hostile(disk=16 * MIB)
    p.write("fill.py", FILL_INODES)
    code, out, err = p.exec("python3", "fill.py", timeout=300)
    assert code == 0, err
    assert re.fullmatch(r"\d+ (EDQUOT|ENOSPC)\n", out), out
    assert int(out.split()[0]) > 1000
    assert p.get("/stats").json()["disk"]["used"] <= 16 * MIB
    assert p.exec("rm", "-r", "many", timeout=120)[0] == 0
    assert p.exec("sh", "-c", "echo again > f && cat f")[1] == "again\n"


def test_a_subvolume_is_no_way_round_the_disk_limit(hostile):
    p = hostile(disk=32 * MIB)
    p.write("subvolume.py", SUBVOLUME)
    code, out, err = p.exec("python3", "subvolume.py")
    assert code == 0, err
    if out == "made\n":
        code, _, err = p.exec("sh", "-c", "head -c 100M /dev/zero > mine/big")
        assert code != 0 and re.search(FULL, err)
    else:
        assert out.startswith("refused"), out
    assert p.get("/stats").json()["disk"]["used"] <= 32 * MIB


def test_fork_bomb(hostile):
    p = hostile(processes=50)
    begin(p, "bash", "-c", "f() { f | f & }; f; sleep 600")
    time.sleep(2)
    stats = p.get("/stats").json()
    assert stats["processes"]["limit"] == 50
    assert stats["processes"]["used"] <= 50
    begin_stop = time.monotonic()
    p.stop()
    assert time.monotonic() - begin_stop < 30
    p.start()
    assert p.exec("echo", "alive") == (0, "alive\n", "")


def test_processor_hogs(hostile, neighbour):
    p = hostile()
    for _ in range(4):
        begin(p, "python3", "-c", "while True: pass")
    time.sleep(1)
    before = p.get("/stats").json()["cpu"]
    began = time.monotonic()
    assert neighbour.exec("echo", "x")[1] == "x\n"
    assert time.monotonic() - began < 5
    assert p.body["limits"]["cpu"] == 0.5
    assert before["limit"] <= 2  # more only for the first seconds


def test_output_flood_of_a_process(server, hostile):
    p = hostile()
    gateway = server.role_pid("gateway")
    before = repld.resident_bytes(gateway)
    pid = begin(p, "yes", "a line that is printed for ever")
    time.sleep(3)
    during = repld.resident_bytes(gateway)
    assert p.get(f"/processes/{pid}").json()["state"] == "running"
    assert during - before < 32 * MIB, (before, during)
    kept = len(output(p, pid))
    assert 0 < kept <= 4 * MIB  # the newest of it, not all
    p.post(f"/processes/{pid}/signal", {"signal": "KILL"})
    ended(p, pid)


def test_output_flood_of_a_terminal_that_nobody_reads(server, hostile):
    p = hostile()
    gateway = server.role_pid("gateway")
    t = p.terminal(ack=False)
    t.send("yes flood\n")
    t.expect("flood")
    t.ws.sock.close()
    before = repld.resident_bytes(gateway)
    time.sleep(3)
    assert repld.resident_bytes(gateway) - before < 32 * MIB
    assert p.exec("pkill", "-9", "yes")[0] == 0


def test_a_program_that_ignores_signals(hostile):
    p = hostile()
    p.write("deaf.py", IGNORES_SIGTERM)
    pid = begin(p, "python3", "deaf.py")
    wait_for(lambda: b"deaf" in output(p, pid), 20)
    p.post(f"/processes/{pid}/signal", {"signal": "TERM"})
    time.sleep(0.5)
    assert p.get(f"/processes/{pid}").json()["state"] == "running"
    began = time.monotonic()
    p.stop()
    assert time.monotonic() - began < 30
    assert p.status()["state"] == "stopped"


def test_many_processes_that_end_at_once(hostile):
    """Orphans and zombies are init's to collect."""
    p = hostile(processes=60)
    for _ in range(5):
        assert p.exec("bash", "-c", "for i in $(seq 40); do (sleep 0.1 & ) ; done; wait")[0] == 0

    def few():
        return p.get("/stats").json()["processes"]["used"] <= 5
    wait_for(few, 20)


def test_open_files_have_an_end(hostile):
    p = hostile()
    code, out, _ = p.exec("python3", "-c", "import os\nf = []\ntry:\n    while len(f) < 3000000: f.append(os.open('/', 0))\n"
                                           "except OSError as e:\n    print(e.errno)\n")
    assert code == 0 and out == "24\n"  # EMFILE
