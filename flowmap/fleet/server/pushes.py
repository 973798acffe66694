"""What the server passes to this host as soon as it is there, so a host that waits need not ask again and again.

A message is a question, the instant of the server's clock, the name of its state, and the answer. A large answer is
left out; an exchange gets it. A message without a question says in how many seconds the host should make an exchange.

A message does not show how long it was under way, so not whether the server's clock was set meanwhile. An exchange
does, so a message is used after the next one. Messages can be lost: exchanges find out what they would have said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from flowmap.control.clock import Clock
from flowmap.errors import FleetError
from flowmap.fleet import pace
from flowmap.fleet.figures import Figures
from flowmap.fleet.server.connection import ANSWERED, Connection

log = logging.getLogger(__name__)


class Message(NamedTuple):
    """One message."""

    question: str
    """Empty: the host should make an exchange in ``at`` seconds."""
    at: float
    """When the answer was stored, seconds of the server's clock."""
    epoch: str = ""
    answer: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Message:
        """ValueError for what is none: other programs may write to the server."""
        question, at, *rest = data.split(b"\n", 3)
        epoch, answer = rest or (b"", b"")
        return cls(question.decode(), float(at), epoch.decode(), answer)


class Pushes:
    """The subscription of a host, made again after every failure. Used in one event loop."""

    def __init__(
        self,
        server: Connection,
        clock: Clock,
        figures: Figures,
        *,
        come: Callable[[float], None],
        patience: Callable[[str], float | None],
    ) -> None:
        """``come``: called if an exchange should be made, with the seconds until then. ``patience``: seconds for which
        the answer to a question can wait for that; None: the host does not wait for it."""
        self.come_at = float("inf")
        """When the host should make an exchange, monotonic seconds."""
        self.generation = 0
        """Another number for each subscription; 0 while there is none: messages are lost meanwhile."""
        self._server = server
        self._clock = clock
        self._figures = figures
        self._come = come
        self._patience = patience
        self._arrived: dict[str, Message] = {}
        self._channel = ""
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, channel: str) -> None:
        """Subscribe to a channel, instead of the one before. Without effect if it is the same."""
        if channel != self._channel:
            self._channel = channel
            self.renew()

    def renew(self) -> None:
        """Subscribe anew: messages may have been lost."""
        if self._task is not None:
            self._task.cancel()
        self._lapse()
        self._task = asyncio.get_running_loop().create_task(self._listen(self._channel), name="fleet pushes")

    def come(self, at: float) -> None:
        """Make an exchange then, even if there is one before."""
        self.come_at = min(self.come_at, at + pace.SHORTEST)
        self._come(self.come_at - self._clock.monotonic())

    def take(self, now: float) -> dict[str, Message]:
        """What arrived since the last call, by question; an exchange follows."""
        if self.come_at <= now:
            self.come_at = float("inf")
        arrived, self._arrived = self._arrived, {}
        return arrived

    async def aclose(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self, channel: str) -> None:
        failures = 0
        while True:
            messages = self._server.messages(channel)
            try:
                async with contextlib.aclosing(messages):
                    async for data in messages:
                        failures = 0
                        self._receive(data)
            except FleetError as error:
                failures += 1
                log.debug("fleet: no subscription: %s", error)
                refused = error.reason in ANSWERED
                self._figures.push_problem = str(error)
            except Exception:  # a defect must cost time only
                failures, refused = failures + 1, True
                log.exception("fleet: message")
            finally:
                if asyncio.current_task() is self._task:  # else there is a new one
                    self._lapse()
            pause = pace.next_subscription(
                failures, hosts=self._figures.hosts, refused=refused, chance=self._clock.chance()
            )
            await self._clock.sleep(pause)

    def _lapse(self) -> None:
        self.generation, self._figures.told = 0, False

    def _receive(self, data: bytes | None) -> None:
        if data is None:
            self._figures.subscriptions += 1
            self.generation = self._figures.subscriptions
            self._figures.told, self._figures.push_problem = True, None
            self._come(0.0)  # what was answered before is found by an exchange
            return
        try:
            message = Message.parse(data)
        except ValueError:
            self._figures.refused["message"] += 1
            return
        if not message.question:
            self.come(self._clock.monotonic() + message.at)
        elif (patience := self._patience(message.question)) is not None:
            self._arrived[message.question] = message
            self._come(patience)
