"""What a query of the map selects."""

from __future__ import annotations

import pytest

from flowmap.model.deployment import State
from flowmap.model.traffic_map import MapQuery, Order


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (MapQuery(), False),
        (MapQuery(text="orders"), True),
        (MapQuery(namespace="ns"), True),
        (MapQuery(label=("team", "orders")), True),
        (MapQuery(deployment="orders"), True),
        (MapQuery(peer="kafka"), True),
        (MapQuery(state=State.PENDING, order=Order.BYTES, limit=1, counts="ip"), False),
    ],
)
def test_what_names_an_owner_or_a_peer_leaves_out_pending_traffic(query: MapQuery, expected: bool) -> None:
    assert query.by_owner is expected
