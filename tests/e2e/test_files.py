"""Files of a project over HTTP: every route, running and stopped, and what users and their programs do to them."""
import hashlib
import io
import json
import os
import tarfile
import threading
import time
import urllib.parse
import zipfile

import pytest

import repld


def items(project, path="", **params):
    r = project.get("/files", params={"path": path, **params}).json()
    assert r["path"] == path
    return r["items"]


def names(project, path="", **params):
    return [i["path"] for i in items(project, path, **params)]


def problem(r, status, code):
    assert r.status_code == status, r.text
    body = r.json()
    assert r.headers["Content-Type"] == "application/problem+json"
    assert body["code"] == code and body["status"] == status and body["detail"]
    return body["detail"]


@pytest.fixture(scope="module")
def home(shared_server):
    """A running project that the tests of this file share; each works in a folder of its own."""
    p = shared_server.create("python").start()
    yield p
    p.delete()


@pytest.fixture
def folder(home, server, request):
    name = "t-" + request.node.name.replace("[", "-").replace("]", "").replace("/", "_")[:60]
    home.post("/files/mkdir", {"path": name}, expect=201)
    yield name
    home.request("DELETE", "/files/content", params={"path": name, "recursive": 1}, expect=[204, 404])


# ---- read and write ----

def test_write_and_read(home, folder):
    path = folder + "/a/b.txt"
    r = home.write(path, "hello", expect=201)
    assert r.headers["Location"] == f"{home.path}/files/content?path={path}"
    etag = r.headers["ETag"]
    r = home.get("/files/content", params={"path": path})
    assert r.content == b"hello" and r.headers["ETag"] == etag
    assert r.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert r.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in r.headers["Content-Security-Policy"]
    r = home.write(path, "other", expect=204)
    assert r.headers["ETag"] != etag
    assert home.exec("cat", path)[1] == "other"
    assert home.exec("stat", "-c", "%U %a", path)[1] == "runner 644\n"


def test_head_and_download(home, folder):
    path = folder + "/naïve \"name\".bin"
    home.write(path, b"\0" * 1000, expect=201)
    r = home.request("HEAD", "/files/content", params={"path": path})
    assert r.headers["Content-Length"] == "1000" and r.content == b""
    assert r.headers["Content-Type"] == "application/octet-stream"
    r = home.get("/files/content", params={"path": path, "download": 1})
    assert r.headers["Content-Disposition"] == "attachment; filename*=UTF-8''na%C3%AFve%20%22name%22.bin"
    assert home.request("HEAD", "/files/content", params={"path": folder + "/no"}, expect=404).content == b""


def test_ranges(home, folder):
    path = folder + "/digits"
    etag = home.write(path, "0123456789").headers["ETag"]

    def get(value, **headers):
        return home.get("/files/content", params={"path": path}, headers={"Range": value, **headers},
                        expect=[200, 206, 416])
    for value, status, content, span in [
            ("bytes=0-3", 206, b"0123", "bytes 0-3/10"), ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
            ("bytes=5-", 206, b"56789", "bytes 5-9/10"), ("bytes=-3", 206, b"789", "bytes 7-9/10"),
            ("bytes=-100", 206, b"0123456789", "bytes 0-9/10"), ("bytes=0-1,3-4", 200, b"0123456789", None),
            ("lines=1-2", 200, b"0123456789", None), ("bytes=9-2", 200, b"0123456789", None)]:
        r = get(value)
        assert (r.status_code, r.content, r.headers.get("Content-Range")) == (status, content, span), value
    r = get("bytes=10-")
    problem(r, 416, "range_not_satisfiable")
    assert r.headers["Content-Range"] == "bytes */10"
    assert get("bytes=0-1", **{"If-Range": etag}).status_code == 206
    assert get("bytes=0-1", **{"If-Range": '"old"'}).status_code == 200


