"""How much can be known here about who holds a connection, for ``flowmap check``: a row for each rung.

The rungs are the host's namespace, containers, all namespaces, processes. Each row says what it lacks on this host, and
how to get it. They do not rest on each other: a higher one may be reached without a lower one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flowmap.sources.base import Finding
from flowmap.sources.workloads.names import DIRECTORY
from flowmap.system import proc
from flowmap.system.cgroups import CgroupPaths, Mount, find_mount, is_whole
from flowmap.system.open_files import links, open_descriptors
from flowmap.system.privileges import Capability, held

_SUMMARY = "sockets.rung"
_HOST_PIDS = 0xEFFF_FFFC  # PROC_PID_INIT_INO, linux/proc_ns.h
UNIFIED = "boot with systemd.unified_cgroup_hierarchy=1"
MOUNT = "mount the host's /sys/fs/cgroup read-only, at any path"


class Rung(NamedTuple):
    """One rung on this host."""

    title: str
    reached: bool
    finding: Finding


def findings(
    cgroups: set[int], *, processes: str, namespaces: Finding | None = None, mount: Mount | None = None
) -> Iterator[Finding]:
    """``cgroups``: ids that the kernel reports of sockets, 0 for one without. ``processes``: the setting.
    ``namespaces``: the finding about other network namespaces; None: they are not wanted."""
    rungs = (
        _host(),
        _containers(cgroups, find_mount() if mount is None else mount),
        _namespaces(namespaces),
        _processes(processes),
    )
    yield _summary(rungs)
    yield from (rung.finding for rung in rungs)


def not_read(source: str) -> Finding:
    """The rung with a source that does not read the socket table."""
    message = f"none: with collect.source: {source} no connection shows its container, unit and process"
    return Finding(_SUMMARY, "ok", f"{message}; auto and sockets do")


def _summary(rungs: Iterable[Rung]) -> Finding:
    by_reached = {reached: [rung.title for rung in rungs if rung.reached is reached] for reached in (True, False)}
    message = f"reached: {', '.join(by_reached[True])}"
    if by_reached[False]:
        message = f"{message}; not reached: {', '.join(by_reached[False])}"
    return Finding(_SUMMARY, "ok", message)


def _host() -> Rung:
    message = "TCP of this network namespace is seen; UDP is not"
    return Rung("host namespace", reached=True, finding=Finding("sockets.scope", "ok", message))


def _containers(cgroups: set[int], mount: Mount) -> Rung:
    name = "sockets.containers"
    found = _hidden_containers(name, cgroups, mount)
    if found is None:
        assert mount.path is not None
        named = "" if os.path.isdir(DIRECTORY) else f"; names of Kubernetes containers are not: there is no {DIRECTORY}"
        found = Finding(name, "ok", f"container and unit of each socket are known from {mount.path}{named}")
    return Rung("containers", found.level == "ok", found)


def _hidden_containers(name: str, cgroups: set[int], mount: Mount) -> Finding | None:
    """Why containers are not known, or not all of them; None if they are."""
    if mount.path is None:
        remedy = UNIFIED if mount.hybrid else MOUNT
        return Finding(name, "degraded", f"no container and no unit is known: {mount.cause}", remedy)
    if cgroups == {0}:
        cause = "the kernel reports no cgroups of sockets"
        return Finding(name, "degraded", f"no container and no unit is known: {cause}", "needs Linux 5.8 or later")
    if cgroups - {0} == {1} and mount.hybrid:
        cause = "every socket is in the root of cgroup v2, as where containers and units are in cgroup v1 only"
        return Finding(name, "degraded", f"no container and no unit is known: {cause}", UNIFIED)
    paths = CgroupPaths(mount).find(cgroups - {0}) or {}
    hidden = sum(path is None for path in paths.values())
    whole = is_whole(mount.path)
    if hidden:
        message = f"{hidden} of {len(paths)} cgroups with sockets are not in the tree at {mount.path}"
        part = "" if whole else ", which is a part of the host's"
        return Finding(name, "degraded", f"{message}{part}: their containers and units are not known", MOUNT)
    if not whole:
        message = f"the tree at {mount.path} is a part of the host's: containers and units outside are not known"
        return Finding(name, "degraded", message, MOUNT)
    if mount.hybrid:
        message = f"cgroup v1 is in use beside {mount.path}: containers that exist only in v1 are not known"
        return Finding(name, "degraded", message, UNIFIED)
    return None


def _namespaces(found: Finding | None) -> Rung:
    unseen = "connections of pods and containers that have a network namespace of their own are not seen"
    message = f"{unseen}: collect.namespaces: all and flowmap opener read them"
    reached = found is not None and found.level == "ok"
    return Rung("all namespaces", reached, found or Finding("sockets.namespaces", "ok", message))


def _processes(setting: str) -> Rung:
    reached, finding = _readable_processes("sockets.processes", setting)
    return Rung("processes", reached, finding)


def _readable_processes(name: str, setting: str) -> tuple[bool, Finding]:
    if setting == "off":
        return False, Finding(name, "ok", "not searched for: collect.sockets.processes is off")
    hidden = ", in this pid namespace" if _is_in_pid_namespace() else ""
    part = f"only processes of flowmap's user and those that are alone in their cgroup are known{hidden}"
    readable, has = _reads_others(), Capability.SYS_PTRACE in held()
    if readable and (setting == "all" or not has):
        if hidden:
            message = "only processes of this pid namespace are known"
            return False, Finding(name, "degraded", message, "give the container the host's pid namespace")
        return True, Finding(name, "ok", "the process of each open socket can be read")
    if has:
        how = "the daemon drops CAP_SYS_PTRACE, but keeps it with collect.sockets.processes: all"
        return False, Finding(name, "ok", f"{part}; {how}")
    if setting == "all":
        return False, Finding(name, "degraded", f"CAP_SYS_PTRACE is missing: {part}", "grant CAP_SYS_PTRACE")
    return False, Finding(name, "ok", f"{part}; the others need CAP_SYS_PTRACE and collect.sockets.processes: all")


def _reads_others() -> bool:
    """Whether the descriptors of another user's process, or of one with more capabilities, can be read."""
    try:
        with open_descriptors(1) as directory:
            next(links(directory), None)
    except OSError:
        return False
    return True


def _is_in_pid_namespace() -> bool:
    """Whether this is a pid namespace of its own, in which other processes of the host are not visible."""
    try:
        return os.stat(proc.PROC / "self/ns/pid").st_ino != _HOST_PIDS
    except OSError:
        return False
