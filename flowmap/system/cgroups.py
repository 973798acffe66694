"""Finds cgroups of version 2 by id, the inode of their directory.

The tree is walked when an id is new. The kernel never reuses an id, so a path stays valid after its directory is gone.
A directory that was removed before it was read leaves its id without a path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, thread_time
from typing import NamedTuple

from flowmap.system import proc

ROOT_ID = 1
LIMIT = 16_384
"""Paths that are kept; those unused for longest are dropped."""
_DEPTH = 32
_PAUSE = 50
"""After a walk no other one starts for so many times its CPU time."""


class Mount(NamedTuple):
    """The cgroup v2 tree of this host, as far as it is visible."""

    path: Path | None
    """Where it is mounted; None if it is not."""
    hybrid: bool = False
    """Whether there are trees of cgroup v1 beside it, which may have the containers."""
    cause: str = ""
    """Why there is no path."""


class Cgroup(NamedTuple):
    """A cgroup, and the directory that it had. Another cgroup may have that directory by now."""

    id: int
    directory: Path

    def open(self) -> int:
        """A descriptor of its directory; FileNotFoundError if another cgroup has the directory by now, OSError."""
        opened = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.fstat(opened).st_ino == self.id:
            return opened
        os.close(opened)
        raise FileNotFoundError(self.directory)


def find_mount(mountinfo: Path = proc.PROC / "self" / "mountinfo") -> Mount:
    """The tree to read; see ``proc_pid_mountinfo(5)``. One that is visible from its root on comes first."""
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except OSError as error:
        return Mount(None, cause=proc.unknown(mountinfo, error).cause)
    fields = [line.split(" ") for line in lines]
    types = {_unescaped(one[4]): one[one.index("-") + 1] for one in fields if "-" in one and len(one) > 6}
    trees = [Path(path) for path, kind in types.items() if kind == "cgroup2"]
    hybrid = "cgroup" in types.values()
    if not trees:
        cause = "only cgroup v1 is mounted here" if hybrid else "no cgroup v2 tree is mounted here"
        return Mount(None, hybrid=hybrid, cause=cause)
    return Mount(min(trees, key=lambda path: (not is_whole(path), len(path.parts), str(path))), hybrid=hybrid)


def is_whole(tree: Path) -> bool:
    """Whether the tree begins at the root of all cgroups. In a container it may begin at the container's cgroup."""
    try:
        return tree.stat().st_ino == ROOT_ID
    except OSError:
        return False


def is_leaf(directory: Path | os.DirEntry[str]) -> bool:
    """Whether a directory has no subdirectory (each one adds a link to its own two), or is gone."""
    try:
        return directory.stat(follow_symlinks=False).st_nlink == 2
    except OSError:
        return True


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


class CgroupPaths:
    """The paths of cgroups by id."""

    def __init__(
        self,
        mount: Mount,
        *,
        clock: Callable[[], float] = monotonic,
        used: Callable[[], float] = thread_time,
        pause: int = _PAUSE,
    ) -> None:
        """``pause``: after a walk no other one starts for so many times its CPU time. ``used``: CPU seconds of the
        calling thread."""
        self.mount = mount
        self._clock, self._used, self._pause = clock, used, pause
        self._paths: dict[int, str] = {}
        self.dropped = 0
        """Paths dropped at the limit."""
        self._next_walk = float("-inf")

    def __len__(self) -> int:
        return len(self._paths)

    def find(self, ids: Iterable[int]) -> dict[int, str | None] | None:
        """The path of each id, None without a directory. None instead of the dict while the next walk must wait."""
        wanted = set(ids)
        found = {one: self._touch(one) for one in wanted if one in self._paths}
        missing = wanted - found.keys()
        if missing:
            if self._clock() < self._next_walk:
                return None
            before = self._used()
            self._walk()
            self._next_walk = self._clock() + (self._used() - before) * self._pause
            found |= {one: self._touch(one) for one in missing if one in self._paths}
            for one in list(self._paths)[: max(0, len(self._paths) - LIMIT)]:
                del self._paths[one]
                self.dropped += 1
        return {one: found.get(one) for one in wanted}

    def path(self, one: int) -> str | None:
        """The path of a cgroup that was found before."""
        return self._paths.get(one)

    def cgroup(self, one: int) -> Cgroup | None:
        """A cgroup that was found before, which may be gone; None if its path is not known."""
        path = self._paths.get(one)
        return None if path is None or self.mount.path is None else Cgroup(one, self.mount.path / path.lstrip("/"))

    def _touch(self, one: int) -> str:
        path = self._paths[one] = self._paths.pop(one)
        return path

    def _walk(self) -> None:
        if self.mount.path is None:
            return
        waiting = [(str(self.mount.path), "", 0)]
        while waiting:
            directory, path, depth = waiting.pop()
            try:
                with os.scandir(directory) as entries:
                    inside = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:  # removed while it was read, or not readable
                continue
            for entry in inside:
                self._paths.pop(entry.inode(), None)
                self._paths[entry.inode()] = below = f"{path}/{entry.name}"
                if depth < _DEPTH and not is_leaf(entry):
                    waiting.append((entry.path, below, depth + 1))
        self._paths[ROOT_ID] = "/"
