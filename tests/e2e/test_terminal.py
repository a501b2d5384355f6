"""A terminal is a real one: editors, pagers, job control, floods, pastes, resizing, resuming."""
import hashlib
import json
import os
import random
import re
import signal
import socket
import time

import pytest
import websocket

import repld
from repld import wait_for


def output(t):
    return bytes(t.output)


def quiet(t, ms=300, timeout=20):
    """Waits until nothing has been printed for so long."""
    end = time.monotonic() + timeout
    seen, since = len(t.output), time.monotonic()
    while time.monotonic() < end:
        time.sleep(0.02)
        if len(t.output) != seen:
            seen, since = len(t.output), time.monotonic()
        elif time.monotonic() - since > ms / 1000:
            return
    raise AssertionError("it never stops printing")


# ---- what people do in it ----

def test_it_is_the_sandbox_users_login_shell(terminal):
    assert terminal.run("id -un; id -u; pwd").split() == ["runner", "1000", "/home/runner/app"]
    assert terminal.run("shopt -q login_shell && echo login; echo $TERM $COLORTERM").split() == [
        "login", "xterm-256color", "truecolor"]
    assert terminal.run("tput colors").split() == ["256"]
    assert terminal.run("test -t 0 && test -t 1 && tty").strip().startswith("/dev/pts/")


def test_typing_is_echoed_and_lines_are_edited(terminal):
    terminal.run("true")
    at = len(terminal.output)
    terminal.send("echo wrong")
    terminal.expect("echo wrong", since=at)
    terminal.send("\x15")  # ^U
    terminal.send("echo ri\x7fight\r")  # with a backspace
    terminal.expect(r"[\r\n]right\r\n", since=at)


@pytest.mark.parametrize("text", ["é ü ñ", "€ 漢字 こんにちは", "😀 🏳️‍🌈", "e\u0301 combining"])
def test_utf8(terminal, text):
    assert terminal.run(f"echo '{text}'").strip() == text
    assert terminal.run(f"printf %s '{text}' | wc -m").strip() == str(len(text))


def test_erase_removes_a_whole_character(terminal):
    terminal.run("true")
    terminal.send("cat > erased\r")
    time.sleep(0.2)
    terminal.send("aé漢😀\x7f\x7fb\r\x04")
    assert terminal.run("cat erased").strip() == "aéb"


def test_vim(terminal):
    terminal.run("rm -f poem.txt")
    at = len(terminal.output)
    terminal.send("vim -u NONE -N poem.txt\r")
    terminal.expect(rb"\x1b\[\?1049h", since=at)  # the alternate screen
    quiet(terminal)
    terminal.send("iroses are red\rvérités\x1b")
    quiet(terminal, 200)
    terminal.send(":wq\r")
    terminal.expect(rb"\x1b\[\?1049l", since=at)
    assert terminal.project.read("poem.txt").decode() == "roses are red\nvérités\n"


def test_vim_takes_ctrl_c_as_a_key(terminal):
    terminal.run("rm -f keys.txt")
    terminal.send("vim -u NONE -N keys.txt\r")
    terminal.expect(rb"\x1b\[\?1049h")
    for keys in ("ione", "\x03", "otwo\x1b", ":wq\r"):  # ^C leaves insert mode
        quiet(terminal)
        terminal.send(keys)
    terminal.expect(rb"\x1b\[\?1049l")
    assert terminal.project.read("keys.txt") == b"one\ntwo\n"


def test_top_and_less(terminal):
    terminal.run("seq 1 1000 > numbers")
    at = len(terminal.output)
    terminal.send("top\r")
    terminal.expect("load average.*PID", since=at)
    terminal.send("q")
    quiet(terminal)
    assert "left" in terminal.run("echo left")
    at = len(terminal.output)
    terminal.send("less numbers\r")
    terminal.expect(rb"\x1b\[\?1049h.*\b20\b", since=at)
    terminal.send("/^500$\r")
    terminal.expect("500.*510", since=at)
    terminal.send("q")
    quiet(terminal)
    assert "gone" in terminal.run("echo gone")


