"""How far a long listing is, on stderr and only where that is a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from flowmap.cli.output.text import clean

EVERY = 0.1
"""Seconds between two looks."""

_TO_START_AND_CLEAR = "\r\x1b[K"


class Progress:
    """One line that is written over and gone in the end."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._next = 0.0
        self._shown = False

    def show(self, text: str) -> None:
        """Say ``text`` instead of what was said before, if it is time to."""
        now = time.monotonic()
        if not self._live or now < self._next:
            return
        self._next, self._shown = now + EVERY, True
        sys.stderr.write(f"{_TO_START_AND_CLEAR}{clean(text)}")
        sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            sys.stderr.write(_TO_START_AND_CLEAR)
            sys.stderr.flush()
