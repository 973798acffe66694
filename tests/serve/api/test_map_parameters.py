"""Parameters of the map and of the stream: what they ask the backend, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import QueryParams

from flowmap.model.address import Address
from flowmap.model.deployment import State
from flowmap.model.traffic_map import MapQuery, Order
from flowmap.model.views import EndpointFilter, FlowFilter
from flowmap.serve.api.map_parameters import EVENTS, LONGEST_STREAM, StreamParameters
from flowmap.serve.api.parameters import read_parameters
from flowmap.serve.api.problem import BadParameters
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ask, fields

MAP_ROWS: list[tuple[str, Any]] = [
    ("", (MapQuery(), None, None)),
    (
        "text=a+b&namespace=n&label=team%3Dx%3Dy&state=shared&deployment=d&peer=1.2.3.4:5&order=bytes&limit=7",
        (
            MapQuery("a b", "n", ("team", "x=y"), State.SHARED, "d", "1.2.3.4:5", Order.BYTES, 7),
            None,
            None,
        ),
    ),
    ("from=100&to=200", (MapQuery(), (100.0, 200.0), None)),
    ("from=100&to=200&beforeTo=90", (MapQuery(), (100.0, 200.0), (-10.0, 90.0))),
    ("from=100&to=200&beforeFrom=10", (MapQuery(), (100.0, 200.0), (10.0, 100.0))),
]


@pytest.mark.parametrize(("query", "expected"), MAP_ROWS)
def test_map_parameters(query: str, expected: Any) -> None:
    backend = FakeBackend()
    assert ask(f"/api/v1/map?{query}", backend=backend).status_code == 200
    assert backend.asked == [expected]


BAD_MAP_ROWS = [
    ("label=x", ["label"]),
    ("label=%3Dx", ["label"]),
    ("order=size", ["order"]),
    ("limit=201&state=x", ["state", "limit"]),
    ("from=200&to=100", ["from"]),
    ("from=100&to=200&beforeFrom=150&beforeTo=140", ["beforeFrom"]),
]


@pytest.mark.parametrize(("query", "expected"), BAD_MAP_ROWS)
def test_bad_map_parameters(query: str, expected: list[str]) -> None:
    assert fields(ask(f"/api/v1/map?{query}")) == expected


STREAM_ROWS: list[tuple[str, FlowFilter]] = [
    ("", FlowFilter()),
    ("text=a&namespace=n&label=team%3Dx", FlowFilter()),
    ("deployment=d&peer=kafka&state=shared", FlowFilter("d", "kafka", state=State.SHARED)),
    ("client=[2001:db8::1]:80", FlowFilter(client=EndpointFilter(Address.parse("2001:db8::1"), 80))),
    ("protocol=udp&container=abc&unit=x.service", FlowFilter(protocol=17, container="abc", unit="x.service")),
]


@pytest.mark.parametrize(("query", "expected"), STREAM_ROWS)
def test_flows_of_a_stream(query: str, expected: FlowFilter) -> None:
    assert read_parameters(StreamParameters, QueryParams(query), {}).flow_filter() == expected


def test_a_stream_has_map_and_state_for_as_long_as_is_allowed() -> None:
    found = read_parameters(StreamParameters, QueryParams(""), {})
    assert (found.events, found.flow_limit, found.seconds) == (("map", "status"), 100, LONGEST_STREAM)
    found = read_parameters(StreamParameters, QueryParams(f"events={','.join(EVENTS)}&seconds=1&flowLimit=1000"), {})
    assert (found.events, found.flow_limit, found.seconds) == (EVENTS, 1000, 1)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("events=map,maps", "events"),
        ("seconds=0", "seconds"),
        (f"seconds={LONGEST_STREAM + 1}", "seconds"),
        ("flowLimit=1001", "flowLimit"),
        ("client=10.0.0.1:x", "client"),
        ("protocol=256", "protocol"),
        ("from=1h", "from"),
        ("counts=ip", "counts"),
    ],
)
def test_bad_stream_parameters(query: str, field: str) -> None:
    with pytest.raises(BadParameters) as refused:
        read_parameters(StreamParameters, QueryParams(query), {})
    assert [one.field for one in refused.value.problems] == [field]
