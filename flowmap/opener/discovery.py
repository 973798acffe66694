"""Finds network namespaces: those of processes (``/proc/PID/ns/net``) and those that a file keeps (``/run/netns``).

A namespace is known by its inode, which the kernel may use again after the namespace is gone. Not found: a namespace
that only a thread has entered, or that only an open descriptor keeps.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
DIRECTORIES = (Path("/run/netns"), Path("/var/run/netns"), Path("/run/docker/netns"), Path("/var/run/docker/netns"))
"""Where ``ip netns``, CNI runtimes and Docker keep a file of each namespace."""
_LISTED = 8


class Found(NamedTuple):
    """A network namespace."""

    inode: int
    path: str
    """A file that stands for it, to enter it through."""
    name: str | None


class Search(NamedTuple):
    """The result of a search."""

    namespaces: dict[int, Found]
    hidden: int
    """Processes whose namespace may not be read."""
    missing: tuple[str, ...]
    """Wanted names and paths that stand for no network namespace; at most eight."""


def search(wanted: Iterable[str] | None, *, proc: Path = PROC, directories: Iterable[Path] = DIRECTORIES) -> Search:
    """The namespaces on this host; only those of ``wanted`` (names and paths) if it is not None."""
    device = os.stat(proc / "self/ns/net").st_dev  # of nsfs: only namespaces have it
    if wanted is not None:
        return _named_only(wanted, device, directories)
    of_processes, hidden = _of_processes(proc)
    return Search(of_processes | _of_files(directories, device), hidden, ())


def own_inode(proc: Path = PROC) -> int:
    """The inode of the network namespace of the calling process."""
    return os.stat(proc / "self/ns/net").st_ino


def is_path(name: str) -> bool:
    """Whether an entry of ``collect.namespaces`` is a path."""
    return name.startswith("/")


def _of_processes(proc: Path) -> tuple[dict[int, Found], int]:
    found: dict[int, Found] = {}
    hidden = 0
    base = str(proc)
    for pid in os.listdir(base):
        if not pid.isdecimal():
            continue
        path = f"{base}/{pid}/ns/net"
        try:
            inode = os.stat(path).st_ino
        except PermissionError:
            hidden += 1
        except OSError:  # it has ended
            continue
        else:
            if inode not in found:
                found[inode] = Found(inode, path, None)
    return found, hidden


def _of_files(directories: Iterable[Path], device: int) -> dict[int, Found]:
    found: dict[int, Found] = {}
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            one = _at(f"{directory}/{name}", name, device)
            if one is not None:
                found.setdefault(one.inode, one)
    return found


def _named_only(wanted: Iterable[str], device: int, directories: Iterable[Path]) -> Search:
    found: dict[int, Found] = {}
    missing: list[str] = []
    directories = tuple(directories)
    for name in wanted:
        paths = (name,) if is_path(name) else tuple(f"{directory}/{name}" for directory in directories)
        matches = [one for path in paths if (one := _at(path, os.path.basename(name), device)) is not None]
        for one in matches[:1]:
            found.setdefault(one.inode, one._replace(name=None) if name.startswith("/proc/") else one)
        if not matches:
            missing.append(name)
    return Search(found, 0, tuple(missing[:_LISTED]))


def _at(path: str, name: str, device: int) -> Found | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    # A file that ``ip netns add`` has just made is empty until the namespace is mounted on it.
    return Found(status.st_ino, path, name) if status.st_dev == device else None


class MountWatch:
    """Readable (POLLPRI) when the mounts of this process's mount namespace change; proc_pid_mounts(5).

    A file stands for a namespace only once the namespace is mounted on it, so its creation alone says nothing.
    """

    EVENTS = select.POLLPRI | select.POLLERR

    def __init__(self, proc: Path = PROC) -> None:
        self._file: int | None = None
        try:
            self._file = os.open(proc / "self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # the regular search still finds them
            return

    def fileno(self) -> int:
        """The descriptor; -1 if mounts cannot be watched."""
        return -1 if self._file is None else self._file

    def close(self) -> None:
        """Close the descriptor."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
