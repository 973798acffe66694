"""The page as a file, for the textfile collector of node_exporter: for runs that nobody scrapes.

The file is written beside its place and then renamed, so a reader sees a whole page, old or new. Only flowmap's own
families are in it: figures of the process would collide with node_exporter's of the same name.
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
"""Seconds between two writings while the daemon runs: a usual scrape interval."""
SUFFIX = ".prom"
"""What the collector reads; it leaves other files alone."""
READABLE = 0o644
"""node_exporter runs as another user."""


class OneRun(NamedTuple):
    """How a run ends, and what it leaves behind."""

    duration: float | None = None
    """Seconds after which it ends as if by SIGTERM; None: not by itself."""
    textfile: Path | None = None


class TextFile:
    """Writes the page of a running daemon."""

    def __init__(self, path: Path, page: Callable[[], bytes]) -> None:
        """ConfigError for a name that the collector would not read."""
        if path.suffix != SUFFIX:
            raise ConfigError(f"--textfile {path}: the textfile collector reads only names that end in {SUFFIX}")
        self._path = path
        self._page = page

    async def keep_writing(self) -> None:
        """Write now and then until cancelled. What cannot be written is said, and tried again."""
        while True:
            try:
                await asyncio.to_thread(self.write)
            except SourceError as error:
                log.warning("%s", error)
            await asyncio.sleep(EVERY)

    async def finish(self, writing: asyncio.Task[None]) -> None:
        """End ``keep_writing`` and write for the last time; SourceError if that cannot be done."""
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        self.write()

    def write(self) -> None:
        """Write the page of now; SourceError if that cannot be done, and then what was there before still is."""
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
            raise SourceError(f"--textfile {self._path}: {error.strerror}", remedy="give another place") from error


def own_families(page: bytes) -> Iterator[bytes]:
    """The lines about flowmap's own metrics."""
    for line in page.splitlines(keepends=True):
        if line.removeprefix(b"# HELP ").removeprefix(b"# TYPE ").startswith(b"flowmap_"):
            yield line
