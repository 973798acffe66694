"""Rate limit for repeated log messages: so many of one kind in a window, then a summary of the rest."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

BURST = 10
"""Lines of one kind that are written in one window."""
WINDOW = 60.0
"""Seconds of a window."""
KINDS = 1000
"""Kinds remembered; beyond it the least recently logged one is dropped, with its summary."""
LONGEST = 300
"""Characters kept of a suppressed line."""


class LineKind(NamedTuple):
    """Lines are of one kind if logger, level and message template (without arguments) are equal."""

    logger: str
    level: int
    template: str


class Suppressed(NamedTuple):
    """Summary of the suppressed lines of one kind."""

    kind: LineKind
    lines: int
    last: str
    """The last suppressed line; empty if not kept."""


class _Window:
    __slots__ = ("began", "last", "admitted", "suppressed")

    def __init__(self, began: float) -> None:
        self.began = began
        self.admitted = 0
        self.suppressed = 0
        self.last = ""


class Repeats:
    """Counts lines by kind. Not thread-safe; times are monotonic seconds."""

    def __init__(self) -> None:
        self._windows: OrderedDict[LineKind, _Window] = OrderedDict()

    def admit(self, kind: LineKind, now: float) -> bool:
        """Whether to write a line."""
        window = self._windows.get(kind)
        if window is None or (not window.suppressed and now - window.began >= WINDOW):
            window = self._windows[kind] = _Window(now)
        self._windows.move_to_end(kind)
        if len(self._windows) > KINDS:
            self._windows.popitem(last=False)
        if window.admitted < BURST:
            window.admitted += 1
            return True
        window.suppressed += 1
        return False

    def keep(self, kind: LineKind, line: str) -> None:
        """Keep the line that was just not admitted, cut to LONGEST; one for each kind."""
        self._windows[kind].last = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"

    def due(self, now: float, *, final: bool = False) -> list[Suppressed]:
        """Summaries of the kinds whose window has passed; of all kinds if ``final``."""
        due = [
            Suppressed(kind, window.suppressed, window.last)
            for kind, window in self._windows.items()
            if window.suppressed and (final or now - window.began >= WINDOW)
        ]
        for suppressed in due:
            del self._windows[suppressed.kind]
        return due
