"""Thread pools whose threads all start before the daemon is ready.

The system can refuse a new thread at any time: ``ulimit -u``, a cgroup's ``pids.max``, no free process id. A pool that
starts threads on demand then fails during a scrape, a full read or the shutdown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from flowmap.errors import SourceError
from flowmap.system.names import LookupLoop

QUERY_THREADS = 6
"""Threads for everything but scrapes: queries, file reads of a reload, passwords."""


class Workers(ThreadPoolExecutor):
    """A fixed number of threads. Work waits while all are busy; the submitter bounds the amount."""

    def __init__(self, name: str, threads: int) -> None:
        """``name`` is the prefix of the threads' names."""
        super().__init__(threads, thread_name_prefix=name)
        self._size = threads
        self._started = False

    def start(self) -> None:
        """Start every thread, once; SourceError if the system allows no more threads.

        Threads keep the privileges of the thread that starts them.
        """
        if self._started:
            return
        together = threading.Barrier(self._size)  # keeps each thread busy until the last one has started
        try:
            with starting_threads():
                waiting = [self.submit(together.wait) for _ in range(self._size)]
        except SourceError:
            together.abort()
            raise
        for one in waiting:
            one.result()
        self._started = True


class WorkersLoop(LookupLoop):
    """An event loop with ``workers`` as its default executor, and bounded lookups of names.

    ``to_thread`` and libraries use that executor. asyncio's own loop would start a thread to shut it down.
    """

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self.set_default_executor(workers)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads without a limit; nothing else runs in the loop at this point."""
        self._workers.shutdown()


@contextmanager
def starting_threads() -> Iterator[None]:
    """Translate a refused thread start into SourceError."""
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise SourceError(
            "the system allows no more threads or processes",
            remedy="raise TasksMax= of the unit, pids.max of the container's cgroup, or `ulimit -u` of the user",
        ) from error
