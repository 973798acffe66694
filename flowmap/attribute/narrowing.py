"""Ties: flows for which the answers about their two ends leave several candidates.

Questions about both ends together may tell them apart: ``link`` for all connections of a client with a service end, and
where that leaves several, ``exact`` for one connection. They are asked only with calls that no first question wants,
see ``tie_questions``.

What they say only narrows. An answer that names none of the candidates of its place is no information, and so is one
that was not given within the flow's life: another candidate's connection may have come and gone between two answers.

A flow that is open when the tie is found stays pending until it is broken, or can't be any more: the flow is over,
everything was asked, or ``attribute.tie_wait`` has passed, be it for want of calls or of an API that answers. Then it
is credited to what is left of its candidates, and what is credited stays there. While it is open a later answer may
still narrow them; it goes on as the smaller set.
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
from flowmap.flows.columns import Mask
from flowmap.flows.hash_index import Rows
from flowmap.flows.table import NEVER, FlowTable
from flowmap.model.deployment import State

CHECK_EVERY = 1.0
"""Seconds between two looks for ties that cannot be broken any more."""


class _Part(NamedTuple):
    """Rows of one decision for which the answers leave the same candidates."""

    rows: Rows
    owners: Owners
    outcomes: Mapping[Question, Judgement]


class Narrowing:
    """What to ask to break ties, and which are broken. Ends go by their numbers."""

    def __init__(
        self,
        table: FlowTable,
        decisions: Mapping[int, Decision],
        settings: AttributionSettings,
        shape_stats: ShapeStats,
        cache: AnswerCache,
    ) -> None:
        """``decisions``: by the number in the ``verdict`` column."""
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
        """Pairs with tied flows that are asked about."""
        return len(self.questions.pairs)

    @property
    def waiting(self) -> int:
        """Questions that were due when last looked for, and found no call."""
        return self.questions.waiting

    @property
    def has_news(self) -> bool:
        """Whether answers came that flows were not judged by yet."""
        return bool(self._news)

    def worth_waiting(self, rows: Rows) -> Mask:
        """Whether each flow may wait for its tie to be broken: it is open, and there is something to ask."""
        return is_connected(self._table.columns, rows) & bool(self._shapes and self._settings.tie_wait > 0)

    def found(self) -> None:
        """Flows were decided that are tied."""
        self._any = bool(self._shapes)

    def look_again(self) -> None:
        """A full read may have shown that clients are there."""
        if self._any:
            self._news.append(NEVER)

    def forget(self, numbers: set[int]) -> None:
        """These ends are no more."""
        self.questions.forget(numbers)

    def rows(self) -> Rows:
        """Flows whose tie may still be broken: pending ones, and open ones that are credited to several."""
        columns, live = self._table.columns, self._table.live()
        tied = is_credited_to_several(columns, live) & is_connected(columns, live)
        tied |= is_tied(columns, live)
        found: Rows = live[tied]
        return found

    def ask(self, *, now: float, limit: int) -> list[Question]:
        """At most ``limit`` questions (though all places of one thing at once), the largest traffic first."""
        rows = self.rows() if self._any else np.zeros(0, np.int32)
        return self.questions.choose(rows[is_connected(self._table.columns, rows)], now=now, limit=limit)

    def about(self, row: int, decision: Decision) -> list[Question]:
        """The questions about both ends of one flow that may have been asked."""
        columns = self._table.columns
        ends, port = (int(columns.client[row]), int(columns.service[row])), int(columns.ports[row]) >> 48
        pair, places = self.questions.pairs.get(ends), by_place(decision)
        asked = pair is not None and port in pair.exact
        exact = self.questions.questions(places, ends, port) if asked else ()
        return [*self.questions.questions(places, ends), *exact] if self._shapes else []

    def receive(self, question: Question, asked: float | None, *, now: float, retry_after: float | None = None) -> None:
        """A question came back; ``asked``: when it was, None if there was no answer."""
        self.questions.receive(question, asked, now=now, retry_after=retry_after)
        if asked is not None and self._any:
            self._news.append(now)

    def resolve(self, lives: Callable[[Rows], Lifetimes], *, now: float) -> list[tuple[Decision, Rows]]:
        """Ties that are broken now, or cannot be any more."""
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
            for part in self._parts(decision, members, lives(members)):
                decided += self._settled(decision, part, now)
        return decided

    def _groups(self, rows: Rows) -> Iterator[tuple[int, Rows]]:
        """Rows of one pair and one decision."""
        columns = self._table.columns
        facts = np.stack((columns.client[rows], columns.service[rows], columns.verdict[rows]), axis=1)
        order = np.lexsort(facts.T)
        starts = np.flatnonzero((facts[order][1:] != facts[order][:-1]).any(axis=1)) + 1
        for members in np.split(rows[order], starts):
            if len(members):
                yield int(columns.verdict[members[0]]), members

    def _parts(self, decision: Decision, rows: Rows, lives: Lifetimes) -> Iterator[_Part]:
        ends = self._ends(rows)
        pair = self.questions.pairs.get(ends)
        if pair is None:
            yield _Part(rows, decision.owners, {})
            return
        places = by_place(decision)
        for linked in self._narrowed(
            _Part(rows, decision.owners, {}), self.questions.questions(places, ends), places, lives
        ):
            yield from self._exactly(linked, pair, places, ends, lives, rows)

    def _exactly(
        self,
        part: _Part,
        pair: Pair,
        places: Mapping[Place, Owners],
        ends: Ends,
        lives: Lifetimes,
        every: Rows,
    ) -> Iterator[_Part]:
        """Narrow by what is known of single connections."""
        rest = np.ones(len(part.rows), np.bool_)
        ports = self._table.columns.ports[part.rows] >> np.uint64(48)
        for port in pair.exact if len(part.owners) > 1 else ():
            own = ports == np.uint64(port)
            if own.any():
                rest &= ~own
                one = part._replace(rows=part.rows[own])
                life = lives.take(np.flatnonzero(np.isin(every, one.rows)))
                yield from self._narrowed(one, self.questions.questions(places, ends, port), places, life)
        if rest.any():
            yield part._replace(rows=part.rows[rest])

    def _narrowed(
        self, part: _Part, questions: Sequence[Question], places: Mapping[Place, Owners], lives: Lifetimes
    ) -> Iterator[_Part]:
        """``part``, split where answers leave different candidates. ``lives`` are those of its rows, in their order."""
        living = [places[question.place] & part.owners for question in questions]
        judged = [
            self._cache.tell_apart(question, lives, some) for question, some in zip(questions, living, strict=True)
        ]
        cases, case = distinct_rows([position for position, _ in judged])
        for number, positions in enumerate(cases):
            given = [outcomes[position] for position, (_, outcomes) in zip(positions, judged, strict=True)]
            told = {question: outcome for question, outcome in zip(questions, given, strict=True) if outcome}
            # Where an answer tells nothing, all candidates of its place remain.
            left = NO_OWNERS.union(
                *(some if one is None else one.owners for some, one in zip(living, given, strict=True))
            )
            yield _Part(part.rows[case == number], left, {**part.outcomes, **told})

    def _settled(self, decision: Decision, part: _Part, now: float) -> Iterator[tuple[Decision, Rows]]:
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
        for cause, some in self._hopeless(decision, rows, now):
            yield Decision(state_of(part.owners, limit), part.owners, outcomes, now, cause), some

    def _hopeless(self, decision: Decision, rows: Rows, now: float) -> Iterator[tuple[str, Rows]]:
        """Flows that wait no longer for their tie to be broken, and why."""
        many = f"{len(decision.owners)} deployments are possible, and "
        over = ~is_connected(self._table.columns, rows)
        if over.any():
            yield many + "the connection ended before an answer about both its ends told them apart", rows[over]
        rows = rows[~over]
        told = self._told_all(decision, rows, now) if len(rows) else over[:0]
        if told.any():
            yield many + "answers about both its ends together leave them", rows[told]
        rows = rows[~told]
        if len(rows) and now - decision.decided_at >= self._settings.tie_wait:
            yield many + "no answer about both its ends told them apart within attribute.tie_wait", rows

    def _told_all(self, decision: Decision, rows: Rows, now: float) -> Mask:
        """Whether everything was asked about each flow within its life, and came back."""
        columns, ends = self._table.columns, self._ends(rows)
        silent = {shape: self._shape_stats.never_names(shape, now=now) for shape in self._shapes}
        pair = self.questions.pairs.get(ends)
        if pair is None or self.questions.name_one(by_place(decision), ends):
            return np.full(len(rows), all(silent.values()) and pair is None)
        born, ports, alive_until = (
            columns.born_by[rows],
            columns.ports[rows] >> np.uint64(48),
            self._table.alive_until(rows),
        )

        def told_by(round_: Round) -> Mask:
            in_life: Mask = (born <= round_.asked) & (round_.arrived <= alive_until)
            return in_life

        exactly = (ports == 0) | silent[Shape.EXACT]
        for port, round_ in pair.exact.items():
            if not self.questions.name_one(by_place(decision), ends, port):  # else only proof is missing
                exactly |= (ports == np.uint64(port)) & told_by(round_)
        linked: Mask = told_by(pair.link) | silent[Shape.LINK]
        told: Mask = linked & exactly
        return told

    def _ends(self, rows: Rows) -> Ends:
        columns = self._table.columns
        return int(columns.client[rows[0]]), int(columns.service[rows[0]])
