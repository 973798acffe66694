"""Finds the processes that hold open sockets, in small slices, with at most one part in a hundred of a core.

A cgroup with one process and no cgroup below it names that process. In other cgroups the descriptors of each process
are read: a link to ``socket:[INODE]`` proves that the process holds the socket. Reading those of another user's
process, or of one with more capabilities, needs CAP_SYS_PTRACE. A process is read through one descriptor of its
directory in /proc, so a pid that is used again cannot lend its name.

A socket that several processes hold has no process: the kernel does not tell which of them uses it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from time import monotonic, thread_time
from typing import NamedTuple

from flowmap.system import cgroup_members, proc
from flowmap.system.cgroups import Cgroup, is_leaf
from flowmap.system.open_files import links, open_descriptors, socket_inode

SLICE = 0.005
"""Longest part of a search that runs at once, in seconds."""
SHARE = 100
"""A search takes one part in so many of a core."""
LIMIT = 65_536
"""Sockets that are searched for at a time; the others wait for the next search."""
_AT_ONCE = 256  # descriptors read between two looks at the clock
_LISTED = 4

UNREADABLE = "the process is not known: reading the descriptors of other processes needs CAP_SYS_PTRACE"
ALONE = "the process is the only one in the cgroup, and was not seen to hold the socket: its descriptors cannot be read"
NOT_FOUND = "no visible process holds the socket: it has ended, or is in another pid namespace"


class Process(NamedTuple):
    """The process that holds a socket; without ``pid`` the cause."""

    pid: int | None = None
    command: str | None = None
    """At most 15 characters, as in /proc/PID/comm."""
    unknown: str = ""
    cgroup: str = ""
    """Path of its cgroup, or of one of several processes, if that is not the one of the socket."""
    began: int = 0
    """Clock ticks after boot at which it began; 0 where it was not seen to hold the socket alone."""


class ProcessSearch:
    """Searches for the processes of sockets, by inode."""

    def __init__(
        self,
        *,
        proc: Path = proc.PROC,
        clock: Callable[[], float] = monotonic,
        used: Callable[[], float] = thread_time,
    ) -> None:
        """``used``: CPU seconds of the calling thread. On a busy host they are far less than the time that passes."""
        self._proc, self._clock, self._used = proc, clock, used
        self._wanted: Mapping[int, Cgroup | None] = {}
        self._walk: Iterator[None] | None = None
        self._next = float("-inf")
        self._found: dict[int, Process] = {}

    def want(self, sockets: Mapping[int, Cgroup | None]) -> None:
        """Search for the holders of these inodes; each has its cgroup, if it is known. No effect while a search
        runs."""
        if self._walk is None and sockets:
            self._wanted = sockets if len(sockets) <= LIMIT else dict(islice(sockets.items(), LIMIT))
            self._walk = self._search()

    @property
    def is_idle(self) -> bool:
        """Whether no search runs."""
        return self._walk is None

    def take_found(self) -> dict[int, Process]:
        """The results of searches that have ended since the last call, by inode."""
        found, self._found = self._found, {}
        return found

    def deadline(self) -> float:
        """When :meth:`step` is due; infinity without a search."""
        return float("inf") if self._walk is None else self._next

    def step(self) -> None:
        """Search on for a slice, if one is due."""
        began = now = self._clock()
        if self._walk is None or began < self._next:
            return
        before = self._used()
        while now - began < SLICE:
            if next(self._walk, self) is self:
                self._walk = None
                break
            now = self._clock()
        self._next = self._clock() + (self._used() - before) * SHARE

    def _search(self) -> Iterator[None]:
        by_group: dict[Cgroup, set[int]] = {}
        anywhere: set[int] = set()
        for inode, group in self._wanted.items():
            (anywhere if group is None else by_group.setdefault(group, set())).add(inode)
        found: dict[int, Process] = {}
        refused = False
        for group, inodes in by_group.items():
            members = cgroup_members.pids(group) or ()
            read = yield from self._holders(members, inodes)
            found |= read.found
            if read.refused and (only := self._only_process(group, members)) is not None:
                found |= dict.fromkeys(inodes, only)
            refused = refused or read.refused
            anywhere |= inodes - found.keys()
        if anywhere:  # the cgroup is not known, or they were passed to a process of another one
            pids = self._pids()
            read = yield from self._holders(pids, anywhere, elsewhere=True)
            found |= read.found
            refused = refused or read.refused or 1 not in pids  # else all that are hidden are in other pid namespaces
        missing = Process(unknown=UNREADABLE if refused else NOT_FOUND)
        self._found |= {inode: found.get(inode, missing) for inode in self._wanted}

    def _holders(
        self, pids: Iterable[int], inodes: set[int], *, elsewhere: bool = False
    ) -> Generator[None, None, _Read]:
        """The holders among some processes; ``elsewhere``: with their cgroups."""
        holders: dict[int, list[Process]] = {}
        refused = False
        for pid in pids:
            yield
            try:
                with open_descriptors(pid, self._proc) as descriptors:
                    held = yield from _sockets(descriptors, inodes)
                    process = self._process(pid, elsewhere=elsewhere) if held else None
                    os.listdir(descriptors)  # fails if the process has ended, and its pid may be another's
            except PermissionError:  # also of links: of the user's processes that have more capabilities
                refused = True
                continue
            except OSError:
                refused = refused or _exists(pid)
                continue
            if process is not None:
                for inode in held:
                    holders.setdefault(inode, []).append(process)
        return _Read({inode: _one_of(several) for inode, several in holders.items()}, refused)

    def _only_process(self, cgroup: Cgroup, members: tuple[int, ...]) -> Process | None:
        """The only process of a cgroup, which has its sockets: there is no cgroup below, and it is not systemd, which
        opens sockets for services."""
        if len(members) != 1 or cgroup.directory.name == "init.scope" or not is_leaf(cgroup.directory):
            return None
        process = self._process(members[0]) or Process(members[0])
        # Else it has ended, and its pid may be another's.
        return process._replace(unknown=ALONE, began=0) if cgroup_members.pids(cgroup) == members else None

    def _process(self, pid: int, *, elsewhere: bool = False) -> Process | None:
        """The process, as it is named now; None if it has ended, or is hidden. ``elsewhere``: with its cgroup."""
        try:
            command = (self._proc / str(pid) / "comm").read_bytes()
        except OSError:
            return None
        group = cgroup_members.path_of(self._proc / str(pid)) if elsewhere else ""
        return Process(
            pid, command.rstrip(b"\n").decode(errors="backslashreplace"), cgroup=group, began=self._began(pid)
        )

    def _began(self, pid: int) -> int:
        """When the process began (proc_pid_stat(5), field 22): it tells the process from a later one with its pid."""
        try:
            fields = (self._proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            return int(fields[19])
        except (OSError, ValueError, IndexError):
            return 0

    def _pids(self) -> list[int]:
        try:
            return [int(name) for name in os.listdir(self._proc) if name.isdecimal()]
        except OSError:
            return []


class _Read(NamedTuple):
    found: dict[int, Process]
    refused: bool
    """Whether the descriptors of a process could not be read."""


def _sockets(descriptors: int, inodes: set[int]) -> Generator[None, None, set[int]]:
    """Those of ``inodes`` that a process holds, by the directory of its descriptors."""
    held: set[int] = set()
    for number, link in enumerate(links(descriptors), 1):
        if number % _AT_ONCE == 0:
            yield
        held.add(socket_inode(link))
    return held & inodes


def _one_of(holders: list[Process]) -> Process:
    """The process, if there is one only."""
    if len(holders) == 1:
        return holders[0]
    commands = {process.command for process in holders}
    pids = ", ".join(str(process.pid) for process in holders[:_LISTED])
    more = ", …" if len(holders) > _LISTED else ""
    said = f"{len(holders)} processes hold the socket: {pids}{more}"
    return Process(None, commands.pop() if len(commands) == 1 else None, said, holders[0].cgroup)


def _exists(pid: int) -> bool:
    """Whether a process that /proc does not show exists: it is hidden (hidepid, ProtectProc)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