def test_conditional_requests(home, folder):
    path = folder + "/f"

    def put(content, expect, **headers):
        return home.request("PUT", "/files/content", params={"path": path}, data=content, headers=headers, expect=expect)
    etag = put("one", 201, **{"If-None-Match": "*"}).headers["ETag"]
    problem(put("two", 412, **{"If-None-Match": "*"}), 412, "precondition_failed")
    newer = put("two", 204, **{"If-Match": etag}).headers["ETag"]
    problem(put("three", 412, **{"If-Match": etag}), 412, "precondition_failed")
    problem(put("x", 400, **{"If-Match": "nonsense"}), 400, "invalid_request")
    assert home.read(path) == b"two"
    r = home.get("/files/content", params={"path": path}, headers={"If-None-Match": f'"x", W/{newer}'}, expect=304)
    assert r.content == b"" and r.headers["ETag"] == newer
    home.get("/files/content", params={"path": path}, headers={"If-None-Match": etag}, expect=200)
    problem(home.get("/files/content", params={"path": path}, headers={"If-Match": etag}, expect=412), 412,
            "precondition_failed")
    problem(home.request("DELETE", "/files/content", params={"path": path}, headers={"If-Match": etag}, expect=412), 412,
            "precondition_failed")
    home.request("DELETE", "/files/content", params={"path": path}, headers={"If-Match": newer}, expect=204)
    problem(home.request("PUT", "/files/content", params={"path": folder + "/none"}, data="x",
                         headers={"If-Match": newer}, expect=412), 412, "precondition_failed")


def test_streams_are_whole_and_bounded(home, folder, server):
    """64 MiB in, chunked, and out again: the same bytes, and the server's memory does not grow with them."""
    block = os.urandom(1 << 20)
    size = 64

    def body():
        for _ in range(size):
            yield block
    gateway = server.role_pid("gateway")
    before = repld.resident_bytes(gateway)
    home.request("PUT", "/files/content", params={"path": folder + "/big"}, data=body(), expect=201)
    want, got, most = hashlib.sha256(), hashlib.sha256(), 0
    for _ in range(size):
        want.update(block)
    with server.http.get(server.url + home.path + "/files/content", params={"path": folder + "/big"}, stream=True) as r:
        assert r.headers["Content-Length"] == str(size << 20)
        for piece in r.iter_content(1 << 20):
            got.update(piece)
            most = max(most, repld.resident_bytes(gateway))
    assert got.digest() == want.digest()
    assert most - before < 16 << 20


def test_a_broken_upload_changes_nothing(home, folder, server):
    path = folder + "/f"
    home.write(path, "before", expect=201)
    s = server.raw()
    s.sendall((f"PUT {home.path}/files/content?path={path} HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
               "Content-Length: 1000000\r\n\r\nhalf of it").encode())
    time.sleep(0.3)
    s.close()
    time.sleep(0.2)
    assert home.read(path) == b"before"
    assert home.exec("ls", "-A", folder)[1] == "f\n"


def test_too_large_is_refused_before_it_is_sent(home, folder, server):
    s = server.raw()
    s.sendall((f"PUT {home.path}/files/content?path={folder}/f HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
               f"Content-Length: {9 << 30}\r\nExpect: 100-continue\r\n\r\n").encode())
    answer = s.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 413 ") and '"too_large"' in answer
    s.close()
    assert names(home, folder) == []
    r = home.request("POST", "/files/mkdir", data=json.dumps({"path": "x" * 100000}),
                     headers={"Content-Type": "application/json"}, expect=413)
    problem(r, 413, "too_large")


# ---- lists and changes ----

def test_lists(home, folder):
    for n in ("b/d/e", "a", "c", "b/\nline\tbreak", "b/ünïcode"):
        home.write(f"{folder}/{n}", n, expect=201)
    home.exec("ln", "-s", "a", folder + "/link")
    home.exec("mkfifo", folder + "/pipe")
    assert names(home, folder) == ["a", "b", "c", "link", "pipe"]
    assert names(home, folder, depth=3) == ["a", "b", "b/\nline\tbreak", "b/d", "b/d/e", "b/ünïcode", "c", "link", "pipe"]
    by_name = {i["path"]: i for i in items(home, folder)}
    assert by_name["a"]["type"] == "file" and by_name["a"]["size"] == 1 and by_name["a"]["mode"] == "0644"
    assert by_name["b"]["type"] == "directory" and "size" not in by_name["b"]
    assert by_name["link"]["type"] == "symlink" and by_name["link"]["target"] == "a"
    assert by_name["pipe"]["type"] == "other"
    assert by_name["a"]["modified_at"].endswith("Z")
    assert home.get("/files/content", params={"path": folder + "/a"}).headers["ETag"] == f'"{by_name["a"]["etag"]}"'
    assert home.read(folder + "/b/\nline\tbreak") == b"b/\nline\tbreak"
    r = home.get("/files", params={"path": folder, "limit": 2}).json()
    assert [i["path"] for i in r["items"]] == ["a", "b"] and r["truncated"] is True and r["next_cursor"] is None
    problem(home.get("/files", params={"path": folder + "/no"}, expect=404), 404, "not_found")
    problem(home.get("/files", params={"path": folder + "/a"}, expect=400), 400, "invalid_request")
    problem(home.get("/files", params={"path": folder, "depth": "x"}, expect=400), 400, "invalid_request")


