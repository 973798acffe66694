"""The metrics page as a file for the textfile collector of node_exporter, for runs that are not scraped.

The file is written beside its place and then renamed, so a reader gets a complete page, old or new. It holds flowmap's
own families only: the process metrics would collide with those of node_exporter.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from flowmap.errors import ConfigError, SourceError

log = logging.getLogger(__name__)

EVERY = 15.0
"""Seconds between two writes: a usual scrape interval."""
SUFFIX = ".prom"
"""The collector ignores files with other names."""
READABLE = 0o644
"""node_exporter runs as another user."""


class OneRun(NamedTuple):
    """A run with a time limit, and the file it writes."""

    duration: float | None = None
    """Seconds after which the daemon stops as if by SIGTERM; None: no limit."""
    textfile: Path | None = None


class TextFile:
    """Writes the metrics page of a running daemon to a file."""

    def __init__(self, path: Path, page: Callable[[], bytes]) -> None:
        """ConfigError for a name that the collector would not read."""
        if path.suffix != SUFFIX:
            raise ConfigError(f"--textfile {path}: the textfile collector reads only names that end in {SUFFIX}")
        self._path = path
        self._page = page
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Write at intervals from now on."""
        self._task = asyncio.create_task(self.keep_writing(), name="textfile")

    async def keep_writing(self) -> None:
        """Write at intervals until cancelled. A failure is logged and the next write tried."""
        while True:
            try:
                await asyncio.to_thread(self.write)
            except SourceError as error:
                log.warning("%s", error)
            await asyncio.sleep(EVERY)

    async def finish(self) -> None:
        """Write a last time, if it was started; SourceError if that fails."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self.write()

    def write(self) -> None:
        """Write the current page; SourceError if that fails, and the file keeps its content."""
        text = b"".join(own_families(self._page()))
        draft: str | None = None
        try:
            with tempfile.NamedTemporaryFile(
                dir=self._path.parent, prefix=f".{self._path.name}.", delete=False
            ) as file:
                draft = file.name
                os.fchmod(file.fileno(), READABLE)
                file.write(text)
            os.replace(draft, self._path)
        except OSError as error:
            if draft is not None:
                Path(draft).unlink(missing_ok=True)
            raise SourceError(f"--textfile {self._path}: {error.strerror}", remedy="choose another path") from error


def own_families(page: bytes) -> Iterator[bytes]:
    """The lines of flowmap's own metrics."""
    for line in page.splitlines(keepends=True):
        if line.removeprefix(b"# HELP ").removeprefix(b"# TYPE ").startswith(b"flowmap_"):
            yield line
