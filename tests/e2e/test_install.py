"""Installs that fail, are stopped, or outlive the server, against the real package registries."""
import time

import pytest

import repld
from repld import wait_for

SERVE = "import http.server\nhttp.server.test(port=8000, bind='127.0.0.1')\n"
# requirements.txt is the user's own file: what pip builds from it may do as it likes
SETUP = "from setuptools import setup\n{code}\nsetup(name='own', version='1', py_modules=[])\n"


@pytest.fixture
def make(server):
    made = []

    def new(stack, **body):
        made.append(server.create(stack, **body))
        return made[-1]
    yield new
    for p in made:
        server.request("DELETE", p.path, expect=[204, 404])


def own(make, code):
    return make("python", files={"requirements.txt": "./own\n", "own/setup.py": SETUP.format(code=code),
                                 "main.py": SERVE})


@pytest.mark.parametrize("stack,name", [("python", "repld-no-such-package-x1"), ("node", "repld-no-such-package-x1")])
def test_a_package_that_does_not_exist(make, stack, name):
    p = make(stack, dependencies={name: "1.0.0"})
    r = p.post("/run?wait=300", expect=409)
    assert r.json()["code"] == "conflict" and name in r.json()["detail"] and "does not exist" in r.json()["detail"]
    status = p.status()
    assert status["state"] == "running" and status["run"]["state"] == "failed"
    assert name in status["run"]["reason"] and status["run"]["exit_code"] == 1
    assert name in p.logs() and "install failed" in p.logs()
    # nothing was recorded: it is tried again, and works once the manifest is right
    if stack == "python":
        p.write("requirements.txt", "")
        p.write("main.py", SERVE)
        p.post("/run?wait=300", expect=200)
        p.wait_port(8000)


def test_a_version_that_does_not_exist(make):
    p = make("node", dependencies={"express": "99.99.99"})
    detail = p.post("/run?wait=300", expect=409).json()["detail"]
    assert "express@99.99.99" in detail and "does not exist in this version" in detail


def test_an_install_that_fails_says_its_exit_code(make):
    p = own(make, "raise SystemExit(7)")
    detail = p.post("/run?wait=300", expect=409).json()["detail"]
    assert "exit code 1" in detail and "pip" in detail, detail


def test_an_install_that_outgrows_its_memory(make):
    p = own(make, "b = []\nwhile True: b.append(bytearray(1 << 24))")
    detail = p.post("/run?wait=300", expect=409).json()["detail"]
    assert "out of memory" in detail and "1024 MiB" in detail, detail
    assert p.status()["state"] == "running"
    assert p.exec("echo", "alive")[1] == "alive\n"


def test_an_install_that_is_stopped(make):
    p = own(make, "import time; time.sleep(600)")
    p.post("/run")
    wait_for(lambda: "$ .venv/bin/pip" in p.logs(), 60)
    wait_for(lambda: p.status()["progress"]["step"], 10)
    time.sleep(1)
    assert p.post("/run/stop?wait=30").status_code == 200
    status = p.status()
    assert status["run"]["state"] == "failed" and "stopped" in status["run"]["reason"] and "progress" not in status
    wait_for(lambda: "python" not in p.exec("ps", "-eo", "comm")[1], 20)


def test_an_install_goes_on_while_the_server_is_killed(new_server):
    s = new_server()
    p = s.create("python", dependencies={"flask": "3.0.0"},
                 files={"main.py": "import flask\n" + SERVE})
    p.post("/run")
    wait_for(lambda: "$ .venv/bin/pip" in p.logs(), 60)
    s.kill("gateway", "orchestrator")
    s.wait_ready()
    p.wait_run("running", timeout=300)
    p.wait_port(8000)
    assert p.get("/logs?since=0").text.count("$ .venv/bin/pip") == 1
    # what was installed is recorded: nothing is installed again
    p.stop()
    p.post("/run?wait=60")
    assert "pip" not in p.logs()
    p.wait_port(8000)
