"""The conntrack source: every connection the kernel tracks in one network namespace, with its changes.

A full read (dump) at the start, on a timer and after every loss; NEW, UPDATE and DESTROY events in between. The groups
are joined before the first dump. Events that arrived during a dump are delivered before its ``ReadFinished``. So the
final record of a flow always precedes the sweep that ends flows without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from flowmap.errors import SourceError
from flowmap.flows.records.batch import Datagrams, Flag
from flowmap.model.source import SourceStats
from flowmap.sources.base import CaughtUp, Lost, ReadFinished, ReadReason, ReadStarted, Step
from flowmap.sources.conntrack import check
from flowmap.sources.conntrack.dump import Dump
from flowmap.sources.kinds import KINDS
from flowmap.sources.netlink_socket import NETLINK_NETFILTER, NetlinkSocket, Received
from flowmap.sources.read_pace import Stopwatch, pause_after
from flowmap.system.workers import Workers
from flowmap.wire.netlink.conntrack import Group
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder

if TYPE_CHECKING:
    from flowmap.config import CollectConfig

EVENT_CHUNK = 1 << 20
"""Bytes of events decoded at a time, about 4,000 events."""
EVENTS_A_POLL = 65_536
"""Records after which ``poll`` returns even if more are waiting."""
DUMP_ATTEMPTS = 3
"""Attempts in one full read while the kernel marks dumps as inconsistent."""
LOSS_BACKOFF = 10.0
"""Seconds between full reads after losses; doubles up to ``LOSS_BACKOFF_LIMIT`` while losses continue."""
LOSS_BACKOFF_LIMIT = 120.0
LAST_READ = 1.0
"""``finish`` does a full read if the last one took at most so many seconds."""
BUFFER_GROWTH = 4
"""Limit of the receive buffer after overruns, as a multiple of its configured size."""


class ConntrackSource:
    """Flows of the network namespace of the thread that calls ``open``.

    ``resync``: longest pause in seconds between full reads, see ``sources/read_pace``. ``receive_buffer``: bytes
    requested for the event socket; doubled after an overrun, up to four times. ``enable_accounting``: set
    ``nf_conntrack_acct`` to 1 in ``open``.
    """

    facts = KINDS["conntrack"].facts
    as_of = float("inf")

    def __init__(
        self,
        *,
        resync: float = 30.0,
        receive_buffer: int = 64 << 20,
        enable_accounting: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = SourceStats()
        self.resync = resync
        self._receive_buffer = receive_buffer
        self._enable_accounting = enable_accounting
        self._refused: dict[str, str] = {}
        """Why accounting could not be enabled, as a note."""
        self._clock = clock
        self._decoder = ColumnDecoder()
        self._ahead = Workers("dump", 1)
        self._events: NetlinkSocket | None = None
        self._due: tuple[float, ReadReason] = (0.0, "start")
        self._backoff = 0.0
        self._trusted = False
        """A read was complete and nothing was lost since: the flow table has the kernel's state."""
        self._finishing: bool | None = None
        """``complete`` of a read whose dump has ended while events that arrived during it are still queued."""
        self._announced: bool | None = True
        """Whether the kernel sends events at all; None while unknown."""
        self._blind = True
        """No read was complete yet: entries may be older than the event socket and end without an event."""

    def configure(self, settings: CollectConfig) -> None:
        """Apply the time between full reads; for the thread that reads the source."""
        self.resync = settings.conntrack.resync

    def open(self) -> None:
        """Join the event groups; SourceDenied without CAP_NET_ADMIN."""
        self.close()
        self._refused = self._enable_kernel_accounting() if self._enable_accounting else {}
        self._events = NetlinkSocket(
            NETLINK_NETFILTER, groups=Group, receive_buffer=self._receive_buffer, chunk=EVENT_CHUNK
        )
        self._due = (self._clock(), "start")
        self._backoff, self._trusted, self._finishing, self._blind = 0.0, False, None, True
        self._announced = None
        self.stats.receive_buffer, self.stats.offloaded = self._events.receive_buffer, {}
        self.stats.notes = self._degradations(check.read_settings())
        self.stats.up = True

    def close(self) -> None:
        """Close the event socket; safe to call twice."""
        self.stats.up = False
        if self._events is not None:
            self._events.close()
            self._events = None

    def fileno(self) -> int:
        """The event socket; -1 while closed."""
        return -1 if self._events is None else self._events.fileno()

    def deadline(self) -> float:
        """When the next full read is due."""
        return self._due[0]

    def poll(self) -> Iterator[Step]:
        """A full read if due, then events until the queue is empty or a limit is reached."""
        if self._events is None:
            raise SourceError("the conntrack source is not open")
        if self._finishing is None and self._clock() >= self._due[0]:
            if self._trusted:  # a flow that ended before the read must not be mixed up with its successor in the read
                yield from self._read_events(self._events)
            yield from self._read_all(self._due[1])
        yield from self._read_events(self._events)

    def finish(self) -> Iterator[Step]:
        """A full read unless the last one took long, then the waiting events."""
        if self._finishing is None and self.stats.resync_seconds <= LAST_READ:
            self._due = (self._clock(), self._due[1])
        yield from self.poll()

    def _read_all(self, reason: ReadReason) -> Iterator[Step]:
        self._ahead.start()  # not in open(): the thread would keep privileges that are dropped after it
        watch = Stopwatch(self._clock)
        self.stats.count_resync(reason)
        yield ReadStarted(reason)
        self._finishing = False
        for _ in range(DUMP_ATTEMPTS):
            marked = int(Flag.END_UNANNOUNCED) if self._blind else 0
            dump, census = Dump(self._decoder, self._ahead, marked=marked), check.Census()
            for batch in dump.batches():
                self.stats.records += len(batch)
                census.add(batch)
                yield batch
            self.stats.count_lost("malformed", dump.malformed)
            if dump.complete:
                break
        self._finishing = dump.complete
        self.stats.resync_seconds = watch.seconds()
        if reason == "timer":
            self._backoff = 0.0
        self._due = (self._clock() + pause_after(watch.cost(), self.resync), "timer")
        settings = check.read_settings()
        self.stats.offloaded = census.offloaded
        self.stats.notes = {
            **self._degradations(settings),
            **_uncounted_note(census.uncounted, counting=settings.accounting != 0),
            **check.notes([check.offload_finding(census)]),
        }

    def _read_events(self, events: NetlinkSocket) -> Iterator[Step]:
        """Deliver waiting events, in bounded number, so that a burst does not block the caller."""
        delivered = 0
        while delivered < EVENTS_A_POLL:
            at = self._clock()
            received = events.receive()
            if received.starts:
                decoded = self._decoder.decode(received.data, received.starts)
                self.stats.count_lost("malformed", decoded.malformed)
                self.stats.records += len(decoded.batch)
                if self._announced is None and len(decoded.batch):
                    self._announced = True
                delivered += len(decoded.batch)
                decoded.batch.datagrams = Datagrams(received.data, received.starts)
                yield decoded.batch
            if received.overrun or received.truncated:
                yield self._lose(events, received)
            if received.drained:
                yield from self._caught_up(at)
                return

    def _caught_up(self, at: float) -> Iterator[Step]:
        if self._finishing is not None:
            self._trusted = self._finishing
            self._finishing = None
            if self._trusted:
                self._blind = False
            else:
                self._read_again()
            yield ReadFinished(self._trusted)
        if self._trusted and self._announced:
            yield CaughtUp(at)

    def _lose(self, events: NetlinkSocket, received: Received) -> Lost:
        """Count a loss. The kernel drops more until the queue is empty, so reading continues."""
        self._trusted = False
        if self._finishing is not None:
            self._finishing = False
        self.stats.count_lost("truncated", received.truncated)
        if received.overrun:
            self.stats.overruns += 1
            self.stats.receive_buffer = events.grow(
                min(2 * events.receive_buffer, BUFFER_GROWTH * self._receive_buffer)
            )
        self._read_again()
        return Lost("overrun" if received.overrun else "truncated")

    def _read_again(self) -> None:
        """Schedule a full read: at once after the first loss, with growing pauses while losses continue, never later
        than the timer."""
        due, reason = self._due
        if reason != "timer":
            return
        now = self._clock()
        self._due = (min(due, now + self._backoff), "start" if self._blind else "overrun")
        wait = f"changes were lost: flows may be stale until the full read in {self._due[0] - now:.0f} s"
        self.stats.notes = {**self.stats.notes, "loss": wait}
        self._backoff = min(max(LOSS_BACKOFF, 2 * self._backoff), LOSS_BACKOFF_LIMIT)

    def _degradations(self, settings: check.ConntrackSysctls) -> dict[str, str]:
        self.stats.accounting = bool(settings.accounting)
        if settings.events is not None:
            self._announced = settings.events != 0
        probe = check.ConntrackProbe(self._receive_buffer, self.stats.receive_buffer)
        found = check.notes(check.findings(settings, probe))
        return found if settings.accounting else found | self._refused

    def _enable_kernel_accounting(self) -> dict[str, str]:
        try:
            check.write_accounting()
        except OSError as error:
            return {"enable_accounting": f"nf_conntrack_acct could not be set to 1: {error.strerror}"}
        return {}


def _uncounted_note(entries: int, *, counting: bool) -> dict[str, str]:
    """``counting``: whether new entries get counters."""
    if not entries:
        return {}
    why = "they are older than nf_conntrack_acct=1" if counting else "accounting is off"
    return {"uncounted": f"{entries} entries of the last full read have no byte counters: {why}"}
