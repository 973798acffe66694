"""Delays the HTTP exchanges of a control plane until the fleet's budget allows them. Used in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_TICKET: ContextVar[list[None] | None] = ContextVar("ticket", default=None)
"""Of a call with a ticket: one element until its first exchange."""


class Admission:
    """A ticket pays for the first exchange of a call; further ones (repeats, later pages) are granted one by one."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._wake: Callable[[], None] = lambda: None

    def on_request(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when an exchange waits."""
        self._wake = wake

    @property
    def waiting(self) -> int:
        """Exchanges that wait."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return len(self._waiting)

    def grant(self, delay: float = 0.0) -> None:
        """Let one exchange begin after ``delay`` seconds. It costs its place even if its call is cancelled."""
        if not self._waiting:
            return
        future = self._waiting.popleft()
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, _begin, future)
        else:
            _begin(future)

    async def admit(self, is_question: bool, exchange: int) -> Callable[[], None]:
        """As ``flowmap.control.port.Admit``."""
        ticket = _TICKET.get()
        if ticket:
            ticket.clear()
            return _nothing
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake()
        await future
        return _nothing


@contextlib.contextmanager
def paid() -> Iterator[None]:
    """Within it the first exchange is paid for."""
    token = _TICKET.set([None])
    try:
        yield
    finally:
        _TICKET.reset(token)


def _begin(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    """Ends nothing: exchanges have no place in flight of their own."""
