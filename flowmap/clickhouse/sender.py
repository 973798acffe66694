"""The thread that sends the flows of the history to ClickHouse, in their order.

The history file is the spool: what was not sent yet waits there, within its limits. A batch is sent again until the
server has confirmed it. A row has the number of its flow, so a batch that arrives twice is no second row.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, Protocol

from flowmap import __version__
from flowmap.clickhouse import bodies
from flowmap.clickhouse.compression import compress
from flowmap.clickhouse.initialising import Rows, explained
from flowmap.clickhouse.schema import ENDS, HOSTS, NAMES
from flowmap.errors import DecodeError, HistoryError, QueryError
from flowmap.history.closed_flows import MICROSECONDS
from flowmap.history.spool import Part, Position, Spool
from flowmap.model.deployment import Owner

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two looks at the history."""
REPORT_EVERY = 60.0
"""Seconds between two reports of how far this host is."""
MOST_FLOWS = 1 << 17
"""Flows of a batch, some 8 MB of rows."""
FEW_FLOWS = 1 << 14
"""Fewer are collected by the server with those of other hosts: else a thousand hosts would make a thousand parts."""
RETRY_FIRST, RETRY_LAST = 1.0, 60.0
"""Seconds until a failed batch is sent again, at first and at most."""
SETTLING = 15.0
"""Seconds after which the end of a flow is known to this host, and counts in :class:`Unwritten`."""
MOST_NAMES = 100_000
NAMES_AGAIN = 600 * MICROSECONDS
"""Time in µs after which an unchanged name is sent again: another host may have sent a former one since."""
SILENT_AFTER = 10.0
"""Seconds after which the server is reported for an exchange that is under way; a large insert may take 60 s."""
LOG_EVERY = 60.0
FOR_GOOD = 7258118400.0
"""2200-01-01: ``complete_until`` of a host that was stopped and has sent everything."""


class Unwritten(NamedTuple):
    """The flows of this host that are not in its history file."""

    since: float | None = None
    """Seconds since the epoch: each of them ended at this time or later. None: just now."""
    lost: int = 0
    """Those that the history lost since the daemon started, as its file could not be written."""


class Inserts(Rows, Protocol):
    """What a sender needs of the server; HistoryError if the rows are not known to be in their table."""

    def insert(
        self, into: str, body: bytes, *, encoding: str | None = None, token: str = "", few: bool = False
    ) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class SenderFigures:
    """Figures of a sender, written by its thread and read by any."""

    up: bool = False
    """Whether the last exchange with the server succeeded."""
    sent: int = 0
    """Flows confirmed by the server."""
    batches: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """Flows that will never be sent: ``limits`` (the history removed them first), ``unreadable``, ``replaced`` (with a
    broken file)."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failed exchanges, by reason; ``namesake``: reports after that of another daemon with the name of this host."""
    waiting: int = 0
    """Flows in the history that are still to be sent."""
    oldest: float | None = None
    """Seconds since the epoch at which the oldest of them ended."""
    complete_until: float | None = None
    """Every flow that ended before this was sent or is lost."""
    problem: str | None = None
    """Why the last exchange failed, or what else is wrong."""
    asked_at: float | None = None
    """Monotonic time at which the exchange that is under way began; None without one."""

    def silence(self) -> str | None:
        """For how long the server has not answered, in one line; None up to :data:`SILENT_AFTER`."""
        asked_at = self.asked_at
        if asked_at is None or (waited := time.monotonic() - asked_at) <= SILENT_AFTER:
            return None
        return f"the server has not answered for {waited:.0f} s; see whether it hangs or has too much to do"


