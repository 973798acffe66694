"""The directed broadcast addresses of the host's networks: decoded, read again, told when they change."""

from __future__ import annotations

import struct

import pytest

from flowmap.errors import DecodeError, SourceError
from flowmap.model.address import Address
from flowmap.sources.base import Broadcasts
from flowmap.sources.broadcasts import READ_EVERY, BroadcastWatch
from flowmap.wire.netlink.messages import encode_attribute
from flowmap.wire.netlink.rtnetlink import decode_broadcasts

ONE, OTHER = Address.parse("10.9.1.255"), Address.parse("10.9.2.255")
ADDRESS, LOCAL, BROADCAST = 1, 2, 4


def message(family: int, prefix: int, attributes: dict[int, str]) -> bytes:
    """One RTM_NEWADDR."""
    head = struct.pack("=BBBBI", family, prefix, 0, 0, 1)
    octets = {kind: bytes(map(int, text.split("."))) if family == 2 else bytes(16) for kind, text in attributes.items()}
    return head + b"".join(encode_attribute(kind, data) for kind, data in octets.items())


@pytest.mark.parametrize(
    ("family", "prefix", "attributes", "found"),
    [
        (2, 24, {ADDRESS: "10.9.1.2", LOCAL: "10.9.1.2"}, ["10.9.1.255"]),
        (2, 24, {ADDRESS: "10.9.1.2", LOCAL: "10.9.1.2", BROADCAST: "10.9.1.255"}, ["10.9.1.255"]),
        (2, 24, {ADDRESS: "10.9.1.2", BROADCAST: "10.9.1.0"}, ["10.9.1.0", "10.9.1.255"]),
        (2, 30, {ADDRESS: "10.9.1.1"}, ["10.9.1.3"]),
        (2, 31, {ADDRESS: "10.9.1.1"}, []),
        (2, 32, {ADDRESS: "10.9.1.1", BROADCAST: "10.9.1.1"}, []),
        (2, 24, {ADDRESS: "10.8.0.9", LOCAL: "192.0.2.1"}, ["10.8.0.255"]),
        (2, 8, {ADDRESS: "127.0.0.1", LOCAL: "127.0.0.1"}, ["127.255.255.255"]),
        (10, 64, {ADDRESS: "::"}, []),
        (7, 24, {}, []),
    ],
)
def test_broadcasts_of_an_address(family: int, prefix: int, attributes: dict[int, str], found: list[str]) -> None:
    assert decode_broadcasts(message(family, prefix, attributes)) == {Address.parse(text) for text in found}


@pytest.mark.parametrize("size", [0, 7, 13])
def test_truncated_message(size: int) -> None:
    with pytest.raises(DecodeError):
        decode_broadcasts(message(2, 24, {ADDRESS: "10.9.1.2"})[:size])


def test_steps_at_first_and_after_changes() -> None:
    now = 100.0
    networks: list[frozenset[Address] | Exception] = [
        frozenset({ONE}),
        frozenset({ONE}),
        SourceError("the kernel is silent"),
        frozenset({OTHER, ONE}),
        frozenset(),
    ]

    def read() -> frozenset[Address]:
        found = networks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    watch = BroadcastWatch(read, lambda: now)
    told = []
    while networks:
        told.append(list(watch.steps()))
        left = len(networks)
        assert (list(watch.steps()), len(networks)) == ([], left), "not read again at once"
        now += READ_EVERY
    assert told == [[Broadcasts((ONE,))], [], [], [Broadcasts((ONE, OTHER))], [Broadcasts(())]]
