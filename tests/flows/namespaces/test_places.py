"""Which network namespace has an address: one of them, several, or none that is read."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.namespaces.places import NOWHERE, SEVERAL, Places
from flowmap.model.address import Address


def addresses(*texts: str) -> list[Address]:
    return [Address.parse(text) for text in texts]


def owners(places: Places, *texts: str) -> list[int]:
    found = addresses(*texts)
    halves = (np.array([address[half] for address in found], np.uint64) for half in (0, 1))
    return [int(number) for number in places.owner(*halves)]


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("10.0.0.1", 0),
        ("10.0.0.2", 5),
        ("2001:db8::2", 5),
        ("10.0.0.9", SEVERAL),
        ("10.0.0.3", NOWHERE),
        ("::ffff:10.0.0.2", 5),
        ("127.0.0.1", NOWHERE),  # each namespace has it
        ("::1", NOWHERE),
        ("169.254.1.1", NOWHERE),
        ("fe80::1", NOWHERE),
    ],
)
def test_owner(text: str, owner: int) -> None:
    places = Places()
    everywhere = ("127.0.0.1", "::1", "169.254.1.1", "fe80::1")
    places.set(0, addresses("10.0.0.1", "10.0.0.9", *everywhere))
    places.set(5, addresses("10.0.0.2", "2001:db8::2", "10.0.0.9", *everywhere))
    assert owners(places, text) == [owner]
    assert places.shared == {Address.parse("10.0.0.9")}


def test_addresses_move() -> None:
    places = Places()
    assert owners(places, "10.0.0.1") == [NOWHERE]
    for number in (1, 2):
        places.set(number, addresses("10.0.0.1"))
    assert owners(places, "10.0.0.1") == [SEVERAL]
    places.set(1, [])
    assert (owners(places, "10.0.0.1"), places.shared) == ([2], frozenset())
    places.forget(2)
    assert (owners(places, "10.0.0.1"), len(places)) == ([NOWHERE], 1)
    places.forget(2)