def test_ten_thousand_entries(home, folder):
    home.exec("python3", "-c", f"for i in range(10000): open('{folder}/%05d' % i, 'w').close()")
    assert names(home, folder) == ["%05d" % i for i in range(10000)]


def test_changes(home, folder):
    f = folder
    home.write(f + "/a", "1", expect=201)
    r = home.post("/files/mkdir", {"path": f + "/d/e"}, expect=201)
    assert r.json() == {"path": f + "/d/e"}
    problem(home.post("/files/mkdir", {"path": f + "/d/e", "parents": False}, expect=409), 409, "already_exists")
    home.post("/files/move", {"from": f + "/a", "to": f + "/d/b"}, expect=204)
    home.post("/files/copy", {"from": f + "/d", "to": f + "/copy"}, expect=201)
    assert names(home, f, depth=3) == ["copy", "copy/b", "copy/e", "d", "d/b", "d/e"]
    detail = problem(home.post("/files/move", {"from": f + "/d/b", "to": f + "/copy/b"}, expect=409), 409, "already_exists")
    assert f"{f}/copy/b" in detail
    home.post("/files/move", {"from": f + "/d/b", "to": f + "/copy/b", "overwrite": True}, expect=204)
    problem(home.post("/files/copy", {"from": f + "/copy", "to": f + "/copy/in"}, expect=400), 400, "invalid_request")
    problem(home.post("/files/move", {"from": f + "/none", "to": f + "/x"}, expect=404), 404, "not_found")
    problem(home.request("DELETE", "/files/content", params={"path": f + "/copy"}, expect=409), 409, "conflict")
    home.request("DELETE", "/files/content", params={"path": f + "/copy", "recursive": 1}, expect=204)
    problem(home.request("DELETE", "/files/content", params={"path": f + "/copy"}, expect=404), 404, "not_found")
    problem(home.request("DELETE", "/files/content", params={"recursive": 1}, expect=409), 409, "conflict")
    body = home.post("/files/move", {"from": f + "/x"}, expect=400).json()
    assert body["errors"][0]["pointer"] == "/to"
    body = home.post("/files/mkdir", {"path": "x", "unknown": 1}, expect=400).json()
    assert body["errors"][0]["pointer"] == "/unknown"


def test_search(home, folder):
    home.write(folder + "/a.py", "import os\n# The Needle is here\n", expect=201)
    home.write(folder + "/node_modules/m.js", "needle", expect=201)
    home.write(folder + "/.hidden", "needle", expect=201)

    def search(**body):
        return home.post("/files/search", {"path": folder, **body}).json()
    assert search(query="needle")["items"] == [{"path": "a.py", "line": 2, "column": 7, "text": "# The Needle is here"}]
    assert search(query="needle", case_sensitive=True)["items"] == []
    assert [i["path"] for i in search(query="needle", dependencies=True, hidden=True)["items"]] == [
        ".hidden", "a.py", "node_modules/m.js"]
    assert search(query=".PY", names=True)["items"] == [{"path": "a.py"}]
    assert search(query="needle", glob="*.js")["items"] == []
    assert search(query="e", limit=1, dependencies=True)["truncated"] is True
    assert home.post("/files/search", {"path": folder}, expect=400).json()["errors"][0]["pointer"] == "/query"


# ---- archives ----

