"""Readings of the API that bring nothing: asked less often, never taken for an answer that could name anybody."""

from __future__ import annotations

from flowmap.attribute.answers.shape_stats import ENOUGH, ShapeStats
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X, Y = (Owner("w", "ns", name, name) for name in "xy")
NOBODY: frozenset[Owner] = frozenset()
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT))
TTL, NEGATIVE = 60.0, 30.0


def about(n: int, shape: Shape = Shape.SOURCE, namespace: str = "ns") -> Question:
    return Question(namespace, shape, Endpoint(Address(0, n), 0), None)


def shape_stats() -> ShapeStats:
    return ShapeStats(AttributionSettings(namespaces=("ns",), positive_ttl=TTL, negative_ttl=NEGATIVE))


def test_shape_rests_after_enough_questions_without_name() -> None:
    known = shape_stats()
    for n in range(ENOUGH - 1):
        for namespace in ("ns", "other"):
            known.receive(about(n, namespace=namespace), NOBODY, now=0.0)
    assert not known.never_names(Shape.SOURCE, now=0.0)
    known.receive(about(99), NOBODY, now=0.0)
    assert [shape for shape in Shape if known.never_names(shape, now=0.0)] == [Shape.SOURCE]
    assert (known.answered[Shape.SOURCE], known.named[Shape.SOURCE]) == (2 * ENOUGH - 1, 0)


def test_one_name_ends_the_rest() -> None:
    known = shape_stats()
    for n in range(ENOUGH):
        known.receive(about(n), NOBODY, now=0.0)
    known.receive(about(0), frozenset({X}), now=10.0)
    for n in range(ENOUGH):
        known.receive(about(n), NOBODY, now=11.0)
    assert not known.never_names(Shape.SOURCE, now=10.0 + known.pause)
    assert known.never_names(Shape.SOURCE, now=10.1 + known.pause)


class FixedAnswers(AttributionRun):
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
            self.decide()


def test_resting_shape_still_asks_about_new_endpoints() -> None:
    run = FixedAnswers(client=[X], sink=[X], source=[])
    run.observe(*[replace(FLOW, server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    run.work(600)
    assert run.counts[Shape.SINK] in range(ENOUGH * 10, ENOUGH * 11 + 1)
    assert run.counts[Shape.SOURCE] <= ENOUGH * 5
    before = run.counts[Shape.SOURCE]
    run.observe(replace(FLOW, server_port=99, id=99))
    run.work()
    assert run.counts[Shape.SOURCE] == before + 1
    run.work(70)
    assert run.accounting.pending_flows == 0


def test_unknown_does_not_wait_for_a_resting_shape() -> None:
    run = FixedAnswers(client=[X], sink=[Y], source=[])
    run.observe(*[replace(FLOW, server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    run.work(70)
    run.observe(replace(FLOW, server_port=1, client_port=2, id=99))
    run.work(70)
    assert run.accounting.pending_flows == 0
    (cause, *_) = [one.cause for one in run.attribution.decisions.values() if "less often" in one.cause]
    assert "source questions never name one" in cause


def test_resting_shape_is_asked_if_it_could_add_an_owner() -> None:
    run = FixedAnswers(client=[X, Y], sink=[X], source=[])
    run.observe(*[replace(FLOW, server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    run.work(70)
    run.said[Shape.SOURCE] = [Y]
    run.observe(replace(FLOW, client_port=2, id=99))
    run.work(200)
    owners = {one.owners for one in run.attribution.decisions.values()}
    assert frozenset({X, Y}) in owners, "not X alone, which is all that sink says"
    assert run.accounting.pending_flows == 0


def test_both_with_a_dataflow_api_gives_a_hint() -> None:
    run = FixedAnswers(client=[], sink=[X], source=[Y])
    run.observe(*[replace(FLOW, client=f"10.0.0.{n}", server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    run.work(70)
    stats = run.attribution.shape_stats
    assert [shape for shape in Shape if stats.never_names(shape, now=run.now)] == [Shape.CLIENT]
    assert run.attribution.shape_stats.suggests_dataflow(now=run.now)
    assert {one.state for one in run.attribution.decisions.values()} == {"unknown"}
    before = run.counts[Shape.CLIENT]
    run.work(290)
    assert run.counts[Shape.CLIENT] - before <= ENOUGH * 3, "and clients are asked about less often"
    run.said[Shape.CLIENT] = [X]
    run.observe(replace(FLOW, client="10.0.1.1", server_port=1, id=77))
    run.work(130)
    assert not run.attribution.shape_stats.suggests_dataflow(now=run.now)
    assert "attributed" in {one.state for one in run.attribution.decisions.values()}


def test_no_hint_where_networks_of_deployments_are_given() -> None:
    run = FixedAnswers(client=[], sink=[X], source=[Y])
    run.attribution.settings.deployment_networks = ("10.0.0.0/8",)
    run.observe(*[replace(FLOW, client=f"10.0.0.{n}", server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    run.work(70)
    assert run.attribution.shape_stats.names_no_client(now=run.now)
    assert not run.attribution.shape_stats.suggests_dataflow(now=run.now)


def test_no_hint_with_unowned_clients_only() -> None:
    run = FixedAnswers(client=[], sink=[], source=[])
    run.observe(*[replace(FLOW, client=f"10.0.0.{n}", server_port=n + 1, id=n + 1) for n in range(ENOUGH)])
    run.work(200)
    assert run.attribution.shape_stats.never_names(Shape.CLIENT, now=run.now)
    assert not run.attribution.shape_stats.suggests_dataflow(now=run.now)
    assert 0 < run.counts[Shape.SINK] <= ENOUGH * 2, "a few service ends are asked about, to tell the two apart"
