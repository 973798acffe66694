"""Reads text line by line: tables with a header and records of several lines, beside the forms of single lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from flowmap.cli.who.mentions import Mention, Place, mentions_in, place_in, place_of

ADDRESSES = frozenset(("host", "client_addr", "address", "client address", "remote_addr", "initial_address"))
PORTS = frozenset(("client_port", "port", "remote_port", "initial_port"))
LOCAL = frozenset(("", "localhost", "null", "%", "[local]"))
"""What is in such a column for a connection that is not by network."""

MOST_IN_A_LINE = 8
"""Endpoints of one line that are asked about."""
HOST_NAME = "a host name; let the server print addresses (MariaDB, MySQL: skip_name_resolve)"
"""Why a line has no owner though it names a host."""

_SEPARATOR = re.compile(r"[\t|│┃]")
_FIELD = re.compile(r"^\s*(?P<name>[A-Za-z_]+)\s*[:|](?P<value>.*)$")
_NAME = re.compile(r"(?P<name>[A-Za-z][\w.-]*):\d+")


class Line(NamedTuple):
    """One line: its text without the line break, and what it mentions."""

    text: str
    mentions: tuple[Mention, ...] = ()
    remark: str = ""
    """Why nothing in the line, or not all of it, is asked about; empty if everything is."""
    end: str = "\n"
    """The line break; empty for a piece of a line, and for a last line without one."""


class _Columns(NamedTuple):
    """Where a table has the address of a client and its port."""

    cells: int
    address: int
    port: int | None


class TextReader:
    """Remembers what earlier lines say about the next ones: the header of a table, the address of a record."""

    def __init__(self) -> None:
        self._columns: _Columns | None = None
        self._address: str | None = None

    def read(self, text: str) -> Line:
        """One line, without its line break. Nothing is asked here."""
        cells = _cells(text)
        if columns := _header(cells):
            self._columns, self._address = columns, None
            return Line(text)
        if self._columns and len(cells) == self._columns.cells:
            return self._row(text, cells)
        if (field := _FIELD.match(text)) and (
            found := self._field(text, field["name"].lower(), field["value"].strip())
        ):
            return found
        mentions = mentions_in(text)
        more = len(mentions) - MOST_IN_A_LINE
        return Line(text, mentions[:MOST_IN_A_LINE], f"{more} more, which were not asked about" if more > 0 else "")

    def _row(self, text: str, cells: Sequence[str]) -> Line:
        assert self._columns is not None
        port = None if self._columns.port is None else cells[self._columns.port]
        return _line(text, cells[self._columns.address], port)

    def _field(self, text: str, name: str, value: str) -> Line | None:
        """A line of a record in vertical form: its address, or the port that belongs to the address before it."""
        if name in PORTS and self._address is not None:
            address, self._address = self._address, None
            return _line(text, address, value)
        if name == "host":  # with its port, or the name of a server in a log
            line = _line(text, value, None)
            return line if line.mentions or line.remark else None
        if name in ADDRESSES:
            self._address = value
            return Line(text)
        return None


def _line(text: str, address: str, port: str | None) -> Line:
    address = address.removeprefix("/")
    if address.lower() in LOCAL:
        return Line(text)
    place: Place | None = place_in(address) if port is None else None
    place = place or place_of(address, port)
    if place is not None:
        return Line(text, (Mention(place),))
    return Line(text, remark=HOST_NAME if _NAME.fullmatch(address) else "")


def _cells(text: str) -> list[str]:
    """The cells of a row; one cell if it has no separators. An edge of a frame is no cell."""
    cells = _SEPARATOR.split(text)
    if len(cells) > 2 and not cells[0].strip() and not cells[-1].strip():
        cells = cells[1:-1]
    return [cell.strip() for cell in cells]


def _header(cells: Sequence[str]) -> _Columns | None:
    names = [cell.lower() for cell in cells]
    addresses = [place for place, name in enumerate(names) if name in ADDRESSES]
    if not addresses or len(cells) < 2 or not all(re.fullmatch(r"[a-z_][\w ]*", name) for name in names):
        return None
    ports = [place for place, name in enumerate(names) if name in PORTS]
    return _Columns(len(cells), addresses[0], ports[0] if ports else None)
