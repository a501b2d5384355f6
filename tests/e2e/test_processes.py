"""Commands without a terminal, the log of the run command, and their sockets."""
import hashlib
import json
import os
import re
import threading
import time

import pytest
import websocket

from repld import wait_for


class Socket:
    """A client of one process."""

    def __init__(self, project, pid, query=""):
        self.ws = project.server.websocket(f"{project.path}/processes/{pid}{query}")
        self.out = {1: b"", 2: b""}
        self.control = []
        self.code = None

    def read(self, until=None, timeout=20):
        self.ws.settimeout(timeout)
        while self.code is None and not (until and until()):
            opcode, data = self.ws.recv_data()
            if opcode == websocket.ABNF.OPCODE_BINARY:
                self.out[data[0]] += data[1:]
            elif opcode == websocket.ABNF.OPCODE_TEXT:
                self.control.append(json.loads(data))
            elif opcode == websocket.ABNF.OPCODE_CLOSE:
                self.code = int.from_bytes(data[:2], "big")
        return self

    def last(self, kind):
        return next((c for c in reversed(self.control) if c["type"] == kind), None)


def spawn(project, command, expect=201, **body):
    r = project.post("/processes", {"command": command, **body}, expect=expect)
    return r.json()


def ended(project, pid):
    return wait_for(lambda: (lambda p: p if p["state"] == "exited" else None)(project.get(f"/processes/{pid}").json()))


# ---- commands ----

def test_a_command_and_its_output(project):
    code, out, err = project.exec("sh", "-c", "echo to stdout; echo to stderr >&2; exit 3")
    assert (code, out, err) == (3, "to stdout\n", "to stderr\n")


