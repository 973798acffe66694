"""The rules of time: for which flows an answer of the control plane counts.

An answer is true for one unknown moment between ``asked`` and ``arrived``. A flow began in (``born_after``,
``born_by``] and, if it is closed, ended by ``ended_by``. All instants are monotonic seconds.

    rule          the answer counts when
    inside        it was asked after the flow's start, it arrived while the flow was open, and a witness agrees
    around        the last answer before the flow's start, the first one after its end and all between them agree
    grace         no answer is known from before the flow's start, and the first one was asked after the start and
                  arrived at most ``grace`` seconds after it. One that was asked just before the start, and arrived as
                  soon after it, stands for the last answer before the start under the other rules
    fast          it is younger than ``positive_ttl``; only with ``attribute.confirm: fast`` (see ``cache``)
    assumed       it is the newest answer; only with ``replay --assume-current``
    tenure        the flow began in the tenure of an owner; only for a control plane that gives them (see ``tenures``)
    local         the same, and the cgroup or the process of the client's socket told whose it is on this host
    corroborated  it is about the service endpoint, names the one owner that the client has, and is not older than
                  ``stale_for`` (see ``Attribution``)
    late          never: an owner first appeared more than ``registration_lag`` after the start, and an answer between
                  the two named none; it may have been known before that
    unconfirmed   never: no rule can hold any more; the question contributes no owner

Why ``inside`` needs a witness: if a host vanishes, the kernel keeps the entries of its connections for days, while the
address goes to another owner. An answer about the new owner would lie inside the life of the stale entry. So one of
these must confirm that the client still exists:

    - the last answer before the flow's start, and every one since, names one of the same owners
    - the first answer of all is in ``grace`` and names one of the same owners
    - the client sent something after the answer arrived (``proven_until``)

For the same reason every answer between the two of ``around`` must agree. If no answer inside the life names an owner,
no witness is needed: the flow has no owner. It is ``unconfirmed`` if an answer from its start names some, and the
client sent nothing since: a deployment that has stopped may have left it behind.

A connection belongs to the owner of the address at its start. A deployment may appear in the answers some seconds after
its first connection, so an answer inside the life may name it late. But if the answers named no owner for longer than
``registration_lag``, the connection is someone else's: another program of the host, or a host before the deployment's.
That the owner had the address before the connection changes nothing: it left, and another opened the connection.

Nothing tells the end of a connectionless flow (UDP): another host can have its tuple any time. It ends with the last
packet that was seen, and what follows is judged by itself (``flowmap.flows.bursts``). For it only ``around`` holds; the
first answer of all, in ``grace``, may take the place of the last one before the start.

Several deployments can share an address, and more can join them. Answers agree if they have an owner in common. Then
every owner that one of them names is a candidate, since a deployment that joined later may have opened the flow.

:func:`_outcome` applies the rules in the order inside, grace, around. :meth:`Timeline.tell_apart` has the rule for
questions about both endpoints together.
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
from flowmap.model.tenure import Holders

__all__ = ["Answer", "Judgement", "Lifetimes", "MAX_ANSWERS", "NO_OWNERS", "Timeline"]

Times = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NO_OWNERS: Owners = frozenset()
MAX_ANSWERS = 64
"""Answers that one timeline keeps; the oldest is dropped first."""


class Judgement(NamedTuple):
    """What the answers to one question mean for a flow."""

    owners: Owners
    rule: str
    """``inside``, ``around``, ``grace``, …: see the heading of this module."""
    answer: Answer
    """The answer that the judgement rests on; the last one if there are several."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """When flows began and ended: columns with one entry for each flow, monotonic seconds."""

    born_after: Times
    born_by: Times
    alive_until: Times
    """Latest instant at which the flow is known to have been open."""
    proven_until: Times
    """Latest instant after which the client is known to have sent something."""
    ended_by: Times
    """Instant by which the flow had ended; infinite while it is open. Of a connectionless flow, by which its last
    packet had been seen."""
    connectionless: Mask
    cgroup: npt.NDArray[np.uint64] | None = None
    """Id of the cgroup of the client's socket, 0 where it is not known; None: it is known of none."""
    pid: npt.NDArray[np.uint64] | None = None
    """The same for the process that holds the socket."""

    def endless(self) -> Lifetimes:
        """Lifetimes that cover all times."""
        always = np.full(len(self.born_by), np.inf)
        return Lifetimes(-always, -always, always, always, always, self.connectionless)

    def take(self, index: npt.NDArray[np.intp]) -> Lifetimes:
        """The lifetimes of the flows at ``index``."""
        return Lifetimes(
            self.born_after[index],
            self.born_by[index],
            self.alive_until[index],
            self.proven_until[index],
            self.ended_by[index],
            self.connectionless[index],
            None if self.cgroup is None else self.cgroup[index],
            None if self.pid is None else self.pid[index],
        )


