"""Reads of /proc, with the cause of a failure.

A process in a chroot has no /proc, a unit with ``ProcSubset=pid`` has no /proc/sys, and some containers hide parts of
both. An unreadable fact is :class:`Unknown`, never an assumption, and callers report the cause.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
SYS = PROC / "sys"

COSTS = {
    "self/task": "threads that a library started with all privileges are not detected",
    "stat": "the metrics process_* are missing",
}
"""Cost of an unreadable file of /proc, besides those that sources report."""


class Unknown(NamedTuple):
    """A fact that cannot be read."""

    cause: str
    """One clause."""
    absent: bool = False
    """The kernel has no such file: its part of /proc is visible."""


def read(path: Path) -> str | Unknown:
    """The text of a file, with escapes for bytes that are not UTF-8."""
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


def unreadable() -> Iterator[str]:
    """Cause and cost of each unreadable file of :data:`COSTS`."""
    for name, cost in COSTS.items():
        path = PROC / name
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            yield f"{unknown(path, error).cause}: {cost}"
