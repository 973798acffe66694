"""The handler of the root logger: counts, limits and formats records, and queues the lines."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter

from flowmap.logs.repeats import WINDOW, LineKind, Repeats
from flowmap.logs.sink import Sink


class LogHandler(logging.Handler):
    """Queues formatted lines. ``logging`` holds the lock of the handler around :meth:`emit`; other methods take it."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self.encoding = "utf-8"
        """Encoding of the descriptor; characters it lacks are written as escapes."""
        self._sink = sink
        self._repeats = Repeats()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._failed = 0

    def start(self) -> None:
        """Start the writing thread; RuntimeError if the system allows no more threads."""
        self._sink.start(self._report_suppressed)

    def finish(self, seconds: float) -> None:
        """Report suppressed lines, and write the queue in at most so many seconds."""
        with contextlib.suppress(RuntimeError):  # the system allows no more threads
            self.start()
        self._report_suppressed(final=True)
        self._sink.finish(seconds)

    def take_counts(self) -> Counter[tuple[str, str]]:
        """Counts since the last call."""
        with self._guarded():
            failed = self._sink.failed
            self._counts["dropped", "failed"] += failed - self._failed
            self._failed = failed
            taken, self._counts = self._counts, Counter()
        return taken

    def emit(self, record: logging.LogRecord) -> None:
        self._counts["line", record.levelname.lower()] += 1
        kind = LineKind(record.name, record.levelno, str(record.msg))
        # Debug lines are not limited.
        if record.levelno > logging.DEBUG and not self._repeats.admit(kind, time.monotonic()):
            self._counts["dropped", "suppressed"] += 1
            self._repeats.keep(kind, _message(record))
            return
        self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a defect: the arguments do not fit the template
            record.msg, record.args = f"cannot format this line: {record.msg!r} ({error!r})", None
            line = self.format(record)
        if not self._sink.put(line.encode(self.encoding, "backslashreplace")):
            self._counts["dropped", "full"] += 1

    def _report_suppressed(self, *, final: bool = False) -> None:
        with self._guarded():
            for kind, count, last in self._repeats.due(time.monotonic(), final=final):
                template = "%d more lines like this in the last %.0f s; the last: %s"
                arguments = (count, WINDOW, last)
                self._write(logging.LogRecord(kind.logger, kind.level, "", 0, template, arguments, None))

    def _guarded(self) -> logging._Lock:  # type: ignore[name-defined]
        assert self.lock is not None, "logging gives every handler a lock"
        return self.lock


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # the lines of this kind that were admitted report the defect
        return str(record.msg)
