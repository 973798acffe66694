"""What is known of every question that was asked, at most so many; the least used goes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from cachetools import Cache, LRUCache

from flowmap.attribute.answers.intervals import IntervalChange, OwnershipInterval
from flowmap.attribute.answers.timeline import NO_OWNERS, Answer, Judgement, Lifetimes, Timeline
from flowmap.attribute.distinct import distinct_rows
from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.hash_index import Rows

Judged = tuple[npt.NDArray[np.intp], Sequence[Judgement | None]]
"""For each flow a position in a list of outcomes; None there means: wait."""

_TIES = (Shape.LINK, Shape.EXACT)


class AnswerCache:
    """Timelines by question, and how often they were of use."""

    def __init__(self, settings: AttributionSettings) -> None:
        self._settings = settings
        self._timelines: LRUCache[Question, Timeline] = LRUCache(settings.cache_size)
        self.lookups: Counter[tuple[str, str]] = Counter()
        """Look-ups of answers by shape and outcome: ``hit``, ``miss``, ``negative``, ``stale``."""

    def __len__(self) -> int:
        """Questions with answers."""
        return len(self._timelines)

    def add(self, question: Question, answer: Answer) -> IntervalChange:
        """Take in an answer; what it did to the question's ranges."""
        return self._known(question).add(answer)

    def fail(self, question: Question, cause: str) -> None:
        """A question got no answer."""
        self._known(question).failure = cause

    def restore(self, question: Question, known: OwnershipInterval, *, now: float) -> None:
        """See :meth:`Attribution.restore`."""
        if question not in self._timelines and known.last_arrived <= now:
            self._known(question).restore(known)

    def ranges(self) -> Iterator[tuple[Question, OwnershipInterval]]:
        """The last range of every question that is kept."""
        for question in list(self._timelines):
            timeline = self.timeline(question)
            if timeline is not None and timeline.range is not None:
                yield question, timeline.range

    def timeline(self, question: Question) -> Timeline | None:
        """What is known of a question. Looking is no use of it: what a user asks must not change what is forgotten."""
        return Cache.__getitem__(self._timelines, question) if question in self._timelines else None

    def latest(self, question: Question) -> Owners:
        """Whom the newest answer names; nobody if there is none."""
        timeline = self._timelines.get(question)
        answer = timeline.latest() if timeline else None
        return answer.owners if answer else NO_OWNERS

    def names_no_owner(self, questions: Iterable[Question]) -> bool:
        """Whether the newest answers name no deployment, or there are none."""
        return not any(self.latest(question) for question in questions)

    def due_since_restart(self, questions: Iterable[Question]) -> float:
        """When an end that was asked about before a restart, and not since, is due; in the past for any other."""
        due = []
        for question in questions:
            timeline = self._timelines.get(question)
            if timeline is None or not timeline.restored:
                return -np.inf
            newest = timeline.answers[-1]
            ttl = self._settings.positive_ttl if newest.owners else self._settings.negative_ttl
            due.append(newest.arrived + ttl)
        return min(due, default=-np.inf)

    def judge(self, question: Question, lives: Lifetimes, now: float) -> Judged:
        """What the answers to a question say about flows."""
        timeline = self._timelines.get(question)
        nothing = np.zeros(len(lives.born_by), np.intp)
        if timeline is None or not timeline.answers:
            self.lookups[question.shape, "miss"] += 1
            return nothing, [None]
        newest = timeline.answers[-1]
        cached = not timeline.restored and now - newest.arrived < self._settings.positive_ttl
        if self._settings.confirm == "fast" and cached:
            self.lookups[question.shape, "hit" if newest.owners else "negative"] += 1
            return nothing, [Judgement(newest.owners, "fast", newest)]
        position, outcomes = timeline.judge(lives, grace=self._settings.grace)
        for outcome in outcomes:
            kind = "stale" if outcome is None else "hit" if outcome.owners else "negative"
            self.lookups[question.shape, kind] += 1
        return position, outcomes

    def tell_apart(self, question: Question, lives: Lifetimes, candidates: Owners) -> Judged:
        """Which candidates the answers to a question about both ends leave, see :meth:`Timeline.tell_apart`."""
        timeline = self._timelines.get(question)
        if timeline is None or not timeline.answers:
            self.lookups[question.shape, "miss"] += 1
            return np.zeros(len(lives.born_by), np.intp), [None]
        position, outcomes = timeline.tell_apart(lives, candidates)
        for outcome in outcomes:
            self.lookups[question.shape, "negative" if outcome is None else "hit"] += 1
        return position, outcomes

    def judge_ends(
        self,
        numbers: Rows,
        lives: Lifetimes,
        known: list[Mapping[Question, Judgement | None]],
        questions_about: Callable[[int], Sequence[Question]],
        now: float,
    ) -> npt.NDArray[np.intp]:
        """For each flow a position in ``known``: what the answers about its end say. Appends to ``known``."""
        result = np.zeros(len(numbers), np.intp)
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        for members in np.split(order, starts[1:]):
            questions = questions_about(int(numbers[members[0]]))
            if not self._heard_of_any(questions):
                result[members] = len(known)
                known.append(dict.fromkeys(questions))
                continue
            judged = [self.judge(question, lives.take(members), now) for question in questions]
            cases, case = distinct_rows([one for one, _ in judged])
            result[members] = case + len(known)
            for positions in cases:
                outcomes = [outcomes[position] for position, (_, outcomes) in zip(positions, judged, strict=True)]
                known.append(dict(zip(questions, outcomes, strict=True)))
        return result

    def forget_before(self, instant: float, *, of_ties: float) -> None:
        """Drop answers that no flow born after ``instant`` can need; those about both ends of one that no flow born
        after ``of_ties`` can."""
        for question in list(self._timelines):
            # Not through the cache's own look-up, which would count as use of every question.
            timeline: Timeline = Cache.__getitem__(self._timelines, question)
            if question.shape not in _TIES:
                timeline.forget_before(instant)
            elif timeline.answers and timeline.answers[-1].arrived <= of_ties:
                del self._timelines[question]
            else:
                timeline.forget_before(of_ties)

    def _known(self, question: Question) -> Timeline:
        timeline = self._timelines.get(question)
        if timeline is None:
            timeline = self._timelines[question] = Timeline()
        return timeline

    def _heard_of_any(self, questions: Iterable[Question]) -> bool:
        """Whether any of them was answered."""
        timelines = [(question, self._timelines.get(question)) for question in questions]
        if any(timeline and timeline.answers for _, timeline in timelines):
            return True
        self.lookups.update((question.shape, "miss") for question, _ in timelines)
        return False
