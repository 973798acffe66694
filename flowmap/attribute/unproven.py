"""Open flows without an owner for which an answer names one, but whose client was not seen to send after it.

Conntrack shows with the next full read that a client has sent. Then these flows are judged again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flowmap.attribute.answers.lifetimes import lifetimes_of
from flowmap.attribute.calls.schedule import Schedule
from flowmap.attribute.owner_state import may_be_named
from flowmap.flows.columns import Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable

AT_ONCE = 200
"""Flows that are judged again at a time: about 0.01 s of work. The others follow."""
_USED = np.uint32(Row.USED)


class Unproven:
    """The rows of such flows. Used by one thread."""

    def __init__(self, table: FlowTable, schedule: Schedule, decisive: Callable[[Rows], Rows]) -> None:
        """``decisive``: the endpoint of each flow without which no answer decides it."""
        self._decisive = decisive
        self._table = table
        self._schedule = schedule
        self._rows: Rows = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, rows: Rows) -> None:
        """These flows were judged again and stay ``unknown``."""
        numbers = self._decisive(rows)
        rows = rows[~(self._is_proven(rows) | self._schedule.is_unowned(numbers))]
        if len(rows):
            self._rows = np.unique(np.concatenate((self._rows, rows)))

    def take(self) -> Rows:
        """The flows to judge again: their clients were seen to send since the last answer."""
        columns, rows = self._table.columns, self._rows
        rows = rows[(columns.flags[rows] & _USED) != 0]
        rows = rows[may_be_named(columns, rows)]
        taken: Rows = rows[self._is_proven(rows)][:AT_ONCE]
        self._rows = rows[~np.isin(rows, taken)]
        return taken

    def _is_proven(self, rows: Rows) -> Mask:
        answered = self._schedule.answered_at(self._decisive(rows))
        proven: Mask = lifetimes_of(self._table, rows).proven_until >= answered
        return proven