def test_job_control(terminal):
    t = terminal
    t.run("true")
    at = len(t.output)
    t.send("sleep 1000\r")
    time.sleep(0.3)
    t.send("\x1a")
    t.expect("Stopped", since=at)
    assert "sleep 1000" in t.run("jobs")
    t.run("bg")
    assert "Running" in t.run("jobs")
    at = len(t.output)
    t.send("fg\r")
    t.expect("sleep 1000", since=at)
    time.sleep(0.2)
    t.send("\x03")
    assert t.run("jobs").strip() == ""


def test_exit_is_reported(project):
    for command, code, sig in (("exit 7", 7, None), ("kill -9 $$", None, 9)):
        t = project.terminal()
        t.run("true")
        t.send(command + "\r")
        t.wait(lambda t=t: t.close_code is not None)
        assert (t.exit["code"], t.exit["signal"]) == (code, sig)
        assert t.close_code == 1000
        listed = {x["id"]: x for x in project.get("/terminals").json()["items"]}[t.id]
        assert listed["running"] is False and listed["exit_code"] == code and listed["signal"] == sig


def test_an_ended_terminal_can_still_be_read(project):
    t = project.terminal()
    t.run("echo last words")
    t.send("exit 4\r")
    t.wait(lambda: t.exit)
    again = project.terminal(tid=t.id)
    again.wait(lambda: again.exit)
    assert output(again) == output(t) and again.exit["code"] == 4


# ---- size ----

def test_resize(terminal):
    terminal.resize(133, 41)
    wait_for(lambda: terminal.run("stty size").split() == ["41", "133"], 5)


def test_the_smallest_writer_decides(project):
    a, b = project.terminal(cols=100, rows=50), None
    a.resize(100, 50)
    b = project.terminal(tid=a.id)
    b.resize(90, 60)
    wait_for(lambda: a.run("stty size").split() == ["50", "90"], 5)
    assert {"type": "size", "cols": 90, "rows": 50} in a.control
    reader = project.terminal(tid=a.id, mode="read")
    reader.resize(20, 10)
    b.resize(95, 55)
    wait_for(lambda: a.run("stty size").split() == ["50", "95"], 5)
    b.close()
    wait_for(lambda: a.run("stty size").split() == ["50", "100"], 5)


# ---- Ctrl-C ----

def test_ctrl_c_in_a_flood(terminal):
    terminal.run("true")
    at = len(terminal.output)
    terminal.send("yes flooding\r")
    terminal.wait(lambda: len(terminal.output) > at + 500_000)
    began = time.monotonic()
    terminal.send("\x03")
    terminal.expect(r"\^C", since=at, timeout=5)
    assert terminal.run("echo $?").strip() == "130"
    assert time.monotonic() - began < 3


def test_ctrl_c_in_a_flood_that_nobody_takes(project):
    """The window is closed and the program blocks: Ctrl-C still ends it."""
    t = project.terminal(ack=False)
    t.run("true")
    t.send_control(type="ack", offset=t.offset)
    t.send("yes blocked\r")
    t.wait(lambda: len(t.output) > 200_000)
    quiet(t)
    t.send("\x03")
    t.ack = True
    t.send_control(type="ack", offset=t.offset)
    assert t.run("echo $?", timeout=10).strip() == "130"


def paused(t):
    return [c["type"] for c in t.control if c["type"] in ("pause", "resume")][-1:] == ["pause"]


def sync(t):
    """Everything that was sent is looked at, and a pause has been heard of."""
    before = sum(c["type"] == "pong" for c in t.control)
    t.send_control(type="ping")
    t.wait(lambda: sum(c["type"] == "pong" for c in t.control) > before)


