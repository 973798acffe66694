"""When an answer counts for a flow: the rules of time.

An answer is true for the moment it was given, between asking and arrival. A flow began somewhere in
(born_after, born_by] and, if it is over, ended in [ended_after, ended_by]. All instants are monotonic seconds.

    inside   the answer was asked at or after the flow's start and arrived before its end
    around   the last answer before its start and the first one after its end name the same owner
    grace    nothing was known before, and the first answer was asked within ``grace`` of the flow's start,
             be it just before (it was on its way when the flow began) or after
    fast     (only with ``attribute.confirm: fast``) a cached answer younger than ``positive_ttl``

An entry of a connection whose client vanished without a word stays in the kernel for days, and its address goes to
somebody else. So an answer inside a flow's life needs a witness: the last answer before its start, or the one in
``grace``, that names the same owner. Without one it is taken only once the client is known to have sent something after
the answer arrived. For the same reason ``around`` needs every answer in between to agree.

Several deployments can have an address at a time, and more can join them. Answers agree if they name somebody in
common; then everybody whom one of them names may be the owner: who joined after the first may have opened the flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.attribute.answers.intervals import Answer, IntervalChange, OwnershipInterval, fold
from flowmap.attribute.distinct import distinct_rows
from flowmap.attribute.questions import UNREADABLE, Owners

__all__ = ["Answer", "Judgement", "Lifetimes", "MAX_ANSWERS", "NO_OWNERS", "Timeline"]

Times = npt.NDArray[np.float64]

NO_OWNERS: Owners = frozenset()
MAX_ANSWERS = 64


class Judgement(NamedTuple):
    """What the answers to one question say about a flow."""

    owners: Owners
    rule: str
    """``inside``, ``around``, ``grace``, ``fast``, or ``unconfirmed``: no rule can hold any more."""
    answer: Answer
    """The answer it rests on (the last one, where it is several)."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """When flows began and ended; one entry a flow in each column."""

    born_after: Times
    born_by: Times
    alive_until: Times
    """Latest instant at which the flow is known to have been open."""
    proven_until: Times
    """Latest instant after which its client is known to have sent something."""
    ended_by: Times
    """Instant by which the flow was over; infinite while it is open."""

    def take(self, index: npt.NDArray[np.intp]) -> Lifetimes:
        """The lives at ``index``."""
        columns = (self.born_after, self.born_by, self.alive_until, self.proven_until, self.ended_by)
        return Lifetimes(*(column[index] for column in columns))


class Timeline:
    """The answers to one question that flows may still need, oldest first (at most :data:`MAX_ANSWERS`), and the range
    that all there ever were add up to."""

    __slots__ = ("answers", "failure", "range", "restored")

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.failure: str | None = None
        """Why the last try failed; None if it did not."""
        self.range: OwnershipInterval | None = None
        """The last range; its times outlive the answers it was made of."""
        self.restored = False
        """Whether all that is known is from before a restart."""

    def add(self, answer: Answer) -> IntervalChange:
        """Take in an answer; one that was asked before the last came in, too late to count, is only compared."""
        change = fold(self.range, answer)
        self.range, self.failure = change.current, None
        last = self.latest()
        if last is None or (answer.asked >= last.asked and answer.arrived >= last.arrived):
            self.answers.append(answer)
            self.restored = False
            del self.answers[:-MAX_ANSWERS]
        return change

    def restore(self, known: OwnershipInterval) -> None:
        """Begin with a range from before a restart: it is what was known last, and a confirmation widens it."""
        self.range, self.restored = known, True
        self.answers = [Answer(known.last_asked, known.last_arrived, known.owners)]

    def latest(self) -> Answer | None:
        """The newest answer."""
        return self.answers[-1] if self.answers else None

    def forget_before(self, instant: float) -> None:
        """Drop answers that no flow born after ``instant`` can need: all but the last that arrived by then."""
        keep = 0
        while keep + 1 < len(self.answers) and self.answers[keep + 1].arrived <= instant:
            keep += 1
        del self.answers[:keep]

    def judge(self, lives: Lifetimes, *, grace: float) -> tuple[npt.NDArray[np.intp], list[Judgement | None]]:
        """The outcome for each flow, as positions in a list of distinct outcomes; None there means: wait."""
        asked = np.array([answer.asked for answer in self.answers])
        arrived = np.array([answer.arrived for answer in self.answers])
        first_asked = asked[0] if len(asked) else np.inf
        near_start = (first_asked - lives.born_after <= grace) & (lives.born_by - first_asked <= grace)
        cases, position = distinct_rows(
            (
                np.searchsorted(asked, lives.born_by, "left"),  # first answer asked after the start
                np.searchsorted(arrived, lives.alive_until, "right") - 1,  # last one that arrived in its life
                np.searchsorted(arrived, lives.proven_until, "right") - 1,
                np.searchsorted(arrived, lives.born_after, "right") - 1,  # last one before the start
                np.searchsorted(asked, lives.ended_by, "left"),  # first one asked after the end
                near_start,
            )
        )
        return position, [_outcome(self.answers, _Case(*case)) for case in cases]

    def tell_apart(self, lives: Lifetimes, candidates: Owners) -> tuple[npt.NDArray[np.intp], list[Judgement | None]]:
        """Which of a flow's candidates remain, as :meth:`judge` gives it; None: the answers tell nothing.

        For questions about both ends: at every moment of its life a flow's owner has a connection there, while the
        others' come and go. So each answer within its life (and only those, and only once the client is known to have
        sent something after) leaves those it names. One that names no candidate, or could not be read in full, tells
        nothing; answers that leave none together tell nothing, either.
        """
        asked = np.array([answer.asked for answer in self.answers])
        arrived = np.array([answer.arrived for answer in self.answers])
        first = np.searchsorted(asked, lives.born_by, "left")
        after_last = np.searchsorted(arrived, lives.proven_until, "right")
        spans, position = distinct_rows((first, after_last))
        return position, [_remaining(self.answers[start:end], candidates) for start, end in spans]


class _Case(NamedTuple):
    """Where a flow's life lies among the answers to a question, as positions in their list."""

    first_inside: int
    last_inside: int
    last_proven: int
    last_before: int
    first_after: int
    near_start: int


