"""The two requests of the reference systems, against the real package registries, from creation to an answer."""
import json
import re
import statistics
import threading
import time

import pytest

import bare
import repld

PYTHON = {"fastapi": "0.110.0", "uvicorn": "0.27.0"}
NODE = {"express": "^4.18.2", "mongoose": "^7.6.0"}
CASES = {
    "python": dict(dependencies=PYTHON, port=8000, registry="Python package", install="pip install",
                   installed=r"Successfully installed .*fastapi-0\.110\.0.*uvicorn-0\.27\.0"),
    "node": dict(dependencies=NODE, port=3000, registry="npm", install="npm install", installed=r"added \d+ packages"),
}


def run_or_name(project, registry, timeout=600):
    """Runs and waits until the run command runs. A registry that does not deliver fails the test by its name."""
    project.post("/run")
    status = project.wait_run("running", "failed", "exited", timeout=timeout)
    assert status["run"]["state"] == "running", \
        f"the {registry} registry did not deliver: {json.dumps(status)}\n{project.logs()[-3000:]}"
    return status


def answer(project, port):
    return bare.until_answer(lambda: project.server.preview(project, port), 60)


def follow_logs(project, pieces):
    """Collects the pieces of the logs' server-sent events, each with the run's state at that moment."""
    def read():
        lines = []
        with project.get("/logs", params={"follow": 1}, stream=True, timeout=600) as r:
            r.encoding = "utf-8"
            for line in r.iter_lines(decode_unicode=True, delimiter="\n"):
                if line.startswith("data:"):
                    lines.append(line[5:].removeprefix(" "))
                elif not line and lines:
                    pieces.append(("\n".join(lines), project.status()["run"]["state"]))
                    lines = []
                    if re.search("Uvicorn running|Server running", pieces[-1][0]):
                        return
    t = threading.Thread(target=read, daemon=True)
    t.start()
    return t


@pytest.fixture(scope="module", params=sorted(CASES))
def reference(request, shared_server):
    """The project of one reference request, run once; with what was seen while it installed."""
    case = CASES[request.param]
    project = shared_server.create(request.param, dependencies=case["dependencies"])
    project.case = case
    project.manifest = project.read("requirements.txt" if request.param == "python" else "package.json").decode()
    project.streamed = []
    project.post("/start?wait=60")
    reader = follow_logs(project, project.streamed)
    run_or_name(project, case["registry"])
    project.wait_port(case["port"])
    project.answer = answer(project, case["port"])
    reader.join(30)
    project.first_logs = project.logs()
    yield project
    shared_server.request("DELETE", project.path, expect=[204, 404])


def test_the_manifest_is_written(reference):
    if reference.body["stack"] == "python":
        assert reference.manifest == "fastapi==0.110.0\nuvicorn==0.27.0\n"
    else:
        manifest = json.loads(reference.manifest)
        assert manifest["dependencies"] == NODE
        assert (manifest["type"], manifest["main"], manifest["name"]) == ("module", "index.js", reference.id)


def test_the_starter_answers(reference):
    assert reference.answer.json() == {"message": f"Project {reference.id} running"}
    assert reference.answer.headers["Content-Type"].startswith("application/json")


def test_the_manager_s_output_is_in_the_logs(reference):
    assert reference.case["install"] in reference.first_logs
    assert re.search(reference.case["installed"], reference.first_logs, re.S), reference.first_logs[-3000:]


def test_the_output_is_streamed_while_it_installs(reference):
    text = "".join(piece for piece, _ in reference.streamed)
    assert reference.first_logs.startswith(text) and reference.case["install"] in text
    assert any(state == "installing" for _, state in reference.streamed), reference.streamed[:20]


def test_packages_are_installed_inside_as_the_user(reference):
    path = ".venv/bin/uvicorn" if reference.body["stack"] == "python" else "node_modules/express/package.json"
    code, out, err = reference.exec("stat", "-c", "%u", path)
    assert (code, out.strip()) == (0, "1000"), err


def test_both_packages_can_be_imported(reference):
    if reference.body["stack"] == "python":
        command = ["python", "-c", "import fastapi, uvicorn; print(fastapi.__version__, uvicorn.__version__)"]
        expected = "0.110.0 0.27.0"
    else:
        command = ["node", "-e", "Promise.all([import('express'), import('mongoose')]).then(([, m]) => "
                                 "console.log(m.default.version.split('.')[0]))"]
        expected = "7"
    code, out, err = reference.exec(*command)
    assert (code, out.strip()) == (0, expected), err


