"""Sockets seen before: counters, reuse, lingering."""

from __future__ import annotations

from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.sources.sockets.tracker import SocketTracker, counts
from flowmap.wire.netlink.inet_diag import SocketState
from tests.support.tcp_sockets import facts, rows, sock


def test_counters_never_decrease() -> None:
    tracker = SocketTracker()
    first = rows(sock(cookie=5, bytes_acked=1001, bytes_sent=1000, bytes_received=10, segments_out=0xFFFF_FFFF))
    tracker.adopt(first, facts())
    second = rows(sock(cookie=5, bytes_acked=1001, bytes_sent=1000, bytes_received=10, segments_out=4))
    second["state"] = SocketState.CLOSE_WAIT  # a FIN was counted as payload a moment too early
    again = tracker.recall(second)
    tracker.adopt(second, again)
    assert (again["sent"][0], again["received"][0], again["out"][0]) == (1000, 10, (1 << 32) + 4)
    assert again["fin"][0]


def test_reused_socket() -> None:
    tracker = SocketTracker()
    tracker.adopt(rows(sock(cookie=5)), facts())
    assert tracker.recall(rows(sock(cookie=5)))["role"].tolist() == [1]
    assert tracker.recall(rows(sock(cookie=5, ports=(40001, 9092)), sock(cookie=6)))["role"].tolist() == [0, 0]


def test_lingering_socket() -> None:
    tracker = SocketTracker()
    tracker.adopt(rows(sock(cookie=5), sock(cookie=6)), facts(number=2))
    assert len(tracker.lingering()) == 0
    tracker.adopt(rows(sock(cookie=6)), tracker.recall(rows(sock(cookie=6))))
    batch = tracker.lingering()
    assert (batch.id.tolist(), batch.kind.tolist()) == ([5], [RecordKind.DUMPED]) and batch.flags[0] & Flag.ENDING
    known = tracker.mark_destroyed(5)
    assert known is not None and known.socket.cookie == 5
    assert tracker.mark_destroyed(5) is None and tracker.mark_destroyed(99) is None
    assert len(tracker.lingering()) == 0
    tracker.adopt(rows(), facts(number=0))
    tracker.drop_lingering()
    assert tracker.is_forgotten(6) and not tracker.is_forgotten(5)
    assert tracker.mark_destroyed(6) is None


def test_server_socket_within_this_host_does_not_count() -> None:
    assert [bool(counts(facts(role, here=here))[0]) for role in (1, -1) for here in (True, False)] == [
        *(True, True),
        *(False, True),
    ]
