"""Lines of any text, in pieces of a bounded length."""

from __future__ import annotations

import io
import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.cli.who.pieces import LONGEST, Piece, opened


class Endless(io.RawIOBase):
    """A text without an end and without a line break; ``given`` are the bytes read so far."""

    given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        buffer[:] = b"x" * len(buffer)
        self.given += len(buffer)
        return len(buffer)


def pieces_of(data: bytes) -> list[Piece]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        with opened(None) as pieces:
            return list(pieces)


@given(st.binary().map(lambda data: b"text" + data))
def test_no_byte_is_lost(data: bytes) -> None:
    text = "".join(piece.text + piece.end for piece in pieces_of(data))
    assert text.encode("utf-8", "surrogateescape") == data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a", [Piece("a", "", True, True)]),
        (
            b"a\r\nb\rc\n\n",
            [Piece("a", "\r\n", True, True), Piece("b\rc", "\n", True, True), Piece("", "\n", True, True)],
        ),
        (
            b"x" * (LONGEST + 1) + b"\nb",
            [
                Piece("x" * LONGEST, "", True, False),
                Piece("x", "\n", False, False),
                Piece("b", "", True, True),
            ],
        ),
    ],
)
def test_pieces(data: bytes, expected: list[Piece]) -> None:
    assert pieces_of(data) == expected


def test_an_endless_line_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = Endless()
    buffered = io.BufferedReader(endless)  # type: ignore[type-var]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffered))
    with opened(None) as pieces:
        for piece in itertools.islice(pieces, 3):
            assert not piece.whole
    assert endless.given < 4 * LONGEST
