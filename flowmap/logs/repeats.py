"""No storm of like lines: so many of one kind in a while, and a word on how many more there were."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

BURST = 10
"""Lines of one kind that are shown in one window."""
WINDOW = 60.0
"""Seconds."""
KINDS = 1000
"""Kinds that are remembered; the one that was quiet the longest is forgotten, with what there was to say of it."""
LONGEST = 300
"""Characters that are kept of a line that was not shown."""


class LineKind(NamedTuple):
    """What makes lines alike: who logs them, how grave, and the message before its arguments are filled in."""

    logger: str
    level: int
    template: str


class Suppressed(NamedTuple):
    """What there is to say of one kind."""

    kind: LineKind
    lines: int
    last: str
    """The last line that was not shown; empty if it was not kept."""


class _Window:
    __slots__ = ("began", "last", "shown", "suppressed")

    def __init__(self, began: float) -> None:
        self.began = began
        self.shown = 0
        self.suppressed = 0
        self.last = ""


class Repeats:
    """Counts lines by kind. Used under one lock; times are monotonic seconds."""

    def __init__(self) -> None:
        self._windows: OrderedDict[LineKind, _Window] = OrderedDict()

    def admit(self, kind: LineKind, now: float) -> bool:
        """Whether a line is to be shown."""
        window = self._windows.get(kind)
        if window is None or (not window.suppressed and now - window.began >= WINDOW):
            window = self._windows[kind] = _Window(now)
        self._windows.move_to_end(kind)
        if len(self._windows) > KINDS:
            self._windows.popitem(last=False)
        if window.shown < BURST:
            window.shown += 1
            return True
        window.suppressed += 1
        return False

    def keep(self, kind: LineKind, line: str) -> None:
        """The line that was just not admitted: one of a kind is kept, cut in length."""
        self._windows[kind].last = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"

    def due(self, now: float, *, ends: bool = False) -> list[Suppressed]:
        """Kinds whose window is over (or, where everything ends, all) with lines that were not shown."""
        over = [
            Suppressed(kind, window.suppressed, window.last)
            for kind, window in self._windows.items()
            if window.suppressed and (ends or now - window.began >= WINDOW)
        ]
        for suppressed in over:
            del self._windows[suppressed.kind]
        return over
