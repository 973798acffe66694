"""Ownership intervals: for which time repeated answers to one question confirm the same owners.

Consecutive answers that name the same owners make one interval. The owners are confirmed from the arrival of the first
answer to the asking of the last one. Between two intervals there is a gap: the owners changed in it at an unknown
moment.

    next answer                                 effect
    same owners, at most BRIDGE seconds later   the interval is widened
    same owners, later than that                the interval is closed (``pause``) and a new one starts
    other owners                                the interval is closed (``denied``) and a new one starts
    about the inside of the interval, agrees    none
    about the inside of the interval, denies    none; reported as a contradiction

Times are seconds on the scale of the answers, monotonic or since the epoch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from flowmap.attribute.questions import Owners

BRIDGE = 600.0
"""Longest pause in seconds between two answers of one interval. An address that changes hands and returns within it
goes unnoticed. Endpoints in use are asked about every ``attribute.positive_ttl``, so longer pauses mean idle endpoints
or a restart of the daemon."""

ClosedBy = Literal["denied", "pause"]
"""What closed an interval: an answer with other owners (or none), or a pause longer than :data:`BRIDGE`."""


class Answer(NamedTuple):
    """One answer of the control plane to one question."""

    asked: float
    arrived: float
    owners: Owners
    """Deployments that the answer names, without those whose jobs have all ended."""


class OwnershipInterval(NamedTuple):
    """Owners that are confirmed from ``first_arrived`` to ``last_asked``.

    A single answer confirms them for one moment only, between its asking and its arrival.
    """

    owners: Owners
    first_asked: float
    first_arrived: float
    last_asked: float
    last_arrived: float
    answers: int = 1
    """Number of answers that confirmed it."""
    closed_at: float | None = None
    """Arrival of the answer that closed it; None while it may still be widened."""
    closed_by: ClosedBy | None = None


class IntervalChange(NamedTuple):
    """The effect of one answer on the intervals of its question."""

    current: OwnershipInterval
    """The newest interval after the answer."""
    closed: OwnershipInterval | None = None
    """The interval before, if the answer closed it; then ``current`` is new."""
    contradicted: bool = False
    """Whether the answer denies the inside of ``current``, which stays as it is."""


def fold(current: OwnershipInterval | None, answer: Answer) -> IntervalChange:
    """The effect of one more answer; ``current`` is the newest interval so far, None before the first answer."""
    begun = OwnershipInterval(answer.owners, answer.asked, answer.arrived, answer.asked, answer.arrived)
    if current is None:
        return IntervalChange(begun)
    agrees = answer.owners == current.owners
    if answer.arrived <= current.last_asked:  # out of order
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
