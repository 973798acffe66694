"""The cgroup of short connections, from listeners that are certain."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.sources.sockets import listener_cgroups
from flowmap.sources.sockets.listener_cgroups import ListenerCgroups
from flowmap.wire.netlink.inet_diag import Socket
from tests.support.tcp_sockets import rows, sock


def listener(cookie: int, cgroup: int, port: int = 9092) -> Socket:
    return sock(ports=(port, 0), cookie=cookie, cgroup=cgroup)


A, B, OTHER_PORT = listener(1, 10), listener(2, 20), listener(3, 30, port=80)
AGAIN = listener(4, 10)

READS = [
    # listeners of two full reads, listeners now, cgroup
    ([[A], [A]], [A], 10),
    ([[A, OTHER_PORT], [A]], [A, OTHER_PORT], 10),
    ([[A, AGAIN], [A, AGAIN]], [AGAIN], 10),  # a group of one cgroup
    ([[A, B], [A, B]], [A, B], 0),  # a group of two cgroups
    ([[A], [B]], [B], 0),  # replaced
    ([[A], [AGAIN]], [AGAIN], 0),  # replaced by one of the same cgroup: another may have been between
    ([[A], [A]], [B], 0),
    ([[A], [A]], [A, B], 0),
    ([[A], [A, B]], [A], 0),
    ([[], [A]], [A], 0),
    ([[A]], [A], 0),
    ([[A], [A]], [], 0),
    ([[listener(1, 0)], [listener(1, 0)]], [listener(1, 0)], 0),
]


@pytest.mark.parametrize(("reads", "now", "cgroup"), READS)
def test_of_accepted(reads: list[list[Socket]], now: list[Socket], cgroup: int) -> None:
    known = ListenerCgroups()
    for read in reads:
        known.update(rows(*read))
    assert known.of_accepted(np.array([9092, 9093], np.uint32), rows(*now)).tolist() == [cgroup, 0]


def test_too_many_listeners_leave_none_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another listener of the port, in another cgroup, may be among those beyond the limit."""
    known = ListenerCgroups()
    monkeypatch.setattr(listener_cgroups, "LISTENER_LIMIT", 1)
    ports = np.array([9092], np.uint32)
    for read, now, dropped in (([A], [A], 0), ([A, B], [A], 1), ([A], [A], 1), ([A], [A, B], 1)):
        known.update(rows(*read))
        assert (known.of_accepted(ports, rows(*now)).tolist(), known.dropped) == ([0], dropped)
    assert known.of_accepted(ports, rows(A)).tolist() == [10]


def test_nothing_is_certain_after_a_pause() -> None:
    known = ListenerCgroups()
    for _ in range(2):
        known.update(rows(A))
    known.forget()
    known.update(rows(A))
    assert known.of_accepted(np.array([9092], np.uint32), rows(A)).tolist() == [0]


def test_only_the_last_reads_count() -> None:
    known = ListenerCgroups()
    for read in ([B], [A], [A]):
        known.update(rows(*read))
    assert known.of_accepted(np.array([9092], np.uint32), rows(A)).tolist() == [10]
