"""Which endpoints to ask about next.

When an endpoint is due:

    with an open or pending flow, never asked     at once
    after an answer that names a deployment       ``positive_ttl`` later
    after an answer that names none               ``negative_ttl`` later
    after a failure                               after a backoff, or ``retry_after`` if that is known
    while its answer could decide a flow          ``recheck`` later
    service endpoint of unowned clients only      not before one of its clients has an owner, or has no answer yet
    special address, flowmap's own calls          never
    to a control plane, perhaps an own call       :data:`~flowmap.attribute.special.own_connections.HOLD` later

An answer could decide a flow that began or ended after the last answer was asked for. The client comes first: its
service endpoint is asked about if the client's answers do not decide. An open flow without an owner may still get one
until it is as old as ``registration_lag``; its endpoints are asked about less and less often in that time, and once
just before its end.

If more endpoints are due than calls are available, the order is:

    - three of four turns (:data:`FAIR`): the endpoint whose pending flows carry the most bytes. Flows do not count
      that no answer about this endpoint could decide.
    - one of four turns: the endpoint whose oldest pending flow has waited longest, counted from the instant when the
      endpoint became due again

So large flows are named first, a small one waits at most FAIR × the queue, and flows that no answer can decide delay no
other. Endpoints without pending flows come last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.attribute.calls.selection import first_few
from flowmap.attribute.decisions import CODE
from flowmap.attribute.owner_state import is_undecided
from flowmap.attribute.settings import AttributionSettings
from flowmap.attribute.special.addresses import SpecialEndpoints
from flowmap.attribute.special.own_connections import HOLD
from flowmap.flows.bursts import life_end
from flowmap.flows.columns import IGNORED, FlowColumns, Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.model.deployment import State

MAX_BACKOFF = 60.0
"""Longest pause in seconds after repeated failures."""
YOUNG = 2.0
"""While it may still get an owner, a flow without one is asked about again when it is 1 + this many times as old."""
LAST = 0.5
"""It is asked about once more so many seconds before it is too old to get one."""
FAIR = 4
"""If more endpoints are due than calls are available, one in this many is chosen by its waiting time."""
Times = npt.NDArray[np.float64]
_OPEN = np.uint32(Row.OPEN)
_UNKNOWN = CODE[State.UNKNOWN]


class AnswerChanges(NamedTuple):
    """When answers may have changed last and may change next, in monotonic seconds, where that is known.

    Between the two an endpoint is asked about again for flows that have begun, sent or ended since its last answer, and
    for no others.
    """

    last: float = math.inf
    next: float = math.inf


UNKNOWN_CHANGES = AnswerChanges()
"""Answers may change at any time."""


class Waiting(NamedTuple):
    """Flows that an answer could decide, and for each of them the endpoint that the answer would be about."""

    endpoints: Rows
    rows: Rows


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
        # When the last round without a failure was asked and ended; 0: never. Pages of zeros take no memory until they
        # are written.
        self._asked, self._answered = np.zeros(capacity, np.float64), np.zeros(capacity, np.float64)
        self._round_asked = np.zeros(capacity, np.float64)  # the earliest question of the round under way
        self._turn = 0
        self.waiting = 0
        """Endpoints that were due at the last :meth:`choose`."""
        self._left = np.zeros(0, np.int64)  # those of them that got no call
        self.next_due = -np.inf
        """No endpoint is due before this instant, unless a flow begins."""
        self.services_of_unowned = False
        """Whether service endpoints of unowned clients are asked about like others."""

    def choose(
        self,
        table: FlowTable,
        *,
        now: float,
        limit: int,
        unowned: bool = False,
        changes: AnswerChanges = UNKNOWN_CHANGES,
    ) -> list[int]:
        """At most ``limit`` numbers of endpoints to ask about now, the most urgent first.

        ``unowned``: service endpoints only, and also those of unowned clients.
        """
        if not self._settings.charged_places:
            return []
        columns, rows = table.columns, table.live()
        pending = is_undecided(columns, rows)
        wanted = pending | ((columns.flags[rows] & _OPEN != 0) & (columns.series[rows] != IGNORED))
        wanted &= ~self._special.holds(rows)
        held = wanted & self._special.may_be_own(rows, now)
        known_at = float(columns.born_by[rows[held]].min(initial=np.inf)) + HOLD
        wanted &= ~held
        rows, pending = rows[wanted], pending[wanted]
        since = np.where(pending, columns.born_by[rows], np.inf)
        clients, services = columns.client[rows], columns.service[rows]
        oldest = np.full(table.endpoints.top, np.nan)
        promising = np.ones(len(rows), np.bool_)
        if self._by_client and not unowned:
            _lower(oldest, clients, since)
            promising = ~self._unowned[clients] | self.services_of_unowned
        _lower(oldest, services[promising], since[promising])
        numbers = np.flatnonzero(~np.isnan(oldest))
        numbers = numbers[self._outstanding[numbers] == 0]
        del clients, services, since  # with a million flows each is 4 or 8 MB
        waiting = self._waiting(columns, rows[pending], promising[pending])
        young = self._young(columns, rows[~pending], promising[~pending], now)
        due = self._due_with(columns, waiting, young, table.endpoints.top, changes)[numbers]
        if not unowned:
            self.next_due = min(known_at, float(due[due > now].min(initial=np.inf)))
        is_due = due <= now
        numbers, due = numbers[is_due], due[is_due]
        age = np.maximum(oldest[numbers], due)
        chosen: list[int] = numbers[first_few(limit, age, due)].tolist()
        if len(numbers) > limit > 0:
            traffic = self._traffic(columns, waiting, table.endpoints.top)
            by_traffic = numbers[first_few(limit, -traffic[numbers], age, due)].tolist()
            chosen = self._in_turn(by_traffic, chosen, limit)
        self.waiting = 0 if unowned else len(numbers)
        self._left = self._left if unowned else np.setdiff1d(numbers, chosen)
        return chosen

    def pending_traffic(self, table: FlowTable) -> Times:
        """Bytes of the undecided flows that an answer about each endpoint could decide, and 1 if any of its flows is
        undecided: what :meth:`choose` orders endpoints by."""
        columns, rows = table.columns, table.live()
        rows = rows[is_undecided(columns, rows)]
        rows = rows[~self._special.holds(rows)]
        clients, services = columns.client[rows], columns.service[rows]
        promising = self.are_promising(clients) if self._by_client else np.ones(len(rows), np.bool_)
        traffic = self._traffic(columns, self._waiting(columns, rows, promising), table.endpoints.top)
        traffic[np.concatenate((clients, services[promising]))] += 1.0  # once, however many flows there are
        return traffic

    def _waiting(self, columns: FlowColumns, rows: Rows, promising: Mask) -> list[Waiting]:
        """Which of the pending ``rows`` an answer could decide, for clients and for service endpoints."""
        clients, services, changed = columns.client[rows], columns.service[rows], wanted_after(columns, rows)
        of_client = (self._asked[clients] < changed) & self._by_client
        of_service = (self._asked[services] < changed) & promising
        of_service &= ~of_client | (self._asked[services] == 0)
        return [Waiting(numbers[some], rows[some]) for numbers, some in ((clients, of_client), (services, of_service))]

    def _young(self, columns: FlowColumns, rows: Rows, promising: Mask, now: float) -> list[Waiting]:
        """Which of the decided ``rows`` have no owner and may still get one, in the same form."""
        young = columns.state[rows] == _UNKNOWN
        young &= now - columns.born_by[rows] < self._settings.registration_lag
        services = rows[young & promising]
        return [
            Waiting(columns.client[rows[young]], rows[young]),
            Waiting(columns.service[services], services),
        ]

    def _due_with(
        self,
        columns: FlowColumns,
        waiting: Sequence[Waiting],
        young: Sequence[Waiting],
        endpoints: int,
        changes: AnswerChanges,
    ) -> Times:
        """When each endpoint is due, with regard to the flows that an answer could decide."""
        due, recheck = self._due[:endpoints].copy(), self._settings.recheck
        soon = np.full(endpoints, np.inf)
        for part in waiting:
            soon[part.endpoints] = self._answered[part.endpoints] + recheck
        for numbers, rows in young:
            answered = self._answered[numbers]
            again = answered + np.maximum(recheck, YOUNG * (answered - columns.born_by[rows]))
            last = columns.born_by[rows] + self._settings.registration_lag - LAST
            again = np.where(answered < last - recheck, np.minimum(again, last), again)
            np.minimum.at(soon, numbers, np.where(answered == 0, np.inf, again))
        soon[self._failures[:endpoints] > 0] = np.inf  # the backoff counts
        np.minimum(due, soon, out=due)
        if changes.last < np.inf:
            same = self._knows_all(waiting, endpoints, changes.last)
            due[same] = np.maximum(due[same], changes.next)
        return due

    def _traffic(self, columns: FlowColumns, waiting: Sequence[Waiting], endpoints: int) -> Times:
        """Bytes of the flows of each endpoint that an answer could decide."""
        traffic = np.zeros(endpoints)
        for numbers, rows in waiting:
            for direction in (0, 1):  # one at a time: with a million flows every column is 8 MB
                amount = columns.last[rows, direction] - columns.base[rows, direction]
                traffic += np.bincount(numbers, weights=amount, minlength=endpoints)
        return traffic

    def _knows_all(self, waiting: Sequence[Waiting], endpoints: int, changed_at: float) -> Mask:
        """Endpoints about which another answer could tell nothing new, before answers change."""
        knows: Mask = self._asked[:endpoints] >= changed_at
        for part in waiting:
            knows[part.endpoints] = False
        return knows

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
        self._round_asked[number] = np.inf

    def finished(
        self, number: int, *, named: bool | None, now: float, asked: float = np.inf, retry_after: float | None = None
    ) -> None:
        """One question about the endpoint has its result; ``named``: whether it names a deployment, None if it failed.

        ``asked``: the instant from which on the answer counts. ``retry_after``: seconds after which to ask again; None:
        a backoff that grows with every failure.
        """
        if self._outstanding[number] == 0:
            return
        self._outstanding[number] -= 1
        if named is None:
            self._failed[number] = True
        else:
            self._named[number] |= named
            self._round_asked[number] = min(self._round_asked[number], asked)
        if self._outstanding[number] == 0:
            if not self._failed[number]:
                self._answered[number] = now
                if self._round_asked[number] < np.inf:
                    self._asked[number] = self._round_asked[number]
            self._failures[number] = min(int(self._failures[number]) + 1, 16) if self._failed[number] else 0
            if self._round_asked[number] < np.inf or self._failed[number]:  # else only the host was asked about
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

    def is_asking(self, number: int) -> bool:
        """Whether questions about the endpoint are under way."""
        return bool(self._outstanding[number])

    def has_inside_answer(self, numbers: Rows, since: Times) -> Mask:
        """Whether the last answers about each endpoint were asked for after the instant ``since``."""
        inside: Mask = self._asked[numbers] >= since
        return inside

    def answered_at(self, numbers: Rows) -> Times:
        """When the last answers about each endpoint arrived; 0 if there are none."""
        return self._answered[numbers]

    def is_unowned(self, numbers: Rows) -> Mask:
        """Whether each endpoint is a client for which the newest answers name no deployment."""
        return self._unowned[numbers]

    def are_asked_about(self, numbers: Rows) -> Mask:
        """Whether questions about each endpoint are under way."""
        return np.asarray(self._outstanding[numbers] > 0)

    def got_no_call(self, numbers: Rows) -> Mask:
        """Whether each endpoint was due at the last :meth:`choose` and got no call."""
        left = np.zeros(len(self._due), np.bool_)
        left[self._left] = True
        return np.asarray(left[numbers] & (self._outstanding[numbers] == 0))

    def are_promising(self, numbers: Rows) -> Mask:
        """Whether a service endpoint is asked about for the flows of each client."""
        return np.asarray(~self._unowned[numbers] | self.services_of_unowned)

    def mark_unowned(self, number: int, unowned: bool) -> None:
        """Note whether the newest answers name no deployment for the client."""
        self._unowned[number] = unowned

    def forget(self, numbers: npt.NDArray[np.int32]) -> None:
        """The numbers will stand for other endpoints."""
        for column in (self._due, self._asked, self._answered, self._outstanding, self._failures):
            column[numbers] = 0
        for flag in (self._failed, self._named, self._unowned):
            flag[numbers] = False
        self._left = np.setdiff1d(self._left, numbers)

    def _pause(self, number: int) -> float:
        if failures := int(self._failures[number]):
            return float(min(MAX_BACKOFF, 2.0 ** (failures - 1)))
        return self._settings.positive_ttl if self._named[number] else self._settings.negative_ttl


def wanted_after(columns: FlowColumns, rows: Rows) -> Times:
    """An answer that is asked for from this instant on may decide each undecided flow: its start, or its end."""
    ended_by = life_end(columns, rows)
    return np.where(np.isinf(ended_by), columns.born_by[rows], ended_by)


def _lower(oldest: npt.NDArray[np.float64], numbers: npt.NDArray[np.int32], since: npt.NDArray[np.float64]) -> None:
    """Lower ``oldest[n]`` to the least of ``since`` where ``numbers`` is ``n``; NaN is above everything."""
    np.fmin.at(oldest, numbers, since)
