"""Clients for tests: one at a running sandbox, one at a script without sockets and with a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from flowmap.control.alibaba.api.client import ControlClient
from flowmap.control.alibaba.credentials.base import StaticCredentials
from flowmap.control.clock import Clock
from flowmap.control.http.route import Route
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import ControlError
from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET

T = TypeVar("T")

NAMESPACE = "default-namespace"

GOOD = HttpReply(200, {"date": "Thu, 01 Jan 2026 00:00:00 GMT"}, b'{"success": true, "requestId": "R", "data": []}')

EPOCH = 1_767_225_600.0
"""The date of :data:`GOOD`."""


def key() -> StaticCredentials:
    return StaticCredentials(ACCESS_KEY_ID, ACCESS_KEY_SECRET)


def ask(url: str, question: Callable[[ControlClient], Awaitable[T]], **options: Any) -> T:
    """Put one question to a running sandbox, with a client that is closed after."""

    async def run() -> T:
        options.setdefault("credentials", key())
        options.setdefault("workspace", "sandbox")
        async with ControlClient(endpoint=url, **options) as client:
            return await question(client)

    return asyncio.run(run())


@dataclass
class Script:
    """A transport that answers from a list, and the clock that its client uses."""

    replies: list[HttpReply | ControlError | BaseException]
    now: float = 1000.0
    wall: float = EPOCH
    took: float = 0.01
    """Seconds each exchange takes."""
    sent: list[Mapping[str, str]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    observed: list[tuple[str, str | None]] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> HttpReply:
        self.sent.append(dict(headers))
        self.urls.append(url)
        self.timeouts.append(timeout)
        self._pass(self.took)
        reply = self.replies.pop(0) if self.replies else GOOD
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def configure(self, route: Route) -> None:
        raise AssertionError("no test asks for it")

    async def aclose(self) -> None:
        return None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._pass(seconds)

    def observe(self, operation: str, seconds: float, reason: str | None) -> None:
        self.observed.append((operation, reason))

    @property
    def reasons(self) -> list[str | None]:
        return [reason for _, reason in self.observed]

    def client(self, *, chance: float = 0.5, **options: Any) -> ControlClient:
        options.setdefault("credentials", key())
        return ControlClient(
            endpoint="http://127.0.0.1:1",
            workspace="w",
            transport=self,
            observe=self.observe,
            clock=Clock(lambda: self.wall, lambda: self.now, self.sleep, lambda: chance),
            **options,
        )

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


def script(*replies: HttpReply | BaseException) -> Script:
    return Script(list(replies))


def run_questions(client: ControlClient, count: int = 1) -> list[object]:
    """Ask the same question ``count`` times; the answers, or the errors they ended in."""

    async def run() -> list[object]:
        results: list[object] = []
        for _ in range(count):
            try:
                results.append(await client.get_deployments_by_ip(namespace=NAMESPACE, dst_ip="10.0.0.1", dst_port=1))
            except ControlError as error:
                results.append(error)
        return results

    return asyncio.run(run())


def header(replies: Iterable[Mapping[str, str]], name: str) -> list[str]:
    return [reply[name] for reply in replies]


def everything_of(error: BaseException | None) -> Iterator[str]:
    """All that a log or a crash report could show of an error and of what hangs on it."""
    while error is not None:
        yield repr(error) + str(error) + repr(error.args) + repr(vars(error))
        request = getattr(error, "_request", None)
        if isinstance(request, httpx.Request):
            yield repr(request) + str(request.url) + repr(dict(request.headers))
        error = error.__cause__ or error.__context__
