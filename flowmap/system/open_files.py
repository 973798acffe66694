"""Which process of this host has which file open, and on which ports it listens, from /proc."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from flowmap.system import proc

_SOCKET = re.compile(r"socket:\[(\d+)\]")
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
    """The processes that were looked into."""

    found: tuple[Opened, ...]
    refused: int
    """Processes whose descriptors may not be read: those of other users, without CAP_SYS_PTRACE."""


def look(is_wanted: Callable[[str], bool]) -> Looked:
    """The processes that have a wanted file open."""
    found, refused = [], 0
    for entry in sorted(filter(str.isdecimal, os.listdir(proc.PROC)), key=int):
        try:
            links = _links(entry)
        except PermissionError:
            refused += 1
            continue
        except OSError:  # ended meanwhile
            continue
        files = tuple(dict.fromkeys(path for link in links if is_wanted(path := link.removesuffix(_DELETED))))
        if files:
            inodes = {match[1] for link in links if (match := _SOCKET.fullmatch(link))}
            found.append(Opened(int(entry), files, _listening(entry, inodes)))
    return Looked(tuple(found), refused)


def _links(pid: str) -> list[str]:
    directory = proc.PROC / pid / "fd"
    links = []
    for name in sorted(os.listdir(directory), key=int):
        try:
            links.append(os.readlink(directory / name))
        except FileNotFoundError:  # closed meanwhile
            continue
    return links


def _listening(pid: str, inodes: set[str]) -> frozenset[int]:
    ports: set[int] = set()
    for name in ("tcp", "tcp6"):
        text = proc.read(proc.PROC / pid / "net" / name)
        for line in text.splitlines()[1:] if isinstance(text, str) else ():
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN and fields[9] in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return frozenset(ports)
