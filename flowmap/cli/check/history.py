"""check, the history's part: whether its file could be written here. A daemon may have it open, so nothing is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from flowmap.config import Config
from flowmap.sources.base import Finding

NAME = "history.path"
COST = "nothing of the past is kept"


def look(config: Config) -> Iterator[Finding]:
    """One finding where a history is configured; the daemon runs without it, so none is worse than degraded."""
    if config.history.path is None:
        return
    path = Path(config.history.path)
    try:
        told = _obstacle(path) or _room(path, config.history.max_size)
    except OSError as error:
        told = f"{path}: {error.strerror}: {COST}", "give another history.path"
    if told is None:
        yield Finding(NAME, "ok", f"{path} can be written")
    else:
        yield Finding(NAME, "degraded", *told)


def _obstacle(path: Path) -> tuple[str, str] | None:
    """What keeps the file from being written, and the remedy."""
    directory = path.parent
    if not directory.is_dir():
        return f"{directory} is no directory: {COST}", f"make it, for the daemon's user to write: mkdir -p {directory}"
    if path.exists() and not path.is_file():
        return f"{path} is no file: {COST}", "give the name of a file"
    # SQLite makes its log beside the file, so the directory counts, too.
    for place in (directory, path):
        if place.exists() and not os.access(place, os.W_OK):
            return f"{place} cannot be written by this user: {COST}", "give it to the daemon's user, or another path"
    return None


def _room(path: Path, most: int) -> tuple[str, str] | None:
    """Whether the disk has room for the file at its largest, as it may be when the daemon has run for a while."""
    system = os.statvfs(path.parent)
    free = system.f_bavail * system.f_frsize
    size = path.stat().st_size if path.exists() else 0
    if size + free >= most:
        return None
    message = f"{free >> 20} MiB are free beside {path}, which may take {most >> 20} MiB: a full disk keeps no history"
    return message, "lower history.max_size, or give it another disk"
