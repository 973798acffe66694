"""Counters that a full read shows, held until the read ends.

The kernel can give a new flow the tuple and the id of one that just ended. A full read can show the new flow while the
final record of the old one waits in the event queue. The kernel queues that record before it can use the id again
(``nf_ct_delete`` in net/netfilter/nf_conntrack_core.c), and a source delivers the queue before its ``ReadFinished``. So
at the end of a read, held counters belong to the flow of their row: if the flow had ended, its final record came, and
what was held is dropped. The new flow is counted from zero, by its own records.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from flowmap.flows.bursts import Times
from flowmap.flows.columns import U64, FlowColumns, Mask
from flowmap.flows.index.hash_index import Positions, Rows


class Reading(NamedTuple):
    """Counters of some rows, read from the kernel at one moment."""

    rows: Rows
    counters: U64
    """Absolute, four for each row."""
    closing: Mask
    """TCP flows that are closing or closed."""
    read_at: float
    """The counters are not older than this instant, monotonic seconds."""
    now: float
    """They were read by this instant."""
    heard_by: Times | None = None
    """When the last packet of each row was sent, if the source knows."""

    def take(self, chosen: Mask | Positions) -> Reading:
        """The part about the chosen rows."""
        heard_by = None if self.heard_by is None else self.heard_by[chosen]
        return self._replace(
            rows=self.rows[chosen],
            counters=self.counters[chosen],
            closing=self.closing[chosen],
            heard_by=heard_by,
        )


class HeldCounters:
    """At most one reading for each row, the last one. Those with 0 in the column ``held`` are dropped: newer counters
    are known, or the flow has ended."""

    def __init__(self, columns: FlowColumns) -> None:
        self._held = columns.held
        self._readings: list[Reading] = []

    def hold(self, reading: Reading) -> None:
        """Keep a reading in place of earlier ones of its rows."""
        self._readings.append(reading)
        self._held[reading.rows] = len(self._readings)

    def take(self) -> Iterator[Reading]:
        """Remove and return everything that is held."""
        readings, self._readings = self._readings, []
        for number, reading in enumerate(readings, 1):
            kept = self._held[reading.rows] == number
            self._held[reading.rows[kept]] = 0
            yield reading.take(kept)
