"""Records the commands of the engine, and never keeps it waiting.

The engine's thread only notes them. About once a second the notes go to a thread of the recorder, which arranges,
deflates and writes them. If that thread, the disk or the size allowed is not enough, the recording ends and says why:
one with a gap would replay wrongly. The daemon continues as if nothing were recorded.
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
from flowmap.flows.batch import COLUMNS, Datagrams, FlowBatch
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


def _noted(command: Command) -> tuple[Entry, int]:
    """The entry for a command, and about how many bytes it takes."""
    match command:
        case TakeStep(FlowBatch(datagrams=Datagrams(data, starts, marked)), now, read_at):
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
    """Where a recording goes, and how large it may become."""

    path: Path
    max_size: int
    """Bytes."""
    overwrite: bool = False


def start_recording(wanted: RecordTo, config: Config, accounting: FlowAccounting, source: Source) -> Recorder:
    """Make the file and begin; ConfigError if that cannot be done. The source is not open yet."""
    file = RecordingFile(wanted.path, max_size=wanted.max_size, overwrite=wanted.overwrite)
    facts = {"source": source.facts, "settings": kept_settings(config)}
    return Recorder(accounting, file, facts=facts, stats=lambda: source.stats)


class Recorder:
    """Notes the commands on their way to the books. :meth:`close` after the last one."""

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
        """``facts`` say what is recorded; ``stats`` gives the source's counts, on the writer's thread."""
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
        """Note the command and apply it; see ``Books.apply``."""
        if isinstance(command, Ask):
            questions = self._accounting.apply(command)
            self._note(Asked(command.now, command.limit, len(questions)))
            return questions
        if self._ending is None:
            self._note(*_noted(command))
        self._accounting.apply(command)
        if isinstance(command, Decide) and command.now - self._sealed_at >= SEAL_EVERY:  # there is one every turn
            self._seal(command.now)
        return ()

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
            self._note(Marked(now, Checkpoint.of(self._accounting), self._stats().snapshot()))
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
        self._file.append(ChunkKind.OPERATIONS, encode_entries(entries))
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
