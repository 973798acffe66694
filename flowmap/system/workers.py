"""Threads that all start before the daemon is ready, so that nothing later depends on starting one.

A system can refuse a new thread at any time: ``ulimit -u``, a cgroup's ``pids.max``, a host without free process ids.
A pool that starts threads on demand then fails in the middle of a scrape, a full read or the end of the daemon.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from flowmap.errors import SourceError
from flowmap.system.names import LookupLoop

QUERY_THREADS = 6
"""Threads for everything but scrapes: answers of queries, files that are read again, passwords."""


class Workers(ThreadPoolExecutor):
    """A fixed number of threads. Work waits while all of them are busy; who submits it bounds how much that can be."""

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
        together = threading.Barrier(self._size)  # keeps each thread busy until the last one is there
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
    """An event loop with ``workers`` as its default executor, and bounded look-ups of names.

    ``to_thread`` and libraries use that executor. asyncio's own loop starts a thread to wait for its end.
    """

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self.set_default_executor(workers)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait until the threads have ended, however long that takes: nothing else runs in the loop by now."""
        self._workers.shutdown()


@contextmanager
def starting_threads() -> Iterator[None]:
    """Translate the refusal of a thread that is started inside into SourceError."""
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise SourceError(
            "the system allows no more threads or processes",
            remedy="raise TasksMax= of the unit, pids.max of the container's cgroup, or `ulimit -u` of the user",
        ) from error