def test_archives_go_out(home, folder):
    home.write(folder + "/d/f.txt", "content", expect=201)
    home.write(folder + "/é", b"x" * 300000, expect=201)
    home.exec("chmod", "755", folder + "/d/f.txt")
    home.exec("ln", "-s", "d/f.txt", folder + "/link")
    r = home.get("/archive", params={"path": folder})
    assert r.headers["Content-Type"] == "application/gzip"
    assert r.headers["Content-Disposition"] == f'attachment; filename="{home.id}.tar.gz"'
    with tarfile.open(fileobj=io.BytesIO(r.content)) as t:
        assert sorted(t.getnames()) == ["d", "d/f.txt", "link", "é"]
        assert t.extractfile("d/f.txt").read() == b"content" and t.getmember("d/f.txt").mode == 0o755
        assert t.getmember("link").linkname == "d/f.txt" and t.getmember("é").size == 300000
    r = home.get("/archive", params={"path": folder, "format": "zip"})
    assert r.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(r.content)) as z:
        assert z.testzip() is None and z.read("d/f.txt") == b"content" and len(z.read("é")) == 300000
    problem(home.get("/archive", params={"format": "rar"}, expect=400), 400, "invalid_request")
    problem(home.get("/archive", params={"path": folder + "/none"}, expect=404), 404, "not_found")


def tar_of(*entries):
    """Entries (name, type, link, content)."""
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w:gz") as t:
        for name, kind, link, content in entries:
            i = tarfile.TarInfo(name)
            i.type, i.linkname, i.size, i.mode = kind, link, len(content), 0o644
            t.addfile(i, io.BytesIO(content))
    return b.getvalue()


def put_archive(project, path, data, expect=204, **params):
    return project.request("PUT", "/archive", params={"path": path, **params}, data=data, expect=expect)


def test_archives_come_in(home, folder):
    home.write(folder + "/old", "old", expect=201)
    put_archive(home, folder, tar_of(("d/f", tarfile.REGTYPE, "", b"1"), ("link", tarfile.SYMTYPE, "d/f", b"")))
    assert names(home, folder, depth=3) == ["d", "d/f", "link", "old"]
    assert home.read(folder + "/link") == b"1"
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("only/ü", "2" * 100000)
    put_archive(home, folder, b.getvalue(), replace=1)
    assert names(home, folder, depth=3) == ["only", "only/ü"]
    assert home.read(folder + "/only/ü") == b"2" * 100000
    again = home.get("/archive", params={"path": folder}).content
    put_archive(home, folder, again, replace=1)
    assert names(home, folder, depth=3) == ["only", "only/ü"]


@pytest.mark.parametrize("what,entry,word", [
    ("up", ("../out", tarfile.REGTYPE, "", b"x"), "leaves"),
    ("absolute", ("/etc/out", tarfile.REGTYPE, "", b"x"), "absolute"),
    ("hardlink", ("h", tarfile.LNKTYPE, "/etc/passwd", b""), "hard link"),
    ("device", ("dev", tarfile.CHRTYPE, "", b""), "device"),
    ("fifo", ("fifo", tarfile.FIFOTYPE, "", b""), "FIFO"),
    ("link", ("l", tarfile.SYMTYPE, "../../../etc/passwd", b""), "leaves"),
    ("absolute_link", ("l", tarfile.SYMTYPE, "/etc/passwd", b""), "leaves"),
])
def test_hostile_archives(home, folder, what, entry, word):
    home.write(folder + "/here", "before", expect=201)
    data = tar_of(("here", tarfile.REGTYPE, "", b"after"), entry)
    detail = problem(put_archive(home, folder, data, expect=400, replace=1), 400, "invalid_request")
    assert word in detail and (entry[0] in detail)
    assert home.exec("ls", "-A", folder)[1] == "here\n"
    assert home.read(folder + "/here") == b"before"


def test_what_is_no_archive(home, folder):
    home.write(folder + "/here", "before", expect=201)
    whole = tar_of(("f", tarfile.REGTYPE, "", os.urandom(100000)))
    for data in (b"", b"hello", whole[:len(whole) // 2]):
        problem(put_archive(home, folder, data, expect=400, replace=1), 400, "invalid_request")
    assert home.exec("ls", "-A", folder)[1] == "here\n"


# ---- paths and things that lead elsewhere ----

@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "..", "%2e%2e/x", "\\..\\x/../.."])
def test_paths_that_leave(home, folder, path):
    path = urllib.parse.unquote(path)
    problem(home.get("/files/content", params={"path": path}, expect=400), 400, "invalid_request")
    problem(home.get("/files", params={"path": path}, expect=400), 400, "invalid_request")
    problem(home.write(path, "x", expect=400), 400, "invalid_request")
    problem(home.request("DELETE", "/files/content", params={"path": path, "recursive": 1}, expect=400), 400,
            "invalid_request")
    problem(home.post("/files/mkdir", {"path": path}, expect=400), 400, "invalid_request")
    problem(home.post("/files/move", {"from": folder, "to": path}, expect=400), 400, "invalid_request")
    problem(home.post("/files/copy", {"from": path, "to": folder + "/x"}, expect=400), 400, "invalid_request")
    problem(home.get("/archive", params={"path": path}, expect=400), 400, "invalid_request")
    assert names(home, folder) == []


