"""Which questions about both endpoints together to ask next, to narrow candidates.

A *pair* is a client endpoint and a service endpoint with tied flows between them.

    link     once in ``positive_ttl`` for a pair, while it has a tied flow that began after the last time
    exact    once for a connection that ``link`` left tied; at most :data:`EXACT_EACH` connections of a pair in
             ``positive_ttl``

The pair with the largest traffic comes first, and within it the connection with the largest traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flowmap.attribute.answers.shape_stats import ShapeStats
from flowmap.attribute.answers.timeline import NO_OWNERS
from flowmap.attribute.calls.schedule import MAX_BACKOFF
from flowmap.attribute.decisions import Decision
from flowmap.attribute.questions import Owners, Place, Question, Shape, link_question
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import unpack
from flowmap.flows.table import NEVER, FlowTable

EXACT_EACH = 8
"""``exact`` questions about one pair in a ``positive_ttl``."""
EXACT_KEPT = 64
"""Connections of one pair whose ``exact`` rounds are kept."""
MAX_PAIRS = 4096
"""Pairs that are asked about; pairs with less traffic than these stay shared."""

Ends = tuple[int, int]
"""The numbers of a client endpoint and of a service endpoint."""


@dataclass(slots=True)
class Round:
    """One question in every place, from the first asking to the last result. Times are monotonic seconds."""

    port: int = 0
    """The client's port for ``exact``; 0 for ``link``."""
    questions: tuple[Question, ...] = ()
    asked: float = NEVER
    """Earliest asking of the last round in which every place answered."""
    arrived: float = NEVER
    """Latest arrival of that round."""
    due: float = NEVER
    outstanding: int = 0
    failures: int = 0
    _first_asked: float = np.inf
    _failed: bool = False

    def begin(self, questions: tuple[Question, ...]) -> None:
        self.questions, self.outstanding = questions, len(questions)
        self._first_asked, self._failed = np.inf, False

    def receive(self, asked: float | None, *, again_at: float, now: float, retry_after: float | None) -> None:
        """Take the result of one question; ``asked``: when it was asked, None if it failed."""
        self.outstanding -= 1
        if asked is None:
            self._failed = True
        else:
            self._first_asked = min(self._first_asked, asked)
        if self.outstanding:
            return
        if self._failed:
            self.failures = min(self.failures + 1, 16)
            self.due = now + (min(MAX_BACKOFF, 2.0 ** (self.failures - 1)) if retry_after is None else retry_after)
        else:
            self.failures, self.asked, self.arrived, self.due = 0, self._first_asked, now, again_at


@dataclass(slots=True)
class Pair:
    """A client endpoint and a service endpoint with tied flows."""

    link: Round = field(default_factory=Round)
    exact: dict[int, Round] = field(default_factory=dict)
    """By the client's port."""
    exact_left: int = EXACT_EACH
    exact_again_at: float = NEVER


