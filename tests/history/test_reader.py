"""Questions about the past, over a real file beside its writer."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.questions import Question, Shape
from flowmap.errors import HistoryError, QueryError
from flowmap.export.peers import Peers
from flowmap.history.closed_flows import ClosedFlows, Fact
from flowmap.history.file import Limits
from flowmap.history.intervals import StoredInterval
from flowmap.history.matching import FlowTuple, Wanted
from flowmap.history.reader import HistoryReader
from flowmap.history.store import HistoryStore
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import State
from tests.support.closed_flows import NOW, Flow, X, Y, closed, replace

LIMITS = Limits(retain=1e9, max_size=16 << 20)
NOTHING = ClosedFlows.concatenate(())
EVER = Wanted(-math.inf, math.inf)


class House:
    def __init__(self, path: str) -> None:
        self.path = path
        self.store = HistoryStore(path, LIMITS)
        self.store.open()
        self.history_reader = HistoryReader(
            path, peer_name=Peers({"kafka": ["10.1.0.1:9092"]}).name, translated_ends=True, seconds=5.0
        )

    def write(self, *flows: Flow) -> None:
        self.store.write(closed(*flows), (), now=NOW)

    def at(self, moment: float, client_port: int | None = 40000, server: str = "10.1.0.1") -> list[bool]:
        wanted = FlowTuple(Address.parse("10.0.0.1"), client_port, Address.parse(server), 9092, 6)
        return [one.sure for one in self.history_reader.at(wanted, moment)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(str(tmp_path / "history.db"))
    yield made
    made.store.close()


AT = [
    # the moment, whether the flow is found, whether for sure
    (NOW - 10.1, []),
    (NOW - 9.0, [False]),  # it may have begun
    (NOW - 5.0, [True]),
    (NOW - 1.5, [False]),  # it may have ended
    (NOW - 0.9, []),
]


@pytest.mark.parametrize(("moment", "found"), AT)
def test_a_flow_at_a_moment(house: House, moment: float, found: list[bool]) -> None:
    house.write(Flow(born=NOW - 8, doubt=2.0, ended=NOW - 1), Flow(client_port=7), Flow(client="10.0.0.9"))
    assert house.at(moment) == found
    assert len(house.at(moment, None)) >= len(found), "without the client's port its other connection, too"


def test_the_last_flow_between_two_ends(house: House) -> None:
    wanted = FlowTuple(Address.parse("10.0.0.1"), 40000, Address.parse("10.1.0.1"), 9092, 6)
    assert house.history_reader.last(wanted) is None
    house.write(Flow(born=NOW - 90_000, ended=NOW - 80_000), Flow(client_port=7))
    house.write(Flow(born=NOW - 8, ended=NOW - 3), Flow(born=NOW - 60, ended=NOW - 50), Flow(client="10.0.0.9"))
    found = house.history_reader.last(wanted)
    assert found is not None and found.view.ended_at == pytest.approx(NOW - 3)
    assert house.history_reader.last(wanted._replace(protocol=17)) is None


def test_a_flow_is_found_from_either_side_and_behind_nat(house: House) -> None:
    house.write(Flow(translated=("10.9.0.1", 50, "10.9.0.2", 60)))
    ends = [("10.0.0.1", 40000, "10.1.0.1", 9092), ("10.9.0.1", 50, "10.9.0.2", 60)]
    for one, one_port, other, other_port in [*ends, *((b, q, a, p) for a, p, b, q in ends)]:
        wanted = FlowTuple(Address.parse(one), one_port, Address.parse(other), other_port, 6)
        assert len(house.history_reader.at(wanted, NOW - 5)) == 1
        assert not house.history_reader.at(wanted._replace(protocol=17), NOW - 5)
    assert not house.history_reader.at(
        FlowTuple(Address.parse("10.0.0.1"), 40000, Address.parse("10.9.0.2"), 60, 6), NOW - 5
    )


def test_long_lives_among_short_ones_are_found(house: House) -> None:
    house.write(Flow(born=NOW - 90_000, ended=NOW - 1), *(Flow(client_port=n) for n in range(1, 50)))
    assert (house.at(NOW - 80_000), house.at(NOW - 5)) == ([True], [True])
    assert house.at(NOW - 80_000, 7) == []


def test_what_is_told_of_a_flow(house: House) -> None:
    house.write(
        Flow(owners=(X, Y), flags=Fact.GUESSED, translated=("10.9.0.1", 50, "10.9.0.2", 60)),
        Flow(flags=Fact.PREEXISTING | Fact.CUT, owners=()),
    )
    older, newer = reversed(house.history_reader.flows(EVER, 10).flows)
    view = older.view
    assert (view.state, [info.owner for info in view.deployments], view.guessed) == (State.SHARED, [X, Y], True)
    assert (view.transmit_bytes, view.receive_bytes, view.transmit_packets, view.receive_packets) == (100, 200, 3, 4)
    assert view.translated == (Endpoint(Address.parse("10.9.0.1"), 50), Endpoint(Address.parse("10.9.0.2"), 60))
    assert (view.started_at, view.ended_at, view.source) == (NOW - 10, NOW - 1, "scripted")
    assert [(piece.shape, piece.origin, piece.rule) for piece in older.evidence] == [
        ("client", "history", "inside"),
        ("sink", "history", "around"),
    ]
    assert (newer.view.started_at, newer.view.ended_at, newer.view.state) == (None, None, State.UNKNOWN)
    assert newer.begun_after == -math.inf


FILTERS = [
    (EVER._replace(deployment="id-x"), {1, 3}),
    (EVER._replace(deployment="y"), {2, 3}),
    (EVER._replace(deployment="z"), set()),
    (EVER._replace(state=State.UNKNOWN), {4}),
    (EVER._replace(protocol=17), {5}),
    (EVER._replace(client=(Address.parse("10.0.0.7"), None)), {6}),
    (EVER._replace(client=(Address.parse("10.0.0.7"), 1)), set()),
    (EVER._replace(peer="10.1.0.8"), {7}),
    (EVER._replace(peer="10.1.0.8:53"), {7}),
    (EVER._replace(peer="10.9.0.2:60"), {8}),
    (EVER._replace(peer="kafka", state=State.ATTRIBUTED), {1, 2, 5, 6, 9}),
    (EVER._replace(since=NOW + 1), {9}),
    (EVER._replace(until=NOW - 100), {8}),
]


@pytest.mark.parametrize(("wanted", "ports"), FILTERS)
def test_listings_are_filtered(house: House, wanted: Wanted, ports: set[int]) -> None:
    x, y = Flow(owners=(X,)), Flow(owners=(Y,))
    house.write(replace(x, client_port=1), replace(y, client_port=2), replace(x, client_port=3, owners=(X, Y)))
    house.write(replace(x, client_port=4, owners=()), replace(y, client_port=5, protocol=17, owners=(Y,)))
    house.write(replace(y, client="10.0.0.7", client_port=6, owners=(Y,)))
    house.write(replace(y, client_port=7, server="10.1.0.8", server_port=53, owners=()))
    house.write(replace(y, client_port=8, born=NOW - 200, translated=("10.0.0.1", 8, "10.9.0.2", 60), owners=()))
    house.write(replace(y, client_port=9, ended=NOW + 5))
    known = {"id-x": {1, 3}, "y": {2, 3, 5, 6, 9}}
    expected = known.get(wanted.deployment or "", ports) if wanted.deployment else ports
    if wanted.state is State.UNKNOWN:
        expected = {4, 7, 8}
    assert {one.view.client.port for one in house.history_reader.flows(wanted, 100).flows} == expected


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 40), st.data())
def test_pages_show_every_flow_once_the_newest_first_while_blocks_are_joined(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int, data: st.DataObject
) -> None:
    house = House(str(tmp_path_factory.mktemp("history") / "h"))
    for n, size in enumerate(sizes):
        house.write(*(Flow(client_port=n, counters=(m, 0, 0, 0)) for m in range(size)))
    expected = [(n, m) for n, size in enumerate(sizes) for m in range(size)][::-1]
    seen: list[tuple[int, int]] = []
    below: int | None = None
    while True:
        page = house.history_reader.flows(EVER, limit, below)
        seen += [(one.view.client.port, one.view.transmit_bytes) for one in page.flows]
        below = page.below
        if below is None:
            break
        assert len(page.flows) == limit
        if data.draw(st.booleans()):
            house.store.merge()
    house.store.close()
    assert seen == expected


def test_peers_of_a_deployment_in_a_window(house: House) -> None:
    big = (1 << 63) + 5
    house.write(
        Flow(counters=(big, 1, 1, 1)),
        Flow(counters=(big, 2, 1, 1), born=NOW - 50),
        Flow(server="10.1.0.8", owners=(X, Y)),
        Flow(owners=(Y,)),
        Flow(born=NOW - 500, ended=NOW - 400),
    )
    house.write(Flow(counters=(1, 1, 1, 1)))
    seen = {(one.peer, one.owners): one for one in house.history_reader.peers("id-x", NOW - 100, NOW)}
    assert seen.keys() == {("kafka", (X,)), ("10.1.0.8:9092", (X, Y))}
    kafka = seen["kafka", (X,)]
    assert (kafka.traffic.transmit_bytes, kafka.traffic.receive_bytes, kafka.traffic.connections) == (2 * big + 1, 4, 3)
    assert (kafka.first_seen, kafka.last_seen) == (NOW - 50, NOW - 1)
    assert not house.history_reader.peers("id-x", NOW + 5, NOW + 6)
    assert sum(one.traffic.connections for one in house.history_reader.peers("x", -math.inf, math.inf, below=6)) == 4


def question(address: str = "10.0.0.1", workspace: str = "") -> Question:
    return Question("ns", Shape.CLIENT, Endpoint(Address.parse(address), 0), None, workspace)


def confirmed(first: float, last: float, *owners: object, closed: bool = False) -> OwnershipInterval:
    known = OwnershipInterval(frozenset(owners), NOW + first, NOW + first + 0.5, NOW + last, NOW + last + 0.5, 3)  # type: ignore[arg-type]
    return known._replace(closed_at=NOW + last + 9, closed_by="denied") if closed else known


def test_ranges_of_ownership_have_gaps(house: House) -> None:
    intervals = [
        StoredInterval(question(), confirmed(0, 10, X), False, 1, 0.0),
        StoredInterval(question(), confirmed(0, 20, X, closed=True), True, 1, 0.0),
        StoredInterval(question(), confirmed(30, 40, Y), False, 1, 0.0),
        StoredInterval(question("10.0.0.2"), confirmed(0, 100), False, 1, 0.0),
        StoredInterval(question(workspace="other"), confirmed(0, 100, Y), False, 1, 0.0),
    ]
    house.store.write(NOTHING, intervals, now=NOW)
    for moment, owners in [(0.4, None), (0.6, {X}), (20, {X}), (20.5, None), (35, {Y}), (41, None)]:
        found = house.history_reader.intervals([question()], NOW + moment)[question()]
        assert [set(known.owners) for known in found] == ([] if owners is None else [owners]), moment
    (nobody,) = house.history_reader.intervals([question("10.0.0.2")], NOW + 50)[question("10.0.0.2")]
    assert nobody.owners == frozenset()
    growing = {interval.question: interval.interval for interval in house.store.growing_intervals()}
    assert growing[question()] == confirmed(30, 40, Y)
    assert len(growing) == 3


def test_a_range_that_begins_anew_ends_the_one_that_grew(house: House) -> None:
    house.store.write(NOTHING, [StoredInterval(question(), confirmed(0, 10, X), False, 1, 0.0)], now=NOW)
    house.store.write(NOTHING, [StoredInterval(question(), confirmed(30, 40, X), False, 1, 0.0)], now=NOW)
    assert not house.history_reader.intervals([question()], NOW + 20)[question()]
    assert [interval.interval for interval in house.store.growing_intervals()] == [confirmed(30, 40, X)]


def test_a_question_that_takes_too_long_is_given_up(house: House) -> None:
    house.write(Flow())
    slow = HistoryReader(house.path, peer_name=str, translated_ends=True, seconds=-1.0)
    with pytest.raises(QueryError, match="narrow"):
        slow.flows(EVER, 10)


def test_a_daemon_that_stops_waits_for_no_question(house: House) -> None:
    house.write(Flow())
    house.history_reader.close()
    with pytest.raises(QueryError):
        house.history_reader.flows(EVER, 10)


def test_a_block_that_cannot_be_decoded_is_left_out_and_counted(house: House) -> None:
    house.write(Flow(client_port=1))
    house.write(Flow(client_port=2))
    with closing(sqlite3.connect(house.path)) as database, database:
        database.execute("UPDATE block SET data = zeroblob(length(data)) WHERE seq = 1")
    assert [one.view.client.port for one in house.history_reader.flows(EVER, 10).flows] == [2]
    assert house.history_reader.unreadable == 1
    for _ in range(20):
        house.write(Flow())
        house.store.merge()
    assert house.store.flows == 22, "joining blocks leaves it where it is"


def test_no_file_is_an_error_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(HistoryError) as caught:
        HistoryReader(str(tmp_path / "none"), peer_name=str, translated_ends=True).flows(EVER, 1)
    assert caught.value.reason == "cannot_open"