def test_bytes_that_are_no_path(home):
    for query in ("path=%00", "path=a%00b", "path=%ff", "path=" + "a/" * 3000):
        r = home.request("GET", "/files/content?" + query, expect=[400, 414, 431])
        assert r.json()["code"]
    s = home.server.raw() # a client library would mend the escape
    s.sendall((f"GET {home.path}/files/content?path=%zz HTTP/1.1\r\nHost: localhost:{home.server.port}\r\n"
               "Connection: close\r\n\r\n").encode())
    assert s.recv(4096).startswith(b"HTTP/1.1 400 ")
    s.close()
    home.write("x" * 300, "x", expect=400)


def test_links_that_leave(home, folder):
    home.exec("ln", "-s", "/etc/passwd", folder + "/passwd")
    home.exec("ln", "-s", "/etc", folder + "/etc")
    home.exec("ln", "-s", "../../../..", folder + "/up")
    home.exec("ln", "-s", "loop", folder + "/loop")
    for path in ("passwd", "etc/passwd", "up/etc/passwd", "loop"):
        problem(home.get("/files/content", params={"path": f"{folder}/{path}"}, expect=400), 400, "invalid_request")
        problem(home.write(f"{folder}/{path}", "x", expect=400), 400, "invalid_request")
    assert home.exec("tail", "-c", "1", "/etc/passwd")[1] == "\n"
    problem(home.get("/files", params={"path": folder + "/etc"}, expect=400), 400, "invalid_request")
    home.request("DELETE", "/files/content", params={"path": folder + "/etc", "recursive": 1}, expect=204)
    assert home.exec("ls", "/etc/passwd")[0] == 0
    with tarfile.open(fileobj=io.BytesIO(home.get("/archive", params={"path": folder}).content)) as t:
        assert t.getmember("passwd").issym()


def test_links_that_stay(home, folder):
    home.write(folder + "/real", "1", expect=201)
    home.exec("ln", "-s", "real", folder + "/link")
    assert home.read(folder + "/link") == b"1"
    home.write(folder + "/link", "2", expect=204)
    assert home.read(folder + "/real") == b"2"
    assert home.exec("readlink", folder + "/link")[1] == "real\n"


def test_fifos_devices_and_sockets(home, folder):
    home.exec("python3", "-c", f"import os,socket; os.mkfifo('{folder}/fifo'); "
                               f"socket.socket(socket.AF_UNIX).bind('{folder}/socket')")
    for name in ("fifo", "socket"):
        start = time.monotonic()
        problem(home.get("/files/content", params={"path": f"{folder}/{name}"}, expect=400), 400, "invalid_request")
        problem(home.write(f"{folder}/{name}", "x", expect=400), 400, "invalid_request")
        assert time.monotonic() - start < 5
    problem(home.get("/files/content", params={"path": folder}, expect=400), 400, "invalid_request")


