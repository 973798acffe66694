"""The calls of this host that are under way, and their results until the server has them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flowmap.control.clock import Clock
from flowmap.control.port import ControlPlane
from flowmap.errors import ControlError, Transient
from flowmap.fleet.calling import Made, Value, make
from flowmap.fleet.requests import Request
from flowmap.fleet.server.exchange import CallFailed, CallMade, Exchange, Ticket

log = logging.getLogger(__name__)

FAILED_PAUSE = 1.0
"""Seconds for which a question rests whose call failed, if the failure does not say."""


class Call(NamedTuple):
    """A call under way, or about to begin. Times are monotonic seconds."""

    request: Request
    ticket: Ticket | None
    """None: it is for this host alone."""
    begins: float
    latest: float
    """After this it does not begin: this process was stopped, and another host calls."""


class Calls:
    """Used in one event loop."""

    def __init__(
        self,
        control: ControlPlane,
        clock: Clock,
        *,
        sign: Callable[[Ticket, Made], bytes],
        finish: Callable[[Request, Value | ControlError], None],
        wake: Callable[[], None],
    ) -> None:
        """``sign`` makes an answer for other hosts. ``finish`` takes every result, ``wake`` is called after it."""
        self.made: list[CallMade] = []
        self.failed: list[CallFailed] = []
        self._control = control
        self._clock = clock
        self._sign = sign
        self._finish = finish
        self._wake = wake
        self._under_way: dict[asyncio.Task[None], Call] = {}

    def __len__(self) -> int:
        """Number of calls under way or about to begin."""
        return len(self._under_way)

    @property
    def requests(self) -> Iterable[Request]:
        """What is under way."""
        return [call.request for call in self._under_way.values()]

    def held(self) -> tuple[str, ...]:
        """Numbers of the tickets whose result the server has not got."""
        under_way = [call.ticket for call in self._under_way.values() if call.ticket is not None]
        made, failed = (one.ticket for one in self.made), (one.ticket for one in self.failed)
        return tuple(ticket.number for ticket in (*under_way, *made, *failed))

    def delivered(self, exchange: Exchange) -> None:
        """The server has the results in this exchange."""
        self.made, self.failed = self.made[len(exchange.made) :], self.failed[len(exchange.failed) :]

    def forget(self) -> None:
        """The server would not know the tickets of these results."""
        self.made, self.failed = [], []

    def begin(
        self, request: Request, ticket: Ticket | None = None, *, begins: float = 0.0, latest: float = math.inf
    ) -> None:
        """Begin a call at the instant ``begins``. After ``latest`` it is left to another host."""
        call = Call(request, ticket, begins, latest)
        task = asyncio.get_running_loop().create_task(self._run(call))
        self._under_way[task] = call
        task.add_done_callback(self._ended)

    async def aclose(self) -> None:
        """Cancel all calls."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        self._wake()

    async def _run(self, call: Call) -> None:
        if (pause := call.begins - self._clock.monotonic()) > 0:
            await self._clock.sleep(pause)
        if call.ticket is not None and self._clock.monotonic() > call.latest:
            self.failed.append(CallFailed(call.ticket, FAILED_PAUSE))
            return
        try:
            made = await make(self._control, call.request, self._clock)
        except ControlError as error:
            self._failed(call, error)
        except Exception as error:  # a defect here must not keep the question in flight for ever
            log.exception("fleet: %s", call.request.text())
            self._failed(call, Transient(f"defect: {error!r}", reason="defect"))
        else:
            if call.ticket is not None:
                self.made.append(CallMade(call.ticket, self._sign(call.ticket, made)))
            self._finish(call.request, made.value)

    def _failed(self, call: Call, error: ControlError) -> None:
        if call.ticket is not None:
            self.failed.append(CallFailed(call.ticket, error.retry_after or FAILED_PAUSE))
        self._finish(call.request, error)
