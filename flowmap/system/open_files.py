"""Which process of this host has which file open, and on which ports it listens, from /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from flowmap.system import proc

_SOCKET = "socket:["
_DELETED = " (deleted)"
_LISTEN = "0A"


class Opened(NamedTuple):
    """A process with open files."""

    pid: int
    files: tuple[str, ...]
    """Paths as the process sees them, each once, in their order."""
    ports: frozenset[int]
    """TCP ports on which it listens."""


class Looked(NamedTuple):
    """The result of a search of all processes."""

    found: tuple[Opened, ...]
    refused: int
    """Processes whose descriptors may not be read: those of other users, without CAP_SYS_PTRACE."""


def look(is_wanted: Callable[[str], bool]) -> Looked:
    """The processes that have a wanted file open."""
    found, refused = [], 0
    for entry in sorted(filter(str.isdecimal, os.listdir(proc.PROC)), key=int):
        try:
            with open_descriptors(int(entry)) as directory:
                targets = list(links(directory))
        except PermissionError:
            refused += 1
            continue
        except OSError:  # ended meanwhile
            continue
        files = tuple(dict.fromkeys(path for link in targets if is_wanted(path := link.removesuffix(_DELETED))))
        if files:
            inodes = {str(inode) for link in targets if (inode := socket_inode(link))}
            found.append(Opened(int(entry), files, _listening(entry, inodes)))
    return Looked(tuple(found), refused)


@contextlib.contextmanager
def open_descriptors(pid: int, proc_directory: Path | None = None) -> Iterator[int]:
    """An open descriptor of ``/proc/PID/fd``; OSError. It never shows the descriptors of another process that gets the
    same pid later: reading it fails once this one has ended."""
    opened = os.open((proc_directory or proc.PROC) / str(pid) / "fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)


def links(directory: int) -> Iterator[str]:
    """What the descriptors in a directory of :func:`open_descriptors` lead to, in their order; OSError."""
    for name in sorted(os.listdir(directory), key=int):
        try:
            yield os.readlink(name, dir_fd=directory)
        except FileNotFoundError:  # closed meanwhile
            continue


def socket_inode(link: str) -> int:
    """The inode of the socket that a descriptor leads to; 0 for another file."""
    return int(link[len(_SOCKET) : -1]) if link.startswith(_SOCKET) else 0


def _listening(pid: str, inodes: set[str]) -> frozenset[int]:
    ports: set[int] = set()
    for name in ("tcp", "tcp6"):
        text = proc.read(proc.PROC / pid / "net" / name)
        for line in text.splitlines()[1:] if isinstance(text, str) else ():
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN and fields[9] in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return frozenset(ports)
