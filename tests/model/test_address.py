"""Addresses, endpoints and protocol numbers as text and back."""

from __future__ import annotations

import pytest

from flowmap.model.address import Address, Endpoint, protocol_name, protocol_number


@pytest.mark.parametrize(
    ("text", "halves", "written"),
    [
        ("10.0.0.1", (0, 0xFFFF_0A00_0001), "10.0.0.1"),
        ("::ffff:10.0.0.1", (0, 0xFFFF_0A00_0001), "10.0.0.1"),
        ("::", (0, 0), "::"),
        ("2001:DB8::1", (0x2001_0DB8_0000_0000, 1), "2001:db8::1"),
    ],
)
def test_address(text: str, halves: tuple[int, int], written: str) -> None:
    address = Address.parse(text)
    assert (address, str(address), address.is_v4) == (halves, written, "." in written)


@pytest.mark.parametrize("text", ["", "10.0.0", "fe80::1%eth0", "10.0.0.1:80", "host"])
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


@pytest.mark.parametrize(("address", "written"), [("10.0.0.1", "10.0.0.1:80"), ("2001:db8::1", "[2001:db8::1]:80")])
def test_endpoint(address: str, written: str) -> None:
    assert str(Endpoint(Address.parse(address), 80)) == written


@pytest.mark.parametrize(
    ("name", "number", "written"), [("tcp", 6, "tcp"), ("UDP", 17, "udp"), ("6", 6, "tcp"), ("200", 200, "200")]
)
def test_protocol(name: str, number: int, written: str) -> None:
    assert (protocol_number(name), protocol_name(number)) == (number, written)


@pytest.mark.parametrize("name", ["", "256", "-1", "tcpx"])
def test_no_protocol(name: str) -> None:
    with pytest.raises(ValueError, match="is not a protocol"):
        protocol_number(name)
