"""The clocks, the sleep and the chance that calls use, as one value: tests replace them together."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Sources of time and of random pauses."""

    wall: Callable[[], float] = time.time
    """Epoch seconds."""
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    """A number from 0 to 1, for the spread of pauses."""


SYSTEM_CLOCK = Clock()
