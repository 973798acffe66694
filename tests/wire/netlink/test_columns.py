"""Finds messages without a loop where a walk would find the same ones, and reports every invalid length."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.wire.netlink.columns import find_messages
from flowmap.wire.netlink.messages import HEADER, encode_message


def message(size: int, sequence: int = 7) -> bytes:
    """A message whose payload looks like more headers with the same sequence number and port."""
    return encode_message(20, 2, struct.pack("=I", sequence) * size, sequence=sequence, port=sequence)


@given(st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 1)), min_size=1))
def test_the_messages_of_any_datagrams(datagrams: list[tuple[list[int], int]]) -> None:
    data, starts, places = b"", [], []
    for sizes, sequence in datagrams:
        starts.append(len(data))
        for size in sizes:
            places.append(len(data))
            data += message(size, sequence)
    found = find_messages(data, starts)
    assert found is not None
    assert (found[1] * 4).tolist() == places


GOOD = message(3) + message(1)


@pytest.mark.parametrize(
    ("data", "starts"),
    [
        (GOOD, []),
        (GOOD[:-1], [0]),
        (GOOD[:-4], [0]),
        (GOOD, [2]),
        (GOOD, [4]),
        (GOOD[: HEADER.size - 4], [0]),
        (struct.pack("=I", 12) + GOOD[4:], [0]),
        (struct.pack("=I", 999) + GOOD[4:], [0]),
        (b"", [0]),
    ],
)
def test_invalid_framing(data: bytes, starts: list[int]) -> None:
    assert find_messages(data, starts) is None
