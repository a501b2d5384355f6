"""`repld stack`: a language is a folder, built once; interrupted, failing and simultaneous builds."""
import json
import os
import shutil
import signal
import subprocess

import pytest

import repld

LUA = {
    "title": "Lua", "icon": "🌙", "summary": "Lua 5.4.", "versions": ["5.4"],
    "environment": {"provider": "debian", "base": "_bookworm", "packages": ["lua5.4"]},
    "entry": "main.lua", "port": 7000, "run": ["lua5.4", "main.lua"],
    "limits": {"memory": "64M", "cpu": 0.5, "processes": 50},
    "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"},
    "templates": [{"name": "plain"}],
    "associations": {".lua": "lua"},
}


class Stacks:
    """Stacks and environments of a test's own; the base layer is the one that is built already."""

    def __init__(self, folder):
        self.stacks = os.path.join(folder, "stacks")
        self.environments = os.path.join(folder, "environments")
        os.makedirs(os.path.join(self.environments, "layers"))
        shutil.copytree(os.path.join(repld.ROOT, "stacks", "_bookworm"), os.path.join(self.stacks, "_bookworm"))
        for name in os.listdir(repld.ENVIRONMENTS):
            if not name.endswith(".json"):
                continue
            with open(os.path.join(repld.ENVIRONMENTS, name)) as f:
                manifest = json.load(f)
            if manifest["name"] == "_bookworm":
                shutil.copy(os.path.join(repld.ENVIRONMENTS, name), self.environments)
                os.symlink(os.path.join(repld.ENVIRONMENTS, "layers", manifest["layers"][0]),
                           os.path.join(self.environments, "layers", manifest["layers"][0]))
        self.before = self.layers()

    def layers(self):
        return set(os.listdir(os.path.join(self.environments, "layers")))

    def manifests(self):
        return {n for n in os.listdir(self.environments) if n.endswith(".json")}

    def put(self, name, description):
        folder = os.path.join(self.stacks, name, "template", "plain")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(self.stacks, name, "stack.json"), "w") as f:
            json.dump(description, f)
        with open(os.path.join(folder, description.get("entry", "main")), "w") as f:
            f.write('print("project {{project_id}} on {{port}}")\n')

    def command(self, *arguments):
        return [os.path.join(repld.BUILD, "repld"), "stack", *arguments, "--stacks-dir", self.stacks,
                "--environments-dir", self.environments]

    def run(self, *arguments, timeout=300):
        return subprocess.run(self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=timeout, check=False)

    def built(self):
        return self.layers() - self.before


@pytest.fixture
def stacks():
    folder = os.path.join(repld.SCRATCH, f"repld-stacks-{os.urandom(4).hex()}")
    try:
        yield Stacks(folder)
    finally:
        shutil.rmtree(folder)


def mounts_below(folder):
    with open("/proc/self/mounts") as f:
        return [line for line in f if folder in line]


def test_a_language_is_a_folder(stacks, new_server):
    stacks.put("lua", LUA)
    assert stacks.run("check").returncode == 1, "an environment that is not built is not ok"
    r = stacks.run("build")
    assert r.returncode == 0, r.stderr
    assert "downloading packages" in r.stderr and "built" in r.stderr
    assert stacks.run("check").stdout == "lua: ok\n"
    assert " built " in stacks.run("list").stdout
    # built once
    again = stacks.run("build")
    assert (again.returncode, again.stderr) == (0, "")
    (layer,) = stacks.built()
    assert layer + ".json" in stacks.manifests()
    server = new_server(stacks_dir=stacks.stacks, environments_dir=stacks.environments)
    assert [s["name"] for s in server.get("stacks").json()["items"]] == ["lua"]
    p = server.create("lua")
    assert p.read("main.lua").decode() == f'print("project {p.id} on 7000")\n'
    p.post("/run")
    p.wait_run("exited", timeout=60)
    assert f"project {p.id} on 7000" in p.logs()
    code, out, _ = p.exec("lua5.4", "-e", 'print(_VERSION, os.getenv("PORT"))')
    assert (code, out) == (0, "Lua 5.4\t7000\n")


def test_an_interrupted_build_starts_again_cleanly(stacks):
    stacks.put("lua", LUA)
    p = subprocess.Popen(stacks.command("build", "lua"), stderr=subprocess.PIPE, text=True)
    for line in p.stderr:
        if "downloading packages" in line or "installing packages" in line:
            break
    p.send_signal(signal.SIGKILL)
    p.wait()
    p.stderr.close()
    half = stacks.built()
    assert any(n.endswith(".part") for n in half), half
    assert not any(n + ".json" in stacks.manifests() for n in half)
    assert stacks.run("list").stdout.count("not built") == 1
    r = stacks.run("build", "lua")
    assert r.returncode == 0, r.stderr
    (layer,) = stacks.built()
    assert len(layer) == 64
    assert not mounts_below(stacks.environments)


def test_two_builds_at_once_are_one(stacks):
    stacks.put("lua", LUA)
    both = [subprocess.Popen(stacks.command("build"), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [p.communicate(timeout=300)[1] for p in both]
    assert [p.returncode for p in both] == [0, 0], errors
    assert sum("installing packages" in e for e in errors) == 1, errors
    assert sum("waiting" in e for e in errors) <= 1
    assert len(stacks.built()) == 1


def test_a_build_that_fails_says_why_and_leaves_nothing(stacks):
    stacks.put("lua", {**LUA, "environment": {**LUA["environment"], "packages": ["repld-no-such-package"]}})
    r = stacks.run("build")
    assert r.returncode == 1
    assert "lua" in r.stderr and "Unable to locate package repld-no-such-package" in r.stderr
    assert not stacks.built()
    assert not mounts_below(stacks.environments)
    stacks.put("lua", LUA)
    r = stacks.run("build", "--debian-mirror", "http://127.0.0.1:9/debian")
    assert r.returncode == 1 and "127.0.0.1" in r.stderr
    assert not stacks.built()


def test_a_wrong_description_is_named(stacks):
    stacks.put("lua", {**LUA, "limits": {**LUA["limits"], "memory": "lots"}})
    r = stacks.run("build")
    assert r.returncode == 1
    assert "lua/stack.json: /limits/memory" in r.stderr
    stacks.put("lua", {**LUA, "colour": "blue"})
    assert "lua/stack.json: /colour" in stacks.run("list").stderr


def test_wrong_usage(stacks):
    stacks.put("lua", LUA)
    assert stacks.run("paint").returncode == 2
    r = stacks.run("build", "cobol")
    assert r.returncode == 1 and 'no stack "cobol"' in r.stderr
    r = stacks.run("build", "lua", "--no-such-flag", "1")
    assert r.returncode == 2 and "no-such-flag" in r.stderr
    assert not stacks.built()
