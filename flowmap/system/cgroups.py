"""Control groups of version 2: which processes are in a group that a socket names by its id."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from flowmap.system import proc

INITS = frozenset(("catatonit", "docker-init", "dumb-init", "tini"))
"""Commands that only start another one and reap processes, as the first process of a container."""

DIRECTORIES = 20_000
"""Groups that are looked at in one search."""


class Member(NamedTuple):
    """A process of a group."""

    pid: int
    parent: int
    command: str
    """At most 15 bytes."""


def mount_point(mounts: Path = proc.PROC / "self" / "mountinfo") -> Path | None:
    """Where the tree of version 2 is mounted; None without one."""
    text = proc.read(mounts)
    for line in text.splitlines() if isinstance(text, str) else ():
        fields, _, source = line.partition(" - ")
        if source.startswith("cgroup2 ") and len(fields.split()) > 4:
            return Path(fields.split()[4].replace("\\040", " "))
    return None


def find(ids: set[int], root: Path) -> dict[int, Path]:
    """The directories of the groups with these ids, as far as they are visible."""
    found: dict[int, Path] = {}
    waiting, looked = [str(root)], 0
    while waiting and looked < DIRECTORIES and len(found) < len(ids):
        place = waiting.pop()
        looked += 1
        try:
            inode = os.stat(place).st_ino
            with os.scandir(place) as entries:
                waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # removed meanwhile
            continue
        if inode in ids:
            found[inode] = Path(place)
    return found


def members(group: Path) -> tuple[Member, ...] | None:
    """The processes of a group; None if they cannot be read, or are not all visible."""
    text = proc.read(group / "cgroup.procs")
    if not isinstance(text, str):
        return None
    found: list[Member] = []
    for pid in map(int, text.split()):
        if pid == 0:  # outside of this pid namespace
            return None
        stat = proc.read(proc.PROC / str(pid) / "stat")
        if not isinstance(stat, str):
            if stat.absent:  # ended meanwhile
                continue
            return None
        command, _, rest = stat.partition(" (")[2].rpartition(") ")
        found.append(Member(pid, int(rest.split()[1]), command))
    return tuple(found)


def trees(group: tuple[Member, ...]) -> tuple[Member, ...]:
    """The processes whose parent is not in the group, the first process of a container left out."""
    inside = {one.pid for one in group if one.command not in INITS}
    return tuple(one for one in group if one.pid in inside and one.parent not in inside)


def _inode(place: Path) -> int:
    try:
        return place.stat().st_ino
    except OSError:
        return 0


def descendants(group: tuple[Member, ...], pid: int) -> frozenset[int]:
    """A process of the group and its children there, their children included."""
    found, before = {pid}, 0
    while len(found) > before:
        before = len(found)
        found |= {one.pid for one in group if one.parent in found}
    return frozenset(found)


def holder_of(group: tuple[Member, ...], inode: int) -> int | None:
    """The process of the group that holds a socket; None if none does, or its descriptors cannot be read."""
    wanted, found = f"socket:[{inode}]", list[int]()
    for one in group:
        directory = proc.PROC / str(one.pid) / "fd"
        try:
            names = os.listdir(directory)
        except OSError:  # ended, or another user's
            continue
        for name in names:
            try:
                if os.readlink(directory / name) == wanted:
                    found.append(one.pid)
                    break
            except OSError:  # closed meanwhile
                continue
    return found[0] if len(found) == 1 else None


class Groups:
    """The processes of groups that are named by id."""

    def __init__(self, root: Path | None = None) -> None:
        """``root``: of the tree of groups; None: where version 2 is mounted."""
        self._root = mount_point() if root is None else root
        self._paths: dict[int, Path] = {}

    def members(self, ids: Collection[int]) -> Mapping[int, tuple[Member, ...]]:
        """The processes by id of the group, without groups whose processes cannot be read."""
        wanted = set(ids)
        if self._root is not None and wanted - self._paths.keys():
            self._paths = find(wanted, self._root)
        found: dict[int, tuple[Member, ...]] = {}
        for one in wanted & self._paths.keys():
            place = self._paths[one]
            group = members(place) if _inode(place) == one else None
            if group is None:
                del self._paths[one]
            else:
                found[one] = group
        return found
