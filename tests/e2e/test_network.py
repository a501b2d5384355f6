"""What a project's programs reach over the network, and what they do not: through the API, on the real uplink."""
import contextlib
import re
import socket
import subprocess
import threading

import pytest


def registry(project):
    """The host that pip asks unless it is told otherwise, by its own word: a name that projects must reach."""
    code, out, err = project.exec("python3", "-c", "from pip._internal.models.index import PyPI; print(PyPI.netloc)")
    assert code == 0, err
    return out.strip()


CONNECT = """\
import socket, sys
host, port, timeout = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
try:
    socket.create_connection((host, port), timeout).close()
    print("reached")
except socket.gaierror:
    print("no such name")
except OSError as e:
    print("not reached", type(e).__name__)
"""

LISTEN = """\
import socket, threading
s = socket.create_server(("0.0.0.0", 9999))
print("listening", flush=True)
while True:
    s.accept()[0].close()
"""


def connect(project, host, port, timeout=10):
    code, out, err = project.exec("python3", "connect.py", host, str(port), str(timeout))
    assert code == 0, err
    return out.strip()


def reaches(project, host, port):
    return connect(project, host, port) == "reached"


def fails(project, host, port):
    """A short wait is enough: what is dropped never answers."""
    out = connect(project, host, port, 1.5)
    assert out.startswith("not reached"), out
    return True


@pytest.fixture
def make(server):
    """Makes a running project with a network policy."""
    made = []

    def one(network=None):
        p = server.create("python", **({"network": network} if network else {}))
        made.append(p)
        p.write("connect.py", CONNECT)
        return p.start()
    yield one
    for p in made:
        p.delete()


@pytest.fixture
def host_service():
    """A server on every address of this machine; its port."""
    with socket.create_server(("0.0.0.0", 0)) as s:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    s.accept()[0].close()
        threading.Thread(target=serve, daemon=True).start()
        yield s.getsockname()[1]


def host_addresses():
    out = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    return [a for a in re.findall(r"inet ([0-9.]+)", out) if not a.startswith("127.")]


def address_of(project):
    """The project's own address, as its programs see it."""
    code, out, err = project.exec("python3", "-c", "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                                                   "s.connect(('203.0.113.1', 9))\nprint(s.getsockname()[0])")
    assert code == 0, err
    return out.strip()


def resolve(project, name):
    code, out, _ = project.exec("python3", "-c", f"import socket; print(socket.gethostbyname({name!r}))")
    return out.strip() if code == 0 else None


def test_internet(make):
    p = make()
    assert p.get().json()["network"] == {"mode": "internet"}
    assert reaches(p, registry(p), 443), f"{registry(p)} is not reachable from a project"
    before = p.get("/stats").json()["network"]
    assert reaches(p, registry(p), 443)
    after = p.get("/stats").json()["network"]
    assert after["sent"] > before["sent"] and after["received"] > before["received"]


def test_not_the_host(make, host_service):
    p = make()
    addresses = host_addresses()
    assert addresses
    for address in addresses:
        with socket.create_connection((address, host_service), 5):
            pass  # the service is there
        assert fails(p, address, host_service)
    # The resolver's address answers DNS only; the sandbox's loopback is its own.
    code, out, _ = p.exec("sed", "-n", "s/^nameserver //p", "/etc/resolv.conf")
    assert code == 0
    assert fails(p, out.strip(), host_service)
    assert connect(p, "127.0.0.1", host_service, 2) == "not reached ConnectionRefusedError"


def test_not_the_api(make, server):
    """repld itself listens on the host."""
    p = make()
    for address in host_addresses() + ["127.0.0.1"]:
        assert fails(p, address, server.port)


def test_not_the_neighbour(make):
    p, other = make(), make()
    other.write("listen.py", LISTEN)
    other.post("/processes", {"command": ["python3", "listen.py"]}, expect=201)
    other.wait_port(9999)
    address = address_of(other)
    other.write("connect.py", CONNECT)
    assert reaches(other, address, 9999)
    assert fails(p, address, 9999)


def test_not_private_networks_nor_metadata(make):
    p = make()
    for address in ("169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.100.100.200"):
        assert fails(p, address, 80)
    # A private address that this machine does reach, if its resolver has one.
    with open("/etc/resolv.conf") as f:
        resolver = re.search(r"^nameserver\s+(10\.[0-9.]+|192\.168\.[0-9.]+)", f.read(), re.M)
    if resolver:
        assert fails(p, resolver.group(1), 53)
        assert resolve(p, registry(p))  # though names are looked up there, by way of the fixed address


def test_none(make):
    with_network = make()
    address = resolve(with_network, registry(with_network))
    assert address
    p = make("none")
    assert resolve(p, registry(p)) is None
    assert fails(p, address, 443)
    # Its own loopback works, and so does its preview.
    p.write("listen.py", LISTEN)
    p.post("/processes", {"command": ["python3", "listen.py"]}, expect=201)
    p.wait_port(9999)
    assert reaches(p, "127.0.0.1", 9999)


def test_allow(make):
    with_network = make()
    address = resolve(with_network, registry(with_network))
    p = make({"mode": "allow", "allow": [f"{address}/32", "169.254.0.0/16", "10.0.0.0/8"]})
    assert reaches(p, address, 443)
    assert resolve(p, registry(p))
    assert fails(p, "169.254.169.254", 80)
    assert fails(p, "10.0.0.1", 80)
    elsewhere = make({"mode": "allow", "allow": ["198.51.100.0/24"]})
    assert fails(elsewhere, address, 443)


def test_a_policy_changes_with_the_next_start(make):
    p = make("none")
    assert resolve(p, registry(p)) is None
    p.request("PATCH", "", json={"network": "internet"})
    p.stop()
    p.start()
    assert reaches(p, registry(p), 443)


def test_no_way_to_forge(make):
    p = make()
    program = "import socket\nfor family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):\n" \
              "    try:\n        socket.socket(family, kind, socket.IPPROTO_ICMP)\n        print('made')\n" \
              "    except OSError as e:\n        print(e.errno)\n"
    code, out, err = p.exec("python3", "-c", program)
    assert code == 0, err
    assert "made" not in out and len(out.split()) == 2
    # Nor to change the interface.
    code, out, _ = p.exec("python3", "-c", "import socket, fcntl, struct\ns = socket.socket()\ntry:\n"
                          "    fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'eth0', 0))\n    print('made')\n"
                          "except OSError as e:\n    print(e.errno)\n")
    assert code == 0 and out.strip() == "1"  # EPERM


def test_low_ports_and_ping_need_no_privilege(make):
    p = make()
    code, out, err = p.exec("python3", "-c", "import socket\nsocket.create_server(('0.0.0.0', 80)).close()\n"
                            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()\nprint('both')")
    assert (code, out) == (0, "both\n"), err


def test_bad_policies(server):
    for network, pointer in (("everything", "/network"), ({"mode": "allow"}, "/network/allow"),
                             ({"mode": "allow", "allow": ["10.0.0.0/33"]}, "/network/allow/0"),
                             ({"mode": "allow", "allow": ["example.org"]}, "/network/allow/0"),
                             ({"mode": "allow", "allow": ["1.2.3.4/32"] * 65}, "/network/allow"),
                             ({"mode": "internet", "allow": ["1.2.3.4/32"]}, "/network/allow")):
        r = server.post("projects", {"stack": "python", "network": network}, expect=400)
        assert r.json()["errors"][0]["pointer"].startswith(pointer), r.text
