"""Parameters: what each text means, and which are refused by name."""

from __future__ import annotations

import time
from typing import Any

import pytest

from flowmap.model.address import Address
from flowmap.model.deployment import State
from flowmap.model.views import EndpointFilter, FlowFilter
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ADDRESSES, ask, fields

ATTRIBUTION_ROWS: list[tuple[str, Any]] = [
    (ADDRESSES, ("10.0.0.1", None, "10.0.0.9", None, "tcp", None)),
    ("srcIp=::ffff:1.2.3.4&dstIp=2001:DB8:0::1", ("1.2.3.4", None, "2001:db8::1", None, "tcp", None)),
    (f"{ADDRESSES}&protocol=17", ("10.0.0.1", None, "10.0.0.9", None, "udp", None)),
    (f"{ADDRESSES}&protocol=&srcPort=", ("10.0.0.1", None, "10.0.0.9", None, "tcp", None)),
    (f"{ADDRESSES}&at=1700000000.5", ("10.0.0.1", None, "10.0.0.9", None, "tcp", 1700000000.5)),
    (f"{ADDRESSES}&at=2023-11-14T22:13:20Z", ("10.0.0.1", None, "10.0.0.9", None, "tcp", 1700000000.0)),
    (f"{ADDRESSES}&at=2023-11-15T06:13:20.5+08:00", ("10.0.0.1", None, "10.0.0.9", None, "tcp", 1700000000.5)),
    ("", ["srcIp", "dstIp"]),
    ("srcIp=10.0.0.1", ["dstIp"]),
    ("srcIp=1.2.3&srcPort=0&dstIp=fe80::1%25eth0&dstPort=65536", ["srcIp", "srcPort", "dstIp", "dstPort"]),
    (f"{ADDRESSES}&srcPort=-1&dstPort=1e3", ["srcPort", "dstPort"]),
    (f"{ADDRESSES}&srcPort=%D9%A3&dstPort=+80", ["srcPort", "dstPort"]),
    (f"{ADDRESSES}&protocol=quic", ["protocol"]),
    (f"{ADDRESSES}&protocol=256", ["protocol"]),
    (f"{ADDRESSES}&at=yesterday", ["at"]),
    (f"{ADDRESSES}&at=2023-11-14T22:13:20", ["at"]),
    (f"{ADDRESSES}&at=2023-02-30T22:13:20Z", ["at"]),
    (f"{ADDRESSES}&at=0001-01-01T00:00:00%2B23:59", ["at"]),
    (f"{ADDRESSES}&at=999999999999", ["at"]),
    (f"{ADDRESSES}&at=nan", ["at"]),
    (f"{ADDRESSES}&srcIp=10.0.0.2", ["srcIp"]),
    (f"{ADDRESSES}&sourcePort=1", ["sourcePort"]),
    (f"{ADDRESSES}&srcPort=%00&%FF=%FF", ["\ufffd", "srcPort"]),
]


@pytest.mark.parametrize(("query", "expected"), ATTRIBUTION_ROWS)
def test_attribution_parameters(query: str, expected: Any) -> None:
    backend = FakeBackend()
    response = ask(f"/api/v1/attribution?{query}", backend=backend)
    if isinstance(expected, list):
        assert fields(response) == expected
        assert backend.asked == []
    else:
        assert response.status_code == 200
        assert backend.asked == [expected]


def client(address: str, port: int | None = None) -> EndpointFilter:
    return EndpointFilter(Address.parse(address), port)


