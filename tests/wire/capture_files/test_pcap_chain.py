"""The walk of a pcap's records in lanes, against the plain one."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Literal
from unittest import mock

import numpy as np
import pytest

from flowmap.wire.capture_files import pcap_chain
from flowmap.wire.capture_files.pcap_chain import Chain, find_records, walk
from flowmap.wire.capture_files.reader import FRAME_LIMIT

Order = Literal["<", ">"]
START = 1_700_000_000


def even(_: random.Random) -> int:
    return 300


def mixed(rng: random.Random) -> int:
    return rng.choice((0, 52, 60, 1500))


def huge(rng: random.Random) -> int:
    return rng.choice((60, 60, 60, 20_000))


def spread(rng: random.Random) -> int:
    return rng.randrange(900)


SIZES = [even, mixed, huge, spread]


def records(
    rng: random.Random, size: Callable[[random.Random], int], order: Order, *, number: int = 4000, apart: float = 0.001
) -> bytearray:
    """Records whose frames are partly noise and partly full of what looks like a time."""
    made = bytearray()
    upper = struct.pack(f"{order}I", START)
    for index in range(number):
        length = size(rng)
        frame = rng.choice((bytes(length), rng.randbytes(length), (upper * (length // 4 + 1))[:length]))
        made += struct.pack(f"{order}IIII", START + int(index * apart), index, length, length) + frame
    return made


def same(found: Chain, expected: Chain) -> bool:
    return np.array_equal(found.starts, expected.starts) and found[1:] == expected[1:]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("apart", [0.001, 60.0])
def test_as_the_plain_walk(size: Callable[[random.Random], int], order: Order, apart: float) -> None:
    """Also where the hour changes again and again, and wherever the data ends."""
    rng = random.Random(1)
    data = bytes(7) + records(rng, size, order, apart=apart)
    for end in (len(data), *(rng.randrange(len(data)) for _ in range(20)), *range(len(data) - 20, len(data))):
        assert same(find_records(data[:end], 7, order), walk(data[:end], 7, order))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_damage(size: Callable[[random.Random], int], order: Order) -> None:
    """Any four bytes may be any number; most often the length of a record."""
    rng = random.Random(2)
    good = records(rng, size, order)
    starts = walk(memoryview(good), 0, order).starts.tolist()
    for _ in range(60):
        data = good.copy()
        for _ in range(rng.randrange(1, 4)):
            at = rng.choice(starts) + 8 if rng.random() < 0.7 else rng.randrange(len(data) - 4)
            number = rng.choice((0, 1, 60, rng.randrange(1 << 12), FRAME_LIMIT, FRAME_LIMIT + 1, (1 << 32) - 1))
            data[at : at + 4] = struct.pack(f"{order}I", number)
        assert same(find_records(memoryview(data), 0, order), walk(memoryview(data), 0, order))


def test_a_length_that_cannot_be_and_yet_leads_to_a_record() -> None:
    rng = random.Random(3)
    data = records(rng, even, "<")
    starts = walk(memoryview(data), 0, "<").starts
    here = 1000
    beyond = int(np.searchsorted(starts, starts[here] + FRAME_LIMIT + 1000))
    for there in range(beyond, beyond + 60):
        lying = data.copy()
        struct.pack_into("<I", lying, int(starts[here]) + 8, int(starts[there] - starts[here]) - 16)
        found = find_records(memoryview(lying), 0, "<")
        assert same(found, walk(memoryview(lying), 0, "<"))
        assert found.fault
        assert len(found.starts) == here


@pytest.mark.parametrize("order", ["<", ">"])
def test_few_steps_are_plain_ones(order: Order) -> None:
    rng = random.Random(4)
    data = bytearray()
    for index in range(4000):
        length = rng.randrange(900)
        data += struct.pack(f"{order}IIII", START, index, length, length) + rng.randbytes(length)
    plain = 0

    def counted(*arguments: object) -> Chain:
        nonlocal plain
        chain: Chain = walk(*arguments)  # type: ignore[arg-type]
        plain += len(chain.starts)
        return chain

    with mock.patch.object(pcap_chain, "walk", counted):
        assert len(find_records(memoryview(data), 0, order).starts) == 4000
    assert plain < 600


def test_records_that_grow_shorter_do_not_hold_up_the_lanes() -> None:
    """Long ones, then very many short ones at another time: no lane begins among these."""
    rng = random.Random(5)
    data = records(rng, lambda _: 2000, "<", number=1500)
    short = struct.pack("<IIII", 1, 0, 0, 0) * 100_000
    data += short + records(rng, lambda _: 2000, "<", number=500)
    assert same(find_records(memoryview(data), 0, "<"), walk(memoryview(data), 0, "<"))
