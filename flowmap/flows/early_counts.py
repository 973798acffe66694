"""Traffic of a new flow that a full read showed too early, so that it was counted for the previous flow.

The kernel can give a new flow the tuple and the id of one that just ended. A full read can show the new flow while the
final record of the old one waits in the event queue, and larger counters look like growth of the old one. Then the
final counters of the old one are smaller. What was counted beyond them is not counted again for the new flow; it stays
with the owner of the old one.
"""

from __future__ import annotations

import numpy as np

from flowmap.flows.columns import U64, FlowColumns, Row
from flowmap.flows.index.hash_index import Rows

SHOWN, PREEXISTING, COUNTED_BEFORE = (
    np.uint32(flag) for flag in (Row.SHOWN, Row.PREEXISTING, Row.PREEXISTING | Row.READ)
)

Identity = tuple[int, ...]


class EarlyCounts:
    """By tuple, zone, network namespace and kernel id: the four counters that were counted before the flow opened.

    At most one for each row that the current full read showed and whose end was read since.
    """

    def __init__(self) -> None:
        self._counted: dict[Identity, U64] = {}

    def correct(self, columns: FlowColumns, rows: Rows, final: U64) -> U64:
        """Counters of the previous flows in place of ``final``, never below the last ones.

        Remembers for the next flows what was counted beyond ``final``.
        """
        last, base = columns.last[rows], columns.base[rows]
        known = ((columns.flags[rows] & COUNTED_BEFORE) == COUNTED_BEFORE)[:, None] & (base <= last)
        counted = np.maximum(final, np.where(known, base, np.uint64(0)))
        beyond = last - np.minimum(counted, last)
        for identity, counters in zip(_identities(columns, rows), beyond, strict=True):
            self._counted[identity] = counters
        return np.maximum(final, last)

    def hand_over(self, columns: FlowColumns, rows: Rows) -> None:
        """Start new rows at the counters that are already counted."""
        if not self._counted:
            return
        for row, identity in zip(rows.tolist(), _identities(columns, rows), strict=True):
            counters = self._counted.pop(identity, None)
            if counters is not None:
                columns.last[row] = columns.base[row] = counters
                columns.flags[row] = columns.flags[row] & ~PREEXISTING | SHOWN

    def clear(self) -> None:
        """Forget all, at the end of a full read: the events from before it are applied."""
        self._counted.clear()


def _identities(columns: FlowColumns, rows: Rows) -> list[Identity]:
    parts = (
        *(columns.client_high, columns.client_low, columns.server_high, columns.server_low),
        *(columns.ports, columns.namespace, columns.id),
    )
    return list(zip(*(part[rows].tolist() for part in parts), strict=True))
