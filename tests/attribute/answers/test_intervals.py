"""Ranges: as rows, and under any answers at all, with restarts in between."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flowmap.attribute.answers.intervals import BRIDGE, Answer, ClosedBy, OwnershipInterval, fold
from flowmap.attribute.answers.timeline import Timeline
from flowmap.attribute.questions import Owners
from flowmap.model.deployment import Owner

X, Y = (Owner("w", "ns", name, name) for name in "xy")
NOBODY: Owners = frozenset()


def answer(asked: float, *owners: Owner, took: float = 1.0) -> Answer:
    return Answer(asked, asked + took, frozenset(owners))


def ranges_of(*answers: Answer) -> list[OwnershipInterval]:
    ranges: list[OwnershipInterval] = []
    for one in answers:
        change = fold(ranges[-1] if ranges else None, one)
        ranges[-1:] = [change.current] if change.closed is None else [change.closed, change.current]
    return ranges


def x_range(
    first: float, last: float, answers: int = 1, closed_at: float | None = None, by: str = "denied"
) -> OwnershipInterval:
    """A range of X; every answer took a second."""
    known = OwnershipInterval(frozenset({X}), first, first + 1, last, last + 1, answers)
    closed_by: ClosedBy = "pause" if by == "pause" else "denied"
    return known if closed_at is None else known._replace(closed_at=closed_at, closed_by=closed_by)


ROWS = {
    "one answer": ([answer(10, X)], [x_range(10, 10)]),
    "a confirmation widens": ([answer(10, X), answer(70, X)], [x_range(10, 70, 2)]),
    "nobody is an answer, too": ([answer(10), answer(70)], [OwnershipInterval(NOBODY, 10, 11, 70, 71, 2)]),
    "a gap where the owners changed": (
        [answer(10, X), answer(20, X), answer(80, Y)],
        [x_range(10, 20, 2, 81), OwnershipInterval(frozenset({Y}), 80, 81, 80, 81)],
    ),
    "one more owner is another set": (
        [answer(10, X), answer(70, X, Y)],
        [x_range(10, 10, 1, 71), OwnershipInterval(frozenset({X, Y}), 70, 71, 70, 71)],
    ),
    "an owner who comes back begins anew": (
        [answer(10, X), answer(20), answer(30, X)],
        [
            x_range(10, 10, 1, 21),
            OwnershipInterval(NOBODY, 20, 21, 20, 21, 1, 31, "denied"),
            x_range(30, 30),
        ],
    ),
    "a pause that can be bridged": (
        [answer(10, X), answer(11 + BRIDGE, X)],
        [x_range(10, 11 + BRIDGE, 2)],
    ),
    "too long a pause": (
        [answer(10, X), answer(12 + BRIDGE, X)],
        [
            x_range(10, 10, 1, 13 + BRIDGE, "pause"),
            x_range(12 + BRIDGE, 12 + BRIDGE),
        ],
    ),
    "a late answer widens nothing": (
        [answer(10, X), answer(70, X), answer(30, X)],
        [x_range(10, 70, 2)],
    ),
    "a late answer that denies changes nothing": (
        [answer(10, X), answer(70, X), answer(30, Y)],
        [x_range(10, 70, 2)],
    ),
}


@pytest.mark.parametrize(("answers", "expected"), ROWS.values(), ids=ROWS)
def test_what_answers_add_up_to(answers: list[Answer], expected: list[OwnershipInterval]) -> None:
    assert ranges_of(*answers) == expected


@pytest.mark.parametrize(
    ("late", "contradicts"),
    [
        (answer(30, Y), True),
        (answer(30, X), False),
        (answer(30), True),
        (answer(10.5, Y), False),
        (answer(5, Y, took=20), False),
        (answer(70, Y), False),
    ],
)
def test_contradiction_inside_an_interval(late: Answer, contradicts: bool) -> None:
    (known,) = ranges_of(answer(10, X), answer(70, X))
    assert fold(known, late).contradicted is contradicts


def test_timeline_order_and_restored_interval() -> None:
    timeline = Timeline()
    timeline.restore(x_range(-100, -50, 3))
    assert timeline.restored
    assert timeline.latest() == Answer(-50, -49, frozenset({X}))
    assert timeline.add(answer(10, X)).current == x_range(-100, 10, 4)
    assert not timeline.restored
    timeline.add(answer(5, Y, took=0.5))
    assert [one.asked for one in timeline.answers] == [-50, 10]


owner_sets = st.frozensets(st.sampled_from([X, Y]), max_size=2)
spans = st.sampled_from([0.0, 0.5, 3.0, 40.0])


class AnyAnswers(RuleBasedStateMachine):
    """Answers to one question, in order and out of it, over restarts; all ranges there ever were are remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.timeline = Timeline()
        self.now = 0.0
        self.ranges: list[OwnershipInterval] = []

    @rule(pause=st.one_of(spans, st.just(BRIDGE + 1)), took=spans, owners=owner_sets)
    def an_answer(self, pause: float, took: float, owners: Owners) -> None:
        asked = self.now + pause
        self.now = asked + took
        self.take(Answer(asked, self.now, owners))

    @rule(ago=st.floats(0, 100), took=spans, owners=owner_sets)
    def an_answer_out_of_order(self, ago: float, took: float, owners: Owners) -> None:
        arrived = self.now - ago
        self.take(Answer(arrived - took, arrived, owners))

    @rule(down=spans)
    def a_restart(self, down: float) -> None:
        self.now += down
        last = self.timeline.interval
        self.timeline = Timeline()
        if last is not None:
            self.timeline.restore(last)

    @rule()
    def answers_are_forgotten(self) -> None:
        self.timeline.forget_before(self.now)

    def take(self, given: Answer) -> None:
        before = self.timeline.interval
        change = self.timeline.add(given)
        last = self.ranges[-1:] if before is not None else []
        assert last == ([before] if before is not None else [])
        if change.closed is not None:
            assert before is not None
            self.ranges[-1] = change.closed
            assert change.closed[:6] == before[:6], "closing changes nothing else"
            assert change.closed.closed_at == given.arrived
            assert given.owners != before.owners or change.closed.closed_by == "pause"
            self.ranges.append(change.current)
        elif before is not None and change.current != before:
            assert given.owners == before.owners, "only a confirmation widens"
            assert change.current[:3] == before[:3]
            assert change.current.last_asked >= before.last_asked
            assert change.current.last_arrived >= before.last_arrived
            self.ranges[-1] = change.current
        elif before is None:
            self.ranges.append(change.current)
        if change.contradicted:
            assert before is not None
            assert change.current == before and given.owners != before.owners
        assert change.current.owners == given.owners or change.current == before

    @invariant()
    def ranges_never_overlap(self) -> None:
        for one, following in zip(self.ranges, self.ranges[1:], strict=False):
            assert one.closed_at is not None
            assert one.last_asked < following.first_arrived
            assert one.closed_at == following.first_arrived

    @invariant()
    def answers_are_in_order(self) -> None:
        asked = [one.asked for one in self.timeline.answers]
        arrived = [one.arrived for one in self.timeline.answers]
        assert asked == sorted(asked)
        assert arrived == sorted(arrived)


AnyAnswers.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAnyAnswers = AnyAnswers.TestCase


@pytest.mark.parametrize(
    ("late", "contradicted"),
    [
        (answer(5, Y), False),
        (answer(10.9, Y), False),
        (answer(11, Y), True),
        (answer(30, Y), True),
        (answer(30, X), False),
        (answer(69, Y), True),
    ],
    ids=["before", "asked before the first arrived", "from the first arrival on", "inside", "agrees", "up to the last"],
)
def test_a_late_answer_may_deny_the_inside_of_an_interval(late: Answer, contradicted: bool) -> None:
    current = x_range(10, 70, 2)
    change = fold(current, late)
    assert (change.current, change.closed, change.contradicted) == (current, None, contradicted)
