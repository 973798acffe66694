"""From answers to decisions: the owner of every flow, when the rules of time allow to say it.

Nothing here reads a clock, asks a question or touches a metric. The engine hands in answers and asks for decisions;
what it gets back is a list of (decision, rows).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from cachetools import Cache, LRUCache

from flowmap.attribute.answers import NO_OWNERS, Answer, Lives, Outcome, Timeline
from flowmap.attribute.plan import Plan
from flowmap.attribute.questions import (
    SHAPES,
    UNREADABLE,
    Owners,
    Question,
    Semantics,
    Shape,
    candidates,
    question_for,
    state_of,
)
from flowmap.attribute.ranges import Change, Range
from flowmap.attribute.view import State
from flowmap.flows.columns import IGNORED, PENDING, Row
from flowmap.flows.index import Rows
from flowmap.flows.table import NEVER, FlowTable

STATES: tuple[State, ...] = (
    State.PENDING,
    State.ATTRIBUTED,
    State.SHARED,
    State.UNKNOWN,
    State.AMBIGUOUS,
    State.FAILED,
)
"""``state`` column of the flow table: the position in this tuple."""
CODE = {state: code for code, state in enumerate(STATES)}

_OPEN = np.uint16(Row.OPEN)


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a group of flows has its owners."""

    state: State
    owners: Owners
    outcomes: Mapping[Question, Outcome]
    decided_at: float
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The part of the configuration that attribution needs; times in seconds."""

    namespaces: tuple[str, ...]
    semantics: Semantics = "both"
    confirm: Literal["strict", "fast"] = "strict"
    grace: float = 2.0
    owners_limit: int = 4
    cache_size: int = 100_000
    positive_ttl: float = 60.0
    negative_ttl: float = 30.0


class Attribution:
    """Answers, when to ask for more, and what they mean for the flows of one table. One thread uses it."""

    def __init__(self, settings: Settings, table: FlowTable) -> None:
        self.settings = settings
        self.contradictions = 0
        """Open flows whose owner a later answer no longer named."""
        self.lookups: Counter[tuple[str, str]] = Counter()
        """Look-ups of answers by shape and outcome: ``hit``, ``miss``, ``negative``, ``stale``."""
        self.plan = Plan(
            table.ends.capacity,
            semantics=settings.semantics,
            positive_ttl=settings.positive_ttl,
            negative_ttl=settings.negative_ttl,
        )
        self.decisions: dict[int, Decision] = {}
        """Decisions by the number in the ``verdict`` column."""
        self._next_decision = 0
        self._table = table
        self._timelines: LRUCache[Question, Timeline] = LRUCache(settings.cache_size)
        self._asked_about: dict[Question, list[int]] = {}  # numbers of the ends that wait for each answer
        self._news: dict[int, float] = {}  # end number: arrival of its newest answer
        self._answered: set[int] = set()  # of those, the ones whose newest answer was not looked at yet
        self._heard_of = np.zeros(table.ends.capacity, np.bool_)  # ends with an answer

    def tune(self, settings: Settings) -> None:
        """Other settings for what is decided from now on; semantics, namespaces and cache_size have to be the same."""
        self.settings = settings
        self.plan.set_pauses(positive_ttl=settings.positive_ttl, negative_ttl=settings.negative_ttl)

    def __len__(self) -> int:
        """Questions with answers in the cache."""
        return len(self._timelines)

    @property
    def has_news(self) -> bool:
        """Whether answers came that flows were not judged by yet."""
        return bool(self._news)

    def ask(self, *, now: float, limit: int) -> list[Question]:
        """Questions to ask now: as many as ``limit`` allows, though never a part of those about one end."""
        questions: list[Question] = []
        for number in self.plan.choose(self._table, now=now, limit=limit):
            about = self.questions_about(number)
            if (due := self._due_since_restart(about)) > now:
                self.plan.postpone(number, due)
                continue
            self.plan.started(number, len(about))
            for question in about:
                # Two ends can share a question (a port of TCP and of UDP): one call, and its answer is for both.
                if question not in self._asked_about:
                    questions.append(question)
                self._asked_about.setdefault(question, []).append(number)
        return questions

    def _due_since_restart(self, questions: Sequence[Question]) -> float:
        """When an end that was asked about before a restart, and not since, is due; in the past for any other."""
        timelines = [self._timelines.get(question) for question in questions]
        due = NEVER
        for timeline in timelines:
            if timeline is None or not timeline.restored:
                return NEVER
            newest = timeline.answers[-1]
            ttl = self.settings.positive_ttl if newest.owners else self.settings.negative_ttl
            due = newest.arrived + ttl if due == NEVER else min(due, newest.arrived + ttl)
        return due

    def questions_about(self, number: int) -> list[Question]:
        """Everything the settings want to know of one end."""
        end = self._table.ends.end(number)
        return [
            question_for(namespace, shape, end)
            for shape in SHAPES[self.settings.semantics]
            if (shape is Shape.CLIENT) != end.service
            for namespace in self.settings.namespaces
        ]

    def answered(self, question: Question, answer: Answer) -> Change:
        """Keep an answer; it counts once the table has caught up with its arrival. Returns what it did to the
        question's ranges."""
        change = self._known(question).add(answer)
        for number in self._asked_about.pop(question, ()):
            self._news[number] = answer.arrived
            self._answered.add(number)
            self._heard_of[number] = True
            self.plan.finished(number, named=bool(answer.owners), now=answer.arrived)
            if question.shape is Shape.CLIENT:
                self.plan.mark_barren(number, not any(self._latest(other) for other in self.questions_about(number)))
        return change

    def restore(self, question: Question, known: Range, *, now: float) -> None:
        """Begin with a range from before a restart; ignored where newer is known, and if it is of the future.

        It names nobody by itself: flows wait for an answer that confirms it. It is the witness such an answer needs,
        and its end is not asked about until a confirmation is due.
        """
        if question not in self._timelines and known.last_arrived <= now:
            self._known(question).restore(known)

    def ranges(self) -> Iterator[tuple[Question, Range]]:
        """The last range of every question that is kept."""
        for question in list(self._timelines):
            timeline = Cache.__getitem__(self._timelines, question)
            if timeline.range is not None:
                yield question, timeline.range

    def failed(self, question: Question, cause: str, *, now: float, retry_after: float | None = None) -> None:
        """A question got no answer; it is asked again after a pause (``retry_after`` seconds where that is known)."""
        self._known(question).failure = cause
        for number in self._asked_about.pop(question, ()):
            self.plan.finished(number, named=None, now=now, retry_after=retry_after)

    def take_lookups(self) -> Counter[tuple[str, str]]:
        """The counts of look-ups since this was last called."""
        taken, self.lookups = self.lookups, Counter()
        return taken

    def timeline(self, question: Question) -> Timeline | None:
        """What is known of a question. Looking is no use of it: what a user asks must not change what is forgotten."""
        return Cache.__getitem__(self._timelines, question) if question in self._timelines else None

    def opened(self, rows: Rows) -> None:
        """New flows; with ``confirm: fast`` what is known already may decide them."""
        if self.settings.confirm == "fast":
            ends = np.unique(np.concatenate((self._table.columns.client[rows], self._table.columns.service[rows])))
            self._news.update(dict.fromkeys(ends.tolist(), NEVER))

    def look_again(self) -> None:
        """Consider every undecided flow: a full read may have shown that a client is there."""
        columns, rows = self._table.columns, self._undecided()
        for numbers in (columns.client[rows], columns.service[rows]):
            self._news.update(dict.fromkeys(np.unique(numbers).tolist(), NEVER))

    def forget(self, numbers: Rows) -> None:
        """The numbers of these ends were freed and will stand for others."""
        self.plan.forget(numbers)
        freed = set(numbers.tolist())
        self._news = {number: at for number, at in self._news.items() if number not in freed}
        self._answered -= freed
        self._heard_of[numbers] = False
        kept = {question: [n for n in ends if n not in freed] for question, ends in self._asked_about.items()}
        self._asked_about = {question: ends for question, ends in kept.items() if ends}

    def decide(self, *, now: float) -> list[tuple[Decision, Rows]]:
        """Decisions that the answers allow now, and the rows each is for."""
        ready = [number for number, arrived in self._news.items() if arrived <= self._table.alive_at]
        if not ready:
            return []
        for number in ready:
            del self._news[number]
        marked = np.zeros(self._table.ends.top, np.bool_)
        marked[ready] = True
        self._count_contradictions(self._answered.intersection(ready))
        rows = self._undecided()
        columns = self._table.columns
        rows = rows[marked[columns.client[rows]] | marked[columns.service[rows]]]
        if self.settings.confirm == "strict":  # nothing can be said of flows about whose end nothing was heard
            decisive = columns.service if self.settings.semantics == "dataflow" else columns.client
            rows = rows[self._heard_of[decisive[rows]]]
        return self._decide_rows(rows, now) if len(rows) else []

    def give_up(self, *, older_than: float, now: float) -> list[tuple[Decision, Rows]]:
        """Closed flows that have waited since before ``older_than`` without an answer: failed."""
        columns, rows = self._table.columns, self._table.live()
        waiting = (columns.series[rows] == PENDING) & (columns.ended_by[rows] < older_than)
        rows = rows[waiting & (columns.flags[rows] & _OPEN == 0)]
        if not len(rows):
            return []
        return [self._record(Decision(State.FAILED, NO_OWNERS, {}, now, "no answer in time"), rows)]

    def forget_answers(self, before: float) -> None:
        """Drop answers that no flow can need: ``before`` is the earliest start of any flow that may still come."""
        columns, rows = self._table.columns, self._undecided()
        instant = min(before, float(columns.born_after[rows].min(initial=np.inf)))
        for question in list(self._timelines) if instant > NEVER else ():
            # Not through the cache's own look-up, which would count as use of every question.
            Cache.__getitem__(self._timelines, question).forget_before(instant)

    def forget_decisions(self) -> None:
        """Drop decisions that no flow rests on any more."""
        in_use = set(np.unique(self._table.columns.verdict[self._table.live()]).tolist())
        self.decisions = {number: decision for number, decision in self.decisions.items() if number in in_use}

    def _record(self, decision: Decision, rows: Rows) -> tuple[Decision, Rows]:
        columns = self._table.columns
        columns.state[rows] = CODE[decision.state]
        columns.verdict[rows] = self._next_decision
        self.decisions[self._next_decision] = decision
        self._next_decision = (self._next_decision + 1) % (1 << 31)
        return decision, rows

    def _undecided(self) -> Rows:
        """Flows without a decision, and open ones that nobody was known to own."""
        columns, rows = self._table.columns, self._table.live()
        series = columns.series[rows]
        unknown = (columns.state[rows] == CODE[State.UNKNOWN]) & (columns.flags[rows] & _OPEN != 0)
        undecided: Rows = rows[(series == PENDING) | (unknown & (series != IGNORED))]
        return undecided

    def _known(self, question: Question) -> Timeline:
        timeline = self._timelines.get(question)
        if timeline is None:
            timeline = self._timelines[question] = Timeline()
        return timeline

    def _latest(self, question: Question) -> Owners:
        timeline = self._timelines.get(question)
        answer = timeline.latest() if timeline else None
        return answer.owners if answer else NO_OWNERS

    def _decide_rows(self, rows: Rows, now: float) -> list[tuple[Decision, Rows]]:
        lives = self._lives(rows)
        columns = self._table.columns
        known: list[Mapping[Question, Outcome | None]] = [{}]
        of_client = self._judge_ends(columns.client[rows], lives, known, now)
        of_service = self._judge_ends(columns.service[rows], lives, known, now)
        order = np.lexsort((of_service, of_client))
        pairs = np.stack((of_client, of_service), axis=1)[order]
        starts = np.flatnonzero((pairs[1:] != pairs[:-1]).any(axis=1)) + 1
        decided = []
        for group in np.split(order, starts):
            client, service = of_client[group[0]], of_service[group[0]]
            decision = self._decision({**known[client], **known[service]}, now)
            members = rows[group]
            if decision is not None and decision.state is State.UNKNOWN:
                members = members[columns.series[members] == PENDING]
            if decision is not None and len(members):
                decided.append(self._record(decision, members))
        return decided

    def _judge_ends(
        self, numbers: Rows, lives: Lives, known: list[Mapping[Question, Outcome | None]], now: float
    ) -> npt.NDArray[np.intp]:
        """For each flow a position in ``known``: what the answers about its end say. Appends to ``known``."""
        result = np.zeros(len(numbers), np.intp)
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        for members in np.split(order, starts[1:]):
            questions = self.questions_about(int(numbers[members[0]]))
            if not self._heard_of_any(questions):
                result[members] = len(known)
                known.append(dict.fromkeys(questions))
                continue
            judged = [self._judge(question, lives.take(members), now) for question in questions]
            cases, case = np.unique(np.stack([one for one, _ in judged], axis=1), axis=0, return_inverse=True)
            result[members] = case.reshape(-1) + len(known)
            for positions in cases.tolist():
                outcomes = [outcomes[position] for position, (_, outcomes) in zip(positions, judged, strict=True)]
                known.append(dict(zip(questions, outcomes, strict=True)))
        return result

    def _heard_of_any(self, questions: Sequence[Question]) -> bool:
        timelines = [self._timelines.get(question) for question in questions]
        if any(timeline and timeline.answers for timeline in timelines):
            return True
        self.lookups.update((question.shape, "miss") for question in questions)
        return False

    def _judge(
        self, question: Question, lives: Lives, now: float
    ) -> tuple[npt.NDArray[np.intp], Sequence[Outcome | None]]:
        timeline = self._timelines.get(question)
        if timeline is None or not timeline.answers:
            self.lookups[question.shape, "miss"] += 1
            return np.zeros(len(lives.born_by), np.intp), [None]
        newest = timeline.answers[-1]
        usable = not timeline.restored and now - newest.arrived < self.settings.positive_ttl
        if self.settings.confirm == "fast" and usable:
            self.lookups[question.shape, "hit" if newest.owners else "negative"] += 1
            return np.zeros(len(lives.born_by), np.intp), [Outcome(newest.owners, "fast", newest)]
        position, outcomes = timeline.judge(lives, grace=self.settings.grace)
        for outcome in outcomes:
            kind = "stale" if outcome is None else "hit" if outcome.owners else "negative"
            self.lookups[question.shape, kind] += 1
        return position, outcomes

    def _decision(self, known: Mapping[Question, Outcome | None], now: float) -> Decision | None:
        by_shape: dict[Shape, Owners | None] = {}
        for question, outcome in known.items():
            seen = by_shape.get(question.shape, NO_OWNERS)
            by_shape[question.shape] = None if outcome is None or seen is None else seen | outcome.owners
        owners = candidates(self.settings.semantics, by_shape)
        if owners is None:
            return None
        outcomes = {question: outcome for question, outcome in known.items() if outcome is not None}
        if owners and all(owner.deployment_id == UNREADABLE for owner in owners):
            return Decision(State.UNKNOWN, NO_OWNERS, outcomes, now, "the answers could not be read in full")
        return Decision(state_of(owners, self.settings.owners_limit), owners, outcomes, now)

    def _lives(self, rows: Rows) -> Lives:
        columns, table = self._table.columns, self._table
        alive_until = table.alive_until(rows)
        present = columns.flags[rows] & np.uint16(Row.PRESENT) != 0
        proven_until = np.where(present, alive_until, columns.active[rows])
        return Lives(columns.born_after[rows], columns.born_by[rows], alive_until, proven_until, columns.ended_by[rows])

    def _count_contradictions(self, answered: set[int]) -> None:
        """Open attributed flows of these clients whose owner the newest answer leaves out."""
        if not answered:
            return
        self._answered -= answered
        marked = np.zeros(self._table.ends.top, np.bool_)
        marked[list(answered)] = True
        columns, rows = self._table.columns, self._table.live()
        attributed = columns.state[rows] == CODE[State.ATTRIBUTED]
        open_now = columns.flags[rows] & np.uint16(Row.OPEN | Row.ENDED) == _OPEN
        rows = rows[attributed & open_now & marked[columns.client[rows]]]
        verdicts, clients = columns.verdict[rows], columns.client[rows]
        pairs, counts = np.unique(np.stack((verdicts, clients), axis=1), axis=0, return_counts=True)
        for (verdict, client), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            decision = self.decisions.get(verdict)
            named = NO_OWNERS.union(*(self._latest(question) for question in self.questions_about(client)))
            if decision is not None and not decision.owners <= named:
                self.contradictions += count
