"""Check of the history file: whether it can be written. Writes nothing, as a daemon may have it open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from flowmap.config import Config
from flowmap.sources.base import Finding

NAME = "history.path"
COST = "no history is kept"


def look(config: Config) -> Iterator[Finding]:
    """One finding if a history is configured; never failed, as the daemon runs without it."""
    if config.history.path is None:
        return
    path = Path(config.history.path)
    try:
        problem = _obstacle(path) or _room(path, config.history.max_size)
    except OSError as error:
        problem = f"{path}: {error.strerror}: {COST}", "choose another history.path"
    if problem is None:
        yield Finding(NAME, "ok", f"{path} can be written")
    else:
        yield Finding(NAME, "degraded", *problem)


def _obstacle(path: Path) -> tuple[str, str] | None:
    """Why the file cannot be written, and the remedy; None if it can."""
    directory = path.parent
    if not directory.is_dir():
        return (
            f"{directory} is not a directory: {COST}",
            f"create it, writable by the daemon's user: mkdir -p {directory}",
        )
    if path.exists() and not path.is_file():
        return f"{path} is not a file: {COST}", "name a file"
    # SQLite creates its log in the same directory, so the directory must be writable too.
    for place in (directory, path):
        if place.exists() and not os.access(place, os.W_OK):
            return (
                f"{place} cannot be written by this user: {COST}",
                "change its owner to the daemon's user, or choose another path",
            )
    return None


def _room(path: Path, most: int) -> tuple[str, str] | None:
    """A problem if the disk has no room for the file at its limit."""
    system = os.statvfs(path.parent)
    free = system.f_bavail * system.f_frsize
    size = path.stat().st_size if path.exists() else 0
    if size + free >= most:
        return None
    message = f"{free >> 20} MiB free for {path}, which may grow to {most >> 20} MiB: history stops on a full disk"
    return message, "lower history.max_size, or use another disk"
