"""What user code may not do, tried from inside through the public API; and that its neighbours do not notice."""
import ctypes
import os
import re
import time

import pytest

from repld import wait_for

# Runs in the sandbox. Each line: what was tried, and the errno's name or "ok".
SYSCALLS = r"""
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
numbers = {"x86_64": dict(ptrace=101, mount=165, umount2=166, pivot_root=155, unshare=272, setns=308, keyctl=250,
                          add_key=248, bpf=321, perf_event_open=298, io_uring_setup=425, open_tree=428, fsopen=430,
                          clone=56, clone3=435, kill=62, init_module=175, chroot=161),
           "aarch64": dict(ptrace=117, mount=40, umount2=39, pivot_root=41, unshare=97, setns=268, keyctl=219,
                           add_key=217, bpf=280, perf_event_open=241, io_uring_setup=425, open_tree=428, fsopen=430,
                           clone=220, clone3=435, kill=129, init_module=105, chroot=51)}[platform.machine()]
def tell(name, r):
    print(name, "ok" if r >= 0 else errno.errorcode[ctypes.get_errno()], flush=True)
def call(name, *args, what=None):
    ctypes.set_errno(0)
    values = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in args]
    r = libc.syscall(ctypes.c_long(numbers[name]), *values)
    if name.startswith("clone") and r == 0 and os.getpid() != me:
        os._exit(0)
    tell(what or name, r)
me = os.getpid()
call("mount", b"none", b"/tmp", b"tmpfs", 0, 0)
call("umount2", b"/proc", 2)
call("pivot_root", b".", b".")
call("chroot", b"/")
call("unshare", 0x10000000, what="unshare-user")
call("unshare", 0x00020000, what="unshare-mount")
call("clone", 0x10000000 | 17, 0, 0, 0, 0, what="clone-user")
call("clone", 0x20000000 | 17, 0, 0, 0, 0, what="clone-pid")
call("clone3", 0, 0)
call("setns", 0, 0)
call("keyctl", 0, 0)
call("add_key", b"user", b"a", b"b", 1, -3)
call("bpf", 0, 0, 0)
call("perf_event_open", 0, 0, -1, -1, 0)
call("io_uring_setup", 8, 0)
call("open_tree", -100, b"/", 1)
call("fsopen", b"tmpfs", 0)
call("init_module", 0, 0, b"")
call("ptrace", 16, 1, 0, 0, what="ptrace-init")
call("kill", 1, 9, what="kill-init")
"""


def inside(project, script, timeout=60):
    code, out, err = project.exec("python3", "-c", script, timeout=timeout)
    assert code == 0, err
    return out


def shell(project, line, timeout=60):
    return project.exec("bash", "-c", line, timeout=timeout)


def still_works(project):
    assert shell(project, "echo alive")[:2] == (0, "alive\n")


@pytest.fixture
def neighbour(server):
    p = server.create("python").start()
    yield p
    server.request("DELETE", p.path, expect=[204, 404])


def test_system_calls_that_lead_out_are_refused(project):
    answers = dict(line.split() for line in inside(project, SYSCALLS).splitlines())
    assert len(answers) == 20
    assert answers.pop("clone3") == "ENOSYS"
    assert set(answers.values()) == {"EPERM"}, answers


def test_only_address_families_of_the_network_namespace_are_open(project):
    """AF_VSOCK (40) is in no namespace: it would lead past the network policy to the hypervisor and to neighbours."""
    out = inside(project, """
import errno, socket
for family in range(64):
    for kind in (1, 2, 3, 5):
        for make in (socket.socket, socket.socketpair):
            try:
                make(family, kind, 0)
                print(family, "ok", sep=":")
            except OSError as e:
                if e.errno != errno.EAFNOSUPPORT:
                    print(family, errno.errorcode[e.errno], sep=":")
""")
    assert {line.split(":")[0] for line in out.split()} == {"1", "2", "10", "16"}, out
    assert {"1:ok", "2:ok", "10:ok", "16:ok"} <= set(out.split())


