"""The whole daemon but for the kernel and the network: the real wiring over a source without flows, and every address
that the control plane's client would have called."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import pytest

from flowmap.config import Config
from flowmap.control.http.route import Route
from flowmap.control.http.transport_api import HttpReply
from flowmap.daemon.wiring import Pipeline, build
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.scripted_source import ScriptedSource

T = TypeVar("T")

ENDPOINT = "https://control-plane.example"


class Called:
    """A control plane without deployments that keeps the addresses it was called under."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> HttpReply:
        self.urls.append(url)
        return HttpReply(200, {}, b'{"success": true, "requestId": "r", "data": []}')

    def configure(self, route: Route) -> None:
        pass

    async def aclose(self) -> None:
        pass


@contextlib.asynccontextmanager
async def house(monkeypatch: pytest.MonkeyPatch, **http: object) -> AsyncIterator[tuple[Pipeline, Called]]:
    """The daemon, ready, listening on a free port of loopback."""
    called = Called()
    monkeypatch.setattr("flowmap.daemon.clients.default_transport", lambda _: called)
    plane = {
        "endpoint": ENDPOINT,
        "workspace": "ws",
        "rate": 10_000,
        "burst": 10_000,
        "credentials": {"access_key_id": "id", "access_key_secret": "secret"},
    }
    config = Config.model_validate({"control_plane": plane, "http": {"listen": "127.0.0.1:0", **http}})
    source = ScriptedSource()
    source.hand(ReadStarted("start"), ReadFinished(True), CaughtUp(time.monotonic()))
    pipeline = build(config, source=source)
    source.open()
    await pipeline.server.start()
    pipeline.engine.start()
    try:
        async with asyncio.timeout(10):
            while not pipeline.backend.ready():
                await asyncio.sleep(0.01)
        yield pipeline, called
    finally:
        pipeline.engine.stop()
        pipeline.engine.join(5)
        await pipeline.resolver.aclose()
        await pipeline.control.plane.aclose()
        await pipeline.server.stop()
        source.free()


@contextlib.contextmanager
def in_thread(opening: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """What ``opening()`` gives, alive in the loop of another thread: for clients that block."""
    opened: list[T] = []
    ready, stop = threading.Event(), threading.Event()

    async def live() -> None:
        async with opening() as thing:
            opened.append(thing)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    try:
        assert ready.wait(20)
        yield opened[0]
    finally:
        stop.set()
        thread.join()
