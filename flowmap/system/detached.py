"""Blocking calls that cannot be interrupted, in threads that are not joined at exit.

``concurrent.futures`` and ``asyncio.to_thread`` join their threads at exit, so a hanging call keeps the process alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import queue
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")

UNFINISHED_LIMIT = 100
"""Calls that wait or run at the same time."""


class DetachedCalls(Generic[T]):
    """A fixed number of daemon threads. Overlapping calls with the same key are one call.

    A caller can stop waiting at any time. The call continues, and later callers with the same key join it.
    """

    def __init__(self, name: str, threads: int) -> None:
        """``name``: of the threads."""
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]
        self._starting = threading.Lock()
        self._lock = threading.Lock()
        self._unfinished: dict[Hashable, Future[T]] = {}
        self._waiting: queue.SimpleQueue[tuple[Hashable, Callable[[], T], Future[T]] | None] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the threads, once; the first call does it otherwise. RuntimeError if the system allows no more."""
        with self._starting:
            for thread in self._threads:
                if thread.ident is None:
                    thread.start()

    def close(self) -> None:
        """Stop the threads, and wait for them unless a call is running. No call may follow."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            if thread.ident is not None and not self._unfinished:
                thread.join()

    def unfinished(self) -> list[Hashable]:
        """The keys of the calls that wait or run."""
        with self._lock:
            return list(self._unfinished)

    def submit(self, key: Hashable, call: Callable[[], T]) -> Future[T]:
        """Run ``call``, or join a running one with the same key. Do not cancel the future: others may wait for it.

        OSError if there are too many calls, or if no thread can be started.
        """
        try:
            self.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "the system allows no more threads or processes") from error
        with self._lock:
            if key in self._unfinished:
                return self._unfinished[key]
            if len(self._unfinished) >= UNFINISHED_LIMIT:
                raise OSError(f"{UNFINISHED_LIMIT} calls have not finished yet")
            future = self._unfinished[key] = Future()
        self._waiting.put((key, call, future))
        return future

    async def run(self, key: Hashable, call: Callable[[], T]) -> T:
        """As :meth:`submit`, awaited in the running event loop, which may stop before the call ends."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()

        def set_outcome(done: Future[T]) -> None:
            if waiter.done():
                return  # the caller stopped waiting
            if (error := done.exception()) is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(done.result())

        def notify_loop(done: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(set_outcome, done)

        self.submit(key, call).add_done_callback(notify_loop)
        return await waiter

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            key, call, future = work
            error, result = None, None
            try:
                result = call()
            except BaseException as raised:  # delivered to the waiting callers
                error = raised
            with self._lock:
                del self._unfinished[key]
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]


def call_within(seconds: float, call: Callable[[], T]) -> T:
    """The result of ``call``; TimeoutError after ``seconds``. The wait can be interrupted.

    Needs no event loop, and leaves no idle thread: none may exist when privileges are dropped.
    """
    calls: DetachedCalls[T] = DetachedCalls("detached", 1)
    try:
        return calls.submit(None, call).result(seconds)
    finally:
        calls.close()
