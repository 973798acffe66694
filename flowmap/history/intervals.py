"""Ownership intervals in the file: the owners of an endpoint, and the time for which answers confirmed them.

A question has at most one interval that can still grow (``closed_at`` is null). A confirmation rewrites its row with
all times on the present wall clock, so setting the clock moves an interval as a whole. Each row also has the boot and
the offset of its wall time. So after a restart without a reboot its monotonic times are exact, even if the wall clock
was set.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.questions import Question, Shape
from flowmap.history.closed_flows import MICROSECONDS
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner

INTERVAL_TABLES = {
    "question": (
        "id INTEGER PRIMARY KEY, workspace TEXT NOT NULL, namespace TEXT NOT NULL, shape TEXT NOT NULL, "
        "source BLOB NOT NULL, destination BLOB NOT NULL, UNIQUE (workspace, namespace, shape, source, destination)"
    ),
    "owners": "id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE",
    "span": (
        "id INTEGER PRIMARY KEY, question INTEGER NOT NULL, owners INTEGER NOT NULL, "
        "first_asked INTEGER NOT NULL, first_arrived INTEGER NOT NULL, "
        "last_asked INTEGER NOT NULL, last_arrived INTEGER NOT NULL, answers INTEGER NOT NULL, "
        "closed_at INTEGER, closed_by TEXT, boot INTEGER NOT NULL, epoch REAL NOT NULL"
    ),
}
INTERVAL_INDEX = "CREATE INDEX span_by_question ON span (question, first_arrived)"

_TIMES = "first_asked, first_arrived, last_asked, last_arrived, answers, closed_at, closed_by, boot, epoch"
_SAME = "workspace = ? AND namespace = ? AND shape = ? AND source = ? AND destination = ?"
_SELECT = (
    f"SELECT workspace, namespace, shape, source, destination, names, {_TIMES} "
    "FROM span JOIN question ON question.id = span.question JOIN owners ON owners.id = span.owners WHERE "
)


class StoredInterval(NamedTuple):
    """One interval of the file. Its times are seconds since the epoch."""

    question: Question
    interval: OwnershipInterval
    continues: bool
    """Whether it updates the growing interval of its question in the file."""
    boot: int
    epoch: float
    """The offset from monotonic instants to these times."""

    @classmethod
    def read(
        cls, database: sqlite3.Connection, condition: str, values: tuple[object, ...] = ()
    ) -> list[StoredInterval]:
        """Intervals that match an SQL condition, the earliest first."""
        rows = database.execute(f"{_SELECT} {condition} ORDER BY first_arrived", values)
        return [cls._of(*row) for row in rows]

    @classmethod
    def _of(
        cls,
        workspace: str,
        namespace: str,
        shape: str,
        source: bytes,
        destination: bytes,
        names: str,
        *rest: int | float | None,
    ) -> StoredInterval:
        first_asked, first_arrived, last_asked, last_arrived, answers, closed_at, closed_by, boot, epoch = rest
        question = Question(namespace, Shape(shape), _endpoint(source), _endpoint(destination), workspace)
        owners = frozenset(Owner(*name) for name in json.loads(names))
        closed = None if closed_at is None else _seconds(closed_at)
        known = OwnershipInterval(
            owners,
            *(_seconds(first_asked), _seconds(first_arrived), _seconds(last_asked), _seconds(last_arrived)),
            int(answers or 0),
            closed,
            closed_by,  # type: ignore[arg-type]  # as write_intervals wrote it
        )
        return cls(question, known, closed_at is None, int(boot or 0), float(epoch or 0))


def write_intervals(database: sqlite3.Connection, intervals: Iterable[StoredInterval]) -> None:
    """Write intervals: update the growing one of the question, or close it and insert a new one."""
    for interval in intervals:
        question, owners = _question_id(database, interval.question), _owners_id(database, interval.interval.owners)
        times = (*_row(interval.interval), interval.boot, interval.epoch)
        if interval.continues:
            names = ", ".join(f"{name} = ?" for name in _TIMES.split(", "))
            changed = database.execute(
                f"UPDATE span SET owners = ?, {names} WHERE question = ? AND closed_at IS NULL",
                (owners, *times, question),
            )
            if changed.rowcount:
                continue
        database.execute(
            "UPDATE span SET closed_at = last_arrived, closed_by = 'pause' WHERE question = ? AND closed_at IS NULL",
            (question,),
        )
        marks = ", ".join("?" * (2 + len(times)))
        database.execute(f"INSERT INTO span (question, owners, {_TIMES}) VALUES ({marks})", (question, owners, *times))


def drop_intervals(database: sqlite3.Connection, before: int) -> None:
    """Delete intervals last confirmed before ``before`` (µs since the epoch), and unused questions and owners."""
    if database.execute("DELETE FROM span WHERE last_arrived < ?", (before,)).rowcount:
        database.execute("DELETE FROM question WHERE id NOT IN (SELECT question FROM span)")
        database.execute("DELETE FROM owners WHERE id NOT IN (SELECT owners FROM span)")


def intervals_at(database: sqlite3.Connection, question: Question, at: float) -> list[StoredInterval]:
    """Intervals of one question that confirm owners for the instant."""
    micro = _micro(at)
    return StoredInterval.read(
        database, f"{_SAME} AND first_arrived <= ? AND last_asked >= ?", (*_question_key(question), micro, micro)
    )


def on_scale(known: OwnershipInterval, offset: float) -> OwnershipInterval:
    """An interval with all its times moved by ``offset`` seconds."""
    return known._replace(
        first_asked=known.first_asked + offset,
        first_arrived=known.first_arrived + offset,
        last_asked=known.last_asked + offset,
        last_arrived=known.last_arrived + offset,
        closed_at=None if known.closed_at is None else known.closed_at + offset,
    )


def _row(known: OwnershipInterval) -> tuple[int | str | None, ...]:
    times = (known.first_asked, known.first_arrived, known.last_asked, known.last_arrived)
    closed_at = None if known.closed_at is None else _micro(known.closed_at)
    return (*(_micro(time) for time in times), known.answers, closed_at, known.closed_by)


def _question_key(question: Question) -> tuple[str, str, str, bytes, bytes]:
    endpoints = _packed(question.source), _packed(question.destination)
    return question.workspace, question.namespace, str(question.shape), *endpoints


def _question_id(database: sqlite3.Connection, question: Question) -> int:
    key = _question_key(question)
    found = database.execute(f"SELECT id FROM question WHERE {_SAME}", key).fetchone()
    if found is None:
        insert = "INSERT INTO question (workspace, namespace, shape, source, destination) VALUES (?, ?, ?, ?, ?)"
        return int(database.execute(insert, key).lastrowid or 0)
    return int(found[0])


def _owners_id(database: sqlite3.Connection, owners: frozenset[Owner]) -> int:
    names = json.dumps(sorted(owners), separators=(",", ":"))
    found = database.execute("SELECT id FROM owners WHERE names = ?", (names,)).fetchone()
    if found is None:
        return int(database.execute("INSERT INTO owners (names) VALUES (?)", (names,)).lastrowid or 0)
    return int(found[0])


def _packed(endpoint: Endpoint | None) -> bytes:
    """18 bytes with address and port; empty for None."""
    if endpoint is None:
        return b""
    high, low = endpoint.address
    return (high << 64 | low).to_bytes(16, "big") + endpoint.port.to_bytes(2, "big")


def _endpoint(packed: bytes) -> Endpoint | None:
    if not packed:
        return None
    parts = (packed[:8], packed[8:16], packed[16:])
    high, low, port = (int.from_bytes(part, "big") for part in parts)
    return Endpoint(Address(high, low), port)


def _micro(seconds: float) -> int:
    return round(seconds * MICROSECONDS)


def _seconds(micro: int | float | None) -> float:
    return (micro or 0) / MICROSECONDS
