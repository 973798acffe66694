"""One host's flows, sent over HTTP and read from ClickHouse, are what its own history answers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from flowmap.clickhouse.bodies import Origin
from flowmap.clickhouse.reader import StoreReader
from flowmap.clickhouse.sender import Sender
from flowmap.clickhouse.server import Server, ServerAddress
from flowmap.export.peers import Peers
from flowmap.history.closed_flows import Fact
from flowmap.history.file import Limits
from flowmap.history.reader import HistoryReader
from flowmap.history.spool import Spool
from flowmap.history.store import HistoryStore
from flowmap.history.stored import StoredFlow
from flowmap.model.address import Address
from flowmap.model.deployment import State
from flowmap.model.views import Connection, EndpointFilter, FlowFilter
from flowmap.model.workload import Workload
from tests.clickhouse.stand_in import StandIn
from tests.support.closed_flows import NOW, Flow, X, Y, closed, replace

NAMED = Peers({"kafka": ["10.1.0.1:9092"]})
POD = Workload("/kubepods/pod1/f", container="f" * 64, unit="cri-containerd-f.scope", container_name="taskmanager")
KAFKA = Workload("/system.slice/kafka.service", unit="kafka.service")


class Both(NamedTuple):
    """The two readers of the same flows."""

    history: HistoryReader
    store: StoreReader
    flows: list[Flow]


def made(count: int) -> list[Flow]:
    """Flows with every kind of fact. Each tuple is used twice, the second time after a while."""
    dice = random.Random(18)
    flows = []
    for number in range(count):
        born = NOW - dice.randrange(1200, 3000)
        flow = Flow(
            client=f"10.0.0.{dice.randrange(1, 4)}",
            client_port=40000 + number,
            server=dice.choice(("10.1.0.1", "10.1.0.2", "2001:db8::1")),
            server_port=dice.choice((9092, 3306)),
            protocol=dice.choice((6, 6, 6, 17)),
            born=born,
            ended=born + dice.randrange(0, 600),
            counters=(dice.randrange(1 << 40), dice.randrange(1 << 20), dice.randrange(99), dice.randrange(99)),
            owners=dice.choice(((), (X,), (Y,), (X, Y))),
            flags=dice.choice((0, 0, Fact.PREEXISTING, Fact.GUESSED, Fact.CUT, Fact.UNBOUNDED)),
            translated=dice.choice((None, None, ("10.9.0.1", 5000 + number, "10.9.0.2", 60))),
            doubt=dice.choice((0.0, 2.5)),
            client_workload=dice.choice((None, POD)),
            server_workload=dice.choice((None, None, KAFKA)),
        )
        later = flow.ended + dice.randrange(10, 600)
        flows += [flow, replace(flow, born=later, ended=later + 5, owners=dice.choice(((), (X,), (Y,))), flags=0)]
    return flows


@pytest.fixture
def both(tmp_path: Path, stand_in: StandIn) -> Iterator[Both]:
    path, flows = str(tmp_path / "history.db"), made(40)
    file = HistoryStore(path, Limits(retain=1e9, max_size=16 << 20))
    file.open()
    file.write(closed(*flows), (), now=NOW)
    server = Server(ServerAddress(stand_in.url))
    origin = Origin("web-1", counts={"scripted": "ip"}, peer_name=lambda key: NAMED.named(key) or "")
    sender = Sender(Spool(path), server, origin, source="scripted")
    sender.turn()
    assert sender.figures.sent == len(flows)
    history = HistoryReader(path, peer_name=NAMED.name, translated_ends=True)
    yield Both(history, StoreReader(server, translated_ends=True, clock=lambda: NOW), flows)
    server.close()
    file.close()


def seen(flows: list[StoredFlow]) -> Counter[object]:
    """What is known of each flow, without what only a fleet has."""
    return Counter(
        (
            *(one.view.protocol, one.view.client, one.view.server, one.view.translated),
            *(one.view.started_at, one.view.ended_at, one.view.guessed, one.view.source, one.view.local),
            *(one.view.transmit_bytes, one.view.receive_bytes),
            *(one.view.transmit_packets, one.view.receive_packets),
            *(one.view.state, tuple(info.owner for info in one.view.deployments)),
            *(one.evidence, one.cause, one.begun_after, one.sure),
        )
        for one in flows
    )


HOUR = NOW - 3600
"""All flows are younger. All of the past takes eleven statements."""
FILTERS = [
    FlowFilter(),
    FlowFilter(since=HOUR, deployment="x"),
    FlowFilter(since=HOUR, deployment="id-y", state=State.SHARED),
    FlowFilter(since=HOUR, state=State.UNKNOWN, protocol=17),
    FlowFilter(since=HOUR, client=EndpointFilter(Address.parse("10.0.0.2"), 40001)),
    FlowFilter(since=HOUR, peer="kafka"),
    FlowFilter(since=HOUR, peer="10.1.0.2:3306"),
    FlowFilter(since=HOUR, peer="10.9.0.2"),
    FlowFilter(since=NOW - 1500, until=NOW - 700),
    FlowFilter(until=NOW - 1000, peer="kafka", deployment="x"),
    FlowFilter(since=HOUR, container="taskmanager"),
    FlowFilter(container="f" * 12, since=NOW - 900),
    FlowFilter(since=HOUR, unit="kafka", deployment="y"),
]


def test_listings(both: Both) -> None:
    for wanted in FILTERS:
        ours, _ = both.store.flows(wanted, 1000, None)
        theirs = list(both.history.flows(wanted, 1000).flows)
        if wanted.peer is not None:  # a fleet finds the endpoint before NAT, too
            known = seen(theirs)
            assert seen(list(ours)) >= known, wanted
        else:
            assert seen(list(ours)) == seen(theirs), wanted


def test_moments(both: Both) -> None:
    for flow in both.flows[:12:2]:
        wanted = Connection(
            *(Address.parse(flow.client), flow.client_port, Address.parse(flow.server), flow.server_port),
            flow.protocol,
        )
        for moment in (flow.born - 1.0, (flow.born + flow.ended) / 2, flow.ended + 0.5):
            theirs = both.history.at(wanted, moment)
            assert seen(both.store.at(wanted, moment)) == seen(theirs)
        last = both.store.last(wanted)
        theirs = both.history.last(wanted)
        assert last is not None and theirs
        assert last.view.started_at == theirs[0].view.started_at or last.view.ended_at == theirs[0].view.ended_at
    lookups = [Connection(Address.parse(f.client), None, Address.parse(f.server), None, 6).lookup for f in both.flows]
    ours = both.store.at_several(lookups, NOW - 500)
    theirs_several = both.history.at_several(lookups, NOW - 500)
    assert [seen(one) for one in ours] == [seen(one) for one in theirs_several]


def test_peers(both: Both) -> None:
    for deployment in (None, "x", "id-y"):
        for since, until in ((0.0, NOW + 1), (NOW - 1500, NOW - 700), (NOW - 10, NOW)):
            theirs = {one.place[:4]: one for one in both.history.peers(deployment, since, until)}
            found = both.store.peers(deployment, since, until)
            assert {one.place[:4] for one in found.peers} == theirs.keys()
            for one in found.peers:
                other = theirs[one.place[:4]]
                assert (one.traffic, one.first_seen, one.last_seen, one.counts) == (
                    *(other.traffic, other.first_seen, other.last_seen),
                    "ip",
                )
