"""Derives seccomp_profile.inc from Debian's containers profile.

    apt-get download golang-github-containers-common && dpkg -x golang-github-containers-common_*.deb x
    python3 seccomp_derive.py x/usr/share/containers/seccomp.json VERSION > seccomp_profile.inc

Calls that the profile allows without condition, or for a capability that a sandbox does not have (then: refused), go
to one of two lists. Calls with conditions on arguments are in seccomp.c by hand; this script stops when it meets one
that it does not know, so that an update of the profile is looked at.
"""
import json
import sys

# What a sandbox must not do although containers in general may.
REFUSED = set("""
    mount umount umount2 move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick mount_setattr
    unshare setns pivot_root chroot keyctl add_key request_key io_uring_setup io_uring_enter io_uring_register
    bpf perf_event_open userfaultfd
""".split())
BY_HAND = {"clone", "personality", "socket", "socketpair", "ioctl"}
# ENOSYS by default, and programs fall back: clone3, whose flags are behind a pointer, to clone; io_setup, of whose contexts
# the kernel has fs.aio-max-nr for the whole machine and no bound for one user, to threads.
MISSING = {"clone3", "io_setup"}
FOREIGN = {"s390", "s390x", "ppc64le"}

profile = json.load(open(sys.argv[1], encoding="utf-8"))
assert profile["defaultAction"] == "SCMP_ACT_ERRNO" and profile["defaultErrnoRet"] == 38
allow, refuse = set(), set(REFUSED)
for rule in profile["syscalls"]:
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    names = set(rule["names"]) - MISSING
    if set(includes.get("arches", [])) & FOREIGN:
        continue
    if rule.get("args"):
        if not names <= BY_HAND:
            sys.exit(f"a rule with arguments that seccomp.c does not know: {rule}")
        continue
    if includes.get("caps"):
        continue  # sandboxes have SETUID, SETGID and KILL only, for which there is no rule
    if rule["action"] == "SCMP_ACT_ALLOW":
        allow |= names
    elif rule["action"] == "SCMP_ACT_ERRNO" and rule.get("errnoRet") == 1:
        refuse |= names
    else:
        sys.exit(f"an action that seccomp.c does not know: {rule}")
allow -= refuse | BY_HAND
print(f"""/*
 * Made by seccomp_derive.py; do not edit. Derived from /usr/share/containers/seccomp.json of Debian's package
 * golang-github-containers-common {sys.argv[2]}, which is part of github.com/containers/common, copyright its authors,
 * licensed under the Apache License 2.0 (LICENSE).
 */""")
for macro, names in (("ALLOW", allow), ("REFUSE", refuse)):
    for name in sorted(names):
        print(f'{macro}("{name}")')
