"""Writes the history file in ``tests/data/history``: ``python -m tests.support.stored_history FILE``."""

from __future__ import annotations

import sys

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.questions import Question, Shape
from flowmap.history.closed_flows import Fact
from flowmap.history.file import Limits
from flowmap.history.intervals import StoredInterval
from flowmap.history.store import HistoryStore
from flowmap.model.address import Address, Endpoint
from tests.support.closed_flows import NOW, Flow, X, Y, closed

LIMITS = Limits(retain=3600.0, max_size=4 << 20)
CLIENT = Question("ns", Shape.CLIENT, Endpoint(Address.parse("10.0.0.1"), 0), None, "w")
SINK = Question("ns", Shape.SINK, None, Endpoint(Address.parse("10.1.0.1"), 9092), "w")
FLOWS = (
    Flow(doubt=0.5),
    Flow(client="2001:db8::1", server="2001:db8::2", server_port=443, owners=(X, Y)),
    Flow(protocol=17, server_port=53, client_port=40001, owners=(), flags=Fact.GUESSED | Fact.UNBOUNDED),
    Flow(client_port=40002, translated=("192.0.2.1", 1024, "10.8.0.1", 8080), owners=(Y,)),
    Flow(client_port=40003, born=NOW - 900, flags=Fact.PREEXISTING | Fact.CUT, counters=(1 << 40, 0, 1 << 32, 0)),
)
INTERVALS = (
    StoredInterval(
        CLIENT,
        OwnershipInterval(frozenset((X,)), NOW - 60, NOW - 59, NOW - 30, NOW - 29, 3, NOW - 20, "denied"),
        continues=False,
        boot=7,
        epoch=1e9,
    ),
    StoredInterval(
        SINK,
        OwnershipInterval(frozenset((X, Y)), NOW - 60, NOW - 59, NOW - 2, NOW - 1, 4),
        continues=False,
        boot=7,
        epoch=1e9,
    ),
)


def main(path: str) -> None:
    """Write two blocks, one closed interval and one that may grow."""
    store = HistoryStore(path, LIMITS)
    store.open()
    store.write(closed(*FLOWS[:3]), INTERVALS, now=NOW)
    store.write(closed(*FLOWS[3:]), (), now=NOW)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1])
