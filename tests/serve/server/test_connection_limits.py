"""Which connection is refused or closed when there are too many."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from flowmap.serve.server.connection_limits import IDLE_GRACE, MAX_CONNECTIONS, MAX_PER_CLIENT, evict_idle, over_limit

NOW = 100.0


@dataclass
class Member:
    """A connection that has been idle for long."""

    network: str = "10.0.0.1"
    answering: bool = False
    answered: int = 1
    since: float = 50.0


@pytest.mark.parametrize(
    ("own", "others", "limit"),
    [
        (0, 0, ""),
        (MAX_PER_CLIENT - 1, 0, ""),
        (MAX_PER_CLIENT, 0, "client"),
        (0, MAX_CONNECTIONS - 1, ""),
        (0, MAX_CONNECTIONS, "connections"),
        (MAX_PER_CLIENT, MAX_CONNECTIONS, "client"),
    ],
)
def test_limits(own: int, others: int, limit: str) -> None:
    members = [Member()] * own + [Member(network=f"10.0.1.{n}") for n in range(others)]
    assert over_limit(members, "10.0.0.1") == limit


@pytest.mark.parametrize(
    ("members", "network", "closed"),
    [
        ([], None, None),
        ([Member(answering=True)], None, None),
        ([Member(since=NOW - IDLE_GRACE / 2)], None, None),
        ([Member(since=NOW - IDLE_GRACE)], None, 0),
        ([Member(since=60), Member(since=40)], None, 1),
        ([Member(since=40), Member(since=60, answered=0)], None, 1),
        ([Member("a", since=40), Member("b", since=60), Member("b", since=70)], None, 1),
        ([Member("a", since=60), Member("b", since=40)], "a", 0),
        ([Member("b")], "a", None),
    ],
    ids=[
        "none",
        "answering",
        "just idle",
        "idle",
        "the oldest",
        "without a request",
        "of the largest client",
        "of the client",
        "of none other",
    ],
)
def test_the_idle_connection_to_close(members: list[Member], network: str | None, closed: int | None) -> None:
    assert evict_idle(members, network, NOW) is (None if closed is None else members[closed])