def test_there_are_no_subvolumes_and_other_ioctls_work(project):
    """A subvolume needs no privilege, and is not in the project's quota on every kernel."""
    out = inside(project, """
import errno, fcntl, os, termios
app = os.open("/home/runner/app", os.O_RDONLY)
def tell(what, fd, request, argument):
    try:
        fcntl.ioctl(fd, request, argument)
        print(what, "ok")
    except OSError as e:
        print(what, errno.errorcode[e.errno])
tell("create", app, 0x5000940e, bytearray(b"\\0" * 8 + b"sub".ljust(4088, b"\\0")))
tell("create2", app, 0x50009418, bytearray(b"\\0" * 56 + b"sub2".ljust(4040, b"\\0")))
tell("sync", app, 0x80089418, bytearray(8))
with open("a", "wb") as a, open("b", "wb") as b:
    a.write(b"x" * 4096)
    a.flush()
    with open("a", "rb") as source:
        tell("clone", b.fileno(), 0x40049409, source.fileno())
print(os.path.getsize("b"), os.path.exists("sub"), os.path.exists("sub2"))
tell("pty", os.openpty()[0], termios.TIOCGWINSZ, bytearray(8))
tell("nonblocking", os.pipe()[0], 0x5421, bytearray(b"\\1\\0\\0\\0"))
""")
    assert out.splitlines() == ["create ENOSYS", "create2 ENOSYS", "sync ENOSYS", "clone ok", "4096 False False",
                                "pty ok", "nonblocking ok"]


def test_there_are_no_32_bit_system_calls(project):
    """What the filter says of arguments does not hold for them: socketcall hides its own behind a pointer."""
    if os.uname().machine != "x86_64":
        return  # the instruction is one of x86
    code, out, _ = project.exec("python3", "-c", """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("5389f889f389d1cd805bc3"))  # int f(nr, a, b) by int $0x80
call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)(
    ctypes.addressof(ctypes.c_char.from_buffer(page)))
print(call(20, 0, 0), call(102, 1, 0), flush=True)  # getpid, socketcall
""")
    assert (code, out) == (0, "-38 -38\n") or code in ("SIGSEGV", 139), (code, out)


def test_the_usual_tools_for_it_fail(project):
    for line in ("mount -t tmpfs none /tmp", "unshare --user --map-root-user true", "unshare --mount true",
                 "nsenter --target 1 --mount true", "chroot / true", "mknod /tmp/disk b 8 0",
                 "ip link add dummy0 type dummy", "hostname other", "su -c true", "kill -9 1",
                 "echo 1 > /proc/sys/kernel/panic", "echo b > /proc/sysrq-trigger",
                 "echo 100 > /proc/sys/user/max_user_namespaces", "echo -1000 > /proc/self/oom_score_adj",
                 "touch /file", "touch /dev/file", "echo x >> /etc/passwd", "echo 1 > /sys/kernel/profiling"):
        code, _, _ = shell(project, line)
        assert code != 0, line
    still_works(project)


