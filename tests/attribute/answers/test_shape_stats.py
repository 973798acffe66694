"""Readings of the API that bring nothing: asked less often, never taken for an answer that could name anybody."""

from __future__ import annotations

from flowmap.attribute.answers.shape_stats import ENOUGH, ShapeStats
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.batch import Flag, RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner
from tests.support.attribution import Desk
from tests.support.records import Record, replace

X, Y = (Owner("w", "ns", name, name) for name in "xy")
NOBODY: frozenset[Owner] = frozenset()
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT))
TTL, NEGATIVE = 60.0, 30.0


def about(n: int, shape: Shape = Shape.SOURCE, namespace: str = "ns") -> Question:
    return Question(namespace, shape, Endpoint(Address(0, n), 0), None)


def shape_stats() -> ShapeStats:
    return ShapeStats(AttributionSettings(namespaces=("ns",), positive_ttl=TTL, negative_ttl=NEGATIVE))


def test_a_shape_is_silent_once_enough_different_ends_had_no_name() -> None:
    known = shape_stats()
    for n in range(ENOUGH - 1):
        for namespace in ("ns", "other"):
            known.heard(about(n, namespace=namespace), NOBODY, now=0.0)
    assert not known.never_names(Shape.SOURCE, now=0.0)
    known.heard(about(99), NOBODY, now=0.0)
    assert known.silent(now=0.0) == (Shape.SOURCE,)
    assert (known.answered[Shape.SOURCE], known.named[Shape.SOURCE]) == (2 * ENOUGH - 1, 0)


def test_one_name_ends_the_silence_for_a_while() -> None:
    known = shape_stats()
    for n in range(ENOUGH):
        known.heard(about(n), NOBODY, now=0.0)
    known.heard(about(0), frozenset({X}), now=10.0)
    for n in range(ENOUGH):
        known.heard(about(n), NOBODY, now=11.0)
    assert not known.never_names(Shape.SOURCE, now=10.0 + known.pause)
    assert known.never_names(Shape.SOURCE, now=10.1 + known.pause)


class Office(Desk):
    """Everybody's client is ``client``'s, every service end is written to by ``sink`` and read from by ``source``."""

    def __init__(self, *, client: list[Owner], sink: list[Owner], source: list[Owner]) -> None:
        super().__init__(AttributionSettings(namespaces=("ns",)))
        self.said = {Shape.CLIENT: client, Shape.SINK: sink, Shape.SOURCE: source}
        self.counts = dict.fromkeys(Shape, 0)

    def work(self, seconds: int = 0) -> None:
        """Answer whatever is asked, second by second."""
        for _ in range(1 + seconds):
            for one in self.ask():
                self.counts[one.shape] += 1
                self.answer(one, *self.said.get(one.shape, []))
            self.settle()


def test_a_silent_shape_is_repeated_less_often_and_new_ends_are_still_asked_about() -> None:
    office = Office(client=[X], sink=[X], source=[])
    office.tell(*[replace(FLOW, server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    office.work(600)
    assert office.counts[Shape.SINK] in range(ENOUGH * 10, ENOUGH * 11 + 1)
    assert office.counts[Shape.SOURCE] <= ENOUGH * 5
    before = office.counts[Shape.SOURCE]
    office.tell(replace(FLOW, server_port=99, id=99))
    office.work()
    assert office.counts[Shape.SOURCE] == before + 1
    office.work(70)
    assert office.accounting.pending_flows == 0


def test_flows_that_a_silent_shape_could_only_add_to_are_unknown_without_it() -> None:
    office = Office(client=[X], sink=[Y], source=[])
    office.tell(*[replace(FLOW, server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    office.work(70)
    office.tell(replace(FLOW, server_port=1, client_port=2, id=99))
    office.work(70)
    assert office.accounting.pending_flows == 0
    (cause, *_) = [one.cause for one in office.attribution.decisions.values() if "rest" in one.cause]
    assert "source questions name nobody anywhere" in cause


def test_a_silent_shape_is_asked_where_its_answer_could_name_another() -> None:
    office = Office(client=[X, Y], sink=[X], source=[])
    office.tell(*[replace(FLOW, server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    office.work(70)
    office.said[Shape.SOURCE] = [Y]
    office.tell(replace(FLOW, client_port=2, id=99))
    office.work(200)
    owners = {one.owners for one in office.attribution.decisions.values()}
    assert frozenset({X, Y}) in owners, "not X alone, which is all that sink says"
    assert office.accounting.pending_flows == 0


def test_an_api_that_reads_data_flow_names_nobody_under_both_and_it_shows() -> None:
    office = Office(client=[], sink=[X], source=[Y])
    office.tell(*[replace(FLOW, client=f"10.0.0.{n}", server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    office.work(70)
    assert office.attribution.shape_stats.silent(now=office.now) == (Shape.CLIENT,)
    assert office.attribution.shape_stats.suggests_dataflow(now=office.now)
    assert {one.state for one in office.attribution.decisions.values()} == {"unknown"}
    before = office.counts[Shape.CLIENT]
    office.work(290)
    assert office.counts[Shape.CLIENT] - before <= ENOUGH * 3, "and clients are asked about less often"
    office.said[Shape.CLIENT] = [X]
    office.tell(replace(FLOW, client="10.0.1.1", server_port=1, id=77))
    office.work(130)
    assert not office.attribution.shape_stats.suggests_dataflow(now=office.now)
    assert "attributed" in {one.state for one in office.attribution.decisions.values()}


def test_nothing_suggests_data_flow_where_only_strangers_are() -> None:
    office = Office(client=[], sink=[], source=[])
    office.tell(*[replace(FLOW, client=f"10.0.0.{n}", server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    office.work(200)
    assert office.attribution.shape_stats.never_names(Shape.CLIENT, now=office.now)
    assert not office.attribution.shape_stats.suggests_dataflow(now=office.now)
    assert 0 < office.counts[Shape.SINK] <= ENOUGH * 2, "a few service ends are asked about, to tell the two apart"
