"""A project's life: start, stop, run, idle, crash, adoption, reboot."""
import concurrent.futures
import contextlib
import json
import os
import signal
import threading
import time

import pytest
import requests

import repld
from repld import wait_for

SERVER = """\
import http.server, os, sys
print("greeting", os.environ.get("GREETING"), "port", os.environ.get("PORT"), flush=True)
http.server.test(HandlerClass=http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


class Events:
    """A client of …/events that keeps everything; a thread of its own reads."""

    def __init__(self, project):
        self.messages = []
        self.changed = threading.Condition()
        self.close_code = None
        self.ws = project.server.websocket(f"{project.path}/events")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(Exception):
            while True:
                opcode, data = self.ws.recv_data()
                with self.changed:
                    if opcode == 8:
                        self.close_code = int.from_bytes(data[:2], "big")
                    else:
                        self.messages.append(json.loads(data))
                    self.changed.notify_all()
                if opcode == 8:
                    return

    def of(self, kind):
        return [m for m in self.messages if m["type"] == kind]

    def wait(self, condition, timeout=30):
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), timeout), self.messages[-10:]

    def close(self):
        self.ws.close()


@pytest.fixture
def runner(server):
    """Makes a python project that runs a command of the test's own; deleted afterwards."""
    made = []

    def make(command, on=None, **body):
        p = (on or server).create("python", run_command=command, **body)
        if not on:
            made.append(p)
        return p
    yield make
    for p in made:
        server.request("DELETE", p.path, expect=[204, 404])


def web(runner, port=9000, **body):
    body.setdefault("files", {})["server.py"] = SERVER
    return runner(f"python3 server.py {port}", **body)


