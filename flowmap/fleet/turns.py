"""When the turns of a member begin: when something happens, or it is time, but not too many in a row."""

from __future__ import annotations

import asyncio
import contextlib

from flowmap.control.clock import Clock
from flowmap.fleet import pace


class Turns:
    """Used in one event loop; one task waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next_at = float("inf")
        self._sooner = asyncio.Event()
        self._throttle = pace.Throttle()

    def come(self, pause: float = 0.0) -> None:
        """Let the next turn begin after at most so many seconds."""
        at = self._clock.monotonic() + pause
        if at < self._next_at:
            self._next_at = at
            self._sooner.set()

    def note_exchange(self, now: float, hosts: int) -> None:
        """The turn makes an exchange."""
        self._throttle.note(now, hosts)

    async def next(self, pause: float, hosts: int) -> None:
        """Wait for the next turn, at most ``pause`` seconds and as long as the throttle wants."""
        self.come(pause)
        while (left := self._next_at - self._clock.monotonic()) > 0:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._sooner.wait()
        await self._clock.sleep(self._throttle.pause(self._clock.monotonic(), hosts))
        self._next_at = float("inf")
