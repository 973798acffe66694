"""Rearranged netlink messages come back byte for byte, and other bytes are rejected."""

from __future__ import annotations

import zlib
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from flowmap.errors import DecodeError
from flowmap.recording import messages
from flowmap.wire.netlink.messages import encode_message


@given(st.lists(st.integers(1, 9), max_size=30), st.randoms(use_true_random=False))
def test_messages_of_any_lengths_come_back_byte_for_byte(lengths: list[int], random: Any) -> None:
    data = random.randbytes(4 * sum(lengths))
    assert messages.unpack(messages.pack(data, np.array(lengths, np.uint32))) == data


def test_equal_messages_cost_next_to_nothing() -> None:
    one = bytes(range(252))
    packed = messages.pack(one * 1000, np.full(1000, 63, np.uint32))
    assert len(zlib.compress(packed, 1)) < len(one) * 8


@pytest.mark.parametrize(
    ("data", "starts", "lengths"),
    [
        (encode_message(1, 0, bytes(4)) + encode_message(1, 0, bytes(8)), [0], [5, 6]),
        (encode_message(1, 0, bytes(4)) + encode_message(1, 0, bytes(8)), [0, 20], [5, 6]),
        (b"\xff" * 24, [0, 8], [2, 4]),  # no messages: the datagrams
    ],
)
def test_pieces_are_messages_or_datagrams(data: bytes, starts: list[int], lengths: list[int]) -> None:
    assert messages.piece_lengths(data, starts).tolist() == lengths


PACKED = messages.pack(bytes(range(40)), np.array([4, 6], np.uint32))


@pytest.mark.parametrize(
    ("packed", "fault"),
    [
        (PACKED[:7], "too short"),
        (PACKED[:-1], "inconsistent sizes"),
        (PACKED + b"x", "inconsistent sizes"),
        (PACKED[:8] + (5).to_bytes(4, "little") + PACKED[12:], "inconsistent sizes"),
    ],
)
def test_other_bytes_are_rejected(packed: bytes, fault: str) -> None:
    with pytest.raises(DecodeError, match=fault):
        messages.unpack(packed)
