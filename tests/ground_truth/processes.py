"""Clients in processes of their own, each in its own cgroup: one for each owner of an address, as TaskManagers are."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, NamedTuple

from flowmap.system.cgroups import find_mount
from tests.support.netns import enter

Run = Callable[[Any, Any, asyncio.Event], Any]
"""``traffic.live``: one connection with its service, until it is over or the event is set."""


class Ended(NamedTuple):
    """What a process reports of a connection that is over."""

    number: int
    sent: int
    received: int
    exchanges: int
    last_sent: float
    failure: str


class ClientProcess:
    """One process, which makes connections as it is told. Used in one event loop."""

    def __init__(self, namespace: str, lingers: int) -> None:
        """``namespace``: path of the network namespace."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.ground_truth.traffic"])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, namespace, lingers), daemon=True)
        self._process.start()
        theirs.close()
        self._waiting: dict[int, asyncio.Future[Ended]] = {}
        self._group = (find_mount().path or Path("/sys/fs/cgroup")) / f"flowmap-truth-{self._process.pid}"
        with contextlib.suppress(OSError):  # without a cgroup of its own the process is found later
            self._group.mkdir()
            (self._group / "cgroup.procs").write_text(str(self._process.pid))
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._receive)

    async def live(self, connection: Any, service: Any, over: asyncio.Event) -> None:
        """Make a connection there, until it is over or ``over`` is set."""
        number = connection.plan.number
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._pipe.send((number, connection, service))
        ending = asyncio.create_task(over.wait())
        try:
            await asyncio.wait((ending, future), return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                self._pipe.send((number, None, None))
            ended = await future
        finally:
            ending.cancel()
        connection.sent, connection.received = ended.sent, ended.received
        connection.exchanges, connection.last_sent = ended.exchanges, ended.last_sent
        connection.failure = ended.failure

    def close(self) -> None:
        """End the process, and its cgroup."""
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._process.kill()
        self._process.join()
        self._pipe.close()
        with contextlib.suppress(OSError):
            self._group.rmdir()

    def _receive(self) -> None:
        with contextlib.suppress(EOFError):
            while self._pipe.poll():
                ended = Ended(*self._pipe.recv())
                future = self._waiting.pop(ended.number, None)
                if future is not None and not future.done():
                    future.set_result(ended)


def _main(pipe: Pipe, namespace: str, lingers: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    enter(descriptor)
    os.close(descriptor)
    asyncio.run(_serve(pipe, lingers))


async def _serve(pipe: Pipe, lingers: int) -> None:
    from tests.ground_truth.traffic import live

    loop, over = asyncio.get_running_loop(), dict[int, asyncio.Event]()
    running: set[asyncio.Task[None]] = set()
    gone = asyncio.Event()

    async def one(connection: Any, service: Any, event: asyncio.Event) -> None:
        await live(connection, service, event, None, lingers)
        number = connection.plan.number
        over.pop(number, None)
        pipe.send(
            Ended(
                number,
                connection.sent,
                connection.received,
                connection.exchanges,
                connection.last_sent,
                connection.failure,
            )
        )

    def receive() -> None:
        try:
            while pipe.poll():
                number, connection, service = pipe.recv()
                if connection is None:
                    over.get(number, asyncio.Event()).set()
                    continue
                event = over[number] = asyncio.Event()
                task = loop.create_task(one(connection, service, event))
                running.add(task)
                task.add_done_callback(running.discard)
        except EOFError:
            gone.set()

    loop.add_reader(pipe.fileno(), receive)
    await gone.wait()
