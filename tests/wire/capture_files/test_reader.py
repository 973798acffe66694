"""Both readers: files cut at every byte, any bytes after a frame, and files of other formats."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.wire.capture_files.pcap import PcapReader
from flowmap.wire.capture_files.pcapng import PcapngReader
from tests.support.capture_files import (
    ORDERS,
    SECOND,
    Row,
    enhanced,
    interface,
    pcap,
    rows,
    section,
)

ONE = Row(b"one", 3, SECOND)


@pytest.mark.parametrize("order", ORDERS)
def test_cut_at_every_byte(order: str) -> None:
    """The frames before the cut, and where the first that is not whole begins."""
    frames = [Row(bytes(n), n, n * SECOND) for n in (1, 40, 5)]
    classic = pcap(frames, order)
    newer = section(order) + interface(order) + b"".join(enhanced(order, f.data, ticks=f.time // 1000) for f in frames)
    for data, make in ((classic, lambda: PcapReader.of(classic)), (newer, PcapngReader)):
        for size in range(len(data)):
            reader = make()
            assert reader is not None
            found, taken, fault = rows(reader, data[:size])
            assert found == frames[: len(found)]
            assert not fault
            assert taken <= size
            reader = make()
            assert reader is not None
            assert rows(reader, data[:taken]) == (found, taken, "")


@given(st.binary(max_size=200), st.sampled_from(ORDERS))
@settings(max_examples=200, deadline=None)
def test_any_bytes(rest: bytes, order: Literal["<", ">"]) -> None:
    for head, reader in (
        (pcap([ONE], order), PcapReader(order, 1000)),
        (section(order) + interface(order) + enhanced(order, b"one", ticks=1_000_000), PcapngReader()),
    ):
        found, taken, _ = rows(reader, head + rest)
        assert found[0] == ONE
        assert len(head) <= taken <= len(head) + len(rest)


@pytest.mark.parametrize("head", [b"", b"\n", b"\x1f\x8b", b"ELF\0", b"\xd4\xc3\xb2"])
def test_other_files_have_no_reader(head: bytes) -> None:
    assert PcapReader.of(head) is None
    assert PcapngReader.of(head) is None
