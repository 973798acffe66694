"""Narrowing: reduces the candidates of flows for which the answers about both endpoints leave several (a *tie*).

Two shapes ask about both endpoints together: ``link`` about all connections of a client with a service endpoint, and if
that leaves several candidates, ``exact`` about one connection. They use only calls that no first question needs; see
``calls/narrowing_questions``. Their answers remove candidates and never add one; see ``Timeline.tell_apart``.

An open flow stays pending until one of these holds, and is then credited to the candidates that are left:

    - one candidate is left
    - the connection has ended
    - every question was asked and answered within the flow's life
    - ``attribute.tie_wait`` has passed

While the flow is open, a later answer may still remove candidates. The flow then continues in the series of the smaller
set; bytes that were credited stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flowmap.attribute.answers.cache import AnswerCache
from flowmap.attribute.answers.shape_stats import ShapeStats
from flowmap.attribute.answers.timeline import NO_OWNERS, Judgement, Lifetimes
from flowmap.attribute.calls.narrowing_questions import Ends, NarrowingQuestions, Pair, Round, by_place
from flowmap.attribute.decisions import Decision
from flowmap.attribute.distinct import distinct_rows
from flowmap.attribute.owner_state import is_connected, is_credited_to_several, is_tied
from flowmap.attribute.questions import READINGS, Owners, Place, Question, Shape, state_of
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.bursts import is_connectionless
from flowmap.flows.columns import Mask
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import unpack
from flowmap.flows.table import NEVER, FlowTable
from flowmap.model.deployment import State

CHECK_EVERY = 1.0
"""Seconds between two checks for flows that need not wait any longer."""


class _Part(NamedTuple):
    """Rows of one decision with the same candidates left."""

    rows: Rows
    owners: Owners
    outcomes: Mapping[Question, Judgement]


class Narrowing:
    """Asks about both endpoints of flows with several candidates, and decides which candidates are left."""

    def __init__(
        self,
        table: FlowTable,
        decisions: Mapping[int, Decision],
        settings: AttributionSettings,
        shape_stats: ShapeStats,
        cache: AnswerCache,
    ) -> None:
        """``decisions``: by their number in the ``verdict`` column."""
        self._table = table
        self._decisions = decisions
        self._settings = settings
        self._shapes = READINGS[settings.semantics].narrowing
        self._shape_stats = shape_stats
        self._cache = cache
        self.questions = NarrowingQuestions(table, decisions, settings, shape_stats, cache.latest)
        self._any = False
        self._news: list[float] = []
        self._checked = NEVER

    def __len__(self) -> int:
        """Pairs of endpoints that are asked about."""
        return len(self.questions.pairs)

    @property
    def unsettled(self) -> bool:
        """Whether there may be flows whose tie is not broken."""
        return self._any

    @property
    def waiting(self) -> int:
        """Questions that were due at the last :meth:`ask` and got no call."""
        return self.questions.waiting

    @property
    def has_news(self) -> bool:
        """Whether there are answers that no flow was judged by yet."""
        return bool(self._news)

    def hold(self, decision: Decision, rows: Rows) -> Mask:
        """Take flows with several candidates. Whether each should stay pending: its connection exists, and there are
        questions that may narrow it.

        Not a connectionless one: the answers are about the packets so far, and more may come meanwhile.
        """
        some = bool(self._shapes and by_place(decision))
        self._any |= some
        waits = self._is_open(rows) & ~is_connectionless(self._table.columns, rows)
        return waits & (some and self._settings.tie_wait > 0)

    def judge_again(self) -> None:
        """Judge every tied flow at the next :meth:`resolve`: a full read may have shown that clients sent."""
        if self._any:
            self._news.append(NEVER)

    def forget(self, numbers: set[int]) -> None:
        """The numbers of these endpoints will stand for others."""
        self.questions.forget(numbers)

    def rows(self) -> Rows:
        """Flows whose candidates may still be narrowed: tied ones, and open ones that are credited to several."""
        columns, live = self._table.columns, self._table.live()
        tied = is_credited_to_several(columns, live) & self._is_open(live)
        tied |= is_tied(columns, live)
        found: Rows = live[tied]
        return found

    def ask(self, *, now: float, limit: int) -> list[Question]:
        """At most ``limit`` questions, or a few more: all places of one question stay together."""
        rows = self.rows() if self._any else np.zeros(0, np.int32)
        return self.questions.choose(rows[self._is_open(rows)], now=now, limit=limit)

    def about(self, row: int, decision: Decision) -> list[Question]:
        """The questions about both endpoints of one flow that may have been asked."""
        columns = self._table.columns
        ends, port = (int(columns.client[row]), int(columns.service[row])), unpack(int(columns.ports[row])).client
        pair, places = self.questions.pairs.get(ends), by_place(decision)
        asked = pair is not None and port in pair.exact
        exact = self.questions.questions(places, ends, port) if asked else ()
        return [*self.questions.questions(places, ends), *exact] if self._shapes else []

    def receive(self, question: Question, asked: float | None, *, now: float, retry_after: float | None = None) -> None:
        """Take the result of a question; ``asked``: when it was asked, None if it failed."""
        self.questions.receive(question, asked, now=now, retry_after=retry_after)
        if asked is not None and self._any:
            self._news.append(now)

    def resolve(self, lifetimes: Callable[[Rows], Lifetimes], *, now: float) -> list[tuple[Decision, Rows]]:
        """Decisions about flows whose candidates are narrowed now, or that need not wait any longer."""
        if not self._any:
            self._news.clear()
        ready = [arrived for arrived in self._news if arrived <= self._table.alive_at]
        if not self._any or not (ready or now - self._checked >= CHECK_EVERY):
            return []
        self._checked = now
        self._news = [arrived for arrived in self._news if arrived > self._table.alive_at]
        rows = self.rows()
        self._any = bool(len(rows))
        if not ready:
            rows = rows[is_tied(self._table.columns, rows)]
        decided: list[tuple[Decision, Rows]] = []
        for verdict, members in self._groups(rows):
            decision = self._decisions[verdict]
            for part in self._parts(decision, members, lifetimes(members)):
                decided += self._decide_part(decision, part, now)
        return decided

    def _groups(self, rows: Rows) -> Iterator[tuple[int, Rows]]:
        """Groups of rows with the same pair of endpoints and the same decision, with the decision's number."""
        columns = self._table.columns
        facts = np.stack((columns.client[rows], columns.service[rows], columns.verdict[rows]), axis=1)
        order = np.lexsort(facts.T)
        starts = np.flatnonzero((facts[order][1:] != facts[order][:-1]).any(axis=1)) + 1
        for members in np.split(rows[order], starts):
            if len(members):
                yield int(columns.verdict[members[0]]), members

    def _parts(self, decision: Decision, rows: Rows, lifetimes: Lifetimes) -> Iterator[_Part]:
        ends = self._pair_of(rows)
        pair = self.questions.pairs.get(ends)
        if pair is None:
            yield _Part(rows, decision.owners, {})
            return
        places = by_place(decision)
        for linked in self._narrowed(
            _Part(rows, decision.owners, {}), self.questions.questions(places, ends), places, lifetimes
        ):
            yield from self._exactly(linked, pair, places, ends, lifetimes, rows)

    def _exactly(
        self,
        part: _Part,
        pair: Pair,
        places: Mapping[Place, Owners],
        ends: Ends,
        lifetimes: Lifetimes,
        every: Rows,
    ) -> Iterator[_Part]:
        """Narrow further by the answers about single connections."""
        rest = np.ones(len(part.rows), np.bool_)
        ports = self._table.columns.client_port(part.rows)
        for port in pair.exact if len(part.owners) > 1 else ():
            own = ports == np.uint64(port)
            if own.any():
                rest &= ~own
                one = part._replace(rows=part.rows[own])
                life = lifetimes.take(np.flatnonzero(np.isin(every, one.rows)))
                yield from self._narrowed(one, self.questions.questions(places, ends, port), places, life)
        if rest.any():
            yield part._replace(rows=part.rows[rest])

    def _narrowed(
        self, part: _Part, questions: Sequence[Question], places: Mapping[Place, Owners], lifetimes: Lifetimes
    ) -> Iterator[_Part]:
        """``part``, split where answers leave different candidates. ``lifetimes``: of its rows, in their order."""
        by_question = [places[question.place] & part.owners for question in questions]
        judged = [
            self._cache.tell_apart(question, lifetimes, some)
            for question, some in zip(questions, by_question, strict=True)
        ]
        cases, case = distinct_rows([position for position, _ in judged])
        for number, positions in enumerate(cases):
            given = [outcomes[position] for position, (_, outcomes) in zip(positions, judged, strict=True)]
            narrowed = {question: outcome for question, outcome in zip(questions, given, strict=True) if outcome}
            # An answer that removes no candidate leaves all those of its place.
            left = NO_OWNERS.union(
                *(some if one is None else one.owners for some, one in zip(by_question, given, strict=True))
            )
            yield _Part(part.rows[case == number], left, {**part.outcomes, **narrowed})

    def _decide_part(self, decision: Decision, part: _Part, now: float) -> Iterator[tuple[Decision, Rows]]:
        rows, limit = part.rows, self._settings.owners_limit
        outcomes = {**decision.outcomes, **part.outcomes}
        narrowed = part.owners < decision.owners
        if decision.state is not State.PENDING:
            if narrowed:
                yield Decision(state_of(part.owners, limit), part.owners, outcomes, now), rows
            return
        if len(part.owners) == 1:
            yield Decision(State.ATTRIBUTED, part.owners, outcomes, now), rows
            return
        for cause, some in self._done_waiting(decision, rows, now):
            yield Decision(state_of(part.owners, limit), part.owners, outcomes, now, cause), some

    def _done_waiting(self, decision: Decision, rows: Rows, now: float) -> Iterator[tuple[str, Rows]]:
        """Flows that need not wait any longer, by the reason."""
        many = f"{len(decision.owners)} deployments are possible, and "
        ended = ~self._is_open(rows)
        if ended.any():
            yield many + "the connection ended before an answer about both endpoints left one", rows[ended]
        rows = rows[~ended]
        answered = self._all_answered(decision, rows, now) if len(rows) else ended[:0]
        if answered.any():
            yield many + "the answers about both endpoints together leave them", rows[answered]
        rows = rows[~answered]
        if len(rows) and now - decision.decided_at >= self._settings.tie_wait:
            yield many + "no answer about both endpoints left one within attribute.tie_wait", rows

    def _all_answered(self, decision: Decision, rows: Rows, now: float) -> Mask:
        """Whether every question about each flow was asked and answered within its life."""
        columns, ends = self._table.columns, self._pair_of(rows)
        resting = {shape: self._shape_stats.never_names(shape, now=now) for shape in self._shapes}
        pair = self.questions.pairs.get(ends)
        if pair is None or self.questions.leave_one(by_place(decision), ends):
            return np.full(len(rows), all(resting.values()) and pair is None)
        born, ports, alive_until = (
            columns.born_by[rows],
            columns.client_port(rows),
            self._table.alive_until(rows),
        )

        def answered_by(round_: Round) -> Mask:
            in_life: Mask = (born <= round_.asked) & (round_.arrived <= alive_until)
            return in_life | (self._settings.timeless and round_.arrived > NEVER)

        exact = (ports == 0) | resting[Shape.EXACT]
        for port, round_ in pair.exact.items():
            if not self.questions.leave_one(by_place(decision), ends, port):  # else only the rules of time withhold it
                exact |= (ports == np.uint64(port)) & answered_by(round_)
        link: Mask = answered_by(pair.link) | resting[Shape.LINK]
        answered: Mask = link & exact
        return answered

    def _is_open(self, rows: Rows) -> Mask:
        """Whether a later answer can still count for each flow: it is open, or no rule of time applies."""
        return is_connected(self._table.columns, rows) | self._settings.timeless

    def _pair_of(self, rows: Rows) -> Ends:
        columns = self._table.columns
        return int(columns.client[rows[0]]), int(columns.service[rows[0]])
