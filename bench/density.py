"""Density: what one idle running project costs in memory, all in.

The change of MemAvailable between few and many running projects, divided by how many came: kernel, tmpfs, init and the
server's own share. It is read while they come and while they go. On a machine where others take and give memory the two
disagree: then there is no figure. Beside it the sum of what the processes hold (PSS), and Docker with the same image,
each container sleeping. `REPLD_DENSITY=100` makes it quicker.
"""
import json
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "e2e"))
sys.path.insert(0, HERE)

import docker_peer  # noqa: E402
import own_network  # noqa: E402
import repld  # noqa: E402
from bare import layers  # noqa: E402

COUNT = int(os.environ.get("REPLD_DENSITY", "300"))
CONTAINERS = min(COUNT, 40)  # a shim of 10 MB each, and a second each to start: more would tell the same
BEFORE = 3                   # projects that run before the first reading: what the first ones cost is not per project
IDLE = 40                    # seconds; the helper that wrote a project's first files is given back after 30
SETTLE = 10                  # seconds; the kernel frees what it defers
AGREE = 0.25                 # how far up and down may be from their mean


class Noise(Exception):
    pass


def memory():
    """MiB: what is available, and what the kernel uses by its own counters. Medians of five readings."""
    def read():
        with open("/proc/meminfo") as f:
            m = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in f}
        return m["MemAvailable"], sum(m[k] for k in ("SUnreclaim", "PageTables", "KernelStack", "Percpu", "Shmem"))
    values = []
    for _ in range(5):
        values.append(read())
        time.sleep(0.5)
    return [sorted(column)[2] for column in zip(*values)]


def pss(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        except OSError:
            pass
    return total / 1024


def sandbox_pids(server):
    pids = set()
    for base in repld.cgroup_roots():
        for folder, _, names in os.walk(os.path.join(base, server.settings["cgroup_root"])):
            if "cgroup.procs" in names:
                with open(os.path.join(folder, "cgroup.procs")) as f:
                    pids.update(int(p) for p in f.read().split())
    return pids


def server_pids(server):
    return [server.process.pid, *repld.children_of(server.process.pid)]


def progress(text):
    print(text, file=sys.stderr, flush=True)


def each_of(count, before, during, after):
    """MiB each, from what was used before, during and after."""
    up, down = (during - before) / count, (during - after) / count
    mean = (up + down) / 2
    if mean <= 0 or abs(up - mean) > AGREE * mean:
        raise Noise(f"memory of this machine moved by itself: {up:.2f} MiB each when they came, {down:.2f} when they went")
    return mean


def all_in(count, before, during, after, held):
    """MiB each and a note, from three readings of memory() and the PSS of each."""
    try:
        return each_of(count, -before[0], -during[0], -after[0]), None
    except Noise as e:
        progress(f"density: {e}")
        return each_of(count, before[1], during[1], after[1]) + held, "by kernel counters and PSS; MemAvailable moved by itself"


def measure_repld():
    server = repld.Server(idle_timeout=0, volume_size="8G", max_sandboxes=COUNT + BEFORE + 10).start()
    try:
        projects = [server.create("python").start() for _ in range(BEFORE)]
        time.sleep(IDLE)
        before, own = memory(), pss(server_pids(server))
        for i in range(COUNT):
            projects.append(server.create("python").start())
            if i % 50 == 49:
                progress(f"density: {i + 1} of {COUNT} projects run")
        time.sleep(IDLE)
        during = memory()
        held = pss(sandbox_pids(server)) * COUNT / (COUNT + BEFORE) + pss(server_pids(server)) - own
        states = [p.status()["state"] for p in projects]
        assert states.count("running") == len(projects), states
        for p in projects[BEFORE:]:
            p.delete()
        time.sleep(SETTLE)
        after = memory()
        for p in projects[:BEFORE]:
            p.delete()
    finally:
        server.close()
    return *all_in(COUNT, before, during, after, held / COUNT), held / COUNT


def measure_docker():
    docker = docker_peer.start(layers("python"))
    if not docker:
        return None
    try:
        def run(n):
            for _ in range(n):
                r = docker.run("run", "-d", "--rm", docker_peer.IMAGE, "sleep", "1000000")
                if r.returncode:
                    raise RuntimeError(r.stderr)
        run(BEFORE)
        time.sleep(SETTLE)
        before, own = memory(), pss(docker.pids())
        run(CONTAINERS)
        time.sleep(SETTLE)
        during, held = memory(), (pss(docker.pids()) - own) / CONTAINERS
        r = docker.run("ps", "-q")
        docker.run("rm", "-f", *r.stdout.split()[:CONTAINERS])  # the newest come first
        time.sleep(SETTLE)
        return all_in(CONTAINERS, before, during, memory(), held)
    finally:
        docker.close()


def row(measure, ours, peer, peer_name, aim, met, notes, ratio=None):
    print(json.dumps({"measure": measure, "repld": round(ours, 3), "peer": round(peer, 3), "ratio": ratio, "aim": aim,
                      "unit": "MiB", "peer_name": peer_name, "met": met,
                      **({"note": f"({'; '.join(notes)})"} if notes else {})}), flush=True)


def main():
    own_network.enter()
    try:
        each, note, held = measure_repld()
        row(f"density, {COUNT} idle projects, each", each, held, "of which PSS of processes", "≤ 1.5 MiB", each <= 1.5,
            [note] if note else [])
        docker = measure_docker()
        if docker:
            row("density, each", each, docker[0], f"docker, {CONTAINERS} containers", "≤ 1/4 of docker",
                each / docker[0] <= 0.25, sorted({n for n in (note, docker[1]) if n}), round(each / docker[0], 3))
    except Noise as e:
        sys.exit(f"density: {e}")


if __name__ == "__main__":
    main()
