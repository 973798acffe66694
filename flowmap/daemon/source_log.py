"""Logs the degradations of sources once, when they begin and when they are resolved, and the losses at intervals."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from flowmap.model.source import SourceStats
from flowmap.sources.base import Source

log = logging.getLogger(__name__)

LOSS_EVERY = 60.0
"""Seconds between two lines about the losses of one source."""

_NUMBER = re.compile(r"\d+")


class SourceLog:
    """Compares the statistics of sources with those of the check before. Another thread updates them meanwhile."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Nothing of ``sources`` was logged yet."""
        self._notes = [_Notes(source.facts.name) for source in sources]
        self._losses = [_Losses(source.facts.name) for source in sources]
        self._stats = [source.stats for source in sources]

    def check(self, now: float) -> None:
        """Log the changes; ``now``: monotonic seconds."""
        for notes, losses, stats in zip(self._notes, self._losses, self._stats, strict=True):
            notes.check(stats)
            losses.check(stats, now)


class _Notes:
    """The degradations of one source that were logged and are not resolved."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged: dict[str, str] = {}
        """The text logged for each key, without its numbers: they grow, and the metrics have them."""

    def check(self, stats: SourceStats) -> None:
        notes = dict(stats.notes)
        for key in self._logged.keys() - notes.keys():
            log.info("%s: %s: resolved", self._name, key)
        texts = {key: _NUMBER.sub("#", note) for key, note in notes.items()}
        for key, note in notes.items():
            if texts[key] != self._logged.get(key):
                log.warning("%s: %s: %s", self._name, key, note)
        self._logged = texts


class _Losses:
    """The losses of one source that were logged."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged_at = float("-inf")
        self._lost: dict[str, int] = {}
        self._overruns = 0

    def check(self, stats: SourceStats, now: float) -> None:
        if now - self._logged_at < LOSS_EVERY:
            return
        lost, overruns = dict(stats.lost), stats.overruns
        parts = [_lost_since(self._lost, lost), _dropped(overruns - self._overruns, counted="ring_full" in lost)]
        self._lost, self._overruns = lost, overruns
        if any(parts):
            self._logged_at = now
            log.warning("%s: %s", self._name, "; ".join(filter(None, parts)))


def _lost_since(before: dict[str, int], after: dict[str, int]) -> str:
    more = {reason: number - before.get(reason, 0) for reason, number in after.items()}
    more = {reason: number for reason, number in more.items() if number > 0}
    if not more:
        return ""
    reasons = more if len(more) == 1 else [f"{reason} {number}" for reason, number in more.items()]
    return f"lost {sum(more.values())} records ({', '.join(reasons)})"


def _dropped(times: int, *, counted: bool) -> str:
    """``counted``: the source counts what each drop lost, and has no table to read again."""
    if times <= 0 or counted:
        return ""
    return f"the kernel dropped events {'once' if times == 1 else f'{times} times'}; a full read follows"
