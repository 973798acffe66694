"""What the kernel tells in /proc, and why it does not where it does not.

A process in a chroot has no /proc, a unit with ``ProcSubset=pid`` has no /proc/sys, and some containers hide parts of
both. What cannot be read is :class:`Unknown`, never a guess: whoever needs the fact says what is missing and why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
SYS = PROC / "sys"

COSTS = {
    "self/task": "threads that a library started with all privileges are not noticed",
    "stat": "the metrics process_* are missing",
}
"""What is missing where a file of /proc cannot be read, besides what the sources report themselves."""


class Unknown(NamedTuple):
    """A fact that cannot be read."""

    cause: str
    """One clause for people."""
    absent: bool = False
    """The kernel has no such file: the part of /proc that would hold it is visible."""


def read(path: Path) -> str | Unknown:
    """The text of a file; what is not UTF-8 in it is escaped."""
    try:
        return path.read_bytes().decode(errors="backslashreplace")
    except OSError as error:
        return unknown(path, error)


def unknown(path: Path, error: OSError) -> Unknown:
    """Why ``path`` cannot be read."""
    if not isinstance(error, FileNotFoundError):
        return Unknown(f"{path}: {error.strerror}")
    if not (PROC / "self").exists():
        return Unknown(f"{PROC} is not mounted")
    if path.is_relative_to(SYS) and not (SYS / "kernel").exists():
        return Unknown(f"{SYS} is hidden from this process")
    return Unknown(f"{path} does not exist", absent=True)


def shortcomings() -> Iterator[str]:
    """What of :data:`COSTS` has to be put up with here, with its cause."""
    for name, cost in COSTS.items():
        path = PROC / name
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            yield f"{unknown(path, error).cause}: {cost}"
