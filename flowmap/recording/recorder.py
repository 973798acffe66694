"""Records the commands of the engine without blocking it.

The engine's thread only collects entries. About once a second it passes them to the recorder's thread, which encodes,
deflates and writes them. If that thread is too slow, the disk is full or the file is too large, the recording ends with
a reason: a recording with a gap would replay wrongly. The daemon continues without it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flowmap import __version__
from flowmap.attribute.questions import Question
from flowmap.config import Config
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Ask, Command, Decide, Deliver, Restore, TakeStep
from flowmap.flows.records.batch import COLUMNS, Datagrams, FlowBatch
from flowmap.model.source import SourceStats
from flowmap.model.status import RecordingReport
from flowmap.recording.codec import encode_entries
from flowmap.recording.container import ChunkKind
from flowmap.recording.entries import Asked, Checkpoint, ClockSet, Entry, Marked, Undecoded
from flowmap.recording.file import FORMAT, Full, RecordingFile
from flowmap.recording.settings import kept_settings
from flowmap.sources.base import Source

log = logging.getLogger(__name__)

Ending = Literal["stopped", "size", "disk", "behind", "defect"]

_WHY: Mapping[Ending, str] = {
    "stopped": "the daemon was stopped",
    "size": "it has reached --record-max-size",
    "disk": "the file cannot be written",
    "behind": "writing could not keep up",
    "defect": "recording failed; please report this",
}

SEAL_BYTES = 1 << 20
"""Bytes of entries after which they are passed to the thread."""
SEAL_EVERY = 1.0
"""Seconds after which entries are passed to the thread; a killed daemon loses at most those of this time."""
MAX_WAITING = 64 << 20
"""Largest number of bytes that wait to be written."""
CLOSE_SECONDS = 1.0
"""Longest wait for the disk in :meth:`Recorder.close`."""
CLOCK_SET = 0.01
"""Seconds by which the wall clock must differ from the monotonic one to be recorded as set."""

_NOTE_BYTES = 64  # approximate size of an entry without data
_RECORD_BYTES = sum(dtype.itemsize for dtype in COLUMNS.values())


def _noted(command: Command) -> tuple[Entry, int]:
    """The entry of a command, and its approximate size in bytes."""
    match command:
        # Datagrams do not name their network namespace; the columns do.
        case TakeStep(FlowBatch(datagrams=Datagrams(data, starts, marked)) as batch, now, read_at) if not (
            batch.namespace.any()
        ):
            kept = Datagrams(bytes(data), tuple(starts), marked)
            return Undecoded(now, read_at, kept), len(kept.data) + 8 * len(starts)
        case TakeStep(FlowBatch() as batch):
            return command, _NOTE_BYTES + len(batch) * _RECORD_BYTES
        case Deliver(_, result):
            return command, 1024 * (1 + len(result.deployments))
        case Restore(known):
            return command, 512 * len(known)
    return command, _NOTE_BYTES


@dataclass(frozen=True, slots=True)
class RecordTo:
    """File and maximum size of a recording."""

    path: Path
    max_size: int
    """Bytes."""
    overwrite: bool = False


def start_recording(wanted: RecordTo, config: Config, accounting: FlowAccounting, source: Source) -> Recorder:
    """Create the file and a recorder; ConfigError if the file cannot be created. The source is not open yet."""
    file = RecordingFile(wanted.path, max_size=wanted.max_size, overwrite=wanted.overwrite)
    facts = {"source": source.facts, "settings": kept_settings(config)}
    return Recorder(accounting, file, facts=facts, stats=lambda: source.stats)


class Recorder:
    """Records commands and applies them to the accounting. Call :meth:`close` after the last one."""

    def __init__(
        self,
        accounting: FlowAccounting,
        file: RecordingFile,
        *,
        facts: Mapping[str, object],
        stats: Callable[[], SourceStats],
        max_waiting: int = MAX_WAITING,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``facts``: the description of the recording. ``stats``: the source's statistics, for the engine's thread."""
        self._accounting = accounting
        self._file = file
        self._stats = stats
        self._max_waiting = max_waiting
        self._clock, self._wall_clock = clock, wall_clock
        self._ending: Ending | None = None
        self._detail = ""
        self._entries: list[Entry] = []
        self._noted = 0
        self._epoch = wall_clock() - clock()
        self._sealed_at = self._mark_at = clock()
        self._waiting: deque[tuple[list[Entry], int]] = deque()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._work = threading.Semaphore(0)
        begin = {"format": FORMAT, "flowmap": __version__, "startedAt": wall_clock(), "epoch": self._epoch, **facts}
        self._thread = threading.Thread(target=self._write_all, args=(begin,), name="recorder", daemon=True)

    # For the engine's thread.

    def apply(self, command: Command) -> Sequence[Question]:
        """Record the command and apply it; see ``FlowAccounting.apply``."""
        if isinstance(command, Ask):
            questions = self._accounting.apply(command)
            self._note(Asked(command.now, command.limit, len(questions)))
            return questions
        if self._ending is None:
            self._note(*_noted(command))
        self._accounting.apply(command)
        if isinstance(command, Decide) and command.now - self._sealed_at >= SEAL_EVERY:  # there is one every round
            self._seal(command.now)
        return ()

    # For other threads.

    def start(self) -> None:
        """Start the thread. Call it after privileges are dropped: the thread would keep them."""
        self._thread.start()
        log.info("recording to %s: the file contains addresses and names of deployments", self._file.path)

    def report(self) -> RecordingReport:
        """The state of the recording."""
        ending = self._ending
        return RecordingReport(
            path=str(self._file.path),
            size=self._file.size,
            active=ending is None,
            ended="" if ending is None else ending,
        )

    def finish(self, *, whole: bool = True) -> threading.Thread:
        """End the recording. The returned thread writes the remaining entries and closes the file.

        ``whole``: the engine has stopped, so its last entries can be included.
        """
        if self._ending is None and whole:
            self._seal(self._clock(), last=True)
        self._end("stopped")
        return self._thread

    def close(self) -> None:
        """As :meth:`finish`, and wait up to :data:`CLOSE_SECONDS`."""
        thread = self.finish()
        if thread.ident is not None:
            thread.join(CLOSE_SECONDS)

    # Entries.

    def _note(self, entry: Entry, size: int = _NOTE_BYTES) -> None:
        if self._ending is not None:
            return
        self._entries.append(entry)
        self._noted += size
        if self._noted >= SEAL_BYTES:
            self._hand_over()

    def _seal(self, now: float, *, last: bool = False) -> None:
        """Add a checkpoint, and pass the entries to the thread."""
        self._sealed_at = now
        if self._ending is not None:
            return
        epoch = self._wall_clock() - self._clock()
        if abs(epoch - self._epoch) > CLOCK_SET:
            self._epoch = epoch
            self._note(ClockSet(epoch))
        if now >= self._mark_at or last:
            began = self._clock()
            self._note(Marked(now, Checkpoint.of(self._accounting), self._stats().snapshot()))
            # The figures of 100,000 series take a while; limit this to one hundredth of the time.
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
            self._log_end()

    def _write_next(self) -> bool:
        """Write the next entries; False after the last ones."""
        self._work.acquire()
        with self._lock:
            if not self._waiting:
                return self._ending is None
            entries, size = self._waiting.popleft()
        self._file.append(ChunkKind.OPERATIONS, encode_entries(entries))
        with self._lock:
            self._waiting_bytes -= size
        return True

    def _end(self, ending: Ending, detail: str = "") -> None:
        with self._lock:
            if self._ending is None:
                self._ending, self._detail = ending, detail
        self._work.release()

    def _log_end(self) -> None:
        ending = self._ending or "defect"
        level = logging.INFO if ending == "stopped" else logging.WARNING
        why = _WHY[ending] + (f": {self._detail}" if self._detail else "")
        log.log(level, "the recording to %s ended after %d bytes: %s", self._file.path, self._file.size, why)