class Sender(threading.Thread):
    """Sends the flows of one host."""

    def __init__(
        self,
        spool: Spool,
        server: Inserts,
        origin: bodies.Origin,
        *,
        source: str = "",
        unwritten: Callable[[], Unwritten] = Unwritten,
        every: float = EVERY,
        retry_first: float = RETRY_FIRST,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name="clickhouse", daemon=True)  # a server that hangs must not keep the daemon from stopping
        self.figures = SenderFigures()
        self._spool = spool
        self._server = server
        self._origin = origin
        self._source = source
        self._unwritten = unwritten
        self._unwritten_lost = 0
        self._every = every
        self._clock = clock
        self._retry_first = self._pause = retry_first
        self._stopping = threading.Event()
        self._whole = False
        self._last: Position | None = None
        self._unsaved: tuple[int, int] = (0, 0)
        self._reported: set[int] = set()  # history files of this process
        self._namesake: str | None = None
        self._names: dict[str, tuple[str, int]] = {}  # with the time that was sent with it
        self._reported_at = float("-inf")
        self._logged_at = float("-inf")

    def stop(self, *, whole: bool) -> None:
        """Send one batch more, report how far this host is, and end. What is not sent yet stays in the history file.

        ``whole``: no flow of this host will be written to the file any more. If all were sent, the host is reported as
        complete for good: until its next start.
        """
        self._whole = whole
        self._stopping.set()

    def run(self) -> None:
        wait = random.uniform(0.0, min(1.0, self._every))  # so that hosts do not come all at once
        try:
            while not self._stopping.wait(wait):
                wait = self.turn()
            if self.figures.up or not self.figures.failures:
                self.turn()
        except Exception:  # a defect here must stop the sending only
            log.exception(
                "clickhouse: sending stopped after a defect: the daemon continues without it; please report this"
            )
            self.figures.up, self.figures.problem = False, "sending stopped after a defect; the log has the traceback"
        finally:
            self._server.close()

    def turn(self) -> float:
        """Send what waits. Returns the seconds to wait for the next turn."""
        figures = self.figures
        try:
            self._look()
            while self._send_batch() and not self._stopping.is_set():
                pass
            self._report()
        except HistoryError as error:
            return self._failed(explained(error, self._server))
        except QueryError as error:  # the server's limits of queries do not hold for inserts, but a proxy's may
            return self._failed(HistoryError(str(error), reason="server"))
        if not figures.up:
            log.info("clickhouse: the server accepts flows")
        figures.up, figures.problem, self._pause = True, self._namesake, self._retry_first
        return self._every

    def _look(self) -> Position:
        settled = self._clock() - SETTLING
        unwritten = self._unwritten()  # before the file: flows go that way
        position = self._spool.position()
        figures, last = self.figures, self._last
        if last is not None and last.file != position.file:
            figures.lost["replaced"] += figures.waiting
        if position.file == self._unsaved[0]:  # the file could not be written after a batch was confirmed
            position = position._replace(handed=max(position.handed, self._unsaved[1]))
        figures.waiting, figures.oldest = position.waiting, position.oldest
        first = [end for end in (settled, unwritten.since, position.oldest) if end is not None]
        figures.complete_until, self._unwritten_lost = min(first), unwritten.lost
        self._last = position
        return position

    def _send_batch(self) -> bool:
        """Send the next flows. Whether there were any."""
        position = self._last
        assert position is not None, "looked"
        unreadable = self._spool.unreadable
        parts = self._spool.parts(position.handed, MOST_FLOWS)
        if not parts:
            return False
        blocks, sent = [], 0
        for part in parts:
            try:
                self._send_names(part)
                blocks.append(bodies.encode(part, position.file, self._origin))
                sent += len(part)
            except DecodeError as error:
                log.warning("clickhouse: %s: %d flows cannot be sent", error, len(part))
                self._spool.unreadable += len(part)
        end = parts[-1].end
        if blocks:
            body = compress(b"".join(blocks))
            token = f"{self._origin.host}-{position.file}-{blake2b(body.data, digest_size=16).hexdigest()}"
            with self._exchange():
                self._server.insert(
                    f"INSERT INTO {ENDS} ({', '.join(bodies.COLUMNS)}) FORMAT Native",
                    body.data,
                    encoding=body.encoding,
                    token=token,
                    few=sent < FEW_FLOWS,
                )
        self._confirmed(position, end, sent, self._spool.unreadable - unreadable)
        return True

    def _confirmed(self, position: Position, end: int, sent: int, unreadable: int) -> None:
        figures = self.figures
        removed = end - position.handed - sent - unreadable
        figures.sent += sent
        figures.batches += 1
        for reason, flows in (("unreadable", unreadable), ("limits", removed)):
            if flows:
                figures.lost[reason] += flows
        self._unsaved = position.file, end
        self._last = position._replace(handed=end, lost=position.lost + removed + unreadable)
        self._spool.hand_on(position.file, end, removed + unreadable)
        self._look()

    def _send_names(self, part: Part) -> None:
        """Send the names that this process has not sent yet, or long ago, with the time of their newest flow.

        The store keeps the name with the latest time, so a host that learns of a rename late replaces nothing.
        """
        now = round(self._clock() * MICROSECONDS)
        news: dict[str, tuple[Owner, int]] = {}
        for key, (owner, began) in bodies.named(part).items():
            seen = min(began, now)  # a clock that was set must not keep later names out
            name, sent = self._names.get(key, ("", -1))
            if seen > sent + (NAMES_AGAIN if owner.name == name else 0):
                news[key] = owner, seen
        if not news:
            return
        self._insert_rows(
            NAMES,
            [
                {
                    "key": key,
                    "workspace": owner.workspace,
                    "namespace": owner.namespace,
                    "deployment_id": owner.deployment_id,
                    "name": owner.name,
                    "seen": seen / MICROSECONDS,
                }
                for key, (owner, seen) in news.items()
            ],
        )
        if len(self._names) > MOST_NAMES:
            self._names.clear()
        self._names |= {key: (owner.name, seen) for key, (owner, seen) in news.items()}

    def _report(self) -> None:
        """Report how far this host is, now and then and at the end."""
        now = time.monotonic()
        if now - self._reported_at < REPORT_EVERY and self.figures.up and not self._stopping.is_set():
            return
        position, figures = self._look(), self.figures
        for_good = self._stopping.is_set() and self._whole and not position.waiting
        if self._reported:
            self._note_namesake()
        self._reported.add(position.file)
        row = {
            "host": self._origin.host,
            "spool": position.file,
            "seen": self._clock(),
            "complete_until": FOR_GOOD if for_good else figures.complete_until,
            "sent": max(0, position.handed - 1 - position.lost),
            "lost": position.lost + self._unwritten_lost,
            "waiting": position.waiting,
            "source": self._source,
            "flowmap": __version__,
        }
        self._insert_rows(HOSTS, [row])
        self._reported_at = now

    def _note_namesake(self) -> None:
        """Note whether the newest report of this host is that of another daemon."""
        host = self._origin.host
        newest = f"SELECT argMax(spool, arrived) FROM {HOSTS} WHERE host = {{host:String}} HAVING count() > 0"
        with self._exchange():
            found = self._server.rows(newest, {"host": host})
        others = [spool for (spool,) in found if int(spool) not in self._reported]
        if not others:
            self._namesake = None
            return
        self.figures.failures["namesake"] += 1
        if self._namesake is None:
            self._namesake = f"another daemon sends as {host!r} too; give each its own history.clickhouse.host"
            log.warning("clickhouse: %s", self._namesake)

    def _insert_rows(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        body = "\n".join(json.dumps(row) for row in rows).encode()
        with self._exchange():
            self._server.insert(f"INSERT INTO {table} ({', '.join(rows[0])}) FORMAT JSONEachRow", body, few=True)

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        """Around each exchange with the server: others see how long it takes."""
        self.figures.asked_at = time.monotonic()
        try:
            yield
        finally:
            self.figures.asked_at = None

    def _failed(self, error: HistoryError) -> float:
        figures = self.figures
        figures.up = False
        figures.failures[error.reason] += 1
        figures.problem = f"{error}; {error.remedy}" if error.remedy else str(error)
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            log.warning("clickhouse: flows wait in the history: %s", figures.problem)
        pause, self._pause = self._pause, min(RETRY_LAST, self._pause * 2)
        return pause * random.uniform(0.75, 1.25)
