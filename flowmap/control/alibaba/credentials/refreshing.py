"""Keeps temporary keys fresh: renews them before they expire, once for all waiting calls, and uses them while valid."""

from __future__ import annotations

import asyncio

from flowmap.control.alibaba.credentials.base import Credentials
from flowmap.control.alibaba.credentials.exchange import Exchange
from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.errors import ControlError

AHEAD = 900.0
"""Seconds before its expiry at which a key is renewed, as in the vendor's SDKs."""

AGAIN_AFTER = 30.0
"""Seconds between attempts to renew keys that are still valid."""

LIFETIME = 300.0
"""Seconds for which keys without an expiry are kept; their provider renews them itself."""

SPREAD = 60.0
"""Range in seconds over which hosts that got their keys together spread the renewal."""


class RefreshingCredentials:
    """A provider around an exchange. Belongs to one event loop."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._exchange = exchange
        self._clock = clock
        self._lock = asyncio.Lock()
        self._current: Credentials | None = None
        self._renew_at = 0.0

    async def get(self) -> Credentials:
        """Valid keys; the error of the exchange if there are none."""
        if (current := self._fresh()) is not None:
            return current
        async with self._lock:
            if (current := self._fresh()) is not None:  # another call has renewed them
                return current
            return await self._renew()

    def reject(self, credentials: Credentials) -> bool:
        if self._current == credentials:
            self._current = None
        return True

    def __repr__(self) -> str:
        return f"RefreshingCredentials({type(self._exchange).__name__})"

    def _fresh(self) -> Credentials | None:
        return self._current if self._current is not None and self._clock.wall() < self._renew_at else None

    async def _renew(self) -> Credentials:
        try:
            fetched = await self._exchange.fetch()
        except ControlError:
            if self._current is None or self._expired(self._current):
                raise
            self._renew_at = self._clock.wall() + AGAIN_AFTER
            return self._current
        self._current = fetched
        self._renew_at = self._when(fetched)
        return fetched

    def _when(self, fetched: Credentials) -> float:
        """When to renew: before the expiry, but never at once. Keys with a short lifetime are used for half of it."""
        now = self._clock.wall()
        if fetched.expires_at is None:
            return now + LIFETIME
        left = fetched.expires_at - now
        return now + max(left - AHEAD - SPREAD * self._clock.chance(), left / 2, 1.0)

    def _expired(self, credentials: Credentials) -> bool:
        return credentials.expires_at is not None and self._clock.wall() >= credentials.expires_at
