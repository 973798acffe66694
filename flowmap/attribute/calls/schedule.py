"""Which endpoints to ask about next.

When an endpoint is due:

    with an open or pending flow, never asked     at once
    after an answer that names a deployment       ``positive_ttl`` later
    after an answer that names none               ``negative_ttl`` later
    after a failure                               after a backoff, or ``retry_after`` if that is known
    service endpoint of unowned clients only      not before one of its clients has an owner, or has no answer yet
    special address                               never

If more endpoints are due than calls are available, the order is:

    - three of four turns (:data:`FAIR`): the endpoint whose pending flows carry the most bytes. Flows do not count that
      began before the endpoint's last answer: that answer could not decide them.
    - one of four turns: the endpoint whose oldest pending flow has waited longest, counted from the instant when the
      endpoint became due again

So large flows are named first, a small one waits at most FAIR × the queue, and flows that no answer can decide delay no
other. Endpoints without pending flows come last.
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
"""Longest pause in seconds after repeated failures."""
ROUND_TRIP = 1.0
"""Seconds before its arrival in which an answer was asked for, at most, where it is known when answers change."""
FAIR = 4
"""If more endpoints are due than calls are available, one in this many is chosen by its waiting time."""
_OPEN = np.uint32(Row.OPEN)


class Schedule:
    """When each endpoint is due, by its number in the endpoint table. Times are monotonic seconds."""

    def __init__(self, special: SpecialEndpoints, capacity: int, settings: AttributionSettings) -> None:
        self._special = special
        self._settings = settings
        self._by_client = special.by_client
        self._due = np.zeros(capacity, np.float64)
        self._outstanding = np.zeros(capacity, np.uint16)
        self._failures = np.zeros(capacity, np.uint8)
        self._failed = np.zeros(capacity, np.bool_)  # a question of this round failed
        self._named = np.zeros(capacity, np.bool_)  # an answer of this round names a deployment
        self._unowned = np.zeros(capacity, np.bool_)  # clients whose newest answers name no deployment
        # When the last round without a failure ended; 0: never. Pages of zeros take no memory until they are written.
        self._answered = np.zeros(capacity, np.float64)
        self._turn = 0
        self.waiting = 0
        """Endpoints that were due at the last :meth:`choose`."""
        self.next_due = -np.inf
        """No endpoint is due before this instant, unless a flow begins."""
        self.changed_at, self.changes_at = np.inf, np.inf
        """When answers may have changed last and may change next, where that is known. Between the two an endpoint is
        asked about again for flows that have begun, sent or ended since its last answer, and for no others."""

    def choose(self, table: FlowTable, *, now: float, limit: int, unowned: bool = False) -> list[int]:
        """At most ``limit`` numbers of endpoints to ask about now, the most urgent first.

        ``unowned``: service endpoints only, and also those of unowned clients.
        """
        columns, rows = table.columns, table.live()
        pending = is_undecided(columns, rows)
        wanted = pending | ((columns.flags[rows] & _OPEN != 0) & (columns.series[rows] != IGNORED))
        wanted &= ~self._special.holds(rows)
        rows, pending = rows[wanted], pending[wanted]
        since = np.where(pending, columns.born_by[rows], np.inf)
        clients, services = columns.client[rows], columns.service[rows]
        oldest = np.full(table.endpoints.top, np.nan)
        promising = np.ones(len(rows), np.bool_)
        if self._by_client and not unowned:
            _lower(oldest, clients, since)
            promising = ~self._unowned[clients]
        _lower(oldest, services[promising], since[promising])
        numbers = np.flatnonzero(~np.isnan(oldest))
        numbers = numbers[self._outstanding[numbers] == 0]
        due = self._due[numbers]
        if self.changed_at < np.inf:
            same = self._knows_all(columns, rows[pending], table.endpoints.top)[numbers]
            due[same] = np.maximum(due[same], self.changes_at)
        if not unowned:
            self.next_due = float(due[due > now].min(initial=np.inf))
        numbers = numbers[due <= now]
        self.waiting = 0 if unowned else len(numbers)
        due = self._due[numbers]
        age = np.maximum(oldest[numbers], due)
        by_age: list[int] = numbers[first_few(limit, age, due)].tolist()
        if len(numbers) <= limit or not limit:
            return by_age
        del clients, services, since, oldest  # with a million flows each is 4 or 8 MB
        rows, promising = rows[pending], promising[pending]
        traffic = self._traffic(columns, rows, promising, table.endpoints.top)
        by_traffic = numbers[first_few(limit, -traffic[numbers], age, due)].tolist()
        return self._in_turn(by_traffic, by_age, limit)

    def _knows_all(self, columns: FlowColumns, rows: Rows, endpoints: int) -> Mask:
        """Endpoints about which another answer could tell nothing new for any of ``rows``."""
        ended_by = columns.ended_by[rows]
        latest = np.maximum(columns.born_by[rows], np.where(np.isinf(ended_by), -np.inf, ended_by))
        latest = np.maximum(latest, columns.active[rows])
        of_endpoint = np.full(endpoints, -np.inf)
        for numbers in (columns.client[rows], columns.service[rows]):
            np.maximum.at(of_endpoint, numbers, latest)
        answered = self._answered[:endpoints]
        knows: Mask = (answered >= self.changed_at) & (answered - ROUND_TRIP > of_endpoint)
        return knows

    def _traffic(self, columns: FlowColumns, rows: Rows, promising: Mask, endpoints: int) -> npt.NDArray[np.float64]:
        """Bytes of each endpoint's pending flows that began after its last answer."""
        amount = np.zeros(len(rows))
        for direction in (0, 1):  # one at a time: with a million flows every column is 8 MB
            amount += columns.last[rows, direction] - columns.base[rows, direction]
        traffic = np.zeros(endpoints)
        born = columns.born_by[rows]
        for endpoints_of, counts in ((columns.client, True), (columns.service, promising)):
            numbers = endpoints_of[rows]
            answered = self._answered[numbers]
            fresh = ((born > answered) | (answered == 0)) & counts
            traffic += np.bincount(numbers[fresh], weights=amount[fresh], minlength=endpoints)
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
        """That many questions about the endpoint are under way."""
        self._outstanding[number] = questions
        self._named[number] = self._failed[number] = False

    def finished(self, number: int, *, named: bool | None, now: float, retry_after: float | None = None) -> None:
        """One question about the endpoint has its result; ``named``: whether it names a deployment, None if it failed.

        ``retry_after``: seconds after which to ask again; None: a backoff that grows with every failure.
        """
        if self._outstanding[number] == 0:
            return
        self._outstanding[number] -= 1
        if named is None:
            self._failed[number] = True
        else:
            self._named[number] |= named
        if self._outstanding[number] == 0:
            if not self._failed[number]:
                self._answered[number] = now
            self._failures[number] = min(int(self._failures[number]) + 1, 16) if self._failed[number] else 0
            self.postpone(number, now + (self._pause(number) if retry_after is None else retry_after))

    def retry_now(self, now: float) -> None:
        """After an outage, end the backoff of every endpoint that failed.

        Then the largest traffic comes first, instead of the backoff that ends first.
        """
        failed = (self._failures > 0) & (self._outstanding == 0)
        self._due[failed] = np.minimum(self._due[failed], now)
        self.next_due = min(self.next_due, now)

    def postpone(self, number: int, until: float) -> None:
        """Do not ask about the endpoint before ``until``."""
        self._due[number] = until
        self.next_due = min(self.next_due, until)

    def mark_unowned(self, number: int, unowned: bool) -> None:
        """Note whether the newest answers name no deployment for the client."""
        self._unowned[number] = unowned

    def forget(self, numbers: npt.NDArray[np.int32]) -> None:
        """The numbers will stand for other endpoints."""
        for column in (self._due, self._answered, self._outstanding, self._failures):
            column[numbers] = 0
        for flag in (self._failed, self._named, self._unowned):
            flag[numbers] = False

    def _pause(self, number: int) -> float:
        if failures := int(self._failures[number]):
            return float(min(MAX_BACKOFF, 2.0 ** (failures - 1)))
        return self._settings.positive_ttl if self._named[number] else self._settings.negative_ttl


def _lower(oldest: npt.NDArray[np.float64], numbers: npt.NDArray[np.int32], since: npt.NDArray[np.float64]) -> None:
    """Lower ``oldest[n]`` to the least of ``since`` where ``numbers`` is ``n``; NaN is above everything."""
    np.fmin.at(oldest, numbers, since)