def test_a_leased_file_does_not_block(home, folder):
    home.write(folder + "/leased", "content", expect=201)
    pid = home.post("/processes", {"command": ["python3", "-uc", (
        "import fcntl,os,signal,time\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\n"
        f"f=os.open('{folder}/leased', os.O_RDWR)\nfcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "print('held')\ntime.sleep(60)")]}, expect=201).json()["id"]
    repld.wait_for(lambda: b"held" in home.get(f"/processes/{pid}/output", params={"stream": "stdout", "since": 0}).content)
    start = time.monotonic()
    detail = problem(home.get("/files/content", params={"path": folder + "/leased"}, expect=409), 409, "conflict")
    assert "lease" in detail
    home.write(folder + "/leased", "new", expect=204)
    assert home.read(folder + "/leased") == b"new"
    assert time.monotonic() - start < 10
    home.post(f"/processes/{pid}/signal", {"signal": "KILL"}, expect=[200, 202, 204])


def test_a_program_that_swaps_directories_gets_nothing_out(home, folder):
    home.exec("sh", "-c", f"mkdir {folder}/real && echo mine > {folder}/real/passwd")
    pid = home.post("/processes", {"command": ["python3", "-c", (
        f"import os,time\nos.chdir('{folder}')\nend=time.time()+3\nwhile time.time()<end:\n"
        " os.rename('real','aside'); os.symlink('/etc','real'); os.unlink('real'); os.rename('aside','real')")]},
        expect=201).json()["id"]
    end = time.monotonic() + 2
    while time.monotonic() < end:
        r = home.get("/files/content", params={"path": folder + "/real/passwd"}, expect=[200, 400, 404, 409])
        assert r.status_code != 200 or r.content == b"mine\n"
    repld.wait_for(lambda: home.get(f"/processes/{pid}").json()["state"] == "exited")


def test_files_of_someone_else_are_not_given(home):
    problem(home.server.get(f"/api/v1/projects/{'a' * 16}/files", expect=404), 404, "not_found")


# ---- states ----

def test_a_stopped_projects_files(stopped_project):
    p = stopped_project
    p.write("hello.txt", "while it is stopped", expect=201)
    assert p.read("hello.txt") == b"while it is stopped"
    assert "hello.txt" in names(p)
    assert p.status()["state"] == "stopped"
    p.start()
    assert p.exec("cat", "hello.txt")[1] == "while it is stopped"
    p.stop()
    assert p.read("hello.txt") == b"while it is stopped"


def test_files_survive_a_stop_and_start(project):
    project.write("kept", "content", expect=201)
    etag = project.get("/files/content", params={"path": "kept"}).headers["ETag"]
    project.stop()
    project.start()
    r = project.get("/files/content", params={"path": "kept"})
    assert r.content == b"content" and r.headers["ETag"] == etag


def test_a_full_disk_is_told(new_server):
    server = new_server(disk_quota="64M")
    p = server.create("python").start()
    r = p.write("big", os.urandom(100 << 20), expect=507)
    problem(r, 507, "disk_full")
    assert "big" not in names(p)
    p.write("small", "fits", expect=201)
    assert p.read("small") == b"fits"
    # filled from inside: reading and deleting still work
    p.exec("sh", "-c", "head -c 200000000 /dev/urandom > fill", timeout=120)
    problem(p.write("late", os.urandom(8 << 20), expect=507), 507, "disk_full")
    assert p.read("small") == b"fits"
    p.request("DELETE", "/files/content", params={"path": "fill"}, expect=204)
    repld.wait_for(lambda: p.write("late", os.urandom(1 << 20), expect=[201, 204, 507]).status_code != 507, 60, 1)


# ---- events ----

class Events:
    def __init__(self, project):
        self.ws = project.server.websocket(project.path + "/events")
        self.events = []
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while True:
                message = json.loads(self.ws.recv())
                if message["type"] == "files":
                    with self.changed:
                        self.events += message["events"]
                        self.changed.notify_all()
        except Exception:
            pass

    def wait(self, **want):
        def there():
            return any(all(e.get(k) == v for k, v in want.items()) for e in self.events)
        with self.changed:
            assert self.changed.wait_for(there, 10), f"no {want} among {self.events}"


def test_changes_are_told(home, folder):
    e = Events(home)
    time.sleep(0.5)
    home.write(folder + "/made/by.api", "x", expect=201)
    e.wait(type="created", path=folder + "/made")
    e.wait(type="created", path=folder + "/made/by.api")
    home.exec("sh", "-c", f"echo y >> {folder}/made/by.api")
    e.wait(type="changed", path=folder + "/made/by.api")
    home.post("/files/move", {"from": folder + "/made", "to": folder + "/moved"}, expect=204)
    e.wait(type="moved", path=folder + "/made", to=folder + "/moved")
    home.exec("sh", "-c", f"printf z > '{folder}/moved/\nline'")
    e.wait(path=folder + "/moved/\nline")
    home.request("DELETE", "/files/content", params={"path": folder + "/moved/by.api"}, expect=204)
    e.wait(type="deleted", path=folder + "/moved/by.api")
    assert not any(".~rp-" in x["path"] for x in e.events)
    e.ws.close()
