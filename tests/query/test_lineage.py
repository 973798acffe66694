"""Which deployment reads from and writes to which peer, by the answers or by the bytes."""

from __future__ import annotations

import pytest

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Semantics, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.lineage import Direction
from flowmap.model.selection import LabelFilter, Selection
from flowmap.model.views import PeerSeen, Traffic
from flowmap.query.lineage import PeerFacts, Talk, edges, peer_facts, talks_of_window
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.live_traffic import FLOW, LiveTraffic, X, Y

PEER = "10.1.0.1:9092"

ANSWERS = [
    # reading, owners by shape, readers, writers
    ("dataflow", {Shape.SOURCE: [X], Shape.SINK: [Y]}, {X}, {Y}),
    ("connection", {Shape.SINK: [X]}, set(), set()),  # sink names all that connect
    ("both", {Shape.CLIENT: [X], Shape.SINK: [X]}, set(), set()),
    ("both", {Shape.CLIENT: [X], Shape.SOURCE: [Y], Shape.HOST: []}, {Y}, set()),
    ("both", {Shape.CLIENT: [X], Shape.SOURCE: [Y], Shape.HOST: [Y]}, set(), set()),  # those that run on its host
]


@pytest.mark.parametrize(("semantics", "owners", "readers", "writers"), ANSWERS)
def test_what_answers_tell(
    semantics: Semantics, owners: dict[Shape, list[Owner]], readers: set[Owner], writers: set[Owner]
) -> None:
    traffic = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",), semantics=semantics, tie_wait=0)))
    for step in (ReadStarted("start"), ReadFinished(True)):
        traffic.accounting.apply(TakeStep(step, traffic.now, traffic.now))
    traffic.see(FLOW)
    attribution = traffic.accounting.attribution
    for _ in range(2):  # ``host`` is asked once ``source`` has named a deployment
        for question in attribution.ask(now=traffic.now, limit=100):
            answer = Answer(traffic.now, traffic.now + 0.1, frozenset(owners.get(question.shape, ())))
            attribution.receive(question, answer)
        traffic.now += 5
    facts = peer_facts(traffic.accounting, traffic.now)
    keys = {owner.key for owner in readers}, {owner.key for owner in writers}
    assert facts == {PEER: PeerFacts((PEER,), *map(frozenset, keys))}


def talk(*owners: Owner, sent: int = 0, received: int = 0) -> Talk:
    return Talk(owners, PEER, "tcp", Traffic(sent, received))


READ, WRITTEN = PeerFacts((), frozenset({X.key, Y.key})), PeerFacts((), frozenset(), frozenset({X.key}))
DIRECTIONS = [
    (talk(X, sent=9, received=1), PeerFacts(), Direction.WRITES, True),
    (talk(X, sent=1, received=9), PeerFacts(), Direction.READS, True),
    (talk(X), PeerFacts(), Direction.READS, True),
    (talk(X, sent=9), READ, Direction.READS, False),
    (talk(X, received=9), WRITTEN, Direction.WRITES, False),
    (talk(X), PeerFacts((), READ.readers, WRITTEN.writers), Direction.BOTH, False),
    (talk(X, Y, sent=9), READ, Direction.READS, False),
    (talk(X, Y, sent=9), WRITTEN, Direction.WRITES, True),  # not known of one of them
]


@pytest.mark.parametrize(("one", "known", "direction", "guessed"), DIRECTIONS)
def test_directions(one: Talk, known: PeerFacts, direction: Direction, guessed: bool) -> None:
    (edge,) = edges([one], {PEER: known}, Selection(), {})
    assert (edge.direction, edge.guessed) == (direction, guessed)


def test_selection_and_order() -> None:
    talks = [Talk((Y,), "b", "tcp", Traffic()), Talk((X,), "b", "tcp", Traffic()), Talk((X, Y), "a", "tcp", Traffic())]

    infos = {owner.key: DeploymentInfo(owner, labels={"team": owner.name}) for owner in (X, Y)}

    def chosen(selection: Selection) -> list[tuple[str, str]]:
        found = edges(talks, {"a": PeerFacts(("10.0.0.1:1",))}, selection, infos)
        return [("".join(info.owner.name for info in edge.deployments), edge.peer) for edge in found]

    assert chosen(Selection()) == [("x", "b"), ("xy", "a"), ("y", "b")]
    assert chosen(Selection(deployment="y")) == [("xy", "a"), ("y", "b")]
    assert chosen(Selection(label=LabelFilter("team", ("x",)))) == [("x", "b"), ("xy", "a")]
    assert chosen(Selection(peer="10.0.*")) == [("xy", "a")]


def test_a_window_has_owned_traffic_only() -> None:
    states = (State.ATTRIBUTED, State.SHARED, State.UNKNOWN, State.INTERNAL)
    seen = [PeerSeen(state, "tcp", Traffic(), (X,), 1.0, 2.0, state) for state in states]
    assert [(one.peer, one.first_seen) for one in talks_of_window(seen)] == [("attributed", 1.0), ("shared", 1.0)]
