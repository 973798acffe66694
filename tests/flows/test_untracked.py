"""Connections that nobody counts: told when they are, and never of others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowmap.engine.commands import TakeStep
from flowmap.flows.batch import Flag, RecordKind
from flowmap.sources.base import Lost, MeasuringFinished, ReadFinished, ReadStarted, Step
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of, replace

OPENED, DUMPED, CLOSED, MEASURED = RecordKind.OPENED, RecordKind.DUMPED, RecordKind.CLOSED, RecordKind.MEASURED
SOCKET = Record(MEASURED, id=0, retransmits=0, flags=int(Flag.PRESENT | Flag.ASSURED))
FLOW = Record(DUMPED, id=7)


def of(n: int) -> tuple[int, int, int, int]:
    return n, 2 * n, n, n


class Day:
    """Books, and sockets and flows that work or idle, a second a read."""

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
        """A full read of the sockets, all of which have carried ``grows`` bytes more; what is told then."""
        self.payload += grows
        self(batch_of(*(replace(one, counters=of(self.payload)) for one in records)), MeasuringFinished(complete))
        return self.accounting.table.untracked.connections

    def watch(self, *sockets: Record, flows: tuple[Record, ...] = (), grows: int = 10) -> list[int]:
        """What is told in five rounds of both reads."""
        told = []
        for _ in range(5):
            told.append(self.sockets(*sockets, grows=grows))
            self.flows(*flows)
        return told


def test_a_connection_without_a_flow_is_told_once_a_later_read_of_the_flows_lacks_it() -> None:
    assert Day().watch(SOCKET) == [0, 0, 1, 1, 1]


def test_so_is_one_whose_flow_stands_still() -> None:
    """An entry of conntrack from before the last rule went stays for days."""
    still = replace(FLOW, counters=of(500))
    assert Day().watch(SOCKET, flows=(still,)) == [0, 0, 0, 1, 1]


def test_all_of_them_are_counted() -> None:
    others = [replace(SOCKET, client_port=port) for port in (1, 2, 3)]
    day = Day()
    assert day.watch(*others, SOCKET)[-1] == 4
    assert day.sockets(*others) == 3
    assert day.sockets() == 0


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
def test_nothing_is_told_of(socket: Record, flows: tuple[Record, ...]) -> None:
    day = Day(exclude=("10.9.0.0/16",))
    assert day.watch(socket, flows=flows) == [0] * 5
    assert day.watch(SOCKET, flows=(replace(FLOW, client_port=1, counters=of(5)),))[-1] == 1, "others are"


def test_idle_connections_may_have_lost_their_entries() -> None:
    assert Day().watch(SOCKET, grows=0) == [0] * 5


def test_a_flow_that_grows_is_counted() -> None:
    day = Day()
    for n in range(5):
        assert day.sockets(SOCKET) == 0
        day.flows(replace(FLOW, counters=of(100 + n)))
    assert day.watch(SOCKET, flows=(replace(FLOW, counters=of(104)),))[-1] == 1


def test_it_is_over_when_the_flow_is_there_or_moves_again() -> None:
    for flow in (replace(FLOW, kind=OPENED, counters=of(1)), replace(FLOW, kind=OPENED, zone=3)):
        day = Day()
        assert day.watch(SOCKET)[-1] == 1
        day(batch_of(flow))
        assert day.sockets(SOCKET) == 0
    still = replace(FLOW, counters=of(500))
    day = Day()
    assert day.watch(SOCKET, flows=(still,))[-1] == 1
    day.flows(replace(still, counters=of(501)))
    assert day.sockets(SOCKET) == 0


@pytest.mark.parametrize(
    "instead",
    [
        lambda day: day.flows(complete=False),
        lambda day: day(ReadStarted("timer"), Lost("overrun"), ReadFinished(True)),
        lambda day: day(Lost("overrun")),
    ],
    ids=["incomplete", "losses", "no read"],
)
def test_flows_that_were_perhaps_missed_are_not_missing(instead: Callable[[Day], None]) -> None:
    day = Day()
    for _ in range(5):
        assert day.sockets(SOCKET) == 0
        instead(day)
    day.flows()
    assert day.sockets(SOCKET) == 1


def test_an_incomplete_read_of_the_sockets_says_nothing() -> None:
    day = Day()
    assert day.watch(SOCKET)[-1] == 1
    assert day.sockets(complete=False) == 1
    assert day.sockets(replace(SOCKET, client_port=5), complete=False) == 1
    assert day.sockets() == 0


def test_flows_without_room_are_not_missing() -> None:
    day = Day(max_flows=2)
    others = tuple(replace(FLOW, client_port=port, counters=of(5)) for port in (1, 2, 3))
    assert day.watch(SOCKET, flows=others) == [0] * 5
    assert day.accounting.shed
    assert day.watch(SOCKET, flows=others[:1])[-1] == 1, "there is room again"


def test_another_connection_with_the_same_ends_is_not_the_one_before() -> None:
    day = Day()
    assert day.watch(SOCKET)[-1] == 1
    day.payload = 0
    assert day.sockets(SOCKET) == 0
    day.flows()
    assert day.sockets(SOCKET) == 0
    day.flows()
    assert day.sockets(SOCKET) == 1


def test_zeroed_counters_do_not_stand_still() -> None:
    day = Day()
    day.flows(replace(FLOW, counters=of(500)))
    for n in range(6):
        assert day.sockets(SOCKET) == 0
        day.flows(replace(FLOW, counters=of(n)))
