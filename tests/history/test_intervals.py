"""Ownership intervals in the file: gaps, growth, and times moved by an offset."""

from __future__ import annotations

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.questions import Question, Shape
from flowmap.history.closed_flows import ClosedFlows
from flowmap.history.intervals import StoredInterval, on_scale
from flowmap.model.address import Address, Endpoint
from tests.support.closed_flows import NOW, X, Y
from tests.support.history import History

NOTHING = ClosedFlows.concatenate(())


def question(address: str = "10.0.0.1", workspace: str = "") -> Question:
    return Question("ns", Shape.CLIENT, Endpoint(Address.parse(address), 0), None, workspace)


def confirmed(first: float, last: float, *owners: object, closed: bool = False) -> OwnershipInterval:
    known = OwnershipInterval(frozenset(owners), NOW + first, NOW + first + 0.5, NOW + last, NOW + last + 0.5, 3)  # type: ignore[arg-type]
    return known._replace(closed_at=NOW + last + 9, closed_by="denied") if closed else known


def test_intervals_have_gaps(history: History) -> None:
    intervals = [
        StoredInterval(question(), confirmed(0, 10, X), False, 1, 0.0),
        StoredInterval(question(), confirmed(0, 20, X, closed=True), True, 1, 0.0),
        StoredInterval(question(), confirmed(30, 40, Y), False, 1, 0.0),
        StoredInterval(question("10.0.0.2"), confirmed(0, 100), False, 1, 0.0),
        StoredInterval(question(workspace="other"), confirmed(0, 100, Y), False, 1, 0.0),
    ]
    history.store.write(NOTHING, intervals, now=NOW)
    for moment, owners in [(0.4, None), (0.6, {X}), (20, {X}), (20.5, None), (35, {Y}), (41, None)]:
        found = history.reader.intervals([question()], NOW + moment)[question()]
        assert [set(known.owners) for known in found] == ([] if owners is None else [owners]), moment
    (unowned,) = history.reader.intervals([question("10.0.0.2")], NOW + 50)[question("10.0.0.2")]
    assert unowned.owners == frozenset()
    growing = {interval.question: interval.interval for interval in history.store.growing_intervals()}
    assert growing[question()] == confirmed(30, 40, Y)
    assert len(growing) == 3


def test_a_new_interval_closes_the_growing_one(history: History) -> None:
    history.store.write(NOTHING, [StoredInterval(question(), confirmed(0, 10, X), False, 1, 0.0)], now=NOW)
    history.store.write(NOTHING, [StoredInterval(question(), confirmed(30, 40, X), False, 1, 0.0)], now=NOW)
    assert not history.reader.intervals([question()], NOW + 20)[question()]
    assert [interval.interval for interval in history.store.growing_intervals()] == [confirmed(30, 40, X)]


def test_on_scale_moves_every_time() -> None:
    moved = on_scale(confirmed(0, 10, X, closed=True), 5.0)
    assert moved == confirmed(5, 15, X, closed=True)
    assert on_scale(confirmed(0, 10, X), 5.0).closed_at is None
