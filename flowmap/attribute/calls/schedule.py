"""Which ends to ask about next.

Every end with an open or pending flow is asked about, and again ``positive_ttl`` (or, after an empty answer,
``negative_ttl``) later. When more are due than the budget allows, as after an outage, the end whose pending flows have
the largest traffic comes first: of flows that an answer since their start could not decide nothing is counted. One turn
in :data:`FAIR` belongs to the end whose oldest pending flow has waited longest, counted from when the end became due
again if it was asked about before. So large flows are named first, new small ones wait no more than so many times
longer than the line, and flows that no answer can decide keep nobody waiting. Ends without pending flows come last.
Service ends wait until one of their clients is, or may be, a deployment's: what strangers talk to is never asked for.
Flows that ``attribute.special`` decides make no end due.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.attribute.calls.selection import first_few
from flowmap.attribute.owner_state import is_undecided
from flowmap.attribute.settings import AttributionSettings
from flowmap.attribute.special_addresses import SpecialEndpoints
from flowmap.flows.columns import IGNORED, FlowColumns, Mask, Row
from flowmap.flows.hash_index import Rows
from flowmap.flows.table import FlowTable

MAX_BACKOFF = 60.0
FAIR = 4
"""While more ends are due than can be asked about, one in so many is chosen by how long it has waited."""
_OPEN = np.uint16(Row.OPEN)


class Schedule:
    """When each end, by its number in the end table, is due. Numbers come from one table and are forgotten with it."""

    def __init__(self, special: SpecialEndpoints, capacity: int, settings: AttributionSettings) -> None:
        self._special = special
        self._settings = settings
        self._by_client = special.by_client
        self._due = np.zeros(capacity, np.float64)
        self._outstanding = np.zeros(capacity, np.uint16)
        self._failures = np.zeros(capacity, np.uint8)
        self._broken = np.zeros(capacity, np.bool_)  # a question of this round failed
        self._named = np.zeros(capacity, np.bool_)
        self._barren = np.zeros(capacity, np.bool_)  # clients that no deployment owns, as far as is known
        # When the last whole round of answers was in; 0: never. Zeros are memory that nobody has touched yet.
        self._answered = np.zeros(capacity, np.float64)
        self._turn = 0
        self.waiting = 0
        """Ends that were due when last looked at."""

    def choose(self, table: FlowTable, *, now: float, limit: int, strangers: bool = False) -> list[int]:
        """At most ``limit`` numbers of ends to ask about now, the most urgent first.

        ``strangers``: service ends only, and also those of clients that no deployment owns.
        """
        columns, rows = table.columns, table.live()
        pending = is_undecided(columns, rows)
        wanted = pending | ((columns.flags[rows] & _OPEN != 0) & (columns.series[rows] != IGNORED))
        wanted &= ~self._special.holds(rows)
        rows, pending = rows[wanted], pending[wanted]
        since = np.where(pending, columns.born_by[rows], np.inf)
        clients, services = columns.client[rows], columns.service[rows]
        oldest = np.full(table.ends.top, np.nan)
        promising = np.ones(len(rows), np.bool_)
        if self._by_client and not strangers:
            _lower(oldest, clients, since)
            promising = ~self._barren[clients]
        _lower(oldest, services[promising], since[promising])
        numbers = np.flatnonzero(~np.isnan(oldest))
        numbers = numbers[(self._due[numbers] <= now) & (self._outstanding[numbers] == 0)]
        self.waiting = 0 if strangers else len(numbers)
        due = self._due[numbers]
        age = np.maximum(oldest[numbers], due)
        by_age: list[int] = numbers[first_few(limit, age, due)].tolist()
        if len(numbers) <= limit or not limit:
            return by_age
        del clients, services, since, oldest  # with a million flows each is 4 or 8 MB
        rows, promising = rows[pending], promising[pending]
        traffic = self._traffic(columns, rows, promising, table.ends.top)
        by_traffic = numbers[first_few(limit, -traffic[numbers], age, due)].tolist()
        return self._in_turn(by_traffic, by_age, limit)

    def _traffic(self, columns: FlowColumns, rows: Rows, promising: Mask, ends: int) -> npt.NDArray[np.float64]:
        """Bytes of each end's pending flows that no answer about it has come for since they began."""
        amount = np.zeros(len(rows))
        for way in (0, 1):  # one at a time: with a million flows every column is 8 MB
            amount += columns.last[rows, way] - columns.base[rows, way]
        traffic = np.zeros(ends)
        born = columns.born_by[rows]
        for endpoints_of, counts in ((columns.client, True), (columns.service, promising)):
            numbers = endpoints_of[rows]
            answered = self._answered[numbers]
            fresh = ((born > answered) | (answered == 0)) & counts
            traffic += np.bincount(numbers[fresh], weights=amount[fresh], minlength=ends)
        return traffic

    def _in_turn(self, by_traffic: list[int], by_age: list[int], limit: int) -> list[int]:
        chosen: dict[int, None] = {}
        orders = iter(by_traffic), iter(by_age)
        while len(chosen) < limit:
            self._turn = (self._turn + 1) % FAIR
            order = orders[not self._turn]
            chosen[next(number for number in order if number not in chosen)] = None
        return list(chosen)

    def started(self, number: int, questions: int) -> None:
        """So many questions about the end are on their way."""
        self._outstanding[number] = questions
        self._named[number] = self._broken[number] = False

    def finished(self, number: int, *, named: bool | None, now: float, retry_after: float | None = None) -> None:
        """One question about the end came back: with owners, without, or (None) not at all.

        ``retry_after``: seconds after which asking makes sense again, where that is known; else the pause grows with
        every failure.
        """
        if self._outstanding[number] == 0:
            return
        self._outstanding[number] -= 1
        if named is None:
            self._broken[number] = True
        else:
            self._named[number] |= named
        if self._outstanding[number] == 0:
            if not self._broken[number]:
                self._answered[number] = now
            self._failures[number] = min(int(self._failures[number]) + 1, 16) if self._broken[number] else 0
            self._due[number] = now + (self._pause(number) if retry_after is None else retry_after)

    def retry_now(self, now: float) -> None:
        """Nothing was answered for long, and now something was: what failed meanwhile waits for its pause no more, so
        that the largest traffic comes first and not whose pause ends first."""
        failed = (self._failures > 0) & (self._outstanding == 0)
        self._due[failed] = np.minimum(self._due[failed], now)

    def postpone(self, number: int, until: float) -> None:
        """Do not ask about the end before then."""
        self._due[number] = until

    def mark_unowned(self, number: int, unowned: bool) -> None:
        """Whether the newest answers say that no deployment owns the client."""
        self._barren[number] = unowned

    def forget(self, numbers: npt.NDArray[np.int32]) -> None:
        """The numbers will stand for other ends."""
        for column in (self._due, self._answered, self._outstanding, self._failures):
            column[numbers] = 0
        for flag in (self._broken, self._named, self._barren):
            flag[numbers] = False

    def _pause(self, number: int) -> float:
        if failures := int(self._failures[number]):
            return float(min(MAX_BACKOFF, 2.0 ** (failures - 1)))
        return self._settings.positive_ttl if self._named[number] else self._settings.negative_ttl


def _lower(oldest: npt.NDArray[np.float64], numbers: npt.NDArray[np.int32], since: npt.NDArray[np.float64]) -> None:
    """``oldest[n]`` becomes the least of ``since`` over the positions where ``numbers`` is ``n``."""
    np.fmin.at(oldest, numbers, since)