def test_it_has_no_privilege_and_cannot_gain_any(project):
    status = dict(re.findall(r"(\w+):\s+(\S+)", shell(project, "cat /proc/self/status")[1]))
    assert status["Uid"] == "1000" and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert all(int(status[c], 16) == 0 for c in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
    # A set-user-ID program of the environment does not change the user.
    code, out, _ = shell(project, "f=$(find /usr/bin /bin -perm -4000 -user root 2>/dev/null | head -1); "
                                  "cp /usr/bin/id ~/id && chmod 4755 ~/id && ~/id -u; echo \"found $f\"")
    assert code == 0 and out.startswith("1000\n")
    mounts = shell(project, "cat /proc/self/mountinfo")[1].splitlines()
    for point in ("/", "/home/runner/app"):
        options = [m.split()[5] for m in mounts if m.split()[4] == point]
        assert options and all({"nosuid", "nodev"} <= set(o.split(",")) for o in options), mounts


def test_it_sees_itself_only(project, server):
    names = shell(project, "cat /proc/[0-9]*/comm")[1].split()
    assert names[0] == "repld-init" and set(names) <= {"repld-init", "repld-files", "bash", "cat"}, names
    assert "repld serve" not in shell(project, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")[1]
    assert shell(project, "hostname")[1] == "repld\n"
    # Neither the host's disks nor its interfaces, nor another project.
    devices = set(shell(project, "ls /dev")[1].split())
    assert devices <= {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr",
                       "stdin", "stdout", "tty", "urandom", "zero"}, devices
    assert shell(project, "ls /sys/class/net")[1] == ""
    assert server.data not in shell(project, "cat /proc/self/mountinfo /proc/self/mounts")[1]
    assert shell(project, "ls /home /home/runner")[1] == "/home:\nrunner\n\n/home/runner:\napp\n"


def test_init_and_its_socket_are_out_of_reach(project):
    for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/fd/", "/proc/1/root/", "/proc/1/cwd/",
                 "/proc/1/syscall", "/proc/1/stack"):
        code, out, _ = shell(project, f"ls {path}. 2>/dev/null; cat {path} 2>/dev/null | head -c 100")
        assert out == "", path
    assert shell(project, "find / -xdev -type s 2>/dev/null; find /run /tmp /dev -type s 2>/dev/null")[1] == ""
    assert "init" not in shell(project, "cat /proc/net/unix")[1]
    # What init starts inherits none of its descriptors.
    assert inside(project, "import os; print(sorted(int(f) for f in os.listdir('/proc/self/fd') if f.isdigit())[:-1])"
                  ) == "[0, 1, 2]\n"


def test_nested_user_namespaces_are_off_even_without_the_filter(project):
    """The sysctl of the sandbox's own user namespace, beside seccomp."""
    assert shell(project, "cat /proc/sys/user/max_user_namespaces")[1] == "0\n"


def test_a_debugger_of_its_own_processes_works(project):
    code, out, err = project.exec("python3", "-c", """
import ctypes, os, signal
libc = ctypes.CDLL(None)
pid = os.fork()
if pid == 0:
    libc.ptrace(0, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(3)
_, status = os.waitpid(pid, 0)
assert os.WIFSTOPPED(status)
libc.ptrace(7, pid, 0, 0)
print(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
""")
    assert (code, out) == (0, "3\n"), err


def test_memory_ends_at_the_limit(project, neighbour, server):
    limit = project.get("/stats").json()["memory"]["limit"]
    begin = time.monotonic()
    code, out, _ = project.exec("python3", "-c", """
held = []
while True:
    held.append(bytearray(b"x") * (1 << 20))
    print(len(held), flush=True)
""", timeout=120)
    assert code in ("SIGKILL", 9, -9, 137), code
    assert 0 < int(out.split()[-1]) <= limit >> 20
    assert time.monotonic() - begin < 60
    still_works(project)
    still_works(neighbour)
    server.get("/health")


INOTIFY = """
import ctypes, time
libc = ctypes.CDLL(None)
made = 0
while made < 10000 and libc.inotify_init() >= 0:
    made += 1
print(made, flush=True)
"""


def test_inotify_is_not_used_up_for_the_others(project, neighbour, server):
    """The kernel counts it against the host's root for all sandboxes: each needs a bound of its own."""
    pid = start_process(project, "python3", "-c", INOTIFY + "time.sleep(1000)")
    wait_for(lambda: project.get(f"/processes/{pid}/output").text, 30)
    assert int(project.get(f"/processes/{pid}/output").text) == 128
    assert inside(neighbour, INOTIFY) == "128\n"
    mine = ctypes.CDLL(None).inotify_init()
    assert mine >= 0, "the host's root has none left"
    os.close(mine)


def test_pseudoterminals_are_not_used_up_for_the_others(project, neighbour):
    """The kernel has 3,072 for all sandboxes together."""
    pid = start_process(project, "python3", "-c", """
import os, time
held = []
try:
    while len(held) < 5000:
        held.append(os.openpty())
except OSError:
    pass
print(len(held), flush=True)
time.sleep(1000)
""")
    wait_for(lambda: project.get(f"/processes/{pid}/output").text, 30)
    assert int(project.get(f"/processes/{pid}/output").text) <= 128
    t = neighbour.terminal()
    assert "works" in t.run("echo works")
    t.close()


def test_asynchronous_input_output_is_not_used_up_for_the_machine(project):
    """fs.aio-max-nr is one number for the machine, and one sandbox could take all of it: there is no io_setup inside."""
    number = {"x86_64": 206, "aarch64": 0}[os.uname().machine]
    assert inside(project, f"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
context = ctypes.c_ulong(0)
print(libc.syscall({number}, 1000, ctypes.byref(context)), errno.errorcode[ctypes.get_errno() or 1])
""") == "-1 ENOSYS\n"


def test_pending_signals_are_bounded(project):
    """As inotify: 96,000 of one sandbox would be all that the host's root has."""
    assert shell(project, "ulimit -i")[1] == "4096\n"


def start_process(project, *argv):
    return project.post("/processes", {"command": list(argv)}, expect=201).json()["id"]


def test_a_fork_bomb_stays_in_its_sandbox(project, neighbour, server):
    limit = project.get("/stats").json()["processes"]["limit"]
    start_process(project, "bash", "-c", ":(){ :|:& };:; sleep 1000")
    wait_for(lambda: project.get("/stats").json()["processes"]["used"] >= limit * 0.8, 30)
    for _ in range(5):
        assert project.get("/stats").json()["processes"]["used"] <= limit
        begin = time.monotonic()
        still_works(neighbour)
        assert time.monotonic() - begin < 5
        server.get("/health")
    begin = time.monotonic()
    project.stop()
    assert time.monotonic() - begin < 30
    project.start()
    still_works(project)


def test_a_busy_loop_takes_its_share_only(server, neighbour):
    project = server.create("python").start()
    project.request("PATCH", "", json={"limits": {"cpu": 0.25}})
    time.sleep(0.5)
    for _ in range(4):
        start_process(project, "bash", "-c", "while :; do :; done")
    time.sleep(1)

    def used():
        return project.get("/stats").json()["cpu"]["used"]
    before, begin = used(), time.monotonic()
    time.sleep(3)
    share = (used() - before) / (time.monotonic() - begin)
    assert share < 0.25 * 1.3, share
    begin = time.monotonic()
    still_works(neighbour)
    assert time.monotonic() - begin < 5
    project.delete()


def test_a_program_that_ignores_sigterm_is_stopped_without_a_trace(server):
    project = server.create("python").start()
    for _ in range(3):
        start_process(project, "bash", "-c", "trap '' TERM HUP INT; (trap '' TERM HUP; sleep 1000) & "
                                             "while :; do sleep 100; done")
    time.sleep(0.3)
    begin = time.monotonic()
    project.stop()
    assert time.monotonic() - begin < 30
    assert not server.traces()
    project.delete()


def test_a_filled_tmp_is_empty_the_next_time(project):
    assert shell(project, "for i in $(seq 200); do mkdir -p /tmp/d$i/e && echo x > /tmp/d$i/e/f; done; "
                          "mkdir ~/kept; ls /tmp | wc -l")[1] == "200\n"
    project.stop()
    project.start()
    assert shell(project, "ls -A /tmp | wc -l; ls -d ~/kept")[1] == "0\n/home/runner/kept\n"


def test_links_in_place_of_mount_points_hurt_only_the_project(server, neighbour):
    """A user owns his home; the mount points below it are looked up without following links."""
    project = server.create("python").start()
    code, _, _ = shell(project, "mv ~/app ~/other || rmdir ~/app")
    assert code != 0  # it is mounted
    shell(project, "ln -sf /etc ~/link; ln -sf / ~/root")
    project.stop()
    project.start()
    still_works(project)
    still_works(neighbour)
    project.delete()
    assert os.path.isdir("/etc")
