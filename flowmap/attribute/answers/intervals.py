"""Ownership over time: what repeated answers to one question add up to.

An answer is true for a moment between its asking and its arrival. Answers that name the same owners, one after the
other, make a range: from the first one's arrival to the last one's asking these owners are confirmed, by the rule
that answers around a time, all alike, speak for it. Before and after that nothing is: between two ranges there is a
gap in which the owners changed, and nobody can say when.

A range grows only by an answer that names the same owners, and a pause longer than :data:`BRIDGE` ends it even then.
It is never changed otherwise: an answer that speaks of the inside of a range and denies it is a contradiction, which
is told and changes nothing. Nothing here reads a clock; instants are seconds on whatever scale the answers have.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from flowmap.attribute.questions import Owners

BRIDGE = 600.0
"""Seconds without an answer over which two that agree still make one range: an address that goes to somebody else and
comes back within them is not seen. Ends in use are asked about every ``attribute.positive_ttl``, a minute or a few; the
rest is for those that rest, and for a daemon that is started again."""

ClosedBy = Literal["denied", "pause"]
"""What ended a range: an answer that named others (or nobody), or too long a time without any."""


class Answer(NamedTuple):
    """One answer of the control plane to one question."""

    asked: float
    arrived: float
    owners: Owners
    """Deployments that were named and had a job that ran (or did not say)."""


class OwnershipInterval(NamedTuple):
    """Owners confirmed from ``first_arrived`` to ``last_asked`` (for a single answer: at a moment between its asking
    and its arrival, and no longer)."""

    owners: Owners
    first_asked: float
    first_arrived: float
    last_asked: float
    last_arrived: float
    answers: int = 1
    """How many confirmed it."""
    closed_at: float | None = None
    """Arrival of the answer that ended it; None while it may still grow."""
    closed_by: ClosedBy | None = None


class IntervalChange(NamedTuple):
    """What one answer did."""

    current: OwnershipInterval
    """The last range, as it is now."""
    closed: OwnershipInterval | None = None
    """The one before, where this answer ended it; then ``current`` is new."""
    contradicted: bool = False
    """The answer denies the inside of ``current``; nothing was changed."""


def fold(current: OwnershipInterval | None, answer: Answer) -> IntervalChange:
    """Take in one more answer; ``current`` is the last range so far, None before the first answer."""
    begun = OwnershipInterval(answer.owners, answer.asked, answer.arrived, answer.asked, answer.arrived)
    if current is None:
        return IntervalChange(begun)
    agrees = answer.owners == current.owners
    if answer.arrived <= current.last_asked:  # an older answer, come late
        return IntervalChange(current, contradicted=not agrees and answer.asked >= current.first_arrived)
    if agrees and answer.asked - current.last_arrived <= BRIDGE:
        return IntervalChange(_widened(current, answer))
    closed_by: ClosedBy = "pause" if agrees else "denied"
    return IntervalChange(begun, current._replace(closed_at=answer.arrived, closed_by=closed_by))


def _widened(current: OwnershipInterval, answer: Answer) -> OwnershipInterval:
    return current._replace(
        last_asked=max(current.last_asked, answer.asked),
        last_arrived=max(current.last_arrived, answer.arrived),
        answers=current.answers + 1,
    )
