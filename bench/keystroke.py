#!/usr/bin/python3
"""One byte typed → its echo on the WebSocket, idle and beside 50 terminals that print 100 KB/s each.

Beside it, in turns: the same program on a bare PTY, and behind a minimal WebSocket relay (relay.c). While one of the three is
measured, 50 terminals of its own are loud and have a reader, in as many cgroups as repld puts them. The bare PTY is also
measured inside the sandbox: the difference is what its seccomp filter and cgroups cost the program. Rows are JSON lines; see
run.py.
"""
import contextlib
import os
import statistics

import terminals
from terminals import ECHO, LOAD, end, quantile, repld, row, say

KEYS = int(os.environ.get("REPLD_BENCH_KEYS", "10000"))
ROUNDS = 10
LOUD = 50
PER_PROJECT = 14  # terminals of one project are limited


def relay_command(groups):
    """Behind the relay: a request for /N runs a loud program in group N, any other one the program that echoes."""
    loud = groups.command(0, LOAD)
    loud[2] = loud[2].replace("/0/", "/${PATH_ARG#/}/")
    quiet = groups.command(len(groups.paths) - 1, ECHO)
    script = f'case $PATH_ARG in /[0-9]*) {loud[2]};; esac'
    # the script's arguments are the loud program; the other one is written out
    quoted = " ".join("'" + a.replace("'", "'\\''") + "'" for a in quiet)
    return ["sh", "-c", f"{script}; exec {quoted}", "sh", *LOAD]


def loud_paths(groups):
    return [f"/{i % (len(groups.paths) - 1)}" for i in range(LOUD)]


def measure(tools, server, project, groups, loud):
    per_round = max(1, KEYS // ROUNDS)
    found = {"bare": [], "repld": [], "relay": [], "inside": []}
    bare = groups.command(len(groups.paths) - 1, ECHO)
    for turn in range(ROUNDS):
        with contextlib.ExitStack() as stack:
            if loud:
                port = stack.enter_context(tools.relay_of(relay_command(groups)))
                stack.enter_context(tools.drained(port, loud_paths(groups)))
            found["bare"] += tools.run("keys", "pty", per_round, *bare)
        with contextlib.ExitStack() as stack:
            if loud:
                stack.enter_context(tools.drained(server.port, loud))
            path = terminals.terminal(project, ECHO)
            found["repld"] += tools.run("keys", "ws", server.port, path, per_round)
            end(project, path)
            _, out, _ = project.exec("./terminal_client", "keys", "pty", str(per_round), *ECHO, timeout=300)
            found["inside"] += [int(line) for line in out.split()]
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(tools.relay_of(relay_command(groups)))
            if loud:
                stack.enter_context(tools.drained(port, loud_paths(groups)))
            found["relay"] += tools.run("keys", "ws", port, "/", per_round)
        say(f"turn {turn + 1}:", {k: round(statistics.median(v) / 1000, 1) for k, v in found.items()})
    return found


def report(name, found):
    us = {k: (statistics.median(v) / 1000, quantile(v, 0.99) / 1000) for k, v in found.items()}
    bare, ours, relay = us["bare"], us["repld"], us["relay"]
    row(measure=f"keystroke, {name}, median", repld=ours[0], peer=relay[0], peer_name="relay", ratio=ours[0] / relay[0],
        aim="≤ bare PTY + 60 µs and ≤ the relay's", unit="µs", met=ours[0] <= bare[0] + 60 and ours[0] <= relay[0],
        note=f"bare PTY {bare[0]:.0f} µs, inside the sandbox {us['inside'][0]:.0f} µs, {len(found['repld'])} keys")
    row(measure=f"keystroke, {name}, p99", repld=ours[1], peer=bare[1], peer_name="bare PTY", ratio=ours[1] / bare[1],
        aim="≤ bare PTY + 1 ms", unit="µs", met=ours[1] <= bare[1] + 1000, note=f"relay {relay[1]:.0f} µs")


def main():
    tools = terminals.Tools()
    server = repld.Server()
    groups = terminals.Groups(-(-LOUD // PER_PROJECT) + 1)
    try:
        server.start()
        project = terminals.generous(server)
        with open(tools.client, "rb") as f:
            project.write("terminal_client", f.read())
        project.exec("chmod", "+x", "terminal_client")
        report("idle", measure(tools, server, project, groups, []))
        loud = []
        while len(loud) < LOUD:
            p = terminals.generous(server)
            loud += [terminals.terminal(p, LOAD) for _ in range(min(PER_PROJECT, LOUD - len(loud)))]
        report(f"beside {LOUD} loud ones", measure(tools, server, project, groups, loud))
    finally:
        server.close()
        groups.remove()


if __name__ == "__main__":
    main()
