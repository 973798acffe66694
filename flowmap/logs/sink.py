"""A descriptor behind a bounded queue, written by a thread that may block."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable

LINES = 2000
"""Lines the queue holds."""
IDLE_SECONDS = 1.0
"""Seconds between two calls of ``when_idle`` while the queue is empty."""


class Sink:
    """Writes lines to a descriptor. :meth:`put` never blocks."""

    def __init__(self, descriptor: int, *, lines: int = LINES) -> None:
        self.failed = 0
        """Lines that could not be written; only the thread changes it."""
        self._descriptor = descriptor
        self._queue: queue.Queue[bytes | None] = queue.Queue(lines)
        self._thread: threading.Thread | None = None
        self._finished = False

    def put(self, line: bytes) -> bool:
        """Queue a line; False if the queue is full."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            return False
        return True

    def start(self, when_idle: Callable[[], None]) -> None:
        """Start the thread, which calls ``when_idle`` about once a second; RuntimeError if no thread can be started."""
        if self._thread is None and not self._finished:
            # A daemon thread: a blocked descriptor must not keep the process from exiting.
            thread = threading.Thread(target=self._run, args=(when_idle,), name="log", daemon=True)
            thread.start()
            self._thread = thread

    def finish(self, seconds: float) -> None:
        """Write the queued lines for at most so many seconds, in the calling thread if there is no other."""
        if self._finished:
            return
        self._finished = True
        try:
            self._queue.put(None, timeout=seconds)  # the end of the queue
        except queue.Full:
            return
        if self._thread is None:
            self._run(lambda: None)
        else:
            self._thread.join(seconds)

    def _run(self, when_idle: Callable[[], None]) -> None:
        while True:
            try:
                line = self._queue.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                when_idle()
                continue
            if line is None:
                return
            if not write(self._descriptor, line):
                self.failed += 1


def write(descriptor: int, line: bytes) -> bool:
    """Write the whole line, however long that takes; False if it cannot be written."""
    rest = memoryview(line)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # another process with this descriptor made it non-blocking
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll(1000)
        except OSError:
            return False
    return True
