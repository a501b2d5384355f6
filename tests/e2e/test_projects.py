"""Projects: making, listing, reading, changing, deleting; what is refused, and how."""
import base64
import concurrent.futures
import json
import os
import uuid

import pytest
import requests
import websocket

import repld


def problem(r, status, code, pointer=None):
    assert r.status_code == status, f"{r.status_code}: {r.text}"
    assert r.headers["Content-Type"] == "application/problem+json"
    body = r.json()
    assert body["status"] == status and body["code"] == code, body
    assert body["title"] and body["detail"] and body["request_id"] == r.headers["X-Request-Id"], body
    if pointer is not None:
        assert [e["pointer"] for e in body["errors"]] == [pointer], body
    return body


@pytest.fixture
def made(server):
    """Makes projects and deletes them again."""
    ids = []

    def make(stack="python", **body):
        p = server.create(stack, **body)
        ids.append(p.id)
        return p
    yield make
    for i in ids:
        server.request("DELETE", f"projects/{i}", expect=[204, 404])


def test_service_routes(server):
    for path in ("/health", "/api/v1/health"):
        body = server.get(path).json()
        assert body["status"] == "ok" and body["version"] and body["time"].endswith("Z")
    assert server.get("/ready").json() == {"status": "ready"}
    page = server.get("/", headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.headers["Content-Type"].startswith("text/html") and "repld" in page.text
    assert server.get("/", headers={"Accept": "*/*"}).json()["status"] == "ok"
    stacks = {s["name"]: s for s in server.get("stacks").json()["items"]}
    assert {"python", "node"} <= set(stacks)
    assert stacks["python"]["manager"] == "pip" and stacks["node"]["manager"] == "npm"


def test_a_new_project(server, made):
    r = server.post("projects", {"stack": "python"}, expect=201)
    body = r.json()
    assert r.headers["Location"] == f"/api/v1/projects/{body['id']}"
    assert r.headers["ETag"] == '"1"' and body["version"] == 1
    assert body["stack"] == "python" and body["state"] == "stopped" and body["owner"] == "local"
    assert body["network"] == {"mode": "internet"} and body["idle_timeout"] == 600 and body["always_on"] is False
    assert body["limits"]["memory"] == 256 << 20 and body["limits"]["cpu"] == 0.5
    assert body["created_at"] == body["updated_at"]
    assert server.get(r.headers["Location"]).json() == body
    p = repld.Project(server, body)
    assert b"print" in p.read("main.py") or b"import" in p.read("main.py")
    p.delete()


def test_files_of_the_request_are_written(made):
    p = made(files={"main.py": "print('mine')\n", "a/b/c.txt": "deep", "bin.dat": {"base64": "AP8Q"}},
             dependencies={"fastapi": "0.110.0", "uvicorn": "0.27.0"}, name="  My project  ",
             metadata={"course": "c1"}, env={"GREETING": "hi there"}, run_command="python main.py",
             limits={"memory": 128 << 20, "cpu": 0.25, "processes": 40, "disk": 100 << 20},
             network="none", idle_timeout=42)
    assert p.body["name"] == "My project"
    assert p.body["limits"] == {"memory": 128 << 20, "cpu": 0.25, "processes": 40, "disk": 100 << 20}
    assert p.body["dependencies"] == {"fastapi": "0.110.0", "uvicorn": "0.27.0"}
    assert p.body["network"] == {"mode": "none"} and p.body["idle_timeout"] == 42
    assert p.body["env"] == {"GREETING": "hi there"} and p.body["metadata"] == {"course": "c1"}
    assert p.read("main.py") == b"print('mine')\n"
    assert p.read("a/b/c.txt") == b"deep"
    assert p.read("bin.dat") == b"\x00\xff\x10"
    assert p.read("requirements.txt").decode().split() == ["fastapi==0.110.0", "uvicorn==0.27.0"]


def test_many_and_large_files(made):
    large = os.urandom(6 << 20)
    files = {f"d{i % 10}/f{i}.txt": f"content {i}\n" for i in range(500)}
    files["large.bin"] = {"base64": base64.b64encode(large).decode()}
    files["na\u00efve \u2603\nname"] = "odd"
    p = made(files=files)
    assert p.read("large.bin") == large
    assert p.read("d7/f497.txt") == b"content 497\n" and p.read("na\u00efve \u2603\nname") == b"odd"


def test_files_over_the_limits(server):
    r = server.post("projects", {"stack": "python", "files": {f"f{i}": "" for i in range(1001)}}, expect=400)
    problem(r, 400, "invalid_request", "/files")
    r = server.post("projects", {"stack": "python", "files": {"f": "x" * (17 << 20)}}, expect=400)
    problem(r, 400, "invalid_request", "/files")


def test_files_over_the_quota_leave_nothing(server):
    before = {p["id"] for p in server.projects()}
    body = {"stack": "python", "limits": {"disk": 16 << 20},
            "files": {f"f{i}": {"base64": base64.b64encode(os.urandom(1 << 20)).decode()} for i in range(16)}}
    problem(server.post("projects", body, expect=507), 507, "disk_full")
    assert {p["id"] for p in server.projects()} == before


def test_node_manifest(made):
    p = made("node", dependencies={"express": "^4.18.2", "mongoose": "^7.6.0"})
    manifest = json.loads(p.read("package.json"))
    assert manifest["dependencies"] == {"express": "^4.18.2", "mongoose": "^7.6.0"}
    assert f"Project {p.id} running" in p.read("index.js").decode()


def test_dependencies_join_a_manifest_of_the_user(made):
    p = made("node", dependencies={"express": "^4.18.2"},
             files={"package.json": '{"name":"mine","scripts":{"x":"y"},"dependencies":{"left-pad":"1.0.0"}}'})
    manifest = json.loads(p.read("package.json"))
    assert manifest["name"] == "mine" and manifest["scripts"] == {"x": "y"}
    assert manifest["dependencies"] == {"left-pad": "1.0.0", "express": "^4.18.2"}


BAD = [
    ({}, "/stack"),
    ({"stack": "cobol"}, "/stack"),
    ({"stack": "../python"}, "/stack"),
    ({"stack": ["python"]}, "/stack"),
    ({"stack": "python", "surprise": 1}, "/surprise"),
    ({"stack": "python", "name": "x" * 101}, "/name"),
    ({"stack": "python", "name": "a\x07b"}, "/name"),
    ({"stack": "python", "dependencies": {"evil; rm -rf /": "1"}}, "/dependencies/evil; rm -rf ~1"),
    ({"stack": "python", "dependencies": {"x": "1\n--index-url=http://e.example"}}, "/dependencies/x"),
    ({"stack": "python", "dependencies": {"x": "--index-url=http://e.example"}}, "/dependencies/x"),
    ({"stack": "python", "dependencies": {"x": "@ git+https://e.example/x"}}, "/dependencies/x"),
    ({"stack": "python", "dependencies": {"-r": "1"}}, "/dependencies/-r"),
    ({"stack": "python", "dependencies": {"./local": "1"}}, "/dependencies/.~1local"),
    ({"stack": "node", "dependencies": {"x": "file:../../etc"}}, "/dependencies/x"),
    ({"stack": "node", "dependencies": {"x": "git+ssh://e.example/x"}}, "/dependencies/x"),
    ({"stack": "node", "dependencies": {"$(reboot)": "1"}}, "/dependencies/$(reboot)"),
    ({"stack": "node", "dependencies": {"x": 7}}, "/dependencies/x"),
    ({"stack": "python", "files": {"../escape": "x"}}, "/files/..~1escape"),
    ({"stack": "python", "files": {"/etc/passwd": "x"}}, "/files/~1etc~1passwd"),
    ({"stack": "python", "files": {"a/./b": "x"}}, "/files/a~1.~1b"),
    ({"stack": "python", "files": {"x": {"base64": "*"}}}, "/files/x"),
    ({"stack": "python", "env": {"BAD NAME": "x"}}, "/env/BAD NAME"),
    ({"stack": "python", "env": {"A": "x" * 40000}}, "/env/A"),
    ({"stack": "python", "limits": {"memory": 1 << 50}}, "/limits/memory"),
    ({"stack": "python", "limits": {"cpu": "all"}}, "/limits/cpu"),
    ({"stack": "python", "network": {"mode": "allow", "allow": ["everything"]}}, "/network/allow/0"),
    ({"stack": "python", "idle_timeout": 1.5}, "/idle_timeout"),
    ({"stack": "python", "run_command": "echo 'open"}, "/run_command"),
]


@pytest.mark.parametrize("body,pointer", BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input_names_the_field_and_makes_nothing(server, body, pointer):
    before = {p["id"] for p in server.projects()}
    problem(server.post("projects", body, expect=400), 400, "invalid_request", pointer)
    assert {p["id"] for p in server.projects()} == before


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"stack":"python","stack":"node"}', '{"stack":"py\\u0000thon"}',
                                  "[" * 5000, '{"name":"\ud800"}', '{"stack":"python"} x'])
