"""What sources say is wrong with them, told in the log once: when it begins, and when it is over."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from flowmap.model.source import SourceStats
from flowmap.sources.base import Source

log = logging.getLogger(__name__)

LOSS_EVERY = 60.0
"""Seconds between two lines on what one source lost."""

_NUMBER = re.compile(r"\d+")


class SourceLog:
    """Looks at the statistics of sources, which their own thread writes meanwhile."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Nothing was told yet of what ``sources`` have to say."""
        self._notes = [_Notes(source.facts.name) for source in sources]
        self._losses = [_Losses(source.facts.name) for source in sources]
        self._stats = [source.stats for source in sources]

    def look(self, now: float) -> None:
        """Log what is new; ``now``: monotonic seconds."""
        for notes, losses, stats in zip(self._notes, self._losses, self._stats, strict=True):
            notes.look(stats)
            losses.look(stats, now)


class _Notes:
    """Degradations that are in force, as far as they were told."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: dict[str, str] = {}
        """What was told under each key, without its numbers: they grow, and the metrics have them."""

    def look(self, stats: SourceStats) -> None:
        notes = dict(stats.notes)
        for key in self._told.keys() - notes.keys():
            log.info("%s: %s: that is over", self._name, key)
        told = {key: _NUMBER.sub("#", note) for key, note in notes.items()}
        for key, note in notes.items():
            if told[key] != self._told.get(key):
                log.warning("%s: %s: %s", self._name, key, note)
        self._told = told


class _Losses:
    """What was lost, as far as it was told."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told_at = float("-inf")
        self._lost: dict[str, int] = {}
        self._overruns = 0

    def look(self, stats: SourceStats, now: float) -> None:
        if now - self._told_at < LOSS_EVERY:
            return
        lost, overruns = dict(stats.lost), stats.overruns
        parts = [_lost_since(self._lost, lost), _dropped(overruns - self._overruns, counted="ring_full" in lost)]
        self._lost, self._overruns = lost, overruns
        if any(parts):
            self._told_at = now
            log.warning("%s: %s", self._name, "; ".join(filter(None, parts)))


def _lost_since(before: dict[str, int], after: dict[str, int]) -> str:
    more = {reason: number - before.get(reason, 0) for reason, number in after.items()}
    more = {reason: number for reason, number in more.items() if number > 0}
    if not more:
        return ""
    reasons = more if len(more) == 1 else [f"{reason} {number}" for reason, number in more.items()]
    return f"lost {sum(more.values())} records ({', '.join(reasons)})"


def _dropped(times: int, *, counted: bool) -> str:
    """``counted``: the source knows what it lost in each, and has no table to read it from again."""
    if times <= 0 or counted:
        return ""
    return f"the kernel dropped changes {'once' if times == 1 else f'{times} times'}; a full read follows"
