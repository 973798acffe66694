"""What can be known here about workloads, for ``flowmap check``: containers and processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from flowmap.sources.base import Finding
from flowmap.system.cgroups import CgroupPaths, Mount, find_mount
from flowmap.system.privileges import Capability, held

MOUNT = "mount the host's /sys/fs/cgroup read-only"


def findings(cgroups: set[int], *, processes: str, mount: Mount | None = None) -> Iterator[Finding]:
    """``cgroups``: ids that the kernel reports of sockets, 0 for one without. ``processes``: the setting."""
    yield _containers(cgroups, find_mount() if mount is None else mount)
    if processes != "off":
        yield _processes(needed=processes == "all")


def _containers(cgroups: set[int], mount: Mount) -> Finding:
    name = "sockets.containers"
    if mount.path is None:
        return Finding(name, "degraded", f"no container and no unit is known: {mount.cause}", MOUNT)
    if cgroups == {0}:
        cause = "the kernel reports no cgroups of sockets"
        return Finding(name, "degraded", f"no container and no unit is known: {cause}", "needs Linux 5.8 or later")
    paths = CgroupPaths(mount).find(cgroups - {0}) or {}
    hidden = sum(path is None for path in paths.values())
    if hidden:
        message = f"{hidden} of {len(paths)} cgroups with sockets are not in the tree at {mount.path}"
        return Finding(name, "degraded", f"{message}: their containers and units are not known", MOUNT)
    if mount.hybrid:
        message = f"cgroup v1 is in use beside {mount.path}: containers that exist only in v1 are not known"
        return Finding(name, "degraded", message, "boot with systemd.unified_cgroup_hierarchy=1")
    return Finding(name, "ok", f"container and unit of each socket are known from {mount.path}")


def _processes(*, needed: bool) -> Finding:
    name = "sockets.processes"
    readable = _reads_others()
    if readable and (needed or Capability.SYS_PTRACE not in held()):
        return Finding(name, "ok", "the process of each open socket can be read")
    part = "only processes of flowmap's user and those that are alone in their cgroup are known"
    if readable:
        return Finding(name, "ok", f"the daemon drops CAP_SYS_PTRACE: {part}; collect.sockets.processes: all keeps it")
    if needed:
        return Finding(name, "degraded", f"CAP_SYS_PTRACE is missing: {part}", "grant CAP_SYS_PTRACE")
    return Finding(name, "ok", f"{part}; the others need CAP_SYS_PTRACE and collect.sockets.processes: all")


def _reads_others(proc: Path = Path("/proc")) -> bool:
    """Whether the descriptors of the first process can be read."""
    try:
        os.listdir(proc / "1" / "fd")
    except OSError:
        return False
    return True
