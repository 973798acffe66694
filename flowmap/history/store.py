"""Writes the history file: one thread, in transactions within the limits.

If there is no room for new data, the oldest blocks are deleted and their pages reused. So a file at its limit neither
grows nor is rewritten.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from flowmap.errors import DecodeError, HistoryError
from flowmap.history import block, bloom, spool
from flowmap.history.closed_flows import MICROSECONDS, ClosedFlows
from flowmap.history.file import PAGE, Limits, check_place, own_file, set_aside, size_of, translated
from flowmap.history.intervals import INTERVAL_INDEX, INTERVAL_TABLES, StoredInterval, drop_intervals, write_intervals
from flowmap.history.merging import Extent, run_to_merge

APPLICATION_ID = 0x464D4150  # "FMAP"
VERSION = 1
LASTING = 600 * MICROSECONDS
"""µs of life from which flows have a filter of their own, so that they do not widen their block's times."""
BUSY_SECONDS = 0.5
CHECK_SECONDS = 2.0
"""Time limit of SQLite's check of a file when it is opened."""

TABLES = {
    "block": (
        "seq INTEGER PRIMARY KEY, flows INTEGER NOT NULL, "  # number of the first flow, number of flows
        "first INTEGER NOT NULL, usual INTEGER NOT NULL, "  # earliest start: of all, of not lasting ones
        "since INTEGER NOT NULL, last INTEGER NOT NULL, "  # earliest and latest end
        "lasting BLOB NOT NULL, filter BLOB NOT NULL, data BLOB NOT NULL"
    ),
    **INTERVAL_TABLES,
}


class WriteResult(NamedTuple):
    """The outcome of a write."""

    flows: int = 0
    aged: int = 0
    """Flows deleted because they are older than ``retain``."""
    evicted: int = 0
    """Flows deleted to make room."""


