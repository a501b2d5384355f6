#!/usr/bin/python3
"""256 MiB printed in a terminal until the last byte reached a client that acknowledges.

Beside it, in turns: the bare PTY, and a minimal WebSocket relay (relay.c) whose client only reads. Rows are JSON lines; see
run.py.
"""
import os
import statistics
import threading
import time

import terminals
from terminals import end, flood, repld, row, say

SIZE = int(os.environ.get("REPLD_BENCH_BYTES", str(256 << 20)))
ROUNDS = int(os.environ.get("REPLD_BENCH_ROUNDS", "5"))


class Memory:
    """The highest resident size of a process while it is watched."""

    def __init__(self, pid):
        self.pid, self.highest, self.over = pid, 0, False
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        while not self.over:
            self.highest = max(self.highest, repld.resident_bytes(self.pid))
            time.sleep(0.02)

    def __enter__(self):
        self.before = repld.resident_bytes(self.pid)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()


def main():
    tools = terminals.Tools()
    server = repld.Server()
    try:
        server.start()
        project = terminals.generous(server)
        speed = {"bare": [], "repld": [], "relay": []}
        grown = []
        for turn in range(ROUNDS):
            speed["bare"] += tools.run("flood", "pty", SIZE, *flood(SIZE))
            path = terminals.terminal(project, flood(SIZE))
            with Memory(server.role_pid("gateway")) as memory:
                speed["repld"] += tools.run("flood", "ws", server.port, path, SIZE, 1)
            grown.append(memory.highest - memory.before)
            end(project, path)
            with tools.relay_of(flood(SIZE)) as port:
                speed["relay"] += tools.run("flood", "ws", port, "/", SIZE, 0)
            say(f"turn {turn + 1}:", {k: f"{SIZE / v[-1] * 1000:.0f} MB/s" for k, v in speed.items()})
        mbs = {k: SIZE / statistics.median(v) * 1000 for k, v in speed.items()}
        row(measure="terminal output", repld=mbs["repld"], peer=mbs["bare"], peer_name="bare PTY",
            ratio=mbs["repld"] / mbs["bare"], aim="≥ 0.7 × the bare PTY", unit="MB/s",
            met=mbs["repld"] >= 0.7 * mbs["bare"])
        row(measure="terminal output", repld=mbs["repld"], peer=mbs["relay"], peer_name="relay",
            ratio=mbs["repld"] / mbs["relay"], aim="≥ 1.2 × the relay", unit="MB/s",
            met=mbs["repld"] >= 1.2 * mbs["relay"])
        # the first turn fills the ring
        row(measure="terminal output, growth of the server", repld=max(grown) / 1048576, peer=None, ratio=None,
            aim="flat: the ring (1 MiB) and no more than 1 MiB beside it", unit="MiB", met=max(grown) <= 2 << 20)
    finally:
        server.close()


if __name__ == "__main__":
    main()
