"""A cursor raises DecodeStop instead of reading beyond a frame, and names the reason."""

from __future__ import annotations

import pytest

from flowmap.wire.packets.cursor import Cursor, DecodeStop

FRAME = bytes(range(16))


@pytest.mark.parametrize(
    ("captured", "wire", "at", "size", "reason"),
    [
        (16, 16, 0, 16, None),
        (16, 16, 0, 17, "runt"),
        (16, 32, 0, 17, "snapped"),
        (16, 32, 16, 17, "runt"),
        (16, 16, 15, 1, None),
        (16, 16, 16, 0, None),
    ],
)
def test_bytes_that_are_needed(captured: int, wire: int, at: int, size: int, reason: str | None) -> None:
    cursor = Cursor(FRAME, at, captured, wire)
    if reason is None:
        cursor.need(size)
        return
    with pytest.raises(DecodeStop) as stop:
        cursor.need(size)
    assert stop.value.skipped.reason == reason


@pytest.mark.parametrize(
    ("end", "wire", "size", "least", "result"),
    [
        (16, 16, 10, 4, (10, 10)),
        (8, 16, 10, 4, (8, 10)),
        (16, 16, 3, 4, "length"),
        (16, 16, 17, 4, "wire_length"),  # the file says that nothing was cut
        (8, 16, 17, 4, "length"),
    ],
)
def test_length_fields(end: int, wire: int, size: int, least: int, result: tuple[int, int] | str) -> None:
    cursor = Cursor(FRAME, 0, end, wire)
    if isinstance(result, tuple):
        cursor.limit(size, least)
        assert (cursor.end, cursor.wire) == result
        return
    with pytest.raises(DecodeStop) as stop:
        cursor.limit(size, least)
    assert stop.value.skipped.reason == result


def test_numbers_and_copies() -> None:
    cursor = Cursor(FRAME, 2, 16, 16)
    assert (cursor.u8(1), cursor.u16(0), cursor.u32(0)) == (3, 0x0203, 0x02030405)
    assert (cursor.u16le(0), cursor.u32le(0)) == (0x0302, 0x05040302)
    ahead = cursor.copy(4)
    ahead.at += 1
    assert (cursor.at, ahead.at, ahead.u8(0)) == (2, 7, 7)


@pytest.mark.parametrize(
    ("end", "wire", "fragment", "expected"),
    [(16, 16, False, False), (8, 16, False, True), (8, 8, False, False), (8, 8, True, True)],
)
def test_a_header_that_is_short_for_a_reason(end: int, wire: int, fragment: bool, expected: bool) -> None:
    assert Cursor(FRAME, 0, end, wire).ends_before(12, fragment=fragment) is expected
