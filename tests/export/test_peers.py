"""Names of service endpoints."""

from __future__ import annotations

import pytest

from flowmap.export.peers import Peers
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.model.address import Address

PEERS = Peers(
    {
        "kafka": ["10.100.2.0/24:9092", "tcp/9093"],
        "lake": ["10.100.0.0/16", "[2001:db8::]/32:443"],
        "late": ["10.100.2.7"],
        "six": ["::/0"],
    }
)


@pytest.mark.parametrize(
    ("address", "port", "protocol", "name"),
    [
        ("10.100.2.7", 9092, 6, "kafka"),
        ("10.100.2.7", 9092, 17, "kafka"),
        ("192.0.2.1", 9093, 6, "kafka"),
        ("192.0.2.1", 9093, 17, "192.0.2.1:9093"),
        ("10.100.2.7", 80, 6, "lake"),
        ("2001:db8::1", 443, 6, "lake"),
        ("2001:db8::1", 444, 6, "six"),
        ("192.0.2.1", 0, 1, "192.0.2.1"),
        ("2001:db8::1", 0, 58, "six"),
    ],
)
def test_the_first_matching_pattern_names(address: str, port: int, protocol: int, name: str) -> None:
    assert PEERS.name(EndpointKey(Address.parse(address), port, protocol, True)) == name


def test_unnamed_endpoints() -> None:
    peers = Peers({})
    assert peers.name(EndpointKey(Address.parse("2001:db9::1"), 443, 6, True)) == "[2001:db9::1]:443"
    assert peers.name(EndpointKey(Address.parse("2001:db8::1"), 0, 58, True)) == "2001:db8::1"


def test_invalid_patterns() -> None:
    with pytest.raises(ValueError, match="tcp/http"):
        Peers({"x": ["tcp/http"]})
