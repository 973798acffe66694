"""Which processes are in a cgroup of version 2 that a socket names by its id."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from flowmap.system import proc
from flowmap.system.cgroups import Cgroup, CgroupPaths, find_mount
from flowmap.system.open_files import links, open_descriptors, socket_inode

INITS = frozenset(("catatonit", "docker-init", "dumb-init", "tini"))
"""Minimal init programs: the first process of a container, which only starts another one and reaps processes."""


class Member(NamedTuple):
    """A process of a group."""

    pid: int
    parent: int
    command: str
    """At most 15 bytes."""


def pids(cgroup: Cgroup) -> tuple[int, ...] | None:
    """The processes in a cgroup; None if it is gone or cannot be read, or if some are outside of this pid namespace."""
    try:
        directory = cgroup.open()
        try:
            file = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        finally:
            os.close(directory)
        with open(file) as opened:
            found = tuple(sorted({int(line) for line in opened}))
    except (OSError, ValueError):
        return None
    return None if 0 in found else found


def path_of(process: Path) -> str:
    """The path of the cgroup in which a process is, by its directory in /proc; empty if that is not known. It begins
    with ``/..`` outside of the reader's cgroup namespace."""
    text = proc.read(process / "cgroup")
    lines = text.splitlines() if isinstance(text, str) else ()
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def members(cgroup: Cgroup) -> tuple[Member, ...] | None:
    """The processes of a cgroup; None if they cannot be read, or are not all visible."""
    inside = pids(cgroup)
    if inside is None:
        return None
    found: list[Member] = []
    for pid in inside:
        stat = proc.read(proc.PROC / str(pid) / "stat")
        if not isinstance(stat, str):
            if stat.absent:  # ended meanwhile
                continue
            return None
        command, _, rest = stat.partition(" (")[2].rpartition(") ")
        found.append(Member(pid, int(rest.split()[1]), command))
    return tuple(found)


def trees(group: tuple[Member, ...]) -> tuple[Member, ...]:
    """The processes whose parent is not in the group. :data:`INITS` do not count."""
    inside = {one.pid for one in group if one.command not in INITS}
    return tuple(one for one in group if one.pid in inside and one.parent not in inside)


def descendants(group: tuple[Member, ...], pid: int) -> frozenset[int]:
    """A process of the group and all its descendants in the group."""
    found, before = {pid}, 0
    while len(found) > before:
        before = len(found)
        found |= {one.pid for one in group if one.parent in found}
    return frozenset(found)


def holder_of(group: tuple[Member, ...], inode: int) -> int | None:
    """The process of the group that holds a socket; None if none does, or its descriptors cannot be read."""
    found: list[int] = []
    for one in group:
        try:
            with open_descriptors(one.pid) as directory:
                if any(socket_inode(link) == inode for link in links(directory)):
                    found.append(one.pid)
        except OSError:  # ended, or another user's
            continue
    return found[0] if len(found) == 1 else None


class Groups:
    """The processes of cgroups, looked up by id."""

    def __init__(self, paths: CgroupPaths | None = None) -> None:
        """``paths``: None: the tree of this host, walked without a pause whenever an id is new."""
        self._paths = CgroupPaths(find_mount(), pause=0) if paths is None else paths

    def members(self, ids: Collection[int]) -> Mapping[int, tuple[Member, ...]]:
        """The processes by id of the group, without groups whose processes cannot be read."""
        self._paths.find(ids)
        places = {one: self._paths.cgroup(one) for one in set(ids)}
        groups = {one: members(place) for one, place in places.items() if place is not None}
        return {one: group for one, group in groups.items() if group is not None}
