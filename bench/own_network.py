"""A network namespace for the bench and the server that it starts.

What a firewall change costs grows with all tables of its namespace. On a machine where other servers run, or where tests
left theirs, that would be measured, and not the server.
"""
import ctypes
import subprocess

CLONE_NEWNET = 0x40000000


def enter():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    # Of this namespace, as nft sees it too; /sys keeps showing the old one.
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
