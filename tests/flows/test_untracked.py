"""Connections that no source counts are found, and no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.sources.base import Lost, MeasuringFinished, ReadFinished, ReadStarted, Step
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of, replace

OPENED, DUMPED, CLOSED, MEASURED = RecordKind.OPENED, RecordKind.DUMPED, RecordKind.CLOSED, RecordKind.MEASURED
SOCKET = Record(MEASURED, id=0, retransmits=0, flags=int(Flag.PRESENT | Flag.ASSURED))
FLOW = Record(DUMPED, id=7)


def of(n: int) -> tuple[int, int, int, int]:
    return n, 2 * n, n, n


class ComparedReads:
    """An accounting with reads of sockets and of flows, a second each."""

    def __init__(self, *, max_flows: int = 8, exclude: tuple[str, ...] = ()) -> None:
        self.accounting = accounting_for(max_flows=max_flows, exclude=exclude)
        self.now, self.payload = 100.0, 1000
        self.flows()

    def __call__(self, *steps: Step) -> None:
        for step in steps:
            self.now += 0.125
            self.accounting.apply(TakeStep(step, self.now, self.now))

    def flows(self, *records: Record, complete: bool = True) -> None:
        """A full read of the source that counts."""
        self(ReadStarted("timer"), batch_of(*records), ReadFinished(complete))

    def sockets(self, *records: Record, grows: int = 10, complete: bool = True) -> int:
        """A full read of the sockets, all of which have carried ``grows`` bytes more; what is found then."""
        self.payload += grows
        self(batch_of(*(replace(one, counters=of(self.payload)) for one in records)), MeasuringFinished(complete))
        return self.accounting.table.untracked.connections

    def watch(self, *sockets: Record, flows: tuple[Record, ...] = (), grows: int = 10) -> list[int]:
        """What is found in five rounds of both reads."""
        found = []
        for _ in range(5):
            found.append(self.sockets(*sockets, grows=grows))
            self.flows(*flows)
        return found


def test_a_connection_without_a_flow() -> None:
    assert ComparedReads().watch(SOCKET) == [0, 0, 1, 1, 1]


def test_a_flow_that_does_not_grow() -> None:
    """An entry of conntrack from before the last rule went stays for days."""
    still = replace(FLOW, counters=of(500))
    assert ComparedReads().watch(SOCKET, flows=(still,)) == [0, 0, 0, 1, 1]


def test_several_connections() -> None:
    others = [replace(SOCKET, client_port=port) for port in (1, 2, 3)]
    reads = ComparedReads()
    assert reads.watch(*others, SOCKET)[-1] == 4
    assert reads.sockets(*others) == 3
    assert reads.sockets() == 0


NEVER: list[tuple[str, Record, tuple[Record, ...]]] = [
    ("a server's socket", replace(SOCKET, flags=int(Flag.ASSURED)), ()),
    ("one that closes", replace(SOCKET, flags=SOCKET.flags | int(Flag.ENDING)), ()),
    ("one that opens", replace(SOCKET, flags=int(Flag.PRESENT)), ()),
    ("a guess", replace(SOCKET, flags=SOCKET.flags | int(Flag.GUESSED)), ()),
    ("loopback", replace(SOCKET, client="127.0.0.1", server="127.8.0.1"), ()),
    ("loopback of IPv6", replace(SOCKET, client="::1", server="::1"), ()),
    ("excluded", replace(SOCKET, server="10.9.0.1"), ()),
    ("excluded, with a flow", replace(SOCKET, server="10.9.0.1"), (replace(FLOW, server="10.9.0.1", counters=of(5)),)),
    ("a flow without counters", SOCKET, (FLOW,)),
    ("in a zone", SOCKET, (replace(FLOW, zone=5),)),
    (
        "begun by the server",
        SOCKET,
        (replace(FLOW, client="10.1.0.1", client_port=9092, server="10.0.0.1", server_port=40000),),
    ),
]


@pytest.mark.parametrize(("socket", "flows"), [row[1:] for row in NEVER], ids=[row[0] for row in NEVER])
def test_skipped_sockets(socket: Record, flows: tuple[Record, ...]) -> None:
    reads = ComparedReads(exclude=("10.9.0.0/16",))
    assert reads.watch(socket, flows=flows) == [0] * 5
    assert reads.watch(SOCKET, flows=(replace(FLOW, client_port=1, counters=of(5)),))[-1] == 1, "others are"


def test_idle_connections() -> None:
    assert ComparedReads().watch(SOCKET, grows=0) == [0] * 5


def test_a_growing_flow() -> None:
    reads = ComparedReads()
    for n in range(5):
        assert reads.sockets(SOCKET) == 0
        reads.flows(replace(FLOW, counters=of(100 + n)))
    assert reads.watch(SOCKET, flows=(replace(FLOW, counters=of(104)),))[-1] == 1


def test_a_flow_appears_or_grows_again() -> None:
    for flow in (replace(FLOW, kind=OPENED, counters=of(1)), replace(FLOW, kind=OPENED, zone=3)):
        reads = ComparedReads()
        assert reads.watch(SOCKET)[-1] == 1
        reads(batch_of(flow))
        assert reads.sockets(SOCKET) == 0
    still = replace(FLOW, counters=of(500))
    reads = ComparedReads()
    assert reads.watch(SOCKET, flows=(still,))[-1] == 1
    reads.flows(replace(still, counters=of(501)))
    assert reads.sockets(SOCKET) == 0


@pytest.mark.parametrize(
    "instead",
    [
        lambda reads: reads.flows(complete=False),
        lambda reads: reads(ReadStarted("timer"), Lost("overrun"), ReadFinished(True)),
        lambda reads: reads(Lost("overrun")),
    ],
    ids=["incomplete", "losses", "no read"],
)
def test_perhaps_missed_flows(instead: Callable[[ComparedReads], None]) -> None:
    reads = ComparedReads()
    for _ in range(5):
        assert reads.sockets(SOCKET) == 0
        instead(reads)
    reads.flows()
    assert reads.sockets(SOCKET) == 1


def test_an_incomplete_read_of_the_sockets() -> None:
    reads = ComparedReads()
    assert reads.watch(SOCKET)[-1] == 1
    assert reads.sockets(complete=False) == 1
    assert reads.sockets(replace(SOCKET, client_port=5), complete=False) == 1
    assert reads.sockets() == 0


def test_refused_flows_are_not_missing() -> None:
    reads = ComparedReads(max_flows=2)
    others = tuple(replace(FLOW, client_port=port, counters=of(5)) for port in (1, 2, 3))
    assert reads.watch(SOCKET, flows=others) == [0] * 5
    assert reads.accounting.shed
    assert reads.watch(SOCKET, flows=others[:1])[-1] == 1, "there is room again"


def test_a_reused_tuple_is_another_connection() -> None:
    reads = ComparedReads()
    assert reads.watch(SOCKET)[-1] == 1
    reads.payload = 0
    assert reads.sockets(SOCKET) == 0
    reads.flows()
    assert reads.sockets(SOCKET) == 0
    reads.flows()
    assert reads.sockets(SOCKET) == 1


def test_zeroed_counters() -> None:
    reads = ComparedReads()
    reads.flows(replace(FLOW, counters=of(500)))
    for n in range(6):
        assert reads.sockets(SOCKET) == 0
        reads.flows(replace(FLOW, counters=of(n)))
