"""Records what the one writer does to the books, and never keeps it waiting.

The writer's thread only notes what it does; about once a second the notes go to a thread of the recorder's own, which
arranges, deflates and writes them. Where that cannot keep up, or the disk or the size allowed does not, the recording
ends and says why: one with a hole would replay wrongly. The daemon goes on as if nothing were recorded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flowmap import __version__
from flowmap.attribute.questions import Question
from flowmap.attribute.ranges import Range
from flowmap.books import Books
from flowmap.collect.base import Source, SourceFacts, SourceStats, Step, Tapped
from flowmap.config import Config
from flowmap.export.snapshot import RecordingReport
from flowmap.flows.batch import COLUMNS, FlowBatch
from flowmap.operations import Delivery, Tuning
from flowmap.record.codec import encode_entries
from flowmap.record.container import Kind
from flowmap.record.entries import (
    Asked,
    ClockSet,
    Delivered,
    Entry,
    Figures,
    GaveUp,
    Marked,
    Messages,
    Restored,
    Settled,
    Stepped,
    Tidied,
    Tuned,
)
from flowmap.record.file import FORMAT, Full, RecordingFile
from flowmap.record.settings import kept_settings

log = logging.getLogger(__name__)

Ending = Literal["stopped", "size", "disk", "behind", "defect"]

_WHY: Mapping[Ending, str] = {
    "stopped": "the daemon was stopped",
    "size": "it has the size that --record-max-size allows",
    "disk": "the disk takes no more",
    "behind": "writing it could not keep up with what there was to record",
    "defect": "recording failed",
}

SEAL_BYTES = 1 << 20
"""Bytes of notes that are handed over at once, whatever the time."""
SEAL_EVERY = 1.0
"""Seconds after which notes are handed over; a daemon that is killed loses no more than these from its recording."""
MAX_WAITING = 64 << 20
"""Bytes of notes that may wait for being written."""
CLOSE_SECONDS = 1.0
"""Longest wait for a disk in the end."""
CLOCK_SET = 0.01
"""Seconds by which the wall clock must have moved against the monotonic one to be noted."""

_NOTE_BYTES = 64  # about what one note takes that carries no data
_RECORD_BYTES = sum(dtype.itemsize for dtype in COLUMNS.values())


@dataclass(frozen=True, slots=True)
class RecordTo:
    """Where a recording goes, and how large it may become."""

    path: Path
    max_size: int
    """Bytes."""
    overwrite: bool = False


def start_recording(wanted: RecordTo, config: Config, books: Books, source: Source) -> Recorder:
    """Make the file and begin; ConfigError if that cannot be done. The source is not open yet."""
    file = RecordingFile(wanted.path, max_size=wanted.max_size, overwrite=wanted.overwrite)
    facts = {"source": SourceFacts.of(source), "settings": kept_settings(config)}
    recorder = Recorder(books, file, facts=facts, stats=lambda: source.stats)
    if isinstance(source, Tapped):
        source.tap = recorder.tap
    return recorder


class Recorder:
    """Implements ``flowmap.operations.Operations`` before the books. :meth:`close` when nothing more will happen."""

    def __init__(
        self,
        books: Books,
        file: RecordingFile,
        *,
        facts: Mapping[str, object],
        stats: Callable[[], SourceStats],
        max_waiting: int = MAX_WAITING,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``facts`` say what is recorded; ``stats`` gives the source's counts, on the writer's thread."""
        self._books = books
        self._file = file
        self._stats = stats
        self._max_waiting = max_waiting
        self._clock, self._wall_clock = clock, wall_clock
        self._ending: Ending | None = None
        self._detail = ""
        self._entries: list[Entry] = []
        self._noted = 0
        self._tapped: Messages | None = None
        self._epoch = wall_clock() - clock()
        self._sealed_at = self._mark_at = clock()
        self._waiting: deque[tuple[list[Entry], int]] = deque()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._work = threading.Semaphore(0)
        begin = {"format": FORMAT, "flowmap": __version__, "startedAt": wall_clock(), "epoch": self._epoch, **facts}
        self._thread = threading.Thread(target=self._write_all, args=(begin,), name="recorder", daemon=True)

    # What the writer's thread calls.

    def tap(self, data: memoryview, starts: Sequence[int], marked: int = 0) -> None:
        """The batch that comes next was decoded from these datagrams, and ``marked`` set on each of its records."""
        if self._ending is None:
            self._tapped = Messages(bytes(data), tuple(starts), marked)

    def step(self, step: Step, *, now: float, read_at: float) -> None:
        """See ``Operations``."""
        tapped, self._tapped = self._tapped, None
        if not isinstance(step, FlowBatch):
            self._note(Stepped(step, now, read_at))
        elif tapped is None:
            self._note(Stepped(step, now, read_at), _NOTE_BYTES + len(step) * _RECORD_BYTES)
        else:
            self._note(Stepped(tapped, now, read_at), len(tapped.data) + 8 * len(tapped.starts))
        self._books.step(step, now=now, read_at=read_at)

    def ask(self, *, now: float, limit: int) -> list[Question]:
        """See ``Operations``."""
        questions = self._books.ask(now=now, limit=limit)
        self._note(Asked(now, limit, len(questions)))
        return questions

    def deliver(self, delivery: Delivery, *, now: float) -> None:
        """See ``Operations``."""
        self._note(Delivered(delivery, now), 1024 * (1 + len(delivery.deployments)))
        self._books.deliver(delivery, now=now)

    def settle(self, now: float) -> None:
        """See ``Operations``. Done at every turn, so this is where notes are handed over."""
        self._note(Settled(now))
        self._books.settle(now)
        if now - self._sealed_at >= SEAL_EVERY:
            self._seal(now)

    def give_up(self, *, older_than: float, now: float) -> None:
        """See ``Operations``."""
        self._note(GaveUp(older_than, now))
        self._books.give_up(older_than=older_than, now=now)

    def tidy(self, now: float) -> None:
        """See ``Operations``."""
        self._note(Tidied(now))
        self._books.tidy(now)

    def tune(self, tuning: Tuning) -> None:
        """See ``Operations``."""
        self._note(Tuned(tuning))
        self._books.tune(tuning)

    def restore(self, known: Sequence[tuple[Question, Range]], *, now: float) -> None:
        """See ``Operations``."""
        if known:
            self._note(Restored(tuple(known), now), 512 * len(known))
        self._books.restore(known, now=now)

    # For other threads.

    def start(self) -> None:
        """Begin to write. Not before privileges are dropped: a thread would keep its own."""
        self._thread.start()
        log.info("recording to %s: it will hold addresses and names of deployments", self._file.path)

    def report(self) -> RecordingReport:
        """How it stands."""
        ending = self._ending
        return RecordingReport(
            path=str(self._file.path),
            size=self._file.size,
            active=ending is None,
            ended="" if ending is None else ending,
        )

    def finish(self, *, whole: bool = True) -> threading.Thread:
        """Ask for the end: what was noted is written and the file is closed by the thread that is returned.

        ``whole``: the writer has ended.
        """
        if self._ending is None and whole:
            self._seal(self._clock(), last=True)
        self._end("stopped")
        return self._thread

    def close(self) -> None:
        """:meth:`finish`, and wait for it a little."""
        thread = self.finish()
        if thread.ident is not None:
            thread.join(CLOSE_SECONDS)

    # Notes.

    def _note(self, entry: Entry, size: int = _NOTE_BYTES) -> None:
        if self._ending is not None:
            return
        self._entries.append(entry)
        self._noted += size
        if self._noted >= SEAL_BYTES:
            self._hand_over()

    def _seal(self, now: float, *, last: bool = False) -> None:
        """Note how the books stand, and hand the notes over."""
        self._sealed_at = now
        if self._ending is not None:
            return
        epoch = self._wall_clock() - self._clock()
        if abs(epoch - self._epoch) > CLOCK_SET:
            self._epoch = epoch
            self._note(ClockSet(epoch))
        if now >= self._mark_at or last:
            began = self._clock()
            stats = self._stats()
            copied = replace(stats, lost=dict(stats.lost), resyncs=dict(stats.resyncs), notes=dict(stats.notes))
            self._note(Marked(now, Figures.of(self._books), copied))
            # With 100,000 series the figures take a while; they must not take more than a hundredth of the time.
            self._mark_at = now + 100 * (self._clock() - began)
        self._hand_over()

    def _hand_over(self) -> None:
        entries, size = self._entries, self._noted
        self._entries, self._noted = [], 0
        if not entries:
            return
        with self._lock:
            fits = not self._waiting_bytes or self._waiting_bytes + size <= self._max_waiting
            if fits:
                self._waiting.append((entries, size))
                self._waiting_bytes += size
        if fits:
            self._work.release()
        else:
            self._end("behind")

    # The recorder's thread.

    def _write_all(self, begin: dict[str, object]) -> None:
        try:
            self._file.begin(begin)
            while self._write_next():
                pass
        except Full:
            self._end("size")
        except OSError as error:
            self._end("disk", error.strerror or "")
        except Exception:  # a defect here must not touch the daemon
            log.exception("recording failed")
            self._end("defect")
        finally:
            self._file.end({"reason": self._ending, "at": self._wall_clock()})
            self._say_that_it_ended()

    def _write_next(self) -> bool:
        """Write what was handed over; False once nothing more comes."""
        self._work.acquire()
        with self._lock:
            if not self._waiting:
                return self._ending is None
            entries, size = self._waiting.popleft()
        self._file.append(Kind.OPERATIONS, encode_entries(entries))
        with self._lock:
            self._waiting_bytes -= size
        return True

    def _end(self, ending: Ending, detail: str = "") -> None:
        with self._lock:
            if self._ending is None:
                self._ending, self._detail = ending, detail
        self._work.release()

    def _say_that_it_ended(self) -> None:
        ending = self._ending or "defect"
        level = logging.INFO if ending == "stopped" else logging.WARNING
        why = _WHY[ending] + (f": {self._detail}" if self._detail else "")
        log.log(level, "the recording to %s ends after %d bytes: %s", self._file.path, self._file.size, why)
