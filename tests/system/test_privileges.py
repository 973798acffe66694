"""Giving up privileges, seen from outside: /proc/PID/status of a process that really does it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import sys
from flowmap.system import privileges
privileges.harden()
privileges.drop({privileges.Capability(int(word)) for word in sys.argv[1:]})
import resource, threading
started = []
threading.Thread(target=lambda: started.append(open("/proc/thread-self/status").read())).start()
while not started: pass
print(started[0])
print("Core:", resource.getrlimit(resource.RLIMIT_CORE))
print("Threads here:", privileges.threads())
try:
    open("/proc/sys/kernel/hostname", "w")
except PermissionError:
    print("Hostname: refused")
import os
os.execv("/bin/sh", ["sh", "-c", "grep -E '^Cap(Prm|Bnd)|NoNew' /proc/self/status | sed 's/^/After exec /'"])
"""


def fields(*keep: int) -> dict[str, str]:
    command = [sys.executable, "-u", "-c", SCRIPT, *map(str, keep)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: value.strip() for name, _, value in (line.partition(":") for line in out.splitlines())}


@pytest.mark.parametrize(("keep", "mask"), [((), 0), ((12,), 1 << 12), ((13,), 1 << 13), ((12, 13), 3 << 12)])
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to have capabilities to give up")
def test_drop_keeps_only_the_given_capabilities(keep: tuple[int, ...], mask: int) -> None:
    found = fields(*keep)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(found[name], 16) == mask, name
    for name in ("CapInh", "CapAmb"):
        assert int(found[name], 16) == 0, name
    assert found["NoNewPrivs"] == "1"
    assert found["Core"] == "(0, 0)"
    # A program that is run has no more, though it is root's.
    assert int(found["After exec CapPrm"], 16) == mask
    assert int(found["After exec CapBnd"], 16) == mask
    assert found["After exec NoNewPrivs"] == "1"


def test_drop_without_privileges() -> None:
    if os.geteuid() == 0:
        out = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--"]
            + [sys.executable, "-c", SCRIPT, "12"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found = {name: value.strip() for name, _, value in (line.partition(":") for line in out.splitlines())}
    else:
        found = fields(12)
    assert int(found["CapEff"], 16) == 0
    assert found["NoNewPrivs"] == "1"


LOWER = """
from flowmap.system import privileges
from flowmap.system.privileges import Capability
def effective():
    (line,) = [line for line in open("/proc/thread-self/status") if line.startswith("CapEff")]
    return int(line.split()[1], 16) >> Capability.NET_ADMIN & 1
shown = [effective()]
with privileges.lowered(Capability.NET_ADMIN):
    shown.append(effective())
print(*shown, effective(), Capability.NET_ADMIN in privileges.held())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to have a capability to lower")
def test_a_lowered_capability_comes_back() -> None:
    done = subprocess.run([sys.executable, "-c", LOWER], capture_output=True, text=True, check=True)
    assert done.stdout == "1 0 1 True\n"