def paste(t, size, chunk=16384):
    """As a good client does: it stops while it is told to."""
    line = b"x" * 99 + b"\r"
    data = line * (size // len(line))
    for i in range(0, len(data), chunk):
        sync(t)
        if paused(t):
            return i
        t.send(data[i:i + chunk])
    return len(data)


@pytest.mark.parametrize("how", ["key", "frame"])
def test_ctrl_c_in_the_middle_of_a_paste(terminal, how):
    t = terminal
    t.run("stty -echo")
    t.send("sleep 1000\r")
    time.sleep(0.3)
    sent = paste(t, 1 << 20)
    assert 256 * 1024 <= sent < 1 << 20
    t.wait(lambda: any(c["type"] == "pause" for c in t.control), 5)
    began = time.monotonic()
    if how == "key":
        t.send("\x03")
    else:
        t.send_control(type="signal", name="INT")
    t.wait(lambda: t.control[-1]["type"] == "resume", 5)
    time.sleep(0.1)
    at = len(t.output)
    t.send("echo ba''ck $?; stty echo\r")
    t.expect(r"back 130\r\n", since=at, timeout=10)
    assert time.monotonic() - began < 3
    assert b"xxxx" not in output(t)  # none of the paste became a command


def test_a_paste_that_the_kernel_holds_does_not_hide_ctrl_c(terminal):
    t = terminal
    t.run("stty -echo")
    t.send("sleep 1000\r")
    time.sleep(0.3)
    t.send((b"y" * 99 + b"\r") * 100)  # more than the line discipline's buffer, less than ours
    time.sleep(0.2)
    t.send("\x03")
    at = len(t.output)
    t.send("echo ba''ck $?; stty echo\r")
    t.expect(r"back 130\r\n", since=at, timeout=5)


def test_a_paste_arrives_whole(terminal):
    t = terminal
    data = os.urandom(300_000).hex().encode()[:500_000]
    t.run("true")
    at = len(t.output)
    t.send(f"stty raw -echo; echo rea''dy; head -c {len(data)} | sha256sum; stty sane\r")
    t.expect("ready", since=at)
    for i in range(0, len(data), 16384):
        sync(t)
        while paused(t):
            time.sleep(0.01)
        t.send(data[i:i + 16384])
    t.expect(hashlib.sha256(data).hexdigest(), since=at)


def test_who_pastes_without_end_is_closed(terminal):
    t = terminal
    t.run("stty -echo")
    t.send("sleep 1000\r")
    time.sleep(0.3)
    try:
        for _ in range(40):
            t.send(b"z" * 65536)
    except (OSError, websocket.WebSocketException):
        pass
    t.wait(lambda: t.close_code is not None)
    assert t.close_code == 4413
    again = t.project.terminal(tid=t.id)  # the terminal lives on
    again.send("\x03")
    assert "alive" in again.run("stty echo; echo alive")


def test_a_message_over_a_mebibyte_is_refused(terminal):
    try:
        terminal.send(b"z" * ((1 << 20) + 1))
    except (OSError, websocket.WebSocketException):
        pass
    terminal.wait(lambda: terminal.close_code is not None)
    assert terminal.close_code in (1009, 1006)
    assert "fine" in terminal.project.terminal(tid=terminal.id).run("echo fine")


# ---- viewers ----

def test_two_viewers_see_the_same(project):
    a = project.terminal()
    b = project.terminal(tid=a.id)
    c = project.terminal(tid=a.id, mode="read")
    a.run("seq 1 5000")
    b.run("echo typed by the second")
    a.expect("typed by the second\r\n")
    for viewer in (b, c):
        viewer.wait(lambda v=viewer: v.offset >= a.offset)
        assert output(viewer)[:len(output(a))] == output(a)


def test_a_reader_cannot_type(project):
    a = project.terminal()
    a.run("true")
    c = project.terminal(tid=a.id, mode="read")
    c.send("echo from-reader\r")
    c.send_control(type="signal", name="KILL")
    c.wait(lambda: any(m["type"] == "error" and m["code"] == "forbidden" for m in c.control))
    assert "ok" in a.run("echo ok")
    assert b"from-reader" not in output(a)


def test_a_slow_reader_gets_a_gap(project):
    a = project.terminal()
    slow = project.server.websocket(f"{project.path}/terminals/{a.id}?mode=read")
    assert json.loads(slow.recv())["type"] == "hello"
    a.run("head -c 30000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo the-end", timeout=120)
    assert not a.gaps
    text, gaps = b"", []
    slow.settimeout(10)
    while b"the-end\r\n" not in text:
        opcode, data = slow.recv_data()
        if opcode == websocket.ABNF.OPCODE_BINARY:
            text = (text + data)[-100_000:]
        else:
            gaps.append(json.loads(data))
    assert any(g["type"] == "gap" for g in gaps)
    slow.close()


def test_256_mib_to_a_slow_viewer_grows_nothing(project):
    gateway = project.server.role_pid("gateway")
    t = project.terminal()
    t.run("true")
    t.close()
    before = repld.resident_bytes(gateway)
    ws = project.server.websocket(f"{project.path}/terminals/{t.id}?since={t.offset}")
    ws.send_binary(b"head -c 268435456 /dev/zero | tr '\\0' 'q'; echo; echo done-$((6*7))\r")
    total, tail, highest, began = 0, b"", 0, time.monotonic()
    while b"done-42" not in tail:
        opcode, data = ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_BINARY:
            total += len(data)
            tail = (tail + data)[-200:]
        else:
            assert json.loads(data)["type"] == "hello"  # no gap: it sets the pace
        if total // (16 << 20) != (total - len(data)) // (16 << 20):
            time.sleep(0.05)  # slow
            highest = max(highest, repld.resident_bytes(gateway))
        assert time.monotonic() - began < 300
    assert total >= 268435456
    assert highest - before < 4 << 20, f"{before} -> {highest}"
    ws.close()


def test_a_viewer_that_reads_nothing_costs_nothing(project):
    gateway = project.server.role_pid("gateway")
    t = project.terminal()
    t.run("true")
    before = repld.resident_bytes(gateway)
    stuck = project.server.websocket(f"{project.path}/terminals/{t.id}?mode=write&since={t.offset}")
    t.run("head -c 50000000 /dev/zero | tr '\\0' 'q'; echo", timeout=120)
    assert repld.resident_bytes(gateway) - before < 4 << 20
    stuck.close()


# ---- resuming ----

def numbers_of(t, start):
    """The lines that are a number, in order. (A line's end is shared by neighbours, so the pattern only looks at it.)"""
    return [int(n) for n in re.findall(rb"[\r\n](\d+)(?=\r\n)", output(t)[start:])]


def test_resume_at_the_offset_misses_and_doubles_nothing(project):
    """Numbers are printed while the connection is cut at random moments."""
    t = project.terminal()
    t.run("true")
    start = len(t.output)
    t.send("for i in $(seq 1 60); do seq $((i*1000)) $((i*1000+999)); sleep 0.05; done; echo fin''ished\r")
    random.seed(5)
    for _ in range(25):
        time.sleep(random.random() * 0.15)
        t.drop()
        if random.random() < 0.3:
            time.sleep(0.1)
        t.reconnect()
        assert not t.gaps
    t.expect("finished\r\n", since=start)
    assert numbers_of(t, start) == list(range(1000, 61000))


def test_since_older_than_the_ring_is_a_gap(project):
    t = project.terminal()
    t.run("seq 1 400000", timeout=60)
    late = project.terminal(tid=t.id, since=0)
    late.wait(lambda: late.gaps)
    assert late.hello["offset"] > 0
    late.wait(lambda: late.offset >= t.offset)
    assert output(t).endswith(output(late))
    assert len(late.output) > 500_000  # the scrollback


def test_since_in_the_future_is_the_end(project):
    t = project.terminal()
    t.run("echo hello")
    late = project.terminal(tid=t.id, since=10**12)
    late.wait(lambda: late.gaps)
    assert "still" in late.run("echo still")


# ---- ends ----

def test_a_child_that_keeps_the_tty(project):
    t = project.terminal()
    t.run("true")
    t.send("(trap '' HUP; sleep 300) & disown; exit 5\r")
    t.wait(lambda: t.exit, 10)
    assert t.exit["code"] == 5 and t.close_code in (None, 1000)


def test_a_child_that_floods_after_its_parent_left(project):
    t = project.terminal()
    t.run("true")
    t.send("(trap '' HUP; exec yes) & exit 6\r")
    t.wait(lambda: t.exit, 15)
    assert t.exit["code"] == 6


def test_delete_ends_a_terminal_that_ignores_everything(project):
    t = project.terminal()
    t.run("true")
    t.send("trap '' HUP TERM INT QUIT TSTP; echo deaf''; while :; do sleep 0.1; done\r")
    t.expect("deaf\r\n")
    project.request("DELETE", f"/terminals/{t.id}", expect=204)
    t.wait(lambda: t.close_code is not None, 15)
    project.request("GET", f"/terminals/{t.id}", expect=404)
    wait_for(lambda: "sleep 0.1" not in project.exec("ps", "-eo", "args")[1], 10)


def test_a_program_that_kills_everything_it_can(project):
    t, other = project.terminal(), project.terminal()
    other.run("true")
    t.run("kill -9 -1")
    other.wait(lambda: other.exit, 10)
    assert other.exit["signal"] == 9
    assert "new" in project.terminal().run("echo new")


# ---- limits and errors ----

def test_the_number_of_terminals_is_limited(project):
    made = []
    for _ in range(100):
        r = project.post("/terminals", {}, expect=[201, 403])
        if r.status_code == 403:
            break
        made.append(r.json()["id"])
    assert len(made) == 16
    assert r.json()["code"] == "quota_exceeded" and "16" in r.json()["detail"]
    project.request("DELETE", f"/terminals/{made[0]}", expect=204)
    wait_for(lambda: project.post("/terminals", {}, expect=[201, 403]).status_code == 201, 10)


@pytest.mark.parametrize("body, pointer", [
    ({"cols": 0}, "/cols"), ({"rows": 100000}, "/rows"), ({"cols": "80"}, "/cols"), ({"colums": 80}, "/colums"),
    ({"command": []}, "/command"), ({"command": [1]}, "/command/0"), ({"command": 5}, "/command"),
    ({"env": {"1X": "a"}}, "/env/1X"), ({"env": {"A": 1}}, "/env/A"), ({"command": ["no-such-program"]}, "/command"),
    ({"cwd": 3}, "/cwd"),
])
def test_bad_input(project, body, pointer):
    r = project.post("/terminals", body, expect=400)
    assert r.json()["errors"][0]["pointer"] == pointer
    assert r.headers["content-type"].startswith("application/problem+json")


def test_a_terminal_may_run_a_command(project):
    body = {"command": ["sh", "-c", "tty; stty size; exit 3"], "cols": 99, "rows": 33, "env": {"A": "b"}}
    t = project.terminal(tid=project.post("/terminals", body, expect=201).json()["id"])
    t.wait(lambda: t.exit)
    assert b"33 99" in output(t) and t.exit["code"] == 3


def close_code_of(server, path):
    ws = server.websocket(path)
    try:
        opcode, data = ws.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        return int.from_bytes(data[:2], "big")
    finally:
        ws.close()


def test_close_codes(server, project, stopped_project):
    assert close_code_of(server, f"{project.path}/terminals/ffffffffffffffff") == 4404
    assert close_code_of(server, f"{project.path}/terminals/nonsense") == 4404
    assert close_code_of(server, "/api/v1/projects/aaaaaaaaaaaaaaaa/terminals/ffffffffffffffff") == 4404
    assert close_code_of(server, "/api/v1/terminal/aaaaaaaaaaaaaaaa") == 4404
    assert close_code_of(server, f"{stopped_project.path}/terminals/ffffffffffffffff") == 4409
    assert close_code_of(server, f"{project.path}/terminals/ffffffffffffffff?mode=both") == 4400
    assert close_code_of(server, f"{project.path}/terminals/ffffffffffffffff?since=-1") == 4400
    stopped_project.post("/terminals", {}, expect=409).json()["code"] == "project_not_running"


def test_frames_that_make_no_sense_are_answered(terminal):
    for text in ("nonsense", "[]", '{"type":"reboot"}', '{"type":"resize","cols":-1,"rows":2}',
                 '{"type":"ack","offset":"x"}', '{"type":"signal","name":"NOPE"}'):
        before = len(terminal.control)
        terminal.ws.send(text)
        terminal.wait(lambda before=before: len(terminal.control) > before)
        assert terminal.control[-1]["type"] == "error", text
    terminal.send_control(type="ack", offset=10**15)
    assert "fine" in terminal.run("echo fine")


def test_a_page_of_another_origin_gets_no_terminal(project, terminal):
    with pytest.raises(websocket.WebSocketBadStatusException) as e:
        websocket.create_connection(f"ws://127.0.0.1:{project.server.port}{project.path}/terminals/{terminal.id}",
                                    origin="https://evil.example")
    assert e.value.status_code == 403


def test_the_short_address_starts_the_project(stopped_project):
    p = stopped_project
    ws = p.server.websocket(f"/api/v1/terminal/{p.id}?cols=91&rows=27", timeout=60)
    hello = json.loads(ws.recv())
    assert hello["type"] == "hello" and (hello["cols"], hello["rows"]) == (91, 27)
    assert p.status()["state"] == "running"
    again = p.server.websocket(f"/api/v1/terminal/{p.id}", timeout=60)
    assert json.loads(again.recv())["tid"] == hello["tid"]
    ws.close()
    again.close()


def test_stop_ends_its_terminals(stopped_project):
    p = stopped_project.start()
    t = p.terminal()
    t.run("true")
    p.stop()
    t.wait(lambda: t.close_code is not None)
    assert t.exit is not None
    assert p.get("/terminals").json()["items"] == []


def test_a_half_open_connection_does_not_hold_the_program(project):
    """A client that vanishes without a word while it sets the pace: another viewer goes on."""
    t = project.terminal()
    t.run("true")
    ghost = project.server.websocket(f"{project.path}/terminals/{t.id}")
    ghost.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    t.run("seq 1 200000", timeout=60)
    ghost.sock.close()


# ---- restarts ----

def reconnect_until_up(t, timeout=60):
    def up():
        try:
            t.reconnect()
        except (OSError, websocket.WebSocketException):
            return False
        return t.hello is not None
    wait_for(up, timeout, 0.1)


@pytest.mark.parametrize("how", ["gateway", "stop"])
def test_a_terminal_survives_the_server(new_server, how):
    server = new_server()
    p = server.create("python").start()
    t = p.terminal()
    t.run("true")
    start = len(t.output)
    t.send("for i in $(seq 1 80); do seq $((i*100)) $((i*100+99)); sleep 0.05; done; echo fin''ished $$\r")
    for _ in range(3):
        time.sleep(0.7)
        if how == "gateway":
            server.kill("gateway")
            t.wait(lambda: t.close_code is not None)
            server.wait_ready()
        else:
            server.stop()
            assert t.close_code == 1001
            server.start()
        reconnect_until_up(t)
        assert t.hello["running"]
    m = t.expect(r"finished (\d+)\r\n", since=start)
    assert numbers_of(t, start) == list(range(100, 8100)) and not t.gaps
    assert t.run("echo $$").strip() == m.group(1).decode()


def test_signals_by_name(project):
    t = project.terminal()
    t.run("true")
    t.send("bash -c 'trap \"echo got-usr1\" USR1; echo rea\"\"dy; while :; do sleep 0.1; done'\r")
    t.expect("ready\r\n")
    t.send_control(type="signal", name="SIGUSR1")
    t.expect("got-usr1\r\n")
    t.send_control(type="signal", name="KILL")
    assert t.run("echo $?").strip() == str(128 + signal.SIGKILL)
