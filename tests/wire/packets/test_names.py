"""Frames without a packet have the number and the usual name of their content."""

from __future__ import annotations

import pytest

from flowmap.wire.packets.names import describe_ethertype, describe_link, describe_llc, describe_ppp, describe_snap
from flowmap.wire.packets.packets import Why


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (describe_ethertype(0x0806), "ARP (ethertype 0x0806)"),
        (describe_ethertype(0x88E5), "MACsec (ethertype 0x88e5)"),
        (describe_ethertype(0x1234), "ethertype 0x1234"),
        (describe_link(1), "link type 1 (ETHERNET)"),
        (describe_link(149), "link type 149 (USER2)"),
        (describe_link(999), "link type 999"),
        (describe_llc(0x42), "STP (LLC DSAP 0x42)"),
        (describe_llc(0x01), "LLC DSAP 0x01"),
        (describe_ppp(0xC021), "LCP (PPP protocol 0xc021)"),
        (describe_ppp(0x0001), "PPP protocol 0x0001"),
    ],
)
def test_numbers_with_names(described: str, expected: str) -> None:
    assert described == expected


@pytest.mark.parametrize(
    ("vendor", "kind", "expected"),
    [
        (0x00000C, 0x2000, ("CDP (SNAP OUI 0x00000c type 0x2000)", Why.NOT_IP)),
        (0x00000C, 0x9999, ("SNAP OUI 0x00000c type 0x9999", Why.NOT_IP)),
        (0x080007, 0x809B, ("SNAP OUI 0x080007 type 0x809b", Why.NOT_IP)),
        (0x00AABB, 0x2000, ("SNAP OUI 0x00aabb type 0x2000", Why.UNREAD)),
    ],
)
def test_snap(vendor: int, kind: int, expected: tuple[str, Why]) -> None:
    assert describe_snap(vendor, kind) == expected
