#!/usr/bin/python3
"""Runs the measures and prints one table: `make bench`, or `bench/run.py keystroke preview` for some of them.

Each measure is a program bench/NAME.py that drives the real server through its public interface beside its peer in the
same run, and prints one JSON object a row: measure, repld, peer, ratio, aim, unit, and optionally peer_name, note and met
(whether the aim was reached). What was not measured is not printed. --write puts the table into docs/performance.md.
"""
import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MEASURES = ["cold_start", "keystroke", "terminal_output", "preview", "files", "server", "density"]


def version(*command):
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
        return out.stdout.splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*:\s*(.*)", f.read())
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) // 1048576
    lines = [f"{os.cpu_count()} × {model.group(1) if model else platform.machine()}, {memory} GiB, "
             f"Linux {platform.release()}"]
    build = os.environ.get("REPLD_BUILD", os.path.join(os.path.dirname(HERE), "build"))
    lines += [v for v in (version(os.path.join(build, "repld"), "version"), version("runc", "--version"),
                          version("nginx", "-v")) if v]
    return lines


def figure(value):
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measures", nargs="*", choices=MEASURES + [[]], help="default: all")
    parser.add_argument("--write", action="store_true", help="replace the table in docs/performance.md")
    arguments = parser.parse_args()
    rows, failed = [], []
    for name in arguments.measures or MEASURES:
        print(f"bench: {name} …", file=sys.stderr, flush=True)
        p = subprocess.run([sys.executable, os.path.join(HERE, name + ".py")], stdout=subprocess.PIPE, text=True,
                           check=False)
        found = [json.loads(line) for line in p.stdout.splitlines() if line.startswith("{")]
        rows += found
        if p.returncode or not found:
            failed.append(name)
    table = ["| measure | repld | peer | ratio | aim | |", "| --- | --- | --- | --- | --- | --- |"]
    for r in rows:
        unit = f" {r['unit']}" if r.get("unit") else ""
        peer = f"{figure(r['peer'])}{unit} ({r['peer_name']})" if r.get("peer_name") else figure(r.get("peer"))
        met = "" if r.get("met") is None else "met" if r["met"] else "**missed**"
        note = f" {r['note']}" if r.get("note") else ""
        table.append(f"| {r['measure']} | {figure(r['repld'])}{unit} | {peer} | {figure(r.get('ratio'))} "
                     f"| {r.get('aim', '–')} | {met}{note} |")
    text = "\n".join([*machine(), "", *table])
    print(text)
    if arguments.write:
        path = os.path.join(os.path.dirname(HERE), "docs", "performance.md")
        with open(path) as f:
            page = f.read()
        block = f"<!-- table -->\n{datetime.date.today().isoformat()}, `make bench`:\n\n" + "\n".join(
            "    " + line for line in machine()) + "\n\n" + "\n".join(table) + "\n<!-- /table -->"
        page, count = re.subn(r"<!-- table -->.*<!-- /table -->", lambda m: block, page, flags=re.S)
        if count != 1:
            sys.exit("docs/performance.md has no table marks")
        with open(path, "w") as f:
            f.write(page)
    if failed:
        sys.exit(f"bench: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
