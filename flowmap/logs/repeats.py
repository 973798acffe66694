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


class Kind(NamedTuple):
    """What makes lines alike: who logs them, how grave, and the message before its arguments are filled in."""

    logger: str
    level: int
    template: str


class _Window:
    __slots__ = ("began", "shown", "suppressed")

    def __init__(self, began: float) -> None:
        self.began = began
        self.shown = 0
        self.suppressed = 0


class Repeats:
    """Counts lines by kind. Used under one lock; times are monotonic seconds."""

    def __init__(self) -> None:
        self._windows: OrderedDict[Kind, _Window] = OrderedDict()

    def admit(self, kind: Kind, now: float) -> bool:
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

    def due(self, now: float, *, ends: bool = False) -> list[tuple[Kind, int]]:
        """Kinds whose window is over (or, where everything ends, all), with how many lines were not shown."""
        over = [
            (kind, window.suppressed)
            for kind, window in self._windows.items()
            if window.suppressed and (ends or now - window.began >= WINDOW)
        ]
        for kind, _ in over:
            del self._windows[kind]
        return over
