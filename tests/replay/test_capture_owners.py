"""What a catalog says of an instant, and where it says nothing."""

from __future__ import annotations

import math

import pytest

from flowmap.attribute.questions import Question, Shape
from flowmap.catalog_file.catalog import CatalogFile
from flowmap.catalog_file.matching import Index
from flowmap.model.address import Address, Endpoint
from flowmap.replay.capture_owners import CHANGING, LATENCY, catalog_changes, from_catalog, never

CATALOG = CatalogFile.model_validate(
    {
        "deployments": [
            {"id": "a", "name": "a", "addresses": [{"ip": "10.0.0.1", "until": 1000}]},
            {"id": "b", "name": "b", "addresses": [{"ip": "10.0.0.1", "since": 1000}]},
            {"id": "c", "name": "c", "addresses": [{"ip": "10.0.0.2", "since": 1003, "until": 1003.5}]},
            {
                "id": "d",
                "name": "d",
                "addresses": ["10.0.0.3"],
                "jobs": [{"id": "j", "status": "RUNNING", "startTime": 900, "endTime": 1001}],
            },
        ]
    }
)


@pytest.mark.parametrize(
    ("address", "now", "owners"),
    [
        ("10.0.0.1", 997.9, ["a"]),
        ("10.0.0.1", 998.1, None),
        ("10.0.0.1", 1000.0, None),
        ("10.0.0.1", 1002.1, ["b"]),
        ("10.0.0.2", 1000.9, []),
        ("10.0.0.2", 1001.1, None),  # c's moment lies within the grace, though neither end of it does
        ("10.0.0.2", 1005.6, []),
        ("10.0.0.3", 998.9, ["d"]),
        ("10.0.0.3", 999.1, None),
        ("10.0.0.3", 1003.1, []),
        ("10.0.0.9", 1000.0, []),
    ],
)
def test_nobody_is_named_near_a_change_of_owners(address: str, now: float, owners: list[str] | None) -> None:
    question = Question("default-namespace", Shape.CLIENT, Endpoint(Address.parse(address), 0), None)
    reply = from_catalog(Index(CATALOG), grace=2.0)(question, now)
    assert reply.arrives == now + LATENCY
    given = reply.result.answer
    assert (None if given is None else sorted(owner.name for owner in given.owners)) == owners
    if given is None:
        assert reply.result.cause == CHANGING
        assert reply.result.retry_after is not None and 0 < reply.result.retry_after < 10


@pytest.mark.parametrize(
    ("now", "last", "following"),
    [(0.0, -math.inf, 1002.0), (1002.5, 1002.0, 1003.0), (1004.0, 1003.0, 1005.0), (2000.0, 1005.5, math.inf)],
)
def test_changes_of_owners(now: float, last: float, following: float) -> None:
    changes = catalog_changes(CATALOG, grace=2.0)(now)
    assert changes == pytest.approx((last, following), abs=0.1)


def test_answers_of_now_never_change() -> None:
    assert never(5.0) == (-math.inf, math.inf)
