"""Cache of answers by question, with at most ``attribute.cache_size`` questions: the least recently used is dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from cachetools import Cache, LRUCache

from flowmap.attribute.answers.intervals import IntervalChange, OwnershipInterval
from flowmap.attribute.answers.tenures import judge_tenures
from flowmap.attribute.answers.timeline import NO_OWNERS, Answer, Judgement, Lifetimes, Timeline
from flowmap.attribute.distinct import distinct_rows
from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.index.hash_index import Rows
from flowmap.model.deployment import Owner
from flowmap.model.tenure import Holders

Judged = tuple[npt.NDArray[np.intp], Sequence[Judgement | None]]
"""For each flow a position in a list of judgements; None in the list means that the flow waits."""

MAX_SHARED = 100_000
"""Owners that answers share; then they are gathered anew."""

_NARROWING = (Shape.LINK, Shape.EXACT)


class AnswerCache:
    """Timelines by question, and counts of their look-ups."""

    def __init__(self, settings: AttributionSettings) -> None:
        self._settings = settings
        self._timelines: LRUCache[Question, Timeline] = LRUCache(settings.cache_size)
        self._owners: dict[Owner, Owner] = {}
        self.lookups: Counter[tuple[str, str]] = Counter()
        """Look-ups by shape and result: ``hit`` (owners), ``negative`` (no owner), ``stale`` (no answer that counts),
        ``miss`` (no answer)."""

    def __len__(self) -> int:
        """Questions with answers."""
        return len(self._timelines)

    def add(self, question: Question, answer: Answer, holders: Holders | None = None) -> IntervalChange:
        """Add an answer. Returns its effect on the question's intervals."""
        timeline = self._known(question)
        timeline.holders = holders
        newest = timeline.latest()
        agreed = newest.owners if newest is not None and newest.owners == answer.owners else None
        return timeline.add(answer._replace(owners=agreed or self._shared(answer.owners)))

    def _shared(self, owners: Owners) -> Owners:
        """The same owners as the objects that other answers have: thousands of answers name the same deployments."""
        if len(self._owners) + len(owners) > MAX_SHARED:
            self._owners.clear()
        return frozenset(self._owners.setdefault(owner, owner) for owner in owners)

    def fail(self, question: Question, cause: str) -> None:
        """Note why a question got no answer."""
        self._known(question).failure = cause

    def restore(self, question: Question, known: OwnershipInterval, *, now: float) -> None:
        """See :meth:`Attribution.restore`."""
        if question not in self._timelines and known.last_arrived <= now:
            self._known(question).restore(known)

    def intervals(self) -> Iterator[tuple[Question, OwnershipInterval]]:
        """The newest interval of every question in the cache."""
        for question in list(self._timelines):
            timeline = self.timeline(question)
            if timeline is not None and timeline.interval is not None:
                yield question, timeline.interval

    def timeline(self, question: Question) -> Timeline | None:
        """The timeline of a question. Does not count as use: queries of users must not change what is dropped."""
        return Cache.__getitem__(self._timelines, question) if question in self._timelines else None

    def interval(self, question: Question) -> OwnershipInterval | None:
        """The newest ownership interval of a question, or None."""
        timeline = self._timelines.get(question)
        return timeline.interval if timeline else None

    def is_guarded(self, question: Question, answer: Answer | None) -> bool:
        """Whether the host of a service was asked about no earlier than for this ``source`` answer.

        ``question``: the ``source`` or the ``host`` question.
        """
        host = question._replace(shape=Shape.HOST, source=question.source and question.source._replace(port=0))
        newest = self.newest(host)
        return answer is None or (newest is not None and newest.asked >= answer.asked - self._settings.recheck)

    def newest(self, question: Question) -> Answer | None:
        """The newest answer to a question, or None. Does not count as use."""
        timeline = self.timeline(question)
        return timeline.latest() if timeline else None

    def latest(self, question: Question) -> Owners:
        """The owners in the newest answer; empty without an answer."""
        timeline = self._timelines.get(question)
        answer = timeline.latest() if timeline else None
        return answer.owners if answer else NO_OWNERS

    def names_no_owner(self, questions: Iterable[Question]) -> bool:
        """Whether no newest answer to these questions names a deployment."""
        return not any(self.latest(question) for question in questions)

    def judge(self, question: Question, lifetimes: Lifetimes, now: float) -> Judged:
        """What the answers to a question mean for flows."""
        timeline = self._timelines.get(question)
        first = np.zeros(len(lifetimes.born_by), np.intp)
        if timeline is None or not timeline.answers:
            self.lookups[question.shape, "miss"] += 1
            return first, [None]
        newest = timeline.answers[-1]
        if self._settings.timeless:
            self.lookups[question.shape, "hit" if newest.owners else "negative"] += 1
            return first, [Judgement(newest.owners, "assumed", newest)]
        if timeline.holders is not None:
            position, outcomes = judge_tenures(timeline.holders, newest, lifetimes, grace=self._settings.grace)
            self._count(question, outcomes)
            return position, outcomes
        cached = not timeline.restored and now - newest.arrived < self._settings.positive_ttl
        if self._settings.confirm == "fast" and cached:
            self.lookups[question.shape, "hit" if newest.owners else "negative"] += 1
            return first, [Judgement(newest.owners, "fast", newest)]
        position, outcomes = timeline.judge(
            lifetimes, grace=self._settings.grace, registration_lag=self._settings.registration_lag
        )
        self._count(question, outcomes)
        return position, outcomes

    def _count(self, question: Question, outcomes: Iterable[Judgement | None]) -> None:
        for outcome in outcomes:
            kind = "stale" if outcome is None else "hit" if outcome.owners else "negative"
            self.lookups[question.shape, kind] += 1

    def tell_apart(self, question: Question, lifetimes: Lifetimes, candidates: Owners) -> Judged:
        """Which candidates the answers to a question about both endpoints leave; see :meth:`Timeline.tell_apart`."""
        timeline = self._timelines.get(question)
        if timeline is None or not timeline.answers:
            self.lookups[question.shape, "miss"] += 1
            return np.zeros(len(lifetimes.born_by), np.intp), [None]
        endless = lifetimes.endless() if self._settings.timeless else lifetimes
        position, outcomes = timeline.tell_apart(endless, candidates)
        for outcome in outcomes:
            self.lookups[question.shape, "negative" if outcome is None else "hit"] += 1
        return position, outcomes

    def judge_endpoints(
        self,
        numbers: Rows,
        lifetimes: Lifetimes,
        known: list[Mapping[Question, Judgement | None]],
        questions_about: Callable[[int], Sequence[Question]],
        now: float,
    ) -> npt.NDArray[np.intp]:
        """For each flow a position in ``known``: what the answers about its endpoint mean for it.

        ``numbers``: the endpoint of each flow. Appends to ``known``.
        """
        result = np.zeros(len(numbers), np.intp)
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        for members in np.split(order, starts[1:]):
            questions = questions_about(int(numbers[members[0]]))
            if not self._has_answer(questions):
                result[members] = len(known)
                known.append(dict.fromkeys(questions))
                continue
            judged = [self.judge(question, lifetimes.take(members), now) for question in questions]
            cases, case = distinct_rows([one for one, _ in judged])
            result[members] = case + len(known)
            for positions in cases:
                outcomes = [outcomes[position] for position, (_, outcomes) in zip(positions, judged, strict=True)]
                known.append(dict(zip(questions, outcomes, strict=True)))
        return result

    def forget_before(self, instant: float, *, narrowing: float) -> None:
        """Drop answers that no flow born after ``instant`` can need.

        ``narrowing``: the same instant for answers about both endpoints together.
        """
        for question in list(self._timelines):
            # Not through the cache's own look-up, which would count as use of every question.
            timeline: Timeline = Cache.__getitem__(self._timelines, question)
            if question.shape not in _NARROWING:
                timeline.forget_before(instant)
            elif timeline.answers and timeline.answers[-1].arrived <= narrowing:
                del self._timelines[question]
            else:
                timeline.forget_before(narrowing)

    def _known(self, question: Question) -> Timeline:
        timeline = self._timelines.get(question)
        if timeline is None:
            timeline = self._timelines[question] = Timeline()
        return timeline

    def _has_answer(self, questions: Iterable[Question]) -> bool:
        """Whether any of the questions has an answer; counts a miss for each if none has."""
        timelines = [(question, self._timelines.get(question)) for question in questions]
        if any(timeline and timeline.answers for _, timeline in timelines):
            return True
        self.lookups.update((question.shape, "miss") for question, _ in timelines)
        return False
