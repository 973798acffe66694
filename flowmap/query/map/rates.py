"""Rates of series, from two snapshots that are some seconds apart.

The kernel's counters of open connections are read every few seconds, with conntrack every ``collect.conntrack.resync``.
Their bytes arrive in the series at once. So a rate covers the time between two such reads exactly; bytes of a moving
window of a fixed length would jump with every read that enters or leaves it.
"""

from __future__ import annotations

import operator
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowmap.export.series import SeriesKey
from flowmap.export.snapshot import Snapshot

SHORTEST = 10.0
"""Seconds that a rate covers at least, where there are samples."""
APART = 4.0
"""Seconds between two kept samples: they bound the memory to a handful of copies."""
MOST = 8
"""Samples kept; with ``APART`` enough for ``SHORTEST``."""
SAME_READ = 0.25
"""Seconds by which the times of one read of the counters may differ, from one snapshot to the next."""

U64 = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The bytes of every series when the counters had been read."""

    at: float
    """When the counters were read, seconds since the epoch."""
    keys: tuple[SeriesKey | None, ...]
    transmit_bytes: U64
    receive_bytes: U64


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Bytes a second of each series; both arrays are as long as ``keys``."""

    since: float
    until: float
    keys: tuple[SeriesKey | None, ...]
    transmit: Floats
    receive: Floats

    def of(self, keys: tuple[SeriesKey | None, ...]) -> tuple[Floats, Floats]:
        """The rates of the series with these keys, which are of a later snapshot; 0 for a series that is newer."""
        if keys is self.keys:
            return self.transmit, self.receive
        both = np.zeros((2, len(keys)))
        same = _same(self.keys, keys)
        both[0, : len(same)] = np.where(same, self.transmit[: len(same)], 0.0)
        both[1, : len(same)] = np.where(same, self.receive[: len(same)], 0.0)
        return both[0], both[1]


class Samples:
    """The newest samples. :meth:`add` is to be called about once a second, by one thread."""

    def __init__(self) -> None:
        self._kept: deque[Sample] = deque(maxlen=MOST)
        self._newest: Sample | None = None

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot, if the counters were read since the last one."""
        if not snapshot.taken_at:  # the engine's first one is empty
            return
        at = snapshot.taken_at - (snapshot.counter_age or 0.0)
        if self._newest is not None:
            if at < self._newest.at - 1.0:  # the clock was set back, or another daemon in a test
                self._kept.clear()
            elif at - self._newest.at < SAME_READ:
                return
        table = snapshot.series_table
        self._newest = Sample(at, table.keys, table.transmit_bytes, table.receive_bytes)
        if not self._kept or at - self._kept[-1].at >= APART:
            self._kept.append(self._newest)

    def rates(self) -> Rates | None:
        """The newest rates; None before there are two samples."""
        newest, kept = self._newest, tuple(self._kept)
        if newest is None:
            return None
        old_enough = [sample for sample in kept if newest.at - sample.at >= SHORTEST]
        earlier = old_enough[-1] if old_enough else kept[0] if kept else newest
        if newest.at - earlier.at < 1.0:
            return None
        return between(earlier, newest)


def between(earlier: Sample, later: Sample) -> Rates:
    """The rates from one sample to a later one. A series that is new since then began at zero."""
    grown = np.stack((later.transmit_bytes, later.receive_bytes))
    before = np.zeros_like(grown)
    same = _same(earlier.keys, later.keys)
    before[0, : len(same)] = np.where(same, earlier.transmit_bytes[: len(same)], 0)
    before[1, : len(same)] = np.where(same, earlier.receive_bytes[: len(same)], 0)
    rates = np.where(grown >= before, grown - before, 0) / (later.at - earlier.at)
    return Rates(earlier.at, later.at, later.keys, rates[0], rates[1])


def _same(earlier: tuple[SeriesKey | None, ...], later: tuple[SeriesKey | None, ...]) -> npt.NDArray[np.bool_]:
    """Which of the first rows stand for the same series. The row of an expired series is used again."""
    both = min(len(earlier), len(later))
    if earlier is later:
        return np.ones(both, np.bool_)
    return np.fromiter(map(operator.is_, earlier, later), np.bool_, both)