class HistoryStore:
    """The history file, open for writing. Every method raises HistoryError with a reason."""

    def __init__(self, path: str, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self.flows = 0
        """Flows in the file."""
        self.oldest: int | None = None
        """µs since the epoch at which the oldest flow ended."""
        self.following = 1
        """Number of the next flow."""
        self.set_aside = 0
        """Number of broken files renamed since startup."""
        self.last_set_aside = ""
        self.interrupted = False
        """Whether the daemon that had the file before did not stop properly."""
        self._begun = False
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._unreadable: set[int] = set()
        self._broken: HistoryError | None = None

    def open(self) -> None:
        """Open or create the file. A broken one is renamed and replaced."""
        try:
            if self._broken is not None:
                raise self._broken
            self._open()
        except HistoryError as error:
            self.close()
            if error.reason not in ("corrupt", "version"):
                raise
            self.last_set_aside = set_aside(self.path, error)
            self.set_aside, self._broken = self.set_aside + 1, None
            self._unreadable.clear()
            self._open()

    def mark_broken(self, error: HistoryError) -> None:
        """Note that the file is broken: the next :meth:`open` renames it."""
        self._broken = error

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._database is not None

    def close(self) -> None:
        """Close the file. It is safe to call this twice."""
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()

    def write(self, flows: ClosedFlows, intervals: Sequence[StoredInterval], *, now: float) -> WriteResult:
        """Append flows and write intervals in one transaction. Old data beyond the limits is deleted.

        ``now``: seconds since the epoch. At most :attr:`Limits.block_flows` flows.
        """
        database = self._usable()
        made = _Row.of(flows) if len(flows) else None
        self._make_room_in_log(made.size if made else 0)
        with self._transaction(database):
            aged = self._delete_aged(database, now)
            evicted = self._make_room(database, (made.size if made else 0) + 512 * len(intervals) + 8 * PAGE)
            write_intervals(database, intervals)
            if made is not None:
                self._append(database, made)
        self._measure(database)
        return WriteResult(len(flows), aged, evicted)

    def merge(self) -> bool:
        """Merge the newest small blocks if they are due. Returns whether any were merged."""
        database = self._usable()
        with translated(self.path):
            tail = database.execute("SELECT seq, flows, since, last FROM block ORDER BY seq DESC LIMIT 64").fetchall()
        extents = [Extent(*row) for row in reversed(tail)]
        run = run_to_merge(
            [extent for extent in extents if extent.seq not in self._unreadable],
            most=self.limits.block_flows,
            longest=int(self.limits.retain / 8 * MICROSECONDS),
        )
        if not run:
            return False
        try:
            parts = [block.Block(self._data(database, extent.seq)).flows() for extent in run]
        except DecodeError:
            self._unreadable.update(extent.seq for extent in run)
            return False
        made = _Row.of(ClosedFlows.concatenate(parts))
        self._make_room_in_log(made.size)
        with self._transaction(database):
            self._make_room(database, made.size + 8 * PAGE)
            database.executemany("DELETE FROM block WHERE seq = ?", [(extent.seq,) for extent in run])
            database.execute(_INSERT, (run[0].seq, *made))
        self._measure(database)
        return True

    def growing_intervals(self) -> list[StoredInterval]:
        """Intervals that can still grow: the last one of every question."""
        database = self._usable()
        with translated(self.path):
            return StoredInterval.read(database, "closed_at IS NULL")

    def ended_since(self, since: float) -> Iterator[ClosedFlows]:
        """The flows of readable blocks with one that ended after ``since`` (seconds since the epoch), newest first."""
        database = self._usable()
        with translated(self.path):
            wanted = (round(since * MICROSECONDS),)
            found = database.execute("SELECT seq FROM block WHERE last >= ? ORDER BY seq DESC", wanted).fetchall()
        for (seq,) in found:
            with contextlib.suppress(DecodeError):
                yield block.Block(self._data(database, seq)).flows()

    def size(self) -> int:
        """Bytes of the file, its log and its index on disk."""
        return sum(size_of(self.path + suffix) for suffix in ("", "-wal", "-shm"))

    def _open(self) -> None:
        check_place(self.path)
        with translated(self.path):
            self._identity = own_file(self.path)
            database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._database = database
            self._check_identity(database)
            self._set_up(database)
        self._measure(database)

    def _check_identity(self, database: sqlite3.Connection) -> None:
        """HistoryError if the file is another program's, of another version, or found corrupt within a time limit."""
        application = _pragma(database, "application_id")
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if application != APPLICATION_ID and (tables or application):
            raise HistoryError(
                f"{self.path} is a database of another program", reason="foreign", remedy="set another history.path"
            )
        if not tables:
            return
        version = _pragma(database, "user_version")
        if version != VERSION or not tables >= TABLES.keys():
            raise HistoryError(f"{self.path} was written by another version ({version})", reason="version")
        with _time_limit(database, CHECK_SECONDS), contextlib.suppress(sqlite3.OperationalError):
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise HistoryError(f"{self.path}: {found}", reason="corrupt")

    def _set_up(self, database: sqlite3.Connection) -> None:
        if not _pragma(database, "application_id"):
            database.execute(f"PRAGMA page_size = {PAGE}")
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if database.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise HistoryError(f"{self.path}: the file system does not allow a write-ahead log", reason="io")
        for pragma in ("synchronous = NORMAL", "wal_autocheckpoint = 0", f"journal_size_limit = {self.limits.log}"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("PRAGMA cache_size = -2048")
        if not _pragma(database, "application_id"):
            with self._transaction(database):
                for name, columns in TABLES.items():
                    database.execute(f"CREATE TABLE {name} ({columns})")
                database.execute(INTERVAL_INDEX)
                database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {VERSION}")
        with self._transaction(database):
            spool.set_up(database)
            self._begin_run(database)
        self._shrink(database)
        database.execute(f"PRAGMA max_page_count = {self.limits.pages}")

    def _begin_run(self, database: sqlite3.Connection) -> None:
        """Note that a daemon has the file. The table has one row; files of an earlier flowmap have none."""
        database.execute("CREATE TABLE IF NOT EXISTS run (stopped INTEGER NOT NULL)")
        before = database.execute("SELECT stopped FROM run").fetchone()
        if before is None:
            database.execute("INSERT INTO run VALUES (0)")
        elif not self._begun:
            self.interrupted = not before[0]
            database.execute("UPDATE run SET stopped = 0")
        self._begun = True

    def end_run(self) -> None:
        """Note that the daemon stops properly, with everything written."""
        database = self._usable()
        with self._transaction(database):
            database.execute("UPDATE run SET stopped = 1")

    def _shrink(self, database: sqlite3.Connection) -> None:
        """Shrink the file to the limit, which may be lower than before."""
        while (over := _pragma(database, "page_count") - self.limits.pages) > 0:
            with self._transaction(database):
                self._evict(database, min(over, 256) - _pragma(database, "freelist_count"))
            before = _pragma(database, "page_count")
            database.execute(f"PRAGMA incremental_vacuum({min(over, 256)})").fetchall()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if _pragma(database, "page_count") >= before:
                break

    def _usable(self) -> sqlite3.Connection:
        database = self._database
        if database is None:
            raise HistoryError(f"{self.path} is not open", reason="cannot_open")
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise HistoryError(f"{self.path} was removed: {error.strerror}", reason="cannot_open") from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise HistoryError(f"{self.path} was replaced by another file", reason="cannot_open")
        return database

    def _append(self, database: sqlite3.Connection, made: _Row) -> None:
        following = spool.take_numbers(database, made.flows)
        database.execute(_INSERT, (following, *made))

    def _delete_aged(self, database: sqlite3.Connection, now: float) -> int:
        before = int((now - self.limits.retain) * MICROSECONDS)
        aged = database.execute("SELECT seq, flows FROM block WHERE last < ? ORDER BY seq", (before,)).fetchall()
        database.executemany("DELETE FROM block WHERE seq = ?", [(seq,) for seq, _ in aged])
        drop_intervals(database, before)
        return sum(flows for _, flows in aged)

    def _make_room(self, database: sqlite3.Connection, size: int) -> int:
        """Delete the oldest data until ``size`` bytes fit. Returns the number of deleted flows."""
        free = self.limits.pages - _pragma(database, "page_count") + _pragma(database, "freelist_count")
        lacking = -(-size // PAGE) + 1 - free
        return self._evict(database, lacking) if lacking > 0 else 0

    def _evict(self, database: sqlite3.Connection, pages: int) -> int:
        """Delete the oldest blocks, then intervals, until so many more pages are free. Returns the deleted flows."""
        wanted, evicted = _pragma(database, "freelist_count") + pages, 0
        while _pragma(database, "freelist_count") < wanted:
            oldest = database.execute("SELECT seq, flows FROM block ORDER BY seq LIMIT 1").fetchone()
            if oldest is None:
                (middle,) = database.execute("SELECT avg(last_arrived) FROM span").fetchone()
                if middle is None:
                    break
                drop_intervals(database, int(middle) + 1)
                continue
            database.execute("DELETE FROM block WHERE seq = ?", (oldest[0],))
            evicted += oldest[1]
        return evicted

    def _make_room_in_log(self, size: int) -> None:
        """Empty the log if the next write could exceed its limit. Readers can prevent that."""
        database = self._usable()
        wanted = 2 * size + 64 * PAGE
        if size_of(f"{self.path}-wal") + wanted <= self.limits.log:
            return
        with translated(self.path):
            busy, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy and size_of(f"{self.path}-wal") + wanted > self.limits.log:
            raise HistoryError(
                f"{self.path}: a reader prevents the write-ahead log from being emptied", reason="locked"
            )

    def _data(self, database: sqlite3.Connection, seq: int) -> bytes:
        with translated(self.path):
            row = database.execute("SELECT data FROM block WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            raise DecodeError("the block was deleted meanwhile")
        data: bytes = row[0]
        return data

    def _measure(self, database: sqlite3.Connection) -> None:
        with translated(self.path):
            (self.flows,) = database.execute("SELECT coalesce(sum(flows), 0) FROM block").fetchone()
            self.following = spool.following(database)
            oldest = database.execute("SELECT since FROM block ORDER BY seq LIMIT 1").fetchone()
        self.oldest = oldest[0] if oldest else None

    @contextmanager
    def _transaction(self, database: sqlite3.Connection) -> Iterator[None]:
        with translated(self.path):
            database.execute("BEGIN IMMEDIATE")
            try:
                yield
                database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise


class _Row(NamedTuple):
    """The columns of table ``block`` after ``seq``."""

    flows: int
    first: int
    usual: int
    since: int
    last: int
    lasting: bytes
    filter: bytes
    data: bytes

    @property
    def size(self) -> int:
        return len(self.lasting) + len(self.filter) + len(self.data) + 128

    @classmethod
    def of(cls, flows: ClosedFlows) -> _Row:
        columns = dict(flows.columns)
        born, ended = columns["born_after"], columns["ended_by"]
        lasting = ended - born >= LASTING
        some = {name: column[lasting] for name, column in columns.items()}
        usual = born[~lasting].min() if not lasting.all() else np.iinfo(np.int64).max
        return cls(
            len(flows),
            int(born.min()),
            int(usual),
            int(ended.min()),
            int(ended.max()),
            bloom.make(bloom.keys_of(some)),
            bloom.make(bloom.keys_of(columns)),
            block.encode(flows),
        )


_INSERT = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def _pragma(database: sqlite3.Connection, name: str) -> int:
    value: int = database.execute(f"PRAGMA {name}").fetchone()[0]
    return value


@contextmanager
def _time_limit(database: sqlite3.Connection, seconds: float) -> Iterator[None]:
    until = time.monotonic() + seconds
    database.set_progress_handler(lambda: time.monotonic() > until, 10_000)
    try:
        yield
    finally:
        database.set_progress_handler(None, 0)
