"""Questions as text: equal on every host, read back exactly, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.fleet.requests import FleetScope, Kind, Request
from flowmap.model.address import Address, Endpoint

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(lambda one: Address.parse(str(one)))
ENDPOINTS = st.none() | st.builds(Endpoint, ADDRESSES, st.integers(0, 65535))
NAMES = st.text(
    st.characters(min_codepoint=0x21, exclude_characters="\x7f", exclude_categories=["Cs", "Z", "C"]), min_size=1
)
LISTINGS = st.sampled_from([Kind.JOBS, Kind.DEPLOYMENTS])
REQUESTS = st.builds(Request, st.just(Kind.OWNERS), NAMES, NAMES, ENDPOINTS, ENDPOINTS, st.just("")) | st.builds(
    Request, LISTINGS, NAMES, NAMES, st.none(), st.none(), st.text()
)


@given(REQUESTS)
def test_a_request_is_read_back(request: Request) -> None:
    assert Request.parse(request.text()) == request


@given(REQUESTS, REQUESTS)
def test_different_requests_have_different_names(one: Request, other: Request) -> None:
    assert (one.text() == other.text()) == (one == other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "owners",
        "owners w n 10.0.0.1:0",
        "owners w n 10.0.0.1:0 - -",
        "owners w n 10.0.0.1:70000 -",
        "owners w n 010.0.0.1:0 -",
        "owners w n nowhere:0 -",
        "drop w n - -",
        'jobs w n "id" more',
        'jobs w n  "id"',
    ],
)
def test_anything_else_is_no_question(text: str) -> None:
    with pytest.raises(ValueError):
        Request.parse(text)


@pytest.mark.parametrize(
    ("source", "destination", "narrows"),
    [("10.0.0.1", None, False), (None, "10.0.0.2", False), ("10.0.0.1", "10.0.0.2", True)],
)
def test_questions_about_both_endpoints_narrow(source: str | None, destination: str | None, narrows: bool) -> None:
    start, end = (None if one is None else Endpoint(Address.parse(one), 1) for one in (source, destination))
    assert Request(Kind.OWNERS, "w", "n", start, end).narrows is narrows


def test_hosts_with_another_account_endpoint_or_name_share_no_key() -> None:
    scopes = [
        FleetScope("https://a", "id", ""),
        FleetScope("https://a", "other", ""),
        FleetScope("https://b", "id", ""),
        FleetScope("https://a", "id", "team"),
    ]
    keys = sum((scope.keys() for scope in scopes), [])
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("flowmap:{") for key in keys)
    assert FleetScope("https://A", "id", "").keys() == scopes[0].keys()
