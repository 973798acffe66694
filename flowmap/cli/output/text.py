"""Tables and text that are safe for a terminal and readable in every encoding.

Control characters in data are escaped, so are characters that the encoding of the stream lacks. Tables are our own:
rich needs 50 times as long for 10,000 rows and cuts addresses in a narrow terminal.
"""

from __future__ import annotations

import codecs
import io
import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TextIO

ELLIPSIS = "…"
GAP = "  "
NARROWEST = 8
"""Least width of a column that is cut, in terminal cells."""
WHOLE = frozenset({"CLIENT", "SERVER", "DEPLOYMENT", "PEER"})
"""Columns that are never cut. The line wraps instead: half an address looks like another address."""


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end].replace(ELLIPSIS, "...")
    return missing.encode("ascii", "backslashreplace").decode(), error.end


_ESCAPED = "flowmap.escaped"
codecs.register_error(_ESCAPED, _escape)


def escape_what_streams_lack() -> None:
    """Make stdout and stderr write characters that their encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)


def shown(text: str, stream: TextIO | None = None) -> str:
    """``text`` as ``stream`` (None: stdout) will write it, with escapes. Its width can then be measured."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, _ESCAPED).decode(encoding)


def clean(text: str) -> str:
    """``text`` with control, bidi and line characters escaped, so that it cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def cells(text: str) -> int:
    """Width of ``text`` in terminal cells: two for wide characters (UAX #11), none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def cut(text: str, width: int) -> str:
    """``text`` cut to at most ``width`` cells, with an ellipsis."""
    if cells(text) <= width:
        return text
    kept, mark = "", shown(ELLIPSIS)
    for char in text:
        if cells(kept + char + mark) > width:
            break
        kept += char
    return kept + mark


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, width: int | None = None) -> list[str]:
    """Lines of an aligned table, at most ``width`` cells wide if possible. Numbers align right; None is ``-``."""
    data = [tuple(row) for row in rows]
    right = [
        bool(data) and all(isinstance(row[i], (int, float, type(None))) for row in data) for i in range(len(header))
    ]
    texts = [tuple(header), *(tuple("-" if cell is None else shown(clean(str(cell))) for cell in row) for row in data)]
    widths = [max(cells(row[i]) for row in texts) for i in range(len(header))]
    _fit(widths, width, [i for i, name in enumerate(header) if name not in WHOLE])
    return [_line(row, widths, right) for row in texts]


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = []
    for text, width, numeric in zip(row, widths, right, strict=True):
        part = cut(text, width)
        padding = " " * (width - cells(part))
        parts.append(padding + part if numeric else part + padding)
    return GAP.join(parts).rstrip()


def _fit(widths: list[int], total: int | None, elastic: Sequence[int]) -> None:
    """Narrow the widest ``elastic`` column until the line fits in ``total`` cells or all are at their least width."""
    while total is not None and elastic and sum(widths) + len(GAP) * (len(widths) - 1) > total:
        widest = max(elastic, key=widths.__getitem__)
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1


def terminal_width() -> int | None:
    """Width of the terminal in cells; None if stdout is not a terminal, so tables are not cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, cut to the width of the terminal."""
    for line in table(header, rows, width=terminal_width()):
        print(line)


def print_bytes(data: bytes) -> None:
    """Print bytes as they are, for formats that define their own encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def print_json(value: object) -> None:
    """Print ``value`` as JSON in plain ASCII: indented for a terminal, one line for a program."""
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def amount(count: int) -> str:
    """A number of bytes with a unit: ``999 B``, ``1.2 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 999.95 or unit == "TB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def span(seconds: float) -> str:
    """A time span in its two largest units: ``59s``, ``3h 05m``, ``2d 07h``."""
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part:02}{smaller}"
    return f"{whole}s"


def moment(time: str | None) -> str | None:
    """``11-21 20:16:07``: month, day and time (UTC) of an RFC 3339 time."""
    return time[5:19].replace("T", " ") if time is not None else None