class NarrowingQuestions:
    """Chooses the questions about pairs of endpoints. Times are monotonic seconds."""

    def __init__(
        self,
        table: FlowTable,
        decisions: Mapping[int, Decision],
        settings: AttributionSettings,
        shape_stats: ShapeStats,
        latest: Callable[[Question], Owners],
    ) -> None:
        """``latest``: the owners in the newest answer to a question."""
        self.waiting = 0
        """Questions that were due at the last :meth:`choose` and got no call."""
        self.pairs: dict[Ends, Pair] = {}
        self._table = table
        self._decisions = decisions
        self._settings = settings
        self._shape_stats = shape_stats
        self._latest = latest
        self._rounds: dict[Question, list[Round]] = {}
        self._probe_at: dict[Shape, float] = {}

    def choose(self, rows: Rows, *, now: float, limit: int) -> list[Question]:
        """At most ``limit`` questions about open tied flows, or a few more: all places of one stay together."""
        self.waiting = 0
        questions: list[Question] = []
        known, self.pairs = self.pairs, {}
        for ends, members in self._by_traffic(rows):
            pair = self.pairs[ends] = known.get(ends) or Pair()
            for round_, about in self._wanted(ends, pair, members, now):
                if len(questions) >= limit:
                    self.waiting += len(about)
                    break
                questions += self._begin(round_, about, pair, now)
        return questions

    def receive(self, question: Question, asked: float | None, *, now: float, retry_after: float | None = None) -> None:
        """Take the result of a question; ``asked``: when it was asked, None if it failed."""
        for round_ in self._rounds.pop(question, ()):
            round_.receive(asked, again_at=now + self._settings.positive_ttl, now=now, retry_after=retry_after)

    def questions(self, places: Mapping[Place, Owners], ends: Ends, port: int = 0) -> tuple[Question, ...]:
        """The ``link`` question of a pair for each place; with the client's port the ``exact`` one."""
        client, service = (self._table.endpoints.key(number) for number in ends)
        return tuple(link_question(place, client, service, port) for place in places)

    def leave_one(self, places: Mapping[Place, Owners], ends: Ends, port: int = 0) -> bool:
        """Whether the newest answers leave one candidate, whether or not they count by the rules of time."""
        left = NO_OWNERS
        for question, owners in zip(self.questions(places, ends, port), places.values(), strict=True):
            left |= (owners & self._latest(question)) or owners
        return len(left) == 1

    def forget(self, numbers: set[int]) -> None:
        """The numbers of these endpoints will stand for others."""
        self.pairs = {ends: pair for ends, pair in self.pairs.items() if numbers.isdisjoint(ends)}

    def _by_traffic(self, rows: Rows) -> Iterator[tuple[Ends, Rows]]:
        columns = self._table.columns
        pairs = columns.client[rows].astype(np.int64) << 32 | columns.service[rows]
        keys, position = np.unique(pairs, return_inverse=True)
        position = position.reshape(-1)
        sums = np.bincount(position, weights=_amount(columns.total(rows)))
        members = np.split(rows[np.argsort(position, kind="stable")], np.cumsum(np.bincount(position))[:-1])
        for place in np.argsort(-sums, kind="stable")[:MAX_PAIRS].tolist():
            yield divmod(int(keys[place]), 1 << 32), members[place]

    def _wanted(self, ends: Ends, pair: Pair, rows: Rows, now: float) -> Iterator[tuple[Round, tuple[Question, ...]]]:
        """Rounds to start for a pair with the questions of each, the most useful first."""
        born, link, places = self._table.columns.born_by[rows], pair.link, self._places(rows)
        if link.outstanding:
            return
        if born.max() > link.asked and link.due <= now and not self._rests(Shape.LINK, now):
            yield link, self.questions(places, ends)
        if not self.leave_one(places, ends):
            yield from self._exact(ends, pair, rows, places, now)

    def _exact(
        self, ends: Ends, pair: Pair, rows: Rows, places: Mapping[Place, Owners], now: float
    ) -> Iterator[tuple[Round, tuple[Question, ...]]]:
        columns = self._table.columns
        if now >= pair.exact_again_at:
            pair.exact_left, pair.exact_again_at = EXACT_EACH, now + self._settings.positive_ttl
        ports = columns.client_port(rows)
        wanted = (ports != 0) & ((columns.born_by[rows] <= pair.link.asked) | self._rests(Shape.LINK, now))
        for port, round_ in pair.exact.items():
            began_after = columns.born_by[rows] > round_.asked
            wanted &= (ports != np.uint64(port)) | (began_after & (round_.due <= now) & (not round_.outstanding))
        rows = rows[wanted & (not self._rests(Shape.EXACT, now))]
        for row in rows[np.argsort(-_amount(columns.total(rows)), kind="stable")].tolist():
            if pair.exact_left <= 0 or self._rests(Shape.EXACT, now):
                return
            port = unpack(int(columns.ports[row])).client
            round_ = pair.exact.get(port) or Round(port=port)
            yield round_, self.questions(places, ends, port)

    def _rests(self, shape: Shape, now: float) -> bool:
        """Whether the shape rests, and was tried again within its pause."""
        return self._shape_stats.never_names(shape, now=now) and now < self._probe_at.get(shape, NEVER)

    def _begin(self, round_: Round, about: tuple[Question, ...], pair: Pair, now: float) -> list[Question]:
        self._probe_at[about[0].shape] = now + self._shape_stats.pause
        if round_.port:
            pair.exact_left -= 1
            pair.exact[round_.port] = round_
            while len(pair.exact) > EXACT_KEPT:
                del pair.exact[next(iter(pair.exact))]
        round_.begin(about)
        new = [question for question in about if question not in self._rounds]
        for question in about:
            self._rounds.setdefault(question, []).append(round_)
        return new

    def _places(self, rows: Rows) -> dict[Place, Owners]:
        """The candidates of these flows by place."""
        places: dict[Place, Owners] = {}
        for verdict in np.unique(self._table.columns.verdict[rows]).tolist():
            for place, owners in by_place(self._decisions[verdict]).items():
                places[place] = places.get(place, NO_OWNERS) | owners
        return dict(sorted(places.items()))


def _amount(totals: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Bytes in both directions, exact enough to sort by."""
    return totals[:, 0].astype(np.float64) + totals[:, 1]


def by_place(decision: Decision) -> dict[Place, Owners]:
    """The candidates of a decision by the place that was asked about them, where more can be asked."""
    places: dict[Place, Owners] = {}
    for question, outcome in decision.outcomes.items():
        if (owners := outcome.owners & decision.owners) and not question.place.is_flink:
            places[question.place] = places.get(question.place, NO_OWNERS) | owners
    return dict(sorted(places.items()))
