"""The history file as a spool: what was handed on, by the numbers of flows.

Flows are numbered in the order in which they were written, without gaps. So the number up to which flows were handed on
is all that must be remembered, and a gap in the file is exactly what its limits removed before that.

The table ``spool`` has one row: a random number of this file (another file starts with flow 1 again), the number of the
next flow, the number of the next flow to hand on, and how many were lost before that.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple
from urllib.parse import quote

from flowmap.errors import DecodeError, HistoryError
from flowmap.history.block import Block
from flowmap.history.closed_flows import MICROSECONDS
from flowmap.history.file import translated

BUSY_SECONDS = 5.0
"""Time to wait for the writer's transactions."""

_TABLE = (
    "CREATE TABLE IF NOT EXISTS spool "
    "(file INTEGER NOT NULL, following INTEGER NOT NULL, handed INTEGER NOT NULL, lost INTEGER NOT NULL)"
)


def set_up(database: sqlite3.Connection) -> None:
    """Make the table, also in a file of an earlier flowmap: in it, everything is still to be handed on."""
    database.execute(_TABLE)
    if database.execute("SELECT count(*) FROM spool").fetchone() == (0,):
        database.execute(
            "INSERT INTO spool SELECT ?, coalesce(max(seq + flows), 1), 1, 0 FROM block", (secrets.randbits(63),)
        )


def take_numbers(database: sqlite3.Connection, flows: int) -> int:
    """The number of the first of some new flows. Numbers go on even if the limits removed every flow."""
    first = following(database)
    database.execute("UPDATE spool SET following = ?", (first + flows,))
    return first


def following(database: sqlite3.Connection) -> int:
    """The number of the next flow."""
    (number,) = database.execute("SELECT following FROM spool").fetchone()
    return int(number)


class Position(NamedTuple):
    """How far the spool was handed on."""

    file: int
    """Number of the history file."""
    handed: int
    """Number of the next flow to hand on."""
    following: int
    """Number of the next flow to be written."""
    lost: int
    """Flows of this file that its limits removed before they were handed on, or that cannot be read."""
    oldest: float | None
    """Seconds since the epoch at which the first to end of the flows that are still to be handed on ended; None without
    one."""

    @property
    def waiting(self) -> int:
        """Flows to hand on, with those that the limits removed."""
        return self.following - self.handed


class Part(NamedTuple):
    """Flows of one block that are still to be handed on."""

    first: int
    """Number of the first one."""
    skip: int
    """Flows of the block before it."""
    block: Block

    def __len__(self) -> int:
        return len(self.block) - self.skip

    @property
    def end(self) -> int:
        """Number after the last one."""
        return self.first + len(self)


class Spool:
    """Reads flows in their order, and remembers how far. Every method blocks and raises HistoryError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest: tuple[tuple[int, int, int], int] = (0, 0, 0), 0  # of the block that is handed on in part
        self.unreadable = 0
        """Flows of blocks that could not be decoded, and were passed over."""

    def position(self) -> Position:
        """How far it is."""
        with self._database() as database:
            file, handed, number, lost = database.execute("SELECT file, handed, following, lost FROM spool").fetchone()
            ends = database.execute("SELECT min(since) FROM block WHERE seq >= ?", (handed,)).fetchone()[0]
            partly = database.execute(
                "SELECT seq, flows, since FROM block WHERE seq < ? AND seq + flows > ? ORDER BY seq DESC LIMIT 1",
                (handed, handed),
            ).fetchone()
            if partly is not None:
                rest = self._end_of_rest(database, handed, *partly)
                ends = rest if ends is None else min(ends, rest)
        return Position(file, handed, number, lost, None if ends is None else ends / MICROSECONDS)

    def _end_of_rest(self, database: sqlite3.Connection, handed: int, seq: int, flows: int, since: int) -> int:
        """The first end, in µs, of the flows of a block that are still to be handed on; others may be days older."""
        if self._rest[0] != (handed, seq, flows):
            (data,) = database.execute("SELECT data FROM block WHERE seq = ?", (seq,)).fetchone()
            with suppress(DecodeError):  # it is passed over when it is its turn
                since = int(Block(data).column("ended_by")[handed - seq :].min())
            self._rest = (handed, seq, flows), since
        return self._rest[1]

    def parts(self, after: int, most: int) -> list[Part]:
        """The next flows with numbers of at least ``after``: whole blocks, until there are ``most`` flows."""
        found: list[Part] = []
        with self._database() as database:
            rows = database.execute("SELECT seq, flows, data FROM block WHERE seq + flows > ? ORDER BY seq", (after,))
            for seq, flows, data in rows:
                try:
                    found.append(Part(max(seq, after), max(0, after - seq), Block(data)))
                except DecodeError:
                    self.unreadable += flows - max(0, after - seq)
                most -= flows
                if most <= 0:
                    break
        return found

    def hand_on(self, file: int, end: int, lost: int) -> None:
        """Remember that all flows before ``end`` of this file were handed on, except ``lost`` more."""
        with self._database(mode="rw") as database:
            database.execute("UPDATE spool SET handed = ?, lost = lost + ? WHERE file = ?", (end, lost, file))

    @contextmanager
    def _database(self, mode: str = "ro") -> Iterator[sqlite3.Connection]:
        with translated(self._path):
            database = sqlite3.connect(
                f"file:{quote(self._path)}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
            )
            with closing(database):
                try:
                    yield database
                except TypeError as error:  # no row: a file that the writer has not set up yet
                    raise HistoryError(f"{self._path} is not ready", reason="cannot_open") from error