def test_a_second_run_installs_nothing(reference):
    reference.post("/run/stop")
    reference.wait_run("idle", "exited", "failed")
    run_or_name(reference, reference.case["registry"])
    assert answer(reference, reference.case["port"]).json() == {"message": f"Project {reference.id} running"}
    assert reference.case["install"] not in reference.logs()


def test_another_dependency_is_installed_by_the_next_run(reference):
    reference.post("/run/stop")
    reference.wait_run("idle", "exited", "failed")
    if reference.body["stack"] == "python":
        reference.write("requirements.txt", reference.manifest + "idna\n")
    else:
        manifest = json.loads(reference.read("package.json"))
        manifest["dependencies"]["ms"] = "2.1.3"
        reference.write("package.json", json.dumps(manifest))
    run_or_name(reference, reference.case["registry"])
    assert reference.case["install"] in reference.logs()
    reference.post("/run/stop")
    reference.wait_run("idle", "exited", "failed")
    run_or_name(reference, reference.case["registry"])
    assert reference.case["install"] not in reference.logs()


def test_packages_that_were_deleted_are_installed_again(reference):
    reference.post("/run/stop")
    reference.wait_run("idle", "exited", "failed")
    folder = ".venv" if reference.body["stack"] == "python" else "node_modules"
    assert reference.exec("rm", "-rf", folder)[0] == 0
    run_or_name(reference, reference.case["registry"])
    assert reference.case["install"] in reference.logs()
    assert answer(reference, reference.case["port"]).status_code == 200


# The aim is 1.2 times the bare command. Making the sandbox and what happens around it is not within that for node yet
# (docs/performance.md): it may take this long on top.
SANDBOX_SECONDS = 0.3


def allowed(theirs):
    return 1.2 * quartile(theirs) + SANDBOX_SECONDS


def test_a_second_run_is_as_quick_as_the_bare_command(reference):
    """From a stopped project to the first answer, beside the same command bare with the same limits, interleaved.
    On a shared machine other work only ever adds time, up to the double: so the quartiles of the quicker runs are
    compared, and more runs are taken before ours counts as slower."""
    python = reference.body["stack"] == "python"
    free = repld.free_port()
    if python:
        argv = ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", str(free)]
        path = "/home/runner/app/.venv/bin:/usr/bin:/bin"
    else:
        argv = ["node", "index.js"]
        path = "/usr/bin:/bin"
    run_or_name(reference, reference.case["registry"])
    peer = bare.Bare(reference.body["stack"], bare.sandbox_files(reference.server),
                     {"PATH": path, "HOME": "/home/runner", "LANG": "C.UTF-8", "PORT": str(free),
                      "PYTHONUNBUFFERED": "1"})
    ours, theirs = [], []
    try:
        while len(ours) < 25:
            reference.stop()
            ours.append(time_run(reference))
            reference.stop()
            seconds, response = peer.start(argv, free)
            assert response.json() == {"message": f"Project {reference.id} running"}
            theirs.append(seconds)
            if len(ours) >= 5 and quartile(ours) <= allowed(theirs):
                break
    finally:
        peer.close()
    print(f"run to first answer: {quartile(ours):.3f} s, bare {quartile(theirs):.3f} s, {len(ours)} runs")
    assert quartile(ours) <= allowed(theirs), (ours, theirs)


def quartile(values):
    return statistics.quantiles(values, n=4, method="inclusive")[0]


def time_run(project):
    begin = time.monotonic()
    project.post("/run")
    answer(project, project.case["port"])
    return time.monotonic() - begin


# ---- without dependencies ----

@pytest.mark.parametrize("stack, port", [("python", 8000), ("node", 3000)])
def test_a_project_without_dependencies_answers_too(server, stack, port):
    p = server.create(stack)
    run_or_name(p, CASES[stack]["registry"])
    assert answer(p, port).json() == {"message": f"Project {p.id} running"}
    p.delete()


def test_the_reference_systems_own_clients_work(server):
    made = server.post("create", {"runtime": "python", "dependencies": {}}).json()
    assert made["project_id"] == made["projectId"]
    started = server.post(f"run/{made['project_id']}").json()
    assert started["message"] == "Project running"
    assert started["container"] and started["containerName"]
    p = repld.Project(server, {"id": made["project_id"], "stack": "python"})
    assert answer(p, 8000).json() == {"message": f"Project {p.id} running"}
    p.delete()
    assert server.get(f"projects/{server.post('create', {}).json()['project_id']}").json()["stack"] == "node"


