"""Fixtures of the end-to-end tests; see repld.py."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import repld  # noqa: E402


@pytest.fixture(scope="session")
def shared_server():
    s = repld.Server()
    try:
        s.start()
        yield s
    finally:
        s.close()


@pytest.fixture
def server(shared_server):
    """The server that most tests share. After each test it must still serve."""
    yield shared_server
    assert shared_server.process.poll() is None, "the server ended:\n" + shared_server.log_tail()
    shared_server.get("/health")


@pytest.fixture
def new_server():
    """Makes servers of the test's own: new_server(idle_timeout=3). They are closed, and searched for leftovers."""
    made = []

    def make(**settings):
        s = repld.Server(**settings)
        made.append(s)
        return s.start()
    yield make
    for s in made:
        s.close()


@pytest.fixture
def project(server):
    """A running python project."""
    p = server.create("python").start()
    yield p
    server.request("DELETE", p.path, expect=[204, 404])


@pytest.fixture
def stopped_project(server):
    p = server.create("python")
    yield p
    server.request("DELETE", p.path, expect=[204, 404])


@pytest.fixture
def terminal(project):
    t = project.terminal()
    yield t
    t.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of the server's log."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for name in ("server", "shared_server"):
            s = item.funcargs.get(name)
            if s:
                report.sections.append(("server log", s.log_tail()))
                break