def test_bad_json(server, text):
    r = server.request("POST", "projects", data=text.encode("utf-8", "surrogatepass"),
                       headers={"Content-Type": "application/json"}, expect=400)
    problem(r, 400, "invalid_request")


def test_body_that_is_not_json_or_too_large(server):
    r = server.request("POST", "projects", data="stack=python", expect=415,
                       headers={"Content-Type": "application/x-www-form-urlencoded"})
    problem(r, 415, "unsupported_media_type")
    r = server.request("POST", "projects", data=b'{"name":"' + b"x" * (40 << 20) + b'"}', expect=413,
                       headers={"Content-Type": "application/json"})
    problem(r, 413, "too_large")
    assert server.get("projects").status_code == 200


def test_pages_of_other_origins_command_nothing(server, stopped_project):
    for origin in ("http://evil.example", "null", f"http://8000-{stopped_project.id}.localhost:{server.port}",
                   f"http://127.0.0.1:{server.port + 1}"):
        for method, path in (("POST", "projects"), ("POST", f"projects/{stopped_project.id}/start"),
                             ("DELETE", f"projects/{stopped_project.id}"), ("POST", "create")):
            r = server.request(method, path, headers={"Origin": origin}, json={"stack": "python"}, expect=403)
            problem(r, 403, "forbidden")
        with pytest.raises(websocket.WebSocketBadStatusException) as e:
            websocket.create_connection(f"ws://127.0.0.1:{server.port}{stopped_project.path}/events", timeout=10,
                                        origin=origin)
        assert e.value.status_code == 403
    r = server.post(f"projects/{stopped_project.id}/stop", headers={"Origin": server.url})
    assert r.status_code == 200


