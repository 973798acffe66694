"""Rows of flows whose tuple another flow now has, kept until their last records arrive.

A full read shows the present, while queued events report the past. So a full read can show a flow before the event that
ends the previous flow of its tuple, and even before the events of flows between the two.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.hash_index import Hashes, Rows


class Superseded:
    """At most ``limit`` rows by the hash of their tuple and the kernel's id. The oldest is dropped first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: dict[tuple[int, int], tuple[int, bool]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, tuple_hash: int, flow_id: int, row: int, *, ended: bool) -> int | None:
        """Keep a row and whether its connection was already closed. Returns a row dropped for it, if any."""
        self._rows[tuple_hash, flow_id] = row, ended
        return self._rows.pop(next(iter(self._rows)))[0] if len(self._rows) > self._limit else None

    def find(self, tuple_hash: int, flow_id: int) -> int | None:
        """The row of a flow, or None."""
        held = self._rows.get((tuple_hash, flow_id))
        return None if held is None else held[0]

    def pop(self, tuple_hash: int, flow_id: int) -> tuple[int, bool]:
        """Remove a row that is kept; returns it and whether its connection was already closed."""
        return self._rows.pop((tuple_hash, flow_id))

    def may_hold(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Whether a row of each tuple may be kept here."""
        if not self._rows:
            return np.zeros(len(hashes), np.bool_)
        held: npt.NDArray[np.bool_] = np.isin(hashes, np.array([key[0] for key in self._rows], np.uint64))
        return held

    def clear(self, namespaces: npt.NDArray[np.uint32], namespace: int) -> Rows:
        """Remove and return the rows of a namespace. ``namespaces``: that of each row of the table."""
        gone = [row for row, _ in self._rows.values() if namespaces[row] == namespace]
        self._rows = {key: held for key, held in self._rows.items() if namespaces[held[0]] != namespace}
        return np.array(gone, np.int32)
