"""Cuts any text into lines, without holding more of an endless one than a piece."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NamedTuple, TextIO

from flowmap.errors import QueryError

LONGEST = 1 << 20
"""Characters of a piece. A longer line is printed as it is, in pieces, and is not searched for endpoints."""
BYTE_ORDER_MARK = "\ufeff"
_UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")
"""How the marks of UTF-16 look when they are read as UTF-8."""


class Piece(NamedTuple):
    """A line, or a part of a long one."""

    text: str
    end: str
    """The line break; empty in the middle of a line, and after the last one if it has none."""
    first: bool
    whole: bool


@contextlib.contextmanager
def opened(path: str | None) -> Iterator[Iterator[Piece]]:
    """The lines of a file or of standard input. Bytes that are no text stay as they are.

    QueryError if it cannot be read, or is UTF-16.
    """
    if path is None:
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")  # type: ignore[union-attr]
        yield _pieces(sys.stdin, "standard input")
        return
    try:
        file = open(path, encoding="utf-8", errors="surrogateescape", newline="\n")  # noqa: SIM115
    except OSError as error:
        raise QueryError(f"{path}: {error.strerror}") from error
    with file:
        yield _pieces(file, path)


def _pieces(file: TextIO, name: str) -> Iterator[Piece]:
    first, start = True, True
    while raw := _read(file, name):
        if start and _is_utf16(raw):
            raise QueryError(f"{name}: the text is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
        end = "\r\n" if raw.endswith("\r\n") else "\n" if raw.endswith("\n") else ""
        yield Piece(raw.removesuffix(end), end, first, first and (end != "" or len(raw) < LONGEST))
        first, start = end != "", False


def _read(file: TextIO, name: str) -> str:
    try:
        return file.readline(LONGEST)
    except OSError as error:
        raise QueryError(f"{name}: {error.strerror}") from error


def _is_utf16(text: str) -> bool:
    even, odd = text[0:16:2], text[1:16:2]
    return text.startswith(_UTF16_MARKS) or any(
        len(zeros) > 1 and not zeros.strip("\0") and "\0" not in letters
        for zeros, letters in ((even, odd), (odd, even))
    )