# ---- what goes wrong ----

@pytest.mark.parametrize("stack, dependencies, pointer", [
    ("python", {"a; rm -rf /": "1"}, "/dependencies/a; rm -rf ~1"),
    ("python", {"--index-url=http://x": "1"}, "/dependencies/--index-url=http:~1~1x"),
    ("python", {"fastapi": "1.0\n--index-url=http://x"}, "/dependencies/fastapi"),
    ("python", {"fastapi": "1.0 --hash=sha256:00"}, "/dependencies/fastapi"),
    ("python", {"fastapi": "@ https://x/y.whl"}, "/dependencies/fastapi"),
    ("python", {"fastapi": "../fastapi"}, "/dependencies/fastapi"),
    ("python", {"fastapi": 1}, "/dependencies/fastapi"),
    ("python", {"Flask": "3.0", "flask": "3.0"}, "/dependencies/flask"),
    ("python", {"": "1"}, "/dependencies/"),
    ("python", ["fastapi"], "/dependencies"),
    ("python", {f"p{i}": "1" for i in range(501)}, "/dependencies"),
    ("node", {"express": "file:../x"}, "/dependencies/express"),
    ("node", {"express": "git+ssh://x/y"}, "/dependencies/express"),
    ("node", {"express": "npm:other@1"}, "/dependencies/express"),
    ("node", {"express": "$(id)"}, "/dependencies/express"),
    ("node", {"../../etc": "1"}, "/dependencies/..~1..~1etc"),
    ("node", {"@a/../b": "1"}, "/dependencies/@a~1..~1b"),
])
def test_malformed_dependencies_are_refused(server, stack, dependencies, pointer):
    before = len(server.projects())
    r = server.request("POST", "projects", json={"stack": stack, "dependencies": dependencies}, expect=400)
    problem = r.json()
    assert problem["code"] == "invalid_request"
    assert [e["pointer"] for e in problem["errors"]] == [pointer]
    assert len(server.projects()) == before


@pytest.mark.parametrize("stack, name", [("python", "repld-no-such-package-0f3a"), ("node", "repld-no-such-package-0f3a")])
def test_a_package_that_does_not_exist_is_named(server, stack, name):
    p = server.create(stack, dependencies={name: "1.0.0"})
    p.post("/run")
    status = p.wait_run("failed", "running", "exited", timeout=300)
    assert status["run"]["state"] == "failed", status
    assert name in status["run"]["reason"], status
    assert name in p.logs()
    # the sandbox still works, and the same run works once the manifest is right
    p.write("requirements.txt", "") if stack == "python" else p.write(
        "package.json", json.dumps({"type": "module", "main": "index.js"}))
    run_or_name(p, CASES[stack]["registry"])
    assert answer(p, CASES[stack]["port"]).status_code == 200
    p.delete()


def test_an_install_that_outgrows_its_memory_says_so(server):
    """A package of the project's own whose build takes three times what an install may have."""
    p = server.create("python")
    p.start()
    p.write("hog/pyproject.toml", '[build-system]\nrequires = []\nbuild-backend = "hog"\nbackend-path = ["."]\n')
    p.write("hog/hog.py", "x = bytearray(3 << 30)\nfor i in range(0, len(x), 4096):\n    x[i] = 1\n")
    p.write("requirements.txt", "./hog\n")
    p.post("/run")
    status = p.wait_run("failed", "running", "exited", timeout=300)
    assert status["run"]["state"] == "failed", status
    assert "memory" in status["run"]["reason"], (status, p.logs()[-2000:])
    assert status["state"] == "running"
    assert p.exec("echo", "alive")[1] == "alive\n"
    p.delete()


def test_an_install_that_fails_keeps_its_output(server):
    p = server.create("python")
    p.start()
    p.write("broken/pyproject.toml", '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n')
    p.write("broken/b.py", 'raise SystemExit("this build is broken on purpose")\n')
    p.write("requirements.txt", "./broken\n")
    p.post("/run")
    status = p.wait_run("failed", "running", "exited", timeout=300)
    assert status["run"]["state"] == "failed", status
    assert "broken on purpose" in p.logs()
    p.delete()


def test_a_run_command_that_does_not_exist_is_named(server):
    p = server.create("python")
    p.request("PATCH", "", json={"run_command": "no-such-program-here --flag"})
    p.post("/run")
    status = p.wait_run("failed", "exited", timeout=120)
    assert "no-such-program-here" in status["run"].get("reason", "") + p.logs(), status
    p.delete()