FLOW_ROWS: list[tuple[str, Any]] = [
    ("", (FlowFilter(), 100, None)),
    ("limit=1000&cursor=abc", (FlowFilter(), 1000, "abc")),
    (
        "deployment=a%20b&peer=kafka&client=10.0.0.1&state=shared&protocol=UDP",
        (FlowFilter("a b", "kafka", client("10.0.0.1"), State.SHARED, 17), 100, None),
    ),
    ("client=[2001:DB8::1]:80", (FlowFilter(client=client("2001:db8::1", 80)), 100, None)),
    ("client=2001:db8::1", (FlowFilter(client=client("2001:db8::1")), 100, None)),
    ("client=10.0.0.1:80", (FlowFilter(client=client("10.0.0.1", 80)), 100, None)),
    ("client=::ffff:10.0.0.1", (FlowFilter(client=client("10.0.0.1")), 100, None)),
    ("peer=::ffff:10.1.0.1", (FlowFilter(peer="10.1.0.1"), 100, None)),
    ("peer=[2001:DB8::1]:443", (FlowFilter(peer="[2001:db8::1]:443"), 100, None)),
    ("peer=kafka:blue", (FlowFilter(peer="kafka:blue"), 100, None)),
    ("limit=0", ["limit"]),
    ("limit=1001", ["limit"]),
    ("limit=many&state=lost&client=x:1", ["client", "state", "limit"]),
    ("client=10.0.0.1:99999", ["client"]),
    ("depoyment=x", ["depoyment"]),
    ("deployment=" + "x" * 513, ["deployment"]),
    ("cursor=stale", ["cursor"]),
    ("from=1700000000&to=2023-11-14T22:13:21Z", (FlowFilter(since=1700000000.0, until=1700000001.0), 100, None)),
    ("from=yesterday&to=2x", ["from", "to"]),
]


@pytest.mark.parametrize(("query", "expected"), FLOW_ROWS)
def test_flow_parameters(query: str, expected: Any) -> None:
    backend = FakeBackend()
    response = ask(f"/api/v1/flows?{query}", backend=backend)
    if isinstance(expected, list):
        assert fields(response) == expected
    else:
        assert response.json()["nextCursor"] == "next"
        assert len(response.json()["flows"]) == 2
        assert backend.asked == [expected]


@pytest.mark.parametrize(("ago", "seconds"), [("2h", 7200), ("1h30m", 5400), ("0s", 0), ("1.5d", 129600)])
def test_a_time_can_be_so_long_ago(ago: str, seconds: float) -> None:
    backend = FakeBackend()
    ask(f"/api/v1/flows?from={ago}", backend=backend)
    [asked] = backend.asked
    assert isinstance(asked, tuple)
    wanted = asked[0]
    assert abs(time.time() - seconds - wanted.since) < 60


WINDOW_ROWS: list[tuple[str, Any]] = [
    ("?from=1700000000&to=1700003600", ("id-1", 1700000000.0, 1700003600.0)),
    ("?to=1700003600", ("id-1", 1700003600.0 - 86400, 1700003600.0)),
    ("?from=1700003600&to=1700000000", ["from"]),
    ("?since=1", ["since"]),
    ("/changes?from=1700000000&to=1700003600", ("id-1", (1699996400.0, 1700000000.0), (1700000000.0, 1700003600.0))),
    (
        "/changes?from=1700000000&to=1700003600&beforeFrom=1600000000&beforeTo=1600000001",
        ("id-1", (1600000000.0, 1600000001.0), (1700000000.0, 1700003600.0)),
    ),
    ("/changes?from=1700000000&to=1700003600&beforeFrom=1700000001", ["beforeFrom"]),
]


@pytest.mark.parametrize(("query", "expected"), WINDOW_ROWS)
def test_windows_of_peers(query: str, expected: Any) -> None:
    backend = FakeBackend()
    response = ask(f"/api/v1/deployments/id-1/peers{query}", backend=backend)
    if isinstance(expected, list):
        assert fields(response) == expected
    else:
        assert backend.asked == [expected]
        (seen,) = response.json()["new" if "changes" in query else "peers"]
        assert (seen["peer"], seen["firstSeen"]) == ("10.0.0.9:9092", "2023-11-14T22:13:20.000Z")
        if "changes" not in query:
            assert response.json()["to"] == "2023-11-14T23:13:20.000Z"


@pytest.mark.parametrize(("window", "status"), [("from=2&to=1", 400), ("from=1&to=1", 200), ("to=1", 200)])
def test_a_window_that_ends_before_it_begins(window: str, status: int) -> None:
    answer = ask(f"/api/v1/flows?{window}")
    assert answer.status_code == status
    assert status == 200 or "the window ends before it begins" in answer.text