class Timeline:
    """The answers to one question that flows may still need, oldest first, and the interval that they confirm."""

    __slots__ = ("answers", "failure", "holders", "interval", "restored")

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.failure: str | None = None
        """Cause of the last failure; None if the last call returned an answer."""
        self.interval: OwnershipInterval | None = None
        """The newest interval; it outlives the answers that made it."""
        self.restored = False
        """Whether the only answer is from before a restart."""
        self.holders: Holders | None = None
        """Who had the address when, from a control plane that knows; see :mod:`flowmap.attribute.answers.tenures`."""

    def add(self, answer: Answer) -> IntervalChange:
        """Add an answer. One that arrives out of order counts for no flow; it is only compared with the interval."""
        change = fold(self.interval, answer)
        self.interval, self.failure = change.current, None
        last = self.latest()
        if last is None or (answer.asked >= last.asked and answer.arrived >= last.arrived):
            self.answers.append(answer)
            self.restored = False
            del self.answers[:-MAX_ANSWERS]
        return change

    def restore(self, known: OwnershipInterval) -> None:
        """Start with an interval from before a restart; the first answer that agrees widens it."""
        self.interval, self.restored = known, True
        self.answers = [Answer(known.last_asked, known.last_arrived, known.owners)]

    def latest(self) -> Answer | None:
        """The newest answer, or None."""
        return self.answers[-1] if self.answers else None

    def forget_before(self, instant: float) -> None:
        """Drop answers that no flow born after ``instant`` can need: all but the last that arrived by then."""
        keep = 0
        while keep + 1 < len(self.answers) and self.answers[keep + 1].arrived <= instant:
            keep += 1
        del self.answers[:keep]

    def judge(
        self, lifetimes: Lifetimes, *, grace: float, registration_lag: float
    ) -> tuple[npt.NDArray[np.intp], list[Judgement | None]]:
        """For each flow a position in the list of distinct judgements; None in the list means that the flow waits."""
        asked = np.array([answer.asked for answer in self.answers])
        arrived = np.array([answer.arrived for answer in self.answers])
        first_asked, first_arrived = (asked[0], arrived[0]) if len(asked) else (np.inf, np.inf)
        near_start = first_arrived - lifetimes.born_after <= grace  # it may be true for the moment of its arrival
        # Of a connectionless flow it may be long before the start: it only stands for an answer before it.
        near_start &= (lifetimes.born_by - first_asked <= grace) | lifetimes.connectionless
        cases, position = distinct_rows(
            (
                np.searchsorted(asked, lifetimes.born_by, "left"),  # first answer asked after the start
                np.searchsorted(arrived, lifetimes.alive_until, "right") - 1,  # last one that arrived in its life
                np.searchsorted(arrived, lifetimes.proven_until, "right") - 1,
                np.searchsorted(arrived, lifetimes.born_after, "right") - 1,  # last one before the start
                np.searchsorted(asked, lifetimes.ended_by, "left"),  # first one asked after the end
                np.searchsorted(asked, lifetimes.born_by + registration_lag, "right"),  # first late one
                near_start,
                near_start & (first_asked < lifetimes.born_by) & (grace > 0),
                lifetimes.connectionless,
            )
        )
        return position, [_outcome(self.answers, _Case(*case)) for case in cases]

    def tell_apart(
        self, lifetimes: Lifetimes, candidates: Owners
    ) -> tuple[npt.NDArray[np.intp], list[Judgement | None]]:
        """Which of the candidates each flow keeps, in the form of :meth:`judge`; None: the answers remove none.

        The rule for questions about both endpoints. The owner of a flow has a connection between them as long as the
        flow lives; connections of other candidates come and go. So an answer inside the flow's life removes the
        candidates that it does not name, once the client has sent something after it.

        Ignored are answers that name no candidate, answers that could not be read in full, and a set of answers that
        would remove every candidate.
        """
        asked = np.array([answer.asked for answer in self.answers])
        arrived = np.array([answer.arrived for answer in self.answers])
        first = np.searchsorted(asked, lifetimes.born_by, "left")
        after_last = np.searchsorted(arrived, lifetimes.proven_until, "right")
        spans, position = distinct_rows((first, after_last))
        return position, [_remaining(self.answers[start:end], candidates) for start, end in spans]