def test_what_a_browser_says_of_the_page_that_asks(server, stopped_project):
    """Fetch metadata: it is there where Origin is not, as with <script src> and <img>, which send cookies or start things."""
    content = f"{stopped_project.path}/files/content?path=main.py"
    for site in ("cross-site", "same-site"):
        for mode in ("no-cors", "cors", "websocket"):
            r = server.get(content, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}, expect=403)
            problem(r, 403, "forbidden")
        for mode in ("navigate", "no-cors"):  # a form posts by navigating
            server.post(f"projects/{stopped_project.id}/start", expect=403,
                        headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode})
        server.get("projects", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"})
    assert stopped_project.status()["state"] == "stopped"
    for site in ("same-origin", "none"):
        server.get(content, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors"})
        server.post(f"projects/{stopped_project.id}/stop", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors"})


def test_unknown_projects_and_routes(server):
    for i in ("aaaaaaaaaaaaaaaa", "x", "..", "%2e%2e", "a" * 200, "%00", "%ff", "AAAAAAAAAAAAAAAA"):
        for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/run"),
                             ("GET", "/status"), ("GET", "/ports"), ("GET", "/stats")):
            r = requests.Request(method, server.url).prepare()
            r.url = f"{server.url}/api/v1/projects/{i}{path}"  # as it is: requests would resolve the dots
            assert server.http.send(r, timeout=10).status_code in (400, 404), (i, method, path)
    problem(server.get("nothing", expect=404), 404, "not_found")
    r = server.request("PUT", "projects", expect=405)
    problem(r, 405, "method_not_allowed")
    assert r.headers["Allow"] == "GET, HEAD, POST"
    r = server.request("OPTIONS", "projects", expect=204)
    assert r.headers["Allow"] == "GET, HEAD, POST"


def test_events_without_an_upgrade(stopped_project):
    r = stopped_project.get("/events", expect=426)
    problem(r, 426, "upgrade_required")


def test_listing(server, made):
    tag = uuid.uuid4().hex
    ids = [made(name=f"{tag} number {i}", metadata={"tag": tag, "odd": str(i % 2)}).id for i in range(5)]
    newest_first = ids[::-1]

    def listed(**query):
        r = server.get("projects", params=query).json()
        return [p["id"] for p in r["items"]], r["next_cursor"]

    assert listed(q=tag)[0] == newest_first
    assert listed(q=tag.upper())[0] == newest_first
    assert listed(**{"metadata.tag": tag, "metadata.odd": "1"})[0] == [ids[3], ids[1]]
    assert listed(q=tag, state="running")[0] == []
    assert listed(q=tag, state="stopped")[0] == newest_first
    seen, cursor = [], None
    while True:
        page, cursor = listed(q=tag, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += page
        if not cursor:
            break
        if len(seen) == 2:  # the one that the cursor names may go away
            server.request("DELETE", f"projects/{seen[-1]}", expect=204)
    assert seen == newest_first
    for query in ({"limit": 0}, {"limit": "x"}, {"limit": 100000}, {"state": "sleeping"}, {"cursor": "x"},
                  {"cursor": "1.../../x"}, {"surprise": "1"}):
        problem(server.get("projects", params=query, expect=400), 400, "invalid_request")


def test_patch(server, stopped_project):
    p = stopped_project
    r = p.request("PATCH", "", json={"name": "Renamed", "env": {"A": "1", "B": "2"}, "metadata": {"k": "v"}})
    assert r.json()["name"] == "Renamed" and r.headers["ETag"] == '"2"'
    r = p.request("PATCH", "", json={"env": {"A": None, "C": "3"}, "always_on": True, "idle_timeout": 7,
                                     "run_command": "python other.py", "limits": {"memory": 64 << 20},
                                     "network": {"mode": "allow", "allow": ["203.0.113.0/24"]}})
    body = r.json()
    assert body["env"] == {"B": "2", "C": "3"} and body["metadata"] == {"k": "v"}
    assert body["always_on"] is True and body["idle_timeout"] == 7 and body["run_command"] == "python other.py"
    assert body["limits"]["memory"] == 64 << 20
    assert body["network"] == {"mode": "allow", "allow": ["203.0.113.0/24"]}
    assert body["updated_at"] > body["created_at"]
    back = p.request("PATCH", "", json={"run_command": None, "limits": {"memory": None}}).json()
    assert back["run_command"] == "python main.py" and back["limits"]["memory"] == 256 << 20
    assert p.get().json() == back
    for change, pointer in (({"stack": "node"}, "/stack"), ({"id": "x"}, "/id"), ({"name": ""}, "/name"),
                            ({"always_on": 1}, "/always_on"), ({"env": {"A": 1}}, "/env/A")):
        problem(p.request("PATCH", "", json=change, expect=400), 400, "invalid_request", pointer)
    assert p.get().json() == back


def test_if_match_guards_changes(stopped_project):
    p = stopped_project
    etag = p.get().headers["ETag"]
    assert p.request("PATCH", "", json={"name": "one"}, headers={"If-Match": etag}).status_code == 200
    r = p.request("PATCH", "", json={"name": "two"}, headers={"If-Match": etag}, expect=412)
    problem(r, 412, "precondition_failed")
    problem(p.request("DELETE", "", headers={"If-Match": etag}, expect=412), 412, "precondition_failed")
    assert p.get().json()["name"] == "one"
    assert p.request("PATCH", "", json={"name": "3"}, headers={"If-Match": "*"}).status_code == 200
    assert p.request("PATCH", "", json={"name": "4"}, headers={"If-Match": 'W/"3", "3"'}).status_code == 200


def test_concurrent_patches_lose_nothing(stopped_project):
    p = stopped_project

    def change(i):
        return requests.patch(p.server.url + p.path, json={"env": {f"V{i}": str(i)}}, timeout=30).status_code
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(change, range(24)))
    assert codes == [200] * 24
    body = p.get().json()
    assert body["env"] == {f"V{i}": str(i) for i in range(24)} and body["version"] == 25


def test_start_does_not_change_the_etag(project):
    assert project.get().headers["ETag"] == '"1"'


def test_delete(server):
    p = server.create("python")
    p.start()
    p.request("DELETE", "", expect=204)
    problem(p.get(expect=404), 404, "not_found")
    problem(p.request("DELETE", "", expect=404), 404, "not_found")
    assert p.id not in {x["id"] for x in server.projects()}
    ws = server.websocket(f"{p.path}/events")
    opcode, data = ws.recv_data()
    assert (opcode, int.from_bytes(data[:2], "big")) == (8, 4404)


def test_idempotency_key(server, made):
    key = uuid.uuid4().hex
    first = server.post("projects", {"stack": "python", "name": "once"}, expect=201, headers={"Idempotency-Key": key})
    made_id = first.json()["id"]
    again = server.post("projects", {"name": "once", "stack": "python"}, expect=201, headers={"Idempotency-Key": key})
    assert again.json() == first.json() and again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    r = server.post("projects", {"stack": "node"}, expect=409, headers={"Idempotency-Key": key})
    problem(r, 409, "conflict")
    for bad in ("", "x" * 256, "a b"):
        r = server.post("projects", {"stack": "python"}, expect=400, headers={"Idempotency-Key": bad})
        problem(r, 400, "invalid_request")
    server.request("DELETE", f"projects/{made_id}", expect=204)


def test_one_key_at_the_same_time_makes_one_project(server):
    key, name = uuid.uuid4().hex, uuid.uuid4().hex

    def make(_):
        r = requests.post(server.url + "/api/v1/projects", json={"stack": "python", "name": name},
                          headers={"Idempotency-Key": key}, timeout=60)
        return r.status_code
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(make, range(6)))
    assert 201 in codes and set(codes) <= {201, 409}
    items = server.get("projects", params={"q": name}).json()["items"]
    assert len(items) == 1
    server.request("DELETE", f"projects/{items[0]['id']}", expect=204)


def test_the_reference_systems_create(server):
    r = server.post("create", {"dependencies": {"express": "^4.18.2"}}, expect=201)
    body = r.json()
    assert set(body) == {"project_id", "projectId"} and body["project_id"] == body["projectId"]
    p = server.get(f"projects/{body['projectId']}").json()
    assert p["stack"] == "node" and p["dependencies"] == {"express": "^4.18.2"}
    r = server.post("create", {"runtime": "python", "dependencies": {"flask": "3.0.0"}}, expect=201)
    q = server.get(f"projects/{r.json()['project_id']}").json()
    assert q["stack"] == "python"
    problem(server.post("create", {"dependencies": {"a b": "1"}}, expect=400), 400, "invalid_request",
            "/dependencies/a b")
    for i in (p["id"], q["id"]):
        server.request("DELETE", f"projects/{i}", expect=204)


def test_what_was_acknowledged_survives_kill_9(new_server):
    s = new_server()
    p = s.create("python", name="kept", files={"x.txt": "kept"})
    key = uuid.uuid4().hex
    once = s.post("projects", {"stack": "python"}, headers={"Idempotency-Key": key}, expect=201).json()
    gone = s.create("python")
    gone.delete()
    p.request("PATCH", "", json={"name": "kept and changed"})
    s.kill_all()
    s.start()
    body = s.get(f"projects/{p.id}").json()
    assert body["name"] == "kept and changed" and body["version"] == 2
    assert p.read("x.txt") == b"kept"
    s.get(f"projects/{gone.id}", expect=404)
    again = s.post("projects", {"stack": "python"}, headers={"Idempotency-Key": key}, expect=201)
    assert again.json()["id"] == once["id"]
    assert {x["id"] for x in s.projects()} == {p.id, once["id"]}
