"""Where lines go: a descriptor, through a bounded queue and a thread that may wait for it."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable

LINES = 2000
"""Lines that may wait."""
LOOK_EVERY = 1.0
"""Seconds between two calls of ``between`` while nothing is logged."""


class Sink:
    """Writes lines to a descriptor. :meth:`put` never waits."""

    def __init__(self, descriptor: int, *, lines: int = LINES) -> None:
        self.failed = 0
        """Lines that could not be written; counted by the thread alone."""
        self._descriptor = descriptor
        self._queue: queue.Queue[bytes | None] = queue.Queue(lines)
        self._thread: threading.Thread | None = None
        self._finished = False

    def put(self, line: bytes) -> bool:
        """Hand a line over; False if there is no room."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            return False
        return True

    def start(self, between: Callable[[], None]) -> None:
        """Begin to write; ``between`` is called every second or so, on the thread. RuntimeError without a thread."""
        if self._thread is None and not self._finished:
            # A daemon: a descriptor that takes nothing must not keep the process from ending.
            thread = threading.Thread(target=self._run, args=(between,), name="log", daemon=True)
            thread.start()
            self._thread = thread

    def finish(self, seconds: float) -> None:
        """Write what waits, for at most so many seconds, and end. Where no thread could be started, write it here."""
        if self._finished:
            return
        self._finished = True
        if self.put_end(seconds):
            if self._thread is None:
                self._run(lambda: None)
            else:
                self._thread.join(seconds)

    def put_end(self, seconds: float) -> bool:
        """Mark the end of the queue; False if there was no room for it in time."""
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return False
        return True

    def _run(self, between: Callable[[], None]) -> None:
        while True:
            try:
                line = self._queue.get(timeout=LOOK_EVERY)
            except queue.Empty:
                between()
                continue
            if line is None:
                return
            if not write(self._descriptor, line):
                self.failed += 1


def write(descriptor: int, line: bytes) -> bool:
    """Write it all, however long that takes; False if it cannot be written."""
    rest = memoryview(line)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # somebody who shares the descriptor has made it so
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll(1000)
        except OSError:
            return False
    return True
