"""Reads /metrics of a daemon, the only interface that the demo uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from flowmap.sandbox.demo.scenario import Amount, SeriesName

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_COMMA = re.compile(r"(?<!\\),")


class Sample(NamedTuple):
    """A sample line of the text format."""

    name: str
    labels: dict[str, str]
    value: float


class Page(NamedTuple):
    """The part of a scrape that the demo shows."""

    rows: dict[SeriesName, Amount]
    open: dict[SeriesName, int]
    pending: int
    """Bytes of pending flows, both directions."""
    conserved: bool
    """Whether observed bytes equal accounted bytes exactly, in both directions."""


def samples(text: str) -> Iterator[Sample]:
    """Parse the samples of a page in the text format."""
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if match:
            labels = {name: _unescape(value) for name, value in _LABEL.findall(match["labels"] or "")}
            yield Sample(match["name"], labels, float(match["value"]))


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text)


def _row(labels: dict[str, str]) -> SeriesName:
    names = labels.get("deployment") or labels.get("deployments", "")
    return SeriesName(tuple(sorted(_COMMA.split(names))) if names else (), labels.get("peer", ""))


def read_page(text: str) -> Page:
    """Parse the rows of a scrape. Traffic without an owner is one row for each peer, for all reasons."""
    counts: dict[tuple[SeriesName, str], int] = {}
    pending = 0
    balance = {"transmit": 0, "receive": 0}
    for sample in samples(text):
        kind, direction = _kind(sample.name)
        value = int(sample.value)
        if kind in ("deployment", "shared", "unattributed"):
            key = (_row(sample.labels), direction)
            counts[key] = counts.get(key, 0) + value
        if direction in balance:
            pending += value if kind == "pending" else 0
            balance[direction] += value if kind == "observed" else -value
    rows = {
        name: Amount(
            counts.get((name, "transmit"), 0), counts.get((name, "receive"), 0), counts.get((name, "connections"))
        )
        for name, _ in counts
    }
    opened = {name: count for (name, column), count in counts.items() if column == "open"}
    return Page(rows, opened, pending, not any(balance.values()))


_COLUMNS = {
    "transmit_bytes_total": "transmit",
    "receive_bytes_total": "receive",
    "transmit_bytes": "transmit",
    "receive_bytes": "receive",
    "connections_total": "connections",
    "open_connections": "open",
}


def _kind(name: str) -> tuple[str, str]:
    """Kind and column of ``flowmap_<kind>_<column>``; empty for another metric."""
    kind, _, column = name.removeprefix("flowmap_").partition("_")
    return (kind, _COLUMNS[column]) if column in _COLUMNS else ("", "")
