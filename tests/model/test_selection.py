"""Which deployments and peers a question is about."""

from __future__ import annotations

import math

import pytest

from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.selection import LabelFilter, Selection

ORDERS = DeploymentInfo(Owner("w", "ns", "id-1", "orders-archive"), labels={"team": "orders"})

DEPLOYMENTS = [
    (Selection(), True),
    (Selection(deployment="id-1"), True),
    (Selection(deployment="orders-archive"), True),
    (Selection(deployment="orders-*"), True),
    (Selection(deployment="order?-archive"), True),
    (Selection(deployment="orders"), False),
    (Selection(deployment="[o]rders-archive"), False),  # brackets alone are no glob
    (Selection(deployment="id-*"), False),
    (Selection(label=LabelFilter("team", ("billing", "orders"))), True),
    (Selection(label=LabelFilter("team", ("billing",))), False),
    (Selection(label=LabelFilter("owner", ("orders",))), False),
    (Selection(deployment="orders-*", label=LabelFilter("team", ("billing",))), False),
]


@pytest.mark.parametrize(("selection", "expected"), DEPLOYMENTS)
def test_deployments(selection: Selection, expected: bool) -> None:
    assert selection.has(ORDERS) == expected
    assert selection.has_any([DeploymentInfo(Owner("w", "ns", "x", "y")), ORDERS]) == expected


PEERS = [(None, True), ("kafka", True), ("k*", True), ("10.0.0.9:9092", True), ("10.0.0.*", True), ("mysql", False)]


@pytest.mark.parametrize(("peer", "expected"), PEERS)
def test_peers(peer: str | None, expected: bool) -> None:
    assert Selection(peer=peer).has_peer("kafka", "10.0.0.9:9092") == expected


def test_windows() -> None:
    assert (Selection().window, Selection().of_past) == ((-math.inf, math.inf), False)
    assert (Selection(since=1.0).window, Selection(until=2.0).window) == ((1.0, math.inf), (-math.inf, 2.0))
    assert Selection(since=1.0).of_past and Selection(until=1.0).of_past