class _Case(NamedTuple):
    """Where the life of a flow lies among the answers to a question: positions in their list."""

    first_inside: int
    last_inside: int
    last_proven: int
    last_before: int
    first_after: int
    first_late: int
    near_start: int
    """Whether the first answer of all was asked and arrived within ``grace`` of the start."""
    asked_before: int
    """The same, and before the start: the address could change hands between the two."""
    connectionless: int


def _outcome(answers: Sequence[Answer], case: _Case) -> Judgement | None:
    unknown = case.last_before < 0
    if case.connectionless:
        return _confirmed(answers, case, 0 if unknown and case.near_start else case.last_before)
    start = 0 if unknown and case.asked_before else case.last_before
    before = answers[start] if start >= 0 else None
    after = answers[case.first_after] if case.first_after < len(answers) else None
    in_grace = before is None and bool(case.near_start)
    at_start = before.owners if before is not None else answers[0].owners if in_grace else NO_OWNERS
    inside = answers[case.first_inside : case.last_inside + 1]
    if inside:
        late = _late(answers, case)
        named = _without(_named(answers[case.first_inside : case.last_proven + 1]), late)
        place = next((n for n, answer in enumerate(inside, case.first_inside) if answer.owners - late), None)
        first = NO_OWNERS if place is None else _without(answers[place].owners, late)
        between = [answer.owners for answer in answers[start + 1 : place]]
        if not named and before is not None and before.owners.intersection(first, *between):
            named = before.owners | first
        if not named and in_grace and answers[0].owners & _named(inside):
            named = answers[0].owners
        if not named and not first and case.last_proven < case.first_inside and at_start:
            return Judgement(NO_OWNERS, "unconfirmed", inside[-1])
        if named or not first:
            return Judgement(named, "inside" if named or not late else "late", inside[-1])
    if in_grace:
        return Judgement(answers[0].owners, "grace", answers[0])
    if after is None:
        return None
    if before is None:
        return Judgement(NO_OWNERS, "unconfirmed", after)
    around = answers[start : case.first_after + 1]
    if before.owners.intersection(*(answer.owners for answer in around)):
        return Judgement(_named(around), "around", after)
    return Judgement(NO_OWNERS, "unconfirmed" if _named(around) else "around", after)


def _confirmed(answers: Sequence[Answer], case: _Case, first: int) -> Judgement | None:
    """The judgement of a connectionless flow; ``first``: the answer at its start, -1 if there is none."""
    if case.first_after >= len(answers):
        return None
    after = answers[case.first_after]
    if first < 0:
        return Judgement(NO_OWNERS, "unconfirmed", after)
    around = answers[first : case.first_after + 1]
    if around[0].owners.intersection(*(answer.owners for answer in around)):
        return Judgement(_named(around), "around", after)
    return Judgement(NO_OWNERS, "unconfirmed" if _named(around) else "around", after)


def _late(answers: Sequence[Answer], case: _Case) -> Owners:
    """Owners that appear inside a flow's life too late to have begun it."""
    if case.first_late > case.last_inside:
        return NO_OWNERS
    # An answer that was asked before the start and arrived after it may tell of the start, too.
    at_start = answers[case.last_before + 1 : case.first_inside]
    early, unowned = _named(at_start), any(not answer.owners for answer in at_start)
    for place in range(case.first_inside, case.last_inside + 1):
        owners = answers[place].owners
        unowned |= not owners
        if place < case.first_late or not unowned:
            early |= owners
    return _named(answers[case.first_inside : case.last_inside + 1]) - early


def _remaining(answers: Sequence[Answer], candidates: Owners) -> Judgement | None:
    left, last = candidates, None
    for answer in answers:
        whole = all(owner.deployment_id != UNREADABLE for owner in answer.owners)
        if whole and answer.owners & candidates:
            left, last = left & answer.owners, answer
    return Judgement(left, "inside", last) if left and last is not None else None


def _named(answers: Sequence[Answer]) -> Owners:
    # Most answers agree, and then share one set: no copy for each flow.
    distinct = {id(answer.owners): answer.owners for answer in answers}
    return next(iter(distinct.values())) if len(distinct) == 1 else NO_OWNERS.union(*distinct.values())


def _without(owners: Owners, late: Owners) -> Owners:
    return owners - late if late else owners
