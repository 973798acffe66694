"""Rows whose tuple another flow has taken, while records of theirs may still be on the way.

A full read shows the state of now, the events that queued up meanwhile tell the past: the read can show a flow before
the end of the one that had its tuple is told, and even before flows between the two are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.flows.hash_index import Hashes, Rows


class Superseded:
    """At most ``limit`` rows by the hash of their tuple and the kernel's id; the oldest is given up first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: dict[tuple[int, int], tuple[int, bool]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, tuple_hash: int, flow_id: int, row: int, *, ended: bool) -> int | None:
        """Keep a row and whether its connection was over already; returns a row that had to be given up."""
        self._rows[tuple_hash, flow_id] = row, ended
        return self._rows.pop(next(iter(self._rows)))[0] if len(self._rows) > self._limit else None

    def find(self, tuple_hash: int, flow_id: int) -> int | None:
        """The row of a flow; it stays here."""
        held = self._rows.get((tuple_hash, flow_id))
        return None if held is None else held[0]

    def pop(self, tuple_hash: int, flow_id: int) -> tuple[int, bool]:
        """The row of a flow that is here and whether it was over already; it leaves."""
        return self._rows.pop((tuple_hash, flow_id))

    def may_hold(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """For each tuple whether a row of it may be here."""
        if not self._rows:
            return np.zeros(len(hashes), np.bool_)
        held: npt.NDArray[np.bool_] = np.isin(hashes, np.array([key[0] for key in self._rows], np.uint64))
        return held

    def clear(self) -> Rows:
        """All rows; none stays."""
        rows = np.array([row for row, _ in self._rows.values()], np.int32)
        self._rows.clear()
        return rows
