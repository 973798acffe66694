"""Finds the path of a cgroup by its id, the inode of its directory.

The tree is walked when an id is new. The kernel never reuses an id, so a path stays valid after its directory is gone.
A directory that was removed before it was read leaves its id without a path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic

ROOT_ID = 1
LIMIT = 16_384
"""Paths that are kept; those unused for longest are dropped."""
_DEPTH = 32
_SHARE = 50
"""A walk takes at most one part in so many of the time."""


class Mount:
    """The cgroup v2 tree of this host, as far as it is visible."""

    def __init__(self, path: Path | None, *, hybrid: bool, cause: str = "") -> None:
        self.path = path
        """Where it is mounted; None if it is not."""
        self.hybrid = hybrid
        """Whether there are trees of cgroup v1 beside it, which may have the containers."""
        self.cause = cause
        """Why there is no path."""


def find_mount(mountinfo: Path = Path("/proc/self/mountinfo")) -> Mount:
    """The tree to read; see ``proc_pid_mountinfo(5)``."""
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except OSError as error:
        return Mount(None, hybrid=False, cause=f"{mountinfo} cannot be read: {error.strerror}")
    fields = [line.split(" ") for line in lines]
    types = {_unescaped(one[4]): one[one.index("-") + 1] for one in fields if "-" in one and len(one) > 6}
    trees = [Path(path) for path, kind in types.items() if kind == "cgroup2"]
    hybrid = "cgroup" in types.values()
    if not trees:
        return Mount(None, hybrid=hybrid, cause="no cgroup v2 tree is mounted here")
    return Mount(min(trees, key=lambda path: (len(path.parts), str(path))), hybrid=hybrid)


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


class CgroupPaths:
    """The paths of cgroups by id."""

    def __init__(self, mount: Mount, *, clock: Callable[[], float] = monotonic) -> None:
        self.mount = mount
        self._clock = clock
        self._paths: dict[int, str] = {}
        self._next_walk = float("-inf")

    def __len__(self) -> int:
        return len(self._paths)

    def find(self, ids: Iterable[int]) -> dict[int, str | None] | None:
        """The paths of ``ids``, None without a directory. None in place of all while the next walk must wait."""
        wanted = set(ids)
        found = {one: self._touch(one) for one in wanted if one in self._paths}
        missing = wanted - found.keys()
        if missing:
            began = self._clock()
            if began < self._next_walk:
                return None
            self._walk()
            self._next_walk = self._clock() + (self._clock() - began) * _SHARE
            found |= {one: self._touch(one) for one in missing if one in self._paths}
        return {one: found.get(one) for one in wanted}

    def path(self, one: int) -> str | None:
        """The path of a cgroup that was found before."""
        return self._paths.get(one)

    def directory(self, one: int) -> Path | None:
        """The directory of a cgroup, which may be gone; None if its path is not known."""
        path = self._paths.get(one)
        return None if path is None or self.mount.path is None else self.mount.path / path.lstrip("/")

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
                for entry in inside:
                    self._paths.pop(entry.inode(), None)
                    self._paths[entry.inode()] = below = f"{path}/{entry.name}"
                    # A directory has a link for each one in it, and two of its own.
                    if depth < _DEPTH and entry.stat(follow_symlinks=False).st_nlink != 2:
                        waiting.append((entry.path, below, depth + 1))
            except OSError:  # removed while it was read, or not readable
                continue
        self._paths[ROOT_ID] = "/"
        for one in list(self._paths)[: max(0, len(self._paths) - LIMIT)]:
            del self._paths[one]