def inits(server):
    """The pids of process 1 of each sandbox of this server."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/comm") as f:
                if f.read().strip() != "repld-init":
                    continue
            with open(f"/proc/{pid}/cgroup") as f:
                if f"/{server.settings['cgroup_root']}/" in f.read():
                    found.append(int(pid))
    return found


def sandbox_of(project):
    return project.status().get("sandbox", {}).get("id")


# ---- start and stop ----

def test_start_and_stop_are_idempotent(stopped_project):
    p = stopped_project
    assert p.status()["state"] == "stopped" and p.status()["run"] == {"state": "idle"}
    assert p.post("/stop").status_code == 200
    r = p.post("/start")
    assert r.status_code in (200, 202) and r.json()["state"] in ("starting", "running")
    r = p.post("/start?wait=30")
    assert r.status_code == 200 and r.json()["state"] == "running"
    assert set(r.json()["sandbox"]) == {"id", "driver", "started_at", "warm"}
    assert p.get().json()["state"] == "running"
    first = sandbox_of(p)
    assert p.post("/start").status_code == 200 and sandbox_of(p) == first
    assert p.post("/stop?wait=30").status_code == 200
    status = p.status()
    assert status["state"] == "stopped" and "sandbox" not in status
    assert p.post("/stop").status_code == 200
    for bad in ("x", "-1", "301", "1.5", ""):
        p.post(f"/start?wait={bad}", expect=400)
    assert p.status()["state"] == "stopped"


def test_concurrent_starts_join(stopped_project):
    p = stopped_project

    def start(_):
        return requests.post(f"{p.server.url}{p.path}/start?wait=60", timeout=90).json()["sandbox"]["id"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1


def test_stop_during_a_start(stopped_project):
    p = stopped_project
    for _ in range(5):
        p.post("/start")
        assert p.post("/stop?wait=30").json()["state"] == "stopped"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for pause in (0.003, 0.006, 0.01, 0.02):
            waiting = pool.submit(requests.post, f"{p.server.url}{p.path}/start?wait=60", timeout=90)
            time.sleep(pause)
            p.post("/stop?wait=30")
            assert waiting.result().status_code in (200, 409)  # whichever came first
            p.stop()
    p.start()


def test_restart_gives_a_new_sandbox(project):
    before = sandbox_of(project)
    r = project.post("/restart?wait=60")
    assert r.status_code == 200 and r.json()["state"] == "running"
    assert r.json()["sandbox"]["id"] != before


def test_files_do_not_start_a_project(stopped_project):
    stopped_project.write("note.txt", "x")
    assert stopped_project.read("note.txt") == b"x"
    assert stopped_project.status()["state"] == "stopped"
    assert stopped_project.post("/stop").status_code == 200
    stopped_project.start()
    assert stopped_project.read("note.txt") == b"x"


def test_limits_change_while_it_runs(project):
    project.request("PATCH", "", json={"limits": {"memory": 100 << 20, "processes": 33}})
    stats = project.get("/stats").json()
    assert stats["memory"]["limit"] == 100 << 20 and stats["processes"]["limit"] == 33
    assert stats["memory"]["used"] > 0 and stats["disk"]["limit"] > stats["disk"]["used"] > 0


# ---- starts that cannot be ----

def test_an_environment_that_is_not_built(new_server, tmp_path):
    s = new_server(environments_dir=str(tmp_path))
    r = s.post("projects", {"stack": "python"}, expect=503)
    assert r.json()["code"] == "environment_missing" and "repld stack build" in r.json()["detail"]
    assert s.projects() == [] and not s.traces()


def test_a_runtime_that_is_missing(new_server):
    s = repld.Server(oci_runtime="/no/such/runtime")
    try:
        with pytest.raises(AssertionError):
            s.start(timeout=3)
        assert s.get("/ready", expect=503).json()["detail"]
        r = s.post("projects", {"stack": "python"}, expect=503)
        assert r.json()["code"] == "runtime_unavailable" and "/no/such/runtime" in r.json()["detail"], r.text
        assert s.projects() == [] and s.get("/health").json()["status"] == "ok"
    finally:
        s.close()


# ---- run ----

def test_run_and_its_ports(runner):
    p = web(runner, env={"GREETING": "hello"})
    assert p.post("/run?wait=60").json()["run"]["state"] == "running"
    port = p.wait_port(9000)
    assert port["address"] == "127.0.0.1"
    assert port["url"] == f"http://9000-{p.id}.localhost:{p.server.port}/"
    assert "greeting hello port 8000" in p.logs()
    started = p.status()["run"]["started_at"]
    assert p.post("/run").status_code == 200 and p.status()["run"]["started_at"] == started
    assert p.post("/run/stop?wait=30").status_code == 200
    run = p.status()["run"]
    assert run["state"] == "exited" and run["signal"] == signal.SIGTERM
    wait_for(lambda: p.get("/ports").json()["items"] == [], 10)
    assert p.status()["state"] == "running"
    assert p.post("/run/stop").status_code == 200
    p.stop()
    assert p.status()["run"] == {"state": "idle"} and p.get("/ports").json()["items"] == []


def test_a_run_command_that_ends(runner):
    p = runner("""sh -c 'echo out; echo err >&2; exit 3'""")
    p.post("/run?wait=60")
    run = p.wait_run("exited", timeout=20)["run"]
    assert run["exit_code"] == 3 and "signal" not in run
    logs = p.logs()
    assert "out\n" in logs and "err\n" in logs


def test_a_run_command_for_a_shell(runner):
    p = runner("A=1 && echo \"got $A\" | tr a-z A-Z")
    p.post("/run?wait=60")
    p.wait_run("exited", timeout=20)
    assert "GOT 1" in p.logs()


@pytest.mark.parametrize("command", ["no-such-program --flag", "/etc/passwd", "./missing.sh"])
def test_a_run_command_that_does_not_exist(runner, command):
    p = runner(command)
    r = p.post("/run?wait=60", expect=409)
    assert r.json()["code"] == "conflict" and "could not be started" in r.json()["detail"]
    run = p.status()["run"]
    assert run["state"] == "failed" and ("No such file" in run["reason"] or "Permission" in run["reason"]), run
    assert "could not be started" in p.logs()
    p.request("PATCH", "", json={"run_command": "echo fixed"})
    p.post("/run?wait=60")
    p.wait_run("exited", timeout=20)
    assert "fixed" in p.logs()


def test_a_run_command_that_eats_its_memory(runner):
    p = runner("python3 eat.py", files={"eat.py": "b = []\nwhile True: b.append(bytearray(1 << 20))\n"},
               limits={"memory": 64 << 20})
    p.post("/run?wait=60")
    run = p.wait_run("exited", timeout=60)["run"]
    assert run["signal"] == signal.SIGKILL and "out of memory" in run["reason"] and "64 MiB" in run["reason"], run
    assert p.status()["state"] == "running"


def test_a_program_that_ignores_sigterm_is_killed(runner):
    p = runner("""sh -c 'trap "" TERM INT HUP; while true; do sleep 1; done'""")
    p.post("/run?wait=60")
    began = time.monotonic()
    assert p.post("/stop?wait=60").json()["state"] == "stopped"
    assert time.monotonic() - began < 20


def test_a_run_while_it_stops(runner):
    p = web(runner)
    for _ in range(3):
        p.post("/run?wait=60")
        p.post("/stop")
        assert p.post("/run?wait=60").json()["run"]["state"] == "running"
        p.wait_port(9000)


def test_the_reference_systems_run(runner):
    p = web(runner)
    body = p.server.post(f"run/{p.id}").json()
    assert body["message"] == "Project running" and body["container"] == body["containerName"] == f"repl-{p.id}"
    p.wait_port(9000)


# ---- events ----

def test_events(runner):
    p = web(runner)
    e = Events(p)
    e.wait(lambda e: e.of("presence"))
    assert e.of("state")[0]["status"]["state"] == "stopped" and e.of("ports")[0]["items"] == []
    other = Events(p)
    e.wait(lambda e: e.of("presence")[-1]["count"] == 2)
    other.close()
    e.wait(lambda e: e.of("presence")[-1]["count"] == 1)
    p.post("/run?wait=60")
    e.wait(lambda e: any(i["port"] == 9000 for m in e.of("ports") for i in m["items"]))
    e.wait(lambda e: e.of("stats"), 10)
    assert {"cpu", "memory", "processes", "disk", "network"} <= set(e.of("stats")[-1]["stats"])
    p.request("PATCH", "", json={"name": "seen"})
    e.wait(lambda e: any(m["project"]["name"] == "seen" for m in e.of("project")))
    p.stop()
    e.wait(lambda e: e.of("state")[-1]["status"]["state"] == "stopped")
    states = [m["status"]["state"] for m in e.of("state")]
    assert states == ["stopped", "starting", "running", "stopping", "stopped"], states
    assert "running" in [m["status"]["run"]["state"] for m in e.of("run")]
    p.delete()
    e.wait(lambda e: e.close_code == 4404)


def test_events_of_many_sockets_and_of_bad_ones(project):
    sockets = [Events(project) for _ in range(20)]
    sockets[0].wait(lambda e: e.of("presence")[-1]["count"] == 20)
    sockets[1].ws.send("{" * 1000)
    sockets[2].ws.send_binary(b"\xff" * 1000)
    sockets[3].ws.send("x" * 100000)
    sockets[3].wait(lambda e: e.close_code == 1009)
    sockets[0].wait(lambda e: e.of("presence")[-1]["count"] == 19)
    for s in sockets:
        s.close()


# ---- idle ----

def test_an_idle_project_stops_and_a_watched_one_does_not(runner):
    p = runner("sleep 1000", idle_timeout=2)
    p.post("/run?wait=60")
    e = Events(p)
    time.sleep(4)
    assert p.status()["state"] == "running"
    e.close()
    wait_for(lambda: p.status()["state"] == "stopped", 15)
    assert "idle" in p.status()["reason"]


def test_output_keeps_a_project_awake(runner):
    p = runner("sh -c 'while true; do echo tick; sleep 0.5; done'", idle_timeout=2)
    p.post("/run?wait=60")
    time.sleep(5)
    assert p.status()["state"] == "running"


# ---- crashes ----

def test_a_sandbox_that_dies(new_server):
    s = new_server()
    p = s.create("python").start()
    [init] = inits(s)
    os.kill(init, signal.SIGKILL)
    wait_for(lambda: p.status()["state"] == "failed", 20)
    assert p.status()["reason"]
    assert not s.traces()
    p.start()
    assert "reason" not in p.status()


def test_always_on_restarts_its_command_with_growing_pauses(runner):
    p = runner("sh -c 'date +at:%s.%N; exit 1'", always_on=True)
    p.post("/run?wait=60")

    def times():
        return [float(x.split("at:")[1]) for x in p.get("/logs?since=0").text.splitlines() if x.startswith("at:")]
    wait_for(lambda: len(times()) >= 4, 40)
    at = times()
    gaps = [b - a for a, b in zip(at, at[1:])]
    assert 0.9 <= gaps[0] < 3 and gaps[1] >= 1.9 and gaps[2] >= 3.9, gaps
    p.post("/run/stop?wait=30")
    n = len(times())
    time.sleep(3)
    assert len(times()) == n and p.status()["run"]["state"] != "running"


def test_always_on_restarts_its_sandbox(new_server, runner):
    s = new_server()
    p = web(runner, on=s, always_on=True)
    p.post("/run?wait=60")
    p.wait_port(9000)
    before = sandbox_of(p)
    os.kill(inits(s)[0], signal.SIGKILL)
    wait_for(lambda: sandbox_of(p) not in (None, before), 30)
    p.wait_run("running", timeout=30)
    p.wait_port(9000)


@pytest.mark.parametrize("roles", [("gateway",), ("orchestrator",), ("gateway", "orchestrator"), ("all",)],
                         ids=["gateway", "orchestrator", "both", "everything"])
def test_kill_9_and_adoption(new_server, runner, roles):
    s = new_server()
    p = web(runner, on=s)
    p.post("/run?wait=60")
    p.wait_port(9000)
    before = p.status()
    stopped = s.create("python")
    if roles == ("all",):
        s.kill_all()
        s.start()
    else:
        s.kill(*roles)
        time.sleep(0.05)
        s.wait_ready()
    after = p.status()
    assert after["state"] == "running" and after["sandbox"]["id"] == before["sandbox"]["id"], after
    assert after["run"] == before["run"]
    assert p.wait_port(9000)
    assert stopped.status()["state"] == "stopped"
    assert p.post("/run/stop?wait=30").json()["run"]["state"] == "exited"
    p.post("/run?wait=60")
    p.wait_port(9000)
    p.stop()
    stopped.start()


def test_a_stop_of_the_server_leaves_sandboxes_running(new_server, runner):
    s = new_server()
    p = web(runner, on=s)
    p.post("/run?wait=60")
    p.wait_port(9000)
    before = p.status()
    e = Events(p)
    e.wait(lambda e: e.of("presence"))
    s.stop()
    e.wait(lambda e: e.close_code == 1001, 5)
    assert inits(s)
    s.start()
    after = p.status()
    assert after["sandbox"]["id"] == before["sandbox"]["id"] and after["run"] == before["run"]


def test_a_command_that_ended_while_the_server_was_away(new_server, runner):
    s = new_server()
    p = runner("sh -c 'sleep 3; echo done; exit 5'", on=s)
    p.post("/run?wait=60")
    s.kill_all()
    time.sleep(4)
    s.start()
    run = p.wait_run("exited", timeout=10)["run"]
    assert run["exit_code"] == 5
    assert "done" in p.logs()


def test_a_record_whose_sandbox_is_gone_says_stopped(new_server):
    s = new_server()
    p = s.create("python").start()
    pids = inits(s)
    s.kill_all()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    s.start()
    status = p.status()
    assert status["state"] == "stopped" and "sandbox" not in status and status["reason"]
    wait_for(lambda: not s.traces(), 20)
    p.start()


def test_a_sandbox_whose_record_is_gone_is_reaped(new_server):
    s = new_server()
    p = s.create("python").start()
    assert len(inits(s)) == 1
    s.stop()
    for name in os.listdir(f"{s.data}/gateway"):
        os.unlink(f"{s.data}/gateway/{name}")
    s.start()
    s.get(f"projects/{p.id}", expect=404)
    wait_for(lambda: not s.traces() and not inits(s), 20)


def test_after_a_reboot(new_server, runner):
    s = new_server(boot_id="11111111-1111-1111-1111-111111111111")
    plain = s.create("python").start()
    always = web(runner, on=s, always_on=True)
    always.post("/run?wait=60")
    always.wait_port(9000)
    pids = inits(s)
    s.kill_all()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    s.settings["boot_id"] = "22222222-2222-2222-2222-222222222222"
    s.start()
    status = plain.status()
    assert status["state"] == "stopped" and "restarted" in status["reason"]
    wait_for(lambda: always.status()["state"] == "running", 30)
    always.wait_run("running", timeout=30)
    always.wait_port(9000)


def test_what_a_dying_server_left_half_made_is_removed(new_server):
    s = new_server()
    for round in range(3):
        stop = threading.Event()

        def make():
            while not stop.is_set():
                with contextlib.suppress(requests.RequestException):
                    requests.post(f"{s.url}/api/v1/projects", json={"stack": "python"}, timeout=10)
        threads = [threading.Thread(target=make) for _ in range(4)]
        for t in threads:
            t.start()
        time.sleep(0.3 + 0.1 * round)
        s.kill_all()
        stop.set()
        for t in threads:
            t.join()
        s.start()
    listed = {p["id"] for p in s.projects()}

    def volumes():
        directory = f"{s.data}/volumes"
        return {d for d in os.listdir(directory) if len(d) == 16}
    wait_for(lambda: volumes() == listed, 20)
    wait_for(lambda: not inits(s), 40)