def _outcome(answers: Sequence[Answer], case: _Case) -> Judgement | None:
    before = answers[case.last_before] if case.last_before >= 0 else None
    after = answers[case.first_after] if case.first_after < len(answers) else None
    in_grace = before is None and bool(case.near_start)
    inside = answers[case.first_inside : case.last_inside + 1]
    if inside:
        named = _named(answers[case.first_inside : case.last_proven + 1])
        first = next((answer.owners for answer in inside if answer.owners), NO_OWNERS)
        if not named and before is not None and before.owners & first:
            named = before.owners | first
        if not named and in_grace and answers[0].owners & _named(inside):
            named = answers[0].owners
        if named or not _named(inside):
            return Judgement(named, "inside", inside[-1])
    if in_grace:
        return Judgement(answers[0].owners, "grace", answers[0])
    if after is None:
        return None
    if before is None:
        return Judgement(NO_OWNERS, "unconfirmed", after)
    around = answers[case.last_before : case.first_after + 1]
    if before.owners.intersection(*(answer.owners for answer in around)):
        return Judgement(_named(around), "around", after)
    return Judgement(NO_OWNERS, "unconfirmed" if _named(around) else "around", after)


def _remaining(answers: Sequence[Answer], candidates: Owners) -> Judgement | None:
    left, last = candidates, None
    for answer in answers:
        whole = all(owner.deployment_id != UNREADABLE for owner in answer.owners)
        if whole and answer.owners & candidates:
            left, last = left & answer.owners, answer
    return Judgement(left, "inside", last) if left and last is not None else None


def _named(answers: Sequence[Answer]) -> Owners:
    return NO_OWNERS.union(*(answer.owners for answer in answers))
