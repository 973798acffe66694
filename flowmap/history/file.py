"""The history file on disk: its owner, its limits, and the replacement of a broken file.

``max_size`` limits the file with its write-ahead log and index: an eighth is for the log, the rest for the tables.

A corrupt file, or one of another version, is renamed and a new one is created. A path that cannot be a history file
(another program's database, a directory) is never touched. Other errors (disk full, read-only, locked) are raised, and
the caller tries again later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from flowmap.errors import HistoryError
from flowmap.history.merging import BLOCK_FLOWS

PAGE = 4096
MOST_SET_ASIDE = 5
"""Largest number of renamed broken files. Beyond it, history stops until the operator removes some."""

_REASONS = {
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_PERM: "cannot_open",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
    sqlite3.SQLITE_IOERR: "io",
}


class Limits(NamedTuple):
    """Limits of the file: ``max_size`` in bytes, ``retain`` in seconds."""

    retain: float
    max_size: int

    @property
    def log(self) -> int:
        """Bytes of the write-ahead log."""
        return min(16 << 20, self.max_size // 8)

    @property
    def pages(self) -> int:
        """Pages of the tables. The index of the log takes 32 KiB per 4096 of its pages."""
        index = (1 + self.log // (PAGE * 4096)) * (32 << 10)
        return (self.max_size - self.log - index) // PAGE

    @property
    def block_flows(self) -> int:
        """Largest number of flows in a block: several blocks fit into the log even if they cannot be compressed."""
        return max(64, min(BLOCK_FLOWS, self.log // 4 // 128))


def _of_system(error: OSError) -> str:
    return {errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EROFS: "read_only"}.get(
        error.errno or 0, "cannot_open"
    )


def _is_read_only(path: str) -> bool:
    """Whether the file system is read-only. SQLite reports this for a write-ahead log as a missing file."""
    try:
        return bool(os.statvfs(os.path.dirname(path) or ".").f_flag & os.ST_RDONLY)
    except OSError:
        return False


def check_place(path: str) -> None:
    """HistoryError if the path cannot be a history file, so it is never renamed or written."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise HistoryError(f"{path}: {error.strerror}", reason=_of_system(error)) from error
    if not stat.S_ISREG(kind):
        raise HistoryError(f"{path} is not a regular file", reason="foreign", remedy="set another history.path")


def own_file(path: str) -> tuple[int, int]:
    """Create the file if needed, with mode 0600, and return its device and inode.

    An existing file is not opened here: closing it would release the locks of SQLite's connections in this process.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    found = os.stat(path)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != 0o600:
        os.chmod(path, 0o600)
    return found.st_dev, found.st_ino


def set_aside(path: str, error: HistoryError) -> str:
    """Rename a broken file and its log to a name with the time. Returns one line about it."""
    place = Path(path)
    beside = [other.name for other in place.parent.iterdir() if other.name.startswith(f"{place.name}.broken-")]
    if sum(not name.endswith(("-wal", "-shm")) for name in beside) >= MOST_SET_ASIDE:
        raise HistoryError(
            f"{error}; {MOST_SET_ASIDE} broken files exist already",
            reason=error.reason,
            remedy=f"examine and remove {path}.broken-*",
        ) from error
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target, number = f"{path}.broken-{stamp}", 0
    while os.path.lexists(target):
        number += 1
        target = f"{path}.broken-{stamp}-{number}"
    try:
        os.rename(path, target)
        for suffix in ("-wal", "-shm"):
            if os.path.lexists(path + suffix):
                os.rename(path + suffix, target + suffix)
    except OSError as failure:
        raise HistoryError(f"{error}, and cannot be renamed: {failure.strerror}", reason=error.reason) from error
    return f"{error}; renamed to {target}"


def size_of(path: str) -> int:
    """Size in bytes, 0 for a missing file."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise errors of SQLite and of the system as HistoryError."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        reason = _REASONS.get(code, "error")
        if reason == "cannot_open" and _is_read_only(path):
            reason = "read_only"
        raise HistoryError(f"{path}: {error}", reason=reason) from error
    except OSError as error:
        raise HistoryError(f"{path}: {error.strerror}", reason=_of_system(error)) from error