def test_arguments_are_passed_as_they_are(project):
    nasty = ["$(id)", "`id`", "; rm -rf /", "a b", "", "\n", "'\"\\", "é漢😀", "-n"]
    code, out, _ = project.exec("python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *nasty)
    assert code == 0 and json.loads(out) == nasty


def test_a_text_runs_in_the_sandboxs_own_shell(project):
    p = spawn(project, "echo $((6*7)) $(id -u) | tr 2 x")
    ended(project, p["id"])
    assert project.get(f"/processes/{p['id']}/output").content == b"4x 1000\n"


def test_cwd_env_and_merge(project):
    project.request("POST", "/processes", json={"command": ["mkdir", "-p", "sub/dir"]}, expect=201)
    wait_for(lambda: project.exec("test", "-d", "sub/dir")[0] == 0)
    body = {"cwd": "sub/dir", "env": {"GREETING": "hello you", "EMPTY": ""}, "merge": True}
    p = spawn(project, "pwd; echo $GREETING-${EMPTY-unset} >&2; echo $HOME", **body)
    ended(project, p["id"])
    text = project.get(f"/processes/{p['id']}/output").text
    assert text == "/home/runner/app/sub/dir\nhello you-\n/home/runner\n"
    p = spawn(project, ["pwd"], cwd="/tmp")
    ended(project, p["id"])
    assert project.get(f"/processes/{p['id']}/output").text == "/tmp\n"


def test_the_list_and_the_shape(project):
    r = project.post("/processes", {"command": ["sleep", "1000"]}, expect=201)
    p = r.json()
    assert r.headers["location"] == f"{project.path}/processes/{p['id']}"
    assert p["state"] == "running" and p["command"] == "sleep 1000" and p["kind"] == "command"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", p["started_at"])
    assert p["id"] in [x["id"] for x in project.get("/processes").json()["items"]]
    project.request("DELETE", f"/processes/{p['id']}", expect=204)
    project.request("GET", f"/processes/{p['id']}", expect=404)
    wait_for(lambda: "sleep 1000" not in project.exec("ps", "-eo", "args")[1])


def test_signals(project):
    p = spawn(project, "trap 'exit 9' USR1; echo on; while :; do sleep 0.05; done")
    wait_for(lambda: project.get(f"/processes/{p['id']}/output").content)
    r = project.post(f"/processes/{p['id']}/signal", {"name": "NOPE"}, expect=400)
    assert r.json()["errors"][0]["pointer"] == "/name"
    project.post(f"/processes/{p['id']}/signal", {"name": "USR1"}, expect=204)
    assert ended(project, p["id"])["exit_code"] == 9
    project.post(f"/processes/{p['id']}/signal", {"name": "USR1"}, expect=409)
    p = spawn(project, ["sleep", "1000"])
    project.post(f"/processes/{p['id']}/signal", {}, expect=204)
    q = ended(project, p["id"])
    assert q["exit_code"] is None and q["signal"] == 15


def test_who_ignores_sigterm_is_killed(project):
    p = spawn(project, "trap '' TERM HUP INT; echo deaf; while :; do sleep 0.07; done")
    wait_for(lambda: project.get(f"/processes/{p['id']}/output").content)
    project.request("DELETE", f"/processes/{p['id']}", expect=204)
    wait_for(lambda: "sleep 0.07" not in project.exec("ps", "-eo", "args")[1], 10)


def test_output_by_offset(project):
    p = spawn(project, "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done")
    text, offset = b"", 0
    while True:
        r = project.get(f"/processes/{p['id']}/output", params={"since": offset, "wait": 5})
        assert int(r.headers["x-offset"]) == offset
        text += r.content
        offset = int(r.headers["x-next-offset"])
        assert offset == len(text)
        if r.headers["x-ended"] == "true":
            break
    assert text == b"".join(b"line %d\n" % i for i in range(1, 6))
    project.get(f"/processes/{p['id']}/output?stream=stdin", expect=400)
    project.get(f"/processes/{p['id']}/output?since=x", expect=400)


def test_a_long_poll_ends_without_output(project):
    p = spawn(project, ["sleep", "1000"])
    began = time.monotonic()
    r = project.get(f"/processes/{p['id']}/output?wait=1")
    assert 0.9 < time.monotonic() - began < 5 and r.content == b"" and r.headers["x-ended"] == "false"
    threading.Timer(0.3, lambda: project.request("DELETE", f"/processes/{p['id']}")).start()
    assert project.get(f"/processes/{p['id']}/output?wait=30", expect=[200, 404]).elapsed.total_seconds() < 10


def test_more_output_than_is_kept(project):
    p = spawn(project, "seq 1 500000")
    ended(project, p["id"])
    r = project.get(f"/processes/{p['id']}/output?since=0")
    assert int(r.headers["x-offset"]) > 0
    assert r.content.endswith(b"\n499999\n500000\n") and len(r.content) > 100_000


# ---- the socket ----

def test_three_streams_over_a_socket(project):
    p = spawn(project, "echo oops >&2; tr a-z A-Z", stdin=True)
    s = Socket(project, p["id"])
    s.read(lambda: s.last("hello"))
    s.ws.send_binary(b"\0hello ")
    s.ws.send_binary(b"\0world\n")
    s.ws.send(json.dumps({"type": "eof"}))
    s.read()
    assert s.out == {1: b"HELLO WORLD\n", 2: b"oops\n"}
    assert s.last("exit") == {"type": "exit", "code": 0, "signal": None} and s.code == 1000


def test_a_large_input_is_paced(project):
    data = os.urandom(1 << 20) * 3
    p = spawn(project, "sleep 0.3; sha256sum", stdin=True)
    s = Socket(project, p["id"])
    s.read(lambda: s.last("hello"))
    reader = threading.Thread(target=s.read, daemon=True)
    reader.start()
    paused = 0
    for i in range(0, len(data), 32768):
        s.ws.send(json.dumps({"type": "ping"}))  # a good client: it hears of a pause before it sends more
        wait_for(lambda i=i: sum(c["type"] == "pong" for c in s.control) > i // 32768, interval=0.001)
        while [c["type"] for c in s.control if c["type"] in ("pause", "resume")][-1:] == ["pause"]:
            assert s.code is None
            paused += 1
            time.sleep(0.005)
        s.ws.send_binary(b"\0" + data[i:i + 32768])
    s.ws.send(json.dumps({"type": "eof"}))
    reader.join(30)
    assert s.out[1].split()[0].decode() == hashlib.sha256(data).hexdigest() and paused


def test_a_socket_that_comes_late_and_one_that_resumes(project):
    p = spawn(project, "echo first; echo second; exit 4")
    ended(project, p["id"])
    s = Socket(project, p["id"]).read()
    assert s.out[1] == b"first\nsecond\n" and s.last("exit")["code"] == 4
    s = Socket(project, p["id"], "?since=6").read()
    assert s.out[1] == b"second\n"


def test_socket_errors(project):
    p = spawn(project, ["sleep", "1000"])
    s = Socket(project, p["id"])
    s.read(lambda: s.last("hello"))
    for frame in (b"", b"\1x", b"\0typed without a stdin"):
        before = len(s.control)
        s.ws.send_binary(frame)
        s.read(lambda before=before: len(s.control) > before)
        assert s.control[-1]["type"] == "error"
    s.ws.send(json.dumps({"type": "signal", "name": "KILL"}))
    s.read()
    assert s.last("exit")["signal"] == 9
    assert Socket(project, "ffffffffffffffff").read().code == 4404


@pytest.mark.parametrize("body, pointer", [
    ({}, "/command"), ({"command": []}, "/command"), ({"command": [""]}, "/command/0"), ({"command": ""}, "/command"),
    ({"command": ["no-such-program"]}, "/command"), ({"command": ["/etc/passwd"]}, "/command"),
    ({"command": ["x"] * 600}, "/command"), ({"command": ["true"], "stdin": 1}, "/stdin"),
    ({"command": ["true"], "pty": True}, "/pty"), ({"command": ["a\0b"]}, None),
])
def test_bad_input(project, body, pointer):
    r = project.post("/processes", body, expect=400)
    if pointer:
        assert r.json()["errors"][0]["pointer"] == pointer, r.text


def test_a_directory_that_is_not_there(project):
    r = project.post("/processes", {"command": ["true"], "cwd": "nowhere"}, expect=400)
    assert r.json()["errors"][0]["pointer"] == "/cwd" and "working directory" in r.json()["detail"]


def test_a_stopped_project_runs_nothing(stopped_project):
    r = stopped_project.post("/processes", {"command": ["true"]}, expect=409)
    assert r.json()["code"] == "project_not_running"
    assert stopped_project.get("/processes").json()["items"] == []


def test_the_number_of_processes_is_limited(project):
    last = None
    for n in range(80):
        last = project.post("/processes", {"command": ["sleep", "1000"]}, expect=[201, 403])
        if last.status_code == 403:
            break
    assert n == 64 and last.json()["code"] == "quota_exceeded"


def test_floods_do_not_starve_each_other(project):
    flood = spawn(project, ["yes"])
    began = time.monotonic()
    assert project.exec("echo", "quick")[1] == "quick\n"
    assert time.monotonic() - began < 5
    project.request("DELETE", f"/processes/{flood['id']}", expect=204)


# ---- the log ----

def run_project(p, command):
    p.request("PATCH", "", json={"run_command": command}, expect=200)
    p.post("/run?wait=60")


def sse(response, stop):
    """Events as (id, event, data) until stop(events)."""
    events, current = [], {"data": []}
    for line in response.iter_lines(decode_unicode=False):
        line = line.decode()
        if line == "":
            if current["data"]:
                events.append((current.get("id"), current.get("event"), "\n".join(current["data"])))
                if stop(events):
                    break
            current = {"data": []}
        elif not line.startswith(":"):
            key, _, value = line.partition(": ")
            current["data"].append(value) if key == "data" else current.__setitem__(key, value)
    return events


def text_of(events):
    return "".join(e[2] for e in events if e[1] is None)


def test_logs_follow_and_resume(project):
    run_project(project, "bash -c 'for i in $(seq 1 30); do echo line-$i-é漢; sleep 0.05; done; sleep 1000'")
    text, last, rounds = "", None, 0
    while "line-30-é漢\n" not in text:
        headers = {"Last-Event-ID": last} if last else {}
        with project.server.http.get(project.server.url + project.path + "/logs?follow=1", headers=headers, stream=True,
                                     timeout=30) as r:
            assert r.headers["content-type"].startswith("text/event-stream")
            count = 0

            def enough(events):
                nonlocal count
                count += 1
                return count >= 3 or "line-30-é漢\n" in events[-1][2]
            events = sse(r, enough)
        text += text_of(events)
        last = events[-1][0]
        rounds += 1
    assert rounds > 1
    assert re.findall(r"line-(\d+)-é漢\n", text) == [str(i) for i in range(1, 31)]
    plain = project.get("/logs")
    assert plain.text == text and plain.headers["content-type"].startswith("text/plain")
    assert int(plain.headers["x-next-offset"]) == int(last)
    assert project.get("/logs", params={"since": last}).content == b""
    project.get("/logs?since=abc", expect=400)


def test_who_follows_the_log_of_a_deleted_project_is_told(stopped_project):
    p = stopped_project
    with p.server.http.get(p.server.url + p.path + "/logs?follow=1", stream=True, timeout=20) as r:
        threading.Timer(0.3, p.delete).start()
        for _ in r.iter_lines():
            pass  # it ends, whole: requests would complain of a cut one


def test_logs_survive_a_stop_and_show_the_newest_run(project):
    run_project(project, "bash -c 'echo number one; exit 3'")
    project.wait_run("exited", "failed", "idle")
    assert "number one\n" in project.logs()
    first_end = int(project.get("/logs").headers["x-next-offset"])
    project.stop()
    assert "number one\n" in project.logs()
    run_project(project, "bash -c 'echo number two; sleep 1000'")
    wait_for(lambda: "number two\n" in project.logs())
    assert "number one\n" not in project.logs()
    assert "number one\n" in project.get("/logs?since=0").text
    assert "number two\n" in project.get(f"/logs?since={first_end}").text


def test_the_log_of_a_run_goes_on_when_the_server_is_killed(new_server):
    server = new_server()
    p = server.create("python").start()
    run_project(p, "bash -c 'for i in $(seq 1 2000); do echo tick-$i; sleep 0.002; done; echo all done; sleep 1000'")
    for _ in range(3):
        time.sleep(0.8)
        server.kill("gateway")
        server.wait_ready()
    wait_for(lambda: "all done\n" in p.logs(), 30)
    assert re.findall(r"tick-(\d+)\n", p.logs()) == [str(i) for i in range(1, 2001)]
    assert p.status()["run"]["state"] == "running"


def test_processes_survive_the_server(new_server):
    server = new_server()
    p = server.create("python").start()
    before = spawn(p, "echo from before; exit 7")
    ended(p, before["id"])
    running = spawn(p, "for i in $(seq 1 40); do echo n-$i; sleep 0.05; done; exit 8", stdin=True)
    time.sleep(0.5)
    server.kill("gateway")
    time.sleep(1)
    server.wait_ready()
    assert p.get(f"/processes/{before['id']}").json()["exit_code"] == 7
    assert p.get(f"/processes/{before['id']}/output").content == b"from before\n"
    assert ended(p, running["id"])["exit_code"] == 8
    assert p.get(f"/processes/{running['id']}/output").text == "".join(f"n-{i}\n" for i in range(1, 41))


def test_events_tell_of_terminals_and_processes(project):
    ws = project.server.websocket(f"{project.path}/events")
    ws.settimeout(10)
    t = project.post("/terminals", {}, expect=201).json()
    code, _, _ = project.exec("true")
    seen = []
    while not any(e["type"] == "process" and e["change"] == "removed" for e in seen):
        seen.append(json.loads(ws.recv()))
    assert any(e["type"] == "terminal" and e["change"] == "created" and e["terminal"]["id"] == t["id"] for e in seen)
    assert [e["change"] for e in seen if e["type"] == "process"] == ["created", "exited", "removed"]
    ws.close()
